"""One clip memorised, with and without the tracking losses: what does each do to the features it supervises?

    python -m eval.overfit --work FOLDER [--seeds 5] [--out eval/results/overfit.json]

Every seed is another procedural clip and other initial weights. The clip's 15 x 15 query grid is split like a
chessboard: training draws its 8 points a view from the black fields, everything is measured on the white ones, half
a feature cell or more away from any trained point. All four rows train from scratch with the same draws, so they are
paired. Measured on the shipped (averaged) weights at t = 51, where Stage Two reads features, and at t = 501; sampling
from frame 0 and the caption shows whether the clip was memorised.

For `--long` seeds the clip is also trained for longer, to noise without any trace of it, until it can be sampled.

Expected before measuring: (1) every row memorises: L_diff under a tenth of the copy's, samples at least 6 dB above
copying frame 0; (2) L_pos makes points findable: errors of full and no_corr are under half of those of no_pos and
no_track, and under the static baseline's; (3) L_corr lowers drift, with L_pos and without; (4) L_corr alone lowers
`distinct` too, as features that are all alike satisfy Eq. 4, and so helps little to find points.
Found with five seeds: (1) in L_diff yes; samples only in the long runs, see `LONG`; (2) yes; (3) yes; (4) distinct is
near zero in both rows without L_pos, and its fall from no_track to no_pos is not significant; points stay lost.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from eval.ablation_store import Store, digest
from eval.stage1_probe import latent_maps, look, only, parity, track_figures
from eval.stage1_runs import paired, shown, t_interval, train
from eval.stage2_truth import processor
from t4d.data.cache import load_item, save_item
from t4d.data.dataset import ClipDataset
from t4d.diffusion.model import VideoModel
from t4d.diffusion.sampler import sample_clip
from t4d.export.contact_sheet import write_contact_sheet
from t4d.geometry.camera import orbit_camera
from t4d.paths import REPO

CONFIG = REPO / "train/configs/overfit.yaml"
ROWS: dict[str, dict[str, float]] = {
    "full": {},
    "no_corr": {"tracking.lambda_corr": 0},
    "no_pos": {"tracking.lambda_pos": 0},
    "no_track": {"tracking.lambda_corr": 0, "tracking.lambda_pos": 0},
}
#: For clips that are also sampled from noise alone. The paper's noise schedule leaves a 630th of the signal's power at
#: t = 999, and 1000 numbers a frame with noise mostly shared by the frames are enough to read the clip from: a network
#: learns to read it there instead of to remember it (L_diff at t = 961 rose from .08 to 1.0 when the input was noise
#: alone), and samples show the clip's poses in another order. This schedule leaves nothing.
LONG: dict[str, Any] = {"optim.steps": 500, "high_noise": 0.3, "scheduler.beta_end": 0.03}
SIDE, VIEWS, FRAMES, GRID = 64, 2, 8, 15
TIMES = (51, 501)
LEAST_MOTION, LEAST_TERMS, LEAST_SEEN = 2.0, 60, 0.5  # of a clip: pixels moved, held-out positions, visible share


def chosen_clips(count: int, seed: int = 0) -> list[tuple[int, dict[str, Any]]]:
    """The first procedural clips that move, and show, enough points to measure on."""
    source = ClipDataset(
        None, procedural_fraction=1, side=SIDE, views=VIEWS, frames=FRAMES, grid=GRID, rig_fraction=1, seed=seed
    )
    found: list[tuple[int, dict[str, Any]]] = []
    index = 0
    while len(found) < count:
        item = source[index]
        test = only(item, parity(GRID, odd=True))
        counted = (test["visible"] & test["query_valid"][:, None])[:, 1:]
        pairs = counted.numel() and int(test["query_valid"].sum()) * (FRAMES - 1)
        moved = (test["tracks"] - test["tracks"][:, :1]).norm(dim=-1)[:, 1:][counted]
        if len(moved) >= LEAST_TERMS and float(moved.mean()) >= LEAST_MOTION and len(moved) >= LEAST_SEEN * pairs:
            found.append((index, item))
        index += 1
    return found


def memorised(model: VideoModel, item: dict[str, Any], sheet: Path | None) -> dict[str, float]:
    """PSNR over frames 1.. of a sample, of copying frame 0, and of the decoded exact latents (the ceiling), dB."""
    truth = item["rgba"]
    cameras = [orbit_camera(k * 360 / VIEWS, 15, width=SIDE, height=SIDE) for k in range(VIEWS)]
    sample = None
    for state in sample_clip(model, truth[:, 0], cameras, item["caption"], frames=FRAMES, steps=25, seed=0):
        sample = state.clip_rgba
    assert sample is not None
    with torch.no_grad():
        decoded = model.autoencoder.decode(latent_maps(model, item)[None], truth[None, :, 0])[0]
    if sheet is not None:
        rows = torch.stack([clip[v, :, :3] for v in range(VIEWS) for clip in (truth, sample, decoded)])
        write_contact_sheet(sheet, rows)
    found = {"sample": sample, "copy": truth[:, :1].expand_as(truth), "decoded": decoded}
    return {
        f"psnr_{name}": float(-10 * torch.log10((clip[:, 1:, :3] - truth[:, 1:, :3]).square().mean().clamp_min(1e-10)))
        for name, clip in found.items()
    }


def measure(row: str, seed: int, item: dict[str, Any], work: Path) -> dict[str, Any]:
    """Trains one row on one clip and measures it."""
    cache = work / "clips" / f"{seed}"
    cache.mkdir(parents=True, exist_ok=True)
    save_item(only(item, parity(GRID, odd=False)), cache / "000000.npz")
    stored = load_item(cache / "000000.npz")  # the pictures and flow that training sees, rounded as they are there
    test = only({**stored, **{k: item[k] for k in ("tracks", "visible", "query_valid")}}, parity(GRID, odd=True))
    out = work / "runs" / f"{row}_{seed}"
    settings = LONG if row == "long" else ROWS[row]
    run = train(CONFIG, out, {**settings, "data.cache": str(cache), "seed": seed})
    model = VideoModel.load(str(out / "model"))
    figures: dict[str, float] = {}
    for t in TIMES:
        maps, loss = look(model, test, t, seed)
        figures |= {f"{key}@{t}": value for key, value in {**track_figures(maps, test), "diff": loss}.items()}
    figures["copy"] = float(latent_maps(model, test)[:, 1:].square().mean())
    figures |= {f"latent_{k}": v for k, v in track_figures(latent_maps(model, test), test).items() if "static" not in k}
    return {**run, "figures": figures | memorised(model, test, out / "sheet.png")}


COLUMNS = (("error@51", 1), ("delta_avg@51", 3), ("drift@51", 4), ("distinct@51", 3), ("relative_drift@51", 3),
           ("error@501", 1), ("drift@501", 4), ("diff@51", 3), ("diff@501", 3), ("psnr_sample", 1))  # fmt: skip
EFFECTS = (("L_pos", "full", "no_pos"), ("L_pos", "no_corr", "no_track"), ("L_corr", "full", "no_corr"),
           ("L_corr", "no_pos", "no_track"), ("both", "full", "no_track"))  # fmt: skip


def report(lines: dict[str, dict[str, Any]], seeds: list[int], out: Path | None) -> None:
    """Prints the tables over seeds that are complete and writes everything."""
    figures = {(line["row"], line["seed"]): line["figures"] for line in lines.values()}
    seeds = [seed for seed in seeds if all((row, seed) in figures for row in ROWS)]
    if not seeds:
        print("no seed has all rows yet")
        return
    means = {row: {k: t_interval([figures[row, s][k] for s in seeds]) for k, _ in COLUMNS} for row in ROWS}
    print(f"\nMeans over seeds {seeds} (each its own clip)\n\n| row | " + " | ".join(k for k, _ in COLUMNS) + " |")
    print("|" + " --- |" * (len(COLUMNS) + 1))
    for row in ROWS:
        print(f"| {row} | " + " | ".join(f"{means[row][k]['mean']:.{d}f}" for k, d in COLUMNS) + " |")
    controls = ("static_error@51", "static_delta_avg@51", "cell_error@51", "cell_delta_avg@51", "latent_error",
                "latent_drift", "copy", "psnr_copy", "psnr_decoded")  # fmt: skip
    control = {k: t_interval([figures["full", s][k] for s in seeds]) for k in controls}
    print("\nControls: " + ", ".join(f"{k} {v['mean']:.3f}" for k, v in control.items()))
    kept = ("psnr_sample", "psnr_copy", "psnr_decoded", "copy", *(f"diff@{t}" for t in TIMES))
    by_heart = [{k: figures[key][k] for k in kept} for key in figures if key[0] == "long"]
    for found in by_heart:
        print("\nTrained for longer (all losses): " + ", ".join(f"{k} {v:.3f}" for k, v in found.items()))
    effects = [
        {"of": of, "row": row, "minus": other, **{k: paired(figures, row, other, k, seeds) for k, _ in COLUMNS}}
        for of, row, other in EFFECTS
    ]
    print("\nPaired differences with 95 % t intervals; * leaves out zero\n")
    main = [column for column in COLUMNS if column[0].split("@")[0] in ("error", "delta_avg", "drift", "distinct")]
    print("| of | rows | " + " | ".join(k for k, _ in main) + " |\n|" + " --- |" * (len(main) + 2))
    for e in effects:
        cells = " | ".join(shown(e[k], d) for k, d in main)
        print(f"| {e['of']} | {e['row']} - {e['minus']} | {cells} |")
    if out is None:
        return
    content = {
        "protocol": (__doc__ or "").strip(),
        "seeds": seeds,
        "rows": ROWS,
        "means": means,
        "controls": control,
        "long": {"settings": LONG, "figures": by_heart},
        "effects": effects,
        "hardware": processor(),
        "torch": torch.__version__,
    }
    text = json.dumps(content, indent=1)
    runs = ",\n  ".join(json.dumps(line) for line in lines.values())
    out.write_text(f'{text[:-2]},\n "runs": [\n  {runs}\n ]\n}}\n')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="run folders and finished lines; can be resumed")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--long", type=int, default=2, help="seeds that are also trained until they sample their clip")
    parser.add_argument("--out", type=Path, default=REPO / "eval/results/overfit.json")
    args = parser.parse_args()
    torch.set_num_threads(1)
    store, seeds = Store(args.work), list(range(args.seeds))
    settings = digest([CONFIG.read_text(), SIDE, VIEWS, FRAMES, GRID, TIMES])
    clips = chosen_clips(len(seeds))
    for seed in seeds:
        index, item = clips[seed]
        for row in (*ROWS, *(["long"] if seed < args.long else [])):
            key = f"{row}/{seed}/{settings}"
            with store.claim(key) as mine:
                if not mine:
                    continue
                found = measure(row, seed, item, args.work)
                line = {"key": key, "row": row, "seed": seed, "clip": index, "caption": item["caption"], **found}
                store.append(line)
                kept = {k: round(v, 4) for k, v in found["figures"].items() if k in dict(COLUMNS) or "static" in k}
                print(row, seed, item["caption"], kept, flush=True)
    report({k: v for k, v in store.read().items() if k.endswith(settings)}, seeds, args.out)


if __name__ == "__main__":
    main()
