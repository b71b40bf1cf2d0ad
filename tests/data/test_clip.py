"""Clip files: round trip and refusals."""

import dataclasses

import pytest
import torch
from safetensors.torch import save_file

from t4d.data.clip import Clip
from t4d.errors import InputError
from t4d.geometry.camera import rig

V, T, H, W = 2, 3, 6, 8


def clip(**changes) -> Clip:
    g = torch.Generator().manual_seed(0)
    base = {
        "rgb": torch.rand(V, T, 3, H, W, generator=g),
        "mask": torch.rand(V, T, 1, H, W, generator=g),
        "cameras": rig((0, 90), width=W, height=H),
        "fps": 8.0,
        "prompt": "a fox is running",
        "tracks": torch.rand(V, T, 5, 2, generator=g) * 6,
        "visible": torch.rand(V, T, 5, generator=g) > 0.5,
        "flow": torch.randn(V, T, 2, 3, 4, generator=g),
        "flow_valid": torch.ones(V, T, 1, 3, 4),
    }
    return Clip(**(base | changes))


def test_round_trip(tmp_path):
    a = clip()
    a.save(tmp_path / "c.safetensors")
    b = Clip.load(tmp_path / "c.safetensors")
    for field in dataclasses.fields(Clip):
        x, y = getattr(a, field.name), getattr(b, field.name)
        if field.name in ("rgb", "mask"):
            assert (x - y).abs().max() <= 0.5 / 255 + 1e-6
        elif field.name == "cameras":
            assert all(
                torch.equal(p.world_to_camera, q.world_to_camera) and torch.equal(p.K, q.K) for p, q in zip(x, y)
            )
        elif isinstance(x, torch.Tensor):
            assert torch.equal(x, y)
        else:
            assert x == y


def nan_frame() -> torch.Tensor:
    rgb = clip().rgb.clone()
    rgb[1, 2, 0, 3, 3] = float("nan")
    return rgb


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"mask": torch.rand(V, T - 1, 1, H, W)}, r"\[2, 2, 1, 6, 8\].*needs \[2, 3, 1, 6, 8\]"),
        ({"mask": torch.rand(V, T, 1, W, H)}, "mask has shape"),
        ({"rgb": torch.rand(V, T, 3, 0, W)}, r"rgb has shape \[2, 3, 3, 0, 8\]"),
        ({"fps": float("inf")}, "inf frames per second"),
        ({"rgb": nan_frame()}, "frame 2 of view 1"),
        ({"rgb": clip().rgb * 255}, "expected 0..1"),
        ({"rgb": clip().rgb[0]}, "expected .views, frames"),
        ({"cameras": rig((0,), width=W, height=H)}, "2 views but 1 cameras"),
        ({"cameras": rig((0, 90), width=H, height=W)}, "camera 0 is 6x8"),
        ({"fps": 0.0}, "frames per second"),
        ({"visible": None}, "both or neither"),
        ({"tracks": torch.rand(V, T, 4, 2)}, "tracks have shape"),
        ({"flow_valid": torch.ones(V, T, 1, 4, 3)}, "flow has shape"),
    ],
)
def test_inconsistent_clips_are_refused(changes, words):
    with pytest.raises(InputError, match=words):
        clip(**changes)


def test_broken_files_are_refused(tmp_path):
    (tmp_path / "a.safetensors").write_bytes(b"no")
    with pytest.raises(InputError, match="not a readable clip"):
        Clip.load(tmp_path / "a.safetensors")
    with pytest.raises(InputError, match="not a readable clip"):
        Clip.load(tmp_path / "absent.safetensors")
    save_file({"rgb": torch.zeros(1)}, tmp_path / "b.safetensors")
    with pytest.raises(InputError, match="not a clip of version"):
        Clip.load(tmp_path / "b.safetensors")
    save_file({"rgb": torch.zeros(1, 1, 3, 2, 2)}, tmp_path / "c.safetensors", {"version": "1", "clip": "{}"})
    with pytest.raises(InputError, match="not a readable clip"):
        Clip.load(tmp_path / "c.safetensors")
