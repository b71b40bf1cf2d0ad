"""Stage Two fit and its asset: identity, recovery of a known motion, resume, cancel, refusals."""

import math

import pytest
import torch
from safetensors.torch import load_file, save_file

from t4d.errors import InputError
from t4d.geometry.camera import rig
from t4d.motion.arap import SUM_FORM
from t4d.motion.asset import MotionAsset
from t4d.motion.feature_table import FeatureTable
from t4d.motion.field import MotionField
from t4d.motion.fit import fit_motion
from t4d.splat.gaussians import Gaussians, stack_gaussians
from t4d.splat.render import render_gaussians

T, H, W = 5, 40, 48
SMALL = dict(field=dict(planes=[(20, 4)], features=8, levels=3))


def blob(n=400):
    """A coloured bar along x."""
    generator = torch.Generator().manual_seed(0)
    means = (torch.rand(n, 3, generator=generator) - 0.5) * torch.tensor([1.0, 0.3, 0.3])
    sh = torch.stack([3 * means[:, 0], torch.sin(9 * means[:, 0]), 4 * means[:, 2]], dim=-1)[:, None]
    quats = torch.randn(n, 4, generator=generator)
    return Gaussians(means, quats, torch.full((n, 3), math.log(0.035)), torch.full((n,), 3.0), sh)


def bent(gaussians, frame):
    """A known motion: the bar rises at its ends and slides along y."""
    u = frame / (T - 1)
    x = gaussians.means[:, 0]
    lift = torch.stack([torch.zeros_like(x), torch.full_like(x, 0.15 * u), 0.9 * u * x**2], dim=-1)
    return gaussians.replace(means=gaussians.means + lift)


@pytest.fixture(scope="module")
def scene():
    gaussians = blob()
    cameras = rig(azimuths=(0, 120, 240), width=W, height=H)
    moving = stack_gaussians([bent(gaussians, frame) for frame in range(T)])
    with torch.no_grad():
        pictures = render_gaussians(moving, cameras, background=0.0).transpose(0, 1)
    mask = pictures[:, :, 3:]
    return gaussians, cameras, pictures[:, :, :3] / mask.clamp(min=1e-6), mask


def run(scene, **options):
    options = {"iterations": 12, "images_per_step": 6, **SMALL, **options}
    return fit_motion(*scene, **options)


def last(states):
    for state in states:  # noqa: B007
        pass
    return state


def asset_with_motion():
    gaussians = blob(30)
    field = MotionField(gaussians.means, [((6, 5, 7), 4)], 3, 2)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in field.parameters():
            parameter.normal_(generator=generator)
    return MotionAsset(gaussians, field, T)


def test_a_new_field_moves_nothing():
    gaussians = blob(30)
    offsets = MotionField(gaussians.means)(torch.tensor([-0.5, 0.3]))[:3]
    assert [tuple(offset.shape) for offset in offsets] == [(2, 30, 3), (2, 30, 4), (2, 30, 3)]
    assert all(float(offset.detach().abs().max()) == 0 for offset in offsets)


def test_frame_zero_is_the_static_object_exactly():
    asset = asset_with_motion()
    for name, value in asset.at(0).state_dict().items():
        assert float((value - asset.gaussians.state_dict()[name]).abs().max()) == 0, name
    assert float((asset.at(1).means - asset.gaussians.means).abs().max()) > 1e-3
    near_zero = asset.at(1e-4).means - asset.gaussians.means
    torch.testing.assert_close(near_zero, 1e-4 * (asset.at(1).means - asset.gaussians.means), atol=2e-7, rtol=1e-2)


def test_eq_9_adds_the_offsets_and_keeps_colour_and_opacity():
    asset = asset_with_motion()
    offsets = asset.field(torch.tensor([-1 + 2 * 3 / (T - 1)]))
    moved, still = asset.at(3), asset.gaussians
    torch.testing.assert_close(moved.means, still.means + offsets[0][0])
    torch.testing.assert_close(moved.log_scales, still.log_scales + offsets[2][0])
    unit = torch.nn.functional.normalize(still.quats, dim=-1)
    torch.testing.assert_close(moved.quats, torch.nn.functional.normalize(unit + offsets[1][0], dim=-1))
    assert torch.equal(moved.sh, still.sh) and torch.equal(moved.opacity_logits, still.opacity_logits)


