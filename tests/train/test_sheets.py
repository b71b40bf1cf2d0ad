"""Contact sheets: of the run's own clips, wherever the networks are."""

from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from stage1_program import SMOKE
from torch.utils._pytree import tree_leaves

from t4d.diffusion.sampler import sample_clip
from t4d.geometry.camera import network_camera
from train import sheets
from train.config import StageOneTrainConfig, load_config
from train.networks import build
from train.sheets import HELD_OUT, write_sheet
from train.sources import rendered

SIDE, TILE = 64, 128  # small pictures are enlarged by a whole factor


def config(frames: int, views: int, *more: str) -> StageOneTrainConfig:
    mean = f"model.motion_mean={{width: 16, layers: 1, heads: 2, frames: {frames}}}"
    limit = f"model.motion_max_seq_length={frames}"
    return load_config(StageOneTrainConfig, SMOKE, [f"data.frames={frames}", f"data.views={views}", mean, limit, *more])


@pytest.mark.parametrize(("frames", "views"), [(3, 2), (5, 1)])
def test_networks_that_know_short_clips_only_get_their_sheet(tmp_path, monkeypatch, frames, views):
    asked = []

    def spied(model, reference, cameras, prompt, **options):
        asked.append((len(reference), [network_camera(camera) for camera in cameras], options.get("frames"), prompt))
        return sample_clip(model, reference, cameras, prompt, **{**options, "steps": 1})

    monkeypatch.setattr(sheets, "sample_clip", spied)
    settings = config(frames, views, "data.verbs=[spin]", "sheet_clips=2")
    write_sheet(build(settings), settings, tmp_path / "sheet.png")
    scenes = [rendered(settings.data, 0, rig_fraction=1.0).scene(HELD_OUT + i) for i in range(2)]
    for (pictures, cameras, length, prompt), scene in zip(asked, scenes, strict=True):
        assert (pictures, length, prompt, scene.words["verb"]) == (views, frames, scene.words["caption"], "spin")
        torch.testing.assert_close(cameras, [network_camera(camera) for camera in scene.cameras])
    width, height = Image.open(tmp_path / "sheet.png").size
    assert (width // TILE, height // TILE) == (frames, 2 * (1 + min(views, 2)))  # a column a frame


def test_verbs_bind_rendered_clips_only(tmp_path, monkeypatch):
    """A run on stored clips may name verbs that no procedural object does; its sheet must not end it."""
    monkeypatch.setattr(sheets, "sample_clip", lambda *_, **__: iter(()))
    stored = config(3, 2, "data.verbs=[leap]", f"data.cache={tmp_path}")
    write_sheet(None, stored, tmp_path / "sheet.png")  # type: ignore[arg-type]


class Elsewhere(torch.Tensor):
    """Like a tensor of another device: refuses to meet ordinary ones until it is fetched."""

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
        fetched = func is torch.Tensor.cpu or (func is torch.Tensor.to and "cpu" in map(str, args[1:]))
        if not fetched and not all(isinstance(x, Elsewhere) for x in tensors):
            raise RuntimeError("Expected all tensors to be on the same device")
        with torch._C.DisableTorchFunctionSubclass():
            if fetched:
                return args[0].as_subclass(torch.Tensor).clone()
        return super().__torch_function__(func, types, args, kwargs)


def test_clips_made_on_another_device_are_fetched(tmp_path, monkeypatch):
    made = torch.rand(2, 3, 4, SIDE, SIDE).bfloat16()
    with pytest.raises(RuntimeError, match="same device"):
        torch.stack([torch.rand(2), torch.rand(2).as_subclass(Elsewhere)])

    def samples(*_, **__):
        yield SimpleNamespace(clip_rgba=None)
        yield SimpleNamespace(clip_rgba=made.as_subclass(Elsewhere))

    written = []
    monkeypatch.setattr(sheets, "sample_clip", samples)
    monkeypatch.setattr(sheets, "write_contact_sheet", lambda path, rows: written.append(rows))
    write_sheet(None, config(3, 2), tmp_path / "sheet.png")  # type: ignore[arg-type]
    (rows,) = written
    assert type(rows) is torch.Tensor and rows.dtype == torch.float32 and rows.shape == (3, 3, 3, SIDE, SIDE)
    assert torch.equal(rows[1:], made[:, :, :3].float())
