"""Light by Blender's Cycles, through its Python module ``bpy`` (optional: ``pip install bpy``; GPL, never shipped)."""

import math
from typing import Any

import numpy as np

from t4d.errors import InputError
from t4d.geometry.baked_light import SOFTNESS
from t4d.geometry.fine_mesh import FineMesh
from t4d.geometry.shading import LightRig, surface_rgba_linear


def require_bpy() -> Any:
    """Blender's module.

    Raises:
        InputError: it is not installed or does not start.
    """
    try:
        import bpy  # pyright: ignore[reportMissingImports]
    except Exception as error:  # a missing system library raises whatever the loader says
        raise InputError(
            f"Cycles needs Blender's Python module, which cannot be imported here ({' '.join(str(error).split())}); "
            "run `pip install bpy` for this Python version, or leave --cycles out."
        ) from error
    return bpy


def cycles_light(fine: FineMesh, lights: LightRig, samples: int, seed: int, bounces: int = 3) -> np.ndarray:
    """Light on the vertices of a still object, computed by Cycles.

    The same lamps as `LightRig`, in Blender's units: a sun of strength pi I gives a white surface that faces it the
    radiance I; a world of strength A is the ambient light. Both of Cycles' diffuse passes are baked without the
    surface's own colour, so the result is multiplied with textures later as `baked_light.light_steps`' is. Cycles looks
    at the vertices themselves, so one that sticks inside another part comes out black.

    Args:
        fine: the mesh in the world, z up, split finely enough for shadows.
        lights: the lights.
        samples: of Cycles.
        seed: of Cycles.
        bounces: between diffuse surfaces; 0 is what `light_steps` computes.

    Returns:
        [Nv, 3] float32 linear light.

    Raises:
        InputError: ``bpy`` is absent, or Cycles refuses.
    """
    bpy = require_bpy()
    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    scene.render.engine = "CYCLES"
    scene.cycles.device = "CPU"
    scene.cycles.samples = samples
    scene.cycles.seed = seed
    scene.cycles.use_denoising = False
    scene.cycles.diffuse_bounces = bounces
    _add_lights(bpy, scene, lights)
    thing = _add_object(bpy, scene, fine)
    bake = scene.render.bake
    bake.target = "VERTEX_COLORS"
    bake.use_pass_direct = bake.use_pass_indirect = True
    bake.use_pass_color = False
    try:
        bpy.ops.object.bake(type="DIFFUSE", pass_filter={"DIRECT", "INDIRECT"}, target="VERTEX_COLORS")
    except RuntimeError as error:
        raise InputError(
            f"Cycles could not bake the light ({' '.join(str(error).split())}); leave --cycles out."
        ) from error
    found = np.empty(4 * len(fine.mesh.vertices), np.float32)
    thing.data.color_attributes["light"].data.foreach_get("color", found)
    return np.nan_to_num(np.maximum(found.reshape(-1, 4)[:, :3], 0.0))


def _add_lights(bpy: Any, scene: Any, lights: LightRig) -> None:
    from mathutils import Vector  # pyright: ignore[reportMissingImports]

    for name, towards, intensity in (
        ("key", lights.key, lights.key_intensity),
        ("fill", lights.fill, lights.fill_intensity),
        ("back", lights.back, lights.back_intensity),
    ):
        lamp = bpy.data.lights.new(name, "SUN")
        lamp.energy = math.pi * intensity
        lamp.angle = 2 * math.radians(SOFTNESS)
        thing = bpy.data.objects.new(name, lamp)
        thing.rotation_euler = Vector(towards).to_track_quat("Z", "Y").to_euler()  # a sun shines along its own -z
        scene.collection.objects.link(thing)
    world = bpy.data.worlds.new("sky")
    scene.world = world
    world.use_nodes = True
    sky = world.node_tree.nodes["Background"]
    sky.inputs["Color"].default_value = (1.0, 1.0, 1.0, 1.0)
    sky.inputs["Strength"].default_value = lights.ambient


def _add_object(bpy: Any, scene: Any, fine: FineMesh) -> Any:
    """The mesh with its surface colours at the vertices, and an empty colour attribute "light" to bake into."""
    mesh = fine.mesh
    count = len(mesh.vertices)
    data = bpy.data.meshes.new("object")
    data.from_pydata(mesh.vertices.tolist(), [], mesh.faces.tolist())
    data.normals_split_custom_set_from_vertices(fine.normals.tolist())
    corner = np.zeros(count, np.int64)
    corner[mesh.faces.reshape(-1)] = np.arange(mesh.faces.size)
    rgba = surface_rgba_linear(mesh, corner // 3, np.eye(3)[corner % 3])
    color = data.color_attributes.new("albedo", "FLOAT_COLOR", "POINT")  # "color" would be the whole object's
    color.data.foreach_set("color", np.ascontiguousarray(rgba, np.float32).reshape(-1))
    data.color_attributes.active_color = data.color_attributes.new("light", "FLOAT_COLOR", "POINT")
    material = bpy.data.materials.new("surface")
    material.use_nodes = True
    nodes, links = material.node_tree.nodes, material.node_tree.links
    nodes.clear()
    output, diffuse, attribute = (
        nodes.new(kind) for kind in ("ShaderNodeOutputMaterial", "ShaderNodeBsdfDiffuse", "ShaderNodeAttribute")
    )
    attribute.attribute_name = "albedo"
    links.new(attribute.outputs["Color"], diffuse.inputs["Color"])
    links.new(diffuse.outputs["BSDF"], output.inputs["Surface"])
    data.materials.append(material)
    thing = bpy.data.objects.new("object", data)
    scene.collection.objects.link(thing)
    bpy.context.view_layer.objects.active = thing
    thing.select_set(True)
    return thing
