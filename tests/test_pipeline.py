"""The whole job on a small object with the shipped weights and very few steps: every file, resume, stop, errors."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from eval.run_picture import COLUMNS, VIEWS, picture
from t4d.config import Config
from t4d.data.clip import Clip
from t4d.data.video_file import read_video
from t4d.errors import Cancelled, InputError
from t4d.export.ply import write_ply
from t4d.export.tiles import enlarge, to_uint8
from t4d.geometry.camera import rig
from t4d.job import Job
from t4d.motion.asset import MotionAsset
from t4d.motion.feature_table import FeatureTable
from t4d.paths import ASSETS
from t4d.pipeline import AnimateRequest, RunResult, animate
from t4d.splat.gaussians import Gaussians
from t4d.splat.render import render_gaussians

SMALL = [
    "splat.count=600",
    "stage1.steps=2",
    "stage1.frames=5",
    "stage2.iterations=3",
    "stage2.refine_iterations=1",
    "stage2.images_per_step=4",
    "stage2.guidance.size=64",
    "export.orbit_frames=4",
    "export.orbit_size=64",
    "export.tracks=20",
]
STAGES = ["prepare", "clip", "features", "fit", "export"]


def small_request(out: Path, prompt: str = "a fox is running", **changes) -> AnimateRequest:
    """A job on the first object of the gallery."""
    path = sorted((ASSETS / "objects").glob("*.glb"))[0]
    return AnimateRequest(
        **({"path": path, "prompt": prompt, "out": out, "config": Config.load("mini", SMALL)} | changes)
    )


def manifest_of(out: Path) -> dict:
    return json.loads((out / "run.json").read_text())


def table_of(result: RunResult) -> FeatureTable:
    table = MotionAsset.load(result.asset).field.table
    assert table is not None
    return table


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
    assert result.glb.read_bytes()[:4] == b"glTF"
    assert np.load(result.tracks / "tracks.npz", allow_pickle=False)["xyz"].shape == (5, 20, 3)
    manifest = manifest_of(request.out)
    assert manifest["status"] == "done" and manifest["seed"] == config.seed
    assert manifest["config"] == json.loads(json.dumps(config.model_dump(mode="json")))
    stages = {stage["name"]: stage for stage in manifest["stages"]}
    assert list(stages) == STAGES and all(stage["cpu_seconds"] > 0 for stage in stages.values())
    fit = stages["fit"]["details"]
    assert (fit["phase"], fit["iteration"], fit["iterations"]) == ("refine", 4, 4) and fit["resumed_from"] == 0
    assert fit["threads"] == config.threads == manifest["threads"]["torch"]
    assert set(fit["terms"]) == {"color", "coverage", "arap", "sds"} and fit["terms"]["sds"] > 0
    assert manifest["weights"]["label"] and len(manifest["weights"]["sha256"]) == 64
    assert set(manifest["outputs"]) == {"clip", "orbit", "player", "asset", "plys", "glb", "tracks"}


def test_the_picture_of_a_run_shows_its_clip_and_its_asset(finished, tmp_path):
    request, _, _ = finished
    found = np.asarray(Image.open(picture(request.out, tmp_path / "run.png")).convert("RGB")).astype(int)
    size, frames = request.config.stage1.size, request.config.stage1.frames
    factor = found.shape[0] // (VIEWS + 1) // size
    side, gap = factor * size, 2
    inner = slice(side // 4, 3 * side // 4)  # without the labels
    assert frames < COLUMNS and factor > 1
    assert found.shape[:2] == ((VIEWS + 1) * (side + gap) - gap, frames * (side + gap) - gap)

    def tile(row: int, column: int) -> np.ndarray:
        corner = found[row * (side + gap) :, column * (side + gap) :]
        return corner[inner, inner]

    clip = Clip.load(request.out / "clip.safetensors")
    for view in range(VIEWS):
        for frame in range(frames):
            shown = enlarge(to_uint8(clip.rgb[view, frame].permute(1, 2, 0)), factor)[inner, inner]
            assert np.array_equal(tile(view, frame), shown)
    assert np.abs(tile(0, 0) - tile(2, 0)).mean() < 6 < np.abs(tile(0, 0) - tile(2, 2)).mean()  # it starts in view 0
    with pytest.raises(InputError, match=r"has no clip.safetensors, asset.safetensors, run.json; give the folder"):
        picture(tmp_path, tmp_path / "none.png")


def test_progress_never_goes_back_and_ends_at_one(finished):
    _, seen, _ = finished
    fractions = [progress.fraction for progress in seen]
    assert fractions == sorted(fractions) and fractions[-1] == pytest.approx(1)
    assert [progress.result is not None for progress in seen].index(True) == len(seen) - 1
    assert all(progress.eta_s is None or progress.eta_s >= 0 for progress in seen)


def test_frame_zero_of_the_asset_is_the_object_exactly(finished):
    request, _, result = finished
    asset = MotionAsset.load(result.asset)
    static = Gaussians.from_state_dict(
        load_file(next((request.out / ".stages" / "prepare").glob("*/gaussians.safetensors")))
    )
    still, size = asset.at(0), request.config.stage1.size
    assert torch.equal(still.means, static.means) and torch.equal(still.quats, static.quats)
    with torch.no_grad():
        views = [render_gaussians(gaussians, rig(width=size, height=size)) for gaussians in (still, static)]
    assert torch.equal(*views)


def test_frame_zero_of_the_clip_is_the_render(finished):
    """At least 28 dB, in the clip's own pixels."""
    request, _, result = finished
    clip = Clip.load(request.out / "clip.safetensors")
    with torch.no_grad():
        reference = render_gaussians(MotionAsset.load(result.asset).at(0), clip.cameras)
    error = (clip.rgb[:, 0] - reference[:, :3]).square().mean()
    assert -10 * torch.log10(error) >= 28


