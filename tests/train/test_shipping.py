"""What is written while networks are split over processes comes from a copy that leaves those in training alone."""

from typing import Any, cast

import pytest
import torch
from accelerate.utils import DistributedType
from stage1_program import SMOKE
from torch import nn

from t4d.diffusion.model import VideoModel
from train import shipping as module
from train.config import StageOneTrainConfig, load_config
from train.networks import build
from train.objective import Objective
from train.runs import Ema
from train.shipping import Shipping

GPU = torch.device("cuda", 3)  # a name only: nothing is moved there


class Sharing:
    """As much of an accelerator of split networks as writing takes, on the main process."""

    distributed_type, is_main_process, device = DistributedType.FSDP, True, GPU

    def get_state_dict(self, wrapped: nn.Module) -> dict[str, torch.Tensor]:
        return wrapped.state_dict()

    def wait_for_everyone(self) -> None:
        pass


@pytest.fixture
def moves(monkeypatch) -> list[tuple[int, str]]:
    """(id of a module, device) of every move; none is carried out."""
    found: list[tuple[int, str]] = []

    def spied(self: nn.Module, device: Any, *_: Any, **__: Any) -> nn.Module:
        found.append((id(self), str(device)))
        return self

    for cls in (nn.Module, *{type(part) for part in build(settings()).parts.values()}):
        monkeypatch.setattr(cls, "to", spied)
    return found


def settings() -> StageOneTrainConfig:
    return load_config(StageOneTrainConfig, SMOKE, [])


def test_a_sheet_of_split_networks_moves_none_of_those_in_training(tmp_path, monkeypatch, moves):
    config = settings()
    model = build(config)
    objective = Objective(model, config)
    shipping = Shipping(tmp_path, cast(Any, Sharing()), model, None, config)
    copy = shipping.model
    mine, theirs = ({id(part) for part in m.parts.values()} for m in (model, copy))
    assert len(mine) == len(theirs) == 4 and not mine & theirs
    held = [{p.data_ptr() for part in m.parts.values() for p in part.parameters()} for m in (model, copy)]
    assert not held[0] & held[1]  # nor any memory
    assert not any(part.training for part in copy.parts.values())

    seen: list[VideoModel] = []
    monkeypatch.setattr(module, "write_sheet", lambda model, *_: seen.append(model))
    with torch.no_grad():  # training goes on after the copy was made
        for value in objective.parameters():
            value.add_(1)
    moves.clear()
    shipping.send(7, objective, objective, Ema(objective, 0.9), sheet=True)
    assert seen == [copy]
    assert {part for part, _ in moves} & (mine | theirs) == theirs  # the autoencoder of the copy, too
    for part in theirs:
        assert [device for moved, device in moves if moved == part] == [str(GPU), "cpu"]
    for name in ("unet", "text_encoder", "image_encoder"):
        ours, own = model.parts[name].state_dict(), copy.parts[name].state_dict()
        assert all(torch.equal(own[n], ours[n]) for n in ours)  # what is written is what was trained
    assert VideoModel.load(tmp_path / "model").meta["steps"] == 7


def test_processes_that_do_not_write_copy_nothing(tmp_path):
    class Other(Sharing):
        is_main_process = False

    model = build(settings())
    assert Shipping(tmp_path, cast(Any, Other()), model, None, settings()).model is model
