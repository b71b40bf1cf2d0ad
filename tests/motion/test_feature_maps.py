"""Feature maps of a clip: what the network is shown, and how maps of odd clips come together."""

import pytest
import torch
from torch import Tensor, nn

from t4d.diffusion.layout import Layout, LayoutSlot
from t4d.diffusion.model import VideoModel
from t4d.diffusion.sampler import starting_noise
from t4d.diffusion.schedule import alpha_bar, linear_alphas_cumprod
from t4d.errors import InputError
from t4d.geometry.camera import Camera, rig
from t4d.motion.feature_maps import clip_features, features_of, resolve_layer, untrained, windows

V, T, S = 3, 5, 16
LAYER = "up_blocks.1.motion_modules.-1"


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.motion_modules = nn.ModuleList([nn.Identity(), nn.Identity()])


class Mirror(nn.Module):
    """A denoiser whose features are what it is shown; its two motion modules differ by a factor of two."""

    def __init__(self, scale=1.0):
        super().__init__()
        self.config = {"scale": scale, "_class_name": "Mirror", "motion_max_seq_length": 32}
        self.up_blocks = nn.ModuleList([nn.Identity(), Block()])
        self.weight = nn.Parameter(torch.randn(()) + 2)
        self._slot = LayoutSlot()
        self.calls: list[dict] = []

    def forward(self, sample: Tensor, timestep: Tensor, **inputs) -> Tensor:
        self.calls.append({"sample": sample.clone(), "timestep": timestep.clone(), **inputs})
        self._slot.current = Layout(*sample.shape[:3])
        first, last = self.up_blocks[1].motion_modules  # type: ignore[union-attr, misc]
        first(sample.flatten(0, 2) * self.config["scale"] / 2)  # type: ignore[operator]
        last((sample.flatten(0, 2) * self.config["scale"],))  # type: ignore[operator]
        return sample * self.weight


class Pixels(nn.Module):
    """Latents are the pictures; the network sees exactly what was prepared."""

    latent_channels, factor = 4, 1

    def encode(self, rgba: Tensor) -> Tensor:
        return rgba.clone()

    def decode(self, z: Tensor, reference_rgba: Tensor) -> Tensor:
        return z

    def condition(self, reference_rgba: Tensor) -> Tensor | None:
        return reference_rgba.mean((-1, -2), keepdim=True)


class Words(nn.Module):
    def encode(self, texts):
        return torch.tensor([[[float(len(text))]] for text in texts]), None


def mirror(scale=1.0, **meta) -> VideoModel:
    return VideoModel(Mirror(scale), Pixels(), Words(), None, meta=meta)


def calls(model: VideoModel) -> list[dict]:
    """What the mirror was shown, look by look."""
    assert isinstance(model.unet, Mirror)
    return model.unet.calls


def clip(height=S, width=S, frames=T, views=V, seed=0):
    """rgb, soft mask, reference over grey, cameras; the clip's frame 0 is not the reference."""
    g = torch.Generator().manual_seed(seed)
    rgb, mask, reference = (
        torch.rand(*shape, height, width, generator=g) for shape in ((views, frames, 3), (views, frames, 1), (views, 4))
    )
    cameras = rig(azimuths=tuple(100 * i for i in range(views)), width=width, height=height)
    return rgb, (mask * 2 - 0.5).clamp(0, 1), reference, cameras


def features(model, data, **options):
    return clip_features(model, *data, prompt="a fox runs", layer=LAYER, **options)


def test_the_network_sees_a_clean_reference_and_a_slightly_noisy_clip():
    model, (rgb, mask, reference, cameras) = mirror(shared_noise=0.5), clip()
    maps = features(model, (rgb, mask, reference, cameras), t=51, seed=7)
    (call,) = calls(model)  # one look, without guidance
    assert call["sample"].shape == (1, V, T, 4, S, S) and call["timestep"].tolist() == [51]
    assert call["text"].tolist() == [[[10.0]]] and call["cameras"].shape == (1, V, 16)
    torch.testing.assert_close(call["cond_concat"], reference.mean((-1, -2), keepdim=True)[None])
    shown = call["sample"][0]
    torch.testing.assert_close(shown[:, 0], reference)
    noise = starting_noise((1, V, T - 1, 4, S, S), 0.5, torch.Generator().manual_seed(7))[0]
    power = float(alpha_bar(51.0, linear_alphas_cumprod()))
    for view in range(V):
        for frame in range(1, T):
            m = mask[view, frame]
            picture = torch.cat([m * rgb[view, frame] + (1 - m) / 2, m])
            wanted = power**0.5 * picture + (1 - power) ** 0.5 * noise[view, frame - 1]
            torch.testing.assert_close(shown[view, frame], wanted)
    assert maps.dtype == torch.float16 and maps.shape == (V, T, 4, S, S)
    torch.testing.assert_close(maps.float(), shown, atol=2e-3, rtol=1e-3)


