"""What the study's server answers at all: a short list of addresses, small bodies, and headers that keep secrets."""

import re
from collections.abc import Collection
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from studio.study.limits import RefusalLog

MAX_BODY = 64 * 2**10
TOO_LARGE = "The request is larger than 64 KB; shorten the comment."
_READ = re.compile(
    r"/(?:|config/?|theme\.css|favicon\.ico|robots\.txt|manifest\.json|pwa_icon(?:/\d+)?"
    r"|(?:assets|static|svelte)/[\w./@+-]+|media/[\w.-]+|admin(?:/[\w.-]+)?"
    r"|gradio_api/(?:info/?|app_id/?|theme\.css|startup-events|queue/(?:data|status)|heartbeat/\w+"
    r"|call/study_\w+/\w+))"
)
_WRITE = re.compile(r"/(?:gradio_api/(?:(?:run|api|call)/(?:v2/)?study_\w+|queue/join)/?|admin/(?:login|logout))")
_HEADERS = {
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",  # a resume code in the address must not travel to the completion page's host
    b"x-robots-tag": b"noindex, nofollow",
    b"permissions-policy": b"camera=(), microphone=(), geolocation=()",
}


class Gate:
    """ASGI middleware: anything but the study's own addresses is 404, a body over 64 KB is 413.

    Gradio brings routes for uploads, files, proxies, streams and runs; a study needs none of them.

    Args:
        app: the application behind it.
        log: told about every refused request.
    """

    def __init__(self, app: ASGIApp, log: RefusalLog) -> None:
        self.app, self.log = app, log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        path, method = scope["path"], scope["method"]
        root = scope.get("root_path", "")
        inner = path[len(root) :] if root and path.startswith(root) else path
        allowed = _READ if method in ("GET", "HEAD") else _WRITE if method == "POST" else None
        if allowed is None or ".." in inner or not allowed.fullmatch(inner):
            self.log.refused("address", f"{method} {path}")
            await _json(404, "There is no such page in this study.")(scope, receive, send)
            return
        try:
            await self.app(scope, self._measured(scope, receive), self._with_headers(send))
        except _TooLarge:  # outside of FastAPI's own handling of exceptions
            await _json(413, TOO_LARGE)(scope, receive, send)

    def _measured(self, scope: Scope, receive: Receive) -> Receive:
        def too_large() -> _TooLarge:
            self.log.refused("size", f"{scope['method']} {scope['path']}")
            return _TooLarge()

        stated = dict(scope["headers"]).get(b"content-length", b"0")
        if not stated.isdigit() or int(stated) > MAX_BODY:
            raise too_large()
        seen = 0

        async def measured() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > MAX_BODY:  # a chunked body states no length
                raise too_large()
            return message

        return measured

    def _with_headers(self, send: Send) -> Send:
        async def extended(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *_HEADERS.items()]
            await send(message)

        return extended


class _TooLarge(HTTPException):
    # FastAPI passes an HTTPException of its body parser on as it is and hides every other kind behind a 400.
    def __init__(self) -> None:
        super().__init__(413, TOO_LARGE)


def media_route(folder: Path, names: Collection[str]) -> Route:
    """The route ``/media/NAME``: the files ``names`` of ``folder``, and nothing else.

    Times of change are left out of the answer: files prepared one method after the other would tell the method.
    """

    allowed = frozenset(names)

    def serve(request: Request) -> Response:
        name = request.path_params["name"]
        file = folder / name
        if name not in allowed or not file.is_file():
            return _json(404, "There is no such file in this study.")
        constant = {
            "etag": f'"{name}"',
            "last-modified": "Thu, 01 Jan 1970 00:00:00 GMT",
            "cache-control": "private, max-age=86400, immutable",
        }
        return FileResponse(file, headers=constant)

    return Route("/media/{name}", serve, methods=["GET", "HEAD"])


def _json(status: int, sentence: str) -> JSONResponse:
    return JSONResponse({"error": sentence}, status_code=status, headers={"cache-control": "no-store"})
