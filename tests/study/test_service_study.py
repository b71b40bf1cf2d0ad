"""The rater's way through a study, and what is refused on it."""

import subprocess
import sys
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace

import pytest
from study_rating import begin, milliseconds, rate_all, submission

from studio.study.contract import NotSaved, Refused
from studio.study.service import ROOM_BYTES, StudyService
from studio.study.store import new_code
from t4d.errors import InputError


@pytest.fixture
def study(study_folder):
    """``study(**fields)`` opens a service; closed at the end."""
    opened = []

    def make(**fields) -> StudyService:
        opened.append(StudyService(study_folder(**fields)))
        return opened[-1]

    yield make
    for service in opened:
        service.close()


def refused(service: StudyService) -> Counter:
    return Counter({row["kind"]: row["count"] for row in service.counts()["refused"]})


def test_the_whole_way(study):
    service = study(practice=["item1"], repeats=1, checks=[{"id": "care", "answer": 2}])
    rater = service.join()
    assert (rater.phase, rater.page, rater.pages) == ("consent", 0, 1 + 4 * 3 + 1 + 1)
    with pytest.raises(Refused, match="agree first"):
        service.page(rater.code)
    rater = service.consent(rater.code)
    assert (rater.phase, rater.page) == ("practice", 0)
    first = service.page(rater.code)
    assert (first.kind, first.title, first.index) == ("practice", "Practice 1", 0)
    ack = service.answer(rater.code, submission(first))
    assert (ack.stored, ack.next_page) == (True, 1)
    assert service.join(rater.code).phase == "rate"
    titles = []
    for index in range(1, rater.pages):
        page = service.page(rater.code)
        titles.append((page.title, page.result))
        assert page.index == index and not page.answered and page.editable
        # A repeat and a check look like any other page; a check has one row more.
        assert len(page.criteria) == (5 if page.kind == "check" else 4)
        ack = service.answer(rater.code, submission(page, 1 + index % 5))
    assert ack.next_page is None and service.join(rater.code).phase == "done"
    assert titles[:3] == [("Object 1", 1), ("Object 1", 2), ("Object 1", 3)]
    finished = service.finish(rater.code)
    assert finished.code.startswith("T4D-") and finished == service.finish(rater.code)
    with pytest.raises(Refused, match="finished"):
        service.answer(rater.code, submission(first, 1))
    rows = service.rows()
    assert len(rows) == 12 * 4 + 4 + 5  # practice is no data
    assert sum(row["repeat"] for row in rows) == 4 and sum(row["check"] for row in rows) == 5
    assert Counter(row["method"] for row in rows if not row["repeat"] and not row["check"]) == {
        "zebrafish": 16, "quokka": 16, "narwhal": 16,
    }  # fmt: skip


def test_scores_belong_to_the_video_that_was_shown(study):
    service = study(items=3, layout="side_by_side")
    code, expected = begin(service), {}
    media = {path: (item.id, m) for item in service.study.items for m, path in item.videos.items()}
    for _ in range(3):
        page = service.page(code)
        assert [video.slot for video in page.videos] == ["A", "B", "C"] and page.result == 0
        scores = {
            f"{video.slot}/{row.id}": 1 + (k + r) % 5
            for k, video in enumerate(page.videos)
            for r, row in enumerate(page.criteria)
        }
        expected |= {
            (*media[f"media/{v.media}"], row.id): scores[f"{v.slot}/{row.id}"]
            for v in page.videos
            for row in page.criteria
        }
        service.answer(code, submission(page, scores))
    assert {(row["item"], row["method"], row["criterion"]): row["score"] for row in service.rows()} == expected


def test_drafts_are_kept_and_count_only_as_edits_of_submitted_pages(study):
    service = study()
    code = begin(service)
    page = service.page(code)
    part = {"A/motion": 4}
    assert service.answer(code, submission(page, part), draft=True).next_page == page.index
    again = service.page(code)
    assert again.scores == part and not again.answered and service.rows() == []
    service.answer(code, submission(page, 2), draft=True)  # complete, but never submitted
    assert service.rows() == []
    service.answer(code, submission(page, 3))
    assert {row["score"] for row in service.rows()} == {3}
    service.answer(code, submission(page, 5), draft=True)
    assert {row["score"] for row in service.rows()} == {5}
    service.answer(code, submission(page, {"A/motion": 1}), draft=True)  # half an edit is shown, not counted
    assert {row["score"] for row in service.rows()} == {5} and service.page(code, 0).scores == {"A/motion": 1}
    history = service.export(service.rows()[0]["rater"])
    assert [entry["draft"] for entry in history["answers"]] == [1, 1, 0, 1, 1]


