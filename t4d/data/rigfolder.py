"""Folders of animated glTF files to folders of rig packs; bad files are left out with a reason."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from t4d.data.rigpack import VERSION, PackedRig, save_pack
from t4d.data.rigpacker import pack_object
from t4d.errors import InputError

SUFFIXES = (".glb", ".gltf")


@dataclass(frozen=True)
class PackReport:
    """What `pack_folder` did.

    Attributes:
        rigs: Entries of the index: file, source, joint_set, noun, clips.
        skipped: (path below the source folder, reason) of every file left out.
        size: Bytes written.
    """

    rigs: list[dict]
    skipped: list[tuple[str, str]]
    size: int


def animated_files(source: Path) -> list[Path]:
    """The glTF files below a folder, by path."""
    return sorted(p for p in source.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())


def pack_folder(source: Path, out: Path, each: Callable[[str, PackedRig, int], None] | None = None) -> PackReport:
    """Packs every animated file below a folder; writes one npz each and index.json.

    Args:
        source: Holds .glb and .gltf files and optionally `catalog.json` (a list of {path, joint_set}) and `split.json`
            (lists such as train, near, far of those paths). Without them every file is its own joint set, in "train".
        out: Folder to write to.
        each: Called with (path below source, pack, bytes) after every file.

    Raises:
        InputError: No such files, one of the two json files is not what is said above, or no file can be packed.
    """
    files = animated_files(source)
    if not files:
        raise InputError(f"{source} holds no .glb or .gltf files; give a folder of animated objects")
    names = [p.relative_to(source).as_posix() for p in files]
    try:
        sets = {item["path"]: item["joint_set"] for item in _read(source / "catalog.json", list[dict], [])}
    except KeyError as error:
        raise InputError(f"{source / 'catalog.json'} has an entry without {error}; expected path, joint_set") from error
    split = _read(source / "split.json", dict, {"train": names})
    report = PackReport([], [], 0)
    total = 0
    out.mkdir(parents=True, exist_ok=True)
    for path, name in zip(files, names):
        try:
            packed = pack_object(path, name, sets.get(name, name))
        except InputError as error:
            report.skipped.append((name, str(error)))
            continue
        file = name.rsplit(".", 1)[0].replace("/", "__") + ".npz"
        if any(rig["file"] == file for rig in report.rigs):  # fox.glb beside fox.gltf, a/b.glb beside a__b.glb
            file = f"{name.replace('/', '__')}-{len(report.rigs)}.npz"
        save_pack(packed, out / file)
        size = (out / file).stat().st_size
        total += size
        report.rigs.append(
            {
                "file": file,
                "source": name,
                "joint_set": packed.joint_set,
                "noun": packed.rig.noun,
                "clips": [clip.name for clip in packed.clips],
            }
        )
        if each is not None:
            each(name, packed, size)
    if not report.rigs:
        where, why = report.skipped[0]
        raise InputError(f"none of the {len(files)} files of {source} can be used; the first, {where}: {why}")
    index = {
        "split": {key: value for key, value in split.items() if isinstance(value, list)},
        "rigs": report.rigs,
        "skipped": report.skipped,
    }
    (out / "index.json").write_text(json.dumps(index, indent=1))
    return PackReport(report.rigs, report.skipped, total)


def cached_packs(source: Path) -> Path:
    """Packs a folder of animated files once; later calls, until a file changes, find the packs.

    They live in ``$T4D_CACHE/packs`` (default ``~/.cache/track4dgen``). Several processes may call this at once.

    Raises:
        InputError: As `pack_folder`.
    """
    source = source.resolve()
    listed = sorted(p for p in source.rglob("*") if p.is_file())  # .gltf files have their numbers in other files
    facts = [(str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in listed]
    key = hashlib.sha256(json.dumps([VERSION, facts]).encode()).hexdigest()[:16]
    root = Path(os.environ.get("T4D_CACHE", Path.home() / ".cache" / "track4dgen")) / "packs"
    done = root / f"{source.name}-{key}"
    if not done.is_dir():
        root.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f"{done.name}.", dir=root))
        try:
            pack_folder(source, part)
            if not done.is_dir():  # another process may have been faster
                part.replace(done)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return done


def _read(path: Path, kind: type, default):
    if not path.exists():
        return default
    try:
        return TypeAdapter(kind).validate_json(path.read_bytes())
    except ValidationError as error:
        raise InputError(f"{path} is not a JSON {'list' if kind is not dict else 'object'} as expected") from error
