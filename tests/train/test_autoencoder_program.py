"""The autoencoder's program: learns, resumes exactly, measures what it claims."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from t4d.data.dataset import ClipDataset
from t4d.diffusion.autoencoders.reference import ReferenceAutoencoder
from t4d.diffusion.weights import load_module
from t4d.paths import REPO
from train.autoencoder import Objective, draw, measure
from train.config import AutoencoderConfig, OptimConfig
from train.runs import generator

SMALL: dict[str, Any] = {"widths": (8, 8, 8)}


def train(out: Path, *more: str) -> list[dict]:
    arguments = ["train/autoencoder.py", "--config", "train/configs/mini_autoencoder.yaml", "--out", str(out), *more]
    arguments += ["model={widths: [8, 8, 8]}", "optim.steps=3", "optim.batch=1", "data.workers=0", "log_steps=1"]
    arguments += ["data.views=2", "data.frames=5", "views_per_clip=2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "1"}
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=REPO, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [row for row in rows if "loss" in row]


def test_stop_and_resume_equals_an_uninterrupted_run(tmp_path):
    whole = train(tmp_path / "whole")
    train(tmp_path / "parts", "--max-minutes", "0")
    parts = train(tmp_path / "parts")
    assert [row["loss"] for row in parts] == [row["loss"] for row in whole] and len(whole) == 3
    last = "checkpoints/step_00000003/weights.safetensors"
    a, b = (load_file(tmp_path / run / last) for run in ("whole", "parts"))
    assert a.keys() == b.keys() and all(torch.equal(a[n], b[n]) for n in a)
    assert load_module(ReferenceAutoencoder, tmp_path / "whole" / "autoencoder").config["widths"] == [8, 8, 8]


def test_a_few_steps_on_one_clip_lower_every_term():
    config = AutoencoderConfig(optim=OptimConfig(steps=1, batch=1, lr=1e-3), model=SMALL, latent_noise=0.0)
    torch.manual_seed(0)
    objective = Objective(config)
    clip = ClipDataset(None, procedural_fraction=1.0, views=2, frames=5)[0]
    batch = {n: t[None] for n, t in clip.items() if isinstance(t, torch.Tensor)}
    chosen = draw(batch, config, generator(0))
    noise = torch.zeros(chosen["frames"].shape[0] * chosen["frames"].shape[1], 8, 8, 8)
    optimiser = torch.optim.AdamW(objective.parameters(), lr=3e-3)
    first = objective(chosen, noise, 1.0)
    for _ in range(40):
        loss = objective(chosen, noise, 1.0)["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    last = objective(chosen, noise, 1.0)
    for name in ("loss", "alpha", "latent"):
        assert last[name] < first[name], name


def test_measures_agree_with_what_is_known():
    torch.manual_seed(0)
    moving = {n: t for n, t in ClipDataset(None, procedural_fraction=1.0, frames=4)[0].items() if torch.is_tensor(t)}
    still = {**moving, "rgba": moving["rgba"][:, :1].expand_as(moving["rgba"]), "flow": 0 * moving["flow"]}
    autoencoder = ReferenceAutoencoder(**SMALL).eval()
    a, rows = measure(autoencoder, [still])
    assert min(a["psnr"], a["psnr_copy"], a["psnr_true_flow"], a["frame0"]) > 60 and a["alpha_iou"] == 1
    b, _ = measure(autoencoder, [moving])
    assert b["psnr_copy"] < 60 and b["psnr_true_flow"] > b["psnr_copy"] and b["frame0"] > 60
    assert b["psnr_in_mask"] < b["psnr"]
    assert len(rows) == 3 and rows[0].shape == (2, 3, 64, 64)
