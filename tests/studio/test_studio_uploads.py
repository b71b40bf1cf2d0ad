"""Uploads on disk: archives with and against the rules, limits, deletion, run folders and their clean-up."""

import os
import shutil
import stat
import time
import zipfile
from pathlib import Path

import pytest

from studio import uploads
from studio.gallery import read_gallery
from studio.runs import Workspace
from t4d.errors import InputError


def archive(path: Path, **entries: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bundle:
        for name, data in entries.items():
            bundle.writestr(name, data)
    return path


def test_an_object_with_its_companions_keeps_its_folders(tmp_path: Path) -> None:
    packed = archive(
        tmp_path / "cow.zip",
        **{
            "cow/cow.obj": b"v 0 0 0",
            "cow/cow.mtl": b"newmtl a",
            "cow/Textures/a.png": b"p",
            "__MACOSX/cow/._cow.obj": b"x",
        },
    )
    found = uploads.stage_upload([packed], tmp_path / "session")
    assert found.name == "cow.obj" and found.read_bytes() == b"v 0 0 0"
    assert (found.parent / "Textures" / "a.png").read_bytes() == b"p"
    assert not packed.exists(), "the server's copy is deleted after use"


def test_loose_files_come_together_and_a_new_upload_replaces_the_old(tmp_path: Path) -> None:
    session = tmp_path / "session"
    for name in ("a.obj", "a.mtl", "b.glb"):
        (tmp_path / name).write_bytes(name.encode())
    first = uploads.stage_upload([tmp_path / "a.obj", tmp_path / "a.mtl"], session)
    assert sorted(f.name for f in first.parent.iterdir()) == ["a.mtl", "a.obj"]
    second = uploads.stage_upload([tmp_path / "b.glb"], session)
    assert [f for f in session.rglob("*") if f.is_file()] == [second]


@pytest.mark.parametrize(
    ("entries", "sentence"),
    [
        ({"../evil.obj": b"v"}, "points outside the archive"),
        ({"/etc/evil.obj": b"v"}, "points outside the archive"),
        ({"..\\evil.obj": b"v"}, "points outside the archive"),
        ({"C:evil.obj": b"v"}, "points outside the archive"),
        ({"a.obj": b"v", "b.glb": b"g"}, "holds 2 object files (a.obj, b.glb)"),
        ({"a.png": b"p"}, "holds no object file (found: a.png)"),
        ({"a.obj": b"v", "run.exe": b"MZ"}, "'run.exe' is not a 3D file"),
        ({f"{i}.png": b"p" for i in range(65)}, "holds 65 files"),
    ],
)
def test_archives_against_the_rules(entries: dict[str, bytes], sentence: str, tmp_path: Path) -> None:
    packed = archive(tmp_path / "x.zip", **entries)
    with pytest.raises(InputError) as refused:
        uploads.stage_upload([packed], tmp_path / "deep" / "er" / "session")
    assert sentence in str(refused.value) and "\n" not in str(refused.value)
    assert [f for f in tmp_path.rglob("*") if f.is_file()] == [], "nothing stays and nothing lands outside"


def test_a_symbolic_link_in_an_archive_is_refused(tmp_path: Path) -> None:
    packed = tmp_path / "x.zip"
    with zipfile.ZipFile(packed, "w") as bundle:
        entry = zipfile.ZipInfo("a.obj")
        entry.external_attr = (stat.S_IFLNK | 0o777) << 16
        bundle.writestr(entry, "/etc/passwd")
    with pytest.raises(InputError, match="points outside"):
        uploads.stage_upload([packed], tmp_path / "session")


def test_an_archive_that_unpacks_without_end_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "MAX_BYTES", 3 * 2**20)
    packed = archive(tmp_path / "bomb.zip", **{"a.obj": b"v", "a.png": bytes(8 * 2**20)})
    assert packed.stat().st_size < 2**20
    with pytest.raises(InputError, match="unpacks to more than 3 MB"):
        uploads.stage_upload([packed], tmp_path / "session")
    assert not (tmp_path / "session").exists()