def test_a_late_retry_of_an_older_edit_does_not_replace_a_newer_one(study):
    service = study()
    code = begin(service)
    page, now = service.page(code), milliseconds()
    service.answer(code, submission(page, 5, edit=now + 900))
    service.answer(code, submission(page, 1, edit=now), draft=True)
    assert {row["score"] for row in service.rows()} == {5} and set(service.page(code, 0).scores.values()) == {5}
    assert service.page(code, 0).edit == now + 900
    service.answer(code, submission(page, 2, edit=now + 901))
    assert {row["score"] for row in service.rows()} == {2}


def test_a_key_is_stored_once_and_stands_for_one_answer(study):
    service = study()
    code = begin(service)
    page = service.page(code)
    sent = submission(page, 4)
    with ThreadPoolExecutor(12) as pool:
        acks = list(pool.map(lambda _: service.answer(code, sent), range(12)))
    assert Counter(ack.stored for ack in acks) == {True: 1, False: 11} and {ack.next_page for ack in acks} == {1}
    assert service.counts()["submissions"] == 1
    # Only times may differ in a retry: they are measured anew when it is sent.
    assert not service.answer(code, replace(sent, page_s=99.0)).stored
    with pytest.raises(Refused, match="already used"):
        service.answer(code, replace(sent, scores=dict.fromkeys(sent.scores, 5)))
    assert {row["score"] for row in service.rows()} == {4} and refused(service)["reused key"] == 1


def test_two_tabs_answer_one_page_and_the_later_counts(study):
    service = study()
    code = begin(service)
    one, two = service.page(code), service.page(code)
    service.answer(code, submission(one, 2))
    assert service.answer(code, submission(two, 4)).next_page == 1
    assert {row["score"] for row in service.rows()} == {4} and service.counts()["submissions"] == 2


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"scores": {"A/motion": 0}}, "whole number from 1 to 5"),
        ({"scores": {"A/motion": 6}}, "whole number from 1 to 5"),
        ({"scores": {"A/motion": "5; DROP TABLE answer"}}, "whole number from 1 to 5"),
        ({"scores": {"A/motion": True}}, "whole number from 1 to 5"),
        ({"scores": {"A/motion": 3.0}}, "whole number from 1 to 5"),
        ({"scores": {"A/motion": float("nan")}}, "whole number from 1 to 5"),
        ({"scores": {"B/motion": 3}}, "not on this page"),
        ({"scores": {"A/charm": 3}}, "not on this page"),
        ({"scores": {}}, "4 of the 4 rows have no score"),
        ({"scores": [1, 2]}, "no scores"),
        ({"token": "../../study.db"}, "no such page"),
        ({"token": 5}, "names no page"),
        ({"key": "1"}, "UUID"),
        ({"key": str(uuid.uuid1())}, "UUID"),
        ({"comment": "x" * 2**20}, "1048576 characters"),
        ({"comment": "\ud800"}, "plain text"),
        ({"comment": "hello"}, "takes no comments"),
        ({"watched_s": 1.0}, "watch the video for 4 s more"),
        ({"watched_s": float("inf")}, "not seconds"),
        ({"page_s": -1.0}, "not seconds"),
        ({"edit": -1}, "edit number"),
        ({"edit": 2**60}, "edit number"),
    ],
)
def test_impossible_submissions_are_refused_counted_and_not_stored(study, change, sentence):
    service = study(min_watch_s=5.0)
    code = begin(service)
    with pytest.raises(Refused, match=sentence):
        service.answer(code, submission(service.page(code), **change))
    counts = service.counts()
    assert counts["submissions"] == 0 and sum(row["count"] for row in counts["refused"]) == 1


def test_foreign_and_early_pages_are_refused(study):
    service = study(back=False)
    mine, other = begin(service), begin(service)
    foreign = service.page(other)
    with pytest.raises(Refused, match="no such page"):
        service.answer(mine, submission(foreign))
    with pytest.raises(Refused, match="no such page"):
        service.page(mine, 1)
    for index in (-1, 12, "0", 1.0, True):
        with pytest.raises(Refused, match="no such page"):
            service.page(mine, index)
    page = service.page(mine)
    service.answer(mine, submission(page))
    with pytest.raises(Refused, match="no way back"):
        service.page(mine, 0)
    with pytest.raises(Refused, match="no way back"):
        service.answer(mine, submission(page, 1))
    with pytest.raises(Refused, match="11 pages are not answered"):
        service.finish(mine)
    assert {row["score"] for row in service.rows()} == {3}
    assert {row["rater"] for row in service.rows()} == {service.join(mine).number}


