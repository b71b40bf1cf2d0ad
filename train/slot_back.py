"""What comes back from a lent machine: a handful of files, none of them large."""

import shutil
import tarfile
from collections.abc import Sequence
from pathlib import Path

from t4d.errors import InputError

MOST_BYTES = 15_500_000  # of one file
MOST_FILES = 8


def pack_model(model: Path, back: Path, beside: Sequence[Path] = ()) -> list[Path]:
    """Puts a model folder into as few tar files as possible, each whole in itself and below `MOST_BYTES`.

    Unpack with: for f in model-*.tar; do tar xf $f; done

    Args:
        model: Folder of `VideoModel.save`; its files are shards below 9 MB.
        back: Where the tar files go; older ones are replaced when the new ones are complete.
        beside: Small files that come along, unpacked beside the model.

    Raises:
        InputError: A file is too large for one archive.
    """
    names = {p: str(p.relative_to(model.parent)) for p in model.rglob("*") if p.is_file()}
    names |= {p: p.name for p in beside}
    bins: list[list[Path]] = []
    room: list[int] = []
    for file in sorted(names, key=lambda p: (-p.stat().st_size, names[p])):
        size = file.stat().st_size + 2048
        if size > MOST_BYTES:
            raise InputError(
                f"{file.name} has {size / 1e6:.1f} MB, more than one file of {MOST_BYTES / 1e6:g} MB takes"
            )
        place = next((i for i, left in enumerate(room) if left >= size), None)
        if place is None:
            bins.append([])
            room.append(MOST_BYTES)
            place = -1
        bins[place].append(file)
        room[place] -= size
    parts = []
    for i, members in enumerate(bins, 1):
        part = back / f"model-{i}-of-{len(bins)}.tar.part"
        with tarfile.open(part, "w") as archive:
            for file in members:
                archive.add(file, arcname=names[file])
        parts.append(part)
    for old in back.glob("model-*.tar"):
        old.unlink()
    return [part.replace(part.with_suffix("")) for part in parts]


def send(out: Path, back: Path) -> list[Path]:
    """Copies a slot's files to where they are fetched from: results.json, log.jsonl, sheet.png, and the model with the
    run's config.yaml: unpacked beside log.jsonl it is a run folder as `train.ship` takes it.

    Args:
        out: Run folder.
        back: Made if absent.

    Returns:
        The files there.

    Raises:
        InputError: They are too many, or the model has a file too large for one archive.
    """
    back.mkdir(parents=True, exist_ok=True)
    for name in ("results.json", "log.jsonl", "sheet.png"):
        if (out / name).is_file():
            shutil.copyfile(out / name, back / name)
    if (out / "model").is_dir():
        pack_model(out / "model", back, [p for p in (out / "config.yaml",) if p.is_file()])
    found = sorted(p for p in back.iterdir() if p.is_file())
    if len(found) > MOST_FILES:
        names = ", ".join(path.name for path in found)
        raise InputError(
            f"{len(found)} files lie in {back} and at most {MOST_FILES} come back ({names}); take out those that are "
            "not the slot's, or train a smaller network."
        )
    return found
