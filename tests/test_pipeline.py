"""The whole job on a small object with the shipped weights and very few steps: every file, resume, cancel, errors."""

import json
from pathlib import Path

import pytest
import torch

from t4d.config import Config
from t4d.errors import Cancelled, InputError
from t4d.export.video import read_video
from t4d.geometry.camera import rig
from t4d.motion.asset import MotionAsset
from t4d.paths import ASSETS
from t4d.pipeline import AnimateRequest, animate
from t4d.splat.render import render_gaussians

SMALL = [
    "splat.count=600",
    "stage1.steps=2",
    "stage2.iterations=3",
    "stage2.images_per_step=4",
    "export.orbit_frames=4",
    "export.orbit_size=64",
]


def small_request(out: Path, prompt: str = "a fox is running", **changes) -> AnimateRequest:
    """A job on the first object of the gallery."""
    path = sorted((ASSETS / "objects").glob("*.glb"))[0]
    return AnimateRequest(
        **({"path": path, "prompt": prompt, "out": out, "config": Config.load("mini", SMALL)} | changes)
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run: its request, progress list and result."""
    request = small_request(tmp_path_factory.mktemp("run"))
    seen = list(animate(request))
    return request, seen, seen[-1].result


def test_every_file_is_there_and_readable(finished):
    request, _, result = finished
    config = request.config
    frames, _ = read_video(result.clip)
    assert len(frames) == config.stage1.frames
    assert len(read_video(result.orbit)[0]) == config.export.orbit_frames
    assert len(list(result.plys.glob("*.ply"))) == config.stage1.frames
    assert "<canvas" in result.player.read_text() or "<script" in result.player.read_text()
    manifest = json.loads(result.manifest.read_text())
    assert manifest["status"] == "done" and manifest["seed"] == config.seed
    assert manifest["config"] == json.loads(json.dumps(config.model_dump(mode="json")))
    assert [stage["name"] for stage in manifest["stages"]] == ["prepare", "clip", "fit", "export"]
    assert all(stage["cpu_seconds"] > 0 for stage in manifest["stages"])
    assert manifest["weights"]["label"] and len(manifest["weights"]["sha256"]) == 64


def test_progress_never_goes_back_and_ends_at_one(finished):
    _, seen, _ = finished
    fractions = [progress.fraction for progress in seen]
    assert fractions == sorted(fractions) and fractions[-1] == 1
    assert [progress.result is not None for progress in seen].index(True) == len(seen) - 1
    assert all(progress.eta_s is None or progress.eta_s >= 0 for progress in seen)


def test_frame_zero_of_the_asset_is_the_object_exactly(finished):
    request, _, result = finished
    asset = MotionAsset.load(result.asset)
    prepared = next((request.out / ".stages" / "prepare").glob("*/gaussians.safetensors"))
    from safetensors.torch import load_file

    static = load_file(prepared)
    still = asset.at(0)
    assert torch.equal(still.means, static["means"]) and torch.equal(still.sh, static["sh"])
    reference = load_file(prepared.parent / "reference.safetensors")["rgba"]
    size = request.config.stage1.size
    with torch.no_grad():
        assert torch.equal(render_gaussians(still, rig(width=size, height=size)), reference)


def test_frame_zero_of_the_clip_is_the_render(finished):
    """At least 28 dB, in the clip's own pixels."""
    from safetensors.torch import load_file

    request, _, _ = finished
    stages = request.out / ".stages"
    clip = load_file(next((stages / "clip").glob("*/clip.safetensors")))["rgb"].float()
    reference = load_file(next((stages / "prepare").glob("*/reference.safetensors")))["rgba"]
    error = (clip[:, 0] - reference[:, :3]).square().mean()
    assert -10 * torch.log10(error) >= 28


def test_second_run_reuses_what_did_not_change(finished):
    request, _, _ = finished
    again = AnimateRequest(request.path, "a fox is jumping", request.out, request.config)
    result = list(animate(again))[-1].result
    assert result is not None
    stages = {stage["name"]: stage["cached"] for stage in json.loads(result.manifest.read_text())["stages"]}
    assert stages["prepare"] and not stages["clip"] and not stages["fit"]


def test_cancel_stops_between_steps(tmp_path):
    asked = []

    def cancel() -> bool:
        asked.append(1)
        return len(asked) > 4

    with pytest.raises(Cancelled):
        list(animate(small_request(tmp_path), cancel))
    assert json.loads((tmp_path / "run.json").read_text())["status"] == "cancelled"


@pytest.mark.parametrize(("prompt", "says"), [("  ", "empty"), ("x" * 400, "400 characters")])
def test_bad_prompt(tmp_path, prompt, says):
    with pytest.raises(InputError, match=says):
        list(animate(small_request(tmp_path, prompt=prompt)))


def test_missing_weights_are_named(tmp_path):
    config = Config.load("mini", [*SMALL, f"stage1.weights={tmp_path / 'nothing'}"])
    with pytest.raises(InputError, match="nothing"):
        list(animate(small_request(tmp_path / "out", config=config)))


def test_bad_object_is_one_sentence(tmp_path):
    path = tmp_path / "notes.glb"
    path.write_text("this is no mesh")
    with pytest.raises(InputError) as caught:
        list(animate(small_request(tmp_path / "out", path=path)))
    assert "notes.glb" in str(caught.value) and "\n" not in str(caught.value)
