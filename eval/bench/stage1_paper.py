"""One Stage One training step of the paper's size: shapes, operations and memory.

    python -m eval.bench.stage1_paper                  counted, on any machine: tensors without numbers (FakeTensor)
    python -m eval.bench.stage1_paper --device cuda    run with random weights on a GPU

The step is the training program's own, of train/configs/paper.yaml: one clip of 4 views x 16 frames x 256 pixels is
encoded, noised (Eq. 1, 2), denoised, its L_diff, L_corr and L_pos summed with the paper's weights, differentiated and
given to AdamW, in bf16 autocast, once with and once without gradient checkpointing. Counted bytes are those of all
tensors alive at a time; kernels' workspaces and the allocator's waste are not in them, and attention counts as the
fused kernels keep it. Writes eval/results/bench_stage1_paper.json (bench_stage1_paper_cuda.json).
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from unittest import mock

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
import torch.nn.functional as F
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from eval.bench.live_bytes import LiveBytes
from t4d.diffusion.autoencoders.sd import SDAutoencoder
from t4d.diffusion.image.clip import CLIPPictureEncoder
from t4d.diffusion.model import VideoModel
from t4d.diffusion.schedule import PAPER_SCHEDULE
from t4d.diffusion.text.clip import CLIPSentenceEncoder
from t4d.diffusion.unet import MultiViewMotionUNet
from t4d.geometry.camera import network_camera, rig
from t4d.tracking.queries import grid_queries
from train.config import StageOneTrainConfig, load_config
from train.draws import Drawn, draw, noised
from train.objective import Objective
from train.order import stage_at

RESULTS = Path(__file__).parents[1] / "results"
CONFIG = Path(__file__).parents[2] / "train" / "configs" / "paper.yaml"
GIB = 2**30


def paper_config(*overrides: str) -> StageOneTrainConfig:
    """train/configs/paper.yaml with a number of steps, as no data set tells the length of an epoch."""
    return load_config(StageOneTrainConfig, CONFIG, ["optim.epochs=null", "optim.steps=1000", *overrides])


def paper_model(device: str) -> VideoModel:
    """The paper's networks with random weights (none on "meta")."""
    torch.manual_seed(0)
    with torch.device(device):
        unet, autoencoder = MultiViewMotionUNet(), SDAutoencoder()
        text, image = CLIPSentenceEncoder(), CLIPPictureEncoder()
    # the vocabulary is not shipped, and which words are read does not change the cost
    length = text.tower.config.max_position_embeddings
    text.tokenizer = lambda texts, **_: SimpleNamespace(input_ids=torch.zeros(len(texts), length, dtype=torch.long))
    for part in (autoencoder, text, image):
        part.eval().requires_grad_(False)
    return VideoModel(unet, autoencoder, text, image, dict(PAPER_SCHEDULE), "random weights", {"guidance": 7.5})


def one_clip(config: StageOneTrainConfig) -> Drawn:
    """A batch of one clip, drawn by the program: grey pictures and still points, whose cost is that of any others."""
    data = config.data
    grid = grid_queries(data.side, data.side, data.grid)
    cameras = [network_camera(camera) for camera in rig(width=data.side, height=data.side)]
    shape = (1, data.views, data.frames)
    clips = {
        "rgba": torch.full((*shape, 4, data.side, data.side), 0.5),
        "cameras": torch.stack(cameras)[None],
        "caption": ["a fox is running"],
        "tracks": grid.expand(*shape, *grid.shape).clone(),
        "visible": torch.ones(*shape, len(grid), dtype=torch.bool),
        "query_valid": torch.ones(1, data.views, len(grid), dtype=torch.bool),
    }
    return draw(clips, stage_at(0, config), config, 0, [0], PAPER_SCHEDULE["num_train_timesteps"])


def step(
    objective: Objective, model: VideoModel, config: StageOneTrainConfig, drawn: Drawn, device: torch.device
) -> Iterator[str]:
    """One optimiser step, in parts; yields the name of each when it is done.

    It follows train/stage1.py with one process and one micro-step.
    """
    o = config.optim
    optimiser = torch.optim.AdamW(trained_of(objective).values(), lr=o.lr, weight_decay=o.weight_decay)
    with torch.autocast(device.type, torch.bfloat16):
        batch = noised(drawn, model.autoencoder, objective.alphas_cumprod, config, device)
    yield "encode"
    with torch.autocast(device.type, torch.bfloat16):
        sums = objective(batch)
    weights = config.tracking
    loss = weights.lambda_diff * sums["diff"] + weights.lambda_corr * sums["corr"] + weights.lambda_pos * sums["pos"]
    yield "forward"
    loss.backward()
    yield "backward"
    optimiser.step()
    yield "optimiser"


