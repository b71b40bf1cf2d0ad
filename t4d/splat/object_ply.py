"""3D Gaussian splatting .ply files (objects without triangles) as the static object of an animation."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from t4d.errors import InputError
from t4d.geometry.normalise import STATIC_RADIUS, up_rotation
from t4d.geometry.object3d import MAX_BYTES, one_line
from t4d.geometry.ply_header import PACKED_FIELDS, PlyHeader, read_ply_header
from t4d.splat.gaussians import Gaussians
from t4d.splat.merge import merge_gaussians
from t4d.splat.rotate import rotate_gaussians

MAX_GAUSSIANS = 2_000_000
REST_COUNTS = (0, 9, 24, 45)  # f_rest fields of degree 0, 1, 2, 3
INVISIBLE = 1 / 255  # opacity below which no rasteriser draws a Gaussian
CLEAR = 0.1  # opacity from which a Gaussian counts for the object's size
LOGIT_RANGE = 9.0  # logits of stored opacities 0 and 1 are infinite
NEIGHBOURS = 8


def is_gaussian_ply(path: str | Path) -> bool:
    """Whether a file is a .ply of 3D Gaussians (by the fields in its header), not of triangles or points."""
    path = Path(path)
    if path.suffix.lower() != ".ply" or not path.is_file():
        return False
    header = read_ply_header(path)
    return header is not None and header.holds_gaussians


def load_gaussian_object(
    path: str | Path, count: int | None = None, radius: float = STATIC_RADIUS, up: str | None = None, seed: int = 0
) -> tuple[Gaussians, list[str]]:
    """Reads a 3DGS .ply as a normalised static object.

    Gaussians that cannot be drawn, floaters and background shells are left out; then the object is turned z-up
    (orientations and colours of every degree with it), centred, scaled, and merged down to ``count`` where it has more.
    The file's Gaussians were fitted with the original rasteriser's 0.3 pixel blur at an unknown picture size, so the
    smallest ones look a little finer here (``t4d.splat.render.PIXEL_FILTER``).

    Args:
        path: .ply with x y z, f_dc_*, f_rest_* (degree 0 to 3), opacity, scale_*, rot_* as float32, in any order, or
            PlayCanvas' compressed .ply.
        count: most Gaussians kept, or None for all.
        radius: of the object, world units: from the centre of its bounds to its farthest Gaussian of opacity 0.1 or
            more.
        up: the file's up axis: "y", "z" or "-y" (COLMAP-style captures). Default: what its header says in a comment
            ``up AXIS`` (our own files do), else "y" as object generators write them, with a note.
        seed: of the merging.

    Returns:
        N Gaussians [N, ...] float32, world z up, and notes: one sentence on each thing left out or assumed.

    Raises:
        InputError: one sentence: not such a file, damaged, too large, or with nothing to see in it.
    """
    path = Path(path)
    raw = _read(path)
    notes: list[str] = []
    gaussians = _drawable(path.name, raw, notes)
    gaussians = _without_strays(path.name, gaussians, notes)
    axis = _up_axis(path, up, notes)
    gaussians = rotate_gaussians(gaussians, torch.from_numpy(up_rotation(axis)))
    gaussians = _normalised(path.name, gaussians, radius)
    if count is not None and len(gaussians) > count:
        notes.append(f"{path.name} has {len(gaussians)} Gaussians; they were merged into {count}.")
        gaussians = merge_gaussians(gaussians, count, seed)
    return gaussians, notes


def _read(path: Path) -> Gaussians:
    """The file's Gaussians as stored."""
    import gsply

    header = _checked_header(path)
    try:
        data = gsply.plyread(path)
    except Exception as error:  # gsply raises whatever its parsers stumble over
        raise InputError(f"{path.name} cannot be read as a 3DGS PLY ({one_line(error)}); export it again.") from error
    if len(data.means) != _vertex_count(header):
        raise InputError(
            f"{path.name} holds {len(data.means)} of {_vertex_count(header)} Gaussians; copy or download it again."
        )

    def tensor(array: object) -> Tensor:
        return torch.from_numpy(np.array(array, np.float32))

    sh0 = tensor(data.sh0)[:, None]
    rest = [] if data.shN is None or data.shN.shape[1] == 0 else [tensor(data.shN)]
    return Gaussians(
        tensor(data.means),
        tensor(data.quats),
        tensor(data.scales),
        tensor(data.opacities).reshape(-1),
        torch.cat([sh0, *rest], dim=1),
    )


def _vertex_count(header: PlyHeader) -> int:
    return next(element.count for element in header.elements if element.name == "vertex")


