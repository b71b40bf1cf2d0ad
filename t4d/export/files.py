"""Files that are either whole or absent."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` that takes its place when the block ends without an error.

    A reader (the studio polls run folders) therefore never sees half a file, and a failed write leaves the old one.

    Args:
        path: Final file; its folder is made when missing.

    Yields:
        Path to write to, in the same folder and with the same suffix.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_sequence(
    folder: Path, suffix: str, write: Callable[[Path, int], Path], frames: int, index: str, **facts: object
) -> list[Path]:
    """Write one numbered file a frame, `0000` and up, and a JSON file that says how to play them.

    Args:
        folder: Made when missing; files of an earlier, longer sequence in it are removed.
        suffix: Of the numbered files, with its dot.
        write: Writes a frame to a path and returns the path.
        frames: Number of frames T.
        index: Name of the JSON file.
        facts: What it says besides the files' names.

    Returns:
        The T paths, in order.
    """
    folder = Path(folder)
    paths = [write(folder / f"{frame:04d}{suffix}", frame) for frame in range(frames)]
    for stale in set(folder.glob(f"[0-9][0-9][0-9][0-9]{suffix}")) - set(paths):
        stale.unlink()
    with atomic_path(folder / index) as temporary:
        told = {"frames": [path.name for path in paths], **facts, "handedness": "right", "loop": True}
        temporary.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    return paths
