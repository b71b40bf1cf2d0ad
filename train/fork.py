"""Forks: Stage One goes on from a finished base and trains the MV2V adapter and the motion modules only.

    accelerate launch train/stage1.py --config train/configs/fork.yaml --fork mini --out FOLDER [key=value ...]

The run then ships FOLDER/fork, a few MB that go onto that base (`t4d.diffusion.fork`), instead of FOLDER/model.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from t4d.diffusion.fork import FORKED, ForkBase, fork_bytes, save_fork
from t4d.diffusion.model import INDEX, VideoModel, weights_folder
from t4d.errors import InputError
from train.config import StageOneTrainConfig
from train.networks import build


@dataclass(frozen=True)
class Fork:
    """A fork in training.

    Attributes:
        config: The run's configuration with the base's own settings where it left them open.
        model: The networks, as loaded from the base; train these.
        base: What the base was.
    """

    config: StageOneTrainConfig
    model: VideoModel
    base: ForkBase

    @classmethod
    def start(cls, config: StageOneTrainConfig) -> "Fork":
        """Load the base that `config.fork` names.

        Raises:
            InputError: There is no such base, the configuration asks for other networks, or the fork would be larger
                than `fork_megabytes`.
        """
        config = settled(config)
        model = build(config)
        size = fork_bytes(model, config.fork_type) / 1e6
        if size > config.fork_megabytes:
            raise InputError(
                f"A fork of {config.fork} takes {size:.1f} MB as {config.fork_type} and fork_megabytes is "
                f"{config.fork_megabytes:g}; set fork_type=int8 or raise fork_megabytes."
            )
        # `build` has given the networks the fork's label already
        base = replace(ForkBase.of(model), label=_meta(config.fork).get("label", config.fork))
        return cls(config, model, base)

    def save(self, folder: Path) -> Path:
        """Write the fork as the networks are now (put averaged weights in first)."""
        return save_fork(self.base, self.model, folder, self.config.fork_type)


def settled(config: StageOneTrainConfig) -> StageOneTrainConfig:
    """The configuration of a fork: weights and trained parts, and of the base what the configuration does not set.

    Raises:
        InputError: It names other weights, networks, a schedule or other trained parts.
    """
    given = config.model_fields_set
    own = {"weights": config.fork, "trainable": FORKED}
    # a fork is loaded onto its base, whose networks and schedule it does not carry
    for name in (*own, "autoencoder", "text_encoder", "motion_mean", "model", "text", "image", "scheduler"):
        if name in given and getattr(config, name) != own.get(name):
            raise InputError(
                f"A fork of {config.fork} takes its networks from there and trains {' and '.join(FORKED)}; remove "
                f"{name} from the configuration."
            )
    meta = _meta(config.fork)
    taken = {n: meta[n] for n in ("guidance", "shared_noise") if n in meta and n not in given}
    if "prediction" not in given:
        taken["prediction"] = meta["prediction_type"]
    return StageOneTrainConfig.model_validate({**config.model_dump(), **taken, **own})


def _meta(base: str) -> dict[str, Any]:
    """The index of a base without loading its networks; the public weights have none."""
    folder = weights_folder(base)
    if folder is None:
        return {"prediction_type": "epsilon", "guidance": 7.5}
    return json.loads((folder / INDEX).read_text())
