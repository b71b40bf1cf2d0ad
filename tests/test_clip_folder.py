"""Clips from elsewhere: both folder layouts and clip files, any V, T, H != W; every refusal names the file."""

import json
import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from t4d.clip_cameras import write_cameras
from t4d.clip_folder import check_silhouettes, read_clip
from t4d.errors import InputError
from t4d.geometry.camera import Camera, rig

V, T, H, W = 2, 3, 10, 14


def two(width: int, height: int) -> list[Camera]:
    return rig((0.0, 90.0), width=width, height=height)


def pictures(v: int = V, t: int = T, h: int = H, w: int = W) -> np.ndarray:
    """uint8 [V, T, H, W, 4]: noise with a soft-edged rectangle in alpha that moves with frame and view."""
    rgba = np.random.default_rng(0).integers(0, 256, (v, t, h, w, 4), dtype=np.uint8)
    rgba[..., 3] = 0
    for view in range(v):
        for frame in range(t):
            rgba[view, frame, 2:-2, 3 + view : 6 + view + frame % 3, 3] = 255
            rgba[view, frame, 2:-2, 2 + view, 3] = 100
    return rgba


def write(folder: Path, rgba: np.ndarray, flat: bool = False) -> Path:
    folder.mkdir()
    for view, row in enumerate(rgba):
        for frame, picture in enumerate(row):
            file = folder / (f"{view * len(row) + frame}.png" if flat else f"view_{view}/{frame:04d}.png")
            file.parent.mkdir(exist_ok=True)
            Image.fromarray(picture, "RGBA").save(file)
    return folder


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize(("v", "t", "h", "w"), [(V, T, H, W), (2, 64, 8, 12), (4, 2, 12, 9)])
def test_both_layouts_give_the_pictures(tmp_path, flat, v, t, h, w):
    rgba = pictures(v, t, h, w)
    folder = write(tmp_path / "clip", rgba, flat)
    angles = tuple(float(360 / v * i) for i in range(v))
    found = read_clip(folder, lambda width, height: rig(angles, width=width, height=height), fps=5.0)
    assert found.clip.rgb.shape == (v, t, 3, h, w) and found.clip.mask.shape == (v, t, 1, h, w) and found.clip.fps == 5
    for view, frame in ((0, 0), (v - 1, t - 1), (1, 1)):  # a slow twin: pixel by pixel over mid-grey
        for y in range(h):
            for x in range(w):
                *colour, alpha = (int(c) / 255 for c in rgba[view, frame, y, x])
                expected = [c * alpha + 0.5 * (1 - alpha) for c in colour]
                assert found.clip.rgb[view, frame, :, y, x].tolist() == pytest.approx(expected, abs=1e-6)
                assert found.clip.mask[view, frame, 0, y, x].item() == pytest.approx(alpha, abs=1e-6)
    assert found.names[1][1] == (f"{t + 1}.png" if flat else "view_1/0001.png")
    assert [(c.width, c.height) for c in found.clip.cameras] == [(w, h)] * v


def test_flat_folders_divide_into_the_views_asked_for(tmp_path):
    folder = write(tmp_path / "clip", pictures(4, 3), flat=True)
    with pytest.raises(InputError, match=r"rig has 2 cameras; add cameras\.json"):
        read_clip(folder, two, views=4)
    assert read_clip(folder, two).clip.rgb.shape[:2] == (2, 6)
    with pytest.raises(InputError, match=r"12 pictures, which do not divide into 5 views; give --views"):
        read_clip(folder, two, views=5)


def test_a_clip_file_is_read_with_its_own_cameras(tmp_path):
    first = read_clip(write(tmp_path / "clip", pictures()), two).clip
    first.save(tmp_path / "mine.safetensors")
    found = read_clip(tmp_path / "mine.safetensors", lambda w, h: rig(width=w, height=h))
    assert torch.allclose(found.clip.rgb, first.rgb, atol=1 / 500) and found.names[1][2] == (
        "frame 2 of view 1 of mine.safetensors"
    )
    assert torch.equal(found.clip.cameras[1].world_to_camera, first.cameras[1].world_to_camera)
    with pytest.raises(InputError, match=r"mine\.safetensors has 2 views but 3 were asked for"):
        read_clip(tmp_path / "mine.safetensors", two, views=3)


