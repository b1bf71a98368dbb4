"""A Prometheus as the second source: real servers on the loopback that answer as its documentation says, and as it should not.

The answers are written by hand from https://prometheus.io/docs/prometheus/latest/querying/api/ (envelope, matrix, errors, warnings)."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from polyfleet.load import matrix
from polyfleet.load.prometheus import MOST_BYTES, Prometheus
from polyfleet.load.scraper import Failed
from polyfleet.load.tally import Sent
from polyfleet.load.targets import Target

from autoscaling.signals import words_of
from autoscaling.types import Sample
from tests.unit.operator.test_load_scraper import Handler, served

T = 1_800_000_000.0
Values = Sequence[tuple[float, str]]


def pod(name: str = "m-a", *, uid: str = "", engine: str = "vllm", namespace: str = "llm", **more: Any) -> Target:
    return Target(uid or f"uid-{name}", f"http://10.0.0.9:8000/{name}", engine, namespace=namespace, pod=name, **more)


def series(name: str, values: Values, *, of: str = "m-a", namespace: str = "llm", job: str = "engines", **labels: str) -> dict[str, Any]:
    """One series of a matrix; the instance is the pod's."""
    metric = {"__name__": name, "namespace": namespace, "pod": of, "job": job, "instance": f"{of}:8000", **labels}
    return {"metric": metric, "values": [list(value) for value in values]}


def scrape(at: float, finished: str = "40", running: str = "2", waiting: str = "1", **more: str) -> list[dict[str, Any]]:
    """One scrape of a vLLM replica."""
    return [
        series("vllm:request_success_total", [(at, finished)], **more),
        series("vllm:num_requests_running", [(at, running)], **more),
        series("vllm:num_requests_waiting", [(at, waiting)], **more),
    ]


def matrix_of(*rows: Mapping[str, Any], **envelope: Any) -> dict[str, Any]:
    return {"status": "success", "data": {"resultType": "matrix", "result": list(rows)}, **envelope}


def answering(body: Any, status: int = 200) -> Handler:
    async def handler(_: web.Request) -> web.Response:
        return web.Response(status=status, text=body if isinstance(body, str) else json.dumps(body), content_type="application/json")

    return handler


def asked(handler: Handler, *pods: Target, **settings: Any) -> dict[str, Sample | Failed]:
    """One poll."""

    async def run() -> dict[str, Sample | Failed]:
        async with served(handler) as base:
            source = Prometheus(base, **settings)
            found = await source.poll(pods or (pod(),), T)
            await source.close()
        return dict(found)

    return asyncio.run(run())


def told(handler: Handler, **settings: Any) -> Sample | Failed:
    return asked(handler, **settings)["uid-m-a"]


def why(found: Sample | Failed) -> str:
    assert isinstance(found, Failed), found
    assert found.text.startswith("Prometheus: ")
    return found.text


# ---- what is asked


def test_the_question_names_the_pods_and_every_series_of_the_engine() -> None:
    """As a form, in raw samples: only those have stamps of their own."""
    seen: list[tuple[str, str, Mapping[str, Any]]] = []

    async def handler(request: web.Request) -> web.Response:
        seen.append((request.method, request.path, dict(await request.post())))
        return web.json_response(matrix_of())

    asked(handler, pod("m-a"), pod("m-b.c"), pod("n-a", namespace="other"), pod("m-s", engine="sglang"))
    assert {(method, path) for method, path, _ in seen} == {("POST", "/api/v1/query")}
    queries = sorted(str(form["query"]) for _, _, form in seen)
    assert len(queries) == 3
    (both,) = [query for query in queries if "m-b" in query]
    assert both.startswith('{__name__=~"vllm[:_](?:')
    assert both.endswith(')",namespace="llm",pod=~"m-a|m-b[.]c"}[180s]')
    names = both.partition("(?:")[2].partition(")")[0].split("|")
    assert {"request_success_total", "gpu_cache_usage_perc", "kv_cache_usage_perc", "time_to_first_token_seconds_bucket"} <= set(names)
    assert [query for query in queries if '"other"' in query] == [query for query in queries if 'pod=~"n-a"' in query]


