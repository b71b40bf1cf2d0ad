"""Light with shadows: Lambert in the open, closed forms in shadow, Blender's Cycles as a witness where there is one."""

import numpy as np
import pytest
from shapes import box, floor, joined, sphere

from t4d.cycles import cycles_light, require_bpy
from t4d.errors import InputError
from t4d.geometry.baked_light import SOFTNESS, cone_directions, light_at, light_steps
from t4d.geometry.fine_mesh import split_for_light
from t4d.geometry.mesh import Mesh
from t4d.geometry.occlusion import drain
from t4d.geometry.shading import LightRig
from t4d.geometry.visibility import RayCaster

TOP = LightRig(key=(0.0, 0.0, 1.0), fill_intensity=0.0, back_intensity=0.0, key_intensity=0.6, ambient=0.0)


def lit(
    parts: tuple[np.ndarray, np.ndarray] | None, points: list[list[float]], lights: LightRig, **extra
) -> np.ndarray:
    up = np.tile([0.0, 0.0, 1.0], (len(points), 1))
    caster = None if parts is None else RayCaster(*parts)
    return light_at(caster, np.array(points), up, up, lights, 4000, np.random.default_rng(0), **extra)


def test_in_the_open_it_is_lamberts_law() -> None:
    rng = np.random.default_rng(1)
    normals = rng.normal(size=(300, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    found = light_at(None, np.zeros((300, 3)), normals, normals, LightRig(), 4000, rng, softness=0.1)
    assert np.allclose(found, LightRig().irradiance(normals)[:, 0], atol=2e-3)
    wide = light_at(None, np.zeros((300, 3)), normals, normals, LightRig(), 4000, rng)
    assert np.abs(wide - found).max() < 0.05 and np.abs(wide - found).max() > 0.005  # a soft edge at the terminator


def test_a_convex_body_hides_no_light_from_itself() -> None:
    fine = split_for_light(sphere(level=3), sphere(level=3).vertices, 100)
    light = drain(light_steps(fine, LightRig(), 64, 0))
    assert light.shape == (len(fine.mesh.vertices), 3) and light.dtype == np.float32
    assert np.array_equal(light[:, 0], light[:, 2])
    expected = LightRig().irradiance(fine.normals)
    assert np.abs(light - expected).max() < 0.06 and np.abs(light - expected).mean() < 0.01


def test_shadow_of_a_plate_and_its_soft_edge() -> None:
    lid = floor(1.0, z=0.5)
    points = [[0.0, 0, 0], [1.0, 0, 0], [3.0, 0, 0]]
    under, edge, outside = lit(joined(lid, floor(5)), points, TOP)
    open_sky = lit(None, points, TOP)[0]
    assert under == 0 and outside == pytest.approx(open_sky, abs=1e-3)
    assert edge == pytest.approx(open_sky / 2, rel=0.03)  # the rim halves the lamp
    reach = 0.5 * np.tan(np.radians(SOFTNESS))
    inner, outer = lit(joined(lid, floor(5)), [[1 - 1.05 * reach, 0, 0], [1 + 1.05 * reach, 0, 0]], TOP)
    assert inner == 0 and outer == pytest.approx(open_sky, abs=1e-3)
    hard = lit(joined(lid, floor(5)), [[1 - 0.01, 0, 0], [1 + 0.01, 0, 0]], TOP, softness=0.1)
    assert hard[0] == 0 and hard[1] == pytest.approx(0.6, rel=1e-3)


@pytest.mark.parametrize("axis", [(0.0, 0.0, -1.0), (0.6, 0.0, 0.8), (-0.48, 0.6, -0.64)])
def test_cone(axis: tuple[float, float, float]) -> None:
    found = cone_directions(np.array(axis), 20.0, 2000, np.random.default_rng(2).random((3, 2)))
    cosine = found @ np.array(axis)
    assert np.allclose(np.linalg.norm(found, axis=-1), 1) and cosine.min() >= np.cos(np.radians(20)) - 1e-9
    assert np.allclose(cosine.mean(1), (1 + np.cos(np.radians(20))) / 2, atol=1e-3)  # even over the cap
    assert np.allclose(found.mean(1) / np.linalg.norm(found.mean(1), axis=1, keepdims=True), axis, atol=3e-3)


def test_inside_out_body_is_lit_like_the_sound_one() -> None:
    block = box()
    turned = Mesh(block.vertices, block.faces[:, ::-1])
    here, there = (drain(light_steps(split_for_light(m, m.vertices, 400), LightRig(), 32)) for m in (block, turned))
    assert np.sort(here[:, 0]) == pytest.approx(np.sort(there[:, 0]), abs=0.05)


def test_without_blender_one_sentence_says_so() -> None:
    try:
        import bpy  # noqa: F401  # pyright: ignore[reportMissingImports]
    except ImportError:
        with pytest.raises(InputError, match=r"pip install bpy.*leave --cycles out\.$") as caught:
            require_bpy()
        assert "\n" not in str(caught.value)
    else:
        assert require_bpy().app.version >= (3, 0, 0)


def test_cycles_computes_the_same_direct_light() -> None:
    """An independent renderer; with bpy 5.0.1 on Spot and Fox: correlation .999, mean difference .007."""
    pytest.importorskip("bpy", reason="Blender's Python module is not installed")
    rng = np.random.default_rng(3)
    ball = sphere(level=3)
    bumpy = ball.vertices * (1 + 0.35 * np.sin(4 * ball.vertices[:, :1]) * np.sin(5 * ball.vertices[:, 2:]))
    vertices = bumpy + rng.normal(0, 1e-3, bumpy.shape)
    fine = split_for_light(ball, vertices, 100)
    ours = drain(light_steps(fine, LightRig(), 256))[:, 0]
    direct = cycles_light(fine, LightRig(), 128, 0, bounces=0)[:, 0]
    assert np.corrcoef(ours, direct)[0, 1] > 0.99 and np.abs(ours - direct).mean() < 0.02
    assert cycles_light(fine, LightRig(), 64, 0)[:, 0].mean() > direct.mean()  # bounces only add
