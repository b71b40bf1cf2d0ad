"""`accelerate launch --cpu --num_processes N` trains with N processes, and to the same result as one."""

import json
import resource
import sys

import pytest
import torch
from stage1_program import state, train

from train.launch import launcher_arguments, start_processes, torchrun

LAUNCH = (sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2")


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (["/venv/bin/python", "/venv/bin/accelerate", "launch", "--cpu", "a.py"], ["--cpu", "a.py"]),
        (["python", "-m", "accelerate.commands.launch", "--cpu", "a.py"], ["--cpu", "a.py"]),
        (["python", "/site-packages/accelerate/commands/launch.py", "a.py"], ["a.py"]),
        (["python", "-m", "accelerate.commands.accelerate_cli", "launch", "a.py"], ["a.py"]),
        (["/venv/bin/python", "/venv/bin/accelerate-launch", "a.py"], ["a.py"]),
        (["bash", "-c", "accelerate launch a.py"], None),
        (["python", "launch", "a.py"], None),
        (["python", "train/stage1.py", "accelerate", "launch"], None),
        (["/venv/bin/python", "-u", "/venv/bin/accelerate", "launch", "a.py"], ["a.py"]),
        (["/venv/bin/accelerate", "launch", "a.py"], ["a.py"]),
        (["python", "/venv/bin/accelerate", "config"], None),
        ([], None),
    ],
)
def test_the_launcher_is_recognised_however_it_was_called(command, expected):
    assert launcher_arguments(command) == expected


def test_the_launchers_own_parser_reads_the_count(monkeypatch, tmp_path):
    monkeypatch.setenv("MASTER_PORT", "29500")
    script = ["train/stage1.py", "--out", "x", "--num_processes", "7"]
    one = torchrun(["--cpu", "--num_processes=3", *script], script)
    assert one[1:] == ["-m", "torch.distributed.run", "--nproc_per_node", "3", "--standalone", *script]

    monkeypatch.setenv("MASTER_PORT", "1234")
    cluster = ["--num_machines", "2", "--machine_rank", "1", "--main_process_ip", "10.0.0.1"]
    two = torchrun(["--cpu", "--num-processes", "6", *cluster, "--main_process_port", "1234", *script], script)
    assert two[3:11] == ["--nproc_per_node", "3", "--nnodes", "2", "--node_rank", "1", "--master_addr", "10.0.0.1"]
    assert two[11:] == ["--master_port", "1234", *script]

    config = {"compute_environment": "LOCAL_MACHINE", "distributed_type": "MULTI_CPU", "use_cpu": True}
    config |= {"num_processes": 4, "num_machines": 1, "machine_rank": 0, "mixed_precision": "no", "debug": False}
    (tmp_path / "four.json").write_text(json.dumps(config))
    four = torchrun(["--config_file", str(tmp_path / "four.json"), *script], script)
    assert four[3:5] == ["--nproc_per_node", "4"]


def test_without_a_launcher_to_ask_it_stops_instead_of_training_alone(monkeypatch):
    for name in ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    start_processes()  # one process was asked for
    monkeypatch.setenv("MASTER_PORT", "29500")
    monkeypatch.setenv("WORLD_SIZE", "2")
    start_processes()  # this is one of them
    monkeypatch.delenv("WORLD_SIZE")
    monkeypatch.setattr("psutil.Process.parents", lambda self: [])
    with pytest.raises(SystemExit, match="torchrun --nproc_per_node N"):
        start_processes()


def test_two_processes_one_process_and_accumulation_learn_the_same(tmp_path):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    two = train(tmp_path / "two", start=LAUNCH)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 180
    assert json.loads((tmp_path / "two" / "run.json").read_text())["processes"] == 2
    one = train(tmp_path / "one", "optim.batch=2", "sheet_clips=0")
    parts = train(tmp_path / "parts", "optim.accumulate=2", "sheet_clips=0")
    assert len(two) == len(one) == len(parts) == 4
    for a, b, c in zip(one, two, parts):
        for name in ("loss", "diff", "corr", "pos", "copy", "grad_norm", "grad_diff", "grad_corr", "grad_pos"):
            # losses of later steps stand for the weights of the earlier ones as well
            assert b[name] == pytest.approx(a[name], rel=1e-5) and c[name] == pytest.approx(a[name], rel=1e-5), name
    a, b, c = (state(tmp_path / run) for run in ("one", "two", "parts"))
    for other in (b, c):
        names = [name for name in a if name.startswith("weights/")]
        off = torch.stack([(a[name] - other[name]).double().square().sum() for name in names]).sum().sqrt()
        assert off <= 1e-5 * torch.stack([a[name].double().square().sum() for name in names]).sum().sqrt()
        assert max(float((a[name] - other[name]).abs().max()) for name in names) < 5e-5  # of steps of 1e-3