def test_an_engine_without_prefix_is_asked_by_its_names_and_its_pods() -> None:
    words = words_of("mindie")
    assert words is not None
    query = matrix.query(words, "llm", ["m-a"])
    assert query.startswith('{__name__=~"(?:')
    assert ',namespace="llm",pod=~"m-a"}[180s]' in query


def test_many_pods_are_many_questions() -> None:
    """120 pods of one model: 50, 50 and 20."""
    sizes: list[int] = []

    async def handler(request: web.Request) -> web.Response:
        sizes.append(str((await request.post())["query"]).count("m-"))
        return web.json_response(matrix_of())

    found = asked(handler, *(pod(f"m-{i:03d}") for i in range(120)))
    assert sorted(sizes) == [20, 50, 50]
    assert len(found) == 120


def test_an_engine_that_nobody_reads_is_not_asked_for() -> None:
    assert asked(answering("never"), pod(engine="unheard-of")) == {}


# ---- what it answers


def test_a_scrape_is_a_sample_with_the_stamp_of_the_scrape() -> None:
    """Two scrapes, 30 s apart: the newer one counts, and how often it is read is known."""
    rows = [
        series("vllm:request_success_total", [(T - 47.5, "30"), (T - 17.5, "40")], finished_reason="stop"),
        series("vllm:request_success_total", [(T - 47.5, "1"), (T - 17.5, "2")], finished_reason="length"),
        series("vllm:num_requests_running", [(T - 47.5, "7"), (T - 17.5, "2")]),
        series("vllm:num_requests_waiting", [(T - 47.5, "0"), (T - 17.5, "1")]),
    ]
    assert told(answering(matrix_of(*rows))) == Sample(T - 17.5, finished=42.0, running=2.0, waiting=1.0, every=30.0)


def test_infos_are_no_doubt() -> None:
    found = told(answering(matrix_of(*scrape(T), infos=["metric might not be a counter"])))
    assert found == Sample(T, finished=40.0, running=2.0, waiting=1.0)


def test_every_pod_has_its_own_reading() -> None:
    """Two pods in one answer: neither an error nor a sum. A third one has no series: unknown, never zero."""
    rows = [*scrape(T, "40", of="m-a"), *scrape(T, "7", "0", "0", of="m-b")]
    found = asked(answering(matrix_of(*rows)), pod("m-a"), pod("m-b"), pod("m-c"))
    assert found["uid-m-a"] == Sample(T, finished=40.0, running=2.0, waiting=1.0)
    assert found["uid-m-b"] == Sample(T, finished=7.0, running=0.0, waiting=0.0)
    assert 'pod="m-c"' in why(found["uid-m-c"])


def test_an_empty_vector_is_unknown() -> None:
    assert "no series" in why(told(answering(matrix_of())))


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-Inf", "-1", "", "abc", "1 2"])
def test_what_is_no_number_is_unknown_and_nothing_else_is(value: str) -> None:
    assert told(answering(matrix_of(*scrape(T, finished=value)))) == Sample(T, running=2.0, waiting=1.0)


def test_the_same_pod_scraped_by_two_jobs_counts_once() -> None:
    """80 finished requests would be twice the load. The newer scrape counts; the other job's is older."""
    rows = [*scrape(T - 5, "39", job="annotations"), *scrape(T, "40", job="podmonitor")]
    assert told(answering(matrix_of(*rows))) == Sample(T, finished=40.0, running=2.0, waiting=1.0)


def test_a_series_that_has_gone_is_gone_although_the_answer_still_has_its_past() -> None:
    """Renamed at T - 30 and scraped twice since."""
    rows = [
        series("vllm:gpu_cache_usage_perc", [(T - 60, "0.9")]),
        series("vllm:kv_cache_usage_perc", [(T - 30, "0.2"), (T, "0.3")]),
        series("vllm:num_requests_running", [(T - 60, "5"), (T - 30, "5"), (T, "6")]),
    ]
    assert told(answering(matrix_of(*rows))) == Sample(T, running=6.0, kv_used=0.3, every=30.0)


