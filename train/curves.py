"""Curves of a run in TensorBoard and trackio, through accelerate's trackers; both write below the run folder."""

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from pydantic import BaseModel

from t4d.errors import InputError
from train.config import RunConfig

PROJECT = "curves"


def check_trackers(config: RunConfig) -> list[Any]:
    """Names of the trackers that were asked for.

    Raises:
        InputError: One is not installed; accelerate would leave it out with a line in its log.
    """
    for name in config.trackers:
        if find_spec(name) is None:
            raise InputError(
                f"The tracker {name} is not installed; pip install -r requirements-train.txt, or set trackers=[]."
            )
    return list(config.trackers)


def start_curves(accelerator: Accelerator, config: RunConfig, out: Path, start: int) -> None:
    """Opens the trackers that the accelerator was made with; nothing leaves the machine unless the user's environment
    names a trackio server.

    Args:
        accelerator: Made with `log_with=check_trackers(config)` and `project_dir=out`.
        config: Resolved configuration, stored with the curves.
        out: Run folder.
        start: Steps already made: TensorBoard drops what a killed run drew after them.
    """
    if not config.trackers:
        return
    os.environ.setdefault("TRACKIO_DIR", str(out.resolve() / "trackio"))  # read when trackio is imported
    quiet = {"embed": False, "auto_log_gpu": False, "auto_log_cpu": False}
    kwargs = {
        "tensorboard": {"purge_step": start + 1},
        "trackio": {"name": out.resolve().name, "resume": "allow", **quiet},
    }
    accelerator.init_trackers(PROJECT, flat(config), {name: kwargs[name] for name in config.trackers})


def flat(config: BaseModel) -> dict[str, str | int | float | bool]:
    """Settings by dotted name, as trackers take them."""
    found: dict[str, str | int | float | bool] = {}

    def walk(prefix: str, value: Any) -> None:
        if isinstance(value, dict):
            for name, part in value.items():
                walk(f"{prefix}.{name}" if prefix else name, part)
        else:
            found[prefix] = value if isinstance(value, str | int | float | bool) else str(value)

    walk("", config.model_dump(mode="json"))
    return found