def test_only_covered_colour_and_the_seed_matter():
    data = clip()
    maps = features(mirror(), data)
    rgb = torch.where(data[1] == 0, torch.rand(data[0].shape), data[0])
    rgb[:, 0] = 0.3  # frame 0 is the reference
    assert not torch.equal(rgb[:, 1:], data[0][:, 1:])
    assert torch.equal(features(mirror(), (rgb, *data[1:])), maps)
    assert not torch.equal(features(mirror(), data, seed=1), maps)


@pytest.mark.parametrize(("frames", "length"), [(2, 16), (16, 16), (17, 16), (64, 16), (9, 2), (48, 7)])
def test_windows_share_frame_0_and_cover_the_rest_once(frames, length):
    found = windows(frames, length)
    assert all(len(window) <= length and window[0] == 0 for window in found)
    assert sorted(int(i) for window in found for i in window[1:]) == list(range(1, frames))
    # evenly thinned: every window spans the clip
    assert all(int(window[-1]) > frames - 1 - len(found) for window in found)
    assert max(len(w) for w in found) - min(len(w) for w in found) <= 1


def test_a_long_clip_is_seen_in_windows_with_one_noise():
    data = clip(frames=12)
    model = mirror(frames=5)
    long = features(model, data, seed=3)
    assert [call["sample"].shape[2] for call in calls(model)] == [5, 5, 4]
    # a network that looks at every frame alone tells no difference
    assert torch.equal(long, features(mirror(frames=12), data, seed=3))
    assert torch.equal(long, features(mirror(), data, seed=3))


@pytest.mark.parametrize(("height", "width"), [(12, 20), (20, 12), (13, 20)])
def test_a_clip_that_is_not_square_is_padded_with_background(height, width):
    rgb, mask, reference, cameras = clip(height, width)
    side = 20
    x, y = (side - width) // 2, (side - height) // 2
    if (side - height) % 2:  # on a grid twice as fine there is no half pixel
        finer = features(
            mirror(size=40),
            [p.repeat_interleave(2, -1).repeat_interleave(2, -2) for p in (rgb, mask, reference)]
            + [[c.resized(2 * width, 2 * height) for c in cameras]],
        )
        again = features(mirror(size=40), (rgb, mask, reference, cameras))
        torch.testing.assert_close(again, finer, atol=2e-3, rtol=2e-3)
        return
    pad = torch.full((V, T, 3, side, side), 0.5), torch.zeros(V, T, 1, side, side), torch.full((V, 4, side, side), 0.5)
    pad[2][:, 3] = 0
    for whole, part in zip(pad, (rgb, mask, reference)):
        whole[..., y : y + height, x : x + width] = part
    square = [Camera(c.world_to_camera, c.K, side, side) for c in cameras]
    wanted = features(mirror(), (*pad, square))
    assert torch.equal(features(mirror(), (rgb, mask, reference, cameras)), wanted)


def test_pictures_are_brought_to_the_models_size():
    data = clip(32, 32)
    maps = features(mirror(size=16), data, t=0).float()
    assert maps.shape[-2:] == (16, 16)
    coarse = nn.functional.interpolate(data[2], (16, 16), mode="bilinear", antialias=True)
    torch.testing.assert_close(maps[:, 0], coarse, atol=2e-3, rtol=1e-3)


