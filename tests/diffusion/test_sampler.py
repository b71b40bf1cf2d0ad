"""The sampler against closed forms, diffusers' own timetable and its promises."""

import itertools

import pytest
import torch
from diffusion_dummies import Blocks, Oracle, oracle_model
from torch import nn

from t4d.diffusion.denoise import Conditioning, denoise_once
from t4d.diffusion.free_init import butterworth, reinitialise
from t4d.diffusion.model import VideoModel
from t4d.diffusion.sampler import sample_clip
from t4d.diffusion.schedule import PAPER_SCHEDULE, linear_alphas_cumprod
from t4d.diffusion.schedulers import SHORT_NAMES, build_scheduler
from t4d.errors import Cancelled, InputError
from t4d.geometry.camera import rig

V, T, H, W = 3, 5, 16, 24


@pytest.fixture
def clip():
    return torch.rand(V, T, 4, H // 4, W // 4, generator=torch.Generator().manual_seed(3))


def cameras():
    return rig((0.0, 120.0, 240.0), width=W, height=H)


def calls_of(model: VideoModel) -> list[dict]:
    assert isinstance(model.unet, Oracle)
    return model.unet.calls


def reference_of(clip):
    return clip[:, 0].repeat_interleave(4, -1).repeat_interleave(4, -2)


def run(model, clip, **options):
    settings = {"frames": T, "steps": 6, "seed": 1, **options}
    return list(sample_clip(model, reference_of(clip), cameras(), "a fox runs", **settings))


def test_paper_timetable_is_961_to_1():
    scheduler = build_scheduler("ddim", PAPER_SCHEDULE)
    scheduler.set_timesteps(25)
    assert scheduler.timesteps.tolist() == list(range(961, 0, -40))
    torch.testing.assert_close(scheduler.alphas_cumprod, linear_alphas_cumprod(), rtol=1e-6, atol=0)
    assert abs(float(scheduler.alphas_cumprod[0]) - 0.99915) < 1e-5
    assert abs(float(scheduler.alphas_cumprod[-1]) - 0.001579) < 1e-6


@pytest.mark.parametrize("kind", ["epsilon", "sample", "v_prediction"])
@pytest.mark.parametrize("name", ["ddim", "unipc", "dpm++", "euler", "deis", "ddpm"])
def test_every_scheduler_recovers_what_the_denoiser_knows(clip, kind, name):
    x0 = 2 * clip[None] - 1
    states = run(oracle_model(x0, kind), clip, scheduler=name, steps=12)
    last = states[-1]
    assert last.step == last.total == len(states)
    expected = clip.repeat_interleave(4, -1).repeat_interleave(4, -2)
    assert last.clip_rgba is not None and last.clip_rgba.shape == (V, T, 4, H, W)
    assert (last.clip_rgba - expected).abs().max() < (0.15 if name in ("ddpm", "euler", "deis") else 0.02)
    assert all((state.x0 - x0[0]).abs().max() < 2e-3 for state in states)
    assert all(state.clip_rgba is None for state in states[:-1])


@pytest.mark.parametrize("spacing", ["leading", "trailing"])
def test_ddim_agrees_with_the_plain_diffusers_loop(clip, spacing):
    x0 = 2 * clip[None] - 1
    model = oracle_model(x0 * 0.3)
    model.scheduler_config["timestep_spacing"] = spacing
    found = run(model, clip)[-1].latents

    scheduler = build_scheduler("ddim", model.scheduler_config)
    scheduler.set_timesteps(6)
    noise = torch.randn(1, V, T - 1, 4, H // 4, W // 4, generator=torch.Generator().manual_seed(1))
    whole = torch.cat([x0[:, :, :1], noise], dim=2)
    for t in scheduler.timesteps:
        with torch.no_grad():
            whole = scheduler.step(model.unet(whole, t.expand(1)), t, whole).prev_sample
        whole[:, :, 0] = x0[:, :, 0]  # clean frame 0 written back after every step
    torch.testing.assert_close(found, whole[0], rtol=0, atol=1e-5)


def test_frame_0_is_clean_at_every_call_and_guidance_drops_words_and_picture(clip):
    x0 = 2 * clip[None] - 1
    model = oracle_model(x0)
    run(model, clip, guidance=3.0)
    assert len(calls_of(model)) == 6
    for call in calls_of(model):
        assert call["sample"].shape[0] == 2
        torch.testing.assert_close(call["sample"][:, :, 0], x0[:, :, 0].expand(2, -1, -1, -1, -1))
        assert call["text"][:, 0, 0].tolist() == [0.0, 10.0]  # "" first, then the prompt
        assert call["image_embeds"][0].abs().max() == 0 and call["image_embeds"][1].abs().max() > 0
        assert torch.equal(call["cameras"][0], call["cameras"][1])


def test_mean_beta_noises_frame_0_more_at_large_times(clip):
    x0 = 2 * clip[None] - 1
    model = oracle_model(x0)
    states = run(model, clip, first_frame="mean_beta")
    off = [(call["sample"][:, :, 0] - x0[:, :, 0]).std().item() for call in calls_of(model)]
    assert all(a > b - 1e-6 for a, b in itertools.pairwise(off)) and off[0] > 1.3 * off[-1] > 0.2
    torch.testing.assert_close(states[-1].latents[:, 0], x0[0, :, 0])


def test_seed_decides_everything_and_free_init_resamples(clip):
    x0 = torch.zeros(1, V, T, 4, H // 4, W // 4)

    class Half(nn.Module):
        def __init__(self):
            super().__init__()
            self.anchor = nn.Parameter(torch.zeros(()))

        def forward(self, sample, timestep, **_):
            return 0.7 * sample

    model = oracle_model(x0)
    model.unet = Half()
    first, again, other = (run(model, clip, seed=seed)[-1].latents for seed in (5, 5, 6))
    assert torch.equal(first, again) and not torch.equal(first, other)
    states = run(model, clip, seed=5, free_init=3)
    assert len(states) == states[-1].total == 18
    torch.testing.assert_close(states[5].latents, first)
    assert not torch.allclose(states[-1].latents, first)


def test_ancestral_scheduler_repeats_for_a_seed(clip):
    model = oracle_model(2 * clip[None] - 1)
    runs = [run(model, clip, scheduler="euler_a")[2].latents for _ in range(2)]
    assert torch.equal(*runs)


def test_shared_noise_correlates_frames_and_keeps_power(clip):
    model = oracle_model(torch.zeros(1, V, T, 4, H // 4, W // 4))
    run(model, clip, shared_noise=0.6)
    noise = calls_of(model)[0]["sample"][0, :, 1:].double()
    assert abs(float(noise.square().mean()) - 1) < 0.15
    assert 0.45 < float((noise[:, 0] * noise[:, 1]).mean()) < 0.75


class Undecided(Oracle):
    """Predicts another clip at every call."""

    def forward(self, sample, timestep, **inputs):
        generator = torch.Generator().manual_seed(len(self.calls))
        self.x0 = torch.randn(1, V, T, 4, H // 4, W // 4, generator=generator)
        return super().forward(sample, timestep, **inputs)


@pytest.mark.parametrize("free_init", [0, 2])
def test_truncation_is_between_the_first_guess_and_the_sample(clip, free_init):
    def states_of(**options):
        model = oracle_model(2 * clip[None] - 1, "sample", **options.pop("meta", {}))
        model.unet = Undecided(torch.zeros(1), "sample")
        return run(model, clip, free_init=free_init, **options)

    plain, none, part = states_of(), states_of(truncation=0.0), states_of(truncation=0.3)
    guess, sample = plain[0].x0, plain[-1].latents
    assert not torch.allclose(guess[:, 1:], sample[:, 1:])
    torch.testing.assert_close(none[-1].latents, guess)
    torch.testing.assert_close(part[-1].latents, 0.7 * guess + 0.3 * sample)
    torch.testing.assert_close(part[-1].x0, 0.7 * guess + 0.3 * plain[-1].x0)
    assert torch.equal(part[-1].latents[:, 0], sample[:, 0])  # frame 0 is given
    for a, b in zip(plain[:-1], part[:-1]):
        assert torch.equal(a.latents, b.latents)
    shown = Blocks().decode(part[-1].latents[None], torch.zeros(0))[0].clamp(0, 1)
    torch.testing.assert_close(part[-1].clip_rgba, shown)

    # the model's own setting, and that of the call before it
    assert torch.equal(states_of(meta={"truncation": 0.3})[-1].latents, part[-1].latents)
    assert torch.equal(states_of(meta={"truncation": 0.3}, truncation=1.0)[-1].latents, sample)


def test_cancel_stops_before_the_next_call(clip):
    model = oracle_model(2 * clip[None] - 1)
    with pytest.raises(Cancelled, match="Stopped after 2 of 6"):
        run(model, clip, cancel=lambda: len(calls_of(model)) == 2)
    assert len(calls_of(model)) == 2


def test_guidance_and_rescale_formula():
    g = torch.Generator().manual_seed(0)
    z = torch.randn(1, 2, 3, 4, 5, 6, generator=g)
    answers = torch.randn(2, 2, 3, 4, 5, 6, generator=g)
    condition = Conditioning(torch.ones(1, 2, 3), None, torch.ones(1, 2, 4), torch.zeros(1, 2, 16), None)
    null = condition.unconditional(torch.zeros(1, 2, 3), None)
    alphas = linear_alphas_cumprod()

    def network(sample, timestep, **_):
        return answers

    plain = denoise_once(network, z, 400, condition, null, alphas, "epsilon", guidance=6.0)  # type: ignore[arg-type]
    torch.testing.assert_close(plain.prediction, answers[:1] + 6 * (answers[1:] - answers[:1]))
    a = alphas[400]
    torch.testing.assert_close(plain.x0, (z - (1 - a).sqrt() * plain.prediction) / a.sqrt())
    scaled = denoise_once(
        network,  # type: ignore[arg-type]
        z,
        400,
        condition,
        null,
        alphas,
        "epsilon",
        guidance=6.0,
        rescale=1.0,
    )
    later = scaled.x0[:, :, 1:].std(), scaled.x0_conditional[:, :, 1:].std()
    torch.testing.assert_close(*later, rtol=1e-4, atol=0)
    torch.testing.assert_close(scaled.x0, (z - (1 - a).sqrt() * scaled.prediction) / a.sqrt(), rtol=1e-4, atol=1e-4)


def test_butterworth_passes_only_low_frequencies():
    low = butterworth(15, 8, 6)
    assert low.shape == (15, 8, 6)
    assert low[7, 4, 3] > 0.99 and low[0, 0, 0] < 1e-6
    g = torch.Generator().manual_seed(0)
    flat = torch.ones(1, 2, 7, 3, 8, 6)
    mixed = reinitialise(flat, torch.zeros_like(flat), linear_alphas_cumprod(), g)
    assert abs(float(mixed.mean()) - linear_alphas_cumprod()[-1].sqrt()) < 0.02  # the mean is a low frequency
    assert 0.8 < float(mixed.std()) < 1.1


@pytest.mark.parametrize(
    "change, message",
    [
        ({"frames": 1}, "at least 2 frames"),
        ({"scheduler": "nonsense"}, "No scheduler is called"),
        ({"scheduler": "AutoencoderKL"}, "No scheduler is called"),
        ({"first_frame": "dirty"}, "use 'clean' or 'mean_beta'"),
        ({"truncation": 1.2}, r"truncation is 1.2; use 0 .* to 1"),
    ],
)
def test_bad_settings_are_refused_in_one_sentence(clip, change, message):
    with pytest.raises(InputError, match=message):
        run(oracle_model(2 * clip[None] - 1), clip, **change)


def test_bad_pictures_are_refused(clip):
    model = oracle_model(2 * clip[None] - 1)
    with pytest.raises(InputError, match="one camera each"):
        list(sample_clip(model, reference_of(clip)[:2], cameras(), "x"))
    with pytest.raises(InputError, match="multiples of 4"):
        list(sample_clip(model, reference_of(clip)[..., :-1], cameras(), "x"))
    with pytest.raises(InputError, match="not finite"):
        list(sample_clip(model, reference_of(clip) * float("nan"), cameras(), "x"))


def test_heun_and_pndm_count_their_own_calls(clip):
    model = oracle_model(2 * clip[None] - 1)
    for name in ("heun", "pndm"):
        assert name in SHORT_NAMES
        states = run(model, clip, scheduler=name)
        assert states[-1].step == states[-1].total == len(states) > 6
