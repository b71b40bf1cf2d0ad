"""Tracks by chained dense optical flow (OpenCV's DIS): no weights, runs anywhere, weak where things hide."""

from itertools import pairwise
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from t4d.errors import InputError
from t4d.tracking.maps import sample_maps
from t4d.tracking.tracker import assemble, check_input, inside_picture, starting
from t4d.tracking.tracks import Tracks

Preset = Literal["ultrafast", "fast", "medium"]


class FlowTracker:
    """Follows the flow from frame to frame and distrusts a step that the backward flow does not undo.

    A point is visible as long as every step so far came back to within ``threshold`` of where it started, it is in the
    picture and, with a mask, on the object. Once lost it stays hidden, because chained flow cannot find it again; its
    position goes on with whatever moves there.

    Args:
        preset: Of DIS.
        threshold: Largest forward-backward error of a step, in 256ths of the picture's longer side. Lower hides more
            wrong tracks and more right ones (1 to 12 was tried on procedural clips: AJ is flat from 4 on).
        side: Pictures are enlarged to at least this many pixels on the shorter side, because DIS matches 8-pixel
            patches at half its input's resolution and below. More than the default gained nothing there.

    Raises:
        InputError: OpenCV is not installed, or a setting is out of range.
    """

    name = "flow"

    def __init__(self, preset: Preset = "medium", threshold: float = 4.0, side: int = 128) -> None:
        if preset not in ("ultrafast", "fast", "medium") or not threshold > 0 or not 32 <= side <= 2048:
            raise InputError(
                f"optical flow with preset '{preset}', threshold {threshold} and side {side} was asked for; give "
                "ultrafast, fast or medium, a positive threshold and a side of 32 to 2048."
            )
        self.preset: Preset = preset
        self.threshold, self.side = threshold, side
        _dis(preset)  # a missing OpenCV is told now, not after a folder of clips was opened

    def track(self, rgb: Tensor, queries: Tensor, mask: Tensor | None = None) -> Tracks:
        """See `t4d.tracking.tracker.Tracker.track`."""
        check_input(rgb, queries, mask)
        frames, height, width = rgb.shape[1], *rgb.shape[3:]
        valid = starting(rgb, queries, mask)
        paths, trusted = [], []
        for v in range(len(rgb)):
            forward, backward = self.flows(rgb[v])
            at = queries[v].detach().cpu().float()
            path, good = [at], [torch.ones(len(at), dtype=torch.bool)]
            for t in range(frames - 1):
                step = sample_maps(forward[t], at)
                to = at + step
                error = (step + sample_maps(backward[t], to)).norm(dim=-1) * 256 / max(height, width)
                fine = good[-1] & (error <= self.threshold) & inside_picture(to, height, width)
                if mask is not None:
                    fine &= sample_maps(mask[v, t + 1].detach().cpu().float(), to)[:, 0] > 0.25
                # A lost point is kept near the picture: nothing is known about its place, and it must stay finite.
                at = to.clamp(min=to.new_zeros(2), max=to.new_tensor([width, height]))
                path.append(torch.where(fine[:, None], to, at))
                good.append(fine)
            paths.append(torch.stack(path))
            trusted.append(torch.stack(good))
        return assemble(torch.stack(paths).to(queries), torch.stack(trusted).to(queries.device), queries, valid)

    def flows(self, rgb: Tensor) -> tuple[Tensor, Tensor]:
        """Flow between neighbouring frames of one view.

        Args:
            rgb: [T, 3, H, W] in 0..1.

        Returns:
            forward: [T-1, 2, H, W] float32 pixels of ``rgb``: what is at p in frame t is at p + forward[t](p) in frame
            t + 1; backward: the same from frame t + 1 to frame t.
        """
        height, width = rgb.shape[2:]
        if len(rgb) < 2:  # a single picture: nothing moves
            return rgb.new_zeros(0, 2, height, width), rgb.new_zeros(0, 2, height, width)
        scale = max(1.0, self.side / min(height, width))
        large = (round(height * scale), round(width * scale))
        grey = (rgb.detach().cpu().float() * rgb.new_tensor([0.299, 0.587, 0.114]).cpu()[:, None, None]).sum(1)[:, None]
        if large != (height, width):
            grey = F.interpolate(grey, large, mode="bicubic", align_corners=False)
        pictures = (grey[:, 0].clamp(0, 1) * 255).round().byte().numpy()
        dis = _dis(self.preset)
        both = []
        for order in (1, -1):
            found = [dis.calc(*pair[::order], None) for pair in pairwise(pictures)]
            flow = torch.from_numpy(np.stack(found)).permute(0, 3, 1, 2)
            if large != (height, width):
                flow = F.interpolate(flow, (height, width), mode="bilinear", align_corners=False, antialias=True)
                flow = flow * flow.new_tensor([width / large[1], height / large[0]])[:, None, None]
            both.append(flow)
        return both[0], both[1]


def _dis(preset: Preset) -> Any:
    try:
        import cv2
    except ImportError:
        raise InputError(
            "optical flow needs OpenCV, which is not installed; pip install opencv-python-headless."
        ) from None
    return cv2.DISOpticalFlow.create(
        {
            "ultrafast": cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST,
            "fast": cv2.DISOPTICAL_FLOW_PRESET_FAST,
            "medium": cv2.DISOPTICAL_FLOW_PRESET_MEDIUM,
        }[preset]
    )