def test_codes_are_forgiving_to_fingers_and_to_nothing_else(study):
    service = study()
    code = begin(service)
    assert service.join(f" {code.upper().replace('-', ' ')} ").page == 0
    assert service.join(code.replace("0", "o").replace("1", "L")).code
    for wrong in (new_code(), code[:-1], "", "x" * 4000, "' OR 1=1 --"):
        with pytest.raises(Refused, match="not known here"):
            service.join(wrong)
    assert refused(service) == {"unknown code": 5}
    text = (service.folder / "answers.jsonl").read_text()
    assert code not in text and code.replace("-", "") not in text


def test_a_closed_study_takes_nothing_more(study, monkeypatch):
    service = study(expires="2999-01-01T00:00:00+00:00")
    code = begin(service)
    sent = submission(service.page(code))
    service.answer(code, sent)
    monkeypatch.setattr(
        service, "study", service.study.model_copy(update={"expires": service.study.expires.replace(year=2020)})
    )
    for call in (
        service.join,
        lambda: service.join(code),
        lambda: service.answer(code, submission(service.page(code))),
    ):
        with pytest.raises(Refused, match="closed on 01 January 2020"):
            call()
    assert not service.answer(code, sent).stored  # what is stored is still acknowledged


def test_recruiting_services(study):
    redirect = "https://app.prolific.com/submissions/complete?cc={code}&who={PROLIFIC_PID}"
    service = study(items=1, completion={"code": "C0DE", "redirect": redirect})
    ids = {"PROLIFIC_PID": "5f3a", "STUDY_ID": "s1", "evil": "x", "SESSION_ID": "<script>"}
    code = service.join(external=ids).code
    service.consent(code)
    again = service.join(external={"PROLIFIC_PID": "5f3a"})  # another browser, without the code
    assert again.phase == "rate" and again.code != code and service.join(code).pages == 3
    rate_all(service, again.code)
    done = service.finish(code)
    assert done.code == "C0DE" and done.redirect == redirect.replace("{code}", "C0DE").replace("{PROLIFIC_PID}", "5f3a")
    with pytest.raises(Refused, match="preview"):
        service.join(external={"assignmentId": "ASSIGNMENT_ID_NOT_AVAILABLE", "workerId": "w"})
    person = service.rows()[0]["rater"]
    assert service.export(person)["external"] == [
        {"name": "PROLIFIC_PID", "value": "5f3a"},
        {"name": "STUDY_ID", "value": "s1"},
    ]
    assert "5f3a" not in str(service.rows())
    assert service.join().code != code and service.counts()["joined"] == 2


def test_raters_who_arrive_at_once_get_different_plans(study):
    service = study(items=3)
    with ThreadPoolExecutor(8) as pool:
        codes = list(pool.map(lambda _: begin(service), range(12)))
    assert service.counts()["balance"] <= 1
    orders = {tuple((p.title, p.reference) for p in [service.page(code)]) for code in codes}
    assert len(codes) == len(set(codes)) and len(orders) == 3


def test_a_link_opened_many_times_at_once_is_one_person(study):
    service = study(items=1)
    with ThreadPoolExecutor(8) as pool:
        raters = list(pool.map(lambda _: service.join(external={"PROLIFIC_PID": "5f3a"}), range(8)))
    assert len({rater.number for rater in raters}) == 1 and len({rater.code for rater in raters}) == 8
    assert service.counts()["joined"] == 1


def overtaken(service: StudyService, monkeypatch: pytest.MonkeyPatch, first) -> None:
    """Lets ``first()`` happen between the look at an answer and its storing."""
    store = service.store.answer

    def late(*given):
        monkeypatch.setattr(service.store, "answer", store)
        first()
        return store(*given)

    monkeypatch.setattr(service.store, "answer", late)


def test_an_answer_on_its_way_while_the_rater_finishes_is_refused(study, monkeypatch):
    service = study(items=1)
    code = begin(service)
    rate_all(service, code)
    change = submission(service.page(code, 0), 5)
    overtaken(service, monkeypatch, lambda: service.finish(code))
    with pytest.raises(Refused, match="have finished"):
        service.answer(code, change)
    assert {row["score"] for row in service.rows()} == {3} and refused(service)["finished"] == 1


def test_two_submissions_at_once_of_a_page_without_way_back_store_the_first(study, monkeypatch):
    service = study(back=False)
    code = begin(service)
    page = service.page(code)
    overtaken(service, monkeypatch, lambda: service.answer(code, submission(page, 2)))
    with pytest.raises(Refused, match="no way back"):
        service.answer(code, submission(page, 4))
    assert {row["score"] for row in service.rows()} == {2} and refused(service)["back"] == 1


