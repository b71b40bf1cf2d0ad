"""CoTracker3 (the paper's tracker, section 3.2), through its own public package.

CoTracker3's code and weights are licensed CC-BY-NC 4.0: not for commercial use, not on PyPI, never part of this
repository. The package is imported only when a tracker is made.
"""

from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from t4d.errors import InputError
from t4d.tracking.tracker import assemble, check_input, starting
from t4d.tracking.tracks import Tracks

LICENCE = "CoTracker3 is CC-BY-NC 4.0 (not for commercial use)"
INSTALL = "pip install git+https://github.com/facebookresearch/co-tracker"
HUB = "facebook/cotracker3"
# The two published models are the same network but for the length of the time embedding stored with their weights.
Mode = Literal["offline", "online"]
WINDOW: dict[Mode, int] = {"offline": 60, "online": 16}


class CoTracker3:
    """Joint tracking of all points of a view by a pretrained transformer.

    Each view is one video; its valid queries are tracked together, because they attend to each other, along with
    CoTracker's own grid of support points. The package resizes pictures to 384 x 512 and returns pixels of the
    original; its pixel centres lie at integers, ours at .5.

    Args:
        checkpoint: Local ``scaled_offline.pth`` or ``scaled_online.pth``, or "hub" to download the one of `mode` from
            huggingface.co/facebook/cotracker3. There is no default: the package by itself would track with random
            weights.
        mode: "offline" sees the whole clip at once; "online" slides a window of 16 frames, for clips too long for
            memory.
        visibility: Points whose visibility times confidence exceeds this are visible. None takes the package's own
            rule: visibility above 0.9 offline; visibility times confidence above 0.6 online.
        support_grid: Adds CoTracker's 6 x 6 support points (online; offline the package always does).
        points_at_once: Larger sets are tracked in parts, which bounds memory but lets only points of a part help each
            other.
        device: Where the network runs.

    Raises:
        InputError: The package or the checkpoint is missing, the checkpoint is not CoTracker3's or of the other mode,
            or a setting is out of range.
    """

    name = "cotracker3"

    def __init__(
        self,
        checkpoint: Path | str,
        mode: Mode = "offline",
        visibility: float | None = None,
        support_grid: bool = True,
        points_at_once: int = 1024,
        device: torch.device | str = "cpu",
    ) -> None:
        if mode not in WINDOW or points_at_once < 1 or (visibility is not None and not 0 <= visibility < 1):
            raise InputError(
                f"CoTracker3 with mode '{mode}', visibility {visibility} and {points_at_once} points at once was asked "
                "for; give 'offline' or 'online', a threshold in 0..1 or none, and at least one point."
            )
        predictors = _package()
        weights = _weights(checkpoint, mode)
        kind = predictors.CoTrackerPredictor if mode == "offline" else predictors.CoTrackerOnlinePredictor
        # checkpoint=None: the package would unpickle the file; here it is read as tensors only.
        self.predictor = kind(checkpoint=None, offline=mode == "offline", window_len=WINDOW[mode])
        _load(self.predictor.model, weights, checkpoint, mode)
        self.record = _Record(self.predictor.model)
        self.predictor.model = self.record
        self.predictor.to(device).eval()
        self.mode, self.visibility, self.support_grid = mode, visibility, support_grid
        self.points_at_once, self.device = points_at_once, torch.device(device)

    def track(self, rgb: Tensor, queries: Tensor, mask: Tensor | None = None) -> Tracks:
        """See `t4d.tracking.tracker.Tracker.track`."""
        check_input(rgb, queries, mask)
        valid = starting(rgb, queries, mask)
        xy = queries[:, None].expand(-1, rgb.shape[1], -1, -1).clone()  # [V, T, N, 2]
        visible = torch.zeros(xy.shape[:-1], dtype=torch.bool, device=queries.device)
        for v in range(len(rgb)):
            video = (rgb[v].detach().to(self.device, torch.float32) * 255)[None]  # [1, T, 3, H, W]
            for part in valid[v].nonzero()[:, 0].split(self.points_at_once):
                if len(part) == 0:
                    continue
                found, seen = self._one_video(video, queries[v, part].to(self.device, torch.float32))
                xy[v, :, part] = found.to(xy)
                visible[v, :, part] = seen.to(visible)
        return assemble(xy, visible, queries, valid)

    @torch.no_grad()
    def _one_video(self, video: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
        """Positions [T, P, 2] and visibility [T, P] of points [P, 2] of frame 0."""
        start = torch.cat([torch.zeros_like(points[:, :1]), points - 0.5], 1)[None]  # [1, P, 3]: frame, x, y
        if self.mode == "offline":
            xy, visible = self.predictor(video, queries=start)
        else:
            xy, visible = self._windows(video, start)
        if self.visibility is not None:
            visible = self.record.trusted[:, :, : len(points)] > self.visibility
        if xy.shape != (1, video.shape[1], len(points), 2) or not bool(xy.isfinite().all()):
            raise InputError(
                f"CoTracker3 returned tracks {list(xy.shape)}, finite: {bool(xy.isfinite().all())}, for "
                f"{video.shape[1]} frames and {len(points)} points; install the version this adapter was checked with "
                "(co-tracker 3.0)."
            )
        return xy[0] + 0.5, visible[0]

    def _windows(self, video: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
        # The first call only takes the queries; each later one takes a window that overlaps the last by half and
        # returns all frames so far. A clip shorter than half a window is one window (the package pads it).
        self.predictor(video, is_first_step=True, queries=start, add_support_grid=self.support_grid)
        frames, step = video.shape[1], self.predictor.step
        xy = visible = None
        for first in range(0, max(frames - step, 1), step):
            window = video[:, first : first + 2 * step]
            xy, visible = self.predictor(window, add_support_grid=self.support_grid)
        assert xy is not None and visible is not None
        return xy, visible


class _Record(nn.Module):
    """Passes calls on to CoTracker's network and keeps visibility times confidence, which its predictors round away."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.trusted = torch.zeros(0)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        out = self.model(*args, **kwargs)  # positions, visibility, confidence, None
        self.trusted = out[1] * out[2]
        return out

    def init_video_online_processing(self) -> None:
        """Forgets the last video (the predictor calls it)."""
        self.model.init_video_online_processing()  # type: ignore[operator]


def _package() -> Any:
    # Importing CoTracker seeds torch's global generator; a training run must not notice.
    with torch.random.fork_rng(devices=[]):
        try:
            return import_module("cotracker.predictor")
        except ImportError as error:
            raise InputError(
                f"the tracker 'cotracker3' needs the package cotracker, which cannot be imported ({error}); {INSTALL} "
                f"if you accept its licence: {LICENCE}, or choose the tracker 'flow' or 'file'."
            ) from error


def _weights(checkpoint: Path | str, mode: Mode) -> dict[str, Tensor]:
    path = _from_hub(mode) if str(checkpoint) == "hub" else Path(checkpoint)
    if not path.is_file():
        raise InputError(
            f"there is no CoTracker3 checkpoint {path}; download scaled_{mode}.pth from huggingface.co/{HUB} "
            f"({LICENCE}), or give 'hub'."
        )
    try:
        data = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a broken or unsafe file
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path} is not a checkpoint of tensors only ({reason}); download it again.") from error
    data = data.get("model", data) if isinstance(data, dict) else data
    if not isinstance(data, dict) or not all(isinstance(value, Tensor) for value in data.values()):
        raise InputError(f"{path} does not hold a dictionary of tensors; give CoTracker3's scaled_{mode}.pth.")
    return data


def _from_hub(mode: Mode) -> Path:
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(HUB, f"scaled_{mode}.pth"))
    except Exception as error:  # no network, no such file, offline mode: all end the same way
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"CoTracker3's scaled_{mode}.pth could not be downloaded from huggingface.co/{HUB} ({reason}); give a "
            "local file instead."
        ) from error


def _load(model: nn.Module, weights: dict[str, Tensor], checkpoint: Path | str, mode: Mode) -> None:
    own = model.state_dict()
    length = weights["time_emb"].shape[1] if "time_emb" in weights and weights["time_emb"].dim() == 3 else None
    if length is not None and length != WINDOW[mode] and length in WINDOW.values():
        other = "online" if mode == "offline" else "offline"
        raise InputError(f"{checkpoint} is CoTracker3's {other} model; set mode='{other}' or give scaled_{mode}.pth.")
    wrong = [name for name in own if name not in weights or weights[name].shape != own[name].shape]
    wrong += [name for name in weights if name not in own]
    if wrong:
        raise InputError(
            f"{checkpoint} does not fit CoTracker3's {mode} model: {len(wrong)} tensors are missing, left over or of "
            f"another shape ({', '.join(wrong[:3])}); give scaled_{mode}.pth of version 3."
        )
    model.load_state_dict(weights)
