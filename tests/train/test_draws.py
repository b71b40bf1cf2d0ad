"""What is random about a training clip: keyed by its place in the global batch, and consistent within the clip."""

import pytest
import torch

from t4d.diffusion.autoencoders.reference import ReferenceAutoencoder
from t4d.diffusion.autoencoders.sd import SDAutoencoder
from t4d.diffusion.interfaces import PosteriorAutoencoder
from t4d.diffusion.schedule import linear_alphas_cumprod
from t4d.diffusion.weights import load_module, save_module
from t4d.errors import InputError
from train.config import Curriculum, OptimConfig, StageOneTrainConfig
from train.draws import clean_latents, draw, noised
from train.stage1 import term_counts

V, T, N, SIDE = 4, 5, 9, 32
ALPHAS = linear_alphas_cumprod()


def config(**more) -> StageOneTrainConfig:
    more = {"tracking": {"points": 3}, **more}
    return StageOneTrainConfig(optim=OptimConfig(steps=6, batch=1, lr=1e-3), **more)


def clips(count: int = 2, **changes) -> dict:
    """Clips whose every field says which view and frame it belongs to."""
    g = torch.Generator().manual_seed(1)
    view = torch.arange(V).view(1, V, 1, 1, 1)
    frame = torch.arange(T).view(1, 1, T, 1, 1)
    rgba = ((10 * view + frame) / 100).view(1, V, T, 1, 1, 1).expand(count, V, T, 4, SIDE, SIDE).float()
    xy = torch.stack(
        [(10 * view + frame).expand(count, V, T, N, 1)[..., 0], torch.arange(N).expand(count, V, T, N)], -1
    )
    found = {
        "rgba": rgba,
        "flow": (10 * view + frame).view(1, V, T, 1, 1, 1).expand(count, V, T, 2, SIDE // 2, SIDE // 2).float(),
        "cameras": torch.arange(float(V)).view(1, V, 1).expand(count, V, 16),
        "tracks": xy.float(),
        "visible": torch.rand(count, V, T, N, generator=g) < 0.7,
        "query_valid": torch.rand(count, V, N, generator=g) < 0.6,
        "caption": [f"clip {i}" for i in range(count)],
    }
    return {**found, **changes}


STAGE = Curriculum(until=1, views=3, frames=4, batch=2)


def test_pictures_flow_tracks_and_cameras_stay_together():
    turns = set()
    for step in range(12):
        found = draw(clips(), STAGE, config(turn_views=0.5, text_dropout=0.5), step, [0, 1], 1000)
        assert found.rgba.shape == (2, 3, 4, 4, SIDE, SIDE) and found.flow is not None and found.points is not None
        shown = (100 * found.rgba[:, :, :, 0, 0, 0]).round()  # 10 view + frame
        assert torch.equal(found.flow[:, :, :, 0, 0, 0], shown)
        taken = found.points.xy[..., 0]
        assert torch.equal(taken, shown[..., None].expand_as(taken))
        assert torch.equal(shown % 10, torch.arange(4.0).expand(2, 3, 4))
        for clip in range(2):
            turn = (found.cameras[clip, :, 0] - shown[clip, :, 0].div(10, rounding_mode="floor")) % V
            assert (turn == turn[0]).all()  # one turn for all views of a clip
            turns.add(int(turn[0]))
        assert set(found.captions) <= {"clip 0", "clip 1", ""}
    assert len(turns) > 1


def test_points_are_valid_ones_with_their_own_visibility():
    data = clips()
    found = draw(data, Curriculum(until=1, views=V, frames=T, batch=2), config(turn_views=0), 0, [0, 1], 1000)
    assert found.points is not None
    index = found.points.xy[..., 0, :, 1].long()  # y is the point's number
    assert found.points.image_size == (SIDE, SIDE)
    for b in range(2):
        for v in range(V):
            kept = index[b, v][found.points.chosen[b, v]]
            assert len(kept) == len(set(kept.tolist())) == min(3, int(data["query_valid"][b, v].sum()))
            assert data["query_valid"][b, v, kept].all()
            seen = found.points.visible[b, v][:, found.points.chosen[b, v]]
            assert torch.equal(seen, data["visible"][b, v][:, kept])


def test_a_clips_draws_depend_on_its_place_alone():
    together = draw(clips(3), STAGE, config(high_noise=0.5), 7, [4, 5, 6], 1000)
    alone = draw(clips(1, caption=["clip 1"]), STAGE, config(high_noise=0.5), 7, [5], 1000)
    assert together.points is not None and alone.points is not None
    assert together.captions[1] == alone.captions[0] and together.t[1] == alone.t[0]
    assert torch.equal(together.rgba[1], alone.rgba[0])
    model = ReferenceAutoencoder(widths=(8, 8, 8), working_side=SIDE).eval()
    a, b = (
        noised(drawn, model, ALPHAS, config(first_frame_noise=True, shared_noise=0.4), torch.device("cpu"))
        for drawn in (together, alone)
    )
    assert torch.equal(a.noise[1], b.noise[0]) and torch.equal(a.z_t[1], b.z_t[0])
    assert not torch.equal(a.noise[0], a.noise[1])
    other = draw(clips(3), STAGE, config(high_noise=0.5), 8, [4, 5, 6], 1000)
    assert not torch.equal(together.t, other.t)
    # what the tracking losses draw shifts nothing else: variants of a paired experiment see the same noise
    off = draw(
        clips(3), STAGE, config(high_noise=0.5, tracking={"lambda_corr": 0, "lambda_pos": 0}), 7, [4, 5, 6], 1000
    )
    assert off.points is None and torch.equal(off.t, together.t)
    c = noised(off, model, ALPHAS, config(first_frame_noise=True, shared_noise=0.4), torch.device("cpu"))
    assert torch.equal(c.z_t, a.z_t)


def test_noise_of_the_forward_process_and_its_shared_part():
    drawn = draw(clips(4), Curriculum(until=1, views=V, frames=T, batch=4), config(), 0, range(4), 1000)
    model = ReferenceAutoencoder(widths=(8, 8, 8), working_side=SIDE).eval()
    plain = noised(drawn, model, ALPHAS, config(shared_noise=0.75), torch.device("cpu"))
    a = ALPHAS[drawn.t].view(-1, 1, 1, 1, 1, 1)
    expected = a.sqrt() * plain.z + (1 - a).sqrt() * plain.noise  # Eq. 1
    torch.testing.assert_close(plain.z_t[:, :, 1:], expected[:, :, 1:])
    assert torch.equal(plain.z_t[:, :, 0], plain.z[:, :, 0])  # without Eq. 2 frame 0 is clean
    x, y = plain.noise[:, :, 0].flatten(), plain.noise[:, :, 1].flatten()
    assert abs(float(torch.corrcoef(torch.stack([x, y]))[0, 1]) - 0.75) < 0.05 and abs(float(x.std()) - 1) < 0.05
    dirty = noised(drawn, model, ALPHAS, config(shared_noise=0.75, first_frame_noise=True), torch.device("cpu"))
    assert torch.equal(dirty.noise, plain.noise) and not torch.equal(dirty.z_t[:, :, 0], dirty.z[:, :, 0])


def test_latents_are_taken_where_the_clips_have_them():
    model = ReferenceAutoencoder(widths=(8, 8, 8), working_side=SIDE).eval()
    stage = Curriculum(until=1, views=V, frames=T, batch=2)
    stored = torch.randn(2, V, T, model.latent_channels, 4, 4).half()
    drawn = draw(clips(latents=stored), stage, config(turn_views=0), 0, [0, 1], 1000)
    assert torch.equal(clean_latents(model, drawn, drawn.rgba), stored.float())
    exact = draw(clips(), stage, config(turn_views=0), 0, [0, 1], 1000)
    assert float(clean_latents(model, exact, exact.rgba)[:, :, 0].abs().max()) == 0
    pictures = clips()
    del pictures["flow"]
    video = draw(pictures, stage, config(turn_views=0), 0, [0, 1], 1000)
    assert video.flow is None
    torch.testing.assert_close(clean_latents(model, video, video.rgba), model.encode(video.rgba))


def sd_autoencoder(folder, chunk: int) -> SDAutoencoder:
    """A tiny one as a model folder gives it."""
    torch.manual_seed(3)
    save_module(SDAutoencoder((8, 8, 8, 8), 1, 4, 4, chunk=chunk), folder, torch.float32)
    return load_module(SDAutoencoder, folder)


def test_training_takes_samples_of_the_posterior_each_the_clips_own(tmp_path):
    cpu, plain, data = torch.device("cpu"), config(turn_views=0), clips(3)
    del data["flow"]
    model = sd_autoencoder(tmp_path / "a", chunk=5)
    assert not model.training and isinstance(model, PosteriorAutoencoder)

    def z(places, step=0, seed=0, network=model):
        some = {n: [x[i] for i in places] if n == "caption" else x[list(places)] for n, x in data.items()}
        drawn = draw(some, STAGE, plain.model_copy(update={"seed": seed}), step, places, 1000)
        return noised(drawn, network, ALPHAS, plain, cpu).z, drawn

    torch.manual_seed(0)
    found, drawn = z([0, 1, 2])
    after = torch.rand(())
    torch.manual_seed(0)
    assert torch.equal(after, torch.rand(()))  # nobody else's random numbers are used up

    with torch.no_grad():
        mean = model.encode(drawn.rgba)
        moments = [model.vae.encode(2 * x[:, :3] - 1).latent_dist for x in drawn.rgba.flatten(0, 2).split(5)]
        torch.testing.assert_close(clean_latents(model, drawn, drawn.rgba), mean)  # where nobody asks for a sample
    std = torch.cat([m.std for m in moments]).unflatten(0, mean.shape[:3]) * model.scaling_factor
    off = ((found - mean) / std).flatten(1)
    assert float(off.std()) == pytest.approx(1, abs=0.1) and abs(float(off.mean())) < 0.1
    assert (torch.corrcoef(off) - torch.eye(3)).abs().max() < 0.2  # no two clips are off alike

    torch.testing.assert_close(z([0, 1, 2])[0], found, rtol=0, atol=0)
    apart = torch.cat([z([0])[0], z([1, 2])[0]])
    torch.testing.assert_close(apart, found, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(z([0, 1, 2], network=sd_autoencoder(tmp_path / "b", 2))[0], found, rtol=1e-4, atol=1e-5)
    for other in (z([0, 1, 2], step=1)[0], z([0, 1, 2], seed=1)[0]):
        assert float((other - found).abs().mean()) > 0.5 * float(std.mean())


def test_latents_without_a_posterior_are_encoded_as_ever():
    model = ReferenceAutoencoder(widths=(8, 8, 8), working_side=SIDE).eval()
    assert not isinstance(model, PosteriorAutoencoder)
    pictures = clips()
    del pictures["flow"]
    drawn = draw(pictures, STAGE, config(), 0, [0, 1], 1000)
    found = noised(drawn, model, ALPHAS, config(), torch.device("cpu")).z
    with torch.no_grad():
        torch.testing.assert_close(found, model.encode(drawn.rgba))


def test_counts_of_terms_and_late_times():
    stage = Curriculum(until=1, views=V, frames=T, batch=2)
    every = clips(visible=torch.ones(2, V, T, N, dtype=torch.bool), query_valid=torch.ones(2, V, N, dtype=torch.bool))
    drawn = [draw(every, stage, config(), s, [0, 1], 1000) for s in range(2)]
    assert term_counts(drawn, config()).tolist() == [2 * 2 * V * (T - 1) * 3] * 2
    hidden = {**every, "visible": torch.zeros(2, V, T, N, dtype=torch.bool)}
    assert term_counts([draw(hidden, stage, config(), 0, [0, 1], 1000)], config()).tolist() == [0, 0]
    early = config(tracking={"points": 3, "t_max": 300})
    found = draw(every, stage, early, 3, range(2), 1000)
    assert found.points is not None
    assert torch.equal(found.points.chosen.flatten(1).all(1), found.t < 300)
    assert torch.equal(found.points.chosen.flatten(1).any(1), found.t < 300)
    off = config(tracking={"lambda_corr": 0, "lambda_pos": 0})
    assert term_counts([draw(every, stage, off, 0, [0, 1], 1000)], off).tolist() == [0, 0]


def test_wrong_clips_are_refused():
    bare = clips()
    del bare["tracks"]
    with pytest.raises(InputError, match="no tracks"):
        draw(bare, STAGE, config(), 0, [0, 1], 1000)
    with pytest.raises(InputError, match="4 views of 5 frames"):
        draw(clips(), Curriculum(until=1, views=V, frames=T + 1, batch=2), config(), 0, [0, 1], 1000)
