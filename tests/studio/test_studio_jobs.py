"""The worker: order of progress, cancel, kill after the grace time, crash recovery, sentences."""

import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from studio.inline import InlineJobs
from studio.job import DOUBLE_CLICK_S, Job, Snapshot
from studio.jobs import Jobs
from t4d.errors import InputError
from t4d.paths import REPO

TASK = "studio_fake_tasks:animate"


@pytest.fixture(scope="module")
def jobs() -> Iterator[Jobs]:
    runner = Jobs(limit=3, grace_s=1.0)
    yield runner
    runner.close()


def submit(jobs: Jobs | InlineJobs, prompt: str, out: Path) -> Job:
    out.mkdir(exist_ok=True)
    return jobs.submit(TASK, {"prompt": prompt, "out": str(out)}, out)


def finish(job: Job, seconds: float = 30) -> Snapshot:
    last, end = job.snapshot, time.monotonic() + seconds
    for last in job.watch(every_s=0.2):
        assert time.monotonic() < end, last
    return last


def wait_for_stage(job: Job, stage: str) -> None:
    for now in job.watch(every_s=0.1):
        if now.stage == stage and now.fraction >= 0.375:
            return


def test_progress_comes_in_order_and_ends_with_the_result(jobs: Jobs, tmp_path: Path) -> None:
    seen = list(submit(jobs, "a box hops", tmp_path).watch())
    states = [s.state for s in seen]
    assert states == sorted(states, key=["queued", "running", "done"].index) and states[-1] == "done"
    fractions = [s.fraction for s in seen]
    assert fractions == sorted(fractions) and fractions[-1] == 1.0
    stages = list(dict.fromkeys(s.stage for s in seen if s.stage))
    assert stages == ["prepare", "clip", "fit", "export", "done"]
    assert seen[-1].result == {"folder": str(tmp_path)}
    assert seen[-1].elapsed_s > 0.4


def test_bad_input_gives_its_sentence_and_the_next_job_works_in_the_same_process(jobs: Jobs, tmp_path: Path) -> None:
    last = finish(submit(jobs, "refuse this", tmp_path / "a"))
    assert (last.state, last.message) == ("refused", "The object has no triangles; export it as a mesh.")
    before = jobs.worker_pid
    assert finish(submit(jobs, "a box hops", tmp_path / "b")).state == "done"
    assert jobs.worker_pid == before


def test_an_error_of_ours_gives_a_sentence_and_a_log(jobs: Jobs, tmp_path: Path) -> None:
    last = finish(submit(jobs, "break this", tmp_path))
    assert last.state == "failed" and "index 7 is out of bounds" in last.message and "log.txt" in last.message
    assert "RuntimeError" in (tmp_path / "log.txt").read_text()


def test_a_killed_worker_gives_one_sentence_and_the_next_job_works(jobs: Jobs, tmp_path: Path) -> None:
    last = finish(submit(jobs, "die now", tmp_path / "a"))
    assert last.state == "failed" and "memory ran out" in last.message
    assert "exit code -9" in (tmp_path / "a" / "log.txt").read_text()
    assert finish(submit(jobs, "a box hops", tmp_path / "b")).state == "done"


def test_a_worker_killed_while_idle_is_replaced(jobs: Jobs, tmp_path: Path) -> None:
    assert finish(submit(jobs, "a box hops", tmp_path / "a")).state == "done"
    assert jobs.worker_pid is not None
    os.kill(jobs.worker_pid, signal.SIGKILL)
    time.sleep(0.2)
    assert finish(submit(jobs, "a box hops", tmp_path / "b")).state == "done"


def test_cancel_stops_a_cooperative_task_without_losing_the_worker(jobs: Jobs, tmp_path: Path) -> None:
    job = submit(jobs, "slow walk", tmp_path / "a")
    wait_for_stage(job, "clip")
    before, began = jobs.worker_pid, time.monotonic()
    job.cancel()
    assert finish(job).state == "cancelled"
    assert time.monotonic() - began < 1.0
    assert finish(submit(jobs, "a box hops", tmp_path / "b")).state == "done"
    assert jobs.worker_pid == before


def test_cancel_kills_a_task_that_does_not_listen(jobs: Jobs, tmp_path: Path) -> None:
    job = submit(jobs, "hang", tmp_path / "a")
    wait_for_stage(job, "clip")
    before, began = jobs.worker_pid, time.monotonic()
    job.cancel()
    assert finish(job).state == "cancelled"
    assert 1.0 <= time.monotonic() - began < 4.0
    assert finish(submit(jobs, "a box hops", tmp_path / "b")).state == "done"
    assert jobs.worker_pid != before


def test_a_stopped_task_that_keeps_what_it_has_may_take_longer_than_the_grace_time(jobs: Jobs, tmp_path: Path) -> None:
    job = submit(jobs, "keep it", tmp_path)
    wait_for_stage(job, "fit")
    before, began = jobs.worker_pid, time.monotonic()
    job.stop()
    job.stop()  # a double click is one
    last = finish(job)
    assert last.state == "done" and last.result == {"folder": str(tmp_path)}
    assert time.monotonic() - began > 1.5 * jobs.grace_s and jobs.worker_pid == before


