"""The CoTracker3 adapter: against the recorded fake, and against the real package where it is installed."""

import importlib.util
import pickle
import sys
from pathlib import Path
from typing import Any

import cotracker_fake
import pytest
import torch

from t4d.errors import InputError
from t4d.tracking.cotracker3 import WINDOW, CoTracker3
from t4d.tracking.tracker import build_tracker

HEIGHT, WIDTH = 36, 50


@pytest.fixture
def fake(monkeypatch, tmp_path):
    """Installs the fake; gives checkpoint files by mode."""
    cotracker_fake.install(monkeypatch)
    paths = {}
    for mode, window in WINDOW.items():
        paths[mode] = tmp_path / f"scaled_{mode}.pth"
        torch.save(cotracker_fake.FakeModel(window).state_dict(), paths[mode])
    yield paths
    cotracker_fake.forget()


def spot(frames: int, start: tuple[float, float], speed: tuple[float, float]) -> torch.Tensor:
    """[T, 3, H, W]: one soft bright spot that moves by `speed` pixels a frame; pixel centres at .5."""
    y, x = torch.meshgrid(torch.arange(HEIGHT) + 0.5, torch.arange(WIDTH) + 0.5, indexing="ij")
    out = []
    for t in range(frames):
        gap = (x - start[0] - t * speed[0]) ** 2 + (y - start[1] - t * speed[1]) ** 2
        out.append(torch.exp(-gap / 8).expand(3, -1, -1))
    return torch.stack(out)


@pytest.mark.parametrize(
    ("mode", "frames"), [("offline", 2), ("offline", 17), *(("online", t) for t in (2, 8, 9, 17, 26))]
)
def test_positions_in_our_pixels(fake, mode, frames):
    speed = [(0.5, 0.25), (-0.25, 0.5)]
    starts = [(14.0, 12.0), (24.0, 10.0)]
    rgb = torch.stack([spot(frames, s, d) for s, d in zip(starts, speed)])
    queries = torch.tensor([[[20.0, 9.5], [40.5, 30.0]], [[25.0, 5.0], [30.0, 20.0]]])
    found = build_tracker("cotracker3", checkpoint=fake[mode], mode=mode).track(rgb, queries)
    expected = queries[:, None] + torch.arange(frames)[None, :, None, None] * torch.tensor(speed)[:, None, None]
    torch.testing.assert_close(found.xy, expected, atol=0.05, rtol=0)
    assert found.xy.shape == (2, frames, 2, 2) and found.visible.dtype == torch.bool
    assert torch.equal(found.xy[:, 0], queries)


@pytest.mark.parametrize("mode", ["offline", "online"])
def test_a_still_point_returns_where_it_was(fake, mode):
    # Whatever the resizing does, a point that does not move must come back to the pixel: no drift of half a pixel.
    rgb = spot(5, (20.0, 20.0), (0, 0))[None]
    queries = torch.tensor([[[0.5, 0.5], [25.0, 18.0], [49.5, 35.5]]])
    found = CoTracker3(fake[mode], mode).track(rgb, queries)
    torch.testing.assert_close(found.xy, queries[:, None].expand_as(found.xy), atol=1e-4, rtol=0)


def test_visibility_rules(fake):
    rgb = spot(3, (20.0, 20.0), (0, 0))[None]
    queries = torch.tensor([[[4.0, 4.0], [40.0, 4.0]]])  # the fake is unsure of what is far left: .5, else .95; x .7
    for mode in WINDOW:
        assert CoTracker3(fake[mode], mode).track(rgb, queries).visible[0].T.tolist() == [
            [True, False, False],
            [True] * 3,
        ]
        for threshold, left, right in ((0.3, True, True), (0.5, False, True), (0.7, False, False)):
            found = CoTracker3(fake[mode], mode, visibility=threshold).track(rgb, queries)
            assert found.visible[0, 1:].T.tolist() == [[left] * 2, [right] * 2]
            assert found.visible[0, 0].all()  # the query frame


