"""Training clips in tar shards: read clip by clip at any place, or streamed by `webdataset` from elsewhere.

A shard is a plain tar file in WebDataset's layout: the members KEY.json, KEY.view_0.png, ..., KEY.safetensors.gz are
one clip (see `t4d.data.sample`). `index.json` beside the shards says where every member starts, so that clip i can be
read without reading the clips before it: a training run that was stopped goes on at exactly the clip it had reached.
"""

import json
import re
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from torch.utils.data import Dataset, IterableDataset

from t4d.data.sample import decode_item
from t4d.errors import InputError

INDEX = "index.json"
INDEX_VERSION = 1
Members = dict[str, tuple[int, int]]  # extension -> (first byte, bytes) in the tar
_REMOTE = re.compile(r"(https?|hf|gs)://[\w.~%/@:+=,&?-]+")


class Place(NamedTuple):
    """Where a clip is."""

    shard: Path
    key: str
    members: Members


def members_of(path: Path) -> dict[str, Members]:
    """Where the members of every clip of a tar file lie, by the clip's key, in the file's order.

    Raises:
        InputError: Not a plain tar file (compressed ones cannot be read from the middle).
    """
    found: dict[str, Members] = {}
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                if member.isfile() and not member.issparse():
                    key, _, extension = member.name.rpartition("/")[2].partition(".")
                    folder = member.name.rpartition("/")[0]
                    found.setdefault(f"{folder}/{key}" if folder else key, {})[extension] = (
                        member.offset_data,
                        member.size,
                    )
    except (tarfile.TarError, OSError, EOFError) as error:
        raise InputError(f"{path.name} is not a plain tar file ({error}); copy the shard again") from error
    return found


def read_index(folder: Path) -> dict[str, Any]:
    """`index.json` of a folder of shards, or an empty one where it has none.

    Raises:
        InputError: It cannot be read or is of another version.
    """
    path = folder / INDEX
    if not path.is_file():
        return {"version": INDEX_VERSION, "made": {}, "shards": []}
    try:
        index = json.loads(path.read_text())
        good = index["version"] == INDEX_VERSION and isinstance(index["made"], dict)
        good = good and all({"file", "bytes", "clips", "skipped"} <= s.keys() for s in index["shards"])
        names = [s["file"] for s in index["shards"]] if good else []
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is not an index of shards ({error}); delete it and it is not needed") from error
    if not good or any(Path(name).name != name for name in names):
        raise InputError(f"{path} is not an index of shards of version {INDEX_VERSION}; delete it and it is not needed")
    return index


class ShardClips(Dataset[dict[str, Any]]):
    """The clips of a folder of shards, shard by shard in the order of their names; those there at construction.

    Items are as `t4d.data.dataset.ClipDataset`'s, pictures rounded to 8 bits and flow to float16. Every access opens
    the file anew, so that worker processes and forks share nothing.

    Attributes:
        places: One per clip.
        made: What the shards' writer noted about them.

    Args:
        folder: Holds *.tar and usually `index.json`; shards that the index does not know are searched once.

    Raises:
        InputError: No shards, or one that the index names is missing.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        index = read_index(self.folder)
        self.made: dict[str, Any] = index["made"]
        known = {s["file"]: s for s in index["shards"]}
        files = {p.name: p for p in sorted(self.folder.glob("*.tar"))}
        lost = sorted(known.keys() - files.keys())
        if lost:
            raise InputError(f"{self.folder} lacks {len(lost)} of its shards ({lost[0]}); copy the whole folder again")
        self.places: list[Place] = []
        for name, path in files.items():
            entry = known.get(name)
            current = entry is not None and entry["bytes"] == path.stat().st_size
            clips = entry["clips"] if entry is not None and current else members_of(path)
            self.places += [
                Place(path, key, {ext: (int(a), int(n)) for ext, (a, n) in m.items()}) for key, m in clips.items()
            ]
        if not self.places:
            raise InputError(f"{self.folder} holds no clips in shards; make them with: python train/dataset.py shards")

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> dict[str, Any]:
        place = self.places[index]
        with place.shard.open("rb") as stream:
            members = {}
            for extension, (start, size) in place.members.items():
                stream.seek(max(start, 0))
                members[extension] = stream.read(max(size, 0))
                if start < 0 or len(members[extension]) != size:
                    raise InputError(f"{place.shard.name} ends within {place.key}.{extension}; copy the shard again")
        return decode_item(members, f"{place.shard.name}:{place.key}")


def stream_shards(
    urls: Sequence[str], *, seed: int | None = None, shuffle: int = 0, repeat: bool = False
) -> IterableDataset:
    """Clips read once from front to back, from files or servers, for sets too large to copy.

    Shards are dealt out to processes (torch.distributed) and workers; which clips one of them sees depends on their
    number. For a run that must continue exactly where it stopped, copy the shards and use `ShardClips`.

    Args:
        urls: Paths, or https://, http://, hf:// and gs:// addresses; of each process and worker at least one.
        seed: Shuffles the order of shards; None keeps it.
        shuffle: Clips held back to draw from at random; 0 keeps the order within a shard.
        repeat: Starts again at the end, for ever.

    Raises:
        InputError: An address of another kind (webdataset would run "pipe:" addresses as shell commands), or no
            `webdataset`.
    """
    try:
        from webdataset import WebDataset, split_by_node  # type: ignore[attr-defined]
    except ImportError as error:
        raise InputError("Streaming shards needs webdataset: pip install -r requirements-train.txt") from error
    plain = [str(url) for url in urls]
    for url in plain:
        if not (_REMOTE.fullmatch(url) or (":" not in url and Path(url).is_file())):
            raise InputError(f"{url} is neither a file nor an https, http, hf or gs address; give paths of .tar shards")
    data = WebDataset(
        plain,
        shardshuffle=len(plain) if seed is not None else False,
        detshuffle=True,
        seed=seed or 0,
        nodesplitter=split_by_node,
        empty_check=True,
    )
    if shuffle:
        data = data.shuffle(shuffle, seed=seed or 0)
    data = data.compose(_decoded)  # `map` would add webdataset's own key to the item
    return data.repeat() if repeat else data


def _decoded(samples: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for streamed in samples:
        members = {k: v for k, v in streamed.items() if not k.startswith("__")}
        yield decode_item(members, f"{Path(str(streamed['__url__'])).name}:{streamed['__key__']}")
