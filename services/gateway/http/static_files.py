"""The files of the studio page, and what a browser must be told with each of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from starlette.middleware.gzip import GZipMiddleware
from starlette.routing import Route
from starlette.staticfiles import StaticFiles

if TYPE_CHECKING:
    import os

    from fastapi import FastAPI
    from starlette.responses import Response
    from starlette.types import ASGIApp, Receive, Scope, Send

FOLDER = Path(__file__).parents[1] / "static"
_LASTING = frozenset({".jpg", ".woff2"})  # the rest belongs together, so it is asked for again each time
_WEEK = "public, max-age=604800"
_EACH_TIME = "no-cache"
_SAFE = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
_PAGE = {
    **_SAFE,
    "Cache-Control": _EACH_TIME,
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
        "font-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}


class Files(StaticFiles):
    """Files with an ETag, and with word of how long a browser may use them without asking."""

    def file_response(
        self, full_path: str | os.PathLike[str], stat_result: os.stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        """Answer with a file, or with 304."""
        answer = super().file_response(full_path, stat_result, scope, status_code)
        answer.headers["Cache-Control"] = _WEEK if Path(full_path).suffix in _LASTING else _EACH_TIME
        answer.headers.update(_SAFE)
        return answer


class Page:
    """One of our HTML pages, as an ASGI app, under a policy that lets it run nothing but our own files."""

    def __init__(self, files: Files, name: str) -> None:
        self._files = files
        self._name = name

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        answer = await self._files.get_response(self._name, scope)
        answer.headers.update(_PAGE)
        await answer(scope, receive, send)


def install(app: FastAPI) -> None:
    """Add the pages and their files; text goes out compressed, pictures and fonts as they are."""
    files = Files(directory=FOLDER)
    swagger = Files(packages=[("fastapi_swagger", "resources")])  # the package carries it, and is never imported
    app.mount("/static", _compressed(files))
    app.mount("/v1/docs/assets", _compressed(swagger))
    app.router.routes += [
        Route("/", _compressed(Page(files, "index.html"))),
        Route("/v1/docs", _compressed(Page(files, "docs.html"))),
    ]


def _compressed(files: ASGIApp) -> ASGIApp:
    return GZipMiddleware(files, minimum_size=1024, compresslevel=6)
