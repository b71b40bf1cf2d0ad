"""The stage cache: keys, resume after a kill, corruption, waiting."""

import dataclasses
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from t4d.errors import InputError
from t4d.stages import Stage, StageOutput, content_hash, prune, read_output, run_stage, stage_key, write_atomically

STAGE = Stage("test", version=1)


def finish(generator):
    """Runs a stage to its end: (what it yielded, its StageOutput)."""
    seen = []
    while True:
        try:
            seen.append(next(generator))
        except StopIteration as stop:
            return seen, stop.value


def counting_work(calls, text="done"):
    def work(folder):
        calls.append(folder)
        yield 0.5
        (folder / "sub").mkdir()
        (folder / "sub" / "out.txt").write_text(text)
        yield 1.0

    return work


def test_runs_once_then_answers_from_cache(tmp_path):
    calls = []
    arguments: dict[str, Any] = dict(cache=tmp_path, config={"a": 1}, inputs={"x": torch.arange(3.0)})
    seen, first = finish(run_stage(STAGE, counting_work(calls), **arguments))
    assert seen == [0.5, 1.0] and not first.cached and (first / "sub/out.txt").read_text() == "done"
    seen, second = finish(run_stage(STAGE, counting_work(calls), **arguments))
    assert seen == [] and second.cached and len(calls) == 1
    assert second.folder == first.folder and second.key == first.key
    assert second.cpu_seconds == pytest.approx(first.cpu_seconds, abs=1e-3)
    assert not list(tmp_path.rglob("*.part"))


def test_key_depends_on_every_declared_thing(tmp_path):
    @dataclasses.dataclass
    class Config:
        rate: float = 0.1
        names: tuple[str, ...] = ("a",)

    file = tmp_path / "in.bin"
    file.write_bytes(b"1")
    weights = tmp_path / "weights"
    weights.mkdir()
    (weights / "w").write_bytes(b"w")
    base: dict[str, Any] = dict(config=Config(), inputs={"file": file, "t": torch.zeros(2, 3)}, weights=weights)
    keys = [stage_key(STAGE, **base)]
    assert keys[0] == stage_key(STAGE, **base), "the key must be a function of content"
    keys.append(stage_key(Stage("test", version=2), **base))
    keys.append(stage_key(Stage("other", version=1), **base))
    keys.append(stage_key(Stage("test", version=1, code=("stages.py",)), **base))
    keys.append(stage_key(STAGE, **{**base, "config": Config(rate=0.2)}))
    keys.append(stage_key(STAGE, **{**base, "config": Config(names=("a", "b"))}))
    keys.append(stage_key(STAGE, **{**base, "inputs": {"file": file, "t": torch.zeros(3, 2)}}))
    keys.append(stage_key(STAGE, **{**base, "inputs": {"file": file, "t": torch.zeros(2, 3).double()}}))
    keys.append(stage_key(STAGE, **{**base, "inputs": {"file": file, "u": torch.zeros(2, 3)}}))
    file.write_bytes(b"2")
    keys.append(stage_key(STAGE, **base))
    (weights / "w").rename(weights / "v")
    keys.append(stage_key(STAGE, **base))
    assert len(set(keys)) == len(keys)


def test_content_hash_separates_kinds_and_structures():
    values = [None, 0, False, "0", b"0", 0.0, [], {}, [[]], ["a", "b"], ["ab"], [["a"], "b"], np.zeros(1), {"a": "b"}]
    assert len({content_hash(value) for value in values}) == len(values)
    assert content_hash({"a": 1, "b": 2}) == content_hash({"b": 2, "a": 1})
    assert content_hash(torch.arange(6).reshape(2, 3).T) == content_hash(np.arange(6).reshape(2, 3).T)


@pytest.mark.parametrize("value", [float("nan"), object(), {1, 2}, Path("does/not/exist")])
def test_undefined_content_is_refused_in_one_sentence(value):
    with pytest.raises(InputError):
        content_hash(value)


def test_unknown_code_is_refused():
    with pytest.raises(InputError, match="nowhere"):
        stage_key(Stage("test", code=("nowhere",)))