def test_only_points_on_the_object_are_tracked_and_parts_agree(fake, monkeypatch):
    rgb = torch.stack([spot(4, (20.0, 20.0), (0.5, 0)), spot(4, (20.0, 20.0), (0.5, 0))])
    queries = torch.rand(2, 11, 2, generator=torch.Generator().manual_seed(0)) * torch.tensor([WIDTH, HEIGHT])
    mask = torch.zeros(2, 4, 1, HEIGHT, WIDTH)
    mask[0, :, :, :, 20:] = 1  # nothing at all in view 1
    asked = []
    original = cotracker_fake.CoTrackerPredictor.forward
    monkeypatch.setattr(
        cotracker_fake.CoTrackerPredictor,
        "forward",
        lambda self, video, queries: (asked.append(queries), original(self, video, queries=queries))[1],
    )
    whole = CoTracker3(fake["offline"]).track(rgb, queries, mask)
    on = whole.query_valid[0]
    assert torch.equal(on, queries[0, :, 0] >= 20) and not whole.query_valid[1].any() and 3 < on.sum() < 11
    assert len(asked) == 1 and asked[0].shape == (1, int(on.sum()), 3)
    torch.testing.assert_close(asked[0][0, :, 1:], queries[0, on] - 0.5)
    torch.testing.assert_close(whole.xy[:, :, ~on], queries[:, None, ~on].expand(-1, 4, -1, -1))
    assert not whole.visible[:, :, ~on].any()
    parts = CoTracker3(fake["offline"], points_at_once=2).track(rgb, queries, mask)
    assert len(asked) == 1 + -(-int(on.sum()) // 2)
    torch.testing.assert_close(parts.xy, whole.xy)
    assert torch.equal(parts.visible, whole.visible)


def test_importing_it_leaves_the_random_state(fake):
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    assert "cotracker.predictor" not in sys.modules
    import_only = __import__("t4d.tracking.cotracker3", fromlist=["_package"])._package()
    assert import_only.CoTrackerPredictor is cotracker_fake.CoTrackerPredictor
    torch.testing.assert_close(torch.rand(3), expected)


def test_its_weights_are_those_of_the_file(fake):
    stored = torch.load(fake["online"], weights_only=True)
    model = CoTracker3(fake["online"], "online").record.model
    assert all(torch.equal(value, stored[name]) for name, value in model.state_dict().items())
    torch.save({"model": stored}, fake["online"])  # the form training writes
    model = CoTracker3(fake["online"], "online").record.model
    assert all(torch.equal(value, stored[name]) for name, value in model.state_dict().items())


class Evil:
    """Would run code when unpickled."""

    def __reduce__(self):
        return (Path("/").touch, ())


def test_refusals(fake, tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"missing\.pth.*CC-BY-NC"):
        CoTracker3(tmp_path / "missing.pth")
    with pytest.raises(InputError, match="online model; set mode='online'"):
        CoTracker3(fake["online"], "offline")
    with pytest.raises(InputError, match="offline model; set mode='offline'"):
        CoTracker3(fake["offline"], "online")
    (tmp_path / "evil.pth").write_bytes(pickle.dumps({"a": Evil()}, protocol=2))
    with pytest.raises(InputError, match="not a checkpoint of tensors only"):
        CoTracker3(tmp_path / "evil.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(InputError, match="dictionary of tensors"):
        CoTracker3(tmp_path / "list.pth")
    state = torch.load(fake["offline"], weights_only=True)
    del state["fnet.bias"]
    torch.save(state, tmp_path / "short.pth")
    with pytest.raises(InputError, match=r"1 tensors .*fnet\.bias"):
        CoTracker3(tmp_path / "short.pth")
    refused: list[dict[str, Any]] = [{"mode": "v2"}, {"points_at_once": 0}, {"visibility": 1.5}]
    for settings in refused:
        with pytest.raises(InputError):
            CoTracker3(fake["offline"], **settings)


def test_without_network_or_package(monkeypatch, tmp_path):
    import huggingface_hub

    def no_network(*_args, **_kwargs):
        raise OSError("no route\nto host")

    monkeypatch.setitem(sys.modules, "cotracker", None)
    with pytest.raises(InputError, match=r"pip install git\+.*CC-BY-NC"):
        CoTracker3(tmp_path / "any.pth")
    monkeypatch.undo()
    cotracker_fake.install(monkeypatch)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", no_network)
    with pytest.raises(InputError, match=r"could not be downloaded.*\(no route\); give a local file"):
        CoTracker3("hub")
    cotracker_fake.forget()


def test_the_hub_file_is_the_one_of_the_mode(fake, monkeypatch):
    import huggingface_hub

    asked = []
    monkeypatch.setattr(
        huggingface_hub, "hf_hub_download", lambda repo, name: asked.append((repo, name)) or str(fake["online"])
    )
    CoTracker3("hub", "online")
    assert asked == [("facebook/cotracker3", "scaled_online.pth")]


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("cotracker") is None,
    reason="the package cotracker is CC-BY-NC 4.0 and not on PyPI: install it from git to check the adapter against it",
)
@pytest.mark.parametrize("mode", ["offline", "online"])
def test_against_the_real_package(mode, tmp_path):
    from cotracker.predictor import CoTrackerOnlinePredictor, CoTrackerPredictor  # type: ignore[reportMissingImports]

    frames = 4 if mode == "offline" else 18
    real = (CoTrackerPredictor if mode == "offline" else CoTrackerOnlinePredictor)(
        checkpoint=None, offline=mode == "offline", window_len=WINDOW[mode]
    )
    torch.save(real.model.state_dict(), tmp_path / "random.pth")
    rgb = torch.rand(1, frames, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(3))
    queries = torch.tensor([[[10.0, 12.5], [40.0, 30.0], [49.5, 0.5]]])
    found = CoTracker3(tmp_path / "random.pth", mode).track(rgb, queries)
    start = torch.cat([torch.zeros(1, 3, 1), queries - 0.5], -1)
    if mode == "offline":
        xy, visible = real(rgb * 255, queries=start)
    else:
        real(rgb * 255, is_first_step=True, queries=start, add_support_grid=True)
        real(rgb[:, :16] * 255, add_support_grid=True)
        xy, visible = real(rgb[:, 8:] * 255, add_support_grid=True)
    assert xy.shape == (1, frames, 3, 2) and visible.dtype == torch.bool
    torch.testing.assert_close(found.xy[:, 1:], xy[:, 1:] + 0.5, atol=1e-4, rtol=0)
    assert torch.equal(found.visible[:, 1:], visible[:, 1:]) and torch.equal(found.xy[:, 0], queries)
    assert (found.xy[:, 1:] - queries[:, None]).abs().max() > 1e-3  # random weights do move points a little
