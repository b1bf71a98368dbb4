"""The load generator of the scenarios: whoever is refused, cut off or answered with too little is in its log, and so is everybody else."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from polyfleet.loadtest.workload import Lengths

from tests.e2e.traffic import Traffic

EACH = 4  # every fourth request ends well, is cut, is refused, gets a token too few


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.lock, self.count, self.enough = threading.Lock(), 0, threading.Event()

    def turn(self) -> int:
        with self.lock:
            self.count += 1
            if self.count >= 3 * EACH:
                self.enough.set()
            return (self.count - 1) % EACH


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert isinstance(self.server, _Server)
        turn = self.server.turn()
        if turn == 2:
            self.send_error(503)
            return
        usage = {"prompt_tokens": 3, "completion_tokens": body["max_tokens"] - (turn == 3)}
        events = ['{"choices":[{"text":"a"}]}', json.dumps({"choices": [], "usage": usage}), "[DONE]"]
        data = "".join(f"data: {each}\n\n" for each in events).encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[:40] if turn == 1 else data)
        self.close_connection = turn == 1

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[_Server]:
    with _Server() as found:
        thread = threading.Thread(target=found.serve_forever, args=(0.01,))
        thread.start()
        yield found
        found.shutdown()
        thread.join()


def test_every_request_is_in_the_log_with_its_outcome(server: _Server, tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    with Traffic(f"http://127.0.0.1:{server.server_port}", "m", Lengths(8, 8), seed=1, log=log) as load:
        load.rate(200.0)
        assert server.enough.wait(30)
        load.rate(0)
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    assert sorted(row["index"] for row in rows) == list(range(server.count))
    kinds = Counter("few" if " tokens" in row["error"] else row["error"] for row in rows)
    well, cut, refused, few = ((server.count - turn + EACH - 1) // EACH for turn in range(EACH))
    assert kinds == {"": well, "connection lost": cut, "HTTP 503": refused, "few": few}
    assert len(load.failed) == cut + refused + few


def test_a_load_goes_to_this_machine_only() -> None:
    with pytest.raises(AssertionError, match="a door of the sandbox only"):
        Traffic("http://example.org", "m", Lengths(8, 8), seed=1).__enter__()