def test_a_scrape_that_is_still_arriving_is_not_read() -> None:
    """Of two engines of one pod only the first has come: 3 running are not 8 that became 3."""
    rows = [
        series("vllm:num_requests_running", [(T - 15, "4"), (T, "3")], engine="0"),
        series("vllm:num_requests_running", [(T - 15, "4")], engine="1"),
    ]
    assert told(answering(matrix_of(*rows))) == Sample(T - 15, running=8.0, every=15.0)


def test_samples_of_an_earlier_pod_of_the_same_name_are_not_its() -> None:
    rows = [series("vllm:num_requests_running", [(T - 60, "9")])]
    assert "no series" in why(asked(answering(matrix_of(*rows)), pod(created=T - 40))["uid-m-a"])


def test_a_scrape_of_91_s_ago_is_too_old_and_one_of_89_s_is_not() -> None:
    """As its own stamp says; the question is answered at T."""
    assert "91 s old" in why(told(answering(matrix_of(*scrape(T - 91)))))
    assert told(answering(matrix_of(*scrape(T - 89)))) == Sample(T - 89, finished=40.0, running=2.0, waiting=1.0)


def test_a_pod_of_the_same_name_in_another_namespace_is_another_pod() -> None:
    assert "no series" in why(told(answering(matrix_of(*scrape(T, namespace="other")))))


def test_labels_are_quoted_as_on_a_page() -> None:
    rows = [series("vllm:num_requests_running", [(T, "2")], model_name='a"b\\c\nd'), series("vllm:num_requests_waiting", [(T, "0")])]
    assert told(answering(matrix_of(*rows))) == Sample(T, running=2.0, waiting=0.0)


def test_a_label_that_no_page_can_have_makes_its_number_unknown() -> None:
    rows = [series("vllm:num_requests_running", [(T, "2")]), series("vllm:num_requests_waiting", [(T, "0")], **{"a b": "c"})]
    assert told(answering(matrix_of(*rows))) == Sample(T, running=2.0)


def test_the_checkers_own_requests_are_told_too() -> None:
    found = told(answering(matrix_of(*scrape(T))), sent=lambda _: Sent(3.0, 30.0, 20.0))
    assert isinstance(found, Sample)
    assert (found.checker_requests, found.checker_prompt_tokens, found.checker_output_tokens) == (3.0, 30.0, 20.0)


# ---- what is no answer

ERROR = {"status": "error", "errorType": "bad_data", "error": "invalid parameter query"}


@pytest.mark.parametrize(
    ("handler", "text"),
    [
        (answering(ERROR, 400), "bad_data: invalid parameter query"),
        (answering({"status": "error", "errorType": "timeout", "error": "query timed out"}, 503), "timeout: query timed out"),
        (answering("upstream gone", 500), "answered 500"),
        (answering("", 502), "answered 502"),
        (answering("", 401), "prometheus.token"),
        (answering("<html>login</html>"), "something else than JSON"),
        (answering('{"status":"success","data":'), "something else than JSON"),
        (answering("[" * 100_000), "something else than JSON"),
        (answering("[1]"), "no answer of Prometheus"),
        (answering("{}"), "None: None"),
        (answering({"status": "success"}), "nothing instead of a matrix"),
        (answering({"status": "success", "data": {"resultType": "vector", "result": []}}), "vector instead of a matrix"),
        (answering({"status": "success", "data": {"resultType": "matrix", "result": {}}}), "matrix instead of a matrix"),
        (answering(matrix_of(*scrape(T), warnings=["store a did not answer"])), "store a did not answer"),
        (answering(matrix_of(*scrape(T), isPartial=True)), "may be missing: isPartial"),
        (answering(matrix_of(*scrape(T), *[{}] * matrix.MOST_SERIES)), "more than 20000 series"),
    ],
)  # fmt: skip
def test_what_is_no_whole_answer_is_a_reason(handler: Handler, text: str) -> None:
    """Partial answers, too: of a part of the series nobody knows what they would add up to."""
    assert text in why(told(handler))


