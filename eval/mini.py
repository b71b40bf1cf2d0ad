"""The gates of the mini model, on objects it has never seen: ``python -m eval.mini --rigs RIGPACK``.

    python -m eval.mini --rigs RIGPACK [--real3d FOLDER] [--weights mini|FOLDER] [--fork NAME] [--label TEXT]
                        [--gates 1,2,3,4,5] [--quick] [--sheets FOLDER] [--out FOLDER] [--work FOLDER]
                        [--seeds 0,1,..] [--threads 1]
                        [--steps 25] [--guidance G] [--shared-noise S] [--scheduler ddim] [--free-init K]
                        [--truncation PSI]

RIGPACK is a folder of rig packs (``python train/dataset.py pack``); models of real3d come from the shared data. All
clips, real and generated, start from pictures of the product's own rasteriser at 128 px. What is asked for is in
`eval.mini_cases`, what the figures mean in `eval.mini_clips.judge` and `t4d.metrics.motion_maps`.

Printed is a table "gate | measured | 95 % interval | limit | holds"; intervals resample objects. "unsure": the value
holds, its interval does not. Seeds are the same for all weights, so two runs are paired clip by clip. Clips and figures
are kept in the work folder under keys of weights, settings and code: a run that was stopped goes on where it was.
Writes OUT/mini.json (``mini_quick.json`` with --quick).
"""

import argparse
import json
import math
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from eval.ablation_plan import commit
from eval.ablation_store import Store
from eval.mini_cases import FULL, QUICK, SHEETS, Case
from eval.mini_clips import Sampling, Studio
from eval.mini_gates import Gate, picture_gates, table
from eval.mini_sheets import overview, write_sheets
from eval.mini_truth import World
from eval.mini_verbs import verb_gates
from eval.stage2_truth import processor
from t4d.diffusion.model import VideoModel
from t4d.errors import InputError
from t4d.paths import REPO, shared_dir

GATES = ("1", "2", "3", "4", "5")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    found = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("--weights", default="mini", help="'mini' or a model folder")
    found.add_argument("--fork", default="", help="a fork of these weights: name or folder")
    add_common(found)
    found.add_argument("--gates", default=",".join(GATES), help="which of 1,2,3,4,5")
    found.add_argument("--sheets", type=Path, help="folder for contact sheets")
    found.add_argument("--label", default="", help="what the weights are, if their own label says too little")
    return found


def add_common(found: argparse.ArgumentParser) -> None:
    """Options that the program of the forks has as well."""
    found.add_argument("--rigs", type=Path, required=True, help="folder of rig packs")
    found.add_argument("--real3d", type=Path, default=(shared_dir() or Path("shared")) / "data" / "real3d")
    found.add_argument("--quick", action="store_true", help="few clips, without gate 5: for checkpoints")
    found.add_argument("--out", type=Path, default=REPO / "eval" / "results")
    found.add_argument("--work", type=Path, default=REPO / "runs" / "mini_eval", help="where clips are kept")
    found.add_argument("--seeds", default="0,1,2,3,4,5,6,7", help="of the noise, the same for all weights")
    found.add_argument("--threads", type=int, default=1)
    found.add_argument("--steps", type=int, default=25)
    found.add_argument("--guidance", type=float)
    found.add_argument("--shared-noise", type=float)
    found.add_argument("--scheduler", default="ddim")
    found.add_argument("--free-init", type=int, default=0)
    found.add_argument("--truncation", type=float)


def studio_of(arguments: argparse.Namespace, model: VideoModel) -> Studio:
    """What samples and judges, as the command line says."""
    world = World(arguments.rigs, arguments.real3d, Store(arguments.work / "real"))
    sampling = Sampling(
        steps=arguments.steps,
        guidance=arguments.guidance,
        shared_noise=arguments.shared_noise,
        scheduler=arguments.scheduler,
        free_init=arguments.free_init,
        truncation=arguments.truncation,
    )
    return Studio(world, model, sampling, Store(arguments.work / (model.sha256[:12] or "unsaved")))


def seeds_of(arguments: argparse.Namespace) -> tuple[int, ...]:
    """The seeds of the command line.

    Raises:
        InputError: They are not eight or more different whole numbers.
    """
    try:
        found = tuple(int(seed) for seed in arguments.seeds.split(","))
    except ValueError:
        found = ()
    if len(set(found)) < 8 or len(set(found)) != len(found):
        raise InputError(f"--seeds is {arguments.seeds!r}; give 8 or more different whole numbers, such as 0,1,...,7")
    return found


