"""A model hub on this machine, as far as `huggingface_hub` asks one: it can break off, stall, and serve other bytes."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

COMMIT = "a" * 40


class Hub:
    """Repositories by name, each a dictionary of files, in one commit."""

    def __init__(self, repositories: dict[str, dict[str, bytes]]) -> None:
        self.repositories = repositories
        self.asked: list[str] = []
        """What was asked for: the method, the path, and the range of bytes if one was given."""
        self.break_after: int | None = None
        """Bytes of the next file, after which the connection is lost."""
        self.lost: set[str] = set()
        """Files that cannot be had at the moment."""
        self.claimed_sizes: dict[str, int] = {}
        """The sizes of files that the description gives in the place of the true ones."""
        self.half_sent, self.go_on = threading.Event(), threading.Event()
        """Set after the first half of `slow`; waited for before the second."""
        self.slow: str | None = None
        """The file that is sent in two halves."""
        self.url = ""

    def send(self, name: str, data: bytes, write: Callable[[bytes], object]) -> None:
        """Write a file, the slow one in two halves."""
        if name == self.slow:
            self.slow = None
            write(data[: len(data) // 2])
            self.half_sent.set()
            self.go_on.wait(30)
            data = data[len(data) // 2 :]
        write(data)


def _answers(hub: Hub) -> type[BaseHTTPRequestHandler]:  # noqa: C901 (a class)
    class Answers(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            """Print no line for each request."""

        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def _answer(self, *, with_body: bool) -> None:
            hub.asked.append(" ".join(filter(None, (self.command, self.path, self.headers.get("Range")))))
            about = re.match(r"/api/models/([^/]+/[^/]+)/(revision|tree)/", self.path)
            file = re.match(r"/([^/]+/[^/]+)/resolve/[^/]+/(.+)", self.path)
            if about and about[1] in hub.repositories:
                described = _describe(about[1], about[2], hub.repositories[about[1]], hub.claimed_sizes)
                self._send(json.dumps(described).encode(), with_body)
            elif file and file[2] in hub.repositories.get(file[1], {}).keys() - hub.lost:
                self._send_file(file[2], hub.repositories[file[1]][file[2]], with_body)
            else:
                self._send(b"{}", with_body, status=404)

        def _send(self, data: bytes, with_body: bool, status: int = 200) -> None:  # noqa: FBT001
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            if with_body:
                self.wfile.write(data)

        def _send_file(self, name: str, data: bytes, with_body: bool) -> None:  # noqa: FBT001
            start = int((self.headers.get("Range") or "bytes=0-")[6:].partition("-")[0])
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(data) - start))
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
            self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.end_headers()
            if with_body:
                cut, hub.break_after = hub.break_after, None
                with suppress(ConnectionError):
                    hub.send(name, data[start:] if cut is None else data[start : start + cut], self.wfile.write)
                self.close_connection = True

    return Answers


def _describe(name: str, what: str, files: dict[str, bytes], claimed: dict[str, int]) -> object:
    if what == "tree":
        return [
            {"type": "file", "path": path, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}  # noqa: S324
            for path, data in files.items()
        ]
    siblings = [{"rfilename": path, "size": claimed.get(path, len(data))} for path, data in files.items()]
    return {"_id": "1", "id": name, "modelId": name, "sha": COMMIT, "private": False, "tags": [], "downloads": 0,
            "likes": 0, "siblings": siblings}  # fmt: skip


@contextmanager
def running_hub(repositories: dict[str, dict[str, bytes]]) -> Iterator[Hub]:
    """Serve on a free port of this machine."""
    hub = Hub(repositories)
    with ThreadingHTTPServer(("127.0.0.1", 0), _answers(hub)) as server:
        hub.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, name="hub")
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()
