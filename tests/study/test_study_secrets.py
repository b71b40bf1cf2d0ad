"""What any rater can get hold of, searched for the methods: pages, answers, headers, names, metadata, errors."""

import base64
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import av
import httpx
import pytest
from browserless import Browserless
from gradio_client import Client
from PIL import Image
from study_serving import LABELS, prepared_study, served

from studio.study.app import ServedStudy
from t4d.paths import REPO

PRIVATE = [
    *LABELS,
    *LABELS.values(),
    "wombat",
    "walrus",
]  # methods, their labels, ids and objects of items, the file's name
CHECKS = [
    {"id": "koala", "answer": 2, "question": "Please choose {answer} here"},
    {"id": "possum", "video": "narwhal/object0.mp4", "item": "wombat1", "criterion": "motion", "at_most": 2},
]


@pytest.fixture(scope="module", params=["single", "side_by_side"])
def walked(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple]:
    """A served study and everything two raters received on their way through it: (what, headers and body)."""
    folder = prepared_study(
        tmp_path_factory.mktemp("secrets"), items=3, layout=request.param, checks=CHECKS, repeats=1,
        practice=["wombat0"], completion={"redirect": "https://app.prolific.com/submissions/complete?cc={code}"},
    )  # fmt: skip
    with served(folder) as (study, url):
        received: list[tuple[str, bytes]] = []
        media: dict[str, httpx.Response] = {}

        def note(reply: httpx.Response) -> None:
            reply.read()
            lines = [f"{name}: {value}" for name, value in reply.headers.items()]
            received.append((str(reply.request.url), "\n".join(lines).encode() + b"\n\n" + reply.content))

        for external in ({}, {"PROLIFIC_PID": "5f00", "STUDY_ID": "a"}):
            rater = Browserless(url)
            rater.http.event_hooks["response"].append(note)
            for path in (
                "/",
                "/config",
                "/gradio_api/info",
                "/theme.css",
                "/robots.txt",
                "/manifest.json",
                "/gradio_api/app_id",
            ):
                assert rater.http.get(url + path).status_code == 200, path
            rater.begin(**external)
            for index in range(study.service.study.pages):
                page = rater.page()
                assert page["index"] == index
                for name in (page["reference"], *(shown["media"] for shown in page["videos"])):
                    media[name] = rater.http.get(f"{url}/media/{name}")
                sound = rater.submission(page)
                for wrong in ({**sound, "token": "quite wrong"}, {**sound, "scores": {}}, {**sound, "watched_s": 0.0}):
                    assert not rater.answer(wrong)["ok"]
                assert rater.answer(sound)["ok"]
            assert rater.ask("finish", rater.code)["ok"]
            assert rater.ask("join", rater.code, {})["rater"]["phase"] == "done"
            for path in ("/media/nothing.mp4", "/admin", "/gradio_api/file=x", "/gradio_api/call/study_page"):
                rater.http.get(url + path)
            rater.http.post(f"{url}/gradio_api/run/study_answer", content=b"{")
        yield study, received, media


def test_no_method_in_anything_a_rater_receives(walked: tuple) -> None:
    study, received, _ = walked
    assert len(received) > 60
    private = {word.lower().encode() for word in PRIVATE} | {str(study.service.folder).encode()}
    private |= {base64.b64encode(word)[:-3] for word in list(private) if len(word) > 5}
    for what, data in received:
        found = [word for word in private if word in data.lower() or word in data]
        assert not found, (what, found)


def test_nothing_tells_checks_and_repeats_from_other_pages(walked: tuple) -> None:
    study, received, _ = walked
    shown = [data for what, data in received if what.endswith("study_page")]
    assert shown and not any(b'"kind"' in data or b'"repeat' in data or b"attention" in data.lower() for data in shown)
    assert {page["practice"] for page in _pages(study)} == {False, True}
    keys = [frozenset(page) for page in _pages(study)]
    assert len(set(keys)) == 1


def _pages(study: ServedStudy) -> list[dict]:
    code = study.events.join()["rater"]["code"]
    study.events.consent(code)
    pages = []
    for _ in range(study.service.study.pages):
        pages.append(study.events.page(code)["page"])
        assert study.events.answer(code, Browserless("").submission(pages[-1]))["ok"]
    return pages


