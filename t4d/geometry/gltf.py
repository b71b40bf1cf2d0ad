"""Loading .glb and .gltf into an Object3D."""

import struct
from pathlib import Path
from typing import Any

import numpy as np

from t4d.errors import InputError
from t4d.geometry.gltf_file import GltfFile
from t4d.geometry.gltf_materials import read_materials
from t4d.geometry.gltf_primitive import PrimitiveData, read_primitive, smoothing_groups
from t4d.geometry.gltf_scene import Channel, SceneGraph, SceneNode, ScenePart, SceneSkin
from t4d.geometry.mesh import Mesh
from t4d.geometry.object3d import ClipInfo, Object3D, one_line

TOGETHER = "all clips together"
PATHS = {"translation": 3, "rotation": 4, "scale": 3, "weights": 0}


def load_gltf(path: Path, max_bytes: int) -> Object3D:
    """Reads a glTF 2.0 file; see ``load_object``.

    Vertex order: nodes of the default scene by index, then primitives in mesh order, vertices as stored.
    """
    try:
        return _load(path, max_bytes)
    except InputError:
        raise
    except (KeyError, IndexError, ValueError, TypeError, AttributeError, struct.error, OverflowError) as error:
        raise InputError(
            f"{path.name} is damaged or not valid glTF 2.0 ({one_line(error)}); export it again."
        ) from error


def _load(path: Path, max_bytes: int) -> Object3D:
    file = GltfFile(path, max_bytes)
    nodes, order = _read_nodes(file)
    materials, uses = read_materials(file)
    skins = [_read_skin(file, skin) for skin in file.gltf.skins or []]
    clips, infos = _read_clips(file, nodes)
    parts: list[ScenePart] = []
    data: list[PrimitiveData] = []
    skipped = 0
    for index in sorted(order):
        stored = file.gltf.nodes[index]
        if stored.mesh is None:
            continue
        for primitive in file.gltf.meshes[stored.mesh].primitives:
            read = read_primitive(file, primitive, uses, stored.skin)
            if read is None:
                skipped += 1
                continue
            if read.joints is not None and stored.skin is not None:
                count = len(skins[stored.skin].joints)
                if read.joints.size and (read.joints.min() < 0 or read.joints.max() >= count):
                    raise InputError(
                        f"{file.name} binds vertices to joint {read.joints.max()} of a skin with {count} joints; "
                        "export it again."
                    )
                parts.append(ScenePart(index, read.positions, read.morphs, stored.skin, read.joints, read.weights))
            else:
                parts.append(ScenePart(index, read.positions, read.morphs))
            data.append(read)
    if file.broken_weights:
        file.notes.append(
            f"{file.broken_weights} vertices of {file.name} have skin weights that are not numbers; they were repaired "
            "from their other weights or the nearest vertex."
        )
    if file.loose_vertices:
        file.notes.append(
            f"{file.loose_vertices} vertices of {file.name} follow no joint; each follows its nearest vertex instead."
        )
    if skipped:
        file.notes.append(f"{skipped} parts made of points or lines were left out; only triangles are used.")
    if not parts:
        raise InputError(f"{file.name} has no triangles; export it with at least one surface mesh.")
    scene = SceneGraph(nodes, order, parts, skins, clips)
    _check_finite(file, parts)
    mesh = _assemble(scene, data)
    mesh.materials = materials
    return Object3D(path.stem, mesh, infos, file.notes, poser=scene)


def _check_finite(file: GltfFile, parts: list[ScenePart]) -> None:
    broken = sum(int((~np.isfinite(part.positions)).any(1).sum()) for part in parts)
    if broken:
        raise InputError(
            f"{file.name} has {broken} vertices at positions that are not finite numbers; repair and export it again."
        )


def _assemble(scene: SceneGraph, data: list[PrimitiveData]) -> Mesh:
    """One mesh of all parts, rest-posed."""
    counts = [len(part.positions) for part in scene.parts]
    starts = np.cumsum([0, *counts])
    flip = [scene.mirrored(part) for part in scene.parts]
    faces = [
        (read.faces[:, ::-1] if mirrored else read.faces) + start for read, start, mirrored in zip(data, starts, flip)
    ]
    uv = color = None
    if any(read.uv is not None for read in data):
        uv = np.concatenate([np.zeros((n, 2)) if r.uv is None else r.uv for r, n in zip(data, counts)])
    if any(read.color is not None for read in data):
        color = np.concatenate([np.ones((n, 4)) if r.color is None else r.color for r, n in zip(data, counts)])
    return Mesh(
        scene.vertices(None, 0.0),
        np.concatenate(faces),
        None if uv is None else uv.astype(np.float32),
        None if color is None else color.astype(np.float32),
        np.concatenate([np.full(len(read.faces), read.material, np.int64) for read in data]),
        smoothing=smoothing_groups([part.node for part in scene.parts], data),
    )


