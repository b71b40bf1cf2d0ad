"""What a hostile or unlucky request gets: refused in a sentence, logged, and nothing stored or lost."""

import copy
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from browserless import Browserless
from study_serving import at_once, prepared_study, served

from studio.study.admin import GUESSES, PASSWORD, routes
from studio.study.app import ServedStudy
from studio.study.events import RaterEvents
from studio.study.limits import Budget, RefusalLog
from studio.study.service import StudyService
from t4d.errors import InputError

SECRET = "correct horse battery"


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ServedStudy, str]]:
    folder = prepared_study(tmp_path_factory.mktemp("refusals"), comments=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(PASSWORD, SECRET)
        with served(folder) as running:
            yield running


def state(study: ServedStudy) -> dict[str, Any]:
    """All that is stored about answers and raters; refusals aside."""
    counts = dict(study.service.counts())
    del counts["refused"]
    return {**counts, "rows": study.service.rows()}


def log_of(study: ServedStudy) -> str:
    path = study.service.folder / "refused.log"
    return path.read_text() if path.exists() else ""


def refused(answer: dict) -> str:
    """The sentence of an answer that must be a lasting refusal."""
    assert answer["ok"] is False and answer["retry"] is False, answer
    sentence = answer["message"]
    assert sentence.endswith(".") and "\n" not in sentence and len(sentence) < 250
    return sentence


def test_a_key_sent_many_times_at_once_is_stored_once(study: tuple[ServedStudy, str]) -> None:
    service, url = study
    rater = Browserless(url).begin()
    sent = rater.submission(rater.page())
    before = service.service.counts()["submissions"]
    acks = [answer["ack"] for answer in at_once(*[lambda: Browserless(url, rater.code).answer(sent)] * 8)]
    assert sum(ack["stored"] for ack in acks) == 1
    assert {ack["next_page"] for ack in acks} == {1}
    assert service.service.counts()["submissions"] == before + 1
    other = {**sent, "scores": {key: 5 for key in sent["scores"]}}
    refused(rater.answer(other))
    assert rater.page(0)["scores"] == sent["scores"]


def test_two_tabs_of_one_rater_keep_both_histories_and_the_newest_edit(study: tuple[ServedStudy, str]) -> None:
    service, url = study
    first = Browserless(url).begin()
    second = Browserless(url, first.code)
    page, same = first.page(), second.page()
    assert page == same
    before = service.service.counts()["submissions"]
    newer = second.submission(same, lambda k: 5, edit=7)
    assert second.answer(newer)["ack"]["stored"]
    older = first.submission(page, lambda k: 1, edit=6)
    assert first.answer(older)["ack"]["stored"], "an answer that was given is kept, even if another one counts"
    assert first.page(0)["scores"] == newer["scores"]
    assert service.service.counts()["submissions"] == before + 2


FORGED: dict[str, Any] = {
    "score 0": {"score": 0},
    "score 6": {"score": 6},
    "a negative score": {"score": -1},
    "SQL as a score": {"score": "5; DROP TABLE answer"},
    "a number as text": {"score": "5"},
    "half a score": {"score": 4.5},
    "a whole float": {"score": 5.0},
    "true": {"score": True},
    "null": {"score": None},
    "a list": {"score": [5]},
    "a huge number": {"score": 10**30},
    "an unknown page": {"token": "AAAAAAAAAAAAAAAA"},
    "SQL as a page": {"token": "' OR 1=1 --"},
    "a path as a page": {"token": "../../study.db"},
    "no key": {"key": ""},
    "a key of another kind": {"key": "1"},
    "an upper case key": {"key": str(uuid.uuid4()).upper()},
    "scores as a list": {"scores": [1, 2, 3, 4]},
    "no scores": {"scores": {}},
    "a row of no criterion": {"add": {"A/nothing": 3}},
    "a slot that is not shown": {"add": {"B/motion": 3}},
    "a comment over the limit": {"comment": "x" * 2001},
    "a comment that is no text": {"comment": {"a": 1}},
    "a NUL in the comment": {"comment": "a\0b"},
    "a time below zero": {"watched_s": -1.0},
    "too little watched": {"watched_s": 0.1},
    "a time that is text": {"page_s": "9"},
    "an edit below zero": {"edit": -1},
    "an unknown field": {"method": "quokka"},
}


@pytest.mark.parametrize("forged", FORGED)
def test_forged_submissions_are_refused_and_nothing_is_stored(study: tuple[ServedStudy, str], forged: str) -> None:
    service, url = study
    rater = Browserless(url).begin()
    page = rater.page()
    sent = rater.submission(page)
    changes = copy.deepcopy(FORGED[forged])
    if "score" in changes:
        sent["scores"][next(iter(sent["scores"]))] = changes["score"]
    elif "add" in changes:
        sent["scores"].update(changes["add"])
    else:
        sent.update(changes)
    before, logged = state(service), log_of(service).count("\n")
    refused(rater.answer(sent))
    assert state(service) == before
    assert log_of(service).count("\n") == logged + 1
    assert rater.page() == page
    assert rater.answer(rater.submission(page))["ack"]["stored"], "a sound answer is accepted afterwards"


def test_another_raters_page_is_refused(study: tuple[ServedStudy, str]) -> None:
    service, url = study
    mine, other = Browserless(url).begin(), Browserless(url).begin()
    theirs = other.submission(other.page())
    before = state(service)
    refused(mine.answer(theirs))
    refused(mine.ask("page", mine.code, 1))  # not reached yet
    for index in (-1, 99, "0", 0.5, True, [0], {"a": 1}):
        refused(mine.ask("page", mine.code, index))
    refused(mine.ask("finish", mine.code))
    assert state(service) == before


CODES = [
    *("", "x", "0" * 23, "00000-00000-00000-00000", "' OR '1'='1", "../study.db", "a" * 10**4, "\0", "\ud800"),
    *(5, True, ["a"], {"a": 1}),
]


@pytest.mark.parametrize("code", CODES, ids=range(len(CODES)))
def test_unknown_codes_open_nothing(study: tuple[ServedStudy, str], code: Any) -> None:
    service, url = study
    rater = Browserless(url).begin()
    sent = rater.submission(rater.page())
    before = state(service)
    for event, values in {"join": [{}], "consent": [], "page": [None], "answer": [sent, False], "finish": []}.items():
        refused(getattr(service.events, event)(code, *values))
    assert state(service) == before


def test_a_code_of_another_study_and_one_of_a_closed_study(tmp_path: Path, study: tuple[ServedStudy, str]) -> None:
    _, url = study
    code = Browserless(url).begin().code
    folder = prepared_study(tmp_path / "other")
    first = StudyService(folder)
    events = RaterEvents(first, RefusalLog(None))
    refused(events.join(code))
    own = events.join()["rater"]["code"]
    events.consent(own)
    page = events.page(own)["page"]
    first.close()
    yesterday = (datetime.now(UTC) - timedelta(days=1)).isoformat()
    assert prepared_study(tmp_path / "other", expires=yesterday) == folder
    closed = StudyService(folder)
    events = RaterEvents(closed, RefusalLog(None))
    sent = Browserless("").submission(page)
    for answer in (events.join(own), events.join(), events.answer(own, sent)):
        assert "closed" in refused(answer)
    assert closed.counts()["submissions"] == 0 and closed.counts()["joined"] == 1
    closed.close()


def test_a_megabyte_is_refused_before_it_is_read(study: tuple[ServedStudy, str]) -> None:
    service, url = study
    rater = Browserless(url).begin()
    page = rater.page()
    before = state(service)
    sent = rater.submission(page, comment="x" * 2**20)
    reply = rater.http.post(f"{url}/gradio_api/run/study_answer", json={"data": [rater.code, sent, False]})
    assert reply.status_code == 413 and "64 KB" in reply.text

    def pieces() -> Iterator[bytes]:  # without a stated length
        for _ in range(64):
            yield b"x" * 2**14

    chunked = rater.http.post(f"{url}/gradio_api/run/study_answer", content=pieces())
    assert chunked.status_code == 413
    assert state(service) == before and rater.page() == page
    assert "size" in log_of(service)


PATHS = """
/media/../study.yaml /media/..%2fstudy.yaml /media/%2e%2e/study.yaml /media/..\\study.yaml /media/study.yaml /media/
/media/%00 /media/000000000000000000000000.mp4 /study.yaml /private.json /study.db /answers.jsonl /refused.log
/gradio_api/file=FOLDER/study.yaml /gradio_api/file=FOLDER/private.json /file=FOLDER/study.db
/gradio_api/file/FOLDER/study.db
/gradio_api/proxy=http://127.0.0.1/ /static/../../../../etc/passwd /assets/..%2f..%2f..%2f..%2f..%2f..%2fetc%2fpasswd
/static/FOLDER/study.yaml /svelte/..%2f..%2fapp.py /monitoring /monitoring/summary /gradio_api/runs /docs /login
/gradio_api/deep_link?session_hash=a /gradio_api/openapi.json /gradio_api/upload_progress?upload_id=a
/gradio_api/dev/reload
/admin/../study.yaml /admin/study.db
""".split()


@pytest.mark.parametrize("path", PATHS)
def test_no_path_leads_out_of_the_study(study: tuple[ServedStudy, str], path: str) -> None:
    service, url = study
    folder = str(service.service.folder)
    status, body = Browserless(url).raw("GET", path.replace("FOLDER", folder))
    assert status in (400, 401, 403, 404), (path, status)
    assert folder.encode() not in body and b"zebrafish" not in body and b"root:" not in body


SHUT = """
/gradio_api/upload /gradio_api/component_server /gradio_api/stream/a /gradio_api/reset /gradio_api/run/predict
/gradio_api/cancel /gradio_api/run-history/connect /login /admin
""".split()


@pytest.mark.parametrize("path", SHUT)
def test_gradios_other_addresses_are_shut(study: tuple[ServedStudy, str], path: str) -> None:
    service, url = study
    before = state(service)
    status, _ = Browserless(url).raw("POST", path, b"{}")
    assert status in (401, 404, 405), status
    for method in ("PUT", "DELETE", "PATCH", "TRACE"):
        assert Browserless(url).raw(method, path)[0] == 404
    assert state(service) == before


def test_strange_bodies_are_answered_without_a_word_about_the_server(study: tuple[ServedStudy, str]) -> None:
    service, url = study
    before = state(service)
    bodies = [b"", b"{", b"[]", b'{"data": 5}', b'{"data": []}', b'{"data": [1,2,3,4,5,6]}', b"\xff\xfe"]
    for body in bodies:
        for event in ("join", "answer"):
            status, reply = Browserless(url).raw("POST", f"/gradio_api/run/study_{event}", body)
            assert status in (400, 422, 500) or b'"ok":false' in reply
            assert str(service.service.folder).encode() not in reply
            assert b"Traceback" not in reply and b"zebrafish" not in reply
    assert state(service)["answers"] == before["answers"]


def test_admin_guesses_run_out_and_the_door_then_stays_shut(study: tuple[ServedStudy, str]) -> None:
    service, url = study
    admin = Browserless(url)
    assert admin.http.get(f"{url}/admin/long.csv").status_code == 401
    page = admin.http.get(f"{url}/admin")
    assert "Password" in page.text and "zebrafish" not in page.text
    before = state(service)
    opened = admin.http.post(f"{url}/admin/login", data={"password": SECRET})
    assert opened.status_code == 303
    cookie = opened.headers["set-cookie"].lower()
    assert "httponly" in cookie and "samesite=strict" in cookie and SECRET not in cookie
    shown = admin.http.get(f"{url}/admin")
    assert "zebrafish" not in shown.url.path and "Zanzibar Nets" in shown.text
    table = admin.http.get(f"{url}/admin/long.csv")
    assert table.headers["content-disposition"].startswith("attachment") and table.text.startswith("rater,item,method")
    assert admin.http.get(f"{url}/admin/wide.csv").status_code == 200
    assert admin.http.get(f"{url}/admin/study.json").json()["study"]["title"] == "Moving objects"
    assert admin.http.get(f"{url}/admin/backup.db").content.startswith(b"SQLite format 3")
    guesser = Browserless(url)
    guesses = [lambda n=n: guesser.raw("POST", "/admin/login", f"password=guess{n}".encode())[0] for n in range(12)]
    statuses = at_once(*guesses)
    assert sorted(statuses) == [401] * GUESSES + [429] * (12 - GUESSES)
    assert guesser.http.post(f"{url}/admin/login", data={"password": SECRET}).status_code == 429, "shut for everybody"
    assert guesser.http.get(f"{url}/admin/long.csv").status_code == 401
    assert admin.http.get(f"{url}/admin").text.startswith("<!doctype html>"), "who is in stays in"
    assert admin.http.post(f"{url}/admin/logout").status_code == 303
    assert admin.http.get(f"{url}/admin/long.csv").status_code == 401
    assert state(service) == before
    assert "wrong administrator's password" in log_of(service)


def test_a_refusal_that_waits_for_the_database_keeps_nobody_else_waiting(
    study: tuple[ServedStudy, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    service, url = study
    begun, go_on = threading.Event(), threading.Event()

    def slow(*_: object) -> None:
        begun.set()
        assert go_on.wait(20)

    monkeypatch.setattr(service.service.store, "refused", slow)
    with ThreadPoolExecutor(1) as pool:
        stranger = pool.submit(httpx.get, f"{url}/admin/long.csv", timeout=30)
        assert begun.wait(10)
        try:
            assert httpx.get(f"{url}/robots.txt", timeout=5).status_code < 500
        finally:
            go_on.set()
        assert stranger.result().status_code == 401


def test_the_admin_view_is_off_without_a_password_and_needs_a_long_one(
    study: tuple[ServedStudy, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    service = study[0].service
    monkeypatch.delenv(PASSWORD, raising=False)
    assert routes(service, RefusalLog(None)) == []
    with pytest.raises(InputError, match="5 characters"):
        routes(service, RefusalLog(None), "short")


def test_new_raters_are_limited_and_told_to_wait(study: tuple[ServedStudy, str]) -> None:
    now = [0.0]
    events = RaterEvents(study[0].service, RefusalLog(None), Budget(2, 10.0, lambda: now[0]))
    joined = study[0].service.counts()["joined"]
    assert events.join()["ok"] and events.join()["ok"]
    late = events.join()
    assert late["ok"] is False and late["retry"] is True
    assert events.join("00000-00000-00000-00000")["retry"] is False, "who has a code is not counted"
    now[0] = 10.0
    assert events.join()["ok"]
    assert study[0].service.counts()["joined"] == joined + 3


def test_the_log_has_neither_codes_nor_addresses(study: tuple[ServedStudy, str]) -> None:
    service, url = study
    rater = Browserless(url).begin()
    refused(rater.ask("page", rater.code, 99))
    refused(rater.ask("page", str(rater.code)[::-1], None))
    Browserless(url).raw("GET", "/a%0Ab\x1b[31m".replace("\x1b", "%1b"))
    text = log_of(service).replace("/gradio_api/proxy=http://127.0.0.1/", "")  # asked for by a test above
    assert str(rater.code) not in text and str(rater.code)[::-1] not in text and "127.0.0.1" not in text
    assert all(line[:2] == "20" for line in text.splitlines()), "one line each, whatever was asked for"
