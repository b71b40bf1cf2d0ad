"""One of two processes that share a small objective's parameters (FSDP 2, gloo) for two optimiser steps.

    python -m torch.distributed.run --nproc_per_node 2 fsdp_worker.py OUT.pt

Process 0 writes the losses and whole parameters. The sharding is accelerate's own, with its plugin as
train/accelerate/fsdp.yaml sets it through the environment; only the Accelerator around it is missing, as that refuses
FSDP on CPUs.
"""

import logging
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
import torch.distributed as dist
from accelerate.utils import FullyShardedDataParallelPlugin
from accelerate.utils.fsdp_utils import fsdp2_prepare_model
from diffusion_dummies import Blocks, Letters, Pixel, small_unet
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from t4d.diffusion.model import VideoModel
from train.config import StageOneTrainConfig
from train.objective import Noised, Objective, Points
from train.runs import Ema

SETTINGS = {
    "optim": {"steps": 2, "batch": 1, "lr": 1e-2},
    "trainable": ["i2v", "motion_modules"],
    "tracking": {"lambda_corr": 0.1, "lambda_pos": 10.0},
    "prediction": "epsilon",
}
STEPS = 2
# a large eps: where a gradient is rounding alone, AdamW's first steps would make it as large as any other
ADAMW: dict[str, Any] = {"lr": 1e-2, "eps": 1e-3}


def objective() -> Objective:
    torch.manual_seed(0)
    unet = small_unet(cross_attention_dim=2, image_embed_dim=4, text_pooled_dim=None)
    unet.enable_gradient_checkpointing()
    model = VideoModel(unet, Blocks(), Letters(), Pixel(), label="small")
    return Objective(model, StageOneTrainConfig.model_validate(SETTINGS))


def batch(seed: int) -> Noised:
    """A clip with H != W, V != T and tracks."""
    g = torch.Generator().manual_seed(seed)
    z, noise = (torch.randn(1, 3, 4, 4, 6, 8, generator=g) for _ in range(2))
    xy = torch.rand(1, 3, 4, 5, 2, generator=g) * torch.tensor([32.0, 24.0])
    visible = torch.rand(1, 3, 4, 5, generator=g) < 0.8
    points = Points(xy, visible, torch.ones(1, 3, 5, dtype=torch.bool), (24, 32))
    reference, appearance = torch.rand(1, 3, 4, 24, 32, generator=g), torch.randn(1, 3, 3, 6, 8, generator=g)
    cameras = torch.randn(1, 3, 16, generator=g)
    return Noised(z, z + noise, noise, torch.tensor([300 + seed]), reference, appearance, cameras, ["a"], points)


def total(sums: dict[str, torch.Tensor]) -> torch.Tensor:
    return sums["diff"] + 0.1 * sums["corr"] / 10 + 10 * sums["pos"] / 10


def whole(value: torch.Tensor) -> torch.Tensor:
    return (value.full_tensor() if isinstance(value, DTensor) else value).detach().clone()


def main() -> None:
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    plugin = FullyShardedDataParallelPlugin()
    assert plugin.fsdp_version == 2
    state = SimpleNamespace(fsdp_plugin=plugin)
    accelerator = SimpleNamespace(
        state=state, mixed_precision="no", device=torch.device("cpu"), is_main_process=rank == 0, torch_device_mesh=None
    )
    logging.disable(logging.WARNING)
    model: Any = fsdp2_prepare_model(accelerator, objective())
    units = [type(module).__name__ for module in model.modules() if isinstance(module, FSDPModule)]
    trained = [p for p in model.parameters() if p.requires_grad]
    ema = Ema(model, 0.9)
    optimiser, losses = torch.optim.AdamW(trained, **ADAMW), []
    for step in range(STEPS):
        loss = total(model(batch(2 * step + rank)))
        assert model.tapped is not None  # the pull of a term at the features, as log lines have it, comes first
        pull = torch.autograd.grad(loss, model.tapped, retain_graph=True)[0].norm()
        assert bool(torch.isfinite(pull)) and pull > 0
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        ema.update(model, step)
        losses.append(loss.detach())
    shares = sum(p.to_local().numel() for p in model.parameters() if isinstance(p, DTensor))
    found = {
        "losses": torch.stack(losses),
        "parameters": {name: whole(value) for name, value in model.named_parameters()},
        "ema": {name: whole(value) for name, value in ema.average.items()},
        "units": units,
        "share": shares / sum(p.numel() for p in model.parameters()),
    }
    if rank == 0:
        torch.save(found, sys.argv[1])
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
