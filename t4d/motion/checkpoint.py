"""A fit in the middle: everything it needs to go on, as plain tensors."""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from t4d.errors import InputError
from t4d.motion.asset import MotionAsset

MOMENTS = ("step", "exp_avg", "exp_avg_sq")


def checkpoint(asset: MotionAsset, optimizer: torch.optim.Adam, iteration: int) -> dict[str, Tensor]:
    """A copy of field, feature table, appearance and Adam's moments after `iteration` iterations, for safetensors."""
    state = asset.state_dict()
    for name, parameter in _parameters(asset):
        for key, value in optimizer.state.get(parameter, {}).items():
            state[f"adam.{key}.{name}"] = value
    state["iteration"] = torch.tensor(iteration)
    return {name: value.detach().clone().contiguous() for name, value in state.items()}


def restore(asset: MotionAsset, optimizer: torch.optim.Adam, state: Mapping[str, Tensor], total: int) -> int:
    """Puts a ``checkpoint`` into asset and optimiser.

    Returns:
        The finished iterations.

    Raises:
        InputError: the checkpoint is of another fit.
    """

    def part(name: str) -> dict[str, Tensor]:
        return {key.removeprefix(name): value for key, value in state.items() if key.startswith(name)}

    try:
        done = int(state["iteration"])
        field, appearance = asset.field, asset.appearance
        field.load_state_dict(part("field."))
        if (field.table is None) != (not part("table.")) or (appearance is None) != (not part("appearance.")):
            raise ValueError("it has other parts")
        if field.table is not None:
            table = type(field.table).from_state_dict(part("table."))
            if table.values.shape != field.table.values.shape:
                raise ValueError("the feature table has another shape")
            field.table = table
            field.to(field.means.device)
        if appearance is not None:
            appearance.load_state_dict(part("appearance."))
        for name, parameter in _parameters(asset):
            moments = {key: state[f"adam.{key}.{name}"].clone() for key in MOMENTS if f"adam.{key}.{name}" in state}
            if moments and (len(moments) < len(MOMENTS) or moments["exp_avg"].shape != parameter.shape):
                raise ValueError(f"{name} has another shape")
            if moments:  # a parameter that was never used has none
                moments = {key: value.to(parameter.device) for key, value in moments.items()}
                optimizer.state[parameter] = moments
    except (KeyError, RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"The checkpoint belongs to another fit ({reason}); remove it and start again.") from error
    if not 0 < done <= total:
        raise InputError(f"The checkpoint stands at iteration {done} of a fit of {total}; remove it and start again.")
    return done


def _parameters(asset: MotionAsset) -> Iterator[tuple[str, nn.Parameter]]:
    for prefix, module in (("field", asset.field), ("appearance", asset.appearance)):
        if module is not None:
            for name, parameter in module.named_parameters():
                yield f"{prefix}.{name}", parameter