def without_numbers(module: nn.Module) -> None:
    """Replace the tensors of a module that was built on the meta device by fake ones of the running FakeTensorMode."""
    for part in module.modules():
        for name, value in part._parameters.items():
            if value is not None:
                part._parameters[name] = nn.Parameter(torch.empty_like(value, device="cpu"), value.requires_grad)
        for name, value in part._buffers.items():
            if value is not None and value.device.type == "meta":
                part._buffers[name] = torch.empty_like(value, device="cpu")


@contextmanager
def shapes_of(network: nn.Module) -> Iterator[dict[str, list[int]]]:
    """Shapes of what the blocks and motion modules give out during the block."""
    found: dict[str, list[int]] = {}
    handles = []
    for name, module in network.named_modules():
        parts = name.split(".")
        block = parts[0] in ("down_blocks", "up_blocks") and len(parts) == 2
        motion = len(parts) > 1 and parts[-2] == "motion_modules"
        if block or motion or name in ("mid_block", "conv_out"):

            def keep(_module: nn.Module, _inputs: object, output: Any, name: str = name) -> None:
                found[name] = list((output[0] if isinstance(output, tuple) else output).shape)

            handles.append(module.register_forward_hook(keep))
    yield found
    for handle in handles:
        handle.remove()


@contextmanager
def fake_step(config: StageOneTrainConfig) -> Iterator[tuple[VideoModel, Objective, Iterator[str]]]:
    """The networks and a step over them, in a FakeTensorMode: everything but the numbers."""
    model = paper_model("meta")
    checkpoint(model, config)
    objective, drawn = Objective(model, config), one_clip(config)
    # the attention that is written out on CPUs is not what a GPU runs
    fused = mock.patch("t4d.diffusion.attention.attention", F.scaled_dot_product_attention)
    with FakeTensorMode(allow_non_fake_inputs=True), fused:
        without_numbers(objective)
        without_numbers(cast(nn.Module, model.autoencoder))
        yield model, objective, step(objective, model, config, drawn, torch.device("cpu"))


def count_bytes(config: StageOneTrainConfig) -> dict[str, Any]:
    """Shapes and bytes of a step, without computing it."""
    with fake_step(config) as (model, objective, parts), LiveBytes() as live, shapes_of(objective.unet) as shapes:
        parameters, found = list(objective.unet.parameters()), {}
        sizes = {
            "denoiser, frozen": live.add([p for p in parameters if not p.requires_grad]),
            "denoiser, trained": live.add([p for p in parameters if p.requires_grad]),
            "autoencoder and encoders": live.add(
                [[*part.parameters(), *part.buffers()] for name, part in model.parts.items() if name != "unet"]
            ),
        }
        state = live.now
        for name in parts:
            found[name] = {"held_gib": round(live.now / GIB, 3), "peak_gib": round(live.peak / GIB, 3)}
            live.restart()
        gradients = [p.grad for p in trained_of(objective).values() if p.grad is not None]
    assert len(gradients) == len(trained_of(objective))
    return {
        "networks_gib": {name: round(size / GIB, 3) for name, size in sizes.items()},
        "gradients_gib": round(sum(g.numel() * g.element_size() for g in gradients) / GIB, 3),
        "optimiser_gib": round(found["optimiser"]["held_gib"] - found["backward"]["held_gib"], 3),
        "activations_gib": round(found["forward"]["held_gib"] - state / GIB, 3),
        "peak_gib": max(part["peak_gib"] for part in found.values()),
        # the first step's forward and backward pass ran before AdamW made its state and without the averaged weights
        "later_peak_gib": round(
            max(part["peak_gib"] for name, part in found.items() if name != "optimiser")
            + found["optimiser"]["held_gib"]
            - found["backward"]["held_gib"]
            + sizes["denoiser, trained"] / GIB,
            3,
        ),
        "trained": trained(objective),
        "parts": found,
        "shapes": shapes,
    }


