"""Stage Two ablation with intervals: truth clips re-lit every frame, and clips of the network itself.

    python -m eval.stage2_ablation [truth|generated] [--jobs 2] [--seeds 0,1,2] [--rows full,...] [--cases Bull,...]
    python -m eval.stage2_ablation truth --report            the table of what is finished, without fitting

Every fit is one line of ``fits.jsonl`` in the work folder, named by row, case, seed and digest of its configuration: a
run skips what is there, and several processes may share a work folder. Pictures, clips and features are cached there.

truth: ten real rigs (five near, five far from the training rigs; none of them used for tuning), each a clip of 16
frames over one loop, ray cast at four rig views with light that stands in the world, so that colours change. The fit
gets what the product gets: pictures over grey and hard masks (coverage above one half). Its Gaussians carry the light
of frame 0. Judged at eight held-out views (azimuths 45/135/225/315, elevations 0 and 30), frames 1..15: see
``eval.stage2_judge.judge_truth``. Rows are variants of the configuration; "oracle" poses and re-lights the same
Gaussians by the truth, "oracle_first_light" poses them in the colours of frame 0, "static" leaves them unmoved.
share = (static - fit) / (static - oracle) in squared error.

generated: clips that the network makes of four objects it was not trained on: see
``eval.stage2_judge.judge_generated``.

Seeds draw the Gaussians, the fit, the features' noise and 4D-SDS. Intervals: 95 %, two-way cluster bootstrap over cases
and seeds, of means and of paired differences to "full" (same case, same seed).
"""

import argparse
import json
import multiprocessing
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import torch

from eval.ablation_cases import BOUNDS, GENERATED_CASES, GENERATED_ROWS, TRUTH_CASES, TRUTH_ROWS
from eval.ablation_store import Store, digest
from eval.ablation_table import Column, markdown, markdown_differences, summary
from eval.stage2_fit import fit_scene
from eval.stage2_judge import frame_zero_difference, judge_generated, judge_truth, moving
from eval.stage2_scene import Scene, TruthScene, generated_scene, truth_scene
from eval.stage2_truth import processor
from t4d.config import Config
from t4d.diffusion.model import VideoModel
from t4d.errors import InputError
from t4d.metrics.motion import share_of_gap
from t4d.paths import REPO, shared_dir

#: Against the preset, so that 270 fits take an hour on two cores; stated in the result.
PROTOCOL = ("splat.count=4000", "stage2.iterations=200", "stage2.refine_iterations=4")

COLUMNS = {
    "truth": (
        Column("psnr", "PSNR dB"),
        Column("ssim", "SSIM", 3),
        Column("share", "share of gap", 3),
        Column("iou", "IoU", 3),
        Column("delta_2", "delta 2 %", 1, 100),
        Column("delta_5", "delta 5 %", 1, 100),
        Column("delta_10", "delta 10 %", 1, 100),
        Column("distance", "distance, % of diagonal", 2, 100, -1),
        Column("color", "colour error, /255", 2, 255, -1),
        Column("arap", "ARAP energy", 3, 1, 0),
        Column("jitter", "jitter", 2, 1, -1),
        Column("cpu_seconds", "CPU-s", 1, 1, -1),
    ),
    "generated": (
        Column("fit_psnr", "PSNR dB, fitted views"),
        Column("fit_ssim", "SSIM", 3),
        Column("fit_iou", "IoU", 3),
        Column("agreement", "agreement dB, held-out views"),
        Column("color_drift", "colour drift, /255", 2, 255, -1),
        Column("area_drift", "area drift", 3, 1, -1),
        Column("area_error", "area error", 3, 1, -1),
        Column("arap", "ARAP energy", 3, 1, 0),
        Column("jitter", "jitter", 2, 1, -1),
        Column("jitter_pictures", "jitter of pictures", 2, 1, -1),
        Column("cpu_seconds", "CPU-s", 1, 1, -1),
    ),
}