@pytest.mark.parametrize("frame", [-0.1, T - 0.9, T, float("nan")])
def test_frames_outside_the_clip_are_refused(frame):
    with pytest.raises(ValueError, match="frames 0 to 4"):
        asset_with_motion().at(frame)


def test_saved_and_loaded_asset_is_the_same_bits(tmp_path):
    asset = asset_with_motion()
    asset.save(tmp_path / "asset.safetensors")
    loaded = MotionAsset.load(tmp_path / "asset.safetensors")
    assert loaded.frames == T
    for frame in (0, 0.5, 1, 3.3, 4):
        for name, value in asset.at(frame).state_dict().items():
            assert torch.equal(value, loaded.at(frame).state_dict()[name]), (frame, name)


@pytest.mark.parametrize("damage", ["absent", "text", "cut", "foreign"])
def test_unreadable_assets_are_refused_in_one_sentence(tmp_path, damage):
    path = tmp_path / "asset.safetensors"
    asset_with_motion().save(path)
    if damage == "absent":
        path.unlink()
    elif damage == "text":
        path.write_text("not an asset")
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:-100])
    else:
        save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(InputError, match=r"asset\.safetensors is not a readable moving asset"):
        MotionAsset.load(path)


def test_a_known_bend_is_recovered_at_views_never_seen(scene):
    gaussians, *_ = scene
    asset = last(run(scene, iterations=150, lr_heads=3e-3)).asset
    judges = rig(azimuths=(60, 200), elevation=0, width=W, height=H)
    with torch.no_grad():
        truth, fit, still = (
            render_gaussians(stack_gaussians([source(f) for f in range(1, T)]), judges)
            for source in (lambda f: bent(gaussians, f), asset.at, lambda f: gaussians)
        )
    share = 1 - float((fit - truth).square().mean() / (still - truth).square().mean())
    assert share > 0.8, share  # the oracle is the truth itself here: its error is 0


def test_states_count_up_and_the_loss_falls(scene):
    states = [(s.iteration, s.total, s.loss, s.frames) for s in run(scene, iterations=40, progressive=0.5)]
    assert [state[:2] for state in states] == [(i + 1, 40) for i in range(40)]
    assert all(state[3] == (1,) for state in states[:5]), "frames must enter one by one"
    assert {frame for state in states for frame in state[3]} == {1, 2, 3, 4}, "every frame but 0 is judged"
    assert sum(s[2] for s in states[-5:]) < 0.6 * sum(s[2] for s in states[20:25])


def table_of(gaussians, seed=0):
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(len(gaussians), T, 3, generator=generator)
    return FeatureTable(values, torch.rand(len(gaussians), T, generator=generator) > 0.3)


def reprojected(asset):
    """Another table that depends on the state of the asset, as a projection of the moved centres does."""
    with torch.no_grad():
        moved = torch.stack([asset.at(frame).means for frame in range(T)], dim=1)
    return FeatureTable(moved * 3, torch.ones(moved.shape[:2], dtype=torch.bool))


def pull_up(asset, generator):
    """A guidance: everything should be higher, at a frame drawn by chance, and redder."""
    frame = 1 + float(torch.rand(1, generator=generator)) * (T - 2)
    moved = asset.batch(torch.tensor([frame]))
    return -moved.means[..., 2].mean() - moved.sh[..., 0].mean()


EVERYTHING = dict(
    iterations=8,
    refine_iterations=5,
    lambda_arap=1.0,
    lambda_arap_refine=2.0,
    lambda_sds=3.0,
    guidance=pull_up,
    gradient_share=0.5,
    scales_move="refine",
    field=dict(planes=[(12, 3), (20, 5)], features=4, levels=2, hidden=8, bias=False, global_transform=True),
    appearance=dict(degree=1, terms=3, lr=1e-2, start=0.5),
    reproject=reprojected,
    reproject_every=4,
    seed=3,
)


