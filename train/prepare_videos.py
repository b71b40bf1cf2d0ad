"""`train/dataset.py convert | videos | track`: clips from videos, and tracks for them."""

from pathlib import Path
from typing import Annotated, Any

import typer

from train import prepare
from train.prepare import Background, Clips, Grid, Out, PerShard, Sampling, Settings, Size, TrackerName, Workers


def convert(
    source: Annotated[Path, typer.Option(help="folder with uid_info_dict.json and videos/UID/00/view_0.mp4 ...")],
    out: Out,
    size: Size = "256",
    views: Annotated[int, typer.Option(min=1, max=64)] = 4,
    frames: Annotated[int, typer.Option(min=2, max=512)] = 16,
    first: Annotated[str, typer.Option(help="first views, for example 0,1,2,3: each makes a clip of its own")] = "0",
    around: Annotated[int, typer.Option(min=1, help="views around an object in the source")] = 16,
    sampling: Sampling = "uniform",
    background: Background = "auto",
    high_quality: Annotated[bool, typer.Option(help="only objects in high_quality_uid.txt")] = False,
    tracker: TrackerName = "",
    settings: Settings = None,
    grid: Grid = 15,
    seed: int = 0,
    per_shard: PerShard = 64,
    workers: Workers = 0,
) -> None:
    """Shards from a data set in the public MV-Video layout: orthogonal views, the object cut out over grey."""
    from t4d.data.mv_video import MvVideoClips
    from t4d.errors import InputError

    if not all(x.strip().isdecimal() for x in first.split(",")):
        raise InputError(f"--first is {first!r}; expected numbers of views such as 0 or 0,1,2,3")
    options: dict[str, Any] = {
        "views": views,
        "frames": frames,
        "first_views": tuple(int(x) for x in first.split(",")),
        "around": around,
        "good_only": high_quality,
        **_video_options(size, sampling, background, seed),
    }
    data = MvVideoClips(source, **options)
    made = {"command": "convert", "source": source.resolve().name, **options}
    _write(data, out, made, tracker, settings, grid, per_shard, workers)


def videos(
    source: Annotated[Path, typer.Option(help="folder with captions.json and NAME/view_0.mp4 ...")],
    out: Out,
    size: Size = "256",
    views: Annotated[int, typer.Option(min=0, max=64, help="views a clip; 0: as many as the first has")] = 0,
    frames: Annotated[int, typer.Option(min=2, max=512)] = 16,
    sampling: Sampling = "uniform",
    background: Background = "auto",
    tracker: TrackerName = "",
    settings: Settings = None,
    grid: Grid = 15,
    seed: int = 0,
    per_shard: PerShard = 64,
    workers: Workers = 0,
) -> None:
    """Shards from a folder of one's own videos, one a view, with captions."""
    from t4d.data.video_folder import VideoFolderClips

    options = {"views": views or None, "frames": frames, **_video_options(size, sampling, background, seed)}
    data = VideoFolderClips(source, **options)
    made = {"command": "videos", "source": source.resolve().name, **options}
    _write(data, out, made, tracker, settings, grid, per_shard, workers)


def track(
    clips: Clips,
    out: Out,
    tracker: Annotated[str, typer.Option(help=prepare.TRACKERS_HELP)] = "flow",
    settings: Settings = None,
    grid: Grid = 15,
    per_shard: PerShard = 64,
    workers: Workers = 0,
) -> None:
    """Shards of the same clips with tracks: precomputed, because a tracker must not run inside a training step."""
    data = prepare.stored_clips(clips)
    made = {**getattr(data, "made", {}), "clips": clips.resolve().name}
    _write(data, out, made, tracker, settings, grid, per_shard, workers)


def _video_options(size: str, sampling: str, background: str, seed: int) -> dict[str, Any]:
    return {
        "side": prepare.parse_size(size),
        "sampling": prepare.parse_sampling(sampling),
        "background": prepare.parse_background(background),
        "seed": seed,
    }


def _write(
    data: Any,
    out: Path,
    made: dict[str, Any],
    tracker: str,
    settings: list[str] | None,
    grid: int,
    per_shard: int,
    workers: int,
) -> None:
    if tracker:
        from t4d.data.tracked import Tracked

        chosen = prepare.parse_settings(settings)
        data = Tracked(data, tracker, chosen, grid)
        made["tracks"] = {"tracker": tracker, "grid": grid, **{k: str(v) for k, v in chosen.items()}}
    prepare.write(data, out, made, per_shard, workers)