def test_media_look_alike_from_outside(walked: tuple, tmp_path: Path) -> None:
    _, _, media = walked
    videos = {name: reply for name, reply in media.items() if name.endswith(".mp4")}
    assert len(videos) == 10 and len(media) - len(videos) == 3  # 3 objects x 3 methods and an anchor; references
    assert all(len(name) == 28 and int(name[:24], 16) >= 0 for name in media)
    headers = [{**reply.headers} for reply in videos.values()]
    for changing in ("etag", "content-length", "date"):
        for header in headers:
            header.pop(changing, None)
    assert all(header == headers[0] for header in headers), "a time of change would tell the order of preparation"
    formats, tags = set(), set()
    for name, reply in media.items():
        file = tmp_path / name
        file.write_bytes(reply.content)
        if name.endswith(".png"):
            with Image.open(file) as picture:
                assert picture.size == (64, 64) and not picture.info
            continue
        with av.open(str(file)) as container:
            stream = container.streams.video[0]
            formats.add(
                (stream.width, stream.height, stream.average_rate, stream.frames, stream.pix_fmt, stream.duration)
            )
            tags |= {*container.metadata, *stream.metadata}
    ((*form, _),) = formats
    assert form == [64, 64, 8, 8, "yuv420p"]
    assert tags <= {"major_brand", "minor_version", "compatible_brands", "language", "handler_name", "vendor_id"}


def test_parts_of_a_video_are_served_and_may_be_kept(walked: tuple) -> None:
    _, _, media = walked
    reply = next(reply for name, reply in media.items() if name.endswith(".mp4"))
    part = httpx.get(reply.request.url, headers={"Range": "bytes=10-19"})
    assert part.status_code == 206 and part.content == reply.content[10:20]
    assert reply.headers["content-type"] == "video/mp4" and "immutable" in reply.headers["cache-control"]
    assert reply.headers["referrer-policy"] == "no-referrer" and reply.headers["x-content-type-options"] == "nosniff"


def test_gradios_own_client_calls_the_events(walked: tuple) -> None:
    study, received, _ = walked
    client = Client(received[0][0], verbose=False)
    joined = client.predict(None, {"PROLIFIC_PID": "5f77"}, api_name="/study_join")
    assert joined["ok"] and joined["rater"]["phase"] == "consent"
    assert client.predict(joined["rater"]["code"], api_name="/study_consent")["rater"]["phase"] == "practice"
    page = client.predict(joined["rater"]["code"], None, api_name="/study_page")["page"]
    sent = Browserless("").submission(page)
    assert client.predict(joined["rater"]["code"], sent, False, api_name="/study_answer")["ack"]["next_page"] == 1
    assert study.events.page(joined["rater"]["code"], 0)["page"]["scores"] == sent["scores"]


def test_the_pages_scripts_set_text_and_never_markup() -> None:
    scripts = (REPO / "studio" / "study" / "web").glob("*.js")
    lines = [line for file in scripts for line in file.read_text().splitlines()]
    unsafe = [line for line in lines if "innerHTML" in line or "outerHTML" in line or "insertAdjacentHTML" in line]
    assert len(unsafe) == 1 and "settings.consent" in unsafe[0], "the consent sheet alone, made safe on the server"


def test_raw_html_in_the_consent_sheet_stays_text() -> None:
    from studio.study.rater_page import settings
    from studio.study.schema import StudyFile

    item = {"id": "a", "prompt": "x", "reference": "a.png", "videos": {"m": "a.mp4"}}
    consent = "# Hello\n\n<script>alert(1)</script> <img src=x onerror=alert(1)> [link](javascript:alert(1))"
    study = StudyFile.model_validate({"methods": [{"id": "m"}], "items": [item], "consent": consent})
    html = settings(study)["consent"]
    assert "<h1>Hello</h1>" in html and "<script" not in html and "<img" not in html and "href=" not in html


def test_the_served_study_needs_no_torch() -> None:
    code = "import sys, studio.study.app; print({m for m in sys.modules} & {'torch', 't4d.diffusion', 'diffusers'})"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