@pytest.mark.parametrize("how", ["twice", "cancel"])
def test_a_second_stop_or_a_cancel_ends_a_task_that_keeps(jobs: Jobs, tmp_path: Path, how: str) -> None:
    job = submit(jobs, "keep it", tmp_path)
    wait_for_stage(job, "fit")
    job.stop()
    if how == "twice":
        wait_for_stage(job, "export")
        time.sleep(DOUBLE_CLICK_S)
        job.stop()
    else:
        job.cancel()
    assert finish(job).state == "cancelled"


def test_a_stopped_task_without_a_sign_of_life_is_killed(tmp_path: Path) -> None:
    runner = Jobs(grace_s=1.0, keep_s=1.0)
    job = submit(runner, "keep and hang", tmp_path)
    wait_for_stage(job, "fit")
    job.stop()
    assert finish(job).state == "cancelled"
    runner.close()


def test_jobs_wait_their_turn_and_a_full_queue_is_refused(jobs: Jobs, tmp_path: Path) -> None:
    first = submit(jobs, "slow walk", tmp_path / "a")
    wait_for_stage(first, "clip")
    assert not jobs.idle
    waiting = [submit(jobs, "a box hops", tmp_path / name) for name in "bcd"]
    assert [job.snapshot.ahead for job in waiting] == [1, 2, 3]
    with pytest.raises(InputError, match="3 jobs are waiting"):
        submit(jobs, "one more", tmp_path / "e")
    waiting[0].cancel()
    assert waiting[0].snapshot.state == "cancelled"
    first.cancel()
    assert finish(waiting[1]).state == finish(waiting[2]).state == "done"
    assert not (tmp_path / "b" / "run.json").exists()


def test_closing_ends_every_job_and_the_process(tmp_path: Path) -> None:
    runner = Jobs()
    job = submit(runner, "slow walk", tmp_path)
    wait_for_stage(job, "clip")
    pid = runner.worker_pid
    assert pid is not None
    runner.close()
    assert finish(job).state == "cancelled"
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with pytest.raises(InputError, match="shutting down"):
        submit(runner, "late", tmp_path)


def test_the_worker_ends_when_the_web_process_is_killed(tmp_path: Path) -> None:
    code = (
        "import os, pathlib, sys\n"
        "sys.path.insert(0, sys.argv[2])\n"
        "from studio.jobs import Jobs\n"
        "if __name__ == '__main__':\n"
        "    jobs = Jobs()\n"
        "    out = pathlib.Path(sys.argv[1])\n"
        "    job = jobs.submit('studio_fake_tasks:animate', {'prompt': 'hang', 'out': str(out)}, out)\n"
        "    next(s for s in job.watch(0.1) if s.fraction >= 0.375)\n"
        "    print(jobs.worker_pid, flush=True)\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    script = tmp_path / "web.py"
    script.write_text(code)
    command = [sys.executable, str(script), str(tmp_path), str(Path(__file__).parent)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, env={**os.environ, "PYTHONPATH": str(REPO)}
    )
    assert done.returncode == -9, done.stderr
    end = time.monotonic() + 10
    while psutil.pid_exists(int(done.stdout)) and psutil.Process(int(done.stdout)).status() != "zombie":
        assert time.monotonic() < end, "the worker runs on without its web process"
        time.sleep(0.1)


def test_zero_gpu_pickles_what_it_is_given_and_its_refusals_are_told(tmp_path, monkeypatch) -> None:
    """A stand-in for the package `spaces`: arguments cross to another process, generators come back."""

    def gpu(duration: int):
        assert duration == 120

        def lent(function):
            def call(*arguments):
                target, payload, folder = pickle.loads(pickle.dumps(arguments))
                if payload["prompt"] == "no quota":
                    raise RuntimeError("You have exceeded your GPU quota")
                yield from function(target, payload, folder)

            return call

        return lent

    monkeypatch.setitem(sys.modules, "spaces", SimpleNamespace(GPU=gpu))
    monkeypatch.setenv("SPACES_ZERO_GPU", "1")
    inline = InlineJobs()
    assert finish(submit(inline, "a box hops", tmp_path / "a")).state == "done"
    failed = finish(submit(inline, "no quota", tmp_path / "b"))
    assert failed.state == "failed" and "exceeded your GPU quota" in failed.message
    assert "RuntimeError" in (tmp_path / "b" / "log.txt").read_text()


def test_inline_jobs_behave_alike(tmp_path: Path) -> None:
    inline = InlineJobs()
    seen = list(submit(inline, "a box hops", tmp_path / "a").watch())
    assert [s.stage for s in seen if s.stage][-1] == "done" and seen[-1].state == "done"
    refused = finish(submit(inline, "refuse this", tmp_path / "b"))
    assert (refused.state, refused.message) == ("refused", "The object has no triangles; export it as a mesh.")
    job = submit(inline, "slow walk", tmp_path / "c")
    for now in job.watch():
        if now.stage == "clip" and now.fraction == 0.4:
            job.cancel()
    assert job.snapshot.state == "cancelled"
    job = submit(inline, "keep it", tmp_path / "d")
    for now in job.watch():
        if now.stage == "fit":
            job.stop()
    assert job.snapshot.state == "done" and job.snapshot.result == {"folder": str(tmp_path / "d")}
