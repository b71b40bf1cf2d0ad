"""How good are the trackers that can supervise Stage One, and how much of what they claim to see is wrong?

    python -m eval.trackers --rigs RIGS [--seeds 3] [--sides 64,128] [--offline CKPT] [--online CKPT] [--out FILE]

Clips: every rig of the near and far splits (no rig of the training split), a clip and a phase drawn by seed, four
views of 16 frames over one loop, as in training. Truth: `t4d.tracking.exact`, which asks the mesh itself. Queries: the
15 x 15 grid over frame 0, those on the object. A video is one view; a clip's score is the mean over its views; the
interval is the two-way bootstrap over rigs and seeds (95 %).

Trackers: ``renderer`` (the tracks that training items hold, visibility from the z-buffer at 2 x 2 samples a pixel),
``flow`` without and with the object's mask, ``static`` (nothing moves, everything is visible) and, where a checkpoint
is given, ``cotracker3`` offline and online (CC-BY-NC 4.0, `t4d.tracking.cotracker3`).

Scores: TAP-Vid's delta_avg, AJ and OA on a 256 x 256 raster; ``wrong``: share of the (point, frame) pairs claimed
visible that are truly hidden or at least 8 px of that raster away, which is the share of false supervision that a loss
masked by visibility would get; ``kept``: share of the truly visible pairs that are claimed visible; CPU seconds a clip.

Expected before the first run, from procedural clips: flow about .05 above static in delta_avg and AJ at 128 px, its OA
below static's, a fifth of its claims wrong, less with finer pictures; the renderer's delta_avg 1, its OA above .97.
Found: flow is .18 above static in delta_avg and .16 in AJ, .05 below in OA; 17 % of its claims are wrong at both
sizes; the mask takes away 2 to 3 points of them and 7 to 9 of the right ones. The renderer's OA was .89 at 64 px,
because sloping surfaces hid themselves; with the rule this led to it is .964, and .978 at 128 px. CoTracker3 was not
run: no checkpoint could be had.
"""

import argparse
import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from t4d.data.captions import VIOLENT
from t4d.data.catalog import EVALUATION_TWINS, Catalog, Entry, load_entry
from t4d.data.framing import place
from t4d.data.motion import rig_motion
from t4d.data.render import render_clip
from t4d.data.shade import shade_clip
from t4d.geometry.camera import Camera, orbit_camera
from t4d.geometry.shading import LightRig
from t4d.metrics.bootstrap import Interval, two_way_bootstrap
from t4d.metrics.tracks import RASTER, static_tracks, tap_vid
from t4d.paths import REPO
from t4d.tracking.exact import ExactTracker
from t4d.tracking.queries import grid_queries
from t4d.tracking.tracker import Tracker, build_tracker
from t4d.tracking.tracks import Tracks

VIEWS, FRAMES, GRID = 4, 16, 15
FAR = 8.0  # pixels of the raster; a cell of the paper's feature map is 32
COMPARED = {"flow": "static", "flow, mask": "flow", "cotracker3 offline": "flow", "cotracker3 online": "flow"}
SCORES = ("delta_avg", "aj", "oa", "wrong", "kept", "cpu_s")


@dataclass(frozen=True)
class Scene:
    """A posed object before it is rendered: world vertices [T, Nv, 3] and what `render_clip` needs."""

    vertices: np.ndarray
    faces: np.ndarray
    srgb: np.ndarray


def draw_scene(entry: Entry, seed: int) -> tuple[Scene, str]:
    """A clip of a rig in which something happens, at a random phase; and the clip's name.

    Clips that the cameras cannot hold are drawn again.
    """
    pack = load_entry(entry)
    rng = np.random.default_rng([seed, *entry.source.encode()])
    verbs = sorted(set(entry.verbs) - {"idle"} or set(entry.verbs))
    cameras = views(64)
    for _ in range(50):
        verb = verbs[int(rng.integers(len(verbs)))]
        clip = int(rng.choice(entry.verbs[verb]))
        motion = rig_motion(pack, clip, verb, FRAMES, float(rng.random()), from_rest=False)
        placed = place(motion.vertices, cameras, 0.7)
        if placed is not None:
            rig = motion.rig
            srgb = shade_clip(placed[0], rig.faces, rig.colors, LightRig(), rig.smoothing)
            return Scene(placed[0], rig.faces, srgb), motion.clip
    raise RuntimeError(f"no clip of {entry.source} stays in the picture")


