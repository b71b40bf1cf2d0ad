"""Writes map-style data sets of training clips into tar shards; a stopped job goes on with the next shard."""

import io
import json
import multiprocessing
import tarfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from t4d.data.sample import encode_item
from t4d.data.shards import INDEX, INDEX_VERSION, members_of, read_index
from t4d.errors import InputError

_data: Any = None  # of a worker process: sent once, not with every shard


@dataclass(frozen=True)
class Written:
    """What `write_shards` did.

    Attributes:
        shards: Files, with those of earlier calls.
        clips: Clips in them.
        size: Bytes.
        skipped: (index, reason) of clips that could not be made.
    """

    shards: int
    clips: int
    size: int
    skipped: list[tuple[int, str]]


def write_shards(
    data: Any,
    folder: Path,
    *,
    made: dict[str, Any],
    count: int | None = None,
    per_shard: int = 64,
    workers: int = 0,
    said: Callable[[str], None] = lambda line: None,
) -> Written:
    """Writes clips 0 .. count - 1 of a data set; bad ones (InputError) are left out and reported.

    A shard appears under its name only when complete. Called again with the same `made`, shards that are there stay,
    but for those all of whose clips were bad: whoever repaired them wants them tried again.

    Args:
        data: Map-style data set of training clips; picklable where `workers` is not 0.
        folder: For `clips-000000.tar`, ... and `index.json`.
        made: Notes about how the clips were made, kept in the index; JSON values.
        count: How many clips; all of them where None.
        per_shard: Clips a shard.
        workers: Processes; 0 writes in this one.
        said: Gets a line for every shard and clip left out.

    Raises:
        InputError: The folder holds shards of another job, clips differ in shape or fields, or none could be made.
    """
    count = len(data) if count is None else min(count, len(data))
    notes = json.loads(json.dumps({**made, "count": count, "per_shard": per_shard}))
    folder.mkdir(parents=True, exist_ok=True)
    index = read_index(folder)
    if index["made"] != notes and (index["shards"] or any(folder.glob("*.tar"))):
        raise InputError(f"{folder} holds shards made in another way ({index['made']}); give an empty folder")
    index["made"] = notes
    here = {s["file"]: s for s in index["shards"]}
    there = {f: s for f, s in here.items() if s["clips"] and (folder / f).is_file()}
    done = {f for f, s in there.items() if (folder / f).stat().st_size == s["bytes"]}
    jobs = []
    for shard, first in enumerate(range(0, count, per_shard)):
        name = f"clips-{shard:06d}.tar"
        if name not in done:
            jobs.append((folder / name, first, min(first + per_shard, count)))

    def save() -> None:
        index["shards"] = [here[name] for name in sorted(here)]
        part = folder / f"{INDEX}.part"
        part.write_text(json.dumps({**index, "version": INDEX_VERSION}))
        part.replace(folder / INDEX)

    save()  # first: a job killed between its first shard and the index must know the shard for its own

    def keep(entry: dict[str, Any]) -> None:
        kinds = {json.dumps(s["kind"]) for s in [*here.values(), entry] if s["clips"]}
        if len(kinds) > 1:
            raise InputError(
                f"the clips of {entry['file']} differ from earlier ones in kind: {' against '.join(kinds)}"
            )
        here[entry["file"]] = entry
        save()
        for i, reason in entry["skipped"]:
            said(f"left out clip {i}: {reason}")
        said(f"{entry['file']}: {len(entry['clips'])} clips, {entry['bytes'] / 1e6:.1f} MB")

    if workers:
        # spawn: a forked child of a process with running threads can wait for ever on a lock
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(workers, context, initializer=_receive, initargs=(data,)) as pool:
            for entry in pool.map(_write_received, jobs):
                keep(entry)
    else:
        for job in jobs:
            keep(_write_shard(data, *job))
    skipped = [(int(i), str(reason)) for s in index["shards"] for i, reason in s["skipped"]]
    clips = sum(len(s["clips"]) for s in index["shards"])
    if not clips:
        reason = skipped[0][1] if skipped else "there are none"
        raise InputError(f"none of the {count} clips could be written; the first: {reason}")
    return Written(len(index["shards"]), clips, sum(s["bytes"] for s in index["shards"]), skipped)


def _receive(data: Any) -> None:
    global _data
    _data = data


def _write_received(job: tuple[Path, int, int]) -> dict[str, Any]:
    return _write_shard(_data, *job)


def _write_shard(data: Any, path: Path, first: int, end: int) -> dict[str, Any]:
    """One shard of clips first .. end - 1; its entry of the index."""
    part, skipped, kind = path.with_suffix(".tar.part"), [], None
    with tarfile.open(part, "w", format=tarfile.USTAR_FORMAT) as tar:
        for i in range(first, end):
            try:
                members = encode_item(data[i])
            except InputError as error:
                skipped.append((i, str(error)))
                continue
            facts = json.loads(members["json"])
            now = {"shape": facts["shape"], "fields": facts["fields"]}
            if kind not in (None, now):
                raise InputError(f"clip {i} has {now}, the clips before it {kind}; make all of one kind")
            kind = now
            for extension, content in members.items():
                entry = tarfile.TarInfo(f"{i:08d}.{extension}")  # time 0, no owner: equal clips, equal shards
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
    clips = members_of(part)
    part.replace(path)
    size = path.stat().st_size
    return {"file": path.name, "bytes": size, "kind": kind, "clips": clips, "skipped": skipped}