def sampled(studio: Studio, samples: list[tuple[Case, int]]) -> list[dict[str, Any]]:
    """Figures of all clips, made or found, with progress on the error stream."""
    rows = []
    for number, (case, seed) in enumerate(samples, 1):
        row = studio.figures(case, seed)
        rows.append(row)
        print(f"{number}/{len(samples)} {_line(row)}", file=sys.stderr, flush=True)
    return rows


def _line(row: dict[str, Any]) -> str:
    told = [f"{row['case']} seed {row['seed']}: moved {row['moved']:.4f}, lab {row['lab']:.1f}"]
    if row["gain"] is not None:
        told.append(f"gain {row['gain']:+.2f} dB, correlation {row['correlation']:.2f}")
        told.append(f"magnitude {row['magnitude']:.2f}, flicker {row['flicker']:.2f}")
    return ", ".join(told)


def report(gates: list[Gate]) -> list[dict[str, Any]]:
    """Gates as JSON values; what could not be measured is null."""
    rows = []
    for gate in gates:
        row = {**vars(gate), "holds": gate.holds, "limits": list(gate.limits)}
        row["limits"] = [None if math.isinf(x) else x for x in gate.limits]
        rows.append({k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()})
    return rows


def run(arguments: argparse.Namespace) -> list[Gate]:
    """Everything the command line asks for.

    Raises:
        InputError: Unusable weights, folders or options.
    """
    wanted = [gate.strip() for gate in arguments.gates.split(",") if gate.strip()]
    if unknown := set(wanted) - set(GATES):
        raise InputError(f"--gates names {', '.join(sorted(unknown))}; choose from {','.join(GATES)}")
    torch.set_num_threads(arguments.threads)
    model = VideoModel.load(arguments.weights, arguments.fork)
    studio, seeds = studio_of(arguments, model), seeds_of(arguments)
    began, spent = time.perf_counter(), time.process_time()
    print(f"{arguments.label or model.label} [{model.sha256[:12]}], {studio.settings}")
    plan = QUICK if arguments.quick else FULL
    samples = plan.samples(seeds)
    rows = sampled(studio, samples)
    gates = [gate for gate in picture_gates(rows) if gate.gate[0] in wanted]
    told: dict[str, Any] = {}
    if "4" in wanted:
        more, told["verbs"] = verb_gates(studio, samples)
        gates += more
    if "5" in wanted and not arguments.quick:
        from eval.mini_stage2 import view_gate

        gate, told["stage2"] = view_gate(studio, samples, rows)
        gates.append(gate)
    print(table(gates))
    if arguments.sheets is not None:
        objects = by_object(samples) if arguments.quick else SHEETS
        paths = write_sheets(studio, objects, seeds[0], arguments.sheets)
        overview(studio, objects, seeds[0], arguments.sheets / "overview.jpg")
        print(f"{len(paths)} contact sheets and overview.jpg in {arguments.sheets}")
    result = {
        "label": arguments.label or model.label,
        "weights": model.sha256,
        "fork": arguments.fork,
        "sampling": studio.settings,
        "seeds": seeds,
        "gates": report(gates),
        **told,
        "clips": [rounded(row) for row in rows],
        "cpu_seconds_of_clips": round(sum(row["cpu_seconds"] for row in rows)),
        "wall_seconds": round(time.perf_counter() - began),
    }
    write_result(arguments, "mini", result, spent)
    return gates


def write_result(arguments: argparse.Namespace, name: str, result: dict[str, Any], spent: float) -> None:
    """Writes OUT/NAME.json (``NAME_quick.json`` with --quick): the result, and how, when and on what it was made.

    Args:
        arguments: Of the command line (`add_common`).
        name: Of the file.
        result: Fields of the file; NaN is refused.
        spent: `time.process_time` at the start.
    """
    made = {"quick": arguments.quick, "commit": commit(), "cpu_seconds": round(time.process_time() - spent)}
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / (f"{name}_quick.json" if arguments.quick else f"{name}.json")
    content = {**result, **made, "hardware": processor(), "torch": torch.__version__}
    path.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")
    print(f"{path}: {made['cpu_seconds']} CPU-s")


def rounded(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row as it is written: five decimals, without the fields that name it to a program."""
    return {k: round(v, 5) if isinstance(v, float) else v for k, v in row.items() if k not in ("key", "sample")}


def by_object(samples: list[tuple[Case, int]]) -> list[list[Case]]:
    """The cases of a plan, first seed only, object by object."""
    found: dict[str, list[Case]] = {}
    for case, seed in samples:
        if seed == samples[0][1]:
            found.setdefault(case.object, []).append(case)
    return list(found.values())


def main() -> None:
    """Runs the program."""
    try:
        run(parser().parse_args())
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from error


if __name__ == "__main__":
    main()