def test_a_flood_of_drafts_ends_and_the_page_can_still_be_submitted(study, monkeypatch):
    monkeypatch.setattr("studio.study.store.MAX_DRAFTS", 5, raising=False)
    service = study()
    code = begin(service)
    page = service.page(code)
    for _ in range(5):
        service.answer(code, submission(page, {"A/motion": 4}), draft=True)
    with pytest.raises(Refused, match="changed 5 times"):
        service.answer(code, submission(page, {"A/motion": 4}), draft=True)
    assert service.answer(code, submission(page, 2)).stored and refused(service)["flood"] == 1


def test_a_study_changed_under_a_running_server_takes_no_new_raters_there(study, study_folder):
    from studio.study.folder import read_study, write_study

    service = study(items=2)
    code = service.join().code
    changed = read_study(service.folder / "study.yaml").model_copy(update={"seed": 9})
    write_study(changed, service.folder / "study.yaml")
    newer = StudyService(service.folder)  # nobody has agreed yet, so the design may change
    with pytest.raises(Refused, match="has to start it again"):
        service.consent(code)
    assert newer.consent(code).phase == "rate"
    newer.close()


def test_a_quick_change_later_is_no_haste(study):
    service = study(items=2)
    code = begin(service)
    for least, page_s in ((1, 12.0), (2, 1.0)):
        scores = {f"A/{criterion.id}": least + k for k, criterion in enumerate(service.study.criteria)}
        for index in range(6):
            service.answer(code, submission(service.page(code, index), scores, page_s=page_s))
    (rater,) = service.flags()
    assert rater["median_page_s"] == 12.0 and not rater["excluded"]


def test_plans_of_erased_and_silent_raters_are_given_again(study):
    service = study(items=2, abandon_after_h=1e-9)
    first = begin(service)
    rate_all(service, first)
    service.finish(first)
    silent = begin(service)
    third = begin(service)  # the silent one is silent for longer than 4 microseconds

    def plan(code: str) -> list:
        rater = service.store
        with rater.read() as session:
            name = service._participant(session, code)
        return [(page["item"], page["methods"]) for page in service.export(name)["pages"]]

    assert plan(silent) == plan(third) != plan(first)
    service.erase(service.rows()[0]["rater"])
    assert plan(begin(service)) != plan(third)


def test_answers_to_one_design_are_never_mixed_with_another(study_folder):
    from studio.study.folder import read_study, write_study

    folder = study_folder(items=2)
    service = StudyService(folder)
    rate_all(service, begin(service))
    service.close()
    study = read_study(folder / "study.yaml")
    write_study(study.model_copy(update={"title": "New title", "consent": "Other words"}), folder / "study.yaml")
    service = StudyService(folder)
    assert service.study.title == "New title" and len(service.rows()) == 24
    service.close()
    write_study(study.model_copy(update={"seed": 9}), folder / "study.yaml")
    with pytest.raises(InputError, match="belong to another design"):
        StudyService(folder)


def test_a_study_that_is_not_prepared_is_refused(tmp_path):
    from study_samples import study_entries

    from studio.study.folder import write_study
    from studio.study.schema import StudyFile

    entries = study_entries()
    entries["items"][0]["videos"]["quokka"] = "quokka/0.mp4"
    write_study(StudyFile.model_validate(entries), tmp_path / "study.yaml")
    with pytest.raises(InputError, match="not a prepared study"):
        StudyService(tmp_path)


def test_pages_name_no_method(study):
    service = study(items=3, repeats=1, checks=[{"id": "care", "answer": 2}])
    code = begin(service)
    seen = str(service.join(code))
    while service.join(code).phase != "done":
        page = service.page(code)
        seen += str(page)
        service.answer(code, submission(page))
    assert not any(word in seen for word in ("zebrafish", "quokka", "narwhal", "item0", "item1", "repeat_of"))


def test_nothing_heavy_is_imported():
    code = "import sys, studio.study.cli, studio.study.app, studio.study.sources; "
    code += "print([m for m in sys.modules if m.split('.')[0] == 'torch' or m.startswith('t4d.diffusion')])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_failures_of_the_disk_are_told_apart_from_refusals():
    assert issubclass(NotSaved, InputError) and not issubclass(NotSaved, Refused)


def test_a_nearly_full_disk_takes_no_new_raters_and_lets_others_finish(study, monkeypatch):
    service = study()
    mine, late = begin(service), service.join().code
    disk = SimpleNamespace(free=ROOM_BYTES - 1, total=10**12)
    monkeypatch.setattr("studio.study.service.shutil.disk_usage", lambda folder: disk)
    with pytest.raises(NotSaved, match="nearly full"):
        service.consent(late)
    assert service.consent(mine).phase != "consent"
    assert service.answer(mine, submission(service.page(mine)))
    disk.total = 10**9  # a small disk that has much left, for its size
    assert service.consent(late).phase != "consent"
