"""What a training clip costs: rendered, cached, in shards, streamed, with and without tracks, and out of videos.

    python -m eval.bench.data [--rigs data/rigs] [--clips 16] [--sides 64 128]

Clip i comes from every source in turn before clip i + 1 does, so that a ratio compares seconds of the same minutes.
Seconds are processor seconds of one thread: 1 / seconds is clips per second and core. A clip has 4 views of 16 frames.
Ratios are to the cached reader (how many times longer than np.load) and, for rendering itself, to the slow reference
renderer. Writes eval/results/bench_data.json.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("NUMBA_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch

from eval.bench.rasterizer import hardware
from t4d.data.cache import CachedClips, save_item
from t4d.data.dataset import ClipDataset
from t4d.data.latents import LatentStore, WithLatents, autoencoder_digest, encode_clips
from t4d.data.mv_video import INFO, MvVideoClips
from t4d.data.reference import render_clip_reference
from t4d.data.render import render_clip
from t4d.data.shard_writer import write_shards
from t4d.data.shards import ShardClips, stream_shards
from t4d.diffusion.model import VideoModel
from t4d.export.video import write_video
from t4d.geometry.camera import rig

RESULT = Path(__file__).parents[1] / "results" / "bench_data.json"
Source = Callable[[int], Any]


def measure(sources: dict[str, Source], clips: int) -> dict[str, dict[str, float]]:
    """Seconds of every source, clip by clip; index 0 is a warm-up that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in sources}
    for i in range(clips + 1):
        names = list(sources)
        for name in names[i % len(names) :] + names[: i % len(names)]:
            start = time.process_time()
            sources[name](i)
            if i:
                seconds[name].append(time.process_time() - start)
    rng = np.random.default_rng(0)
    rows = {}
    for name, values in seconds.items():
        means = np.sort(rng.choice(values, (2000, len(values))).mean(1))
        low, high = 1 / means[1950], 1 / means[50]
        rows[name] = {
            "cpu_seconds": round(float(np.mean(values)), 4),
            "clips_per_second": round(float(1 / np.mean(values)), 2),
            "interval_95": [round(float(low), 2), round(float(high), 2)],
        }
    return rows


def rows_of_side(side: int, rigs: Path | None, clips: int, folder: Path) -> dict[str, Any]:
    """All sources at one picture side."""
    common: dict[str, Any] = {"side": side, "seed": 11}
    procedural = ClipDataset(None, procedural_fraction=1.0, **common)
    bare = ClipDataset(None, procedural_fraction=1.0, grid=0, **common)
    rendered: dict[str, Source] = {"rendered, procedural": procedural.__getitem__}
    rendered["rendered, procedural, no tracks"] = bare.__getitem__
    if rigs is not None:
        packed = ClipDataset(rigs, procedural_fraction=0.0, **common)
        plain = ClipDataset(rigs, procedural_fraction=0.0, grid=0, **common)
        rendered |= {"rendered, rigs": packed.__getitem__, "rendered, rigs, no tracks": plain.__getitem__}
    (folder / "cache").mkdir(parents=True)
    for i in range(clips + 1):
        save_item(procedural[i], folder / "cache" / f"{i:06d}.npz")
    cached = CachedClips(folder / "cache")
    write_shards(cached, folder / "shards", made={}, per_shard=8)
    shards = ShardClips(folder / "shards")
    model = VideoModel.load("mini").autoencoder
    digest = autoencoder_digest(model)  # type: ignore[arg-type]
    store = LatentStore(folder / "latents", digest, create=True)
    # what is in them does not matter to the clock; their shape is the mini model's
    encode_clips(shards, store, lambda item: torch.zeros(*item["rgba"].shape[:2], model.latent_channels, 8, 8))
    joined = WithLatents(shards, folder / "latents", digest)
    stream = iter(stream_shards([str(p) for p in sorted((folder / "shards").glob("*.tar"))], repeat=True))
    stored: dict[str, Source] = {
        "cache": cached.__getitem__,
        "shards": shards.__getitem__,
        "shards, streamed": lambda i: next(stream),
        "shards with latents": joined.__getitem__,
    }
    rows = measure({**rendered, **stored}, clips)
    for row in rows.values():
        row["times_cache"] = round(row["cpu_seconds"] / rows["cache"]["cpu_seconds"], 2)
    for kind in ("procedural", "rigs"):
        if f"rendered, {kind}" in rows:
            with_tracks, without = rows[f"rendered, {kind}"], rows[f"rendered, {kind}, no tracks"]
            share = with_tracks["cpu_seconds"] / without["cpu_seconds"] - 1
            with_tracks["share_of_tracks"] = round(share, 3)
    size = {n: sum(p.stat().st_size for p in (folder / n).rglob("*")) for n in ("cache", "shards", "latents")}
    return {"rows": rows, "mb_per_clip": {n: round(s / 1e6 / (clips + 1), 3) for n, s in size.items()}}


