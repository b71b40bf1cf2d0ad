"""A run that is killed at any moment goes on exactly: SIGKILL, some at random moments within a step."""

import random
import signal
import subprocess
import time
from pathlib import Path

from stage1_program import ENVIRONMENT, assert_same, checkpoints, command, rows, state, train

from t4d.paths import REPO

# Five clips, four a step: epochs end within steps. Two micro-steps: kills come between them, too. A checkpoint every
# second step: what was learnt after it is lost and learnt again.
RUN = ("optim.steps=9", "optim.batch=2", "optim.accumulate=2", "data.clips=5", "save_steps=2", "sheet_clips=0")


def killed(out: Path, after: int, seconds: float) -> int:
    """Starts or continues the run, kills it some seconds after its log has reached a step; returns that step."""
    process = subprocess.Popen(
        command(out, *RUN), cwd=REPO, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        until = time.time() + 300
        while process.poll() is None and time.time() < until:
            # while it loads, the log still has lines of an earlier run that continuing takes back
            found = rows(out) if (out / "log.jsonl").is_file() else []
            if found and found[-1]["step"] >= after:
                break
            time.sleep(0.02)
        time.sleep(seconds)
    finally:
        process.send_signal(signal.SIGKILL)
    _, errors = process.communicate()
    assert process.returncode == -signal.SIGKILL, errors.decode()[-2000:]
    return rows(out)[-1]["step"]


def test_killed_at_random_moments_a_run_ends_as_if_nothing_had_happened(tmp_path):
    whole, parts, chance = tmp_path / "whole", tmp_path / "parts", random.Random(4)
    expected = train(whole, *RUN)
    assert len(expected) == 9
    for after in (1, 3, 5):  # far from the end: a busy machine must not let a run end before it is killed
        reached = killed(parts, after, chance.uniform(0, 0.4))
        assert reached < 9
        assert all(int(path.name.removeprefix("step_")) <= reached for path in checkpoints(parts))
    assert train(parts, *RUN) == expected
    assert_same(state(parts), state(whole))
    assert [path.name for path in checkpoints(parts)] == ["step_00000009"]
