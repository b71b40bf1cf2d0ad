"""A full disk and a read-only database under the served study: a sentence, nothing lost, and it works again."""

import os
import resource
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from browser_fixture import Chromium
from browserless import Browserless

from eval.study_load_server import Server
from eval.study_load_study import make_sources
from studio.study.media import prepare
from t4d.paths import REPO

Limit = Callable[[], None]
SENTENCE = "could not be saved"


def filled(person: Browserless, index: int, score: int = 4) -> dict:
    """A page of one score throughout."""
    return person.submission(person.page(index), lambda k: score)


@pytest.fixture
def study(tmp_path: Path) -> Path:
    return prepare(make_sources(tmp_path, objects=5, methods=2, checks=0, repeats=0), tmp_path / "study").folder


@contextmanager
def small_disk(study: Path, tmp_path: Path) -> Iterator[tuple[Path, Callable[[Server], Limit]]]:
    """The study on a disk of its own, and what fills it and gives back what empties it."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "none", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a small disk is not allowed here; the limited file size covers the rest")
    try:
        folder = Path(shutil.copytree(study, disk / "study"))

        def fill(server: Server) -> Limit:
            ballast = disk / "ballast"
            with ballast.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
                while file.write(bytes(4096)):
                    pass
            return ballast.unlink

        yield folder, fill
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


@contextmanager
def small_files(study: Path, tmp_path: Path) -> Iterator[tuple[Path, Callable[[Server], Limit]]]:
    """The study where it is; filling means that no file of the server may grow."""

    def fill(server: Server) -> Limit:
        soft, hard = resource.prlimit(server.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (0, hard))
        return lambda: resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (soft, hard))  # type: ignore[return-value]

    yield study, fill


@pytest.mark.slow
@pytest.mark.parametrize("disk", [small_disk, small_files])
def test_a_full_disk_refuses_in_a_sentence_keeps_what_it_has_and_works_again(
    disk: Callable, study: Path, tmp_path: Path
) -> None:
    with disk(study, tmp_path) as (folder, fill), Server(folder, tmp_path / "server.log") as server:
        person = Browserless(server.url).begin()
        kept = [filled(person, 0)]
        assert person.answer(kept[0])["ok"]
        empty = fill(server)
        for index in range(1, 10):  # the write-ahead log may have room for some answers yet
            sent = filled(person, index)
            refused = person.answer(sent)
            if not refused["ok"]:
                break
            kept.append(sent)
        assert not refused["ok"] and refused["retry"], "a full disk refused nothing"
        assert SENTENCE in refused["message"] and "stay on this page" in refused["message"]
        assert "Traceback" not in refused["message"] and str(folder) not in refused["message"]
        again = [person.answer(sent), person.answer(filled(person, index, 2), draft=True)]
        assert [answer["ok"] for answer in again] == [False, False]
        newcomer = person.ask("join", None, {})
        assert not newcomer["ok"] and newcomer["retry"] and "could not be saved" in newcomer["message"]
        assert person.page(0)["scores"] == kept[0]["scores"], "what was stored is still shown"
        assert not person.page(index)["answered"]
        assert keys(folder) == [given["key"] for given in kept], "nothing half-written"
        empty()
        assert person.answer(sent)["ack"] == {"key": sent["key"], "stored": True, "next_page": index + 1}
        assert not person.answer(sent)["ack"]["stored"]
        for later in range(index + 1, 11):
            sent = filled(person, later)
            assert person.answer(sent)["ok"]
        assert person.ask("finish", person.code)["ok"]
        assert len(keys(folder)) == 11
        mirrored = (folder / "answers.jsonl").read_text()
        assert all(mirrored.count(f'"{key}"') == 1 for key in keys(folder)), "the mirror has caught up"
    assert "Traceback" not in server.output(10**6)


def keys(folder: Path) -> list[str]:
    """Keys of the stored answers; every one must have its scores, an autosave those that were chosen by then."""
    with closing(sqlite3.connect(folder / "study.db")) as database:
        found = database.execute(
            "SELECT key, draft, (SELECT count(*) FROM score WHERE answer = a.id) FROM answer a ORDER BY id"
        )
        stored = found.fetchall()
    assert all(count == 4 or (draft and count in (1, 2, 3)) for _, draft, count in stored)
    return [key for key, _, _ in stored]


def without_root(command: list[str]) -> list[str]:
    """The command, for which file permissions count even where the tests run as root."""
    if os.geteuid() != 0:
        return command
    if shutil.which("setpriv") is None:
        pytest.skip("root ignores file permissions, and setpriv is not installed")
    return ["setpriv", "--bounding-set", "-dac_override,-dac_read_search,-fowner", *command]


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    everything = [folder, *folder.rglob("*")]
    modes = {path: path.stat().st_mode for path in everything}
    for path in everything:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        yield
    finally:
        for path, mode in modes.items():
            path.chmod(mode)


# A rater answers; then only reading is allowed, and the service makes new connections, as a busy server does.
SESSION = """
import pathlib, sqlite3, sys, uuid
from studio.study.contract import NotSaved, Submission
from studio.study.service import StudyService
folder = pathlib.Path(sys.argv[1])
service = StudyService(folder)
code = service.join().code
service.consent(code)
def filled(index):
    page = service.page(code, index)
    scores = {f"A/{row.id}": 3 for row in page.criteria}
    return Submission(str(uuid.uuid4()), page.token, scores, "", 9.0, 9.0, page.edit + 1)