class Plan:
    """What is to be done, from the command line; the same in every process.

    Attributes:
        mode: "truth" or "generated".
        cases, rows, seeds: of the table.
        configs: configuration of each row that is a fit.
    """

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.mode: str = arguments.mode
        self.work: Path = arguments.work or REPO / "runs" / "stage2_ablation" / self.mode
        self.threads: int = arguments.threads
        self.data: Path = arguments.data or (shared_dir() or Path()) / "data"
        every = TRUTH_CASES if self.mode == "truth" else GENERATED_CASES
        wanted = arguments.cases.split(",") if arguments.cases else [""]
        self.cases = [case for case in every if any(name in case.name for name in wanted)]
        fits = TRUTH_ROWS if self.mode == "truth" else GENERATED_ROWS
        self.rows = arguments.rows.split(",") if arguments.rows else [*fits, *(BOUNDS if self.mode == "truth" else ())]
        self.seeds = [int(seed) for seed in arguments.seeds.split(",")]
        self.overrides = [*PROTOCOL, *arguments.set]
        self.configs = {
            row: Config.load(arguments.preset, self.overrides, variant=row) for row in self.rows if row not in BOUNDS
        }
        self.base = Config.load(arguments.preset, self.overrides)

    def key(self, row: str, case: str, seed: int) -> str:
        """Name of one fit: what, on what, and a digest of how."""
        config = self.configs.get(row, self.base)
        how = config.model_dump(mode="json", include={"geometry", "splat", "stage1", "stage2"})
        if row in BOUNDS:
            how.pop("stage2")
        return f"{self.mode}/{row}/{case}/{seed}/{digest(how)}"

    def records(self, store: Store) -> dict[tuple[str, str, int], dict[str, float]]:
        """Finished figures by (row, case, seed), with the share of the gap where static and oracle are known."""
        lines = store.read()
        found = {}
        for row in dict.fromkeys([*self.rows, *(BOUNDS if self.mode == "truth" else ())]):
            for case in self.cases:
                for seed in self.seeds:
                    if (line := lines.get(self.key(row, case.name, seed))) is not None:
                        found[row, case.name, seed] = dict(line["figures"])
        for (_, case, seed), figures in found.items():
            ends = [found.get((end, case, seed)) for end in ("static", "oracle")]
            if self.mode == "truth" and all(end is not None for end in ends):
                figures["share"] = share_of_gap(ends[0]["mse"], figures["mse"], ends[1]["mse"])  # pyright: ignore
        return found


def work(plan: Plan) -> None:
    """Does whatever of the plan is not finished and not at work in another process, seed by seed."""
    torch.set_num_threads(plan.threads)
    store = Store(plan.work)
    model = VideoModel.load(plan.base.stage1.weights)
    for seed in plan.seeds:
        for case in plan.cases:
            scene: TruthScene | Scene | None = None
            # Static and oracle first: they cost little and every share needs them.
            for row in sorted(plan.rows, key=lambda row: row not in BOUNDS):
                key = plan.key(row, case.name, seed)
                with store.claim(key) as free:
                    if not free:
                        continue
                    if scene is None:
                        scene = _scene(plan, store, model, case, seed)
                    try:
                        record = _one(plan, store, model, scene, row)
                    except InputError as error:
                        print(f"{row} {case.name} {seed} refused: {error}", flush=True)
                        continue
                    store.append({"key": key, "row": row, "case": case.name, "seed": seed, **record})
                    first = list(record["figures"].items())[:3]
                    told = ", ".join(f"{name} {value:.4g}" for name, value in first)
                    print(f"{time.strftime('%H:%M:%S')} {row} {case.name} seed {seed}: {told}", flush=True)


def _scene(plan: Plan, store: Store, model: VideoModel, case: Any, seed: int) -> TruthScene | Scene:
    if plan.mode == "truth":
        return truth_scene(store, case, plan.data / "rigs_cc0", plan.base, seed)
    return generated_scene(store, model, case, plan.data, plan.base, seed)


def _one(plan: Plan, store: Store, model: VideoModel, scene: TruthScene | Scene, row: str) -> dict[str, Any]:
    """The record of one fit (or bound): figures, frame-0 difference, cost."""
    record: dict[str, Any] = {"commit": _commit()}
    if isinstance(scene, TruthScene) and row in BOUNDS:
        bound = scene.bound
        moved = {"oracle": bound.oracle, "oracle_first_light": bound.posed_in_first_light(), "static": bound.still()}[
            row
        ]
        return {**record, "figures": {**judge_truth(scene, moved), "cpu_seconds": 0.0}}
    seen = scene.scene if isinstance(scene, TruthScene) else scene
    fitted = fit_scene(store, model, seen, plan.configs[row])
    moved = moving(fitted.asset)
    figures = judge_truth(scene, moved) if isinstance(scene, TruthScene) else judge_generated(scene, moved)
    folder = plan.work / "assets"
    folder.mkdir(exist_ok=True)
    fitted.asset.save(folder / f"{row}-{seen.name}.safetensors")
    return {
        **record,
        "figures": {**figures, "cpu_seconds": fitted.cpu_seconds},
        "frame_zero": frame_zero_difference(seen.gaussians, fitted.asset),
        "terms": fitted.terms,
        "wall_seconds": fitted.wall_seconds,
    }


