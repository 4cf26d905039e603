"""The demo reaches the system on this machine."""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import sys
import threading

CALL = "import sys; from services.demo import Api; print(Api(sys.argv[1]).post('/api/smart-mask', {}))"


class Echo(http.server.BaseHTTPRequestHandler):
    """Answers each POST with its path."""

    def do_POST(self) -> None:
        """Answer."""
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({"path": self.path}).encode())

    def log_message(self, *_: object) -> None:
        """Be silent."""


def test_a_proxy_of_the_environment_is_not_asked_for_this_machine() -> None:
    """It could not reach it: here nobody listens at its address."""
    with http.server.HTTPServer(("127.0.0.1", 0), Echo) as server:
        threading.Thread(target=server.serve_forever, name="echo", daemon=True).start()
        environment = {
            **os.environ,
            "http_proxy": "http://127.0.0.1:9",
            "HTTP_PROXY": "http://127.0.0.1:9",
            "no_proxy": "",
        }
        called = subprocess.run(
            [sys.executable, "-c", CALL, f"http://127.0.0.1:{server.server_address[1]}"],
            env=environment, capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        server.shutdown()

    assert called.stdout.strip() == "{'path': '/api/smart-mask'}", called.stderr