def test_rows_that_are_no_series_are_passed_over() -> None:
    rows: list[Any] = [
        None,
        1,
        {},
        {"metric": {}},
        {"metric": {"__name__": 3}, "values": 3},
        {"metric": {"__name__": "x"}, "values": [[1]]},
    ]
    bad = series("vllm:num_requests_waiting", [(T, "1")])
    bad["values"] = [[True, "1"], ["now", "1"], [T, 1]]  # a number that is no text is not known
    assert told(answering(matrix_of(*rows, bad, series("vllm:num_requests_running", [(T, "2")])))) == Sample(T, running=2.0)


def test_ten_megabytes() -> None:
    """It is given up, not swallowed."""

    async def handler(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        try:
            for _ in range(160):
                await answer.write(b" " * (1 << 16))
        except ConnectionError:
            pass
        return answer

    assert f"more than {MOST_BYTES} bytes" in why(told(handler, poll_s=60.0))


def test_one_that_never_answers() -> None:
    async def handler(_: web.Request) -> web.Response:
        await asyncio.Event().wait()
        return web.Response()

    found = asked(handler, pod("m-a"), pod("m-b", engine="sglang"), poll_s=0.05)
    assert {why(each) for each in found.values()} == {"Prometheus: no whole answer within 0.05 s"}
    assert len(found) == 2


def test_nobody_listens() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"

        async def run() -> Any:
            source = Prometheus(address)
            found = await source.poll([pod()], T)
            await source.close()
            return found["uid-m-a"]

        assert "no connection" in why(asyncio.run(run()))


def test_one_question_that_fails_is_not_the_others_fault() -> None:
    async def handler(request: web.Request) -> web.Response:
        query = str((await request.post())["query"])
        return web.json_response(matrix_of(*scrape(T)) if 'namespace="llm"' in query else ERROR)

    found = asked(handler, pod(), pod("n-a", namespace="other"))
    assert isinstance(found["uid-m-a"], Sample)
    assert "bad_data" in why(found["uid-n-a"])


# ---- the token


def test_the_token_is_read_anew_goes_nowhere_else_and_stands_in_no_message(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It rotates between two polls; a redirect is not followed with it; nothing that is logged or told has it."""
    caplog.set_level(logging.DEBUG)
    token, heads, elsewhere = tmp_path / "token", [], []

    async def handler(request: web.Request) -> web.Response:
        if request.path != "/api/v1/query":
            elsewhere.append(request.path)
        heads.append(request.headers.get("Authorization"))
        if len(heads) == 1:
            return web.json_response(matrix_of(*scrape(T)))
        return web.Response(status=307, headers={"Location": "/elsewhere"})

    async def run() -> list[Any]:
        async with served(handler) as base:
            source, found = Prometheus(base, token_file=token), []
            for text in (b"first-secret\n", b"second-secret", b"", b"two words", b"\xff"):
                token.write_bytes(text)
                found.append((await source.poll([pod()], T))["uid-m-a"])
            token.unlink()
            found.append((await source.poll([pod()], T))["uid-m-a"])
            await source.close()
        return found

    found = asyncio.run(run())
    assert heads == ["Bearer first-secret", "Bearer second-secret"]
    assert elsewhere == []
    assert isinstance(found[0], Sample)
    assert "redirect" in why(found[1])
    assert all(f"{token} holds no token" in why(each) for each in found[2:5])
    assert "cannot be read" in why(found[5])
    assert "secret" not in " ".join([caplog.text, *map(str, found), *(str(vars(record)) for record in caplog.records)])


def test_a_ca_file_without_certificates_is_named(tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_text("nothing\n")
    assert f"{tmp_path / 'ca.crt'} holds no certificates" in why(told(answering(matrix_of()), ca_file=tmp_path / "ca.crt"))


def test_a_failure_is_logged_when_it_begins_and_when_it_is_over(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    answers = iter([500, 500, 500, 200, 200])

    async def handler(_: web.Request) -> web.Response:
        status = next(answers)
        return web.json_response(matrix_of(), status=status) if status == 200 else web.Response(status=status)

    async def run() -> None:
        async with served(handler) as base:
            source = Prometheus(base)
            for _ in range(5):
                await source.poll([pod()], T)
            await source.close()

    asyncio.run(run())
    ours = [record.message for record in caplog.records if record.name == "polyfleet.load.prometheus"]
    assert ours == ["Prometheus gives no load for replicas that do not answer themselves", "Prometheus answers again"]
