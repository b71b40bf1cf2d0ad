"""Rig packs: one small npz per animated file, holding a skinned mesh with vertex colours and its clips at 24 fps.

Packs travel to machines that have neither the original files nor a glTF loader. Joint matrices are exact up to float16
(positions to about 1/2000 of the object's radius); textures and materials become one colour a vertex; morph targets
stay at their rest weights (said in the notes).
"""

import json
import zlib
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from t4d.data.rig import Rig
from t4d.errors import InputError

FPS = 24.0
MAX_SECONDS = 6.0
VERSION = 1


@dataclass(frozen=True)
class PackedClip:
    """One clip.

    Attributes:
        name: As in the file, without an armature prefix.
        duration: Seconds; the last stored frame is the one at or before it.
        matrices: [F, J, 3, 4] float16 at `FPS`.
    """

    name: str
    duration: float
    matrices: np.ndarray

    def at(self, seconds: np.ndarray) -> np.ndarray:
        """Joint matrices [T, J, 3, 4] float32 at times [T], linear between stored frames, held at the ends."""
        position = np.clip(np.asarray(seconds, np.float64) * FPS, 0, len(self.matrices) - 1)
        low = np.floor(position).astype(int)
        high = np.minimum(low + 1, len(self.matrices) - 1)
        f = (position - low).astype(np.float32)[:, None, None, None]
        return self.matrices[low].astype(np.float32) * (1 - f) + self.matrices[high].astype(np.float32) * f


@dataclass(frozen=True)
class PackedRig:
    """A rig and its clips.

    Attributes:
        rig: Mesh, colours, skin; z up, centred on the rest pose, rest radius 1.
        clips: In file order.
        source: Path of the original below its collection's folder.
        joint_set: Collections sample by this: rigs that share a skeleton share it.
        notes: What was repaired or left out.
    """

    rig: Rig
    clips: list[PackedClip]
    source: str
    joint_set: str
    notes: list[str]


def save_pack(pack: PackedRig, path: Path) -> None:
    """Writes one npz."""
    from t4d.geometry.color import linear_to_srgb

    rig = pack.rig
    assert rig.rest is not None and rig.smoothing is not None
    small = np.uint16 if len(rig.vertices) < 65536 else np.uint32
    meta = {
        "version": VERSION,
        "name": rig.name,
        "noun": rig.noun,
        "source": pack.source,
        "joint_set": pack.joint_set,
        "notes": pack.notes,
        "clips": [[c.name, c.duration, len(c.matrices)] for c in pack.clips],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        path,
        meta=np.frombuffer(json.dumps(meta).encode(), np.uint8),
        vertices=rig.vertices.astype(np.float16),
        faces=rig.faces.astype(small),
        srgb=np.round(linear_to_srgb(rig.colors) * 255).astype(np.uint8),
        joints=rig.joints.astype(np.uint8 if rig.joints.max() < 256 else np.uint16),
        weights=_quantised(rig.weights),
        smoothing=rig.smoothing.astype(small),
        rest=rig.rest.astype(np.float32),
        matrices=np.concatenate([c.matrices for c in pack.clips]),
    )


def load_pack(path: Path) -> PackedRig:
    """Reads one npz written by `save_pack`.

    Raises:
        InputError: Not a rig pack, or of another version.
    """
    from t4d.geometry.color import srgb_to_linear

    try:
        with np.load(path, allow_pickle=False) as stored:
            data = {key: stored[key] for key in stored.files}
        meta = json.loads(data["meta"].tobytes())
    except (OSError, EOFError, KeyError, ValueError, BadZipFile, zlib.error) as error:
        raise InputError(f"{path} is not a rig pack ({error}); make it with: python train/dataset.py pack") from error
    if meta.get("version") != VERSION:
        raise InputError(f"{path} is a rig pack of version {meta.get('version')}, expected {VERSION}; pack it again")
    rig = Rig(
        meta["name"],
        meta["noun"],
        data["vertices"].astype(np.float32),
        data["faces"].astype(np.int32),
        srgb_to_linear(data["srgb"].astype(np.float32) / 255).astype(np.float32),
        data["joints"].astype(np.int32),
        data["weights"].astype(np.float32) / 255,
        data["smoothing"].astype(np.int32),
        data["rest"],
    )
    clips, start = [], 0
    for name, duration, count in meta["clips"]:
        clips.append(PackedClip(name, duration, data["matrices"][start : start + count]))
        start += count
    return PackedRig(rig, clips, meta["source"], meta["joint_set"], meta["notes"])


def _quantised(weights: np.ndarray) -> np.ndarray:
    """uint8 weights [Nv, 4] that sum to 255 in each row."""
    low = np.floor(weights * 255)
    missing = (255 - low.sum(1)).astype(int)
    rank = np.argsort(np.argsort(-(weights * 255 - low), axis=1), axis=1)
    return (low + (rank < missing[:, None])).astype(np.uint8)
