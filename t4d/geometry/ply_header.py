"""The header of a .ply file, read without its data: is it a mesh, points or 3D Gaussians?"""

from dataclasses import dataclass
from pathlib import Path

MAX_HEADER = 65536
GAUSSIAN_FIELDS = frozenset({"x", "f_dc_0", "opacity", "scale_0", "rot_0"})
PACKED_FIELDS = frozenset({"packed_position", "packed_rotation", "packed_scale", "packed_color"})


@dataclass(frozen=True)
class PlyElement:
    """One element of the header.

    Attributes:
        name: "vertex", "face", ...
        count: rows.
        properties: (type, name) of each, in order; a list property has type "list".
    """

    name: str
    count: int
    properties: list[tuple[str, str]]


@dataclass(frozen=True)
class PlyHeader:
    """What a .ply file says about itself.

    Attributes:
        format: "ascii", "binary_little_endian" or "binary_big_endian".
        elements: in file order.
        comments: text of the comment lines.
        size: bytes up to the data.
    """

    format: str
    elements: list[PlyElement]
    comments: list[str]
    size: int

    def names(self, element: str = "vertex") -> set[str]:
        """Property names of an element; empty where there is none."""
        return {name for found in self.elements if found.name == element for _, name in found.properties}

    @property
    def holds_gaussians(self) -> bool:
        """Whether the vertices are 3D Gaussians: the fields of the 3DGS code, or PlayCanvas' packed ones."""
        names = self.names()
        return names >= GAUSSIAN_FIELDS or names >= PACKED_FIELDS


def read_ply_header(path: str | Path) -> PlyHeader | None:
    """The header of a file, or None where it is not a whole, sound PLY header."""
    with Path(path).open("rb") as stream:
        head = stream.read(MAX_HEADER)
    end = head.find(b"end_header")
    newline = head.find(b"\n", end)
    if not head.startswith(b"ply") or end < 0 or newline < 0:
        return None
    kind, elements, comments = "", [], []
    try:
        for line in head[:end].decode("ascii", "replace").splitlines()[1:]:
            words = line.split()
            if words[:1] == ["format"]:
                kind = words[1]
            elif words[:1] == ["comment"]:
                comments.append(" ".join(words[1:]))
            elif words[:1] == ["element"]:
                elements.append(PlyElement(words[1], int(words[2]), []))
            elif words[:1] == ["property"]:
                elements[-1].properties.append((words[1], words[-1]))
    except (IndexError, ValueError):
        return None
    return PlyHeader(kind, elements, comments, newline + 1)
