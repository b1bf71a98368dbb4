"""What one tick of reading the load costs: 2,000 pods with pages of 40 KB, asked over the loopback from a server in another process.

Measured are the CPU seconds of the scraping process alone (`time.process_time`, user and system), divided by the tick: a share of one core.
Twice: with connections that are open from the tick before, and with a server that hangs up after each answer, as engines on uvicorn do
(they end a connection that is idle for 5 s). The dearer one is judged. `python -m bench.autoscaling_scrape` prints one JSON line and ends
with 1 where the target of 30 % of a core is not met.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import multiprocessing
import platform
import resource
import statistics
import sys
import time
from multiprocessing.connection import Connection

from polyfleet.load.scraper import Scraper
from polyfleet.load.targets import Target

from autoscaling.types import Sample

TICK_S = 10.0
TARGET = 0.30
_MODEL = "meta-llama/Llama-3.3-70B-Instruct"
_LABELS = f'engine="0",model_name="{_MODEL}"'
_BOUNDS = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0, 640.0, 2560.0,
)  # fmt: skip
_HISTOGRAMS = (
    "request_prompt_tokens", "request_generation_tokens", "iteration_tokens_total", "request_params_n", "request_params_max_tokens",
    "time_to_first_token_seconds", "inter_token_latency_seconds", "request_time_per_output_token_seconds", "e2e_request_latency_seconds",
    "request_queue_time_seconds", "request_inference_time_seconds", "request_prefill_time_seconds", "request_decode_time_seconds",
)  # fmt: skip
_PLAIN = (
    ("num_requests_running", "gauge", 12.0), ("num_requests_waiting", "gauge", 3.0), ("kv_cache_usage_perc", "gauge", 0.625),
    ("prefix_cache_queries_total", "counter", 4.0e6), ("prefix_cache_hits_total", "counter", 1.0e6),
    ("num_preemptions_total", "counter", 2.0), ("prompt_tokens_total", "counter", 4.25e6), ("generation_tokens_total", "counter", 812345.0),
)  # fmt: skip


def page(size: int) -> bytes:
    """A page with vLLM's families, in its order and with its number of buckets, filled up to `size` bytes with other histograms."""
    lines: list[str] = []
    for name, kind, value in _PLAIN:
        lines += [f"# HELP vllm:{name} What this series is about, in a sentence of the usual length.", f"# TYPE vllm:{name} {kind}"]
        lines.append(f"vllm:{name}{{{_LABELS}}} {value}")
    lines += ["# HELP vllm:request_success_total Count of successfully processed requests.", "# TYPE vllm:request_success_total counter"]
    lines += [f'vllm:request_success_total{{{_LABELS},finished_reason="{why}"}} 500.0' for why in ("stop", "length", "abort", "error")]
    for name in _HISTOGRAMS:
        lines += _histogram(f"vllm:{name}")
    lines.append(f'vllm:cache_config_info{{block_size="16",{_LABELS},num_gpu_blocks="20000"}} 1.0')
    extra = 0
    while sum(map(len, lines)) + len(lines) < size:
        lines += _histogram(f"vllm:other_{extra}_seconds")
        extra += 1
    return ("\n".join(lines) + "\n").encode()


def _histogram(name: str) -> list[str]:
    counts = [float(40 * at) for at in range(1, len(_BOUNDS) + 2)]
    bounds = [*map(str, _BOUNDS), "+Inf"]
    head = [f"# HELP {name} Histogram of something that takes time.", f"# TYPE {name} histogram"]
    rows = [f'{name}_bucket{{le="{bound}",{_LABELS}}} {count}' for bound, count in zip(bounds, counts, strict=True)]
    return [*head, *rows, f"{name}_count{{{_LABELS}}} {counts[-1]}", f"{name}_sum{{{_LABELS}}} 900.5"]


class _Server(asyncio.Protocol):
    """Answers every request with the same bytes; hangs up where the path is /once."""

    answer = once = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._out, self._seen = transport, b""

    def data_received(self, data: bytes) -> None:
        self._seen += data
        while (end := self._seen.find(b"\r\n\r\n")) >= 0:
            head, self._seen = self._seen[:end], self._seen[end + 4 :]
            if head.startswith(b"GET /once"):
                self._out.write(self.once)
                self._out.close()
            else:
                self._out.write(self.answer)


def serve(told: Connection, size: int) -> None:
    """The other process: pages until it is ended."""
    body = page(size)
    head = f"HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\nContent-Length: {len(body)}\r\n"
    _Server.answer = head.encode() + b"\r\n" + body
    _Server.once = head.encode() + b"Connection: close\r\n\r\n" + body

    async def run() -> None:
        _files()
        server = await asyncio.get_running_loop().create_server(_Server, "127.0.0.1", 0, backlog=4096)
        told.send((server.sockets[0].getsockname()[1], len(body)))
        await server.serve_forever()

    asyncio.run(run())


def _files() -> None:
    """As many descriptors as the machine gives."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def measure(url: str, pods: int, ticks: int) -> tuple[float, float]:
    """(CPU seconds, seconds) of the median of `ticks` polls, after one that warms up."""
    scraper = Scraper(poll_s=120.0, pod_s=120.0)  # a slow machine must not lose pods: what is judged is the CPU time
    targets = [Target(f"pod-{at:05d}", url, "vllm", _MODEL) for at in range(pods)]
    cpu: list[float] = []
    wall: list[float] = []
    for tick in range(ticks + 1):
        gc.collect()
        begun, since = time.process_time(), time.monotonic()
        found = await scraper.poll(targets, 1.8e9 + TICK_S * tick)
        cpu.append(time.process_time() - begun)
        wall.append(time.monotonic() - since)
        failed = [each for each in found.values() if not (isinstance(each, Sample) and each.counted == 2015.0 and each.ttft is not None)]
        if failed or len(found) != pods:
            raise SystemExit(f"{len(failed)} of {pods} pods were not read: {failed[:1]}")
    await scraper.close()
    return statistics.median(cpu[1:]), statistics.median(wall[1:])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pods", type=int, default=2000)
    parser.add_argument("--bytes", type=int, default=40_000, help="of one page")
    parser.add_argument("--ticks", type=int, default=5, help="polls that are measured")
    args = parser.parse_args()
    _files()
    here, there = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(there, args.bytes), daemon=True)
    server.start()
    try:
        port, size = here.recv()
        kept = asyncio.run(measure(f"http://127.0.0.1:{port}/metrics", args.pods, args.ticks))
        once = asyncio.run(measure(f"http://127.0.0.1:{port}/once", args.pods, args.ticks))
    finally:
        server.terminate()
        server.join()
    core = max(kept[0], once[0]) / TICK_S
    told = {
        "pods": args.pods,
        "page_bytes": size,
        "tick_s": TICK_S,
        "core_share": round(core, 4),
        "core_share_kept": round(kept[0] / TICK_S, 4),
        "target": TARGET,
        "reached": core < TARGET,
        "cpu_s": {"kept": round(kept[0], 3), "once": round(once[0], 3)},
        "wall_s": {"kept": round(kept[1], 3), "once": round(once[1], 3)},
        "python": platform.python_version(),
    }
    print(json.dumps(told, sort_keys=True))
    return 0 if core < TARGET else 1


if __name__ == "__main__":
    sys.exit(main())
