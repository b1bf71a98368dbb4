"""A pod for tests: a small HTTP server whose health can be switched, and that shows what it was given.

GET /health answers 200, or 503 after POST /sick (until POST /well); GET /env and /args show environment and arguments; GET /read?path=
shows a file below the directories that its environment names; POST /exit?code=N ends it. With ``--ignore-sigterm`` only SIGKILL does.
"""

import argparse
import json
import os
import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar
from urllib.parse import parse_qs, urlsplit


class Handler(BaseHTTPRequestHandler):
    """One request."""

    healthy: ClassVar[bool] = True

    def do_GET(self) -> None:
        """Answer a question."""
        url = urlsplit(self.path)
        query = parse_qs(url.query)
        if url.path == "/health":
            self._answer(200 if Handler.healthy else 503, {"healthy": Handler.healthy})
        elif url.path == "/env":
            self._answer(200, dict(os.environ))
        elif url.path == "/args":
            self._answer(200, sys.argv[1:])
        elif url.path == "/read":
            self._answer(200, Path(query["path"][0]).read_text())
        else:
            self._answer(404, {"paths": ["/health", "/env", "/args", "/read?path="]})

    def do_POST(self) -> None:
        """Do what is asked."""
        url = urlsplit(self.path)
        if url.path in ("/sick", "/well"):
            Handler.healthy = url.path == "/well"
            self._answer(200, {"healthy": Handler.healthy})
        elif url.path == "/exit":
            self._answer(200, {})
            os._exit(int(parse_qs(url.query).get("code", ["0"])[0]))
        else:
            self._answer(404, {"paths": ["/sick", "/well", "/exit?code="]})

    def _answer(self, status: int, body: object) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """One line per request, to standard output."""
        print(format % args, flush=True)


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m sandbox.processnode.testpod")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--ignore-sigterm", action="store_true")
    parser.add_argument("--exit", type=int, help="print a line and end at once with this code")
    known, _ = parser.parse_known_args()
    if known.exit is not None:
        print(f"ending with {known.exit}", flush=True)
        return int(known.exit)
    server = ThreadingHTTPServer((known.host, known.port), Handler)

    def stop(number: int, frame: object) -> None:
        print(f"got signal {number}", flush=True)
        if not known.ignore_sigterm:
            threading.Thread(target=server.shutdown).start()

    signal.signal(signal.SIGTERM, stop)
    print(f"serving on {known.host}:{known.port}", flush=True)
    server.serve_forever(poll_interval=0.05)
    return 0


if __name__ == "__main__":
    sys.exit(main())