def views(side: int) -> list[Camera]:
    """The rig of inference."""
    return [orbit_camera(360 * k / VIEWS, 15, width=side, height=side) for k in range(VIEWS)]


def tracked(
    scene: Scene, side: int, trackers: dict[str, tuple[Tracker, bool]]
) -> Iterator[tuple[str, Tracks, Tracks, float]]:
    """(tracker's name, its tracks, the truth, CPU seconds) for one clip at one size.

    Args:
        scene: The clip.
        side: Pixels.
        trackers: By name, with whether they are given the mask.
    """
    cameras = views(side)
    start = time.process_time()
    shown = render_clip(scene.vertices, scene.faces, scene.srgb, cameras, grid=GRID)
    rendering = time.process_time() - start
    rgba = torch.from_numpy(shown.rgba)
    rgb, mask = rgba[:, :, :3], rgba[:, :, 3:]
    queries = grid_queries(side, side, GRID).expand(VIEWS, -1, -1).contiguous()
    truth = ExactTracker(scene.vertices, scene.faces, cameras).track(rgb, queries)
    stored = Tracks(*(torch.from_numpy(x) for x in (shown.tracks, shown.visible, shown.query_valid)))
    yield "renderer", stored, truth, rendering
    still = static_tracks(queries, FRAMES).contiguous()
    yield "static", Tracks(still, torch.ones_like(truth.visible), torch.ones_like(truth.query_valid)), truth, 0.0
    for name, (tracker, masked) in trackers.items():
        start = time.process_time()
        found = tracker.track(rgb, queries, mask if masked else None)
        yield name, found, truth, time.process_time() - start


def judge(found: Tracks, truth: Tracks, side: int) -> dict[str, float]:
    """Scores of one clip of square pictures, means over its views; NaN where no view has anything to judge.

    Args:
        found: [V, T, N] tracks of the same queries.
        truth: Decides which queries count.
        side: Pixels.
    """
    scores = tap_vid(found.xy, found.visible, truth.xy, truth.visible, (side, side), query_valid=truth.query_valid)
    counted = truth.query_valid[:, None].expand_as(truth.visible).clone()
    counted[:, 0] = False
    claimed, seen = counted & found.visible, counted & truth.visible
    off = (found.xy - truth.xy).norm(dim=-1) * RASTER / side >= FAR
    return {
        "delta_avg": float(scores.delta_avg.nanmean()),
        "aj": float(scores.average_jaccard.nanmean()),
        "oa": float(scores.occlusion_accuracy.nanmean()),
        "wrong": _share(claimed & (off | ~truth.visible), claimed),
        "kept": _share(claimed & seen, seen),
    }


def _share(part: Tensor, whole: Tensor) -> float:
    """Mean over views of the share of pairs [V, T, N], without views that have none."""
    count = whole.sum((1, 2))
    return float((part.sum((1, 2))[count > 0] / count[count > 0]).mean())


def table(rows: list[dict], side: int, tracker: str, score: str) -> dict[str, list[float]]:
    """{rig: value of every seed}, NaN where there is none, from rows with keys rig, seed, side, tracker and scores."""
    mine = [row for row in rows if (row["side"], row["tracker"]) == (side, tracker)]
    seeds = sorted({row["seed"] for row in mine})
    cells = {(row["rig"], row["seed"]): row[score] for row in mine}
    return {rig: [cells.get((rig, seed), math.nan) for seed in seeds] for rig in dict.fromkeys(r["rig"] for r in mine)}


