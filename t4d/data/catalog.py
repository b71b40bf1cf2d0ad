"""Which rigs and clips a split may use, and how they are drawn: evenly by skeleton, then by verb."""

import json
import logging
from collections import defaultdict
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from t4d.data.captions import verb_of
from t4d.data.rigpack import PackedRig, load_pack
from t4d.errors import InputError

#: Twins of the files that evaluation animates: name or "folder/name" below the collection.
EVALUATION_TWINS = ("Clownfish", "Cow", "Frog", "Horse", "Horse_White", "Trex", "animals_pack/Fox")

IDLE_SHARE = 0.1

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Entry:
    """One rig of a pack folder: file, source path, joint set, and clip indices by verb."""

    path: Path
    source: str
    joint_set: str
    verbs: dict[str, list[int]]


class Catalog:
    """The rigs of one split.

    Args:
        folder: Pack folder with index.json (`python train/dataset.py pack`), or a folder of animated .glb and .gltf
            files, which is packed into a cache first (`t4d.data.rigfolder.cached_packs`; needs the glTF loader).
        split: "train", "near", "far" or "all".
        exclude: Names or "folder/name" to leave out.
        drop_verbs: Canonical verbs to leave out.
        verbs: Canonical verbs to keep; empty: all.

    Attributes:
        entries: What is left, in index order.
        skipped: (asset, reason) of what cannot be used: files that do not load, rigs whose clips name no known verb.

    Raises:
        InputError: No index and no animated files, an unknown split, or nothing left.
    """

    def __init__(
        self,
        folder: Path,
        split: str,
        exclude: tuple[str, ...],
        drop_verbs: tuple[str, ...],
        verbs: frozenset[str] = frozenset(),
    ) -> None:
        folder = Path(folder)
        if not (folder / "index.json").exists() and any(
            p.suffix.lower() in (".glb", ".gltf") for p in folder.rglob("*")
        ):
            from t4d.data.rigfolder import cached_packs

            folder = cached_packs(folder)
        try:
            index = json.loads((Path(folder) / "index.json").read_text())
            splits, rigs = index["split"], index["rigs"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{folder} is not a rig pack folder ({error}); make it with: python train/dataset.py pack"
            ) from error
        if split not in (*splits, "all"):
            raise InputError(f"split {split!r} is unknown; use one of {', '.join([*splits, 'all'])}")
        self.skipped: list[tuple[str, str]] = [(path, reason) for path, reason in index.get("skipped", [])]
        self.entries: list[Entry] = []
        for item in rigs:
            stem = item["source"].rsplit(".", 1)[0]
            if split != "all" and item["source"] not in splits[split]:
                continue
            if stem in exclude or stem.rsplit("/", 1)[-1] in exclude:
                continue
            found: dict[str, list[int]] = defaultdict(list)
            named = [verb_of(name) for name in item["clips"]]
            if not any(named):  # clips called "Take 001": the file may be called "dancing_robot"
                named = [verb_of(stem.rsplit("/", 1)[-1])] * len(named)
            for i, verb in enumerate(named):
                if verb is not None and verb not in drop_verbs and (not verbs or verb in verbs):
                    found[verb].append(i)
            if not any(named):
                self.skipped.append((item["source"], f"no known verb in its clips {', '.join(item['clips'])[:80]}"))
            if found:
                self.entries.append(Entry(Path(folder) / item["file"], item["source"], item["joint_set"], dict(found)))
        if not self.entries:
            raise InputError(f"no rig of {folder} is left in split {split!r} after exclusions; relax them")
        self._by_set: dict[str, list[Entry]] = defaultdict(list)
        for entry in self.entries:
            self._by_set[entry.joint_set].append(entry)
        self._sets = sorted(self._by_set)
        # Square root of the number of meshes: 35 fish share one skeleton and must neither drown nor be drowned.
        share = np.sqrt([len(self._by_set[s]) for s in self._sets])
        self._share = share / share.sum()
        for asset, reason in self.skipped:
            LOG.warning("left out: %s: %s", asset, reason)

    def draw(self, rng: np.random.Generator) -> tuple[PackedRig, str, int]:
        """A random (rig, verb, clip index). A pack that cannot be read is reported once and another is drawn.

        Raises:
            InputError: No pack can be read.
        """
        for _ in range(100 + 10 * len(self.entries)):
            try:
                return self._draw(rng)
            except InputError as error:  # stays in the lists: what a seed draws must not depend on what came before
                self._skip(error)
        raise InputError(f"none of {len(self.entries)} rig packs can be read: {self.skipped[-1][1]}")

    def _skip(self, error: InputError) -> None:
        where, _, reason = str(error).partition(" ")
        if (where, reason) not in self.skipped:
            self.skipped.append((where, reason))
            LOG.warning("left out: %s", error)

    def _draw(self, rng: np.random.Generator) -> tuple[PackedRig, str, int]:
        members = self._by_set[self._sets[int(rng.choice(len(self._sets), p=self._share))]]
        entry = members[int(rng.integers(len(members)))]
        verbs = sorted(entry.verbs)
        weight = np.array([IDLE_SHARE * len(verbs) if v == "idle" and len(verbs) > 1 else 1.0 for v in verbs])
        verb = verbs[int(rng.choice(len(verbs), p=weight / weight.sum()))]
        return _loaded(entry.path), verb, int(rng.choice(entry.verbs[verb]))

    def clips(self) -> list[tuple[Entry, str, int]]:
        """Every (entry, verb, clip index), in order: for evaluation."""
        return [(e, verb, i) for e in self.entries for verb in sorted(e.verbs) for i in e.verbs[verb]]


@lru_cache(maxsize=128)
def _loaded(path: Path) -> PackedRig:
    return load_pack(path)


def load_entry(entry: Entry) -> PackedRig:
    """The rig of a catalog entry, cached in this process."""
    return _loaded(entry.path)
