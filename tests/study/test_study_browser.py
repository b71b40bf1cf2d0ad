"""The rater's page in Chromium: by keyboard, through a reload and a lost server, on a phone, on two devices."""

import json
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest
from browser_fixture import Chromium, WatchedPage
from study_serving import LABELS, prepared_study

from eval.study_load_server import Server
from studio.study.service import StudyService

pytestmark = pytest.mark.browser
START_MS, STEP_MS = 180_000, 60_000  # for a machine with other work
AWAY_S = 10.0
LOST = re.compile("Failed to load resource|net::ERR")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("browser")
    folder = prepared_study(root, items=2, comments=True, completion={"code": "C0DE42"}, contact="lab@example.org")
    with Server(folder, root / "server.log") as server:
        yield server


class RaterPage:
    """A rater's browser page, and every word it received."""

    def __init__(self, chromium: Chromium, url: str, width: int = 1280, height: int = 800) -> None:
        self.watched: WatchedPage = chromium.open(width=width, height=height)
        self.page: Any = self.watched.page
        self.page.set_default_timeout(STEP_MS)
        self.received: list[tuple[str, str, bytes]] = []
        self.page.on("response", self._note)
        self.page.goto(url)

    def _note(self, response: Any) -> None:
        headers = json.dumps(response.headers)
        try:
            body = b"" if "/assets/" in response.url or "/media/" in response.url else response.body()
        except Exception:  # the page was left before the body was asked for
            body = b""
        self.received.append((response.url, headers, body))

    def agree(self) -> None:
        """By keyboard alone."""
        self.page.locator("#study-agree").wait_for(timeout=START_MS)
        self.press("Tab", "Space", "Tab", "Enter")
        self.on(1)

    def on(self, number: int) -> None:
        """Waits for page `number`, from 1."""
        self.page.locator(".study-count", has_text=re.compile(f"^Page {number} of ")).wait_for()
        self.page.locator(".study-page").wait_for()

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def says(self, text: str, where: str = ".study-saved") -> None:
        self.page.locator(where, has_text=re.compile(text)).wait_for()

    def watch(self) -> None:
        """Until nothing but the keys is missing."""
        self.page.wait_for_function("!document.querySelector('.study-note').textContent.includes('watch')")

    @property
    def scores(self) -> list[str]:
        """The chosen level of every row of the page; '' where none is."""
        return self.page.locator(".study-row").evaluate_all(
            "rows => rows.map(row => row.querySelector('input:checked')?.value ?? '')"
        )


def stored(server: Server) -> list[list[int]]:
    """The submitted pages of the newest rater with scores, in their order, each with its scores by row."""
    service = StudyService(server.folder)
    rows = service.rows()
    service.close()
    newest = rows[-1]["rater"]
    pages: dict[int, list[int]] = {}
    for row in (row for row in rows if row["rater"] == newest):
        pages.setdefault(row["page"], []).append(row["score"])
    return [pages[index] for index in sorted(pages)]


