"""Content-addressed stages: a long step is a generator whose finished outputs are stored under a hash of its inputs.

One mechanism serves resume, history, re-prompting, ablation reuse and re-export. The key of a stage is the sha256 of
its name and version, its own slice of the configuration, the content of its inputs, the content of its weights and the
source text of the code it names. A finished stage is returned from the cache without running; a killed one leaves no
entry.

Example:
    FIT = Stage("fit", version=1, code=("motion", "splat"))

    def work(folder: Path) -> Iterator[Progress]:
        for state in fit_motion(...):
            yield Progress("fit", state.iteration / state.total, ...)
        state.asset.save(folder / "asset.safetensors")

    output = yield from run_stage(FIT, work, cache=cache, config=config.fit, inputs={"clip": clip_output, "file": path})
    asset = MotionAsset.load(output / "asset.safetensors")
"""

import dataclasses
import hashlib
import json
import math
import os
import shutil
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from filelock import FileLock, Timeout

from t4d.errors import InputError

RECORD = "stage.json"
CHECKPOINT_PREFIX = "checkpoint"
PACKAGE = Path(__file__).resolve().parent

P = TypeVar("P")


@dataclasses.dataclass(frozen=True)
class Stage:
    """A declared step.

    Attributes:
        name: short file-system name, e.g. ``"fit"``.
        version: raise it when the meaning of the outputs changes.
        code: files or folders of this package, relative to ``t4d/`` (``"motion"``, ``"splat/binding.py"``), whose
            source text belongs to the key, so that an edit of them is never answered from an old cache.
    """

    name: str
    version: int = 1
    code: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class StageOutput:
    """A finished, verified stage.

    Attributes:
        folder: the outputs (read-only by convention; ``output / "name"`` gives a path).
        key: sha256, hex.
        cached: True where this call did not run the work.
        cpu_seconds: user + system time of this process and its finished children, of the run that made the outputs.
        wall_seconds: wall time of that run.
    """

    folder: Path
    key: str
    cached: bool
    cpu_seconds: float
    wall_seconds: float

    def __truediv__(self, name: str) -> Path:
        return self.folder / name


def content_hash(value: Any) -> str:
    """sha256 (hex) of a value's content, the same in every process and on every machine.

    Args:
        value: None, bool, int, finite float, str, bytes, Path (file or folder, hashed by content), numpy array or torch
            tensor (dtype, shape and bytes), StageOutput (its key), dataclass, pydantic model, or lists and mappings
            of these. Strings are text, never opened as paths.

    Raises:
        InputError: a path that does not exist, or a value of a kind that has no defined content.
    """
    digest = hashlib.sha256()
    _feed(digest, value)
    return digest.hexdigest()


def stage_key(stage: Stage, *, config: Any = None, inputs: Mapping[str, Any] | None = None, weights: Any = None) -> str:
    """The cache key: sha256 over name, version, code, configuration slice, inputs and weights (see `content_hash`)."""
    code = {}
    for name in stage.code:
        path = PACKAGE / name
        files = sorted(path.rglob("*.py")) if path.is_dir() else [path]
        if not files or not all(file.is_file() for file in files):
            raise InputError(
                f"Stage {stage.name} names the code {name!r}, which is not in the package; correct its name."
            )
        code[name] = {file.relative_to(PACKAGE).as_posix(): file.read_bytes() for file in files}
    parts = {"stage": stage.name, "version": stage.version, "code": code}
    return content_hash({**parts, "config": config, "inputs": dict(inputs or {}), "weights": weights})


