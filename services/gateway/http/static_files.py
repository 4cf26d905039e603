"""The files of the studio page, with their caching and security headers."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.staticfiles import StaticFiles

if TYPE_CHECKING:
    import os

    from fastapi import FastAPI
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp, Receive, Scope, Send

FOLDER = Path(__file__).parents[1] / "static"
_LONG_LIVED = frozenset({".jpg", ".woff2"})  # all other files must fit together, so they are revalidated each time
_WEEK = "public, max-age=604800"
_REVALIDATE = "no-cache"
_SAFETY_HEADERS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
_PAGE_HEADERS = {
    **_SAFETY_HEADERS,
    "Cache-Control": _REVALIDATE,
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
        "font-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}


class CachedFiles(StaticFiles):
    """Static files with an ETag and a Cache-Control header."""

    def file_response(
        self, full_path: str | os.PathLike[str], stat_result: os.stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        """Return the file or 304."""
        response = super().file_response(full_path, stat_result, scope, status_code)
        response.headers["Cache-Control"] = _WEEK if Path(full_path).suffix in _LONG_LIVED else _REVALIDATE
        response.headers.update(_SAFETY_HEADERS)
        return response


class Page:
    """An HTML page as an ASGI app, with a policy that allows only our own files to run."""

    def __init__(self, files: CachedFiles, name: str) -> None:
        self._files = files
        self._name = name

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the page."""
        response = await self._files.get_response(self._name, scope)
        response.headers.update(_PAGE_HEADERS)
        await response(scope, receive, send)


def list_shell(_: Request) -> Response:
    """Return the hashes of the page's own files, for a browser that keeps them. The samples are not among them."""
    files = [path for path in FOLDER.rglob("*") if path.is_file() and FOLDER / "samples" not in path.parents]
    hashes = {f"/static/{path.relative_to(FOLDER).as_posix()}": _hash(path) for path in files}
    return JSONResponse({"/": _hash(FOLDER / "index.html"), **hashes}, headers={"Cache-Control": _REVALIDATE})


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def install(app: FastAPI) -> None:
    """Add the pages and their files to the app; text is compressed, images and fonts are not."""
    files = CachedFiles(directory=FOLDER)
    swagger = CachedFiles(packages=[("fastapi_swagger", "resources")])  # only its files; it is never imported
    app.router.routes.append(Route("/static/shell.json", list_shell))
    app.mount("/static", _compress(files))
    app.mount("/v1/docs/assets", _compress(swagger))
    app.router.routes += [
        Route("/", _compress(Page(files, "index.html"))),
        Route("/v1/docs", _compress(Page(files, "docs.html"))),
        Route("/service-worker.js", _compress(Page(files, "service-worker.js"))),  # its folder is its scope
    ]


def _compress(files: ASGIApp) -> ASGIApp:
    return GZipMiddleware(files, minimum_size=1024, compresslevel=6)