def report(plan: Plan, out: Path | None) -> None:
    """Prints the tables of what is finished and writes everything as JSON."""
    store = Store(plan.work)
    records = plan.records(store)
    groups = {"all": [case.name for case in plan.cases]}
    groups |= {g: [c.name for c in plan.cases if c.group == g] for g in dict.fromkeys(c.group for c in plan.cases)}
    rows = [row for row in plan.rows if any(r == row for r, _, _ in records)]
    # Without both bounds no row has a share.
    columns = [c for c in COLUMNS[plan.mode] if all(c.key in figures for figures in records.values())]
    result = summary(records, rows, columns, groups, plan.seeds)
    for group, cases in groups.items():
        print(f"\n{group} ({len(cases)} cases, seeds {plan.seeds}): mean [95 % interval]\n")
        print(markdown(result, columns, group))
    print("\nPaired differences to full; bold where the interval leaves out zero\n")
    keys = ("psnr", "share", "ssim", "delta_5", "color") if plan.mode == "truth" else ("fit_psnr", "agreement", "arap")
    chosen = [column for column in columns if column.key in keys]
    print(markdown_differences(result, chosen, list(groups)))
    lines = [line for line in store.read().values() if line["key"] in _keys(plan)]
    zero = [value for line in lines for value in line.get("frame_zero", {}).values()]
    print(f"\nLargest difference of frame 0 from the static object over {len(lines)} lines: {max(zero, default=0.0)}")
    if out is None:
        return
    content = {
        "mode": plan.mode,
        "protocol": {
            "overrides": plan.overrides,
            "full": plan.base.model_dump(mode="json", include={"geometry", "splat", "stage1", "stage2"}),
            "rows": {row: config.variant for row, config in plan.configs.items()},
            "cases": [{**vars(case), "name": case.name} for case in plan.cases],
            "seeds": plan.seeds,
            "intervals": "95 % two-way cluster bootstrap over cases and seeds, 10000 draws",
        },
        "model": VideoModel.load(plan.base.stage1.weights).sha256,
        "commits": sorted({line["commit"] for line in lines}),
        "hardware": processor(),
        "threads": plan.threads,
        "torch": torch.__version__,
        "frame_zero_difference": max(zero, default=0.0),
        "summary": result,
    }
    text = json.dumps(content, indent=1)
    fits = ",\n  ".join(json.dumps(line) for line in lines)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(f'{text[:-2]},\n "fits": [\n  {fits}\n ]\n}}\n')


def _keys(plan: Plan) -> set[str]:
    return {plan.key(row, case.name, seed) for row in plan.rows for case in plan.cases for seed in plan.seeds}


def _commit() -> str:
    """Short hash of the code that made a line, "-dirty" where it is not committed; "" outside a repository."""
    found = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--exclude", "*"], cwd=REPO, capture_output=True, text=True
    )
    return found.stdout.strip()


def main() -> None:
    """Fits what is missing, prints the tables, writes the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mode", nargs="?", choices=("truth", "generated"), default="truth")
    parser.add_argument("--jobs", type=int, default=1, help="worker processes")
    parser.add_argument("--threads", type=int, default=1, help="threads of each worker")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--rows", default="", help="comma-separated; all if empty")
    parser.add_argument("--cases", default="", help="parts of case names, comma-separated; all if empty")
    parser.add_argument("--preset", default="mini")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="on top of the protocol")
    parser.add_argument("--work", type=Path, help="work folder (default runs/stage2_ablation/MODE)")
    parser.add_argument("--data", type=Path, help="folder with rigs_cc0 and real3d")
    parser.add_argument("--out", type=Path, help="JSON (default eval/results/stage2_ablation[_generated].json)")
    parser.add_argument("--report", action="store_true", help="only the table of what is finished")
    arguments = parser.parse_args()
    try:
        plan = Plan(arguments)
    except InputError as error:
        parser.error(str(error))
    if not plan.cases or not (plan.data / "rigs_cc0").is_dir():
        parser.error(f"no case is left, or {plan.data} has no rigs_cc0; check --cases and --data (or T4D_SHARED)")
    if not arguments.report:
        os.environ["OMP_NUM_THREADS"] = str(plan.threads)
        if arguments.jobs == 1:
            work(plan)
        else:
            context = multiprocessing.get_context("spawn")
            workers = [context.Process(target=work, args=(plan,)) for _ in range(arguments.jobs)]
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
            if any(worker.exitcode for worker in workers):
                print("a worker ended early; the table holds what is finished, run again for the rest", flush=True)
    name = "stage2_ablation.json" if plan.mode == "truth" else "stage2_ablation_generated.json"
    report(plan, arguments.out or REPO / "eval" / "results" / name)


if __name__ == "__main__":
    main()
