"""Coloured, skinned body parts: balls, tubes, boxes and discs that a `Builder` joins into one rig."""

from collections.abc import Callable, Sequence

import numpy as np

from t4d.data.procedural.skeleton import Skeleton
from t4d.data.rig import Rig

Color = Sequence[float] | np.ndarray
Paint = Color | Callable[[np.ndarray], np.ndarray]
Vector = Sequence[float] | np.ndarray


class Builder:
    """Collects joints and parts of one object in the design frame (x forward, y left, z up).

    Args:
        detail: Multiplies the number of rings and sides of every part.
    """

    def __init__(self, detail: float = 1.0) -> None:
        self.skeleton = Skeleton()
        self.detail = detail
        self._vertices: list[np.ndarray] = []
        self._faces: list[np.ndarray] = []
        self._colors: list[np.ndarray] = []
        self._joints: list[np.ndarray] = []
        self._weights: list[np.ndarray] = []
        self._count = 0

    def joint(self, name: str, parent: str | None, position: Vector) -> str:
        """Adds a joint (design frame); returns its name."""
        return self.skeleton.add(name, parent, position)  # type: ignore[arg-type]

    def chain(self, prefix: str, parent: str, points: Sequence[Vector]) -> list[str]:
        """Adds one joint at every point but the last, each the child of the one before."""
        names = []
        for i, point in enumerate(points[:-1]):
            parent = self.joint(f"{prefix}{i}", parent, point)
            names.append(parent)
        return names

    def mesh(
        self, vertices: np.ndarray, faces: np.ndarray, paint: Paint, joints: np.ndarray, weights: np.ndarray
    ) -> None:
        """Adds triangles: vertices [N, 3], faces [F, 3], joints and weights [N, 4]."""
        color = paint(vertices) if callable(paint) else np.broadcast_to(np.asarray(paint, np.float64), vertices.shape)
        self._vertices.append(vertices)
        self._faces.append(faces + self._count)
        self._colors.append(np.clip(color, 0, 1))
        self._joints.append(joints)
        self._weights.append(weights)
        self._count += len(vertices)

    def _rigid(self, joint: str, count: int) -> tuple[np.ndarray, np.ndarray]:
        joints = np.zeros((count, 4), np.int32)
        joints[:, 0] = self.skeleton.index(joint)
        weights = np.zeros((count, 4))
        weights[:, 0] = 1
        return joints, weights

    def ball(
        self,
        joint: str,
        center: Vector,
        radii: Vector | float,
        paint: Paint,
        forward: Vector = (1, 0, 0),
        up: Vector = (0, 0, 1),
    ) -> None:
        """An ellipsoid with radii along (forward, side, up)."""
        vertices, faces = sphere(max(6, round(9 * self.detail)), max(8, round(14 * self.detail)))
        vertices = (vertices * np.broadcast_to(radii, (3,))) @ basis(forward, up).T + np.asarray(center)
        self.mesh(vertices, faces, paint, *self._rigid(joint, len(vertices)))

    def leaf(
        self,
        joints: Sequence[str],
        root: Vector,
        tip: Vector,
        width: float,
        thickness: float,
        paint: Paint,
        up: Vector = (0, 0, 1),
        point: float = 0.0,
    ) -> None:
        """A flat lens from root to tip that bends along its length: fins, wings, petals, ears.

        `up` is roughly its flat side's normal; `point` > 0 moves the widest place towards the root and sharpens it.
        """
        root, tip = np.asarray(root, float), np.asarray(tip, float)
        length = float(np.linalg.norm(tip - root))
        vertices, faces = sphere(max(6, round(8 * self.detail)), max(8, round(12 * self.detail)))
        along = np.clip((vertices[:, 0] + 1) / 2, 0, 1)
        taper = 1 - point * along
        flat = np.stack(
            [vertices[:, 0] * length / 2, vertices[:, 1] * width / 2 * taper, vertices[:, 2] * thickness / 2 * taper], 1
        )
        placed = flat @ basis(tip - root, up).T + (root + tip) / 2
        self.mesh(placed, faces, paint, *self._blend(joints, along))

    def tube(
        self,
        joints: Sequence[str],
        points: Sequence[Vector],
        radii: Sequence[float],
        paint: Paint,
        flatten: float = 1.0,
        round_ends: bool = True,
    ) -> None:
        """A round tube through points; segment i follows joints[i] and bends smoothly at the points between.

        `flatten` scales the cross-section along its second axis.
        """
        anchors = np.asarray(points, np.float64)
        per_segment = max(2, round(3 * self.detail))
        segments = len(anchors) - 1
        u = np.linspace(0, segments, segments * per_segment + 1)
        i = np.minimum(u.astype(int), segments - 1)
        f = (u - i)[:, None]
        centers = anchors[i] * (1 - f) + anchors[i + 1] * f
        if segments > 1:  # round the corners a little
            centers[1:-1] = 0.25 * centers[:-2] + 0.5 * centers[1:-1] + 0.25 * centers[2:]
        r = np.asarray(radii, np.float64)
        r = r[i] * (1 - f[:, 0]) + r[i + 1] * f[:, 0]
        tangents = np.gradient(centers, axis=0)
        tangents /= np.linalg.norm(tangents, axis=1, keepdims=True) + 1e-12
        if round_ends:
            centers, r, tangents, u = _cap(centers, r, tangents, u)
        sides = max(6, round(8 * self.detail))
        angle = np.linspace(0, 2 * np.pi, sides, endpoint=False)
        up = np.array([0.0, 0.0, 1.0]) if abs(tangents[0, 2]) < 0.9 else np.array([1.0, 0.0, 0.0])
        rings = []
        for c, t, radius in zip(centers, tangents, r):
            side = np.cross(up, t)
            side /= np.linalg.norm(side) + 1e-12
            up = np.cross(t, side)
            rings.append(c + radius * (np.cos(angle)[:, None] * side + flatten * np.sin(angle)[:, None] * up))
        vertices = np.concatenate([np.concatenate(rings), centers[:1], centers[-1:]])
        faces = _tube_faces(len(centers), sides)
        along = np.concatenate([np.repeat(u, sides), u[:1], u[-1:]]) / segments
        self.mesh(vertices, faces, paint, *self._blend(joints, np.clip(along, 0, 1)))

    def box(self, joint: str, center: Vector, size: Vector, paint: Paint, bevel: float = 0.15) -> None:
        """A box with softened edges; `bevel` is the share of the smallest half size that is rounded off."""
        n = max(2, round(2 * self.detail))
        half = np.asarray(size, np.float64) / 2
        radius = bevel * half.min()
        vertices, faces = cube(n)
        core = np.clip(vertices * half, -(half - radius), half - radius)
        normal = vertices * half - core
        length = np.linalg.norm(normal, axis=1, keepdims=True)
        vertices = core + np.where(length > 1e-9, normal / np.maximum(length, 1e-9), 0) * np.minimum(length, radius)
        self.mesh(vertices + np.asarray(center), faces, paint, *self._rigid(joint, len(vertices)))

    def disc(self, joint: str, center: Vector, axis: Vector, radius: float, thickness: float, paint: Paint) -> None:
        """A cylinder with bevelled rims about an axis: wheels, hats, pots."""
        axis = np.asarray(axis, float) / np.linalg.norm(axis)
        at = [np.asarray(center) + axis * thickness * s for s in (-0.5, -0.48, -0.3, 0.3, 0.48, 0.5)]
        self.lathe(joint, at, [0.55 * radius, 0.85 * radius, radius, radius, 0.85 * radius, 0.55 * radius], paint)

    def lathe(self, joint: str, centers: Sequence[Vector], radii: Sequence[float], paint: Paint) -> None:
        """Rings of given radii about a straight axis, closed at both ends."""
        c = np.asarray(centers, np.float64)
        axis = c[-1] - c[0]
        b = basis(axis, (1, 0, 0) if abs(axis[2]) > 0.9 * np.linalg.norm(axis) else (0, 0, 1))
        sides = max(8, round(16 * self.detail))
        angle = np.linspace(0, 2 * np.pi, sides, endpoint=False)
        circle = np.cos(angle)[:, None] * b[:, 1] + np.sin(angle)[:, None] * b[:, 2]
        rings = [center + radius * circle for center, radius in zip(c, radii)]
        vertices = np.concatenate([*rings, c[:1], c[-1:]])
        self.mesh(vertices, _tube_faces(len(c), sides), paint, *self._rigid(joint, len(vertices)))

    def _blend(self, names: Sequence[str], along: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Two-joint weights of points at `along` in 0..1 of a chain of equally long segments, halves at bends."""
        index = np.array([self.skeleton.index(n) for n in names])
        u = along * len(index) - 0.5
        low = np.clip(np.floor(u).astype(int), 0, len(index) - 1)
        high = np.minimum(low + 1, len(index) - 1)
        f = np.clip(u - low, 0, 1)
        f = f * f * (3 - 2 * f)
        joints = np.zeros((len(along), 4), np.int32)
        joints[:, 0], joints[:, 1] = index[low], index[high]
        weights = np.zeros((len(along), 4))
        weights[:, 0], weights[:, 1] = 1 - f, f
        return joints, weights

    def rig(self, name: str, noun: str) -> Rig:
        """The whole object, still in the design frame."""
        return Rig(
            name,
            noun,
            np.concatenate(self._vertices).astype(np.float32),
            np.concatenate(self._faces).astype(np.int32),
            np.concatenate(self._colors).astype(np.float32),
            np.concatenate(self._joints).astype(np.int32),
            np.concatenate(self._weights).astype(np.float32),
        )


def basis(forward: Vector, up: Vector) -> np.ndarray:
    """[3, 3] with columns forward, side, up made orthonormal."""
    f = np.asarray(forward, np.float64)
    f = f / np.linalg.norm(f)
    u = np.asarray(up, np.float64)
    if abs(f @ u) > 0.99 * np.linalg.norm(u):
        u = np.array([1.0, 0, 0]) if abs(f[0]) < 0.9 else np.array([0, 1.0, 0])
    side = np.cross(u, f)
    side /= np.linalg.norm(side)
    return np.stack([f, side, np.cross(f, side)], 1)


def sphere(rings: int, sides: int) -> tuple[np.ndarray, np.ndarray]:
    """Unit sphere about the x axis: vertices [N, 3], faces [F, 3]."""
    theta = np.linspace(0, np.pi, rings + 1)[1:-1]
    angle = np.linspace(0, 2 * np.pi, sides, endpoint=False)
    x = np.repeat(-np.cos(theta), sides)
    r = np.repeat(np.sin(theta), sides)
    a = np.tile(angle, len(theta))
    vertices = np.concatenate([np.stack([x, r * np.cos(a), r * np.sin(a)], 1), [[-1, 0, 0], [1, 0, 0]]])
    return vertices, _tube_faces(len(theta), sides)


def cube(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Cube -1..1 with (n+1)^2 split vertices a side, so that sides shade flat."""
    line = np.linspace(-1, 1, n + 3)
    line[1], line[-2] = -1 + 1e-3, 1 - 1e-3  # the outermost strip becomes the bevel
    u, v = (g.ravel() for g in np.meshgrid(line, line, indexing="ij"))
    m = len(line)
    i = np.arange((m - 1) * (m - 1))
    a = i // (m - 1) * m + i % (m - 1)
    quads = np.concatenate([np.stack([a, a + m, a + m + 1], 1), np.stack([a, a + m + 1, a + 1], 1)])
    vertices, faces = [], []
    for axis in range(3):
        for sign in (-1.0, 1.0):
            side = np.empty((len(u), 3))
            side[:, axis] = sign
            side[:, (axis + 1) % 3], side[:, (axis + 2) % 3] = u, v
            faces.append((quads if sign > 0 else quads[:, ::-1]) + m * m * len(vertices))
            vertices.append(side)
    return np.concatenate(vertices), np.concatenate(faces)


def _tube_faces(rings: int, sides: int) -> np.ndarray:
    """Faces of stacked rings plus the two centre vertices that follow them."""
    i = np.arange((rings - 1) * sides)
    a, right = i, i // sides * sides + (i + 1) % sides
    body = np.concatenate([np.stack([a, right, right + sides], 1), np.stack([a, right + sides, a + sides], 1)])
    s = np.arange(sides)
    n = (s + 1) % sides
    first, last, top = np.full(sides, rings * sides), np.full(sides, rings * sides + 1), (rings - 1) * sides
    return np.concatenate([body, np.stack([first, n, s], 1), np.stack([last, s + top, n + top], 1)])


def _cap(centers: np.ndarray, r: np.ndarray, tangents: np.ndarray, u: np.ndarray) -> tuple[np.ndarray, ...]:
    """Adds shrinking rings at both ends of a tube: half ellipsoids."""
    angles = np.radians([75.0, 50.0, 25.0])
    head = centers[:1] - tangents[:1] * r[0] * np.sin(angles)[:, None]
    tail = centers[-1:] + tangents[-1:] * r[-1] * np.sin(angles[::-1])[:, None]
    return (
        np.concatenate([head, centers, tail]),
        np.concatenate([r[0] * np.cos(angles), r, r[-1] * np.cos(angles[::-1])]),
        np.concatenate([np.repeat(tangents[:1], 3, 0), tangents, np.repeat(tangents[-1:], 3, 0)]),
        np.concatenate([np.repeat(u[:1], 3), u, np.repeat(u[-1:], 3)]),
    )
