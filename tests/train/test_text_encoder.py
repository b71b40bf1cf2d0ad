"""A taught text encoder tells verbs apart, by wordings it was taught, and Stage One starts from it."""

import numpy as np
import torch
from stage1_program import SMOKE
from typer import Typer
from typer.testing import CliRunner

from t4d.diffusion.text.mini import MiniTextEncoder
from train.config import StageOneTrainConfig, load_config
from train.networks import build
from train.text_encoder import NAMES, accuracy, main, pooled_of, sentences, teach


def test_it_names_verbs_far_above_chance_and_leaves_the_table():
    encoder = MiniTextEncoder(width=32, pooled=32)
    table = encoder.table.clone()
    untaught = accuracy(encoder, torch.nn.Linear(32, len(NAMES)), held_out=False, count=200)
    head = teach(encoder, steps=150, batch=64, lr=5e-3, seed=0)
    assert accuracy(encoder, head, held_out=False, count=200) > max(0.5, 5 * untaught)
    assert torch.equal(encoder.table, table)


def test_the_same_sentence_for_the_same_seed():
    first, second = (sentences(np.random.default_rng(3), 20, held_out=True) for _ in range(2))
    assert first[0] == second[0] and torch.equal(first[1], second[1])
    assert first[0] != sentences(np.random.default_rng(3), 20, held_out=False)[0]


def test_stage_one_starts_from_it(tmp_path):
    app = Typer()
    app.command()(main)
    done = CliRunner().invoke(app, ["--out", str(tmp_path / "text"), "--steps", "2", "--batch", "4", "--width", "16"])
    assert done.exit_code == 0 and "wordings never trained on" in done.output, done.output
    config = load_config(StageOneTrainConfig, SMOKE, [f"text_encoder={tmp_path / 'text'}"])
    model = build(config)
    assert model.unet.config["cross_attention_dim"] == 16  # type: ignore[index, union-attr]
    taught = MiniTextEncoder.from_pretrained(tmp_path / "text")
    texts = ["a fox is running", "a car drives"]
    assert torch.equal(pooled_of(model.text_encoder, texts), pooled_of(taught, texts))  # type: ignore[arg-type]
