"""The engine's Prometheus metrics, under the names, labels and buckets of vLLM (version 1 engine, 0.11).

Counters rise with what was answered, when it was answered; gauges are read from the backend at scrape time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from sandbox.engine.backend import Load

_TTFT = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0, 640.0, 2560.0)
_ITL = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0)
_LATENCY = (0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0)
FINISHED_REASONS = ("stop", "length", "abort", "error")


class EngineMetrics:
    def __init__(self, model_name: str, clock: Callable[[], float]) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.clock = clock
        self._registry = CollectorRegistry()
        self._labels = {"model_name": model_name, "engine": "0"}
        self.prompt_tokens = self._counter("vllm:prompt_tokens", "Prompt tokens of answered requests.")
        self.generation_tokens = self._counter("vllm:generation_tokens", "Tokens generated.")
        names = [*self._labels, "finished_reason"]
        success = Counter("vllm:request_success", "Finished requests by reason.", names, registry=self._registry)
        self.finished = {reason: success.labels(**self._labels, finished_reason=reason) for reason in FINISHED_REASONS}
        self.time_to_first_token = self._histogram("vllm:time_to_first_token_seconds", "From arrival to the first token.", _TTFT)
        self.inter_token_latency = self._histogram("vllm:inter_token_latency_seconds", "Between two tokens of a request.", _ITL)
        self.end_to_end = self._histogram("vllm:e2e_request_latency_seconds", "From arrival to the end of a request.", _LATENCY)
        self.queue_time = self._histogram("vllm:request_queue_time_seconds", "Time that a request waited to be started.", _LATENCY)

    def _counter(self, name: str, text: str) -> Counter:
        return Counter(name, text, list(self._labels), registry=self._registry).labels(**self._labels)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(name, text, list(self._labels), buckets=buckets, registry=self._registry).labels(**self._labels)

    def observe_load(self, load: Callable[[], Load]) -> None:
        self._registry.register(_LoadCollector(load, self._labels))

    def describe(self, info: dict[str, str], kv_blocks: int, block_size: int) -> None:
        """The two series that only carry labels: what this engine is, and how large its cache is."""
        Gauge("polyfleet_engine_info", "What this engine is.", list(info), registry=self._registry).labels(**info).set(1)
        cache = {"block_size": str(block_size), "num_gpu_blocks": str(kv_blocks), "engine": "0"}
        Gauge("vllm:cache_config_info", "Configuration of the cache.", list(cache), registry=self._registry).labels(**cache).set(1)

    def render(self) -> bytes:
        return generate_latest(self._registry)


class _LoadCollector(Collector):
    def __init__(self, load: Callable[[], Load], labels: dict[str, str]) -> None:
        self._load, self._names, self._values = load, list(labels), list(labels.values())

    def describe(self) -> Iterable[Metric]:
        return []  # nothing to collect at registration

    def collect(self) -> Iterable[Metric]:
        load = self._load()
        gauges = (
            ("vllm:num_requests_running", "Requests that are being computed.", load.running),
            ("vllm:num_requests_waiting", "Requests that wait to be started.", load.waiting),
            ("vllm:kv_cache_usage_perc", "Used share of the cache, 1 means all of it.", load.kv_used),
        )
        for name, text, value in gauges:
            gauge = GaugeMetricFamily(name, text, labels=self._names)
            gauge.add_metric(self._values, value)
            yield gauge
        counters = (
            ("vllm:prefix_cache_queries", "Prompt tokens looked up in the prefix cache.", load.prefix_queries),
            ("vllm:prefix_cache_hits", "Prompt tokens found in the prefix cache.", load.prefix_hits),
            ("vllm:num_preemptions", "Requests that had to give their cache back.", load.preemptions),
        )
        for name, text, value in counters:
            counter = CounterMetricFamily(name, text, labels=self._names)
            counter.add_metric(self._values, value)
            yield counter


class RequestMeter:
    """Counts one request. `prompt_tokens` are counted with its first event after the prompt, as vLLM does."""

    def __init__(self, metrics: EngineMetrics, prompt_tokens: int) -> None:
        self._metrics, self._prompt_tokens = metrics, prompt_tokens
        self._arrived = metrics.clock()
        self._last: float | None = None
        self._prompt_counted = self._finished = False

    def started(self, queue_seconds: float) -> None:
        self._metrics.queue_time.observe(queue_seconds)

    def prompt_done(self) -> None:
        if not self._prompt_counted:
            self._prompt_counted = True
            self._metrics.prompt_tokens.inc(self._prompt_tokens)

    def token(self) -> None:
        now = self._metrics.clock()
        self.prompt_done()
        self._metrics.generation_tokens.inc()
        if self._last is None:
            self._metrics.time_to_first_token.observe(now - self._arrived)
        else:
            self._metrics.inter_token_latency.observe(now - self._last)
        self._last = now

    def finished(self, reason: str) -> None:
        """Counts the end once; later calls (a close after the end) change nothing."""
        if not self._finished:
            self._finished = True
            self._metrics.finished[reason].inc()
            self._metrics.end_to_end.observe(self._metrics.clock() - self._arrived)
