"""Clips from elsewhere through the whole pipeline: 64 frames, 2 views, not square; another object is refused."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from t4d import __main__ as cli
from t4d.clip_cameras import write_cameras
from t4d.clip_folder import read_clip
from t4d.config import Config
from t4d.data.clip import Clip
from t4d.errors import InputError
from t4d.geometry.camera import Camera, rig
from t4d.geometry.normalise import Normaliser
from t4d.geometry.object3d import load_object
from t4d.geometry.shading import shade_vertices
from t4d.motion.asset import MotionAsset
from t4d.paths import ASSETS
from t4d.pipeline import AnimateRequest, animate
from t4d.splat.binding import bind_gaussians
from t4d.splat.gaussians import Gaussians
from t4d.splat.render import render_gaussians

FOX = ASSETS / "objects" / "fox.glb"
TINY = {
    "splat.count": "500",
    "stage2.iterations": "40",
    "stage2.refine_iterations": "1",
    "stage2.images_per_step": "6",
    "stage2.lambda_arap": "0",
    "stage2.guidance.size": "64",
    "stage2.guidance.frames": "4",
    "export.orbit_frames": "2",
    "export.orbit_size": "32",
    "export.tracks": "5",
}
LIFT = 0.25  # world units, the clip's motion


def still_object(path: Path = FOX) -> Gaussians:
    loaded = load_object(path)
    vertices = Normaliser.fit_static(loaded).apply(loaded.rest_vertices())
    return bind_gaussians(loaded.mesh, vertices, 500, shade_vertices(loaded.mesh, vertices))[0]


def lifted(gaussians: Gaussians, frame: int, frames: int) -> Gaussians:
    """Up and down once; frame 0 is the object at rest."""
    height = LIFT * (1 - math.cos(2 * math.pi * frame / (frames - 1))) / 2
    return gaussians.replace(means=gaussians.means + torch.tensor([0.0, 0.0, height]))


def write_pictures(folder: Path, cameras: list[Camera], frames: int, *, flat: bool, path: Path = FOX) -> Path:
    """RGBA pictures, colour not premultiplied."""
    still = still_object(path)
    folder.mkdir()
    for frame in range(frames):
        with torch.no_grad():
            rgba = render_gaussians(lifted(still, frame, frames), cameras, background=0.0)  # [V, 4, H, W]
        colour = rgba[:, :3] / rgba[:, 3:].clamp(min=1e-3)
        pictures = (torch.cat([colour, rgba[:, 3:]], 1).clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy()
        for view, picture in enumerate(pictures):
            file = folder / (f"{view * frames + frame}.png" if flat else f"view_{view}/{frame:04d}.png")
            file.parent.mkdir(exist_ok=True)
            Image.fromarray(np.ascontiguousarray(picture), "RGBA").save(file)
    return folder


def options(**more: str) -> list[str]:
    return [word for key, value in (TINY | more).items() for word in ("-s", f"{key}={value}")]


def test_64_frames_of_two_views_that_are_not_square(tmp_path):
    frames, width, height = 64, 56, 40
    cameras = rig((0.0, 90.0), width=width, height=height)
    folder = write_pictures(tmp_path / "clip", cameras, frames, flat=True)
    arguments = ["fit", str(folder), "--object", str(FOX), "-o", str(tmp_path / "out"), "--views", "2"]
    done = CliRunner().invoke(cli.app, [*arguments, *options(**{"geometry.azimuths": "[0, 90]"})])
    assert done.exit_code == 0, (done.output, done.exception)
    manifest = json.loads((tmp_path / "out" / "run.json").read_text())
    assert [stage["name"] for stage in manifest["stages"]] == ["prepare", "clip", "features", "fit", "export"]
    assert manifest["prompt"] == "" and manifest["weights"]["name"] == "mini"
    clip = Clip.load(tmp_path / "out" / "clip.safetensors")
    assert clip.rgb.shape == (2, frames, 3, height, width)
    asset = MotionAsset.load(tmp_path / "out" / "asset.safetensors")
    table = asset.field.table
    assert asset.frames == frames and table is not None and table.frames == frames
    assert asset.field.config["planes"][0][1] == 8, "the planes keep their time samples"
    assert len(list((tmp_path / "out" / "frames").glob("*.ply"))) == frames
    lift = [float((asset.at(frame).means - asset.at(0).means)[:, 2].mean()) for frame in (8, 32, 56)]
    assert lift[1] > 0.5 * LIFT and lift[1] > lift[0] > 0 and lift[1] > lift[2] > 0, lift

    def error(gaussians: Gaussians, frame: int) -> float:
        with torch.no_grad():
            shown = render_gaussians(gaussians, clip.cameras)
        return float((shown[:, :3] - clip.rgb[:, frame]).square().mean())

    assert error(asset.at(32), 32) < 0.4 * error(asset.at(0), 32)
    assert error(asset.at(0), 0) < 0.02 * error(asset.at(0), 32), "frame 0 is the object"


def test_one_view_with_its_own_camera_and_the_clip_file_of_a_run(tmp_path):
    """A folder with cameras.json; its run's clip.safetensors then fits as well, without diffusion."""
    cameras = rig((30.0,), elevation=5.0, distance=2.6, vfov=45.0, width=40, height=52)
    folder = write_pictures(tmp_path / "clip", cameras, 3, flat=False)
    write_cameras(folder / "cameras.json", cameras)
    few = ["stage2.iterations=2", "stage2.refine_iterations=0", "stage2.features.enabled=false"]
    config = Config.load("mini", [*(f"{k}={v}" for k, v in TINY.items()), *few])
    for clip, prompt in ((folder, "a fox is jumping"), (tmp_path / "own.safetensors", "")):
        out = tmp_path / f"out{int(clip.is_file())}"
        job = AnimateRequest(FOX, prompt, out, config, tmp_path / "cache", clip)
        result = list(animate(job))[-1].result
        assert result is not None and MotionAsset.load(result.asset).frames == 3
        manifest = json.loads((out / "run.json").read_text())
        assert manifest["weights"] is None, "no video model was needed"
        assert manifest["prompt"] == "a fox is jumping", "given, or the clip's own"
        assert [stage["name"] for stage in manifest["stages"]] == ["prepare", "clip", "fit", "export"]
        made = Clip.load(out / "clip.safetensors")
        assert torch.equal(made.cameras[0].world_to_camera, cameras[0].world_to_camera)
        replace(made, prompt="a fox is jumping ").save(tmp_path / "own.safetensors")


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("object", r"mask of view_0/0000\.png covers the object as its camera sees it by"),
        ("order", r"mask of view_0/0000\.png covers the object"),
        ("nan", r"frame 1 of view 1 of clip\.safetensors|clip\.safetensors: frame 1 of view 1"),
    ],
)
def test_clips_that_are_not_of_this_object_or_broken_are_refused_by_name(tmp_path, wrong, says):
    cameras = rig((0.0, 90.0), width=40, height=48)
    other = ASSETS / "objects" / "astronaut.glb"
    clip = write_pictures(tmp_path / "clip", cameras, 2, flat=False, path=other if wrong == "object" else FOX)
    if wrong == "order":
        write_cameras(clip / "cameras.json", cameras[::-1])
    if wrong == "nan":
        good = read_clip(clip, lambda width, height: cameras).clip
        clip = tmp_path / "clip.safetensors"
        good.save(clip)
        spoil(clip)
    config = Config.load("mini", [*(f"{k}={v}" for k, v in TINY.items()), "geometry.azimuths=[0, 90]"])
    with pytest.raises(InputError, match=says):
        list(animate(AnimateRequest(FOX, "", tmp_path / "out", config, tmp_path / "cache", clip)))
    manifest = json.loads((tmp_path / "out" / "run.json").read_text())
    assert manifest["status"] == "failed" and "\n" not in manifest["error"]


def spoil(path: Path) -> None:
    from safetensors import safe_open
    from safetensors.torch import save_file

    with safe_open(str(path), "pt") as stored:
        meta, tensors = stored.metadata(), {key: stored.get_tensor(key) for key in stored.keys()}
    tensors["rgb"] = tensors["rgb"].float() / 255
    tensors["rgb"][1, 1, 0, 3, 4] = float("nan")
    save_file(tensors, str(path), meta)
