"""Training clips with wrong tracks, for the dose-response experiment."""

from typing import Any

from torch.utils.data import Dataset

from t4d.errors import InputError
from t4d.tracking.corruption import corrupt
from train.config import CorruptionConfig
from train.runs import generator

PURPOSE = 0x7C  # keeps these draws apart from those of training steps


class CorruptedTracks(Dataset[dict[str, Any]]):
    """A data set whose clips have a share of their tracks corrupted; clip i always in the same way, as by a tracker.

    Args:
        data: Map-style data set of clips with tracks.
        config: Share and kinds.
        seed: Of the draws.
    """

    def __init__(self, data: Any, config: CorruptionConfig, seed: int) -> None:
        self.data, self.config, self.seed = data, config, seed

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> dict[str, Any]:
        item = self.data[index]
        if "tracks" not in item:
            raise InputError(
                f"Clip {item['name']} has no tracks to corrupt; add them with train/dataset.py track, or set "
                "tracking.corruption.share=0."
            )
        wrong = corrupt(
            item["tracks"],
            item["visible"],
            item["query_valid"],
            self.config.share,
            self.config.kinds,
            generator(self.seed, index, PURPOSE),
            item["rgba"][:, :, 3],
        )
        return {**item, "tracks": wrong.xy, "visible": wrong.visible}
