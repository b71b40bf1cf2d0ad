"""Truth clips of a bending bar: colours follow the light, bindings follow the mesh."""

from pathlib import Path

import numpy as np
import pytest
import torch

from eval.ablation_cases import GENERATED_CASES, TRUTH_CASES
from eval.truth_clip import BoundTruth, TruthClip, held_out_cameras
from t4d.geometry.camera import orbit_camera
from t4d.splat.render import render_gaussians

pytestmark = pytest.mark.data


@pytest.fixture(scope="module")
def clip(shared_data: Path) -> TruthClip:
    return TruthClip(shared_data / "data/real3d/animated/Fox.glb", "Run", frames=4)


@pytest.fixture(scope="module")
def bound(clip: TruthClip) -> BoundTruth:
    return clip.bind(600, 0)


def test_frame_zero_is_the_static_object(bound: BoundTruth):
    torch.testing.assert_close(bound.oracle.means[0], bound.gaussians.means, atol=1e-6, rtol=0)
    torch.testing.assert_close(bound.colors[0], bound.gaussians.colors())
    assert torch.equal(bound.still().means[2], bound.gaussians.means)
    assert torch.equal(bound.posed_in_first_light().means, bound.oracle.means)
    assert torch.equal(bound.posed_in_first_light().sh[3], bound.gaussians.sh)


def test_light_stands_in_the_world(clip: TruthClip, bound: BoundTruth, shared_data: Path):
    assert np.abs(clip.light[1:] - clip.light[:1]).max() > 0.05
    assert float((bound.colors[2] - bound.colors[0]).abs().max()) > 0.02
    baked = TruthClip(shared_data / "data/real3d/animated/Fox.glb", "Run", frames=4, relit=False)
    assert (baked.light == baked.light[:1]).all()
    torch.testing.assert_close(baked.bind(600, 0).colors[2], baked.bind(600, 0).colors[0])
    np.testing.assert_array_equal(baked.vertices, clip.vertices)


def test_seeds_change_the_gaussians_and_not_the_pictures(clip: TruthClip, bound: BoundTruth):
    assert not torch.equal(clip.bind(600, 1).gaussians.means, bound.gaussians.means)
    again = clip.bind(600, 0)
    assert torch.equal(again.gaussians.means, bound.gaussians.means) and torch.equal(again.oracle.sh, bound.oracle.sh)


def test_posed_and_relit_gaussians_look_like_the_pictures(clip: TruthClip):
    camera = orbit_camera(45, 15, width=72, height=64)
    bound = clip.bind(3000, 0)
    truth = clip.pictures([camera])
    assert truth.shape == (4, 1, 4, 64, 72)
    with torch.no_grad():
        errors = [
            float((render_gaussians(moved, [camera]) - truth)[1:].square().mean())
            for moved in (bound.oracle, bound.posed_in_first_light(), bound.still())
        ]
    assert errors[0] < errors[1] < 0.5 * errors[2]


def test_cases_are_there_and_of_their_split(shared_data: Path):
    import json

    split = json.loads((shared_data / "data/rigs_cc0/split.json").read_text())
    assert [case.group for case in TRUTH_CASES] == ["near"] * 5 + ["far"] * 5
    for case in TRUTH_CASES:
        assert case.file in split[case.group]
        assert not any(word in case.file for word in ("Fox.glb", "Trex", "Clownfish", "Robot", "Frog.glb"))
    for case in GENERATED_CASES:
        assert (shared_data / "data" / case.file).is_file()
        if case.group in split:
            assert case.file.removeprefix("rigs_cc0/") in split[case.group]
    for cases in (TRUTH_CASES, GENERATED_CASES):
        assert len({case.name for case in cases}) == len(cases)


def test_judges_stand_between_the_rig_views():
    cameras = held_out_cameras(96)
    assert len(cameras) == 8 and {(c.width, c.height) for c in cameras} == {(96, 96)}
    eyes = torch.stack([camera.eye for camera in cameras])
    azimuth = torch.rad2deg(torch.atan2(eyes[:, 1], eyes[:, 0])).round() % 360
    assert azimuth.tolist() == [45, 135, 225, 315] * 2
    torch.testing.assert_close(eyes[:4, 2], torch.zeros(4).double(), atol=1e-9, rtol=0)
    torch.testing.assert_close(eyes[4:, 2], torch.full((4,), 1.5).double(), atol=1e-9, rtol=0)  # 3 sin 30
