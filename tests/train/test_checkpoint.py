"""Checkpoints are whole or absent, old ones go, and a wrong one is refused by what is wrong with it."""

import os
import subprocess
import sys

import pytest
import torch
from accelerate import Accelerator

from t4d.errors import InputError
from t4d.paths import REPO
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


def seen_by_others(monkeypatch, *found) -> None:
    """What processes 1.. tell of their disks."""
    monkeypatch.setattr("train.checkpoint.gather_object", lambda mine: [*mine, *found])


def test_processes_that_see_other_checkpoints_do_not_start(tmp_path, monkeypatch):
    a = make(tmp_path)
    a.save(4)
    told = []
    monkeypatch.setattr("train.checkpoint.gather_object", lambda mine: told.extend(mine) or mine * 3)
    assert make(tmp_path).resume("latest") == 4  # all see the same
    (mine,) = told
    assert mine[0] == "step_00000004"

    for which in ("latest", "never"):  # also where this process alone would have another reason to stop
        for other in (("no checkpoint", ""), ("step_00000003", mine[1]), ("step_00000004", "of another run")):
            b = make(tmp_path)
            before = {name: value.clone() for name, value in b.module.state_dict().items()}
            seen_by_others(monkeypatch, mine, other)
            words = rf"process 0, 1 sees step_00000004; process 2 sees {other[0]}\. .* a disk that all machines see"
            with pytest.raises(InputError, match=words):
                b.resume(which)
            assert all(torch.equal(value, before[name]) for name, value in b.module.state_dict().items())
    with pytest.raises(InputError, match="sees no checkpoint; process 1 sees step_00000004"):
        seen_by_others(monkeypatch, mine)
        make(tmp_path / "empty").resume("latest")

    folder = tmp_path / "checkpoints" / "step_00000004"  # given by name, on one machine only
    for which, words in (
        (folder, f"and {folder}; process 1"),
        (tmp_path / "x", f"and not {tmp_path / 'x'}; process 1"),
    ):
        seen_by_others(monkeypatch, ("no checkpoint and something else", ""))
        with pytest.raises(InputError, match=words):
            make(tmp_path / "empty").resume(str(which))


ALONE = """
import sys
from pathlib import Path
sys.path[:0] = [sys.argv[1], sys.argv[2]]
import torch.distributed as dist
from accelerate import Accelerator
from test_checkpoint import make
from t4d.errors import InputError
rank = Accelerator(cpu=True).process_index
out = Path(sys.argv[3]) / str(rank)
try:
    found = str(make(out).resume("latest"))
except InputError as error:
    found = str(error)
(Path(sys.argv[3]) / f"{rank}.txt").write_text(found)
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_two_real_processes_with_a_disk_each_both_stop(tmp_path):
    make(tmp_path / "0").save(4)
    (tmp_path / "alone.py").write_text(ALONE)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command += [tmp_path / "alone.py", REPO, REPO / "tests" / "train", tmp_path]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "1"}
    done = subprocess.run([str(x) for x in command], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    for rank in (0, 1):
        words = (tmp_path / f"{rank}.txt").read_text()
        assert "process 0 sees step_00000004; process 1 sees no checkpoint" in words, words
