"""The page in headless Chromium: the whole way with the real pipeline, and uploads that cannot be used."""

import json
import re
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from browser_fixture import NO_NOTES, Chromium, WatchedPage

from studio.service import Studio
from t4d.paths import ASSETS

pytestmark = pytest.mark.browser
START_S = 120_000  # for a machine with other work
JOB_S = 240_000
FAKE = {"task": "studio_fake_tasks:animate"}


def open_page(chromium: Chromium, url: str) -> WatchedPage:
    watched = chromium.open(url, width=1280, height=800)
    watched.page.set_default_timeout(START_S)
    watched.page.locator("#animate").wait_for(timeout=START_S)
    return watched


def choose(watched: WatchedPage, *files: Path) -> None:
    watched.page.get_by_role("tab", name="Upload").click()
    watched.page.set_input_files("#upload input[type=file]", [str(file) for file in files])


def card(watched: WatchedPage, text: str, where: str = "#source", timeout: float = START_S) -> str:
    """Text of the card that contains `text` (a regular expression)."""
    found = watched.page.locator(f"{where} > *").filter(has_text=re.compile(text)).first
    found.wait_for(timeout=timeout)
    return found.inner_text()


def animate(watched: WatchedPage, prompt: str) -> None:
    watched.page.fill("#prompt textarea", prompt)
    watched.page.click("#animate")


def clean(watched: WatchedPage) -> None:
    assert watched.foreign == [], "requests to another host"
    assert watched.errors == [], "console errors"


@pytest.mark.slow
def test_upload_animate_and_watch_it_move(
    chromium: Chromium, start_studio: Callable[..., tuple[Studio, str]], tmp_path: Path
) -> None:
    studio, url = start_studio(task="studio_fake_tasks:animate_small")
    watched = open_page(chromium, url)
    page = watched.page
    mine = tmp_path / "my fox.glb"
    shutil.copyfile(ASSETS / "objects" / "fox.glb", mine)
    choose(watched, mine)
    assert "triangles" in card(watched, r"my fox\.glb")
    page.click("#settings button")
    for label, value in {"Denoising steps": "2", "Gaussians": "600", "Fit iterations": "4"}.items():
        page.get_by_label(label).fill(value)
    animate(watched, "a fox is running")
    card(watched, "so far", "#status")
    card(watched, "Done in", "#status", JOB_S)
    loaded = "v => v.readyState > 0 || new Promise(done => v.onloadeddata = () => done(true))"
    assert page.locator("#clip video").evaluate(loaded)
    frame = page.frame_locator("iframe.t4d-player")
    canvas = frame.locator("canvas").first
    canvas.wait_for(timeout=START_S)
    pictures = set()
    for _ in range(40):
        pictures.add(canvas.screenshot(style=NO_NOTES))
        if len(pictures) > 2:
            break
        page.wait_for_timeout(250)
    assert len(pictures) > 2, "the player stands still"
    (run,) = studio.workspace.root.glob("*/run.json")
    manifest = json.loads(run.read_text())
    assert manifest["status"] == "done" and manifest["config"]["stage2"]["iterations"] == 4
    names = page.locator("#downloads tr .filename").evaluate_all("all => all.map(e => e.ariaLabel)")
    media = ["asset.safetensors", "clip.mp4", "orbit.mp4", "player.html", "run.json"]
    assert names == ["frames.zip", "animated.glb", *media, "tracks.npz", "tracks.csv", "clip.safetensors"]
    clean(watched)


def text_as_glb(folder: Path, _: Path) -> Path:
    path = folder / "notes.glb"
    path.write_text("These are notes about a fox, not the fox itself.\n" * 20)
    return path


def nan_positions(folder: Path, _: Path) -> Path:
    """A small valid GLB whose second vertex has a NaN."""
    data = struct.pack("<9f", 0, 0, 0, 1, float("nan"), 0, 0, 1, 0) + struct.pack("<3H", 0, 1, 2) + b"\0\0"
    views = [{"buffer": 0, "byteLength": 36}, {"buffer": 0, "byteOffset": 36, "byteLength": 6}]
    document = {
        "asset": {"version": "2.0"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}, "indices": 1}]}],
        "accessors": [
            {"bufferView": 0, "componentType": 5126, "count": 3, "type": "VEC3", "min": [0, 0, 0], "max": [1, 1, 0]},
            {"bufferView": 1, "componentType": 5123, "count": 3, "type": "SCALAR"},
        ],
        "bufferViews": views,
        "buffers": [{"byteLength": len(data)}],
    }
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    chunks = struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(data), b"BIN\0") + data
    path = folder / "point.glb"
    path.write_bytes(struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks)
    return path