def _read_nodes(file: GltfFile) -> tuple[list[SceneNode], list[int]]:
    """All nodes, and the indices reachable from the default scene, parents first."""
    gltf = file.gltf
    parent = [-1] * len(gltf.nodes)
    for index, node in enumerate(gltf.nodes):
        for child in node.children or []:
            parent[child] = index
    nodes = []
    for index, node in enumerate(gltf.nodes):
        weights = (
            file.raw["nodes"][index].get("weights")
            or (gltf.meshes[node.mesh].weights if node.mesh is not None else None)
            or []
        )
        x, y, z, w = node.rotation or (0, 0, 0, 1)
        nodes.append(
            SceneNode(
                parent[index],
                np.asarray(node.translation or (0, 0, 0), np.float64),
                np.asarray((w, x, y, z), np.float64),
                np.asarray(node.scale if node.scale is not None else (1, 1, 1), np.float64),
                None if not node.matrix else np.asarray(node.matrix, np.float64).reshape(4, 4).T,  # stored by columns
                np.asarray(weights, np.float64),
            )
        )
        if any(not np.isfinite(value).all() for value in (nodes[-1].translation, nodes[-1].rotation, nodes[-1].scale)):
            raise InputError(f"node {index} of {file.name} has a transform that is not finite; export it again.")
    if gltf.scenes:
        roots = list(gltf.scenes[gltf.scene or 0].nodes or [])
        for root in roots:
            nodes[root].parent = parent[root] = -1  # a scene may start below a node it leaves out, whose place is void
    else:
        roots = [index for index in range(len(nodes)) if parent[index] < 0]
    order: list[int] = []
    seen: set[int] = set()
    queue = roots
    while queue:
        index = queue.pop(0)
        if index in seen:
            raise InputError(f"node {index} of {file.name} has two parents or is its own; export it again.")
        seen.add(index)
        order.append(index)
        queue.extend(gltf.nodes[index].children or [])
    # Joints may hang outside the scene in careless exports; they still need a place.
    order += _missing_ancestors(parent, seen, [j for skin in gltf.skins or [] for j in skin.joints or []])
    return nodes, order


def _missing_ancestors(parent: list[int], seen: set[int], joints: list[int]) -> list[int]:
    extra: list[int] = []
    for joint in joints:
        chain, index = [], joint
        while index >= 0 and index not in seen:
            seen.add(index)
            chain.append(index)
            index = parent[index]
        extra += chain[::-1]
    return extra


def _read_skin(file: GltfFile, skin: Any) -> SceneSkin:
    count = len(skin.joints)
    inverse = np.tile(np.eye(4), (count, 1, 1))
    if skin.inverseBindMatrices is not None:
        inverse = file.accessor(skin.inverseBindMatrices).reshape(-1, 4, 4).transpose(0, 2, 1)[:count]
    if len(inverse) < count or not np.isfinite(inverse).all():
        raise InputError(f"a skin of {file.name} has broken inverse bind matrices; export it again.")
    return SceneSkin(np.asarray(skin.joints, np.int64), inverse)


def _read_clips(file: GltfFile, nodes: list[SceneNode]) -> tuple[list[list[Channel]], list[ClipInfo]]:
    clips, infos = [], []
    for index, animation in enumerate(file.gltf.animations or []):
        channels = []
        for stored in animation.channels:
            channel = _read_channel(file, nodes, animation, stored)
            if channel is not None:
                channels.append(channel)
        name = animation.name or f"clip {index + 1}"
        duration = max((float(channel.times[-1]) for channel in channels), default=0.0)
        clips.append(channels)
        infos.append(ClipInfo(name, duration, name.rsplit("|", 1)[-1].strip() or name, len(channels)))
    targets = [(channel.node, channel.path) for clip in clips for channel in clip]
    unnamed = all(not animation.name for animation in file.gltf.animations or [])
    if len(clips) > 1 and unnamed and all(len(clip) == 1 for clip in clips) and len(set(targets)) == len(targets):
        # COLLADA2GLTF stores one motion as many animations of one channel each (CesiumMan).
        infos.append(ClipInfo(TOGETHER, max(info.duration for info in infos), TOGETHER, len(targets)))
        clips.append([channel for clip in clips for channel in clip])
        file.notes.append(
            f"{file.name} stores one motion as {len(targets)} animations of one channel each; the last clip, "
            f"{TOGETHER!r}, plays them at once."
        )
    return clips, infos


def _read_channel(file: GltfFile, nodes: list[SceneNode], animation: Any, stored: Any) -> Channel | None:
    """One channel, or None with a note where it cannot be used."""
    node, path = stored.target.node, stored.target.path
    if node is None or path not in PATHS:
        file.notes.append(f"An animation of {file.name} moves {path!r}, which is not supported and was left out.")
        return None
    sampler = animation.samplers[stored.sampler]
    times = file.accessor(sampler.input)[:, 0]
    kind = sampler.interpolation or "LINEAR"
    width = PATHS[path] or len(nodes[node].weights) or _target_count(file, node)
    values = file.accessor(sampler.output)
    values = values.reshape((len(times), 3, width) if kind == "CUBICSPLINE" else (len(times), width))
    sound = len(times) > 0 and np.isfinite(times).all() and (np.abs(values) < 1e30).all() and (np.diff(times) > 0).all()
    if not sound:
        file.notes.append(f"The {path} animation of node {node} of {file.name} has broken keys and was left out.")
        return None
    if path == "rotation":
        values = values[..., [3, 0, 1, 2]]  # stored (x, y, z, w)
    if nodes[node].matrix is not None and path != "weights":
        _decompose(nodes[node])
    return Channel(node, path, kind, times, values)


def _target_count(file: GltfFile, node: int) -> int:
    mesh = file.gltf.nodes[node].mesh
    return len(file.gltf.meshes[mesh].primitives[0].targets or []) if mesh is not None else 0


def _decompose(node: SceneNode) -> None:
    """Turns a node's matrix into TRS (shear is lost), so that single properties of it can move."""
    import torch

    from t4d.geometry.rotations import matrix_to_quat

    assert node.matrix is not None
    linear = node.matrix[:3, :3]
    scale = np.linalg.norm(linear, axis=0)
    if np.linalg.det(linear) < 0:
        scale[0] = -scale[0]
    node.translation, node.scale = node.matrix[:3, 3].copy(), scale
    node.rotation = matrix_to_quat(torch.from_numpy(linear / np.where(scale == 0, 1, scale))).numpy()
    node.matrix = None