def run_stage(
    stage: Stage,
    work: Callable[[Path], Iterator[P]],
    *,
    cache: Path,
    config: Any = None,
    inputs: Mapping[str, Any] | None = None,
    weights: Any = None,
) -> Generator[P, None, StageOutput]:
    """Runs a stage, or returns its outputs from the cache.

    ``work(folder)`` writes its outputs into an empty temporary folder and yields progress objects of any kind, which
    are passed on. When it ends, the files are hashed and the folder is renamed into place in one step. If it raises, is
    closed or the process is killed, no entry appears; only files named ``checkpoint*`` (written with
    `write_atomically`) stay in the temporary folder and are there when the same stage is run again, so that the work
    can resume. They are removed at the end. An entry whose files are missing or changed is discarded and computed
    again. Two processes running the same stage: the second waits for the first.

    Args:
        stage: the declared step.
        work: see above.
        cache: folder of all stages; made if missing.
        config, inputs, weights: what the outputs depend on; see `content_hash`.

    Yields:
        What ``work`` yields (nothing when cached).

    Returns:
        The StageOutput (the value of ``yield from``).
    """
    key = stage_key(stage, config=config, inputs=inputs, weights=weights)
    home = Path(cache) / stage.name
    home.mkdir(parents=True, exist_ok=True)
    final, part = home / key, home / f"{key}.part"
    lock = FileLock(str(home / f"{key}.lock"), thread_local=False)
    # A lock of the operating system: it is released when its process dies, however it dies. The polling acquire
    # keeps Ctrl-C working while another process computes the same thing.
    while True:
        try:
            lock.acquire(timeout=1.0)
            break
        except Timeout:
            continue
    try:
        found = read_output(final)
        if found is not None:
            os.utime(final / RECORD)  # least recently used order for `prune`
            return found
        shutil.rmtree(final, ignore_errors=True)
        _keep_checkpoints(part)
        wall, cpu = time.perf_counter(), _cpu_seconds()
        yield from work(part)
        wall, cpu = time.perf_counter() - wall, _cpu_seconds() - cpu
        for path in part.glob(f"{CHECKPOINT_PREFIX}*"):
            path.unlink()
        record = {
            "stage": stage.name,
            "version": stage.version,
            "key": key,
            "cpu_seconds": round(cpu, 3),
            "wall_seconds": round(wall, 3),
            "files": {file.relative_to(part).as_posix(): _file_hash(file) for file in _files(part)},
        }
        (part / RECORD).write_text(json.dumps(record, indent=1))
        part.rename(final)
        return StageOutput(final, key, False, cpu, wall)
    finally:
        lock.release()