@pytest.mark.parametrize("stop", [3, 4, 8, 10])
def test_resumed_fit_is_bitwise_the_uninterrupted_one(scene, tmp_path, stop):
    options = {**EVERYTHING, "table": table_of(scene[0])}
    losses = []
    for state in run(scene, **options):
        losses.append(state.loss)
        if state.iteration == stop:
            save_file(state.checkpoint(), tmp_path / "checkpoint.safetensors")
    whole = state
    resumed, again = run(scene, **options, resume=load_file(tmp_path / "checkpoint.safetensors")), losses[:stop]
    for state in resumed:
        assert state.iteration == len(again) + 1
        again.append(state.loss)
    assert again == losses and state.iteration == 13
    ours, theirs = state.asset.state_dict(), whole.asset.state_dict()
    assert set(ours) == set(theirs) and {name.split(".")[0] for name in ours} == {"field", "table", "appearance"}
    for name, value in theirs.items():
        assert torch.equal(value, ours[name]), name


def test_refinement_follows_reconstruction_with_guidance_and_its_own_arap(scene):
    seen = []

    def watched(asset, generator):
        seen.append(float(torch.rand(1, generator=torch.Generator().set_state(generator.get_state()))))
        return pull_up(asset, generator)

    options = {**EVERYTHING, "guidance": watched, "reproject": None}
    states = [(s.phase, s.terms, s.loss, s.frames) for s in run(scene, **options)]
    assert [phase for phase, *_ in states] == ["reconstruct"] * 8 + ["refine"] * 5
    assert len(seen) == 5 and len(set(seen)) == 5, "once per step, drawn anew"
    for phase, terms, loss, frames in states:
        weight = 2.0 if phase == "refine" else 1.0
        total = 100 * (terms["color"] + terms["coverage"]) + weight * SUM_FORM * terms["arap"]
        assert loss == pytest.approx(total + 3 * terms.get("sds", 0), rel=1e-5)
        assert ("sds" in terms) == (phase == "refine") and 0 not in frames


def test_guidance_moves_field_and_colour(scene):
    plain, pulled = (
        last(run(scene, iterations=4, refine_iterations=6, lambda_sds=weight, guidance=pull_up)).asset.at(3)
        for weight in (0.0, 30.0)
    )
    assert float((pulled.means - plain.means)[:, 2].mean()) > 1e-4
    assert float((pulled.sh - plain.sh)[..., 0].mean()) > 1e-4


def test_a_share_of_gradients_leaves_the_picture_alone(scene):
    first, part, none = (next(run(scene, gradient_share=share, seed=1, lambda_arap=0)) for share in (1.0, 0.3, 1e-9))
    assert part.terms == pytest.approx(first.terms, rel=1e-6)

    def pushed(state):
        """Adam's first moment is a tenth of the gradient."""
        return state.optimizer.state[state.asset.field.heads["means"].last.weight]["exp_avg"].norm()

    assert 0.05 < float(pushed(part) / pushed(first)) < 0.7 and float(pushed(none)) == 0


def test_scales_can_wait_for_the_refinement(scene):
    still = scene[0].log_scales
    for state in run(scene, iterations=4, refine_iterations=3, scales_move="refine"):
        same = torch.equal(state.asset.at(2).log_scales, still)
        assert same == (state.phase == "reconstruct"), state.iteration


def test_brightness_over_time_is_recovered(scene):
    gaussians, cameras, rgb, mask = scene
    lit = rgb * torch.linspace(1, 0.6, T)[:, None, None, None]
    errors = [
        last(run((gaussians, cameras, lit, mask), iterations=60, appearance=appearance)).terms["color"]
        for appearance in (None, {"degree": 0, "terms": 5, "lr": 0.03, "start": 0.25})
    ]
    assert errors[1] < 0.5 * errors[0]


def test_colour_waits_for_its_share_of_the_reconstruction(scene):
    for state in run(scene, iterations=8, appearance={"degree": 0, "terms": 5, "lr": 0.03, "start": 0.5}):
        assert torch.equal(state.asset.at(2).sh, scene[0].sh) == (state.iteration <= 4), state.iteration


