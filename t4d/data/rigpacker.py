"""Makes rig packs from animated glTF files; needs the glTF loader, which reading packs does not."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from t4d.data.rig import Rig
from t4d.data.rigpack import FPS, MAX_SECONDS, PackedClip, PackedRig
from t4d.errors import InputError


def noun_of(stem: str) -> str:
    """A caption's noun from a file name ("Enemy_Large_Gun" -> "large enemy with a gun", "BlueTang" -> "blue tang").

    A name without a word ("001") makes an "object".
    """
    stem = re.sub(r"[-_]transformed$", "", stem)
    people = re.match(r"(Astronaut|Mech)_\w+?The(\w+)$", stem)
    if people:
        return f"{_words(people.group(2))} {'astronaut' if people.group(1) == 'Astronaut' else 'mech robot'}"
    words = _words(re.sub(r"\d+$", "", stem))
    special = {
        "mike": "mech robot",
        "stan": "mech robot",
        "george": "mech robot",
        "leela": "mech robot",
        "trex": "t-rex dinosaur",
        "hazard spike trap": "spike trap",
        "bouncer": "spring",
        "enemy legs": "two-legged robot",
        "enemy legs gun": "two-legged robot with a gun",
        "enemy flying": "flying robot",
        "enemy flying gun": "flying robot with a gun",
        "enemy large": "large robot",
        "enemy large gun": "large robot with a gun",
        "enemy small": "small alien",
        "enemy extra small": "tiny alien",
        "character": "person",
        "character gun": "person with a gun",
    }
    return special.get(words, words) or "object"


def _words(name: str) -> str:
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name.replace("_", " "))
    words = re.sub(r"\s+", " ", re.sub(r"[\d()\[\]{}#+.,&]+", " ", spaced)).strip(" -").lower()
    return words if any(map(str.isalpha, words)) else ""


def pack_object(path: Path, source: str, joint_set: str) -> PackedRig:
    """Packs an animated glTF file.

    Args:
        path: .glb or .gltf.
        source: Its path below the collection's folder.
        joint_set: See `PackedRig`.

    Raises:
        InputError: Not readable, or it has no clips.
    """
    from t4d.geometry.gltf_scene import SceneGraph
    from t4d.geometry.normalise import Normaliser
    from t4d.geometry.object3d import load_object
    from t4d.geometry.shading import surface_rgba_linear

    obj = load_object(path)
    if not isinstance(obj.poser, SceneGraph) or not obj.clips:
        raise InputError(f"{path.name} has no animation; a rig pack needs an animated .glb or .gltf")
    scene, mesh, notes = obj.poser, obj.mesh, list(obj.notes)
    if any(part.morphs is not None for part in scene.parts):
        notes.append("morph targets stay at rest")
    world = Normaliser.fit_static(obj, radius=1.0).matrix
    spaces, positions, joints, weights, base = _joint_spaces(scene, world)
    corner = np.full(len(mesh.vertices), -1)
    corner[mesh.faces.ravel()] = np.arange(mesh.faces.size)
    used = np.flatnonzero(corner >= 0)
    color = np.zeros((len(mesh.vertices), 3))
    color[used] = surface_rgba_linear(mesh, corner[used] // 3, np.eye(3)[corner[used] % 3])[:, :3]
    smoothing = np.arange(len(mesh.vertices)) if mesh.smoothing is None else mesh.smoothing
    rig = Rig(
        path.stem,
        noun_of(path.stem),
        positions.astype(np.float32),
        mesh.faces.astype(np.int32),
        color.astype(np.float32),
        joints,
        weights,
        smoothing.astype(np.int32),
        _palette(scene, None, 0.0, spaces, world, base),
    )
    rig = _merged(rig)
    keep = np.unique(rig.joints[rig.weights > 0])
    renumber = np.zeros(int(rig.joints.max()) + 1, np.int32)
    renumber[keep] = np.arange(len(keep))
    assert rig.rest is not None
    rig = replace(rig, joints=np.where(rig.weights > 0, renumber[rig.joints], 0).astype(np.int32), rest=rig.rest[keep])
    clips = []
    for index, info in enumerate(obj.clips):
        frames = int(min(info.duration, MAX_SECONDS) * FPS + 1e-3) + 1
        matrices = np.stack([_palette(scene, index, i / FPS, spaces, world, base)[keep] for i in range(frames)])
        clips.append(
            PackedClip(info.display_name or info.name, min(info.duration, MAX_SECONDS), matrices.astype(np.float16))
        )
    return PackedRig(rig, clips, source, joint_set, notes)


def _joint_spaces(scene, world: np.ndarray):
    """Numbers all joints of all skins and all rigid nodes, and gathers vertices in world units.

    A skin's stored vertices may be in any units; they are brought to the world by the rest matrix of its most used
    joint (`base`), which the joint matrices then undo: exact, and float16 suffices.
    """
    rest, _ = scene._evaluate([], 0.0)
    spaces: list[tuple[str, int, int]] = []  # (kind, skin or node, joint slot)
    base: dict[tuple[str, int], np.ndarray] = {}
    start: dict[tuple[str, int], int] = {}
    positions, joints, weights = [], [], []
    for part in scene.parts:
        key = ("skin", part.skin) if part.skin is not None else ("node", part.node)
        if key not in start:
            start[key] = len(spaces)
            if part.skin is not None:
                skin = scene.skins[part.skin]
                most = int(np.bincount(part.joints.ravel(), part.weights.ravel()).argmax())
                base[key] = world @ rest[skin.joints[most]] @ skin.inverse_bind[most]
                spaces += [("skin", part.skin, slot) for slot in range(len(skin.joints))]
            else:
                base[key] = world @ rest[part.node]
                spaces.append(("node", part.node, 0))
        point = part.positions
        if part.morphs is not None:
            stored = scene.nodes[part.node].weights
            point = point + np.tensordot(stored[: len(part.morphs)], part.morphs[: len(stored)], 1)
        positions.append(point @ base[key][:3, :3].T + base[key][:3, 3])
        if part.skin is None:
            j, w = np.zeros((len(point), 4), np.int32), np.zeros((len(point), 4), np.float32)
            w[:, 0] = 1
        else:
            j, w = _strongest(part.joints, part.weights)
        joints.append(j + start[key])
        weights.append(w)
    return spaces, np.concatenate(positions), np.concatenate(joints).astype(np.int32), np.concatenate(weights), base


def _strongest(joints: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The four largest weights a vertex, rescaled to sum to 1."""
    if joints.shape[1] < 4:
        pad = ((0, 0), (0, 4 - joints.shape[1]))
        joints, weights = np.pad(joints, pad), np.pad(weights, pad)
    order = np.argsort(-weights, axis=1)[:, :4]
    j, w = np.take_along_axis(joints, order, 1), np.take_along_axis(weights, order, 1)
    return j.astype(np.int32), (w / w.sum(1, keepdims=True)).astype(np.float32)