def count_operations(config: StageOneTrainConfig) -> dict[str, float]:
    """TFLOP of the parts of a step. Apart from the bytes, because the counter itself keeps tensors alive."""
    aten = torch.ops.aten
    formulas = {
        aten._scaled_dot_product_flash_attention_for_cpu: _attention,
        aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
    }
    found, done = {}, 0
    counter = FlopCounterMode(display=False, custom_mapping=formulas)
    with fake_step(config) as (_, _, parts), counter:
        for name in parts:
            total = counter.get_total_flops()
            found[name], done = round((total - done) / 1e12, 3), total
    return {**found, "all": round(done / 1e12, 3)}


def checkpoint(model: VideoModel, config: StageOneTrainConfig) -> None:
    """Gradient checkpointing as the configuration says."""
    if config.optim.gradient_checkpointing:
        cast(MultiViewMotionUNet, model.unet).enable_gradient_checkpointing()


def trained_of(objective: Objective) -> dict[str, nn.Parameter]:
    """Trained parameters as they are now: making them fake replaces them."""
    return {name: value for name, value in objective.named_parameters() if value.requires_grad}


def trained(objective: Objective) -> dict[str, Any]:
    """What the program's own rule for `trainable` leaves to train."""
    sizes = {name: value.numel() for name, value in trained_of(objective).items()}
    return {"tensors": len(sizes), "millions": round(sum(sizes.values()) / 1e6, 1)}


def _attention(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    return sdpa_flop_count(query, key, value)


def _attention_backward(gradient: Any, query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    return sdpa_backward_flop_count(gradient, query, key, value)


def measure(config: StageOneTrainConfig, steps: int) -> dict[str, Any]:
    """Seconds and memory of real steps on the GPU."""
    device = torch.device("cuda")
    model = paper_model("cuda")
    checkpoint(model, config)
    objective, drawn = Objective(model, config).to(device), one_clip(config)
    rows: dict[str, list[dict[str, float]]] = {}
    for _ in range(steps):
        torch.cuda.reset_peak_memory_stats()
        torch.cuda.synchronize()
        since = time.perf_counter()
        for name in step(objective, model, config, drawn, device):
            torch.cuda.synchronize()
            row = {"seconds": time.perf_counter() - since, "peak_gib": torch.cuda.max_memory_allocated() / GIB}
            rows.setdefault(name, []).append({key: round(value, 4) for key, value in row.items()})
            torch.cuda.reset_peak_memory_stats()
            since = time.perf_counter()
        for parameter in trained_of(objective).values():
            assert parameter.grad is not None and bool(torch.isfinite(parameter.grad).all())
            parameter.grad = None
    last = {name: values[-1] for name, values in rows.items()}
    peak = max(row["peak_gib"] for row in last.values())
    seconds = round(sum(row["seconds"] for row in last.values()), 3)
    return {"seconds": seconds, "peak_gib": peak, "parts": last, "trained": trained(objective)}


def main() -> None:
    """Measures, prints and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("meta", "cuda"), default="meta")
    parser.add_argument("--steps", type=int, default=3, help="with --device cuda; the last is kept")
    parser.add_argument("--out", type=Path, help="JSON file instead of eval/results/bench_stage1_paper*.json")
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        sys.exit("A real step of the paper's size needs a CUDA device and none was found; leave --device out.")
    report: dict[str, Any] = {"torch": torch.__version__, "device": arguments.device}
    if arguments.device == "cuda":
        report["hardware"] = torch.cuda.get_device_name()
    for name, on in (("checkpointed", "true"), ("plain", "false")):
        config = paper_config(f"optim.gradient_checkpointing={on}")
        if arguments.device == "meta":
            report[name] = {**count_bytes(config), "tflop": count_operations(config)}
        else:
            report[name] = measure(config, arguments.steps)
        rest = {key: value for key, value in report[name].items() if key not in ("shapes", "parts")}
        print(name, json.dumps(rest))
        for part, row in report[name]["parts"].items():
            print(f"  {part:10s}", "  ".join(f"{key} {value:g}" for key, value in row.items()))
    RESULTS.mkdir(parents=True, exist_ok=True)
    kind = "" if arguments.device == "meta" else "_cuda"
    out = arguments.out or RESULTS / f"bench_stage1_paper{kind}.json"
    out.write_text(json.dumps(report, indent=1) + "\n")
    print(f"written to {out.name}")


if __name__ == "__main__":
    main()
