"""Tracks from a file: whatever tracker made them."""

from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from t4d.errors import InputError
from t4d.tracking.tracker import assemble, check_input, starting
from t4d.tracking.tracks import Tracks

NAMES = {"tracks", "visible", "query_valid", "size"}


def write_tracks_file(path: Path | str, tracks: Tracks, size: tuple[int, int]) -> None:
    """Writes tracks for `FileTracker`.

    Args:
        path: Ends in .npz or .safetensors.
        tracks: [V, T, N, 2] and so on, pixels.
        size: (height, width) of the pictures they were found in.

    Raises:
        InputError: Another ending, or tracks with other axes.
    """
    path = Path(path)
    if tracks.xy.dim() != 4:
        raise InputError(f"tracks of shape {list(tracks.xy.shape)} cannot be stored; give [views, frames, points, 2].")
    arrays = {
        "tracks": tracks.xy.detach().cpu().float().contiguous(),
        "visible": tracks.visible.cpu().contiguous(),
        "query_valid": tracks.query_valid.cpu().contiguous(),
        "size": torch.tensor(size, dtype=torch.int64),
    }
    if path.suffix == ".safetensors":
        save_file(arrays, path)
    elif path.suffix == ".npz":
        np.savez_compressed(path, allow_pickle=False, **{name: value.numpy() for name, value in arrays.items()})
    else:
        raise InputError(f"{path} is neither .npz nor .safetensors; tracks are stored in one of them.")


class FileTracker:
    """Bring your own tracker: reads positions and visibility from an NPZ or safetensors file.

    The file holds ``tracks`` [V, T, M, 2] floating point (pixels: x right, y down, pixel centres at .5), ``visible``
    [V, T, M] bool, and may hold ``query_valid`` [V, M] bool (all valid without it) and ``size`` [2] (height, width of
    the pictures tracked, if they were of another size than the clip). Positions must be finite, also where hidden.

    Its points need not come in the order of the queries nor be all of them: each query takes the stored track that
    starts nearest to it, and is not valid where none starts within ``distance``.

    Args:
        path: .npz (never unpickled) or .safetensors.
        distance: Pixels of the clip between a query and the start of its track.

    Raises:
        InputError: The file cannot be read, lacks an array or holds another, or its arrays disagree.
    """

    name = "file"

    def __init__(self, path: Path | str, distance: float = 1.0) -> None:
        self.path, self.distance = Path(path), distance
        if not distance > 0:
            raise InputError(f"tracks within {distance} pixels of queries were asked for; give a positive number.")
        data = _read(self.path)
        missing, other = {"tracks", "visible"} - data.keys(), data.keys() - NAMES
        if missing or other:
            raise InputError(
                f"{self.path} holds {sorted(data)}; a file of tracks holds 'tracks', 'visible' and, if wanted, "
                "'query_valid' and 'size', nothing else."
            )
        xy, visible = data["tracks"], data["visible"]
        if xy.dim() != 4 or xy.shape[3] != 2 or not xy.is_floating_point() or xy.numel() == 0:
            raise InputError(
                f"'tracks' in {self.path} is {xy.dtype} {list(xy.shape)}; expected floating-point pixels "
                "[views, frames, points, 2]."
            )
        valid = data.get("query_valid", torch.ones(xy.shape[0], xy.shape[2], dtype=torch.bool))
        for name, value, shape in (("visible", visible, xy.shape[:3]), ("query_valid", valid, (len(xy), xy.shape[2]))):
            if value.dtype != torch.bool or value.shape != shape:
                raise InputError(
                    f"'{name}' in {self.path} is {value.dtype} {list(value.shape)}; its tracks need bool {list(shape)}."
                )
        if not bool(xy.isfinite().all()):
            v, t, n = (int(i) for i in (~xy.isfinite().all(-1)).nonzero()[0])
            raise InputError(
                f"'tracks' in {self.path} is not finite for point {n} in frame {t} of view {v}; give some position "
                "also where a point is hidden and say so in 'visible'."
            )
        size = data.get("size")
        if size is not None and (size.shape != (2,) or size.is_floating_point() or not bool((size > 0).all())):
            raise InputError(f"'size' in {self.path} is {size.tolist()}; expected two integers, height and width.")
        self.tracks = Tracks(xy.float(), visible, valid)
        self.size = None if size is None else (int(size[0]), int(size[1]))

    def track(self, rgb: Tensor, queries: Tensor, mask: Tensor | None = None) -> Tracks:
        """See `t4d.tracking.tracker.Tracker.track`.

        Raises:
            InputError: The file has other views or frames than the clip, or no track starts at any query.
        """
        check_input(rgb, queries, mask)
        stored = self.tracks
        if rgb.shape[:2] != stored.xy.shape[:2]:
            raise InputError(
                f"{self.path} holds {len(stored.xy)} views of {stored.xy.shape[1]} frames but the clip has "
                f"{len(rgb)} of {rgb.shape[1]}; give the tracks of this clip."
            )
        xy = stored.xy
        if self.size is not None:
            xy = xy * xy.new_tensor([rgb.shape[-1] / self.size[1], rgb.shape[-2] / self.size[0]])
        at = queries.detach().cpu().float()
        # Large sets are compared by matrix products otherwise, which errs by half a pixel in large pictures.
        apart = torch.cdist(at, xy[:, 0], compute_mode="donot_use_mm_for_euclid_dist")
        far, index = apart.masked_fill(~stored.query_valid[:, None], torch.inf).min(-1)  # [V, N]
        wanted = starting(rgb, queries, mask).cpu()
        valid = wanted & (far <= self.distance)
        if bool(wanted.any()) and not bool(valid.any()):
            raise InputError(
                f"no track in {self.path} starts within {self.distance} pixels of any of the {int(wanted.sum())} query "
                "points; track these points, or state 'size' if the pictures were of another size."
            )
        frames = xy.shape[1]
        xy = xy.gather(2, index[:, None, :, None].expand(-1, frames, -1, 2))
        visible = stored.visible.gather(2, index[:, None].expand(-1, frames, -1))
        return assemble(xy.to(queries), visible.to(queries.device), queries, valid.to(queries.device))


def _read(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as stored:
                return {name: torch.from_numpy(np.ascontiguousarray(stored[name])) for name in stored.files}
    except (OSError, ValueError, TypeError, EOFError, BadZipFile, SafetensorError) as error:
        raise InputError(f"{path} is not a readable file of tracks ({error}); write it again.") from error
    raise InputError(f"{path} is neither .npz nor .safetensors; give tracks in one of them.")
