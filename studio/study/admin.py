"""The administrator's view at ``/admin``: plain pages behind a password, apart from everything a rater loads.

It is no part of the Gradio page: whatever Gradio knows of a page can be read by every rater at ``/config``.
"""

import hashlib
import hmac
import os
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qs

from anyio.to_thread import run_sync
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from studio.study import admin_page, export
from studio.study.limits import Budget, RefusalLog
from studio.study.service import StudyService
from t4d.errors import InputError

PASSWORD = "T4D_STUDY_ADMIN"
MIN_LENGTH = 12
GUESSES = 5
GUESS_WINDOW_S = 300.0
SESSION_S = 8 * 3600.0
COOKIE = "t4d_study_admin"
_SAFE = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'",
}


def routes(service: StudyService, log: RefusalLog, password: str | None = None) -> list[Route]:
    """The routes of the administrator's view; none where there is no password.

    Args:
        service: the study.
        log: told about wrong guesses.
        password: ``$T4D_STUDY_ADMIN`` where not given.

    Raises:
        InputError: the password has under 12 characters.
    """
    password = os.environ.get(PASSWORD, "") if password is None else password
    if not password:
        return []
    if len(password) < MIN_LENGTH:
        raise InputError(
            f"${PASSWORD} has {len(password)} characters; use at least {MIN_LENGTH}, or unset it to switch the "
            "administrator's view off."
        )
    return Admin(service, log, password).routes()


class Admin:
    """The view of one study.

    Args:
        service: the study.
        log: told about wrong guesses.
        password: what opens it.
        clock: seconds, never going back.
    """

    def __init__(
        self, service: StudyService, log: RefusalLog, password: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.service, self.log, self._clock = service, log, clock
        self._digest = _digest(password)
        self._guesses = Budget(GUESSES, GUESS_WINDOW_S, clock)
        self._sessions: dict[str, float] = {}  # digest of the cookie -> end

    def routes(self) -> list[Route]:
        """``/admin`` and what it links to."""
        files = {
            "long.csv": lambda: export.to_csv(self.service.rows()),
            "wide.csv": lambda: export.to_csv(
                export.wide_rows(self.service.rows(), self.service.study), ("rater", "item")
            ),
            "study.json": lambda: export.to_json(
                self.service.rows(), self.service.study, self.service.counts()["refused"]
            ),
        }
        return [
            Route("/admin", self._guarded(self._show), methods=["GET"]),
            Route("/admin/login", self.login, methods=["POST"]),
            Route("/admin/logout", self.logout, methods=["POST"]),
            *(
                Route(f"/admin/{name}", self._guarded(_text(name, make)), methods=["GET"])
                for name, make in files.items()
            ),
            Route("/admin/backup.db", self._guarded(self._backup), methods=["GET"]),
        ]

    async def login(self, request: Request) -> Response:
        """Opens a session for the right password; five wrong ones in five minutes, from anywhere, close the door."""
        body = (await request.body()).decode("utf-8", "replace")
        given = parse_qs(body).get("password", [""])[0]
        # The budget is charged before the comparison: guesses sent all at once must not outrun it.
        if not self._guesses.take():
            await run_sync(self._refuse, "too many guesses of the administrator's password")
            return self._locked(429, f"Too many wrong passwords; try again in {self._guesses.wait_s:.0f} s.")
        if not hmac.compare_digest(_digest(given), self._digest):
            await run_sync(self._refuse, "wrong administrator's password")
            return self._locked(401, "That is not the password.")
        self._guesses.give_back()
        cookie = secrets.token_urlsafe(32)
        now = self._clock()
        self._sessions = {key: end for key, end in self._sessions.items() if end > now}
        self._sessions[_digest(cookie).hex()] = now + SESSION_S
        answer = RedirectResponse("../admin", status_code=303)
        secure = request.url.scheme == "https" or request.headers.get("x-forwarded-proto") == "https"
        answer.set_cookie(
            COOKIE, cookie, max_age=int(SESSION_S), httponly=True, samesite="strict", secure=secure, path="/"
        )
        return answer

    async def logout(self, request: Request) -> Response:
        """Ends the session."""
        self._sessions.pop(_digest(request.cookies.get(COOKIE, "")).hex(), None)
        answer = RedirectResponse("../admin", status_code=303)
        answer.delete_cookie(COOKIE, httponly=True, samesite="strict")
        return answer

    def _guarded(self, show: Callable[[], Response]) -> Callable:
        async def endpoint(request: Request) -> Response:
            cookie = _digest(request.cookies.get(COOKIE, "")).hex()
            if self._sessions.get(cookie, 0.0) <= self._clock():
                if request.url.path.rstrip("/").endswith("/admin"):
                    return self._locked(200, "")
                await run_sync(self._refuse, "a file of the administrator's view without its password")
                return JSONResponse({"error": "Sign in at /admin first."}, status_code=401, headers=_SAFE)
            try:
                return await run_sync(show)
            except InputError as error:
                return HTMLResponse(admin_page.problem(str(error)), status_code=503, headers=_SAFE)

        return endpoint

    def _show(self) -> Response:
        page = admin_page.dashboard(self.service.study, self.service.counts(), self.service.flags())
        return HTMLResponse(page, headers=_SAFE)

    def _backup(self) -> Response:
        made: Path = self.service.backup()
        return FileResponse(made, filename=made.name, headers={"cache-control": "no-store"})

    def _locked(self, status: int, sentence: str) -> Response:
        page = admin_page.login(sentence, base="../" if sentence else "")
        return HTMLResponse(page, status_code=status, headers=_SAFE)

    def _refuse(self, what: str) -> None:
        self.log.refused("admin", what)
        self.service.refused("admin", what)


def _text(name: str, make: Callable[[], str]) -> Callable[[], Response]:
    def download() -> Response:
        kind = "text/csv; charset=utf-8" if name.endswith(".csv") else "application/json"
        return Response(
            make(), media_type=kind, headers={**_SAFE, "content-disposition": f'attachment; filename="{name}"'}
        )

    return download


def _digest(text: str) -> bytes:
    # compare_digest tells the lengths of its arguments apart; digests all have one.
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