def test_the_asset_holds_what_the_configuration_asks_for(finished):
    request, _, result = finished
    table = table_of(result)
    assert MotionAsset.load(result.asset).appearance is not None
    assert table.values.shape == (600, 5, request.config.stage2.features.width)
    assert bool(table.visible.any()) and not bool(table.visible.all())


@pytest.mark.parametrize(("card", "kind"), [("auto", "cuda"), ("cuda:1", "cuda"), ("cpu", "cpu")])
def test_stages_know_the_kind_of_device_not_its_number(tmp_path, monkeypatch, card, kind):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    config = Config.load("mini", [*SMALL, f"device={card}"])
    assert Job(small_request(tmp_path, config=config), "a fox is running", lambda: False).common["device"] == kind


def test_second_run_reuses_what_did_not_change(finished):
    request, _, _ = finished
    changes = {
        "prompt": ({"prompt": "a fox is jumping"}, [True, False, False, False]),
        "arap": ({"config": Config.load("mini", [*SMALL, "stage2.lambda_arap=0.1"])}, [True, True, True, False]),
        "width": ({"config": Config.load("mini", [*SMALL, "stage2.features.width=3"])}, [True, True, False, False]),
        "export": ({"config": Config.load("mini", [*SMALL, "export.glb=false"])}, [True, True, True, True]),
    }
    for name, (change, expected) in changes.items():
        result = list(animate(small_request(request.out, **change)))[-1].result
        assert result is not None
        stages = {stage["name"]: stage["cached"] for stage in manifest_of(request.out)["stages"]}
        assert [stages[stage] for stage in STAGES[:4]] == expected, name
    assert result.glb is None and not (request.out / "animated.glb").exists(), "the earlier run's file is gone"


def test_variants_leave_their_stage_out(finished, tmp_path):
    request, _, _ = finished
    cache = request.out / ".stages"
    config = Config.load("mini", [*SMALL, "stage2.guidance.lambda_sds=0"], "no_features_no_4dsh")
    result = list(animate(small_request(tmp_path, config=config, cache=cache)))[-1].result
    assert result is not None
    asset, stages = MotionAsset.load(result.asset), {s["name"]: s for s in manifest_of(tmp_path)["stages"]}
    assert "features" not in stages and "sds" not in stages["fit"]["details"]["terms"]
    assert asset.appearance is None and asset.field.table is None


def test_features_are_projected_again_where_asked(finished, tmp_path):
    request, _, result = finished
    config = Config.load("mini", [*SMALL, "stage2.features.reproject_every=2"])
    again = list(animate(small_request(tmp_path, config=config, cache=request.out / ".stages")))[-1].result
    assert again is not None
    before, after = table_of(result), table_of(again)
    assert before.values.shape == after.values.shape and not torch.equal(before.values, after.values)
    assert torch.equal(before.visible, before.visible[:, :1].expand_as(before.visible)), "by rays, once"
    assert not torch.equal(before.visible, after.visible), "by rendered depth, in every frame"


def test_cancel_stops_between_steps(tmp_path):
    asked = []

    def cancel() -> bool:
        asked.append(1)
        return len(asked) > 4

    with pytest.raises(Cancelled):
        list(animate(small_request(tmp_path), cancel))
    assert manifest_of(tmp_path)["status"] == "cancelled"


def test_stop_before_the_fit_is_a_cancel(tmp_path):
    with pytest.raises(Cancelled):
        list(animate(small_request(tmp_path), stop=lambda: True))
    assert manifest_of(tmp_path)["status"] == "cancelled" and not (tmp_path / "player.html").exists()