def renderer_ratio(side: int) -> dict[str, Any]:
    """The renderer against its slow twin on one view and three frames of a ball of 1 280 triangles."""
    import trimesh

    ball = trimesh.creation.icosphere(3, radius=0.6)
    faces = np.asarray(ball.faces, np.int32)
    vertices = np.stack([np.asarray(ball.vertices) + [0.05 * t, 0, 0] for t in range(3)]).astype(np.float32)
    colors = np.random.default_rng(0).random((3, len(vertices[0]), 3)).astype(np.float32)
    cameras = rig(width=side, height=side)[:1]
    render_clip(vertices, faces, colors, cameras, grid=15)
    seconds = {}
    for name, function, runs in (("fast", render_clip, 20), ("reference", render_clip_reference, 1)):
        start = time.process_time()
        for _ in range(runs):
            function(vertices, faces, colors, cameras, grid=15)
        seconds[name] = (time.process_time() - start) / runs
    return {**{k: round(s, 5) for k, s in seconds.items()}, "ratio": round(seconds["reference"] / seconds["fast"])}


def converted(clips: int, folder: Path) -> dict[str, Any]:
    """MV-Video's layout, four views of 48 frames at 256 px: read, 16 frames chosen, cut out of white, to 256 px."""
    data = ClipDataset(None, procedural_fraction=1.0, side=256, frames=48, seed=12)
    info = {}
    for i in range(clips + 1):
        item = data[i]
        white = item["rgba"][:, :, :3] + 0.5 * (1 - item["rgba"][:, :, 3:])
        place = folder / "videos" / f"u{i:03d}" / "00"
        place.mkdir(parents=True)
        for view, pictures in enumerate(white):
            write_video(place / f"view_{view}.mp4", pictures.permute(0, 2, 3, 1), 24, crf=18)
        angle = {"elv": 15, "azi_start": 0}
        info[f"u{i:03d}"] = {"anim": {"00": {"angle": angle, "text_prompt": item["caption"]}}}
    (folder / INFO).write_text(json.dumps(info))
    videos = MvVideoClips(folder, around=4)
    chosen = np.round(np.linspace(0, 47, 16)).astype(int)
    overlap = [_iou(videos[i]["rgba"], data[i]["rgba"][:, chosen]) for i in range(clips)]
    return {**measure({"x": videos.__getitem__}, clips)["x"], "coverage_iou": round(float(np.mean(overlap)), 4)}


def _iou(found: torch.Tensor, truth: torch.Tensor) -> float:
    """Overlap of coverages with the exact ones."""
    a, b = found[:, :, 3], truth[:, :, 3]
    return float(torch.minimum(a, b).sum() / torch.maximum(a, b).sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rigs", type=Path, help="rig packs (train/dataset.py pack); procedural objects only without")
    parser.add_argument("--clips", type=int, default=16)
    parser.add_argument("--videos", type=int, default=3, help="clips of videos; 0 leaves them out")
    parser.add_argument("--sides", type=int, nargs="+", default=[64, 128])
    parser.add_argument("--out", type=Path, default=RESULT)
    args = parser.parse_args()
    torch.set_num_threads(1)
    result: dict[str, Any] = {"hardware": hardware(), "clips": args.clips, "views": 4, "frames": 16, "sides": {}}
    result["renderer_against_reference"] = {"side": min(args.sides), **renderer_ratio(min(args.sides))}
    with tempfile.TemporaryDirectory() as temporary:
        for side in args.sides:
            found = rows_of_side(side, args.rigs, args.clips, Path(temporary) / str(side))
            result["sides"][side] = found
            print(f"{side} px: MB a clip {found['mb_per_clip']}")
            for name, row in found["rows"].items():
                print(f"  {name:34s} {row['clips_per_second']:8.2f} clips/s a core {row['times_cache']:7.2f} x cache")
        if args.videos:
            result["videos_256"] = converted(args.videos, Path(temporary) / "videos")
            print("from videos:", result["videos_256"])
    print("renderer:", result["renderer_against_reference"])
    args.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
