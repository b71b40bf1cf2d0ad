"""Gradient checkpointing: the same numbers in less memory, whatever happens between the two passes."""

import pytest
import torch
from diffusion_dummies import small_unet, unet_inputs
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel

from eval.bench.live_bytes import LiveBytes
from eval.bench.stage1_paper import without_numbers
from t4d.diffusion.checkpointing import recompute
from t4d.diffusion.features import FeatureTap
from t4d.diffusion.unet import MultiViewMotionUNet

LAYER = "up_blocks.1.motion_modules.1"
SMALL = {"V": 2, "T": 3, "h": 4, "w": 6}
TRAINED = ("i2v", "motion_modules")


def network(checkpointed: bool, frozen: bool = True) -> MultiViewMotionUNet:
    torch.manual_seed(0)
    unet = small_unet(
        block_out_channels=(8, 16), num_attention_heads=2, motion_num_attention_heads=2, strides=(2,), kv_pool=(2, 1)
    )
    if checkpointed:
        unet.enable_gradient_checkpointing()
    if frozen:
        for name, parameter in unet.named_parameters():
            parameter.requires_grad_(any(part in name for part in TRAINED))
    return unet


def gradients(unet: MultiViewMotionUNet) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in unet.named_parameters() if p.grad is not None}


def same(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    assert found.keys() == wanted.keys() and wanted
    for name, value in wanted.items():
        assert torch.equal(found[name], value), name


def tapped_losses(unet: MultiViewMotionUNet) -> tuple[list[Tensor], Tensor]:
    """Losses of two passes of other layouts, under a choice of attention that ends before the backward pass."""
    with sdpa_kernel(SDPBackend.MATH), torch.autocast("cpu", torch.bfloat16), FeatureTap(unet, [LAYER]) as tap:
        first = unet(**unet_inputs(B=2, **SMALL)).float().square().mean()
        maps = tap.maps()[LAYER]
    second = unet(**unet_inputs(V=3, T=2, h=6, w=4)).square().mean()
    return [first, second, maps.float().square().mean()], maps


@pytest.mark.parametrize("frozen", [True, False])
def test_values_and_gradients_are_the_same_to_the_bit(frozen):
    found = []
    for checkpointed in (False, True):
        unet = network(checkpointed, frozen)
        losses, _ = tapped_losses(unet)
        torch.stack(losses).sum().backward()
        found.append((losses, gradients(unet)))
    for plain, again in zip(found[0][0], found[1][0]):
        assert torch.equal(plain, again)
    same(found[1][1], found[0][1])


def test_gradients_of_single_terms_can_be_asked_for_before_the_backward_pass():
    """As the program does to log how much each loss pulls."""
    found = []
    for checkpointed in (False, True):
        unet = network(checkpointed)
        losses, maps = tapped_losses(unet)
        parameters = [p for p in unet.parameters() if p.requires_grad]
        terms = [
            torch.autograd.grad(loss, [maps, *parameters], retain_graph=True, allow_unused=True)
            for loss in (losses[0], losses[2])
        ]
        torch.stack(losses).sum().backward()
        found.append((terms, gradients(unet)))
    for plain, again in zip(found[0][0], found[1][0]):
        assert [g is None for g in plain] == [g is None for g in again]
        assert all(torch.equal(g, h) for g, h in zip(plain, again) if g is not None)
    same(found[1][1], found[0][1])


def test_without_gradients_nothing_changes():
    unet = network(True)
    with torch.no_grad():
        assert torch.equal(unet(**unet_inputs(**SMALL)), network(False)(**unet_inputs(**SMALL)))
    unet.disable_gradient_checkpointing()
    assert not any(getattr(module, "gradient_checkpointing", False) for module in unet.modules())


def test_every_heavy_part_is_computed_twice_and_none_three_times():
    unet = network(True)
    counts: dict[str, int] = {}
    kinds = ("ResnetBlock2D", "Attention", "FeedForward")
    for name, module in unet.named_modules():
        if type(module).__name__ in kinds:
            module.register_forward_pre_hook(lambda *_, name=name: counts.update({name: counts.get(name, 0) + 1}))
    unet(**unet_inputs(**SMALL)).square().mean().backward()
    motion = [n for name, n in counts.items() if "motion_modules" in name]
    assert motion and set(motion) == {2}
    # the first layers lie below everything that is trained: they need no second pass
    assert set(counts.values()) <= {1, 2} and sum(n == 1 for n in counts.values()) < 0.2 * len(counts)


def test_the_kernels_of_the_first_pass_are_kept():
    seen = []

    def part(x: Tensor) -> Tensor:
        seen.append((torch.backends.cuda.math_sdp_enabled(), torch.backends.cuda.flash_sdp_enabled()))
        return torch.nn.functional.scaled_dot_product_attention(x, x, x)

    x = torch.randn(1, 2, 5, 4, requires_grad=True)
    with sdpa_kernel(SDPBackend.MATH):
        out = recompute(part, x)
    out.sum().backward()
    assert seen == [(True, False), (True, False)]


def held(unet: MultiViewMotionUNet, inputs: dict) -> tuple[int, int]:
    """Bytes of activations after the forward pass, and most bytes above the network's own in the backward pass."""
    with LiveBytes() as live:
        live.add([list(unet.parameters()), list(unet.buffers()), list(inputs.values())])
        start = live.now
        loss = unet(**inputs).square().mean()
        after = live.now - start
        live.restart()
        loss.backward()
        return after, live.peak - start


def test_memory_and_that_fake_tensors_tell_it():
    """Counts of bytes without numbers, which stand for the paper's size, are those of real tensors."""
    found = {}
    for checkpointed in (False, True):
        inputs = unet_inputs(V=2, T=3, h=12, w=16)
        found[checkpointed] = held(network(checkpointed), inputs)
        with FakeTensorMode(allow_non_fake_inputs=True) as mode:
            fake = network(checkpointed)
            without_numbers(fake)
            counted = held(fake, {name: mode.from_tensor(value) for name, value in inputs.items()})
        assert counted == pytest.approx(found[checkpointed], rel=0.03)
    assert found[True][0] < 0.15 * found[False][0]  # inputs of parts against everything inside them
    assert found[True][1] < 0.35 * found[False][1]
