"""Stands in for the package `cotracker`, which cannot be installed here (CC-BY-NC 4.0, not on PyPI).

Recorded from facebookresearch/co-tracker at 82e02e8 (version 3.0) with random weights, torch 2.13 on the CPU:

- importing ``cotracker.predictor`` seeds torch's global generator with 0;
- ``CoTrackerPredictor(checkpoint, offline, v2, window_len)`` and ``CoTrackerOnlinePredictor(...)`` read the file with
  ``torch.load`` if ``checkpoint`` is not None and otherwise keep random weights without a word;
- ``predictor.model``: 188 tensors, among them ``time_emb`` [1, 60, 1110] offline and [1, 16, 1110] online, else alike;
  called with ``video=`` [1, T, 3, 384, 512] in 0..255, ``queries=`` [1, N, 3] (frame, x, y), ``iters=6`` it returns
  positions [1, T, N, 2], visibility and confidence [1, T, N] float32 in 0..1, and None; the offline predictor calls
  ``model.forward``, the online one ``model(..., is_online=True)``, at most 16 frames;
- offline ``predictor(video [1, T, 3, H, W], queries=)`` returns ([1, T, N, 2] float32, [1, T, N] bool): 36 support
  points are appended and cut off again, visibility > 0.9, query frames are overwritten with the queries and visible;
- online ``predictor(video, is_first_step=True, queries=, add_support_grid=)`` returns (None, None) and only takes the
  queries; ``predictor(chunk, add_support_grid=)`` returns all frames so far, visibility x confidence > 0.6; ``step`` is
  8; frame 0 is a prediction like any other;
- pictures are resized with ``align_corners=True`` and pixels scaled by (512 - 1) / (W - 1): pixel centres at integers.

The network here follows the centre of brightness: every query moves as it does.
"""

import importlib.abc
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

SIZE = (384, 512)
SUPPORT = 36


class FakeModel(nn.Module):
    """Moves queries with the centre of brightness; points left of x = 100 (of 512) are unsure."""

    def __init__(self, window_len: int) -> None:
        super().__init__()
        self.window_len, self.model_resolution = window_len, SIZE
        self.register_buffer("time_emb", torch.rand(1, window_len, 1110))
        self.fnet = nn.Conv2d(3, 4, 3)
        self.past: Tensor | None = None
        self.seen: Tensor | None = None

    def init_video_online_processing(self) -> None:
        self.past = self.seen = None

    def forward(self, video: Tensor, queries: Tensor, iters: int = 4, is_online: bool = False):
        assert video.shape[2:] == (3, *SIZE) and iters == 6 and video.max() > 2
        if is_online:
            assert video.shape[1] <= self.window_len
            if self.past is not None:  # windows overlap by half
                assert torch.equal(video[:, :8], self.past)
            self.past = video[:, 8:]
        assert (queries[..., 0] == 0).all()
        weight = video.mean(2) - video.mean(2).amin((-2, -1), keepdim=True)  # [1, T, 384, 512]
        columns, rows = weight.double().sum(-2), weight.double().sum(-1)
        x, y = (torch.arange(len(line), dtype=torch.float64) for line in (columns[0, 0], rows[0, 0]))
        centre = torch.stack([columns @ x, rows @ y], -1) / columns.sum(-1, keepdim=True)  # [1, T, 2]
        if is_online:
            self.seen = centre if self.seen is None else torch.cat([self.seen, centre[:, 8:]], 1)
            centre = self.seen
        moved = queries[:, None, :, 1:] + (centre - centre[:, :1])[:, :, None].float()
        sure = torch.where(moved[..., 0] < 100, 0.5, 0.95)
        return moved, sure, torch.full_like(sure, 0.7), None


class _Predictor(nn.Module):
    def __init__(self, checkpoint: str | None = None, offline: bool = True, v2: bool = False, window_len: int = 60):
        super().__init__()
        assert checkpoint is None and not v2
        self.interp_shape, self.model = SIZE, FakeModel(window_len)

    def resized(self, video: Tensor) -> tuple[Tensor, Tensor]:
        frames, height, width = video.shape[1], *video.shape[-2:]
        large = interpolate(video[0], SIZE, mode="bilinear", align_corners=True).reshape(1, frames, 3, *SIZE)
        return large, torch.tensor([(SIZE[1] - 1) / (width - 1), (SIZE[0] - 1) / (height - 1)])


class CoTrackerPredictor(_Predictor):
    def forward(self, video: Tensor, queries: Tensor):
        large, scale = self.resized(video)
        start = torch.cat([queries[..., :1], queries[..., 1:] * scale], -1)
        everything = torch.cat([start, torch.zeros(1, SUPPORT, 3)], 1)
        xy, visible, _, _ = self.model.forward(video=large, queries=everything, iters=6)
        count = queries.shape[1]
        xy, visible = xy[:, :, :count], visible[:, :, :count] > 0.9
        xy[:, 0], visible[:, 0] = start[..., 1:], True
        return xy / scale, visible


class CoTrackerOnlinePredictor(_Predictor):
    step = 8

    def forward(self, video_chunk: Tensor, is_first_step=False, queries=None, add_support_grid=False):
        large, scale = self.resized(video_chunk)
        if is_first_step:
            assert queries is not None
            self.model.init_video_online_processing()
            self.count = queries.shape[1]
            start = torch.cat([queries[..., :1], queries[..., 1:] * scale], -1)
            self.queries = torch.cat([start, torch.zeros(1, SUPPORT, 3)], 1) if add_support_grid else start
            return None, None
        xy, visible, confidence, _ = self.model(video=large, queries=self.queries, iters=6, is_online=True)
        xy, trusted = xy[:, :, : self.count], (visible * confidence)[:, :, : self.count]
        return xy / scale, trusted > 0.6


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Puts the fake where ``import cotracker.predictor`` finds it, with its side effect."""

    class Loader(MetaPathFinder, importlib.abc.Loader):
        def find_spec(self, fullname, path, target=None):
            known = fullname in ("cotracker", "cotracker.predictor")
            return ModuleSpec(fullname, self, is_package=fullname == "cotracker") if known else None

        def create_module(self, spec):
            return ModuleType(spec.name)

        def exec_module(self, module):
            torch.manual_seed(0)
            vars(module).update(
                CoTrackerPredictor=CoTrackerPredictor, CoTrackerOnlinePredictor=CoTrackerOnlinePredictor
            )

    for name in ("cotracker", "cotracker.predictor"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(sys, "meta_path", [Loader(), *sys.meta_path])


def forget() -> None:
    """Removes what `install` let in."""
    for name in ("cotracker", "cotracker.predictor"):
        sys.modules.pop(name, None)
