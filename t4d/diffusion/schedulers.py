"""Diffusers' schedulers by short name, set up alike."""

import inspect
from typing import Any

import diffusers
from diffusers.schedulers.scheduling_utils import SchedulerMixin

from t4d.errors import InputError

SHORT_NAMES = {
    "ddim": "DDIMScheduler",
    "ddpm": "DDPMScheduler",
    "unipc": "UniPCMultistepScheduler",
    "dpm++": "DPMSolverMultistepScheduler",
    "dpm++sde": "DPMSolverSinglestepScheduler",
    "deis": "DEISMultistepScheduler",
    "euler": "EulerDiscreteScheduler",
    "euler_a": "EulerAncestralDiscreteScheduler",
    "heun": "HeunDiscreteScheduler",
    "pndm": "PNDMScheduler",
    "lms": "LMSDiscreteScheduler",
}


def build_scheduler(name: str, config: dict[str, Any]) -> Any:
    """A scheduler of the diffusers package for a model's noise schedule.

    Args:
        name: A key of ``SHORT_NAMES``, or the class name of any discrete-time scheduler in diffusers.
        config: Fields such as ``t4d.diffusion.schedule.PAPER_SCHEDULE``; those a scheduler does not know are left out.

    Returns:
        The scheduler, its timesteps not set.

    Raises:
        InputError: If there is no such scheduler or it cannot follow a table of betas.
    """
    cls = getattr(diffusers, SHORT_NAMES.get(name.lower(), name), None)
    if not (inspect.isclass(cls) and issubclass(cls, SchedulerMixin)):
        raise InputError(
            f"No scheduler is called {name!r}; use one of {', '.join(SHORT_NAMES)} or a diffusers class name."
        )
    known = inspect.signature(cls.__init__).parameters
    if "beta_schedule" not in known or "prediction_type" not in known:
        raise InputError(f"The scheduler {name!r} has no table of betas; use one of {', '.join(SHORT_NAMES)}.")
    return cls(**{key: value for key, value in config.items() if key in known})
