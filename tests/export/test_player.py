"""The offline player, in a real browser."""

import functools
import hashlib
import http.server
import io
import threading

import numpy as np
import pytest
import torch
from browser_fixture import NO_NOTES
from PIL import Image

from t4d.errors import InputError
from t4d.export.player import player_html, viewer_splats, write_player
from t4d.geometry.rotations import quat_to_matrix


@pytest.fixture(scope="module")
def player(tmp_path_factory):
    from moving_assets import wobbling_ellipsoid

    path = tmp_path_factory.mktemp("player") / "player.html"
    return write_player(path, wobbling_ellipsoid(1500, 5), 5, 4, title='a "fox" <img src=x onerror=alert(1)> & co')


def test_splats_are_the_gaussians(moving_asset):
    gaussians = moving_asset(1)
    splats = viewer_splats(gaussians)
    assert abs(torch.from_numpy(splats["centers"]) - gaussians.means).max() < 1e-4
    axis = quat_to_matrix(gaussians.quats)[7, :, 0]  # the largest scale's own axis: an eigenvector, value scale^2
    product = torch.from_numpy(splats["covariances"][7]) @ axis
    assert torch.allclose(product, axis * (2 * gaussians.log_scales[7, 0]).exp(), atol=1e-7)
    assert splats["opacities"].shape == (1500, 1) and abs(splats["opacities"][0, 0] - 0.731) < 1e-3
    assert 0 <= splats["rgbs"].min() and splats["rgbs"].max() <= 1 and splats["rgbs"].std() > 0.1


def test_page_is_one_quiet_file(player, capfd, moving_asset):
    page = player.read_text()
    assert "<title>a &quot;fox&quot; &lt;img src=x onerror=alert(1)&gt; &amp; co</title>" in page
    assert "<img src=x" not in page
    assert len(page) < 3e6
    threads = threading.active_count()
    player_html(moving_asset, 2, 4)
    assert threading.active_count() == threads  # the recording server is gone
    assert capfd.readouterr().out == ""


def test_bad_input_is_named(moving_asset):
    with pytest.raises(InputError, match="frames"):
        player_html(moving_asset, 0, 4)
    with pytest.raises(InputError, match="fps"):
        player_html(moving_asset, 5, 0)

    def broken(frame):
        gaussians = moving_asset(frame)
        gaussians.means[0] = torch.inf
        return gaussians

    with pytest.raises(InputError, match="NaN or infinite"):
        player_html(broken, 5, 4)


def scrub(bar, share):
    """Click the time bar at a share of its length."""
    box = bar.bounding_box()
    bar.click(position={"x": share * box["width"], "y": box["height"] / 2})


def difference(a: bytes, b: bytes) -> float:
    """Mean absolute difference of two PNGs, in levels."""
    first, second = (np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(float) for data in (a, b))
    return float(np.abs(first - second).mean())


def pictures(watched, count, pause_ms):
    seen = set()
    for _ in range(count):
        watched.page.wait_for_timeout(pause_ms)
        seen.add(hashlib.sha256(watched.canvas_picture()).hexdigest())
    return seen


def moving(watched, least):
    """Whether that many pictures are seen without a click; a busy machine draws few in a second."""
    seen = set()
    for _ in range(100):
        seen |= pictures(watched, 1, 300)
        if len(seen) >= least:
            return True
    return False


def settled(watched, before=None):
    """The picture once it is another than `before` and stays the same; a busy machine draws it seconds later."""
    last = watched.canvas_picture()
    for _ in range(30):
        watched.page.wait_for_timeout(1500)
        found = watched.canvas_picture()
        if found == last and found != before:
            break
        last = found
    return last


@pytest.mark.browser
def test_plays_by_itself_pauses_scrubs_and_orbits_from_a_file(player, chromium):
    watched = chromium.open(player.as_uri(), width=400, height=320)
    page = watched.page
    page.wait_for_selector("canvas")
    bar = page.locator(".mantine-Slider-root")
    bar.wait_for()
    page.add_style_tag(content=NO_NOTES)
    assert page.title() == 'a "fox" <img src=x onerror=alert(1)> & co'
    assert moving(watched, 3)  # it moves without a click

    scrub(bar, 0.05)  # scrubbing pauses
    page.wait_for_timeout(1500)
    assert len(pictures(watched, 3, 400)) == 1
    first = watched.canvas_picture()
    scrub(bar, 0.5)
    still = settled(watched, first)
    assert still != first  # another frame
    page.mouse.move(200, 150)
    page.mouse.down()
    page.mouse.move(300, 120, steps=4)
    page.mouse.up()
    orbited = settled(watched, still)
    assert orbited != still  # the camera went round
    page.keyboard.press("Space")
    page.wait_for_timeout(3000)  # over the end of the 1.25 s loop, which must not send the camera home
    scrub(bar, 0.5)
    returned = settled(watched)
    assert difference(returned, orbited) < 0.1 * difference(returned, still)  # equal but for the order of equal depths
    assert watched.foreign == [] and watched.errors == []


@pytest.mark.browser
def test_plays_over_http_and_stays_on_this_host(player, chromium):
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(player.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        watched = chromium.open(f"http://127.0.0.1:{server.server_port}/player.html", width=320, height=240)
        watched.page.wait_for_selector("canvas")
        assert moving(watched, 2)
        assert watched.foreign == [] and watched.errors == []
        # the watch itself works: a foreign request and an error are seen
        watched.page.evaluate("fetch('https://example.org/').catch(() => 0)")
        watched.page.evaluate("console.error('something else')")
        watched.page.wait_for_timeout(300)
        assert watched.foreign == ["https://example.org/"]
        assert "something else" in watched.errors
        server.shutdown()
