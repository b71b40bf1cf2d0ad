"""Accelerate configurations: read by accelerate's own launcher, and the FSDP one run on two processes."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils.launch import prepare_deepspeed_cmd_env, prepare_multi_gpu_env
from diffusion_dummies import small_unet
from fsdp_worker import ADAMW, STEPS, batch, objective, total

from t4d.diffusion.unet import MultiViewMotionUNet
from t4d.paths import REPO
from train.runs import Ema

FOLDER = REPO / "train" / "accelerate"
PROGRAM = ["train/stage1.py", "--config", "train/configs/paper.yaml"]


def launched(name: str) -> tuple[Any, Any]:
    """The arguments `accelerate launch` works with, and the file's own settings."""
    args = launch_command_parser().parse_args(["--config_file", str(FOLDER / f"{name}.yaml"), *PROGRAM])
    args, defaults, _ = _validate_launch_command(args)
    return args, defaults


@pytest.mark.parametrize(
    ("name", "kind", "processes", "machines"),
    [
        ("gpu", "NO", 1, 1),
        ("multi_gpu", "MULTI_GPU", 8, 1),
        ("2x8", "MULTI_GPU", 16, 2),
        ("fsdp", "FSDP", 8, 1),
        ("deepspeed", "DEEPSPEED", 8, 1),
    ],
)
def test_accelerate_reads_the_configuration(name, kind, processes, machines):
    config: Any = load_config_from_file(str(FOLDER / f"{name}.yaml"))
    assert (config.distributed_type, config.num_processes, config.num_machines) == (kind, processes, machines)
    args, _ = launched(name)
    assert args.mixed_precision == "bf16" and not args.use_cpu
    assert (args.multi_gpu, args.use_fsdp, args.use_deepspeed) == tuple(
        kind == k for k in ("MULTI_GPU", "FSDP", "DEEPSPEED")
    )


def test_deepspeed_settings_reach_the_program():
    args, defaults = launched("deepspeed")
    args.deepspeed_fields_from_accelerate_config = ",".join(defaults.deepspeed_config)  # as launch_command does
    _, env = prepare_deepspeed_cmd_env(args)
    assert env["ACCELERATE_USE_DEEPSPEED"] == "true" and env["ACCELERATE_DEEPSPEED_ZERO_STAGE"] == "2"
    assert env["ACCELERATE_GRADIENT_CLIPPING"] == "1.0"
    known = {name for name in vars(args) if name.startswith(("zero", "offload", "gradient", "deepspeed"))}
    assert set(yaml.safe_load((FOLDER / "deepspeed.yaml").read_text())["deepspeed_config"]) <= known


def fsdp_environment() -> dict[str, str]:
    args, _ = launched("fsdp")
    return {name: value for name, value in prepare_multi_gpu_env(args).items() if "FSDP" in name}


def test_the_wrapped_classes_are_parts_of_both_networks():
    names = fsdp_environment()["FSDP_TRANSFORMER_CLS_TO_WRAP"].split(",")
    with torch.device("meta"):
        paper = MultiViewMotionUNet()
    for network in (paper, small_unet()):
        found = Counter(type(module).__name__ for module in network.modules())
        assert all(found[name] for name in names), found
    found = Counter(type(module).__name__ for module in paper.modules())
    assert (found["SpatialTransformer"], found["MotionTransformer"], found["ResnetBlock2D"]) == (16, 21, 22)
    units = [module for module in paper.modules() if type(module).__name__ in names]
    inside = sum(p.numel() for unit in units for p in unit.parameters())
    # what stays in the root is gathered for the whole pass: up- and downsamplers, embeddings, first and last layer
    assert inside / sum(p.numel() for p in paper.parameters()) > 0.9


@pytest.mark.slow
def test_two_processes_that_share_parameters_train_like_one(tmp_path):
    worker, out = Path(__file__).parent / "fsdp_worker.py", tmp_path / "found.pt"
    env = {**os.environ, **fsdp_environment(), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", worker, out]
    done = subprocess.run([str(part) for part in command], env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    found = torch.load(out, weights_only=True)

    model = objective()
    ema = Ema(model, 0.9)
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], **ADAMW)
    for step in range(STEPS):
        losses = [total(model(batch(2 * step + rank))) for rank in range(2)]
        torch.testing.assert_close(found["losses"][step], losses[0].detach(), rtol=1e-5, atol=0)
        torch.stack(losses).mean().backward()
        optimiser.step()
        optimiser.zero_grad()
        ema.update(model, step)
    for name, value in model.named_parameters():
        torch.testing.assert_close(found["parameters"][name], value.detach(), rtol=1e-4, atol=2e-5, msg=name)
    for name, value in ema.average.items():
        torch.testing.assert_close(found["ema"][name], value, rtol=1e-4, atol=2e-5, msg=name)
    assert found["share"] < 0.6  # each process holds about half
    names = Counter(type(module).__name__ for module in model.modules())
    wrapped = ("SpatialTransformer", "MotionTransformer", "ResnetBlock2D")
    assert Counter(name.removeprefix("FSDP") for name in found["units"]) == {
        **{name: names[name] for name in wrapped},
        "Objective": 1,
    }
