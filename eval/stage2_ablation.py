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

generated: clips that the network makes of four objects it was not trained on, one clip for all seeds: see
``eval.stage2_judge.judge_generated``. "static" is the unmoved object held against the clip.

Seeds draw the Gaussians, the fit, the features' noise and 4D-SDS. Intervals: 95 %, two-way cluster bootstrap over cases
and seeds, of means and of paired differences to "full" (same case, same seed).
"""

import argparse
import multiprocessing
import os
import time
from typing import Any

import torch

from eval.ablation_plan import Plan, arguments_of
from eval.ablation_report import report
from eval.ablation_store import Store
from eval.stage2_fit import fit_scene
from eval.stage2_judge import frame_zero_difference, judge_generated, judge_truth, moving
from eval.stage2_scene import Scene, TruthScene, generated_scene, truth_scene
from t4d.diffusion.model import VideoModel
from t4d.errors import InputError
from t4d.paths import REPO
from t4d.splat.gaussians import Gaussians, stack_gaussians


def work(plan: Plan) -> None:
    """Does whatever of the plan is not finished and not at work in another process, seed by seed."""
    torch.set_num_threads(plan.threads)
    store = Store(plan.work)
    model = VideoModel.load(plan.base.stage1.weights)
    for seed in plan.seeds:
        for case in plan.cases:
            scene: TruthScene | Scene | None = None
            # Static and oracle first: they cost little and every share needs them.
            for row in sorted(plan.rows, key=lambda row: row not in plan.bounds):
                key = plan.key(row, case.name, seed)
                with store.claim(key) as free:
                    if not free:
                        continue
                    if scene is None:
                        scene = scene_of(plan, store, model, case, seed)
                    try:
                        record = _one(plan, store, model, scene, row, case.name, seed)
                    except InputError as error:
                        print(f"{row} {case.name} {seed} refused: {error}", flush=True)
                        continue
                    store.append({"key": key, "row": row, "case": case.name, "seed": seed, **record})
                    first = list(record["figures"].items())[:3]
                    told = ", ".join(f"{name} {value:.4g}" for name, value in first)
                    print(f"{time.strftime('%H:%M:%S')} {row} {case.name} seed {seed}: {told}", flush=True)


def scene_of(plan: Plan, store: Store, model: VideoModel, case: Any, seed: int) -> TruthScene | Scene:
    """A case of the plan with the Gaussians of a seed."""
    if plan.mode == "truth":
        return truth_scene(store, case, plan.data / "rigs_cc0", plan.base, seed)
    return generated_scene(store, model, case, plan.data, plan.base, seed)


def _one(
    plan: Plan, store: Store, model: VideoModel, scene: TruthScene | Scene, row: str, case: str, seed: int
) -> dict[str, Any]:
    """The record of one fit (or bound): figures, frame-0 difference, cost."""
    record: dict[str, Any] = {"commit": plan.commit, "source": plan.source(row)}
    seen = scene.scene if isinstance(scene, TruthScene) else scene
    if row in plan.bounds:
        return {**record, "figures": {**_judge(scene, _bound(scene, row)), "cpu_seconds": 0.0}}
    fitted = fit_scene(store, model, seen, plan.configs[row])
    path = plan.asset(row, case, seed)
    path.parent.mkdir(exist_ok=True)
    fitted.asset.save(path)
    return {
        **record,
        "figures": {**_judge(scene, moving(fitted.asset)), "cpu_seconds": fitted.cpu_seconds},
        "frame_zero": frame_zero_difference(seen.gaussians, fitted.asset),
        "terms": fitted.terms,
        "wall_seconds": fitted.wall_seconds,
    }


def _judge(scene: TruthScene | Scene, moved: Gaussians) -> dict[str, float]:
    return judge_truth(scene, moved) if isinstance(scene, TruthScene) else judge_generated(scene, moved)


def _bound(scene: TruthScene | Scene, row: str) -> Gaussians:
    """The moving object [T] of a row that is not a fit."""
    if isinstance(scene, Scene):
        return stack_gaussians([scene.gaussians] * scene.rgb.shape[1])
    bound = scene.bound
    return {"oracle": bound.oracle, "oracle_first_light": bound.posed_in_first_light(), "static": bound.still()}[row]


def main() -> None:
    """Fits what is missing, prints the tables, writes the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=1, help="worker processes")
    parser.add_argument("--report", action="store_true", help="only the table of what is finished")
    arguments = arguments_of(parser)
    try:
        plan = Plan(arguments)
    except InputError as error:
        parser.error(str(error))
    if not plan.cases or not (plan.data / "rigs_cc0").is_dir():
        parser.error(f"no case is left, or {plan.data} has no rigs_cc0; check --cases and --data (or T4D_SHARED)")
    if not arguments.report:
        run(plan, arguments.jobs)
    name = "stage2_ablation.json" if plan.mode == "truth" else "stage2_ablation_generated.json"
    report(plan, arguments.out or REPO / "eval" / "results" / name)


def run(plan: Plan, jobs: int) -> None:
    """Works off a plan in some processes; one that dies leaves its fit to the next run."""
    os.environ["OMP_NUM_THREADS"] = str(plan.threads)
    if jobs == 1:
        work(plan)
        return
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=work, args=(plan,)) for _ in range(jobs)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if any(worker.exitcode for worker in workers):
        print("a worker ended early; the table holds what is finished, run again for the rest", flush=True)


if __name__ == "__main__":
    main()