@pytest.mark.parametrize("damage", ["truncate", "flip", "remove", "extra", "record"])
def test_a_damaged_entry_is_computed_again(tmp_path, damage):
    calls = []
    _, output = finish(run_stage(STAGE, counting_work(calls), cache=tmp_path))
    file = output / "sub/out.txt"
    if damage == "truncate":
        file.write_text("")
    elif damage == "flip":
        file.write_text("dome")
    elif damage == "remove":
        file.unlink()
    elif damage == "extra":
        (output / "more").write_text("x")
    else:
        (output / "stage.json").write_text('{"key":')
    assert read_output(output.folder) is None
    _, again = finish(run_stage(STAGE, counting_work(calls), cache=tmp_path))
    assert len(calls) == 2 and not again.cached
    assert file.read_text() == "done" and not (output / "more").exists()


@pytest.mark.parametrize("how", ["raise", "close"])
def test_an_unfinished_stage_leaves_only_its_checkpoint(tmp_path, how):
    def work(folder):
        (folder / "half.txt").write_text("half")
        write_atomically(folder / "checkpoint.txt", lambda path: path.write_text("7"))
        yield 0.5
        raise RuntimeError("stopped")

    generator = run_stage(STAGE, work, cache=tmp_path)
    next(generator)
    if how == "close":
        generator.close()
    else:
        with pytest.raises(RuntimeError, match="stopped"):
            next(generator)
    assert read_output(tmp_path / "test" / stage_key(STAGE)) is None

    def resumed(folder):
        assert [path.name for path in folder.iterdir()] == ["checkpoint.txt"]
        yield int((folder / "checkpoint.txt").read_text())
        (folder / "out").write_text("x")

    seen, output = finish(run_stage(STAGE, resumed, cache=tmp_path))
    assert seen == [7] and isinstance(output, StageOutput)
    assert sorted(path.name for path in output.folder.iterdir()) == ["out", "stage.json"]


def test_killed_process_leaves_no_entry_and_releases_the_lock(tmp_path):
    program = textwrap.dedent(f"""
        import time
        from pathlib import Path
        from t4d.stages import Stage, run_stage
        def work(folder):
            (folder / "checkpoint.txt").write_text("3")
            (folder / "half").write_text("h")
            print("ready", flush=True)
            time.sleep(60)
            yield 1
        for _ in run_stage(Stage("test", version=1), work, cache=Path({str(tmp_path)!r})): pass
    """)
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, cwd=Path(__file__).parent.parent
    )
    assert process.stdout is not None and process.stdout.readline() == b"ready\n"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()

    def resumed(folder):
        yield [path.name for path in folder.iterdir()]
        (folder / "out").write_text("x")

    start = time.monotonic()
    seen, output = finish(run_stage(STAGE, resumed, cache=tmp_path))
    assert seen == [["checkpoint.txt"]] and (output / "out").exists()
    assert time.monotonic() - start < 5, "the dead process still held the lock"


def test_prune_drops_the_least_recently_used(tmp_path):
    outputs = []
    for index in range(3):
        _, output = finish(run_stage(STAGE, counting_work([], "x" * 100), cache=tmp_path, config=index))
        os.utime(output / "stage.json", (index, index))
        outputs.append(output)
    finish(run_stage(STAGE, counting_work([]), cache=tmp_path, config=0))  # a use of the oldest
    assert prune(tmp_path, keep_bytes=250) == 100
    assert [read_output(output.folder) is not None for output in outputs] == [True, False, True]


def test_prune_drops_unfinished_stages_that_nobody_goes_on_from(tmp_path):
    def halted(folder):
        (folder / "checkpoint.bin").write_bytes(b"x" * 1000)
        yield 1

    def left(config: int) -> Path:
        running = run_stage(STAGE, halted, cache=tmp_path, config=config)
        next(running)
        running.close()
        return tmp_path / STAGE.name / f"{stage_key(STAGE, config=config)}.part"

    old, recent, computed = left(0), left(1), left(2)
    running = run_stage(STAGE, halted, cache=tmp_path, config=2)
    next(running)
    for part in (old, computed):
        for path in (part, part / "checkpoint.bin"):
            os.utime(path, (0, 0))
    assert prune(tmp_path, keep_bytes=10**6) == 1000
    assert not old.exists() and recent.exists() and computed.exists()
    running.close()
