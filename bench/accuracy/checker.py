"""The process in which the checker is measured: `python -m bench.accuracy.checker capture|check WORK URL RECORD` prints one JSON object.

`capture` asks the endpoint as a reference and writes the record. `check` does with it what the operator does, with the operator's own
runner: the record and the golden set lie in ConfigMaps, progress is told and stored, the report is packed and written. Only the API server
is a dictionary. What the operator is made of beside the checker is loaded first; from there on memory counts: modules, golden set, record,
run and report, and the ConfigMaps of the dictionary, which an operator does not keep. Beside it a ticker tells how late the loop runs.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from polyfleet.certify.store import Store
    from polyfleet.clearance.work import Finding

    from accuracy.policy import Policy, Settings
    from accuracy.types import GoldenSet

LONGEST = 256  # tokens of a prompt, as the target says
TICK_S = 0.01
# The operator without its checks: nothing of these knows `accuracy`, which `main` asserts.
OPERATOR = ("numpy", "aiohttp", "yaml", "prometheus_client", "placement", "polyfleet.client")
CHECKER = ("accuracy.certify", "accuracy.entry_check", "accuracy.report.as_json", "polyfleet.certify.run", "polyfleet.certify.entering")
ENTER = ("entry", "entry-stepwise")
ENTRY_ITEMS = 64  # of the record of an entry check: it needs 32 prompts where nothing is wrong
SHORT = ("UltraShort", "Chat", "Code", "OtherScripts", "RareTokens", "MixedLengths")  # strata whose prompts are mostly short enough
MODEL, RECORD, GOLDEN, SPACE = "smol", "record", "golden", "bench"
TIMEOUT_S = 600.0


def settings_of(work: str) -> Settings:
    """`sandbox` and the entry checks: sandbox/policy.yaml.
    `quick`: the same with the level's own rate of bad prompts and with every stratum of short prompts.
    `shipped`: level Quick as it comes. All state the noise that an engine in numpy does not show."""
    from accuracy.policy import Settings

    if work == "shipped":
        return Settings(level="Quick", noise_kl=0.002, strata=SHORT, modes=("PromptLogprobs",))
    mode = "Stepwise" if work == "entry-stepwise" else "PromptLogprobs"
    small = Settings(
        level="Quick", noise_kl=0.002, strata=SHORT, modes=(mode,), positions_per_prompt=8, top_k=5, concurrency=(1, 4),
        prefix_cache=("Miss", "Hit"),
    )  # fmt: skip
    return Settings(strata=("UltraShort",), bad_prompt_rate=0.05, max_prompts=100).over(small) if work != "quick" else small


def policy_of(work: str) -> Policy:
    from accuracy.policy import effective

    return effective(settings_of(work))


def golden_of() -> GoldenSet:
    """The built-in prompts that are short enough."""
    from accuracy.golden import builtin, digest, estimate_tokens
    from accuracy.types import GoldenSet

    items = tuple(item for item in builtin().items if estimate_tokens(item) <= LONGEST and item.stratum in SHORT)
    return GoldenSet(f"{SPACE}/{GOLDEN}", digest(items), items)


def key_of(work: str) -> str:
    """Names the record of a work: another policy or other prompts want another one."""
    import hashlib

    return hashlib.sha256(f"{policy_of(work)} {golden_of().digest}".encode()).hexdigest()[:12]


async def captured(work: str, url: str) -> tuple[bytes, float]:
    """Asks the reference: the record of what the work needs, and the seconds that it took."""
    from accuracy.certify import needed
    from accuracy.design import plan_order
    from accuracy.http.capture import capture
    from accuracy.http.client import connect
    from accuracy.http.endpoint import Endpoint
    from accuracy.http.probe import probe
    from accuracy.record import encode

    policy, golden = policy_of(work), golden_of()
    count = ENTRY_ITEMS if work in ENTER else needed(policy)
    wanted = [item for item in golden.items if item.stratum in policy.strata]
    items = [planned.item for planned in plan_order(wanted, policy)][:count]
    async with connect(Endpoint(url, name="reference", timeout_s=TIMEOUT_S)) as client:
        await probe(client)
        begun = time.monotonic()
        record = await capture(client, (golden,), policy, now=_now(), items=items)
        seconds = time.monotonic() - begun
    return encode(record), seconds


@dataclass(slots=True)
class Watch:
    """How late the event loop was, tick by tick, and what the process itself computed meanwhile; seconds. A tick that is later than that
    waited for others on the machine."""

    late: list[float] = field(default_factory=list)
    own: list[float] = field(default_factory=list)

    async def keep(self) -> None:
        while True:
            due, spent = time.monotonic() + TICK_S, time.process_time()
            await asyncio.sleep(TICK_S)
            self.late.append(time.monotonic() - due)
            self.own.append(time.process_time() - spent)


@asynccontextmanager
async def watched() -> AsyncIterator[Watch]:
    watch = Watch()
    task = asyncio.create_task(watch.keep())
    try:
        yield watch
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class Api:
    """ConfigMaps in a dictionary, as the operator's client gives them; each request goes through JSON as it does there."""

    def __init__(self) -> None:
        self._kept: dict[str, str] = {}

    async def get(self, resource: object, name: str, namespace: str) -> dict[str, Any]:
        from polyfleet.errors import NotFound

        if name not in self._kept:
            raise NotFound(404, "NotFound", name)
        found: dict[str, Any] = json.loads(self._kept[name])
        return found

    async def create(self, resource: object, manifest: Mapping[str, Any], namespace: str) -> None:
        name = manifest["metadata"]["name"]
        self._kept[name] = json.dumps({**manifest, "metadata": {**manifest["metadata"], "uid": name, "resourceVersion": "1"}})

    async def merge_patch(self, resource: object, name: str, body: Mapping[str, Any], namespace: str) -> None:
        self._kept[name] = json.dumps(_merged(json.loads(self._kept[name]), body))


