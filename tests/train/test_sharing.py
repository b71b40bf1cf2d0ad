"""What DeepSpeed is told before it takes the networks, as accelerate's plugin would hold it."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from t4d.errors import InputError
from train.config import OptimConfig
from train.sharing import prepared

OPTIM = OptimConfig(steps=1, batch=3, accumulate=2, lr=1e-3, clip_norm=0.5)


def settings_after(mixed_precision: str, **settings: Any) -> dict[str, Any]:
    plugin = SimpleNamespace(deepspeed_config=settings)
    accelerator: Any = SimpleNamespace(
        state=SimpleNamespace(deepspeed_plugin=plugin), mixed_precision=mixed_precision, prepare=lambda *both: both
    )
    module = torch.nn.Linear(1, 1)
    assert prepared(accelerator, module, "optimiser", OPTIM) == (module, "optimiser")
    return settings


def test_deepspeed_gets_the_runs_numbers_and_autocast_instead_of_rounded_weights():
    found = settings_after("bf16", gradient_accumulation_steps=2, gradient_clipping=1.0, bf16={"enabled": True})
    assert found["train_micro_batch_size_per_gpu"] == 3 and found["gradient_clipping"] == 0.5
    assert "bf16" not in found and found["torch_autocast"] == {"enabled": True, "dtype": "bfloat16"}
    assert "torch_autocast" not in settings_after("no", gradient_accumulation_steps=2)


def test_deepspeed_settings_that_contradict_the_run_are_refused():
    with pytest.raises(InputError, match=r"is 1 and optim\.accumulate is 2"):
        settings_after("bf16", gradient_accumulation_steps=1, bf16={"enabled": True})
    with pytest.raises(InputError, match="set mixed_precision to bf16"):
        settings_after("fp16", gradient_accumulation_steps=2, fp16={"enabled": True})
