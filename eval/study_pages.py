"""Photographs of every page a rater sees, on a desktop and on a phone: ``python -m eval.study_pages --out FOLDER``.

A small study of drawn videos is prepared and served by the study's own commands, and walked in headless Chromium, at
1280 x 800 and at 390 x 844 CSS pixels: information and consent, practice, a page half answered, the same page asked to
go on too early, a server that does not answer, the end with its code, and the administrator's login. Whole pages are
photographed, not only what fits the screen; look at them. Needs ``requirements-dev.txt`` and a Chromium.
"""

import argparse
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

import yaml
from playwright.sync_api import TimeoutError, sync_playwright

from eval.study_load_server import Server
from eval.study_load_study import make_sources, prepare

SIZES = {"desktop": (1280, 800), "phone": (390, 844)}
PATIENCE_MS = 120_000
PASSWORD = "photographs-only"


def study_of(root: Path) -> Path:
    """A study of two objects and two methods with a practice page, all texts and a completion code; its folder."""
    (root / "source").mkdir()
    source = make_sources(root / "source", objects=2, methods=2, checks=0, repeats=0)
    study = yaml.safe_load(source.read_text())
    study |= {"title": "How well do these objects move?", "contact": "lab@example.org", "comments": True}
    study |= {"completion": {"code": "C0DE42"}, "back": True}
    source.write_text(yaml.safe_dump(study, sort_keys=False))
    prepare(source, root / "study")
    return root / "study"


class Camera:
    """Numbers and writes the photographs of one screen size."""

    def __init__(self, page: Any, folder: Path, size: str) -> None:
        self.page, self.folder, self.size, self.taken = page, folder, size, 0

    def take(self, name: str) -> None:
        self.taken += 1
        path = self.folder / f"{self.size}_{self.taken}_{name}.png"
        self.page.screenshot(path=path, full_page=True)
        print(path)


def walk(page: Any, server: Server, camera: Camera) -> None:
    """One rater from the information to the code."""
    page.goto(server.url)
    page.locator("#study-agree").wait_for()
    camera.take("information")
    page.locator("#study-agree").check()
    page.get_by_role("button", name="Start").click()
    count = page.locator(".study-count")
    on(page, 1)
    total = int(re.findall(r"\d+", count.inner_text())[-1])
    camera.take("practice")
    for number in range(1, total + 1):
        on(page, number)
        page.keyboard.press("4")
        page.keyboard.press("2")
        if number == 2:
            page.keyboard.press("Enter")
            page.locator(".study-row.missing").first.wait_for()
            camera.take("rows_missing")
            server.kill()
            page.keyboard.press("3")
            page.locator(".study-saved", has_text=re.compile("no connection")).wait_for()
            camera.take("no_connection")
            server.start()
            server.wait()
            page.keyboard.press("5")
        else:
            page.keyboard.press("3")
            page.keyboard.press("5")
        if number == 3:
            page.locator(".study-later summary").click()
            camera.take("answered_with_resume_code")
            page.locator("h2").first.click()  # away from what Enter would fold
        leave(page, number)
    page.locator("#study-completion").wait_for()
    camera.take("end")
    page.goto(f"{server.url}/admin")
    page.wait_for_load_state("networkidle")
    camera.take("admin_login")


def on(page: Any, number: int) -> None:
    """Waits for page `number`, from 1, with its videos."""
    page.locator(".study-count", has_text=re.compile(f"^Page {number} of ")).wait_for()
    page.wait_for_function("[...document.querySelectorAll('video')].every(video => video.readyState >= 2)")


def leave(page: Any, number: int) -> None:
    """Presses Enter until page `number` is left: it stays until the video was watched for long enough."""
    for _ in range(PATIENCE_MS // 1000):
        page.keyboard.press("Enter")
        try:
            page.wait_for_function(
                "number => document.querySelector('#study-completion')"
                " || !document.querySelector('.study-count')?.textContent.startsWith(`Page ${number} of`)",
                arg=number,
                timeout=1000,
            )
            return
        except TimeoutError:
            continue
    raise RuntimeError(f"Page {number} is not left; it says: {page.locator('.study-note').inner_text()}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    binary = os.environ.get("CHROMIUM") or shutil.which("chromium")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        root = Path(folder)
        environment = {"T4D_STUDY_ADMIN": PASSWORD}
        with Server(study_of(root), root / "server.log", environment=environment) as server:
            browser = playwright.chromium.launch(executable_path=binary, args=["--no-sandbox"])
            for size, (width, height) in SIZES.items():
                page = browser.new_context(viewport={"width": width, "height": height}).new_page()
                page.set_default_timeout(PATIENCE_MS)
                walk(page, server, Camera(page, args.out, size))
            browser.close()


if __name__ == "__main__":
    main()