def test_a_huge_clip_file_is_refused_without_reading_it(tmp_path):
    with (tmp_path / "huge.safetensors").open("wb") as file:
        file.truncate(3 * 2**30)
    with pytest.raises(InputError, match=r"huge\.safetensors has 3221 MB and at most 1074 MB"):
        read_clip(tmp_path / "huge.safetensors", two)


def test_cameras_by_angles_and_by_matrices_agree(tmp_path):
    folder = write(tmp_path / "clip", pictures())
    rows = [{"azimuth": 20, "elevation": 5, "distance": 2.5, "vfov": 50}, {"azimuth": -70, "elevation": 40}]
    (folder / "cameras.json").write_text(json.dumps(rows))
    by_angles = read_clip(folder, two).clip.cameras
    write_cameras(folder / "cameras.json", by_angles)
    by_matrices = read_clip(folder, two).clip.cameras
    for a, b in zip(by_angles, by_matrices):
        assert torch.equal(a.world_to_camera, b.world_to_camera) and torch.equal(a.K, b.K) and a.width == W
    assert by_angles[0].eye.norm() == pytest.approx(2.5) and by_angles[1].eye.norm() == pytest.approx(3)


def drop(name):
    return lambda folder: (folder / name).unlink()


def change_picture(name, edit):
    def apply(folder):
        picture = np.asarray(Image.open(folder / name)).copy()
        Image.fromarray(edit(picture)).save(folder / name)

    return apply


def alpha(value):
    def edit(picture):
        picture[..., 3] = value(picture[..., 3])
        return picture

    return edit


def write_bytes(name, data):
    return lambda folder: (folder / name).write_bytes(data)


def gigantic_png() -> bytes:
    """A header that promises 400 million pixels."""
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", 20000, 20000, 8, 6, 0, 0, 0)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def cameras_json(rows):
    return write_bytes("cameras.json", json.dumps(rows).encode())


