"""Checkpoints are whole or absent, old ones go, and a wrong one is refused by what is wrong with it."""

import pytest
import torch
from accelerate import Accelerator

from t4d.errors import InputError
from train.checkpoint import Checkpoints, replace_folder
from train.runs import Ema


def make(out, keep=1, **identity) -> Checkpoints:
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 1))
    module[1].requires_grad_(False)
    optimiser = torch.optim.AdamW(module[0].parameters(), lr=0.1)
    return Checkpoints(out, Accelerator(cpu=True), module, Ema(module, 0.9), optimiser, keep, identity)


def learn(c: Checkpoints, step: int) -> None:
    c.module(torch.ones(1, 3)).sum().backward()
    c.optimiser.step()
    c.optimiser.zero_grad()
    c.ema.update(c.module, step)


def names(c: Checkpoints) -> list[str]:
    return [path.name for path in c.complete()]


def test_what_was_saved_comes_back(tmp_path):
    a = make(tmp_path, seed=1)
    assert a.resume("latest") == 0 and a.resume("never") == 0
    for step in (1, 2, 3):
        learn(a, step - 1)
        a.save(step)
    assert names(a) == ["step_00000003"]
    b = make(tmp_path, seed=1)
    assert b.resume("latest") == 3
    learn(a, 3)
    learn(b, 3)
    for name, value in a.module.state_dict().items():
        assert torch.equal(value, b.module.state_dict()[name])
    assert all(torch.equal(value, b.ema.average[name]) for name, value in a.ema.average.items())
    assert not any(name.startswith("1.") for name in a.ema.average)  # frozen


def test_the_limit_keeps_the_latest(tmp_path):
    c = make(tmp_path, keep=2)
    for step in (2, 9, 10, 110):
        c.save(step)
    assert names(c) == ["step_00000010", "step_00000110"]


@pytest.mark.parametrize("breaks", ["train.checkpoint.save_file", "torch.save", "os.fsync", "pathlib.Path.replace"])
def test_a_kill_while_writing_leaves_the_old_one(tmp_path, monkeypatch, breaks):
    c = make(tmp_path)
    c.save(1)
    learn(c, 1)

    def kill(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(breaks, kill)
        with pytest.raises(KeyboardInterrupt):
            c.save(2)
    after = make(tmp_path)
    assert names(after) == ["step_00000001"] and after.resume("latest") == 1
    after.save(2)  # over what the kill left
    assert names(after) == ["step_00000002"]


def test_a_kill_while_deleting_leaves_the_new_one_only(tmp_path, monkeypatch):
    c = make(tmp_path)
    c.save(1)
    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", lambda *_, **__: None)  # the mark is gone, the files are still there
        c.save(2)
    assert names(c) == ["step_00000002"] and (c.folder / "step_00000001" / "weights.safetensors").is_file()
    c.save(3)
    assert [path.name for path in c.folder.iterdir()] == ["step_00000003"]


def test_wrong_checkpoints_are_refused(tmp_path):
    first = make(tmp_path / "a", keep=5, seed=1)
    first.save(4)
    first.save(8)
    early, late = first.complete()
    with pytest.raises(InputError, match=r"run of 8 steps and --resume is never"):
        make(tmp_path / "a").resume("never")
    with pytest.raises(InputError, match=r"made with seed 1, this run has 2"):
        make(tmp_path / "b", seed=2).resume(str(late))
    with pytest.raises(InputError, match="is no checkpoint"):
        make(tmp_path / "b").resume(str(tmp_path))
    with pytest.raises(InputError, match=r"already holds step_00000008, later than step_00000004"):
        make(tmp_path / "a", seed=1).resume(str(early))
    other = make(tmp_path / "b", seed=1)
    other.ema = Ema(torch.nn.Linear(1, 1), 0.9)
    with pytest.raises(InputError, match="trains other parameters"):
        other.resume(str(late))
    elsewhere = make(tmp_path / "b", seed=1)
    assert elsewhere.resume(str(late)) == 8
    elsewhere.save(8)  # this run has none of its own yet
    assert names(elsewhere) == ["step_00000008"]


def test_a_folder_takes_anothers_place(tmp_path):
    for name in ("new", "place"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    replace_folder(tmp_path / "new", tmp_path / "place")
    assert [path.name for path in tmp_path.rglob("*")] == ["place", "new"]
