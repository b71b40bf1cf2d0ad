"""Gate 6: do the tracking losses of the paper help? Four forks of one base, paired: probe and generation gates.

    python -m eval.mini_forks --weights BASE --forks FOLDER --rigs RIGPACK [--quick] [--out FOLDER]

FOLDER holds `full`, `no_corr`, `no_pos` and `no_track`, each a fork of BASE (`train/stage1.py --fork`, the folder with
fork.json or the run folder around it) or a whole model. All four see the same clips, noises and seeds; every difference
is taken clip by clip and its interval resamples objects.

The paper's claim: no_corr and no_pos are worse than full, no_track is worst. It is "confirmed" where an interval of a
difference lies on the claimed side of zero, "refuted" where it lies on the other, else "undecided". It is judged by
delta_avg of the probe, and on generated clips of unseen objects that are to move by the nearness to the real clip (dB)
and by where they move (correlation of the variance maps): dB alone rewards doing nothing. Writes
OUT/mini_forks.json (``mini_forks_quick.json`` with --quick). Other options: see `eval.mini`.
"""

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from eval.ablation_store import Store
from eval.mini import add_common, report, rounded, sampled, seeds_of, studio_of, write_result
from eval.mini_cases import FULL, QUICK_FORK
from eval.mini_gates import Gate, over_objects, picture_gates, table
from eval.mini_probe import CLIPS, FIGURES, far_clips, paired, probe
from eval.mini_stage2 import view_gate
from eval.mini_verbs import verb_gates
from t4d.diffusion.model import FORK_INDEX, INDEX, VideoModel
from t4d.errors import InputError

FORKS = ("full", "no_corr", "no_pos", "no_track")
#: Worse is less of these: pairs (fork, better one).
CLAIMS = (
    ("no_corr", "full"),
    ("no_pos", "full"),
    ("no_track", "full"),
    ("no_track", "no_corr"),
    ("no_track", "no_pos"),
)
JUDGED = ("gain", "correlation")  # less is worse
GENERATED = (*JUDGED, "magnitude", "flicker", "lab")
ANY = (-float("inf"), float("inf"))
Rows = Sequence[Mapping[str, Any]]


def kinds(rows: Rows) -> dict[str, Rows]:
    """Generated clips by what they can say: the claim is judged on the first kind, the others inform."""
    moving = [row for row in rows if row["verb"] != "idle"]
    unseen = [row for row in moving if row["group"] != "near"]
    return {
        "unseen, moving": unseen,
        "unseen, from rest": [row for row in unseen if row["rest"]],
        "unseen, mid-motion": [row for row in unseen if not row["rest"]],
        "near, moving": [row for row in moving if row["group"] == "near"],
        "stands still": [row for row in rows if row["verb"] == "idle"],
    }


def load(weights: str, folder: Path) -> VideoModel:
    """A fork on its base, or a whole model.

    Raises:
        InputError: The folder holds neither, or the fork is of another base.
    """
    for place in (folder, folder / "fork"):
        if (place / FORK_INDEX).is_file():
            return VideoModel.load(weights, place)
    for place in (folder, folder / "model"):
        if (place / INDEX).is_file():
            return VideoModel.load(place)
    raise InputError(f"{folder} holds neither {FORK_INDEX} nor {INDEX}; give a folder of {', '.join(FORKS)}")


def check_paired(models: Mapping[str, VideoModel]) -> None:
    """Refuses forks that differ in more than their losses, as far as they remember.

    Raises:
        InputError: Two are the same weights, or steps or seed differ.
    """
    if len({model.sha256 for model in models.values()}) < len(models):
        raise InputError("two of the forks (or a fork and the base) are the same weights; give four different ones")
    for name in ("steps", "seed"):
        found = {fork: models[fork].meta.get(name) for fork in FORKS}
        if len(set(found.values())) > 1:
            told = ", ".join(f"{fork} {value}" for fork, value in found.items())
            raise InputError(f"the forks were trained with different {name} ({told}); train all four alike")


def verdict(difference: Gate) -> str:
    """What a difference (claimed to be negative) says; see the module's docstring."""
    if difference.high < 0:
        return "confirmed"
    return "refuted" if difference.low > 0 else "undecided"


def compare(found: Mapping[str, Rows], figure: str, by: str) -> list[tuple[str, Gate]]:
    """(claim, difference with interval) of a figure for all `CLAIMS`.

    Args:
        found: Rows by fork.
        figure: Field.
        by: Field that names the clip; rows of one clip and different seeds must differ in it.
    """
    return [
        (f"{worse} - {better}", over_objects("6", figure, paired(found[worse], found[better], figure, by), ANY))
        for worse, better in CLAIMS
    ]


