"""Tracks for clips that have none, by any tracker."""

from typing import Any

import torch
from torch.utils.data import Dataset

from t4d.errors import InputError
from t4d.tracking.queries import grid_queries
from t4d.tracking.tracker import Tracker, build_tracker


class Tracked(Dataset[dict[str, Any]]):
    """A data set whose items also hold `tracks`, `visible` and `query_valid` of a grid over frame 0 of every view.

    The tracker is made where it is used, once a process. In settings that are texts, "{index}" stands for the clip's
    index with 8 digits and "{name}" for its name, so that the tracker "file" finds a file for each clip.

    Args:
        data: Map-style data set of training clips; tracks that it has are replaced.
        tracker: "flow", "cotracker3" or "file", see `t4d.tracking.tracker.build_tracker`.
        settings: The tracker's.
        grid: Points per side (paper: 15).

    Raises:
        InputError: "exact", which needs meshes: rendered clips have exact tracks already. A tracker that cannot be made
            from these settings, told here and not clip by clip. One file of tracks for several clips.
    """

    def __init__(self, data: Any, tracker: str, settings: dict[str, Any], grid: int = 15) -> None:
        if tracker == "exact":
            raise InputError("exact tracks come with rendered clips, not from pictures; choose another tracker")
        self.data, self.tracker, self.settings, self.grid = data, tracker, settings, grid
        self._each = any(isinstance(v, str) and ("{index}" in v or "{name}" in v) for v in settings.values())
        if tracker == "file" and not self._each and len(data) > 1:
            raise InputError(
                f"one file of tracks was given for {len(data)} clips; write {{index}} or {{name}} into its path, such "
                "as path=tracks/{name}.npz"
            )
        self._built: Tracker | None = None if self._each else build_tracker(tracker, **settings)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_built": None}

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> dict[str, Any]:
        item = self.data[index]
        rgba = item["rgba"]
        queries = grid_queries(rgba.shape[-2], rgba.shape[-1], self.grid).expand(len(rgba), -1, -1)
        with torch.no_grad():
            found = self._made(index, item["name"]).track(rgba[:, :, :3], queries, rgba[:, :, 3:])
        return {**item, "tracks": found.xy.float(), "visible": found.visible, "query_valid": found.query_valid}

    def _made(self, index: int, name: str) -> Tracker:
        if self._each:
            place = {"{index}": f"{index:08d}", "{name}": name}
            settings = dict(self.settings)
            for key, value in settings.items():
                for mark, text in place.items():
                    settings[key] = value = value.replace(mark, text) if isinstance(value, str) else value
            return build_tracker(self.tracker, **settings)
        if self._built is None:
            self._built = build_tracker(self.tracker, **self.settings)
        return self._built
