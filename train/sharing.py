"""Networks and optimiser as processes share them: what DeepSpeed must know before accelerate hands them over."""

from typing import Any

from accelerate import Accelerator
from torch import nn

from t4d.errors import InputError
from train.config import OptimConfig


def prepared(
    accelerator: Accelerator, objective: nn.Module, optimiser: Any, optim: OptimConfig
) -> tuple[nn.Module, Any]:
    """What `accelerator.prepare` makes of both.

    DeepSpeed divides, clips and steps by its own settings, and usually takes the batch size from a loader: it gets
    this run's. Its own bf16 would round the weights themselves, more than a step of 1e-6 changes them, and the noise
    schedule with them; its autocast, which takes bf16's place here, is what every other way of sharing does.

    Raises:
        InputError: DeepSpeed's configuration accumulates another number of micro-steps than the run, or is of fp16.
    """
    plugin = accelerator.state.deepspeed_plugin
    if plugin is not None:
        settings = plugin.deepspeed_config
        if settings.get("gradient_accumulation_steps") not in (optim.accumulate, "auto"):
            raise InputError(
                f"DeepSpeed's gradient_accumulation_steps is {settings.get('gradient_accumulation_steps')} and "
                f"optim.accumulate is {optim.accumulate}; set both to the same number."
            )
        if accelerator.mixed_precision == "fp16":
            raise InputError("DeepSpeed and mixed_precision fp16 do not go together here; set mixed_precision to bf16.")
        if accelerator.mixed_precision == "bf16":
            settings.pop("bf16")
            settings["torch_autocast"] = {"enabled": True, "dtype": "bfloat16"}
        settings["train_micro_batch_size_per_gpu"] = optim.batch
        settings["gradient_clipping"] = optim.clip_norm
    wrapped, optimiser = accelerator.prepare(objective, optimiser)
    return wrapped, optimiser
