"""Curves go to TensorBoard and trackio below the run folder, and nowhere else."""

import socket
import sqlite3

import pytest
from accelerate import Accelerator
from stage1_program import SMOKE

from t4d.errors import InputError
from train.config import StageOneTrainConfig, load_config
from train.curves import check_trackers, flat, start_curves


def config(*trackers: str) -> StageOneTrainConfig:
    return load_config(StageOneTrainConfig, SMOKE, [f"trackers=[{', '.join(trackers)}]"])


def test_both_write_into_the_run_folder_without_a_network(tmp_path, monkeypatch):
    pytest.importorskip("trackio")
    loader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    for name in ("TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL"):
        monkeypatch.delenv(name, raising=False)

    def refuse(self, address):
        raise AssertionError(f"somebody calls {address}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "run" / "trackio"))  # as start_curves sets it; undone after this
    import trackio.sqlite_storage
    import trackio.utils

    # another test's import has fixed the folder of this process already
    monkeypatch.setattr(trackio.utils, "TRACKIO_DIR", tmp_path / "run" / "trackio")
    monkeypatch.setattr(trackio.sqlite_storage, "TRACKIO_DIR", tmp_path / "run" / "trackio")
    c = config("tensorboard", "trackio")
    accelerator = Accelerator(cpu=True, log_with=check_trackers(c), project_dir=str(tmp_path / "run"))
    start_curves(accelerator, c, tmp_path / "run", 0)
    for step in (1, 2):
        accelerator.log({"loss": 0.5 / step, "grad_pos": 2.0}, step=step)
    accelerator.end_training()

    events = loader.EventAccumulator(str(tmp_path / "run" / "curves"))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("loss")] == [(1, 0.5), (2, 0.25)]
    with sqlite3.connect(tmp_path / "run" / "trackio" / "curves.db") as stored:
        rows = stored.execute("select run_name, step, metrics from metrics order by step").fetchall()
    assert [(run, step) for run, step, _ in rows] == [("run", 1), ("run", 2)] and "loss" in str(rows[0][2])


def test_a_tracker_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setattr("train.curves.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"trackio is not installed; pip install -r requirements-train\.txt"):
        check_trackers(config("trackio"))


def test_settings_by_dotted_name():
    found = flat(config())
    assert found["tracking.lambda_pos"] == 10.0 and found["data.rigs"] == "None" and found["label"] == "smoke"
    assert all(isinstance(value, str | int | float | bool) for value in found.values())
