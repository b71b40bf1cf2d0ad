"""The Study tab: from runs to a study that is previewed and rated in the studio's own server."""

import json
from collections.abc import Iterator
from typing import Any

import gradio as gr
import httpx
import pytest
import studio_fake_tasks
from browser_fixture import Chromium
from browserless import Browserless

from studio import study_cards
from studio.app import build, launch_settings
from studio.jobs import Jobs
from studio.runs import Workspace
from studio.service import Studio
from studio.studies import Studies
from t4d.errors import InputError

METHODS = ("full", "no_track")


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Two objects, each run by two variants."""
    made = Workspace(tmp_path_factory.mktemp("runs"))
    for variant in METHODS:
        for name in ("fox", "horse"):
            run = made.new_run(f"{name} · a {name} is running")
            studio_fake_tasks.write_run(run, f"a {name} is running")
            manifest = {"status": "done", "prompt": f"a {name} is running", "inputs": [{"name": f"{name}.glb"}]}
            (run / "run.json").write_text(json.dumps({**manifest, "config": {"variant": variant}, "warnings": []}))
    return made


@pytest.fixture(scope="module")
def server(workspace: Workspace) -> Iterator[tuple[str, Any]]:
    """A studio with its Study tab, and the FastAPI app behind it."""
    studio = Studio(workspace, Jobs(grace_s=2.0), task="studio_fake_tasks:animate")
    page = build(studio)
    app, url, _ = page.launch(prevent_thread_lock=True, quiet=True, **launch_settings(studio))
    yield url, app
    page.close(verbose=False)
    studio.runner.close()


@pytest.fixture(scope="module")
def studies(workspace: Workspace) -> Studies:
    """The pilot study, prepared from the workspace's runs."""
    made = Studies(workspace)
    text, notes = made.draft("pilot", "Pilot", [], [run for _, run in made.runs()], "orbit")
    assert any("first frames" in note for note in notes)
    made.prepare("pilot", text.replace("min_watch_s: 2.0", "min_watch_s: 0.0"))
    return made


def rate(rater: Browserless, index: int, score: int) -> None:
    """A page of one score throughout."""
    assert rater.answer(rater.submission(rater.page(index), lambda k: score))["ok"]


def test_runs_become_a_study_named_by_variant(studies: Studies) -> None:
    assert {title.rpartition(" · ")[2] for title, _ in studies.runs()} == set(METHODS)
    study = studies.service("pilot").study
    assert {method.id for method in study.methods} == set(METHODS)
    assert {item.prompt for item in study.items} == {"a fox is running", "a horse is running"}
    assert studies.names() == ["pilot"] and study.pages == 4


def test_rating_here_counts_and_previewing_does_not(studies: Studies, server: tuple[str, Any]) -> None:
    url, app = server
    here, preview = studies.rate("pilot", app), studies.preview("pilot", app)
    assert here != preview and here == studies.rate("pilot", app), "the page keeps its address"
    visitor = Browserless((url + preview).rstrip("/")).begin()
    rate(visitor, 0, 1)
    before = studies.service("pilot").counts()
    assert (before["consented"], before["answers"]) == (0, 0)
    rater = Browserless((url + here).rstrip("/")).begin()
    for index in range(4):
        rate(rater, index, 1 + index)
    after = studies.service("pilot").counts()
    assert (after["consented"], after["answers"], after["scores"]) == (1, 4, 16)
    assert sorted(row["score"] for row in studies.service("pilot").rows()) == sorted([1, 2, 3, 4] * 4)
    media = rater.page(0)["videos"][0]["media"]
    assert httpx.get(f"{url}{here}media/{media}").headers["content-type"] == "video/mp4"
    assert httpx.get(f"{url}{preview}media/{media}").status_code == 404, "the copy has names of its own"
    studies.preview("pilot", app)
    assert httpx.get(f"{url}{preview}").status_code == 404, "an earlier preview has ended"
    card = study_cards.progress(studies.service("pilot").study, after, studies.service("pilot").flags(), "<x>")
    assert "<b>4</b><span>pages rated" in card and "<x>" not in card


def test_neither_page_names_a_method_nor_is_the_database_served(studies: Studies, server: tuple[str, Any]) -> None:
    url, app = server
    for address in (studies.rate("pilot", app), studies.preview("pilot", app)):
        for part in ("", "config", "gradio_api/info"):
            assert "no_track" not in httpx.get(url + address + part).text
    folder = studies.folder("pilot")
    for name in ("study.db", "study.yaml", "private.json", "answers.jsonl"):
        assert httpx.get(f"{url}gradio_api/file={folder / name}").status_code == 403


@pytest.mark.parametrize(
    ("name", "folders", "part"),
    [
        ("../up", ["x"], "is not a study's name"),
        ("new", [], "Nothing is chosen"),
        ("new", ["/nowhere/at/all"], "is not a folder"),
        ("pilot", ["x"], "There is a study 'pilot' already"),
    ],
)
def test_what_cannot_become_a_study_is_told(studies: Studies, name: str, folders: list[str], part: str) -> None:
    with pytest.raises(InputError, match=part):
        studies.draft(name, "", folders, [], "orbit")


def test_a_study_file_that_is_wrong_leaves_the_prepared_study_as_it_is(studies: Studies) -> None:
    before = studies.text("pilot")
    with pytest.raises(InputError, match="The study file"):
        studies.prepare("pilot", before.replace("seed: 0", "seed: none"))
    assert studies.text("pilot") == before and not list(studies.root.glob(".*"))
    with pytest.raises(InputError, match="no study 'other'"):
        studies.folder("other")


def test_only_the_owner_gets_the_tab(workspace: Workspace) -> None:
    studio = Studio(workspace, Jobs())
    labels = []
    for owner_only in (True, False):
        page = build(studio, owner_only=owner_only)
        labels.append({block.label for block in page.blocks.values() if isinstance(block, gr.Tab)})
    studio.runner.close()
    assert "Study" in labels[0] and "Study" not in labels[1]


@pytest.mark.slow
@pytest.mark.browser
def test_from_runs_to_an_answer_in_the_browser(
    chromium: Chromium, server: tuple[str, Any], workspace: Workspace
) -> None:
    watched = chromium.open(server[0], width=1280, height=900)
    page = watched.page
    page.set_default_timeout(60_000)
    page.get_by_role("tab", name="Study").click()
    page.locator("#study-runs input").first.wait_for()
    page.fill("#study-name textarea", "seen")
    page.click("#study-draft")
    page.locator("#study-told").get_by_text("Nothing is chosen").wait_for()
    for box in page.locator("#study-runs input").all():
        box.check()
    page.click("#study-draft")
    page.locator("#study-told").get_by_text("Drafted").wait_for()
    page.click("#study-prepare")
    page.locator("#study-told").get_by_text("seen is ready").wait_for()
    page.click("#study-rate")
    rater = page.frame_locator("iframe.t4d-rater")
    rater.get_by_role("checkbox").check()
    rater.get_by_role("button", name="Start").click()
    rater.locator("fieldset.study-row").first.wait_for()
    assert "seen" in Studies(workspace).names()
    page.locator("#study-counts .t4d-numbers").get_by_text("began").wait_for()
    page.wait_for_function("document.querySelector('#study-counts .t4d-numbers b').textContent === '1'")
    assert watched.foreign == [] and watched.errors == []