def _palette(scene, clip: int | None, seconds: float, spaces, world: np.ndarray, base) -> np.ndarray:
    """[J, 3, 4] float32 matrices from `_joint_spaces` positions to world positions."""
    nodes, _ = scene._evaluate([] if clip is None else scene.clips[clip], seconds)
    undo = {key: np.linalg.inv(matrix) for key, matrix in base.items()}
    out = []
    for kind, index, slot in spaces:
        if kind == "skin":
            skin = scene.skins[index]
            matrix = nodes[skin.joints[slot]] @ skin.inverse_bind[slot]
        else:
            matrix = nodes[index]
        out.append((world @ matrix @ undo[kind, index])[:3])
    return np.stack(out).astype(np.float32)


def _merged(rig: Rig) -> Rig:
    """Drops vertices no face uses and joins those that agree in everything."""
    assert rig.smoothing is not None
    weights = np.round(rig.weights * 255)
    key = np.concatenate(
        [
            np.round(rig.vertices * 20000),
            np.round(rig.colors * 1023),
            np.where(weights > 0, rig.joints, -1),
            weights,
            rig.smoothing[:, None],
        ],
        1,
    ).astype(np.int64)
    used = np.unique(rig.faces)
    _, first, inverse = np.unique(key[used], axis=0, return_index=True, return_inverse=True)
    renumber = np.zeros(len(rig.vertices), np.int32)
    renumber[used] = inverse.ravel()
    take = used[first]
    faces = renumber[rig.faces]
    solid = (faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 0] != faces[:, 2])
    _, smoothing = np.unique(rig.smoothing[take], return_inverse=True)
    return replace(
        rig,
        vertices=rig.vertices[take],
        faces=faces[solid].astype(np.int32),
        colors=rig.colors[take],
        joints=rig.joints[take],
        weights=rig.weights[take],
        smoothing=smoothing.ravel().astype(np.int32),
    )