EYE = [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 3], [0, 0, 0, 1]]
K = [[20, 0, 7], [0, 20, 5], [0, 0, 1]]


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (drop("view_1/0001.png"), "view_1/0001.png is missing in clip"),
        (drop("view_0/0002.png"), "view_0/0002.png is missing in clip"),
        (lambda f: shutil.rmtree(f / "view_0"), "view_0 is missing in clip"),
        (lambda f: [shutil.rmtree(f / f"view_{i}") for i in (0, 1)], "clip holds no numbered .png"),
        (write_bytes("0.png", b""), "both view folders and pictures"),
        (
            lambda f: shutil.copy(f / "view_1/0001.png", f / "view_1/1.png"),
            "0001.png and 1.png in view_1 are the same",
        ),
        (lambda f: shutil.copytree(f / "view_1", f / "view_01"), "view_01 and view_1 in clip are the same view"),
        (write_bytes("view_1/0001.png", gigantic_png()), "view_1/0001.png is a gigantic picture"),
        (lambda f: Image.open(f / "view_0/0001.png").save(f / "view_0/0001.png", "GIF"), "view_0/0001.png is not a"),
        (write_bytes("view_1/0002.png", b"\x89PNG no"), "view_1/0002.png is not a readable PNG"),
        (change_picture("view_1/0002.png", lambda p: p[:-1]), "view_1/0002.png has 14x9 pixels but view_0/0000.png"),
        (change_picture("view_0/0001.png", lambda p: p[..., :3]), "view_0/0001.png has no alpha channel (RGB)"),
        (change_picture("view_1/0001.png", alpha(lambda a: 0)), "mask of view_1/0001.png is empty"),
        (change_picture("view_1/0001.png", alpha(lambda a: 255)), "mask of view_1/0001.png covers the whole"),
        (change_picture("view_0/0002.png", alpha(lambda a: 255 - a)), "mask of view_0/0002.png covers the picture's"),
        (cameras_json([{"azimuth": 1, "elevation": 2}]), "cameras.json has 1 cameras but the clip has 2 views"),
        (write_bytes("cameras.json", b'[{"azimuth": NaN, "elevation": 2}]'), "cameras.json: "),
        (write_bytes("cameras.json", b"[{]"), "cameras.json: the file cannot be used"),
        (
            cameras_json([{"world_to_camera": EYE, "K": K}, {"world_to_camera": [[2, 0, 0, 0], *EYE[1:]], "K": K}]),
            "cameras.json: world_to_camera of view 1 is not a rotation",
        ),
        (
            cameras_json([{"world_to_camera": EYE, "K": [[-20, 0, 7], *K[1:]]}] * 2),
            "cameras.json: K of view 0 is no pinhole matrix",
        ),
        (
            cameras_json([{"world_to_camera": EYE, "K": [[20, 1, 7], *K[1:]]}] * 2),
            "cameras.json: K of view 0 is no pinhole matrix; expected fx, fy > 0, no skew",
        ),
    ],
)
def test_what_is_wrong_is_named_in_one_sentence(tmp_path, damage, says):
    folder = write(tmp_path / "clip", pictures())
    read_clip(folder, two)
    damage(folder)
    with pytest.raises(InputError) as caught:
        read_clip(folder, two)
    assert says in str(caught.value) and "\n" not in str(caught.value) and str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value", "says"), [("rgb", float("nan"), "not finite"), ("mask", 3.0, "expected 0..1")]
)
def test_values_that_cannot_be_are_refused_with_the_clip_file(tmp_path, name, value, says):
    from safetensors import safe_open
    from safetensors.torch import save_file

    good = tmp_path / "good.safetensors"
    read_clip(write(tmp_path / "clip", pictures()), two).clip.save(good)
    with safe_open(str(good), "pt") as stored:
        meta, tensors = stored.metadata(), {key: stored.get_tensor(key) for key in stored.keys()}
    tensors[name] = tensors[name].float() / 255
    tensors[name][1, 2, 0, 3, 4] = value
    save_file(tensors, str(tmp_path / "broken.safetensors"), meta)
    with pytest.raises(InputError, match=r"broken\.safetensors") as caught:
        read_clip(tmp_path / "broken.safetensors", two)
    assert says in str(caught.value)
    if name == "rgb":
        assert "frame 2 of view 1" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "row", "value", "says"),
    [
        ("world_to_camera", 0, float("nan"), "world_to_camera of view 1 is not a rotation"),
        ("world_to_camera", 2, 9.0, "world_to_camera of view 1 is not a rotation"),
        ("K", 0, float("inf"), "K of view 1 is no pinhole matrix"),
        ("K", 1, -5.0, "K of view 1 is no pinhole matrix"),
    ],
)
def test_broken_cameras_of_a_clip_file_are_named(tmp_path, name, row, value, says):
    clip = read_clip(write(tmp_path / "clip", pictures()), two).clip
    getattr(clip.cameras[1], name)[row, row] = value
    clip.save(tmp_path / "mine.safetensors")
    with pytest.raises(InputError) as caught:
        read_clip(tmp_path / "mine.safetensors", two)
    assert str(caught.value).startswith(f"mine.safetensors: {says}")


def test_one_frame_and_no_clip_are_refused(tmp_path):
    with pytest.raises(InputError, match="single has 1 frame a view"):
        read_clip(write(tmp_path / "single", pictures(2, 1)), two)
    with pytest.raises(InputError, match="nothing does not exist"):
        read_clip(tmp_path / "nothing", two)
    (tmp_path / "text.safetensors").write_text("no clip")
    with pytest.raises(InputError, match=r"text\.safetensors"):
        read_clip(tmp_path / "text.safetensors", two)


def test_a_clip_of_another_object_is_refused_by_its_silhouette(tmp_path):
    found = read_clip(write(tmp_path / "clip", pictures()), two)
    truth = found.clip.mask[:, 0]
    assert check_silhouettes(found, truth) == [1, 1]
    half = truth.clone()
    half[1, :, : H // 2] = 0
    overlap = check_silhouettes(found, half, least=0.4)[1]  # rows 2..4 of rows 2..7 are gone
    assert overlap == pytest.approx(0.5)
    with pytest.raises(InputError, match=r"mask of view_1/0000\.png covers the object .* by 0%"):
        check_silhouettes(found, torch.stack([truth[0], truth[1].roll(7, -1)]))