@pytest.mark.slow
def test_by_keyboard_through_a_reload_and_a_lost_server(chromium: Chromium, server: Server) -> None:
    rater = RaterPage(chromium, server.url)
    page = rater.page
    rater.agree()
    assert page.locator("blockquote").inner_text().startswith("The creature <b>")

    rater.press("1", "2", "Enter")  # two rows are missing: the page stays and says so
    rater.says("2 rows need a score", ".study-note")
    assert page.locator(".study-row.missing").count() == 2
    rater.press("ArrowUp", "ArrowUp", "ArrowUp", "5", "2", "3", "4")
    rater.watch()
    rater.press("Enter")
    rater.on(2)

    rater.press("3", "3")
    rater.says("All answers saved")
    page.reload()
    rater.on(2)
    assert rater.scores == ["3", "3", "", ""]
    rater.press("1", "2")
    rater.watch()
    rater.press("Enter")
    rater.on(3)

    rater.press("4")
    rater.says("All answers saved")
    server.kill()
    gone = time.monotonic()
    rater.press("4", "1", "1")
    page.locator("#study-comment").fill("typed while the server was away")
    rater.says("no connection.*kept on this device")
    page.locator("h2").click()
    rater.watch()
    rater.press("Enter")
    time.sleep(max(0.0, AWAY_S - (time.monotonic() - gone)))
    rater.on(3)
    assert rater.scores == ["4", "4", "1", "1"]
    server.start()
    server.wait()
    assert time.monotonic() - gone > AWAY_S
    rater.on(4)  # the waiting answer was sent by itself

    server.kill()
    rater.press("2", "3")
    rater.says("no connection.*kept on this device")
    page.goto("about:blank")  # the browser is closed while nothing could be sent
    server.start()
    server.wait()
    page.goto(server.url)
    rater.on(4)
    assert rater.scores == ["2", "3", "", ""]
    rater.press("5", "5")
    rater.watch()
    rater.press("Enter")
    for number in (5, 6):
        rater.on(number)
        rater.press("1", "2", "3", "4")
        rater.watch()
        rater.press("Enter")
    page.locator("#study-completion", has_text="C0DE42").wait_for()
    page.reload()
    page.locator("#study-completion", has_text="C0DE42").wait_for()

    assert stored(server) == [[5, 2, 3, 4], [3, 3, 1, 2], [4, 4, 1, 1], [2, 3, 5, 5], [1, 2, 3, 4], [1, 2, 3, 4]]
    service = StudyService(server.folder)
    assert {row["comment"] for row in service.rows() if row["page"] == 2} == {"typed while the server was away"}
    service.close()
    rater.received.append((page.url, "", page.content().encode()))
    private = [word.lower().encode() for word in (*LABELS, *LABELS.values(), "wombat", str(server.folder))]
    assert len(rater.received) > 30
    for what, headers, body in rater.received:
        data = f"{what}\n{headers}\n".encode() + body
        assert not [word for word in private if word in data.lower()], what
    assert rater.watched.foreign == []
    assert [error for error in rater.watched.errors if not LOST.search(error)] == []


def test_goes_on_with_the_code_on_another_device_and_by_link(chromium: Chromium, server: Server) -> None:
    first = RaterPage(chromium, f"{server.url}/?PROLIFIC_PID=5f3c&STUDY_ID=9")
    first.agree()
    first.press("2", "2", "2")
    first.says("All answers saved")
    first.page.locator(".study-later summary").click()
    code = first.page.locator(".study-code code").inner_text()
    second = RaterPage(chromium, server.url, 390, 844)
    second.page.locator("#study-agree").wait_for(timeout=START_MS)
    second.page.locator(".study-resume summary").click()
    second.page.fill("#study-code", f"  {code.upper()} ")
    second.page.get_by_role("button", name="Continue").click()
    second.on(1)
    assert second.scores == ["2", "2", "2", ""]
    by_link = RaterPage(chromium, f"{server.url}/#resume={code}")
    by_link.on(1)
    assert by_link.scores == ["2", "2", "2", ""] and "resume" not in by_link.page.url
    assert not any(code in url for url, _, _ in by_link.received), "the code is part of no address"
    same_person = RaterPage(chromium, f"{server.url}/?PROLIFIC_PID=5f3c&STUDY_ID=9")
    same_person.agree()
    assert same_person.scores == ["2", "2", "2", ""]
    preview = RaterPage(chromium, f"{server.url}/?assignmentId=ASSIGNMENT_ID_NOT_AVAILABLE&hitId=3")
    preview.says("accept the task first", ".study-problem")
    assert preview.page.get_by_role("button", name="Start").count() == 0
    wrong = RaterPage(chromium, f"{server.url}/#resume=00000-00000-00000-00000")
    wrong.says("not known", "[role=alert]")
    wrong.page.get_by_role("button", name="Start without a code").click()
    wrong.page.locator("#study-agree").wait_for()


def test_two_tabs_of_one_browser_hand_over(chromium: Chromium, server: Server) -> None:
    first = RaterPage(chromium, server.url)
    first.agree()
    first.press("1", "2")
    first.says("All answers saved")
    page = first.page.context.new_page()
    page.goto(server.url)
    page.locator(".study-page").wait_for(timeout=START_MS)
    first.says("another tab", "h1")
    page.keyboard.press("3")
    page.locator(".study-saved", has_text="All answers saved").wait_for()
    first.page.get_by_role("button", name="Continue here instead").click()
    first.on(1)
    assert first.scores == ["1", "2", "3", ""]