def test_a_damaged_archive_and_a_large_file_have_their_sentences(tmp_path: Path) -> None:
    broken = tmp_path / "x.zip"
    broken.write_bytes(b"PK\x03\x04 but no more")
    with pytest.raises(InputError, match=r"x\.zip is not a readable \.zip archive"):
        uploads.stage_upload([broken], tmp_path / "session")
    misnamed = archive(tmp_path / "name.zip", **{"aé.obj": b"v"})
    misnamed.write_bytes(misnamed.read_bytes().replace("é".encode(), b"\xff\xfe"))  # said to be UTF-8
    with pytest.raises(InputError, match=r"name\.zip is not a readable \.zip archive"):
        uploads.stage_upload([misnamed], tmp_path / "session")
    assert not (tmp_path / "session").exists()
    large = tmp_path / "large.glb"
    with large.open("wb") as file:
        file.truncate(300 * 2**20)
    with pytest.raises(InputError, match=r"The upload has 300 MB; at most 200 MB"):
        uploads.stage_upload([large], tmp_path / "session")
    assert not large.exists()


def test_a_job_keeps_its_upload_when_the_session_ends(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    packed = archive(tmp_path / "cow.zip", **{"m/cow.obj": b"v", "tex/a.png": b"p"})
    source = uploads.stage_upload([packed], workspace.session_uploads("visitor/../x"))
    run = workspace.new_run("cow")
    past = time.time() - 24 * 3600
    os.utime(source.parents[1], (past, past))
    lent = workspace.lend_input(source, run)
    workspace.clean()  # by the age of the loan, not of the upload
    workspace.forget_session("visitor/../x")
    assert not source.exists() and lent.read_bytes() == b"v"
    assert (lent.parent.parent / "tex" / "a.png").read_bytes() == b"p"
    workspace.return_input(run)
    assert not lent.exists()


def test_an_object_of_ours_is_used_where_it_lies(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "runs")
    mine = tmp_path / "fox.glb"
    mine.write_bytes(b"g")
    run = workspace.new_run("fox")
    assert workspace.lend_input(mine, run) == mine
    workspace.return_input(run)
    assert mine.exists()


def test_history_shows_finished_runs_only_and_no_other_folder(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    done, unfinished = workspace.new_run("fox · a fox <runs>"), workspace.new_run("b")
    for name in ("run.json", "player.html"):
        (done / name).write_text("{}")
    found = workspace.history([unfinished.name, "../secrets", "private", done.name])
    assert [(run.id, run.title) for run in found] == [(done.name, "fox · a fox <runs>")]


def test_clean_up_goes_by_age(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    old, new = workspace.new_run("old"), workspace.new_run("new")
    forgotten = workspace.session_uploads("gone")
    forgotten.mkdir()
    past = time.time() - 24 * 8 * 3600
    for folder in (old, forgotten):
        os.utime(folder, (past, past))
    (tmp_path / "notes").mkdir()
    os.utime(tmp_path / "notes", (past, past))
    assert workspace.clean() == 2
    assert new.exists() and (tmp_path / "notes").exists() and not old.exists() and not forgotten.exists()


def test_clean_up_leaves_what_a_long_job_was_lent_and_survives_a_closing_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = Workspace(tmp_path)
    source = uploads.stage_upload([archive(tmp_path / "a.zip", **{"a.obj": b"v"})], workspace.session_uploads("x"))
    run = workspace.new_run("long")
    lent = workspace.lend_input(source, run)
    pages = [workspace.session_uploads(name) for name in ("y", "z")]
    past = time.time() - 24 * 3600
    for folder in (*pages, workspace.uploads / run.name):
        folder.mkdir(exist_ok=True)
        os.utime(folder, (past, past))
    delete = shutil.rmtree

    def closing(folder: Path, **options: object) -> None:  # while the first is deleted, the other's page is closed
        for page in pages:
            delete(page, ignore_errors=True)

    monkeypatch.setattr(shutil, "rmtree", closing)
    assert workspace.clean() == 1 and lent.read_bytes() == b"v"


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="set T4D_RUNS"):
        Workspace(tmp_path / "file" / "studio")


def test_an_upload_that_another_visitors_equal_file_took_away_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="upload it again"):
        uploads.stage_upload([tmp_path / "gone.glb"], tmp_path / "session")
    assert not (tmp_path / "session").exists()


def test_the_gallery_reads_what_is_there(tmp_path: Path) -> None:
    assert read_gallery(tmp_path) == []
    (tmp_path / "fox.glb").write_bytes(b"g")
    (tmp_path / "gallery.json").write_text(
        '[{"name": "fox", "file": "fox.glb", "prompts": ["a fox runs"]}, {"name": "cat", "file": "cat.glb"}]'
    )
    (found,) = read_gallery(tmp_path)
    assert (found.name, found.thumbnail, found.prompts) == ("fox", None, ("a fox runs",))