def test_gaussians_that_hardly_show_keep_their_colour(scene):
    """Adam alone moves every coefficient as fast as every other, however little a Gaussian shows."""
    gaussians, cameras, rgb, mask = scene
    hidden = gaussians.means[:, 1:].norm(dim=-1) < 0.03  # in the middle of the bar
    lit = rgb * torch.linspace(1, 0.6, T)[:, None, None, None]
    change = []
    for damping in (0.0, 0.4):
        appearance = {"degree": 0, "terms": 5, "lr": 0.03, "start": 0.0, "damping": damping}
        moved = last(run((gaussians, cameras, lit, mask), iterations=20, appearance=appearance)).asset.at(T - 1).sh
        size = (moved - gaussians.sh).norm(dim=(1, 2))
        change.append(float(size[hidden].mean() / size[~hidden].mean()))
    assert 3 < hidden.sum() < 100 and change[1] < 0.8 * change[0], change


def test_a_clip_of_two_frames_and_one_view_fits(scene):
    gaussians, cameras, rgb, mask = scene
    state = last(run((gaussians, cameras[:1], rgb[:1, ::4], mask[:1, ::4]), iterations=6, refine_iterations=2))
    assert state.frames == (1,) and bool(torch.isfinite(state.asset.at(1).means).all())


def test_a_guidance_that_is_not_finite_stops_the_fit_before_it_spoils_the_asset(scene):
    states = run(scene, iterations=2, refine_iterations=2, guidance=lambda *given: pull_up(*given) * math.inf)
    next(states)
    asset = next(states).asset
    with pytest.raises(InputError, match="in iteration 3"):
        next(states)
    assert all(bool(torch.isfinite(value).all()) for value in asset.at(2).state_dict().values())


def test_a_single_gaussian_moves(scene):
    one = scene[0].map(lambda value: value[:1])
    assert bool(torch.isfinite(last(run((one, *scene[1:]), iterations=2)).asset.at(2).means).all())


def test_seed_decides(scene):
    a, b, c = (last(run(scene, iterations=3, seed=seed)).asset.at(2).means for seed in (0, 0, 1))
    assert torch.equal(a, b) and not torch.equal(a, c)


def test_cancel_keeps_a_viewable_asset(scene, tmp_path):
    states = run(scene)
    state = next(states)
    for _ in range(5):
        state = next(states)
    states.close()
    picture = render_gaussians(state.asset.at(3), scene[1])
    assert bool(torch.isfinite(picture).all()) and float(picture[:, 3].max()) > 0.9
    state.asset.save(tmp_path / "a.safetensors")
    assert torch.equal(MotionAsset.load(tmp_path / "a.safetensors").at(3).means, state.asset.at(3).means)


def test_the_given_gaussians_and_pictures_are_not_changed(scene):
    before = [value.clone() for value in (*scene[0].state_dict().values(), scene[2], scene[3])]
    last(run(scene, iterations=3))
    after = [*scene[0].state_dict().values(), scene[2], scene[3]]
    assert all(torch.equal(a, b) for a, b in zip(before, after))


def test_bad_clips_are_refused_by_name(scene):
    gaussians, cameras, rgb, mask = scene
    broken = rgb.clone()
    broken[1, 3, 0, 2, 2] = float("nan")
    empty = mask.clone()
    empty[:, 0] = 0
    for arguments, message in (
        ((gaussians, cameras, broken, mask), "view 1, frame 3"),
        ((gaussians, cameras[:2], rgb, mask), "3 views of 48x40 pixels but there are 2 cameras"),
        ((gaussians, cameras, rgb[:, :1], mask[:, :1]), "1 frame"),
        ((gaussians, cameras, rgb, mask[:, 1:]), "masks"),
        ((gaussians, cameras, rgb, empty), "empty in frame 0"),
        ((gaussians, rig((0, 1, 2), width=H, height=W), rgb, mask), "48x40"),
    ):
        with pytest.raises(InputError, match=message):
            next(fit_motion(*arguments))
    with pytest.raises(InputError, match="of 30 Gaussians and 5 frames"):
        next(fit_motion(*scene, table=table_of(blob(30))))
    state = next(run(scene))
    for other in ({"field": None}, {"appearance": None}, {"table": table_of(gaussians)}):
        with pytest.raises(InputError, match="another fit"):
            next(run(scene, **other, resume=state.checkpoint()))