def read_output(folder: Path) -> StageOutput | None:
    """The verified output in a cache folder, or None where it is absent, incomplete or altered.

    Every file is hashed and compared with the record; a file too many counts as altered.
    """
    try:
        record = json.loads((folder / RECORD).read_text())
        files = {file.relative_to(folder).as_posix(): file for file in _files(folder)}
        if record["key"] != folder.name or set(record["files"]) != set(files):
            return None
        if any(_file_hash(files[name]) != digest for name, digest in record["files"].items()):
            return None
        return StageOutput(folder, record["key"], True, float(record["cpu_seconds"]), float(record["wall_seconds"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_atomically(path: Path, write: Callable[[Path], Any]) -> None:
    """Calls ``write(temporary path)`` and renames the result to `path`: a kill leaves the old file or the new one.

    The bytes are on the disk before the name is, so that a power cut cannot leave the new name with nothing in it.
    """
    temporary = path.with_name(f"temporary-{path.name}")
    write(temporary)
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    temporary.replace(path)


def prune(cache: Path, keep_bytes: int, abandoned_hours: float = 24.0) -> int:
    """Deletes the least recently used finished stages until the cache holds at most `keep_bytes`.

    Unfinished ones whose checkpoints nobody has gone on from for `abandoned_hours` go too.

    Returns:
        Bytes freed. Stages that are being computed are not touched.
    """
    freed = sum(_drop_abandoned(part, abandoned_hours) for part in Path(cache).glob("*/*.part"))
    entries = []
    for record in Path(cache).glob(f"*/*/{RECORD}"):
        if record.parent.suffix != ".part":
            size = sum(file.stat().st_size for file in _files(record.parent))
            entries.append((record.stat().st_mtime, size, record.parent))
    total = sum(size for _, size, _ in entries)
    for _, size, folder in sorted(entries):
        if total <= keep_bytes:
            break
        shutil.rmtree(folder)
        total, freed = total - size, freed + size
    return freed


def _drop_abandoned(part: Path, hours: float) -> int:
    """Deletes what is left of an unfinished stage if it is old and nobody computes it; returns its bytes."""
    lock = FileLock(str(part.with_suffix(".lock")), thread_local=False)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return 0
    try:
        files = [file for file in part.rglob("*") if file.is_file()]
        last = max(path.stat().st_mtime for path in (part, *files))
        if time.time() - last < hours * 3600:
            return 0
        size = sum(file.stat().st_size for file in files)
        shutil.rmtree(part)
        return size
    except FileNotFoundError:  # finished or dropped since the list was made
        return 0
    finally:
        lock.release()


def _feed(digest: Any, value: Any) -> None:
    """Feeds one value with its kind and length, so that different structures cannot collide."""
    if isinstance(value, StageOutput):
        _tag(digest, "stage", value.key.encode())
    elif value is None or isinstance(value, bool | int | str | np.bool_ | np.integer):
        plain = value.item() if isinstance(value, np.generic) else value
        _tag(digest, "json", json.dumps(plain).encode())
    elif isinstance(value, float | np.floating):
        if not math.isfinite(value):
            raise InputError(f"A stage input is {value}; only finite numbers can be part of a cache key.")
        _tag(digest, "float", repr(float(value)).encode())
    elif isinstance(value, bytes):
        _tag(digest, "bytes", value)
    elif isinstance(value, Path):
        _feed_path(digest, value)
    elif isinstance(value, np.ndarray):
        _tag(digest, "array", f"{value.dtype.str}{value.shape}".encode())
        digest.update(np.ascontiguousarray(value).data)
    elif hasattr(value, "detach") and hasattr(value, "numpy"):  # a tensor, without importing torch here
        _feed(digest, value.detach().cpu().numpy())
    elif isinstance(value, Mapping):
        items = sorted((str(key), item) for key, item in value.items())
        _tag(digest, "map", str(len(items)).encode())
        for key, item in items:
            _tag(digest, "key", key.encode())
            _feed(digest, item)
    elif isinstance(value, list | tuple):
        _tag(digest, "list", str(len(value)).encode())
        for item in value:
            _feed(digest, item)
    elif hasattr(value, "model_dump"):  # pydantic
        _feed(digest, value.model_dump(mode="json"))
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        _feed(digest, {field.name: getattr(value, field.name) for field in dataclasses.fields(value)})
    else:
        raise InputError(
            f"A stage input is of type {type(value).__name__}, which has no defined content; "
            "give numbers, text, paths, arrays, tensors, dataclasses, or lists and mappings of these."
        )


def _feed_path(digest: Any, path: Path) -> None:
    if path.is_file():
        _tag(digest, "file", _file_hash(path).encode())
    elif path.is_dir():
        files = _files(path)
        _tag(digest, "folder", str(len(files)).encode())
        for file in files:
            _tag(digest, "name", file.relative_to(path).as_posix().encode())
            _tag(digest, "file", _file_hash(file).encode())
    else:
        raise InputError(f"The stage input {path} does not exist; give an existing file or folder.")


def _tag(digest: Any, kind: str, data: bytes) -> None:
    digest.update(f"{kind}:{len(data)}:".encode())
    digest.update(data)


def _file_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.is_file() and file != folder / RECORD)


def _keep_checkpoints(part: Path) -> None:
    """Empties the temporary folder except for what the work may resume from."""
    part.mkdir(exist_ok=True)
    for path in part.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif not path.name.startswith(CHECKPOINT_PREFIX):
            path.unlink()


def _cpu_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
