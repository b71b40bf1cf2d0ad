"""What the subcommands of `train/dataset.py` share: reading options, opening prepared clips, reporting."""

from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from t4d.errors import InputError

TRACKERS_HELP = "flow, cotracker3 (CC-BY-NC 4.0: not for commercial use) or file"
Out = Annotated[Path, typer.Option(help="folder for the shards; an unfinished job there is continued")]
Clips = Annotated[Path, typer.Option(help="folder of shards or of a cache")]
PerShard = Annotated[int, typer.Option(min=1, help="clips a file")]
Workers = Annotated[int, typer.Option(min=0, max=256, help="processes; 0 works in this one")]
Size = Annotated[str, typer.Option(help="picture size in pixels, 256 or WIDTHxHEIGHT")]
Background = Annotated[str, typer.Option(help="auto (a plain colour), alpha (the videos' own), or R,G,B in 0..255")]
Sampling = Annotated[str, typer.Option(help="uniform over the clip (Track4DGen) or stride (Animate3D)")]
TrackerName = Annotated[str, typer.Option(help=f"{TRACKERS_HELP}; empty: no tracks yet")]
Settings = Annotated[list[str] | None, typer.Option("--set", help="key=value of the tracker; may be repeated")]
Grid = Annotated[int, typer.Option(min=2, max=64, help="query points per side over frame 0")]


def parse_size(text: str) -> tuple[int, int]:
    """(height, width) of "256" or "320x256" (width first)."""
    parts = text.lower().split("x")
    if len(parts) > 2 or not all(p.isdecimal() and 16 <= int(p) <= 2048 for p in parts):
        raise InputError(f"--size is {text!r}; expected 16..2048 pixels, 256 or WIDTHxHEIGHT")
    return int(parts[-1]), int(parts[0])


def parse_background(text: str) -> Any:
    """ "auto", "alpha" or (r, g, b)."""
    if text in ("auto", "alpha"):
        return text
    parts = text.split(",")
    if len(parts) != 3 or not all(p.strip().isdecimal() and int(p) < 256 for p in parts):
        raise InputError(f"--background is {text!r}; expected auto, alpha or R,G,B in 0..255")
    return tuple(int(p) for p in parts)


def parse_sampling(text: str) -> Any:
    """One of `t4d.data.video_clip.Sampling`."""
    if text not in ("uniform", "stride"):
        raise InputError(f"--sampling is {text!r}; expected uniform or stride")
    return text


def parse_settings(pairs: list[str] | None) -> dict[str, Any]:
    """Values of key=value options, read as YAML."""
    found = {}
    for pair in pairs or []:
        key, equals, value = pair.partition("=")
        if not equals:
            raise InputError(f"--set {pair!r} has no '='; write key=value")
        try:
            found[key.strip()] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            reason = str(error).splitlines()[0]
            raise InputError(f"--set {pair!r} cannot be read ({reason}); put the value in quotes") from error
    return found


def stored_clips(folder: Path) -> Any:
    """The clips of a folder of shards or of a cache.

    Raises:
        InputError: It is neither.
    """
    from t4d.data.cache import CachedClips
    from t4d.data.shards import ShardClips

    if not folder.is_dir():
        raise InputError(f"{folder} is no folder; give one of shards or of a cache")
    return ShardClips(folder) if any(folder.glob("*.tar")) else CachedClips(folder)


def rendered_clips(rigs: Path | None, procedural: float, **options: Any) -> Any:
    """`ClipDataset`, procedural only without rigs."""
    from t4d.data.dataset import ClipDataset

    return ClipDataset(rigs, procedural_fraction=procedural if rigs else 1.0, **options)


def write(data: Any, out: Path, made: dict[str, Any], per_shard: int, workers: int, count: int | None = None) -> None:
    """Writes shards with a line for each, and the sum."""
    from t4d.data.shard_writer import write_shards

    done = write_shards(
        data, out, made=made, count=count, per_shard=per_shard, workers=workers, said=lambda s: print(s, flush=True)
    )
    left = f"{len(done.skipped)} left out" + (" (delete their shards to try them again)" if done.skipped else "")
    print(f"{done.clips} clips in {done.shards} shards, {done.size / 1e6:.1f} MB in {out}; {left}")