def interval(lines: np.ndarray) -> Interval | None:
    """Mean with its interval; a rig without a value for some seed (nothing claimed visible) is left out."""
    whole = lines[np.isfinite(lines).all(1)]
    return two_way_bootstrap(whole) if len(whole) else None


def summarise(rows: list[dict]) -> dict[str, dict[str, Interval]]:
    """Intervals by "side tracker" and score, and by "side tracker - other" of differences clip by clip."""
    result: dict[str, dict[str, Interval]] = {}
    pairs = list(dict.fromkeys((row["side"], row["tracker"]) for row in rows))
    for side, tracker in pairs:
        others = [None, *(other for other in [COMPARED.get(tracker)] if (side, other) in pairs)]
        for other in others:
            name = f"{side} {tracker}" + (f" - {other}" if other else "")
            for score in SCORES:
                mine = table(rows, side, tracker, score)
                theirs = table(rows, side, other, score) if other else dict.fromkeys(mine, 0.0)
                found = interval(np.array([np.subtract(mine[rig], theirs[rig]) for rig in mine]))
                if found is not None:
                    result.setdefault(name, {})[score] = found
    return result


def print_table(summary: dict[str, dict[str, Interval]]) -> None:
    """Markdown, one line a tracker."""
    print("| px | tracker | " + " | ".join(SCORES) + " |")
    print("| --- | --- |" + " --- |" * len(SCORES))
    for name, scores in summary.items():
        side, tracker = name.split(" ", 1)
        cells = [
            f"{scores[s].mean:.3f} ({scores[s].low:.3f}..{scores[s].high:.3f})" if s in scores else "-" for s in SCORES
        ]
        print(f"| {side} | {tracker} | " + " | ".join(cells) + " |")


def main() -> None:
    """Runs all clips and writes rows and intervals."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rigs", type=Path, required=True, help="rig packs (train/dataset.py pack)")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--sides", default="64,128", help="picture sizes, pixels")
    parser.add_argument("--offline", help="CoTracker3's scaled_offline.pth, or 'hub'")
    parser.add_argument("--online", help="CoTracker3's scaled_online.pth, or 'hub'")
    parser.add_argument("--device", default="cpu", help="for CoTracker3")
    parser.add_argument("--out", type=Path, default=REPO / "eval/results/trackers.json")
    options = parser.parse_args()
    flow = build_tracker("flow")
    trackers: dict[str, tuple[Tracker, bool]] = {"flow": (flow, False), "flow, mask": (flow, True)}
    for mode in ("offline", "online"):
        if checkpoint := getattr(options, mode):
            settings = {"checkpoint": checkpoint, "mode": mode, "device": options.device}
            trackers[f"cotracker3 {mode}"] = (build_tracker("cotracker3", **settings), True)
    rows = []
    for split in ("near", "far"):
        for entry in Catalog(options.rigs, split, EVALUATION_TWINS, VIOLENT).entries:
            for seed in range(options.seeds):
                scene, clip = draw_scene(entry, seed)
                for side in map(int, options.sides.split(",")):
                    for name, found, truth, seconds in tracked(scene, side, trackers):
                        scores = judge(found, truth, side) | {"cpu_s": seconds}
                        where = {"split": split, "rig": entry.source, "clip": clip, "seed": seed}
                        rows.append({**where, "side": side, "tracker": name, **scores})
            print(f"{split} {entry.source}", flush=True)
    summary = summarise(rows)
    rounded = [{k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()} for row in rows]
    data = {
        "set_up": {"views": VIEWS, "frames": FRAMES, "grid": GRID, "seeds": options.seeds, "far_px": FAR},
        "not_run": [] if options.offline and options.online else ["cotracker3: no checkpoint was given"],
        "intervals": {
            name: {score: [round(x, 4) for x in (i.mean, i.low, i.high)] for score, i in scores.items()}
            for name, scores in summary.items()
        },
        "rows": [{k: None if isinstance(v, float) and math.isnan(v) else v for k, v in row.items()} for row in rounded],
    }
    options.out.write_text(json.dumps(data, indent=1) + "\n")
    print_table(summary)


if __name__ == "__main__":
    main()