def _checked_header(path: Path) -> PlyHeader:
    """The header of a file that is safe to hand to gsply, whose fast path trusts what it says."""
    if not path.is_file():
        raise InputError(f"{path.name} does not exist or is not a file; give the path of a 3D file.")
    size, header = path.stat().st_size, read_ply_header(path)
    if header is None or not header.holds_gaussians:
        raise InputError(
            f"{path.name} is not a 3D Gaussian splatting PLY (fields x, f_dc_0, opacity, scale_0, rot_0 are expected); "
            "export it from a 3DGS tool as .ply."
        )
    if size > MAX_BYTES:
        raise InputError(
            f"{path.name} has {size / 1e6:.0f} MB and at most {MAX_BYTES / 1e6:.0f} MB are accepted; "
            "crop it to the object or prune it in a splat editor first."
        )
    count = _vertex_count(header)
    if not 0 < count <= MAX_GAUSSIANS:
        raise InputError(
            f"{path.name} has {count} Gaussians, expected 1 to {MAX_GAUSSIANS}; "
            "crop it to the object or prune it in a splat editor first."
        )
    if header.format != "binary_little_endian":
        raise InputError(f"{path.name} is stored as {header.format}; save it as binary little-endian PLY.")
    if header.names() >= PACKED_FIELDS:
        return header
    vertex = header.elements[0]
    if vertex.name != "vertex" or any(kind not in ("float", "float32") for kind, _ in vertex.properties):
        raise InputError(
            f"{path.name} stores its Gaussians in another layout than the 3DGS code's float32 fields; "
            "open and save it in a splat editor first."
        )
    rest = sum(name.startswith("f_rest_") for _, name in vertex.properties)
    if rest not in REST_COUNTS:
        raise InputError(
            f"{path.name} has {rest} f_rest fields, expected 0, 9, 24 or 45 (degree 0 to 3); export it again."
        )
    if header.size + 4 * count * len(vertex.properties) > size:
        raise InputError(f"{path.name} ends before its last Gaussian; copy or download it again.")
    return header


def _drawable(name: str, raw: Gaussians, notes: list[str]) -> Gaussians:
    """Gaussians with finite numbers that anything can be seen of."""
    logits = torch.nan_to_num(raw.opacity_logits, nan=float("nan"), posinf=LOGIT_RANGE, neginf=-LOGIT_RANGE)
    raw = raw.replace(opacity_logits=logits.clamp(-LOGIT_RANGE, LOGIT_RANGE))
    finite = torch.ones(len(raw), dtype=torch.bool)
    for value in (*raw.state_dict().values(), raw.scales):
        finite &= torch.isfinite(value.reshape(len(raw), -1)).all(1)
    finite &= (raw.means.abs() < 1e12).all(1) & (raw.quats.norm(dim=-1) > 1e-12)
    broken = int((~finite).sum())
    if broken:
        notes.append(f"{broken} Gaussians of {name} hold numbers that are not finite and were left out.")
    seen = finite & (raw.opacities >= INVISIBLE)
    if not seen.any():
        raise InputError(
            f"{name} has no visible Gaussian: {broken} of {len(raw)} hold numbers that are not finite and the others "
            "are transparent; export it again."
        )
    kept = raw.map(lambda value: value[seen])
    # A stored scale of -inf or 1e-30 means "flat"; its exact thinness cannot be seen.
    return kept.replace(quats=torch.nn.functional.normalize(kept.quats, dim=-1))


def _without_strays(name: str, gaussians: Gaussians, notes: list[str]) -> Gaussians:
    """Without floaters (lone Gaussians far from the rest) and Gaussians larger than the object (sky, floor blobs)."""
    from scipy.spatial import KDTree

    means = gaussians.means.double().numpy()
    if len(means) <= 4 * NEIGHBOURS:
        return gaussians
    low, high = np.quantile(means, [0.005, 0.995], axis=0)
    extent = float(np.linalg.norm(high - low)) or 1.0
    outside = ((means < low - 0.05 * extent) | (means > high + 0.05 * extent)).any(1)
    tree = KDTree(means)
    apart = np.zeros(len(means))
    if outside.any():
        apart[outside] = tree.query(means[outside], NEIGHBOURS)[0][:, -1]
    huge = (3 * gaussians.scales.max(-1).values.double().numpy()) > extent
    stray = (outside & (apart > 0.05 * extent)) | huge
    if not stray.any():
        return gaussians
    if stray.all():
        raise InputError(f"{name} holds only Gaussians larger than the object they form; crop it in a splat editor.")
    notes.append(f"{int(stray.sum())} Gaussians of {name} float far from the object or outsize it and were left out.")
    kept = torch.from_numpy(~stray)
    return gaussians.map(lambda value: value[kept])


def _up_axis(path: Path, up: str | None, notes: list[str]) -> str:
    if up is not None:
        if up not in ("y", "z", "-y"):
            raise InputError(f"up={up!r} is not an up axis; use 'y', 'z' or '-y'.")
        return up
    header = read_ply_header(path)
    for comment in header.comments if header else []:
        words = comment.split()
        if len(words) == 2 and words[0] == "up" and words[1] in ("y", "z", "-y"):
            return words[1]
    notes.append(f"{path.name} does not say which axis is up; y was taken, choose z or -y where it lies or hangs.")
    return "y"


def _normalised(name: str, gaussians: Gaussians, radius: float) -> Gaussians:
    """Centred on the bounds of the Gaussians one sees well (captures have a haze of faint ones), scaled to a radius."""
    means = gaussians.means.double()
    clear = gaussians.opacities >= CLEAR
    body = means[clear] if clear.double().mean() > 0.1 else means
    centre = 0.5 * (body.amin(0) + body.amax(0))
    extent = float((body - centre).norm(dim=-1).max())
    if extent <= 0:
        raise InputError(f"{name} has no size: all its {len(gaussians)} Gaussians coincide; export it again.")
    scale = radius / extent
    log_scales = (gaussians.log_scales.double() + float(np.log(scale))).clamp(float(np.log(1e-7 * radius)), 10.0)
    return gaussians.replace(means=((means - centre) * scale).float(), log_scales=log_scales.float())
