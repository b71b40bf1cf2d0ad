"""The studio through its API, with a worker that pretends: results, sentences, sessions; no torch in it."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from gradio_client import Client, handle_file

from studio import settings, views
from studio.job import Snapshot
from studio.jobs import Jobs
from studio.runs import Workspace
from studio.service import Source, Studio
from t4d.config import Config
from t4d.errors import InputError
from t4d.paths import REPO

TASKS = {"task": "studio_fake_tasks:animate", "inspect": "studio_fake_tasks:inspect"}
SETTINGS = (25, 2.0, 8000, 300)


@pytest.fixture(scope="module")
def served(start_studio: Callable[..., tuple[Studio, str]]) -> tuple[Studio, str]:
    return start_studio(**TASKS)


@pytest.fixture
def visitor(served: tuple[Studio, str]) -> Client:
    return Client(served[1], verbose=False)


def upload(visitor: Client, folder: Path, name: str = "box.glb", content: bytes = b"glTF good") -> str:
    path = folder / name
    path.write_bytes(content)
    card, *_ = visitor.predict([handle_file(path)], api_name="/upload")
    return card


def animate(
    visitor: Client,
    prompt: str,
    seed: float = 3,
    preset: str = "mini",
    variant: str = "full",
    given: tuple = SETTINGS,
) -> tuple:
    return visitor.predict(prompt, seed, preset, variant, *given, api_name="/animate")


def report(outputs: tuple) -> dict:
    return outputs[-1]


def test_the_web_process_never_imports_torch() -> None:
    code = (
        "import sys, tempfile, pathlib\n"
        "from studio.app import build\n"
        "from studio.jobs import Jobs\n"
        "from studio.runs import Workspace\n"
        "from studio.service import Studio\n"
        "build(Studio(Workspace(pathlib.Path(tempfile.mkdtemp())), Jobs()))\n"
        "heavy = {'torch', 'numba', 'diffusers', 'transformers', 'trimesh'} & set(sys.modules)\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr


def test_a_run_through_the_api_gives_its_files(visitor: Client, served: tuple[Studio, str], tmp_path: Path) -> None:
    assert "12 triangles" in upload(visitor, tmp_path)
    outputs = animate(visitor, "a box hops")
    assert report(outputs)["state"] == "done"
    run = served[0].workspace.root / report(outputs)["run"]
    assert json.loads((run / "run.json").read_text())["prompt"] == "a box hops"
    files = next(o for o in outputs if isinstance(o, list) and o and str(o[0]).endswith("frames.zip"))
    assert [Path(f).name for f in files] == [
        *("frames.zip", "asset.safetensors", "clip.mp4", "orbit.mp4", "player.html", "run.json")
    ]
    assert "One texture is missing." in outputs[0], "the notes of the run are shown"
    assert not list(served[0].workspace.uploads.glob(f"{run.name}*")), "the job's copy of the upload is gone"
    again = animate(visitor, "a box spins")
    assert report(again)["state"] == "done", "the upload serves a second prompt"


@pytest.mark.parametrize(
    ("prompt", "state", "part"),
    [
        ("refuse this", "refused", "no triangles"),
        ("break this", "failed", "index 7 is out of bounds"),
        ("die now", "failed", "memory ran out"),
    ],
)
def test_a_job_that_fails_shows_one_sentence_and_the_next_works(
    prompt: str, state: str, part: str, visitor: Client, tmp_path: Path
) -> None:
    upload(visitor, tmp_path)
    outputs = animate(visitor, prompt)
    assert report(outputs)["state"] == state and part in report(outputs)["message"]
    assert part in outputs[0] and "t4d-error" in outputs[0]
    assert report(animate(visitor, "a box hops"))["state"] == "done"


def test_what_can_be_judged_here_is_refused_here(visitor: Client, tmp_path: Path) -> None:
    assert "No object is chosen" in report(animate(visitor, "a box hops"))["message"]
    upload(visitor, tmp_path)
    cases: list[tuple[dict[str, Any], str]] = [
        ({"prompt": "   "}, "The prompt is empty"),
        ({"prompt": "x" * 301}, "The prompt has 301 characters"),
        ({"prompt": "a", "seed": -1}, "'seed' = -1"),
        ({"prompt": "a", "seed": 2**31}, "'seed'"),
        ({"prompt": "a", "given": (0, 2.0, 8000, 300)}, "'stage1.steps' = 0"),
        ({"prompt": "a", "given": (25, 2.0, 8000, None)}, "'Fit iterations' is empty"),
    ]
    for changes, part in cases:
        found = report(animate(visitor, **changes))
        assert found["state"] == "refused" and part in found["message"], changes


def test_cancel_reaches_the_own_job(visitor: Client, tmp_path: Path) -> None:
    upload(visitor, tmp_path)
    job = visitor.submit("slow walk", 3, "mini", "full", *SETTINGS, api_name="/animate")
    deadline = time.monotonic() + 20
    while not any(report(o)["stage"] == "clip" for o in job.outputs()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    visitor.predict(api_name="/cancel")
    job.result(timeout=10)
    assert report(job.outputs()[-1])["state"] == "cancelled"


def test_stop_in_the_fit_shows_what_was_fitted(visitor: Client, served: tuple[Studio, str], tmp_path: Path) -> None:
    upload(visitor, tmp_path)
    job = visitor.submit("keep it", 3, "mini", "no_arap", *SETTINGS, api_name="/animate")
    deadline = time.monotonic() + 20
    while not any(report(o)["stage"] == "fit" for o in job.outputs()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert "Stopping" in visitor.predict(api_name="/cancel")
    job.result(timeout=20)
    last = job.outputs()[-1]
    assert report(last)["state"] == "done"
    assert "Stopped after" in last[0] and "Stopped at iteration 3 of 9." in last[0]
    assert any(isinstance(o, list) and o and str(o[-1]).endswith("run.json") for o in last), "the files are offered"


def test_the_variant_reaches_the_configuration(tmp_path: Path) -> None:
    studio = Studio(Workspace(tmp_path / "runs"), Jobs(), **TASKS)
    (tmp_path / "box.glb").write_bytes(b"good")
    source = Source(str(tmp_path / "box.glb"), "box.glb", False)
    job, _ = studio.start("v", source, "a box hops", 0, "mini", SETTINGS, "no_arap")
    config = Config.model_validate(job.payload["config"])
    assert config.variant == "no_arap" and config.stage2.lambda_arap == 0
    studio.runner.close()


def test_one_visitor_cannot_cancel_or_see_another(served: tuple[Studio, str], tmp_path: Path) -> None:
    one, other = Client(served[1], verbose=False), Client(served[1], verbose=False)
    upload(one, tmp_path)
    job = one.submit("slow walk", 3, "mini", "full", *SETTINGS, api_name="/animate")
    time.sleep(1.0)
    other.predict(api_name="/cancel")
    assert "No object is chosen" in report(animate(other, "a box hops"))["message"]
    assert not job.done()
    one.predict(api_name="/cancel")
    job.result(timeout=10)


def test_a_refused_upload_names_the_cause_and_is_deleted(
    visitor: Client, served: tuple[Studio, str], tmp_path: Path
) -> None:
    card = upload(visitor, tmp_path, "torn.glb", b"bad bytes")
    assert "torn.glb holds no triangles" in card and "t4d-error" in card
    assert "is not a 3D file" in upload(visitor, tmp_path, "notes.pdf", b"%PDF")
    assert not list(served[0].workspace.uploads.rglob("torn.glb"))
    assert "12 triangles" in upload(visitor, tmp_path)


def test_the_server_refuses_a_large_upload_and_private_files(served: tuple[Studio, str], tmp_path: Path) -> None:
    studio, url = served
    big = tmp_path / "big.glb"
    with big.open("wb") as file:
        file.truncate(201 * 2**20)
    with big.open("rb") as file:
        reply = httpx.post(f"{url}gradio_api/upload", files={"files": file}, timeout=60)
    assert reply.status_code == 413
    run = studio.workspace.new_run("a")
    (run / "player.html").write_text("<p>player")
    (studio.workspace.private / "secret.txt").write_text("no")
    page = httpx.get(f"{url}gradio_api/file={run}/player.html")
    assert page.status_code == 200 and page.headers["content-type"].startswith("text/html")
    for hidden in (studio.workspace.private / "secret.txt", REPO / "pyproject.toml", Path("/etc/passwd")):
        assert httpx.get(f"{url}gradio_api/file={hidden}").status_code == 403


def test_starts_of_one_session_at_once_are_one_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    studio = Studio(Workspace(tmp_path / "runs"), Jobs(), **TASKS)
    (tmp_path / "box.glb").write_bytes(b"good")
    source, together = Source(str(tmp_path / "box.glb"), "box.glb", False), threading.Barrier(6, timeout=20)
    new_run = studio.workspace.new_run

    def all_past_the_first_check(title: str) -> Path:
        together.wait()
        return new_run(title)

    monkeypatch.setattr(studio.workspace, "new_run", all_past_the_first_check)

    def start(_: int) -> bool:
        try:
            studio.start("v", source, "hang", 0, "mini", SETTINGS)
        except InputError as error:
            assert "still running" in str(error)
            return False
        return True

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(start, range(6))) == 1
    assert len(list(studio.workspace.root.glob("2*"))) == 1, "the folders of those refused are gone"
    studio.runner.close()


def test_leaving_stops_the_job_and_deletes_the_uploads(tmp_path: Path) -> None:
    studio = Studio(Workspace(tmp_path / "runs"), Jobs(), **TASKS)
    (tmp_path / "box.glb").write_bytes(b"good")
    source, found = studio.upload([str(tmp_path / "box.glb")], "visitor")
    assert found is not None and found["facts"] == "12 triangles"
    job, run = studio.start("visitor", source, "slow walk", 0, "mini", SETTINGS)
    with pytest.raises(InputError, match="still running"):
        studio.start("visitor", source, "a box hops", 0, "mini", SETTINGS)
    studio.leave("visitor")
    assert [now.state for now in job.watch()][-1] == "cancelled"
    studio.finish("visitor", job, run)
    assert not [f for f in studio.workspace.uploads.rglob("*") if f.is_file()]
    with pytest.raises(InputError, match="no longer here; upload it again"):
        studio.start("visitor", source, "a box hops", 0, "mini", SETTINGS)
    studio.runner.close()


def test_settings_come_from_the_schema() -> None:
    assert settings.bounds("stage1.steps") == {
        "minimum": 1,
        "maximum": 200,
        "integer": True,
        "description": Config.model_fields["stage1"].default.__class__.model_fields["steps"].description,
    }
    config = Config.load("mini", settings.overrides([7, 1.5, 900, 20]))
    assert (config.stage1.steps, config.stage1.guidance, config.splat.count, config.stage2.iterations) == (
        7,
        1.5,
        900,
        20,
    )
    assert settings.values("paper") != settings.values("mini")


def test_what_visitors_write_is_escaped() -> None:
    evil = "<img src=x onerror=alert(1)>"
    for html in (
        views.refusal(evil),
        views.source(evil, evil, [evil]),
        views.done(1, 0, [evil]),
        views.status(Snapshot(state="running", message=evil)),
        views.player(Path("/runs/'><script>/player.html")),
    ):
        assert "<img" not in html and "<script>" not in html


def test_durations_read_well() -> None:
    assert [views.duration(s) for s in (0.4, 59.4, 200, 3900)] == ["0 s", "59 s", "3 min 20 s", "1 h 5 min"]


def test_a_source_must_be_chosen_first(tmp_path: Path) -> None:
    studio = Studio(Workspace(tmp_path), Jobs(), **TASKS)
    with pytest.raises(InputError, match="No object is chosen"):
        studio.start("v", None, "a", 0, "mini", SETTINGS)
    (tmp_path / "a.glb").write_bytes(b"g")
    with pytest.raises(InputError, match="Preset 'large' does not exist"):
        studio.start("v", Source(str(tmp_path / "a.glb"), "a.glb", False), "a", 0, "large", SETTINGS)
