"""Answers that outlive their machine: on persistent storage, or in a private dataset."""

import shutil
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
from huggingface_hub.errors import RemoteEntryNotFoundError
from study_rating import begin, submission

from studio.study import space
from studio.study.space import kept_service, storage_folder
from t4d.errors import InputError


class FakeHub:
    """A Hub on disk, below the real CommitScheduler. Files of a commit are read as the real client reads them."""

    def __init__(self, root: Path, private: bool = True, down: bool = False) -> None:
        self.root, self.private, self.down = root, private, down
        self.commits = 0
        self.pushed = threading.Event()
        self._pool = ThreadPoolExecutor(1)

    def create_repo(self, repo_id: str, private: bool, repo_type: str, exist_ok: bool) -> SimpleNamespace:
        assert private and repo_type == "dataset" and exist_ok
        return SimpleNamespace(repo_id=repo_id)

    def dataset_info(self, name: str) -> SimpleNamespace:
        return SimpleNamespace(private=self.private)

    def run_as_future(self, function, *arguments) -> Future:
        return self._pool.submit(function, *arguments)

    def create_commit(self, *, repo_id: str, repo_type: str, operations, **_) -> None:
        for operation in operations:
            target = self.root / repo_id / operation.path_in_repo
            target.parent.mkdir(parents=True, exist_ok=True)
            with operation.as_file() as file:
                target.write_bytes(file.read())
        self.commits += 1
        self.pushed.set()

    def hf_hub_download(self, repo_id: str, filename: str, repo_type: str) -> str:
        if self.down:
            raise OSError("no route to the Hub")
        path = self.root / repo_id / filename
        if not path.is_file():
            response = httpx.Response(404, request=httpx.Request("GET", "https://example.org"))
            raise RemoteEntryNotFoundError("404", response=response)  # type: ignore[arg-type]
        return str(path)


def forget(folder: Path) -> None:
    """What a restarted Space finds: the study as it was put there."""
    for entry in folder.iterdir():
        if entry.name != "study.yaml":
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


def test_persistent_storage_keeps_every_acknowledged_answer(study_folder, tmp_path):
    folder = study_folder()
    env = {"T4D_STUDY_DATA": str(tmp_path / "data"), "SPACE_ID": "someone/space"}
    with kept_service(folder, env) as service:
        code = begin(service)
        for _ in range(3):
            service.answer(code, submission(service.page(code)))
        rows = service.rows()
        copy = tmp_path / "at once"  # the machine goes without a word: what lasts is what lies there now
        shutil.copytree(tmp_path / "data", copy)
        assert not (folder / "answers.jsonl").exists()
    forget(folder)
    with kept_service(folder, {**env, "T4D_STUDY_DATA": str(copy)}) as service:
        assert service.rows() == rows and service.join(code).page == 3
        service.answer(code, submission(service.page(code)))
    forget(folder)
    with kept_service(folder, {**env, "T4D_STUDY_DATA": str(copy)}) as service:
        assert service.join(code).page == 4


def test_a_private_dataset_keeps_the_answers(study_folder, tmp_path, monkeypatch):
    folder, hub = study_folder(), FakeHub(tmp_path / "hub")
    monkeypatch.setattr(space, "hub", lambda token: hub)
    env = {"T4D_STUDY_DATASET": "someone/answers", "HF_TOKEN": "x"}
    with kept_service(folder, env) as service:
        assert hub.pushed.wait(20)  # at once, before any answer
        code = begin(service)
        service.answer(code, submission(service.page(code)))
        rows = service.rows()
    assert hub.commits >= 2  # and at the end
    pushed = sorted(path.relative_to(hub.root).as_posix() for path in hub.root.rglob("*") if path.is_file())
    assert len(pushed) == 1 and pushed[0].endswith("/answers.jsonl")
    forget(folder)
    with kept_service(folder, env) as service:
        assert service.rows() == rows and service.join(code).page == 1


def test_a_public_dataset_or_an_unreachable_hub_stops_the_study(study_folder, tmp_path, monkeypatch):
    folder, env = study_folder(), {"T4D_STUDY_DATASET": "someone/answers"}
    monkeypatch.setattr(space, "hub", lambda token: FakeHub(tmp_path / "hub", private=False))
    with pytest.raises(InputError, match="is public"), kept_service(folder, env):
        pass
    monkeypatch.setattr(space, "hub", lambda token: FakeHub(tmp_path / "hub", down=True))
    with pytest.raises(InputError, match="could not be read"), kept_service(folder, env):
        pass  # a study that begins empty would overwrite the kept answers
    assert not (folder / "study.db").exists() and not (tmp_path / "hub").exists()


def test_another_design_has_storage_of_its_own(study_folder, tmp_path):
    env = {"T4D_STUDY_DATA": str(tmp_path / "data")}
    for seed in (1, 2):
        folder = study_folder(seed=seed)
        with kept_service(folder, env) as service:
            begin(service)
            assert service.counts()["joined"] == 1
    assert len(list((tmp_path / "data").iterdir())) == 2


def test_without_settings_everything_stays_in_the_folder(study_folder, caplog):
    folder = study_folder()
    with kept_service(folder, {}) as service:
        begin(service)
    assert (folder / "answers.jsonl").is_file() and not caplog.records
    if storage_folder({"SPACE_ID": "a/b"}) is not None:
        pytest.skip("this machine has a writable /data")
    with kept_service(folder, {"SPACE_ID": "a/b"}):
        assert "its answers go when it restarts" in caplog.text