@pytest.mark.parametrize(("after", "phase"), [(1, "reconstruct"), (3, "refine")])
def test_stop_keeps_a_viewable_asset_and_the_next_run_goes_on_bitwise(finished, tmp_path, after, phase):
    parts, whole, steps = tmp_path / "parts", tmp_path / "whole", []
    for cache in (parts, whole):
        shutil.copytree(finished[0].out / ".stages", cache, ignore=lambda folder, _: ["fit"])
    config = Config.load("mini", [*SMALL, "stage2.refine_iterations=2"])
    job = small_request(tmp_path / "out", config=config, cache=parts)
    result = None
    for progress in animate(job, stop=lambda: len(steps) >= after):
        if " step " in progress.message and progress.stage == "fit":
            steps.append(progress.message)
        result = progress.result or result
    assert result is not None and result.stopped == (
        f"Stopped at iteration {after + 1} of 5; the same job run again goes on from there."
    )
    manifest = manifest_of(job.out)
    fit = next(stage for stage in manifest["stages"] if stage["name"] == "fit")["details"]
    assert manifest["status"] == "stopped" and result.stopped in manifest["warnings"]
    assert (fit["phase"], fit["iteration"], fit["iterations"]) == (phase, after + 1, 5)
    assert set(manifest["outputs"]) == {"clip", "orbit", "player", "asset", "plys", "glb", "tracks"}
    assert MotionAsset.load(result.asset).at(4).means.isfinite().all() and result.player.stat().st_size > 1e5
    again = list(animate(job))[-1].result
    fit = next(stage for stage in manifest_of(job.out)["stages"] if stage["name"] == "fit")["details"]
    assert again is not None and again.stopped is None and fit["resumed_from"] == after + 1
    straight = list(animate(small_request(tmp_path / "straight", config=config, cache=whole)))[-1].result
    assert straight is not None and straight.asset.read_bytes() == again.asset.read_bytes()


def test_a_fit_gone_on_with_on_other_threads_says_so(finished, tmp_path):
    shutil.copytree(finished[0].out / ".stages", tmp_path / "cache", ignore=lambda folder, _: ["fit"])
    before, seen, found = torch.get_num_threads(), [], []
    for threads in (1, 2):
        config = Config.load("mini", [*SMALL, f"threads={threads}"])
        job = small_request(tmp_path / "out", config=config, cache=tmp_path / "cache")
        for progress in animate(job, stop=lambda: len(seen) == 1):
            if "Fitting motion, step 2" in progress.message or progress.result:
                seen.append(progress.message)
        fit = next(stage for stage in manifest_of(job.out)["stages"] if stage["name"] == "fit")["details"]
        found.append((fit["resumed_from"], fit["threads"], fit["threads_so_far"]))
    torch.set_num_threads(before)
    assert found[0] == (0, 1, [1]) and found[1][0] > 0 and found[1][1:] == (2, [1, 2])


@pytest.mark.parametrize(("how", "after"), [("stop", "step 3 of 4"), ("cancel", "step 4 of 4")])
def test_asked_in_the_last_iteration_nothing_is_lost(finished, tmp_path, how, after):
    shutil.copytree(finished[0].out / ".stages", tmp_path / "cache", ignore=lambda folder, _: ["fit"])
    job, seen, result = small_request(tmp_path / "out", cache=tmp_path / "cache"), [], None
    try:
        for progress in animate(job, **{how: lambda: any(after in message for message in seen)}):
            seen.append(progress.message)
            result = progress.result or result
    except Cancelled:
        assert how == "cancel" and manifest_of(job.out)["status"] == "cancelled"
        result = list(animate(job))[-1].result
    assert result is not None and result.stopped is None
    assert result.asset.read_bytes() == finished[2].asset.read_bytes()


@pytest.mark.parametrize(("prompt", "says"), [("  ", "empty"), ("x" * 400, "400 characters")])
def test_bad_prompt(tmp_path, prompt, says):
    with pytest.raises(InputError, match=says):
        list(animate(small_request(tmp_path, prompt=prompt)))


def test_missing_weights_are_named(tmp_path):
    config = Config.load("mini", [*SMALL, f"stage1.weights={tmp_path / 'nothing'}"])
    with pytest.raises(InputError, match="nothing"):
        list(animate(small_request(tmp_path / "out", config=config)))


def test_a_back_end_of_another_device_and_an_unusable_folder_are_told(tmp_path):
    config = Config.load("mini", [*SMALL, "splat.backend=gsplat", "device=cpu"])
    with pytest.raises(InputError, match=r"splat\.backend=auto"):
        list(animate(small_request(tmp_path / "out", config=config)))
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="give another output folder"):
        list(animate(small_request(tmp_path / "file")))


def test_bad_object_is_one_sentence(tmp_path):
    path = tmp_path / "notes.glb"
    path.write_text("this is no mesh")
    with pytest.raises(InputError) as caught:
        list(animate(small_request(tmp_path / "out", path=path)))
    assert "notes.glb" in str(caught.value) and "\n" not in str(caught.value)


def test_an_object_of_gaussians_is_animated_without_a_mesh(finished, tmp_path):
    result = finished[2]
    path = tmp_path / "splats.ply"
    write_ply(path, MotionAsset.load(result.asset).at(0))
    config = Config.load("mini", [*SMALL, "splat.count=400", "export.spz=true"])
    made = list(animate(small_request(tmp_path / "out", path=path, config=config)))[-1].result
    assert made is not None and made.glb is None and made.spz is not None
    manifest = manifest_of(tmp_path / "out")
    assert any("no triangles" in sentence for sentence in manifest["warnings"])
    seen = table_of(made).visible
    assert len(seen) == 400 and bool(seen.any()) and not bool(seen.all()), "the rendered depth hides some"
