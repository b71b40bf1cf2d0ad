"""A small real study, prepared and served, for the tests of the page and its addresses."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from studio.study.app import ServedStudy
from studio.study.media import prepare
from studio.study.schema import VideoSpec
from studio.study.service import StudyService
from studio.study.video import write_plain_video

LABELS = {"zebrafish": "Zanzibar Nets", "quokka": "Quibbler XL", "narwhal": "Nimbostratus"}
VIDEO = {"side": 64, "fps": 8, "seconds": 1.0}


def prepared_study(root: Path, items: int = 2, **fields: Any) -> Path:
    """Draws videos ``root/METHOD/objectK.mp4`` and prepares a study of them; returns its folder."""
    spec = VideoSpec.model_validate(VIDEO)
    for m, method in enumerate(LABELS):
        (root / method).mkdir(parents=True, exist_ok=True)
        for k in range(items):
            clip = np.full((spec.frames, spec.side, spec.side, 3), 128, np.uint8)
            for t in range(spec.frames):
                clip[t, 20:40, 4 + 4 * t : 20 + 4 * t] = (220 - 40 * m, 60 + 30 * k, 40 * m)
            write_plain_video(root / method / f"object{k}.mp4", clip, spec)
    entries = [
        {
            "id": f"wombat{k}",
            "object": f"Wombat number {k}",
            "prompt": f"The creature <b>{k}</b> hops & looks around.",
            "reference": f"zebrafish/object{k}.mp4",
            "videos": {method: f"{method}/object{k}.mp4" for method in LABELS},
        }
        for k in range(items)
    ]
    methods = [{"id": name, "label": label, "source": f"{name}/runs"} for name, label in LABELS.items()]
    study = {"title": "Moving objects", "methods": methods, "items": entries, "video": VIDEO, "min_watch_s": 0.5}
    path = root / "walrus.yaml"
    path.write_text(yaml.safe_dump(study | fields), encoding="utf-8")
    return prepare(path).folder


@contextmanager
def served(folder: Path) -> Iterator[tuple[ServedStudy, str]]:
    """Serves a prepared study from this process, on a free port."""
    study = ServedStudy(StudyService(folder))
    url = study.launch(prevent_thread_lock=True, quiet=True)
    try:
        yield study, url.rstrip("/")
    finally:
        study.close()


def at_once(*calls: Callable[[], Any]) -> list[Any]:
    """Results of calls made by as many threads at the same moment."""
    gate, results = threading.Barrier(len(calls)), [None] * len(calls)

    def run(index: int) -> None:
        gate.wait()
        results[index] = calls[index]()

    threads = [threading.Thread(target=run, args=(index,)) for index in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def dump(value: Any) -> str:
    """JSON text as the server would write it."""
    return json.dumps(value, ensure_ascii=False)
