"""Training batches of a slot: scenes drawn by worker processes, rendered on the device or by the workers."""

import resource
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from t4d.data.dataset import ClipDataset
from t4d.data.device_render import DeviceClips, render_scenes
from t4d.data.device_scene import PackedScenes, join_scenes
from train.config import Curriculum, StageOneTrainConfig
from train.runs import generator
from train.sources import rendered_or_stored

VIEWS = 0  # purpose of random numbers; see train.draws


@dataclass(frozen=True)
class Shown:
    """A batch as the denoiser will see it.

    Attributes:
        rgba: [B, v, f, 4, H, W] on the device.
        flow: [B, v, f, 2, h, w] on the device.
        cameras: [B, v, 16].
        captions: B sentences.
    """

    rgba: Tensor
    flow: Tensor
    cameras: Tensor
    captions: list[str]


def views_of(count: int, total: int, clips: int, turn_views: float, g: torch.Generator) -> tuple[Tensor, Tensor]:
    """Cameras of every clip and the views whose pictures they get.

    A quarter turn of the object moves each picture to the next camera: see `train.draws.draw`.

    Args:
        count: Views that a clip shows.
        total: Views there are.
        clips: B.
        turn_views: Share of turned clips.
        g: Source of randomness.

    Returns:
        Cameras and pictures, both [B, count] int64, cameras rising.
    """
    order = torch.rand((clips, total), generator=g).argsort(1)
    cameras = order[:, :count].sort(1).values
    turned = torch.rand(clips, generator=g) < turn_views
    turn = torch.randint(1, max(total, 2), (clips,), generator=g) * turned
    return cameras, (cameras - turn[:, None]) % total


class SlotClips:
    """Endless batches of any size, in chunks of clips that worker processes make ahead.

    Args:
        config: Its data, seed and turn_views.
        device: Where pictures go, and with data.renderer=device where they are made.
        chunk: Clips of a chunk.
        workers: Worker processes.
        place: Clips of earlier calls: the endless data go on there.

    Attributes:
        place: Clips given out so far, over all calls.
        waited: Seconds in which the program waited for worker processes.
    """

    def __init__(
        self, config: StageOneTrainConfig, device: torch.device, chunk: int, workers: int, place: int = 0
    ) -> None:
        self.config, self.device, self.chunk, self.place = config, device, chunk, place
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (most, most)
        )  # every tensor on its way from a worker is an open file
        data, count = rendered_or_stored(config.data, config.seed, device)
        self.data, self.count, self.waited = data, count, 0.0
        self.chunks = self._loader(data, self._order(place), workers)

    def _order(self, place: int) -> Iterator[list[int]]:
        while True:
            places = range(place, place + self.chunk)
            yield [p if self.count is None else p % self.count for p in places]
            place += self.chunk

    def _loader(self, data: Dataset, order: Iterator[list[int]], workers: int) -> Iterator[Any]:
        if isinstance(data, DeviceClips):
            return data.packed(order, workers)
        assert isinstance(data, ClipDataset)
        ahead: dict[str, Any] = {"prefetch_factor": 4, "multiprocessing_context": "spawn"} if workers else {}
        return iter(DataLoader(data, batch_sampler=order, num_workers=workers, **ahead))  # type: ignore[arg-type]

    def take(self, clips: int, stage: Curriculum) -> Shown:
        """The next clips (a multiple of chunk) with so many views and frames."""
        g = generator(self.config.seed, self.place, VIEWS)
        began = time.perf_counter()
        chunks = [next(self.chunks) for _ in range(clips // self.chunk)]
        self.waited += time.perf_counter() - began
        self.place += clips
        total = self.config.data.views
        cameras, pictures = views_of(stage.views, total, clips, self.config.turn_views, g)
        rows = torch.arange(clips)[:, None]
        if isinstance(chunks[0], PackedScenes):
            scenes = join_scenes(chunks).to(self.device)
            seen = scenes.cameras[rows.to(self.device), cameras.to(self.device)]
            found = render_scenes(scenes.seen_by(pictures, stage.frames), flow_cell=2)
            words = scenes.words
            return Shown(found["rgba"], found["flow"], seen, [w["caption"] for w in words])
        rgba, flow, all_cameras = (torch.cat([c[name] for c in chunks]) for name in ("rgba", "flow", "cameras"))
        captions = [caption for c in chunks for caption in c["caption"]]
        rgba, flow = (x[rows, pictures][:, :, : stage.frames].to(self.device) for x in (rgba, flow))
        return Shown(rgba, flow, all_cameras[rows, cameras].to(self.device), captions)