def test_of_two_devices_the_later_change_counts_whichever_arrives_first(chromium: Chromium, server: Server) -> None:
    first = RaterPage(chromium, server.url)
    first.agree()
    first.press("1")
    first.says("All answers saved")
    first.page.locator(".study-later summary").click()
    code = first.page.locator(".study-code code").inner_text()
    second = RaterPage(chromium, f"{server.url}/#resume={code}", 390, 844)
    second.on(1)
    first.page.context.set_offline(True)
    first.page.locator("h2").click()
    first.press("ArrowUp", "ArrowUp", "ArrowUp", "1", "1", "1", "1", *["2"] * 9)  # many changes
    first.says("no connection.*kept on this device")
    assert first.scores == ["1", "1", "1", "2"]
    second.press("ArrowUp", "5", "5", "5", "5")
    second.watch()
    second.press("Enter")
    second.on(2)
    first.page.context.set_offline(False)
    first.says("All answers saved")
    assert stored(server) == [[5, 5, 5, 5]]


def test_what_is_pressed_while_a_page_is_being_sent_is_not_shown(chromium: Chromium, server: Server) -> None:
    rater = RaterPage(chromium, server.url)
    rater.agree()
    rater.press("1", "2", "3", "4")
    rater.watch()
    rater.page.context.set_offline(True)
    rater.press("Enter")
    rater.says("no connection.*kept on this device")
    rater.press("5", "ArrowUp", "5")
    rater.page.locator(".study-row input[value='5']").first.click(force=True)
    assert rater.scores == ["1", "2", "3", "4"], "what is seen is what is stored"
    rater.page.context.set_offline(False)
    rater.on(2)
    assert stored(server) == [[1, 2, 3, 4]]


def test_a_comment_is_kept_when_the_page_is_left_at_once(chromium: Chromium, server: Server) -> None:
    rater = RaterPage(chromium, server.url)
    rater.agree()
    rater.press("1", "2", "3", "4")
    rater.watch()
    rater.press("Enter")
    rater.on(2)
    rater.page.evaluate(
        """() => {
            const comment = document.querySelector("#study-comment");
            comment.value = "said in haste";
            comment.dispatchEvent(new Event("input"));
            document.querySelector(".study-back").click();
        }"""
    )
    rater.on(1)
    rater.says("All answers saved")
    rater.press("Enter")
    rater.on(2)
    assert rater.page.locator("#study-comment").input_value() == "said in haste"


def test_on_a_phone_by_touch_and_for_a_screen_reader(chromium: Chromium, server: Server) -> None:
    rater = RaterPage(chromium, server.url, 390, 844)
    page = rater.page
    page.get_by_label("I have read this and agree to take part").check(timeout=START_MS)
    page.get_by_role("button", name="Start").click()
    rater.on(1)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.locator("fieldset").count() == 4
    names = ["reference image", "the text", "Visual quality", "Motion"]
    for index, name in enumerate(names):
        group = page.get_by_role("group", name=re.compile(name))
        levels = group.get_by_role("radio")
        assert levels.count() == 5
        box = levels.nth(3).bounding_box()
        assert box["width"] >= 44 and box["height"] >= 44, "a finger's width"
        group.get_by_role("radio", name=re.compile(f"^{index + 1}, ")).check()
    assert rater.scores == ["1", "2", "3", "4"]
    assert page.get_by_role("img", name="Reference image of the object").count() == 1
    assert page.get_by_role("button", name=re.compile("^(Play|Pause) Result 1")).count() == 1
    bar = page.get_by_role("button", name="Next").bounding_box()
    assert bar["y"] + bar["height"] <= 844 and bar["height"] >= 40, "always in sight"
    rater.watch()
    page.get_by_role("button", name="Next").click()
    rater.on(2)
    page.get_by_role("button", name="Back").click()
    rater.on(1)
    assert rater.scores == ["1", "2", "3", "4"]
    assert rater.watched.foreign == [] and rater.watched.errors == []
