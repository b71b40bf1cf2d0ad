"""Attention of a training step on a CPU, forward and backward: written out, torch's fused kernel, torch's fallback.

    python -m eval.bench.attention [--steps 8]

One denoising loss of mini, 2 clips of 4 views x 16 frames, bfloat16 autocast, one thread. The three take turns, so that
what else the machine does meets all alike; ratios are of medians, against the one that is written out.
"""

import argparse
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast
from unittest import mock

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

import t4d.diffusion.attention
from eval.bench.turns import report, take_turns
from t4d.diffusion.model import VideoModel
from t4d.geometry.camera import network_camera, rig

RESULT = Path(__file__).parents[1] / "results" / "bench_attention.json"
KINDS = {"written out": None, "fused": SDPBackend.FLASH_ATTENTION, "fallback": SDPBackend.MATH}


def step_of(model: VideoModel, B: int = 2, V: int = 4, T: int = 16) -> Callable[[], None]:
    """A loss of mini's denoiser on noise, and its gradients."""
    unet, text_encoder = model.unet, model.text_encoder
    assert text_encoder is not None and model.image_encoder is not None
    config = cast(Any, unet).config
    g = torch.Generator().manual_seed(0)
    side, channels = int(config["sample_size"]), int(config["in_channels"])
    reference = torch.rand(B, V, 4, 64, 64, generator=g)
    z = torch.randn(B, V, T, channels, side, side, generator=g)
    cameras = torch.stack([network_camera(c) for c in rig()[:V]]).expand(B, V, -1)
    with torch.no_grad():
        text, pooled = text_encoder.encode(["a dog walks"] * B)
        image = model.image_encoder.encode(reference)
        appearance = model.autoencoder.condition(reference)
    times = torch.full((B,), 900)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16):
            found = unet(
                z,
                times,
                text=text,
                image_embeds=image,
                cameras=cameras,
                cond_concat=appearance,
                pooled_text=pooled,
            )
            found.float().square().mean().backward()

    return step


def with_kernel(step: Callable[[], None], kernel: SDPBackend | None) -> Callable[[], None]:
    """The step with torch's attention of this kind; None leaves ours."""

    def run() -> None:
        with ExitStack() as stack:
            if kernel is not None:
                stack.enter_context(mock.patch.object(t4d.diffusion.attention, "WRITTEN_OUT", 0))
                stack.enter_context(sdpa_kernel(kernel))
            step()

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=8)
    steps = parser.parse_args().steps
    torch.set_num_threads(1)
    step = step_of(VideoModel.load("mini"))
    ways = {name: with_kernel(step, kernel) for name, kernel in KINDS.items()}
    report(take_turns(ways, steps), "written out", steps, RESULT)


if __name__ == "__main__":
    main()