def _merged(old: Any, new: Any) -> Any:
    """RFC 7396."""
    if not isinstance(new, Mapping):
        return new
    rest = dict(old) if isinstance(old, Mapping) else {}
    for key, value in new.items():
        rest[key] = _merged(rest.get(key), value)
    return {key: value for key, value in rest.items() if value is not None}


async def checked(work: str, url: str, path: Path) -> dict[str, Any]:
    """Runs the check as the operator does, and says what it cost beside memory."""
    from polyfleet.certify.store import Store

    store = Store(cast(Any, Api()))
    await _filled(store, path)
    async with watched() as watch:
        begun, spent = time.monotonic(), time.process_time()
        found = await (_entered(work, url, store) if work in ENTER else _certified(work, url, store))
        seconds, cpu = time.monotonic() - begun, time.process_time() - spent
    late = sorted(watch.late)
    return {
        "seconds": round(seconds, 1),
        **found,
        "checker CPU s": round(cpu, 1),
        "loop late ms, most": round(1000 * late[-1], 1),
        "loop late ms, 99 %": round(1000 * late[int(0.99 * len(late))], 1),
        "of it own CPU ms, most": round(1000 * max(watch.own), 1),
    }


async def _filled(store: Store, path: Path) -> None:
    """Writes record and golden set as they lie in a cluster."""
    from polyfleet.certify.store import Owner
    from polyfleet.resources import CONFIG_MAPS

    from accuracy.golden.items import dump
    from accuracy.record import decode

    content = await asyncio.to_thread(path.read_bytes)
    await store.write_record(SPACE, RECORD, decode(content), Owner("ModelDeployment", MODEL, MODEL), {})
    text = await asyncio.to_thread(lambda: dump(golden_of().items))
    body = {"metadata": {"name": GOLDEN, "namespace": SPACE}, "data": {"prompts.jsonl": text}}
    await store._client.create(CONFIG_MAPS, body, SPACE)


async def _certified(work: str, url: str, store: Store) -> dict[str, Any]:
    from polyfleet.certify.run import Limits, Memory, Run
    from polyfleet.clearance.work import Certify, GoldenSource, RecordRef, Replica

    from accuracy.policy import Formats
    from accuracy.types import Fingerprint

    told: list[Finding] = []
    item = Certify(
        namespace=SPACE, report="report", report_uid="report", model=f"{SPACE}/{MODEL}", model_uid=MODEL, served_name=MODEL,
        profile="candidate", variant="default", engine="sandbox", reference_profile="reference", fingerprint=Fingerprint(),
        settings=settings_of(work), pairs=(), reference_formats=Formats(), candidate_formats=Formats(),
        golden=(GoldenSource(namespace=SPACE, name=GOLDEN),), modalities=("Text",), replicas=(Replica("pod", "uid", "container", url),),
        record=RecordRef(SPACE, RECORD),
    )  # fmt: skip
    run = Run(item, store, Memory(), Limits(), time.monotonic, _now, told.append, dict, asyncio.Semaphore(1))
    await run.once()
    last = told[-1]
    return {
        "verdict": str(last.status.get("verdict")),
        "prompts": last.status.get("prompts"),
        "ratio": last.status.get("noiseRatio"),
        "message": last.verified[2],
    }


async def _entered(work: str, url: str, store: Store) -> dict[str, Any]:
    from polyfleet.certify.entering import Entry
    from polyfleet.clearance.work import Enter, Entered, GoldenSource, RecordRef, Replica

    from accuracy.policy import Formats

    told: list[Entered] = []
    item = Enter(
        namespace=SPACE, report="report", model=f"{SPACE}/{MODEL}", served_name=MODEL, replica=Replica("pod", "uid", "container", url),
        settings=settings_of(work), pairs=(), reference_formats=Formats(), candidate_formats=Formats(), record=RecordRef(SPACE, RECORD),
        golden=(GoldenSource(namespace=SPACE, name=GOLDEN),),
    )  # fmt: skip
    entry = Entry(item, store, TIMEOUT_S, time.monotonic, _now, told.append, asyncio.Semaphore(1))
    await entry.once()
    last = told[-1]
    return {"verdict": {True: "opens", False: "stays out", None: "not run"}[last.passed], "message": last.message}


def megabytes(what: str) -> float:
    """`VmRSS`: in use now; `VmHWM`: the most so far."""
    rows = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines() if ":" in line)
    return int(rows[what].split()[0]) / 1024


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def main(arguments: list[str]) -> int:
    step, work, url, path = arguments
    for name in OPERATOR:
        importlib.import_module(name)
    assert not any(name.partition(".")[0] == "accuracy" for name in sys.modules)
    before = megabytes("VmRSS")
    for name in CHECKER:
        importlib.import_module(name)
    if step == "capture":
        content, seconds = asyncio.run(captured(work, url))
        Path(path).write_bytes(content)
        found: dict[str, Any] = {"seconds": round(seconds, 1), "record KB": len(content) >> 10}
    else:
        found = asyncio.run(checked(work, url, Path(path)))
        found["adds MB"] = round(megabytes("VmHWM") - before, 1)
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