def differences_table(title: str, lines: Sequence[tuple[str, str, Gate]], judged: Sequence[str]) -> str:
    """Markdown: (figure, claim, difference) with the verdict where the claim is `judged` by this figure."""
    out = [f"| {title} | difference | 95 % | objects, clips | claim |", "| --- " * 5 + "|"]
    for figure, claim, gate in lines:
        told = verdict(gate) if figure in judged else ""
        ends = f"{gate.low:+.4f} .. {gate.high:+.4f}"
        out.append(f"| {figure}: {claim} | {gate.value:+.4f} | {ends} | {gate.objects}, {gate.clips} | {told} |")
    return "\n".join(out)


def written(claim: str, gate: Gate, judged: bool) -> dict[str, Any]:
    """A difference as it is written; what has no limits cannot hold."""
    row = report([gate])[0]
    told = {name: row[name] for name in ("what", "value", "low", "high", "objects", "clips")}
    return {"claim": claim, **told, **({"verdict": verdict(gate)} if judged else {})}


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measures all forks, prints the tables, writes the result and returns it.

    Raises:
        InputError: A fork is missing or does not fit the base.
    """
    torch.set_num_threads(arguments.threads)
    seeds, plan = seeds_of(arguments), QUICK_FORK if arguments.quick else FULL
    spent = time.process_time()
    models = {name: load(arguments.weights, arguments.forks / name) for name in FORKS}
    models = {"base": VideoModel.load(arguments.weights), **models}
    check_paired(models)
    data, clips = far_clips(arguments.rigs), 6 if arguments.quick else CLIPS
    probed = {
        name: probe(model, data, Store(arguments.work / model.sha256[:12]), clips) for name, model in models.items()
    }
    print("| probe | " + " | ".join(FIGURES) + " | clips |\n| --- " + "| --- " * (len(FIGURES) + 1) + "|")
    for name, rows in probed.items():
        means = [sum(row[figure] for row in rows) / max(len(rows), 1) for figure in FIGURES]
        print(f"| {name} | " + " | ".join(f"{mean:.4f}" for mean in means) + f" | {len(rows)} |", flush=True)
    claims = compare(probed, "delta_avg", "clip")
    print(differences_table("probe", [("delta_avg", *pair) for pair in claims], ["delta_avg"]), flush=True)

    generated, gates, told, settings = {}, {}, {}, {}
    samples = plan.samples(seeds)
    for name in FORKS:
        studio = studio_of(arguments, models[name])
        rows = [{**row, "sample": f"{row['case']} {row['seed']}"} for row in sampled(studio, samples)]
        generated[name], gates[name], settings[name] = rows, picture_gates(rows), studio.settings
        more, verbs = verb_gates(studio, samples)
        gates[name] += more
        told[name] = {"verbs": verbs}
        if not arguments.quick:
            gate, told[name]["stage2"] = view_gate(studio, samples, rows)
            gates[name].append(gate)
        print(f"\n**{name}**: {models[name].label}\n{table(gates[name])}", flush=True)
    differences, by_kind = {}, {name: kinds(rows) for name, rows in generated.items()}
    for number, kind in enumerate(by_kind["full"]):
        chosen = {name: found[kind] for name, found in by_kind.items()}
        lines = [(figure, *pair) for figure in GENERATED for pair in compare(chosen, figure, "sample")]
        judged = JUDGED if number == 0 else ()
        print("\n" + differences_table(f"generated clips: {kind}", lines, judged))
        differences[kind] = [written(claim, gate, figure in judged) for figure, claim, gate in lines]
    result = {
        "forks": {name: {"label": model.label, "weights": model.sha256} for name, model in models.items()},
        "seeds": seeds,
        "sampling": settings,
        "probe": {name: [rounded(row) for row in rows] for name, rows in probed.items()},
        "claims": [written(*pair, judged=True) for pair in claims],
        "gates": {name: report(found) for name, found in gates.items()},
        "differences": differences,
        "clips": {name: [rounded(row) for row in rows] for name, rows in generated.items()},
        "told": told,
    }
    write_result(arguments, "mini_forks", result, spent)
    return result


def parser() -> argparse.ArgumentParser:
    """The command line."""
    found = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("--weights", default="mini", help="the base of the forks")
    found.add_argument("--forks", type=Path, required=True, help=f"folder with {', '.join(FORKS)}")
    add_common(found)
    return found


def main() -> None:
    """Runs the program."""
    try:
        run(parser().parse_args())
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from error


if __name__ == "__main__":
    main()