def test_huge_features_are_scaled_into_float16_and_broken_ones_refused():
    data = clip()
    small, large = features(mirror(), data).float(), features(mirror(1e7), data).float()
    assert large.isfinite().all() and large.abs().max() > 1e4
    torch.testing.assert_close(large / large.abs().max(), small / small.abs().max(), atol=2e-3, rtol=2e-3)
    with pytest.raises(RuntimeError, match="weights are bad"):
        features(mirror(float("inf")), data)


def test_layers_by_name_and_from_the_end():
    network = Mirror()
    assert resolve_layer(network, LAYER) == "up_blocks.1.motion_modules.1"
    assert resolve_layer(network, "up_blocks.-1.motion_modules.0") == "up_blocks.1.motion_modules.0"
    data = clip()
    first = clip_features(mirror(), *data, "", layer="up_blocks.1.motion_modules.0")
    torch.testing.assert_close(2 * first.float(), features(mirror(), data).float(), atol=4e-3, rtol=2e-3)
    for wrong in ("up_blocks.2.motion_modules.-1", "up_blocks.1.motion_modules.5", "up_blocks.0.-1", "", "nothing"):
        with pytest.raises(InputError, match="does not exist"):
            resolve_layer(network, wrong)


def test_bad_clips_are_refused_in_a_sentence():
    rgb, mask, reference, cameras = clip()
    broken = rgb.clone()
    broken[1, 2, 0, 3, 3] = float("nan")
    cases = [
        ((broken, mask, reference, cameras), "rgb hold values that are not finite"),
        ((rgb[0], mask, reference, cameras), "expected \\[views, 2 or more frames"),
        ((rgb[:, :1], mask[:, :1], reference, cameras), "expected \\[views, 2 or more frames"),
        ((rgb, mask[:, 1:], reference, cameras), "render them in the clip's size"),
        ((rgb, mask, reference[..., 1:], cameras), "render them in the clip's size"),
        ((rgb, mask, reference, cameras[1:]), "one camera of that size per view"),
        ((rgb, mask, reference, rig(azimuths=(0, 1, 2), width=S, height=S + 2)), "one camera of that size per view"),
    ]
    for data, words in cases:
        with pytest.raises(InputError, match=words):
            features(mirror(), data)
    with pytest.raises(InputError, match="0 to 999"):
        features(mirror(), clip(), t=1000)
    with pytest.raises(InputError, match="source 'magic' is unknown"):
        features_of("magic", mirror(), *clip(), "")  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def mini():
    return VideoModel.load("mini")


def test_mini_two_views_long_and_not_square(mini):
    rgb, mask, reference, cameras = clip(48, 64, frames=18, views=2)
    maps = features(mini, (rgb, mask, reference, cameras))
    assert maps.shape == (2, 18, 64, 8, 8) and maps.isfinite().all()
    assert torch.equal(maps, features(mini, (rgb, mask, reference, cameras)))
    assert not torch.equal(maps[0], maps[1]) and not torch.equal(maps[:, 3], maps[:, 4])


def test_controls_have_the_same_shape_and_other_content(mini):
    data = clip(64, 64, frames=3, views=2)
    before = torch.get_rng_state()
    found = {source: features_of(source, mini, *data, "", seed=2) for source in ("trained", "untrained", "random")}
    assert torch.equal(torch.get_rng_state(), before)
    shapes = {source: maps.shape for source, maps in found.items()}
    assert len(set(shapes.values())) == 1
    assert torch.equal(found["trained"], clip_features(mini, *data, "", seed=2))
    assert torch.equal(found["untrained"], features_of("untrained", mini, *data, "", seed=2))
    other = features_of("untrained", mini, *data, "", seed=3).float()
    for maps in (found["trained"], found["random"], other):
        assert (maps.float() - found["untrained"].float()).abs().mean() > 0.05
    noise = found["random"].float()
    assert abs(float(noise.mean())) < 0.03 and abs(float(noise.std()) - 1) < 0.03
    fresh, trained = untrained(mini.unet, 2), mini.unet
    assert type(fresh) is type(trained)
    # one side was loaded from a file and remembers so, under names that start with a low line
    assert {k: v for k, v in trained.config.items() if k[0] != "_"} == dict(fresh.config)  # type: ignore[union-attr, operator]
    assert [p.shape for p in fresh.parameters()] == [p.shape for p in trained.parameters()]