service.answer(code, filled(0))
keeper = sqlite3.connect(folder / "study.db")  # as in a running server, somebody keeps the write-ahead log open
keeper.execute("SELECT count(*) FROM answer").fetchall()
service.store.database._engine.dispose()
everything = [folder, *folder.iterdir()]
modes = [path.stat().st_mode for path in everything]
[path.chmod(0o555 if path.is_dir() else 0o444) for path in everything]
mine = filled(1)
try:
    service.answer(code, mine)
    sys.exit("a read-only database took an answer")
except NotSaved as error:
    print(error)
assert service.page(code).index == 1 and service.page(code, 0).scores
[path.chmod(mode) for path, mode in zip(everything, modes)]
service.store.database._engine.dispose()
assert service.answer(code, mine).stored and not service.answer(code, mine).stored
assert service.page(code).index == 2
service.close()
"""


def test_a_read_only_database_refuses_in_a_sentence_and_works_again(study: Path) -> None:
    command = without_root([sys.executable, "-c", SESSION, str(study)])
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert SENTENCE in done.stdout and "readonly" in done.stdout and "stay on this page" in done.stdout


def test_a_study_that_cannot_be_written_says_so_at_the_start_and_opens_later(study: Path) -> None:
    command = without_root([sys.executable, "-m", "studio.study", "serve", str(study), "--port", "1"])
    with read_only(study):
        done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1
    (sentence,) = [line for line in done.stderr.splitlines() if "error" in line.lower()]
    assert sentence.startswith("error: ") and "study.db" in sentence and "writable" in sentence
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.browser
def test_the_page_keeps_its_answers_while_the_disk_is_full(chromium: Chromium, study: Path, tmp_path: Path) -> None:
    with small_files(study, tmp_path) as (folder, fill), Server(folder, tmp_path / "server.log") as server:
        watched = chromium.open(server.url, width=1280, height=900)
        page = watched.page
        page.set_default_timeout(60_000)
        page.get_by_role("checkbox").check()
        page.get_by_role("button", name="Start").click()
        page.locator("fieldset.study-row").first.wait_for()
        empty = fill(server)
        for row in page.locator("fieldset.study-row").all():
            row.locator("input[value='4']").check(force=True)
        page.wait_for_timeout(2500)  # the least watching time
        page.get_by_role("button", name="Next").click()
        page.get_by_text(SENTENCE).first.wait_for()
        page.reload()
        page.locator("fieldset.study-row").first.wait_for()
        assert page.locator("fieldset.study-row input:checked").count() == 4, "the answers outlive a reload"
        page.get_by_text(SENTENCE).first.wait_for()
        assert keys(folder) == []
        empty()
        page.get_by_text("All answers saved").first.wait_for()
        assert keys(folder), "what was kept has been sent"
        assert watched.foreign == []