def shared_file(name: str) -> Callable[[Path, Path], Path]:
    return lambda folder, shared: shared / "data" / "real3d" / "edge_cases" / name


def sparse_300_mb(folder: Path, _: Path) -> Path:
    path = folder / "huge.glb"
    with path.open("wb") as file:
        file.truncate(300 * 2**20)
    return path


@pytest.mark.data
def test_uploads_that_cannot_be_used_name_the_cause_and_the_next_job_works(
    chromium: Chromium, start_studio: Callable[..., tuple[Studio, str]], tmp_path: Path, shared_data: Path
) -> None:
    studio, url = start_studio(**FAKE)
    watched = open_page(chromium, url)
    page = watched.page
    cases = {
        r"notes\.glb": text_as_glb,
        r"triangle": shared_file("empty_nodes.glb"),
        r"NaN|not finite|not a number": nan_positions,
        r"EXT_meshopt_compression": shared_file("box_meshopt_required.glb"),
    }
    for cause, make in cases.items():
        file = make(tmp_path, shared_data)
        choose(watched, file)
        alert = page.locator("#source [role=alert]").filter(has_text=re.compile(cause))
        alert.wait_for(timeout=START_S)
        sentence = alert.inner_text()
        assert "\n" not in sentence.strip() and len(sentence) < 400, sentence
        page.click("#animate")
        card(watched, "No object is chosen", "#status")
        choose(watched, ASSETS / "objects" / "fox.glb")
        assert "triangles" in card(watched, r"fox\.glb")
    choose(watched, sparse_300_mb(tmp_path, shared_data))
    refused = page.locator("#upload-refused")
    refused.wait_for()
    assert "huge.glb has 300 MB; at most 200 MB are accepted" in refused.inner_text()
    animate(watched, "a fox is running")
    card(watched, "Done in", "#status")
    assert not list(studio.workspace.uploads.rglob("huge*"))
    clean(watched)


def test_pick_cancel_and_reopen(chromium: Chromium, start_studio: Callable[..., tuple[Studio, str]]) -> None:
    studio, url = start_studio(**FAKE)
    watched = open_page(chromium, url)
    page = watched.page
    page.click("#animate")
    card(watched, "No object is chosen", "#status")
    page.locator("#gallery .thumbnail-item").first.click()
    first = studio.gallery[0]
    card(watched, first.name)
    assert page.locator("#prompt textarea").input_value() == first.prompts[0]
    page.get_by_role("button", name=first.prompts[1]).click()
    page.wait_for_function(f"document.querySelector('#prompt textarea').value === {json.dumps(first.prompts[1])}")
    animate(watched, "slow walk")
    card(watched, "so far", "#status")
    page.click("#cancel")
    card(watched, "Cancelled", "#status")
    page.locator("#cancel:disabled").wait_for()
    for prompt in ("a first run", "a second run"):
        animate(watched, prompt)
        page.locator("#history button").filter(has_text=prompt).wait_for()
    shown = page.locator("iframe.t4d-player")
    second = shown.get_attribute("src")
    page.locator("#history button").filter(has_text="a first run").click()
    page.wait_for_function("old => document.querySelector('iframe.t4d-player').getAttribute('src') !== old", arg=second)
    clean(watched)


def test_the_page_fits_a_narrow_screen(chromium: Chromium, start_studio: Callable[..., tuple[Studio, str]]) -> None:
    _, url = start_studio(**FAKE)
    watched = open_page(chromium, url)
    watched.page.set_viewport_size({"width": 390, "height": 844})
    watched.page.wait_for_timeout(300)
    assert watched.page.evaluate("document.documentElement.scrollWidth") <= 390
    clean(watched)
