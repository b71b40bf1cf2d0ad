"""Teaches mini's text encoder which verb a sentence says, before the denoiser trains: a minute on one CPU core.

    python -m train.text_encoder --out runs/text [--steps 1500] [--seed 0]

Trained with the denoiser alone, the encoder told "jumps", "attacks" and "stands still" apart and gave "walks", "runs",
"swims" and "nods" one vector (`eval/results/mini_trials.md`). Here its pooled vector, under a linear head that is
thrown away, names the canonical verb of a caption (`t4d.data.captions`), whatever the noun. Printed: the share of
training wordings and of wordings never trained on that are named rightly. `text_encoder: FOLDER` in a configuration
of Stage One starts from the result.
"""

from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
import typer
from torch import Tensor, nn

from t4d.data.captions import VERBS, caption
from t4d.diffusion.text.mini import MiniTextEncoder
from train.text_table import SEEDS

NAMES = sorted(VERBS)
NOUNS = SEEDS[: SEEDS.index("walk")]
SIZE = 0.1  # weight that keeps pooled vectors at about unit variance, as the denoiser's time embedding expects
JITTER = 0.5  # noise on the table's vectors, of size about 7: neighbouring words are to mean the same


def sentences(rng: np.random.Generator, count: int, held_out: bool) -> tuple[list[str], Tensor]:
    """Captions of random verbs and nouns, and the verbs' places in `NAMES` [count]."""
    verbs = rng.integers(len(NAMES), size=count)
    nouns = rng.choice(NOUNS, size=count)
    texts = [caption(str(noun), NAMES[verb], rng, held_out) for noun, verb in zip(nouns, verbs)]
    return texts, torch.from_numpy(verbs)


def pooled_of(encoder: MiniTextEncoder, texts: list[str]) -> Tensor:
    """Pooled vectors [B, P]."""
    pooled = encoder.encode(texts)[1]
    assert pooled is not None
    return pooled


@torch.no_grad()
def accuracy(encoder: MiniTextEncoder, head: nn.Module, held_out: bool, count: int = 1000) -> float:
    """Share of sentences whose verb is named rightly."""
    texts, verbs = sentences(np.random.default_rng(10**6), count, held_out)
    return float((head(pooled_of(encoder, texts)).argmax(1) == verbs).float().mean())


def teach(encoder: MiniTextEncoder, steps: int, batch: int, lr: float, seed: int) -> nn.Linear:
    """Trains the encoder in place; returns the head."""
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    head = nn.Linear(encoder.config["pooled"], len(NAMES))
    optimiser = torch.optim.AdamW([*encoder.parameters(), *head.parameters()], lr=lr, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, lr, total_steps=steps)
    table = encoder.table
    for _ in range(steps):
        encoder.__dict__["table"] = table + JITTER * torch.randn(table.shape) * (table != 0)
        texts, verbs = sentences(rng, batch, held_out=False)
        pooled = pooled_of(encoder, texts)
        loss = F.cross_entropy(head(pooled), verbs) + SIZE * (pooled.square().mean() - 1).square()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    encoder.__dict__["table"] = table
    return head


def main(
    out: Annotated[Path, typer.Option(help="folder for the encoder")],
    steps: Annotated[int, typer.Option(min=1)] = 1500,
    batch: Annotated[int, typer.Option(min=1)] = 128,
    lr: Annotated[float, typer.Option(min=1e-6, max=1)] = 2e-3,
    width: Annotated[int, typer.Option(min=8, help="channels, see MiniTextEncoder")] = 96,
    seed: int = 0,
) -> None:
    """Teaches a new encoder and writes it."""
    torch.manual_seed(seed)
    encoder = MiniTextEncoder(width=width, pooled=width)
    head = teach(encoder, steps, batch, lr, seed)
    trained, held = accuracy(encoder, head, False), accuracy(encoder, head, True)
    print(f"verb named rightly: {trained:.3f} of training wordings, {held:.3f} of wordings never trained on")
    encoder.save_pretrained(out)
    encoder.save_files(out)


if __name__ == "__main__":
    typer.run(main)
