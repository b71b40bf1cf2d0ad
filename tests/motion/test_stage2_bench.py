"""The Stage Two bench, and the paper's kinds of networks through 4D-SDS at toy size."""

import sys

import pytest
import torch

from eval.bench import stage2
from eval.bench.meter import Meter
from t4d.diffusion import denoise
from t4d.diffusion.autoencoders.sd import SDAutoencoder
from t4d.diffusion.image.clip import CLIPPictureEncoder
from t4d.diffusion.model import VideoModel
from t4d.diffusion.schedule import PAPER_SCHEDULE
from t4d.diffusion.unet import MultiViewMotionUNet
from t4d.motion import sds
from t4d.motion.asset import MotionAsset
from t4d.motion.field import MotionField
from t4d.motion.random_rig import random_rig
from t4d.motion.sds import VideoGuidance
from t4d.splat.gaussians import Gaussians

H, W, V, T = 32, 48, 2, 4


def paper_like() -> VideoModel:
    torch.manual_seed(0)
    tower = {"hidden_size": 12, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    unet = MultiViewMotionUNet(
        block_out_channels=(8, 8),
        layers_per_block=1,
        norm_num_groups=4,
        cross_attention_dim=12,
        num_attention_heads=2,
        motion_num_attention_heads=2,
        image_embed_dim=6,
        strides=(2,),
        kv_pool=(1, 1),
    )
    picture = {**tower, "patch_size": 16, "image_size": 32, "projection_dim": 6}
    parts = (unet, SDAutoencoder((8, 8, 8, 8), 1, 4, 4), stage2.UnreadSentences(tower), CLIPPictureEncoder(picture))
    return VideoModel(*parts, dict(PAPER_SCHEDULE), "random weights", {"drop_image": True})


def small_asset() -> MotionAsset:
    g = torch.Generator().manual_seed(0)
    n = 40
    gaussians = Gaussians(
        0.4 * torch.randn(n, 3, generator=g),
        torch.randn(n, 4, generator=g),
        torch.tensor([0.15, 0.08, 0.05]).log().expand(n, 3).contiguous(),
        torch.full((n,), 2.0),
        torch.randn(n, 1, 3, generator=g),
    )
    field = MotionField(gaussians.means, planes=((12, 4),), features=4)
    with torch.no_grad():
        for parameter in field.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=g))
    return MotionAsset(gaussians, field, T)


def test_the_paper_s_networks_give_4d_sds_of_pictures_that_are_not_square() -> None:
    model, asset = paper_like(), small_asset()
    guidance = VideoGuidance(model, "a ball", size=(H, W), frames=T, views=V, scale=6.0)
    meter = Meter(torch.device("cpu"))
    stage2.measure_sds(meter, asset, guidance, 2)
    rows = meter.medians()
    assert len(rows) == 6 and all(row["seconds"] > 0 and row["runs"] == 2 for row in rows.values())
    guidance(asset, torch.Generator().manual_seed(0)).backward()
    assert all(p.grad is None for part in model.parts.values() for p in part.parameters())
    assert any(p.grad is not None and float(p.grad.abs().max()) > 0 for p in asset.field.parameters())


def test_a_chunked_encoder_keeps_values_and_gradients_and_computes_twice() -> None:
    guidance = VideoGuidance(paper_like(), "a ball", size=(H, W), frames=T, views=V)
    vae = guidance.model.autoencoder
    rgba = guidance.render(small_asset(), random_rig(torch.Generator().manual_seed(0), (H, W), V), torch.arange(1, T))
    calls: list[int] = []
    vae.vae.encoder.register_forward_hook(lambda module, inputs, output: calls.append(len(inputs[0])))  # type: ignore
    found = []
    for vae.chunk in (3, 100):  # type: ignore[attr-defined]
        calls.clear()
        leaf = rgba.detach().requires_grad_()
        z = guidance.encode(leaf)
        forward = list(calls)
        (slope,) = torch.autograd.grad(z.square().sum(), leaf)
        found.append((z.detach(), slope, forward, list(calls)))
    (z, slope, forward, both), (z_whole, slope_whole, *whole) = found
    assert forward == [3, 3, 2] and sorted(both) == sorted(2 * forward) and whole == [[8], [8]]
    torch.testing.assert_close(z, z_whole, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(slope, slope_whole, atol=1e-5, rtol=1e-3)


def test_half_precision_touches_the_network_only(monkeypatch: pytest.MonkeyPatch) -> None:
    asset, losses = small_asset(), []
    guidance = VideoGuidance(paper_like(), "a ball", size=(H, W), frames=T, views=V, scale=2.0)
    for half in (False, True):
        if half:  # what CUDA does, on the CPU
            for module in (sds, denoise):
                monkeypatch.setattr(module, "half_precision", lambda _: torch.autocast("cpu", torch.bfloat16))
        cameras = random_rig(torch.Generator().manual_seed(0), (H, W), V)
        z = guidance.encode(guidance.render(asset, cameras, torch.arange(1, T)))
        target = guidance.denoise(z, torch.rand(V, 4, H, W), cameras, 100, torch.Generator().manual_seed(0))
        assert z.dtype == target.dtype == torch.float32
        losses.append(float(guidance(asset, torch.Generator().manual_seed(0)).detach()))
    assert losses[1] != losses[0] and losses[1] == pytest.approx(losses[0], rel=0.05)


@pytest.mark.parametrize("has", [False, True])
def test_gpus_that_only_emulate_bf16_compute_in_single(has: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: has or including_emulation)
    seen: list[bool] = []
    monkeypatch.setattr(torch, "autocast", lambda *_, enabled: seen.append(enabled))
    for device in ("cuda", "cpu"):
        denoise.half_precision(torch.device(device))
    assert seen == [has, False]


@pytest.mark.gpu
def test_cuda_computes_in_half_precision_what_the_cpu_does_in_single() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    pytest.importorskip("gsplat", reason="gsplat is not installed")
    losses, slopes = [], []
    for device in ("cpu", "cuda"):
        model, asset = paper_like().to(device), small_asset().to(device)
        guidance = VideoGuidance(model, "a ball", size=(H, W), frames=T, views=V, scale=2.0)
        loss = guidance(asset, torch.Generator().manual_seed(0))
        loss.backward()
        losses.append(float(loss.detach()))
        slopes.append(torch.cat([p.grad.flatten().cpu() for p in asset.field.parameters() if p.grad is not None]))
    assert losses[1] == pytest.approx(losses[0], rel=0.05)
    assert float(torch.cosine_similarity(slopes[0], slopes[1], dim=0)) > 0.95


def test_the_paper_s_size_is_refused_without_a_cuda_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["stage2", "--paper"])
    with pytest.raises(SystemExit, match="CUDA device and none was found"):
        stage2.main()
