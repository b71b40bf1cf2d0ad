"""The run manifest: honest costs over the process tree, and a file that is always whole."""

import hashlib
import json
import subprocess
import sys
import time

import pytest

from t4d.errors import Cancelled
from t4d.export.machine import code_version, tree_cost
from t4d.export.manifest import RunRecorder

BURN = "import time; e = time.process_time() + {s}\nwhile time.process_time() < e: pass"
HOLD = "import time; data = b'x' * (120 << 20); time.sleep(1.2)"


def burn(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def test_manifest_of_a_run(tmp_path):
    mesh = tmp_path / "in" / "spot.obj"
    mesh.parent.mkdir()
    mesh.write_bytes(b"v 0 0 0\n")
    out = tmp_path / "out"
    config = {"fit": {"iterations": 3}}
    with RunRecorder(out / "run.json", inputs=[mesh], prompt="ein Füchslein", config=config, seed=7) as recorder:
        assert json.loads((out / "run.json").read_text())["status"] == "running"
        with recorder.stage("burn") as record:
            burn(0.3)
            record.details["loss"] = 0.5
        with recorder.stage("cached") as record:
            record.cached = True
        recorder.weights = {"label": "mini v0", "sha256": "ab"}
        recorder.note("a choice")
        recorder.note("a choice")
        (out / "frames").mkdir()
        (out / "frames" / "0000.ply").write_bytes(b"12345")
        recorder.add_output("plys", out / "frames")
    run = json.loads((out / "run.json").read_text())
    assert run["status"] == "done" and run["error"] is None
    assert run["inputs"] == [{"name": "spot.obj", "bytes": 8, "sha256": hashlib.sha256(b"v 0 0 0\n").hexdigest()}]
    assert (run["prompt"], run["config"], run["seed"]) == ("ein Füchslein", config, 7)
    assert run["weights"]["label"] == "mini v0" and run["notes"] == ["a choice"] and run["warnings"] == []
    assert run["outputs"] == {"plys": {"path": "frames", "files": 1, "bytes": 5}}
    assert [(s["name"], s["cached"], s["status"]) for s in run["stages"]] == [
        ("burn", False, "done"),
        ("cached", True, "done"),
    ]
    assert 0.25 <= run["stages"][0]["cpu_seconds"] < 1.5 and run["stages"][0]["details"] == {"loss": 0.5}
    assert run["stages"][1]["cpu_seconds"] < 0.25
    assert run["totals"]["cpu_seconds"] >= run["stages"][0]["cpu_seconds"]
    assert run["versions"]["numpy"] and run["hardware"]["cores"] >= 1 and run["hardware"]["memory_bytes"] > 1e8
    assert str(tmp_path) not in (out / "run.json").read_text()  # made to be shared: no folders of this machine
    assert [path.name for path in out.iterdir() if path.is_file()] == ["run.json"]


def test_children_count_running_or_ended(tmp_path):
    with RunRecorder(tmp_path / "run.json") as recorder:
        with recorder.stage("ended"):
            subprocess.run([sys.executable, "-c", BURN.format(s=0.4)], check=True)
        with recorder.stage("running"):
            child = subprocess.Popen([sys.executable, "-c", BURN.format(s=0.4) + "\ninput()"], stdin=subprocess.PIPE)
            deadline = time.monotonic() + 20
            begun = tree_cost()[0]
            while tree_cost()[0] - begun < 0.45 and time.monotonic() < deadline:
                time.sleep(0.05)
        child.communicate(b"\n")
    ended, running = recorder.stages
    assert ended.cpu_seconds >= 0.4 and running.cpu_seconds >= 0.4
    total = json.loads((tmp_path / "run.json").read_text())["totals"]["cpu_seconds"]
    assert total >= ended.cpu_seconds + running.cpu_seconds - 0.01


def test_peak_memory_sees_a_child_that_comes_and_goes(tmp_path):
    with RunRecorder(tmp_path / "run.json", sample_seconds=0.05) as recorder:
        with recorder.stage("before"):
            base = tree_cost()[1]
        with recorder.stage("child"):
            subprocess.run([sys.executable, "-c", HOLD], check=True)
        with recorder.stage("after"):
            pass
    before, child, after = (stage.peak_rss_bytes for stage in recorder.stages)
    assert child - base > 110 << 20
    assert before < base + (60 << 20) and after < child - (60 << 20)


@pytest.mark.parametrize(("error", "status"), [(RuntimeError("boom"), "failed"), (Cancelled("stopped"), "cancelled")])
def test_a_run_that_ends_badly_says_so(tmp_path, error, status):
    with pytest.raises(type(error)), RunRecorder(tmp_path / "run.json") as recorder, recorder.stage("fit"):
        raise error
    run = json.loads((tmp_path / "run.json").read_text())
    assert run["status"] == status and run["stages"][0]["status"] == status and str(error) in run["error"]


def test_nan_never_gets_into_the_file(tmp_path):
    path = tmp_path / "run.json"
    with RunRecorder(path) as recorder:
        recorder.note("good")
        recorder.write()
        recorder.weights = {"loss": float("nan")}
        with pytest.raises(ValueError, match=r"not JSON compliant|Out of range"):
            recorder.write()
        assert json.loads(path.read_text())["notes"] == ["good"]  # the whole older file is still there
        recorder.weights = None


def test_code_version(tmp_path):
    assert code_version(tmp_path) == {"commit": "unknown", "dirty": None}

    def git(*arguments):
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        subprocess.run(["git", "-C", str(tmp_path), *identity, *arguments], check=True, capture_output=True)

    git("init")
    (tmp_path / "a").write_text("1")
    git("add", "a")
    git("commit", "-m", "first")
    version = code_version(tmp_path)
    assert len(version["commit"]) == 40 and version["dirty"] is False
    (tmp_path / "a").write_text("2")
    assert code_version(tmp_path)["dirty"] is True
    (tmp_path / "inner").mkdir()
    assert code_version(tmp_path / "inner")["commit"] == "unknown"  # inside somebody else's checkout
