"""One protocol for everything that follows points through a clip, and what all trackers share."""

import inspect
from typing import Protocol

import torch
from torch import Tensor

from t4d.errors import InputError
from t4d.tracking.queries import on_object
from t4d.tracking.tracks import Tracks

TRACKERS = ("exact", "cotracker3", "flow", "file")


class Tracker(Protocol):
    """Follows query points of frame 0 through every view of a clip; views are independent.

    Attributes:
        name: One of `TRACKERS`.
    """

    name: str

    def track(
        self,
        rgb: Tensor,  # [V, T, 3, H, W]
        queries: Tensor,  # [V, N, 2]
        mask: Tensor | None = None,  # [V, T, 1, H, W]
    ) -> Tracks:
        """Follows points.

        Args:
            rgb: sRGB, 0..1.
            queries: Pixels of frame 0 of each view: x right, y down, centres at .5.
            mask: Coverage of the object, 0..1. Queries off the object in frame 0 are not valid; without a mask all
                queries inside the picture are.

        Returns:
            Positions, finite in all frames (also where hidden), on the device of `queries`. Frame 0 is the query
            itself. A query that is not valid stays where it is and is never visible.

        Raises:
            InputError: Shapes disagree, or values are out of range.
        """
        ...


def build_tracker(name: str, **settings: object) -> Tracker:
    """Makes a tracker by name.

    Args:
        name: "exact" (needs the posed mesh), "cotracker3", "flow" or "file".
        **settings: Arguments of that tracker's class.

    Raises:
        InputError: Another name, a setting the tracker does not have, or one that it needs is missing.
    """
    # Imported here: a run that reads tracks from files needs neither OpenCV nor numba nor CoTracker.
    if name == "exact":
        from t4d.tracking.exact import ExactTracker as kind
    elif name == "cotracker3":
        from t4d.tracking.cotracker3 import CoTracker3 as kind
    elif name == "flow":
        from t4d.tracking.optical_flow import FlowTracker as kind
    elif name == "file":
        from t4d.tracking.file import FileTracker as kind
    else:
        raise InputError(f"tracker '{name}' is not known; choose one of {', '.join(TRACKERS)}.")
    signature = inspect.signature(kind)
    try:
        signature.bind(**settings)
    except TypeError as error:
        wanted = ", ".join(str(p) for p in signature.parameters.values())
        raise InputError(f"tracker '{name}' cannot be made from these settings ({error}); it takes {wanted}.") from None
    return kind(**settings)  # type: ignore[arg-type]


def check_input(rgb: Tensor, queries: Tensor, mask: Tensor | None) -> None:
    """Refuses what no tracker can use; see `Tracker.track`.

    Raises:
        InputError: Naming the offender.
    """
    if rgb.dim() != 5 or rgb.shape[2] != 3 or rgb.numel() == 0:
        raise InputError(f"a clip to track has shape {list(rgb.shape)}; give [views, frames, 3, height, width].")
    views, frames, _, height, width = rgb.shape
    if queries.dim() != 3 or len(queries) != views or queries.shape[2] != 2:
        raise InputError(
            f"queries have shape {list(queries.shape)}; give [{views}, points, 2] pixels of frame 0, one set a view."
        )
    if mask is not None and tuple(mask.shape) != (views, frames, 1, height, width):
        raise InputError(
            f"the mask has shape {list(mask.shape)}; this clip needs {[views, frames, 1, height, width]}; match it."
        )
    for name, value in (("rgb", rgb), ("mask", mask)):
        if value is not None and not bool(((value >= -1e-4) & (value <= 1 + 1e-4)).all()):
            raise InputError(f"the clip's {name} is not finite or not in 0..1 everywhere; divide 8-bit values by 255.")
    if not bool(queries.isfinite().all()):
        raise InputError("queries hold values that are not finite; give pixels.")


def starting(rgb: Tensor, queries: Tensor, mask: Tensor | None) -> Tensor:
    """Which queries lie in the picture and, with a mask, on the object in frame 0: [V, N] bool."""
    size = queries.new_tensor([rgb.shape[-1], rgb.shape[-2]])
    inside = ((queries >= 0) & (queries < size)).all(-1)
    return inside if mask is None else inside & on_object(mask[:, 0, 0].to(queries.device), queries)


def inside_picture(xy: Tensor, height: int, width: int) -> Tensor:
    """Whether points [..., 2] in pixels lie in the picture: [...] bool."""
    return ((xy >= 0) & (xy < xy.new_tensor([width, height]))).all(-1)


def assemble(
    xy: Tensor,  # [V, T, N, 2]
    visible: Tensor,  # [V, T, N]
    queries: Tensor,  # [V, N, 2]
    valid: Tensor,  # [V, N]
) -> Tracks:
    """Tracks that keep the promises of `Tracker.track` about frame 0 and about queries that are not valid."""
    start = queries[:, None].expand_as(xy)
    xy = torch.where(valid[:, None, :, None], xy, start)
    xy = torch.cat([start[:, :1], xy[:, 1:]], 1)
    visible = torch.cat([torch.ones_like(visible[:, :1]), visible[:, 1:]], 1) & valid[:, None]
    return Tracks(xy, visible, valid)
