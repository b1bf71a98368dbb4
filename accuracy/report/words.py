"""What a report says in words: the same sentences in every form, so that Markdown, HTML and a terminal never disagree. Pure."""

from __future__ import annotations

import re

from accuracy.report.figures import GateState
from accuracy.report.model import Report
from accuracy.types import Capabilities, Cost, Fingerprint, Gate, GateResult, Mode, Verdict

DASH = "–"
ASKS = {
    Gate.CONTRACT: "the same inputs, rendered to the same tokens, answered by the same protocol",
    Gate.HARD_FAULTS: "no NaN, no impossible probability, no error or garbage where the reference answers",
    Gate.TOKENS: "per token as close to the reference as the reference is to itself, times κ",
    Gate.TAIL: "prompts with one badly wrong position are rarer than ρ",
    Gate.BIAS: "no systematic shift of the golden tokens' log-probabilities",
    Gate.SELF_CONSISTENCY: "the candidate agrees with itself: prefill and decode, cache, batch, replicas",
    Gate.TASKS: "tool calls, schemas, lengths and tasks as good as the reference's",
    Gate.SHADOW: "live traffic, re-scored after promotion",
}
WORST = "Worst items"
STATISTICS = {"kl": "KL", "sq": "Δ²", "rate": "rate", "bias+": "upward", "bias-": "downward", "task": "score"}
STATES: dict[GateState, str] = {"Pass": "passes", "Fail": "fails", "Open": "open", "NotRun": "not run"}
_MODES = {
    Mode.PROMPT_LOGPROBS: "the whole golden continuation scored in one request",
    Mode.STEPWISE: "one generated token after each of a few prefixes",
    Mode.FREE_RUN: "the candidate's own continuation up to the first difference",
    Mode.TEXT_ONLY: "texts only, much weaker than log-probabilities",
}


_FORBIDDEN = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # no XML can hold these; terminals obey some of them


def clean(text: str) -> str:
    """Text without control characters and halves of pairs: what an endpoint said is shown, never obeyed."""
    return _FORBIDDEN.sub("�", text)


def verdict_word(report: Report) -> str:
    return "RUNNING" if report.decision.verdict is None else report.decision.verdict.upper()


def pair(report: Report) -> str:
    return f"{report.candidate.name or 'candidate'} vs {report.reference.name or 'reference'}"


def meaning(report: Report) -> str:
    """What the verdict means for whoever has to decide, in a sentence or two and without a symbol."""
    decision, limit = report.decision, report.policy.margins.noise_ratio
    candidate, reference = report.candidate.name or "the candidate", report.reference.name or "the reference"
    far = "" if decision.noise_ratio is None else f"{number(decision.noise_ratio)} times as far from {reference} as that is from itself"
    allowed = "" if limit is None else f", and up to {number(limit)} times is allowed"
    if report.own_reference:
        far = "" if decision.noise_ratio is None else f"{number(decision.noise_ratio)} times its noise apart under different conditions"
    told = f" Its answers are {far}{allowed}." if far else ""
    if decision.verdict is Verdict.PROMOTE:
        if report.own_reference:
            return f"{candidate} agrees with itself under every condition that was tried; nothing was compared with another device.{told}"
        return f"{candidate} can serve in place of {reference}.{told}"
    if decision.verdict is Verdict.BLOCK:
        place = "" if report.own_reference else f" in place of {reference}"
        cause = f" Likeliest cause: {report.suspects[0].code}." if report.suspects else ""
        return f"{candidate} must not serve{place}: it was shown to answer differently, or to be broken.{cause}"
    if decision.verdict is Verdict.INCONCLUSIVE:
        return f"Neither was shown: {candidate} is not proven equivalent and not proven wrong. It must not serve until it is.{told}"
    return "The run has not ended; there is no verdict yet."


def headline(report: Report) -> str:
    """One line of figures: noise ratio and its limit, prompts, what is certified."""
    decision, margins = report.decision, report.policy.margins
    parts = []
    if decision.noise_ratio is not None:
        limit = "" if margins.noise_ratio is None or report.own_reference else f" {_than(decision.noise_ratio, margins.noise_ratio)}"
        parts.append(f"noise ratio {number(decision.noise_ratio)}{limit}{f' ({arrow(report.declared)})' if report.declared else ''}")
    parts.append("1 prompt" if decision.prompts == 1 else f"{decision.prompts} prompts")
    if decision.verdict is Verdict.PROMOTE and decision.certified_rate is not None and decision.confidence is not None:
        parts.append(f"≤ {percent(decision.certified_rate)} bad, {percent(decision.confidence)} sure")
    return " · ".join(parts)


def _than(value: float, limit: float) -> str:
    return f"{'≤' if value <= limit else '>'} {number(limit)}"


def arrow(declared: str) -> str:
    return declared.replace("->", "→")


def certified(report: Report) -> str:
    """Rule A10: what rate of bad prompts this run can certify, and how surely."""
    decision, policy = report.decision, report.policy
    if decision.certified_rate is None or decision.confidence is None:
        return f"No rate of bad prompts is certified; at most {percent(policy.bad_prompt_rate)} was asked for at level {policy.level}."
    return (
        f"At most {percent(decision.certified_rate)} of prompts like these are bad, with {percent(decision.confidence)} confidence "
        f"(level {policy.level} asks for {percent(policy.bad_prompt_rate)})."
    )


def mode(report: Report) -> str:
    if report.mode is None:
        return "no mode was chosen"
    alternatives = f", {report.top_k} alternatives per position" if report.top_k > 1 else ", the golden token's own log-probability only"
    return f"{report.mode}: {_MODES[report.mode]}{'' if report.mode is Mode.TEXT_ONLY else alternatives}"


def limits(report: Report) -> tuple[str, ...]:
    """What this run cannot show, whatever its verdict."""
    policy = report.policy
    slip = "19 to 23 %" if policy.alpha > 0.02 else "6 to 8 %"
    rare = (
        f"Rates below {percent(policy.bad_prompt_rate)} are not certified. A gross fault in 1 % of requests is promoted in {slip} of runs "
        "at the default size, a mild one more often."
    )
    healthy = (
        "Inconclusive is no proof of a fault: at ρ 2 %, α 1 % and 600 prompts Tail promotes 99, 86, 55, 14 % of devices that have a bad "
        "prompt in 0.1, 0.25, 0.5, 1 % of cases."
    )
    found = [
        rare,
        healthy,
        "The inference is to prompts like the golden set's. What users ask and no stratum resembles is not judged.",
        "Tokens tests the mean of a clipped score: a few very bad prompts hardly move it. HardFaults and Tail are what bounds them.",
        "Tail is pooled over the strata: one stratum of eight with 8 % bad prompts is 1 % of all, and passes about one time in eight.",
        "Scored requests name a temperature. Whether both sides sample where a user names none is compared, at which temperature is not.",
    ]
    if report.mode is Mode.STEPWISE:
        found.append("Stepwise looks at a few positions of each prompt: a fault at the others is seen only where it changes these.")
    if report.top_k <= 1 and report.mode is not None:
        found.append("Without alternatives neither divergences nor flips of the likeliest token were seen, only golden tokens.")
    if report.own_reference:
        found.append("The candidate is its own reference: a fault that is always there, under every condition, cannot be seen.")
    if policy.margins.noise_ratio is None:
        found.append("For this declared pair only the cap decides, not the ratio to the reference's noise.")
    return tuple(found)


def worst(report: Report) -> str:
    """How to read the list of the worst items."""
    limit = report.policy.margins.tail_kl
    beyond = sum(item.kl > limit for item in report.worst)
    told = f"{beyond} of these {len(report.worst)} have" if beyond else "none of these has"
    return f"The items with the largest divergence at a single token; {told} one beyond τ, {number(limit)} nats."


def gate_row(gate: GateResult) -> tuple[str, str, str, str, str, str, str, str]:
    """Gate, prompts (which), statistic, number of prompts, estimate with interval, boundary, evidence for either side, decision."""
    interval = "" if gate.interval is None else f" [{number(gate.interval[0])}, {number(gate.interval[1])}]"
    return (
        str(gate.gate), where(gate.stratum), statistic(gate.statistic), str(gate.prompts), optional(gate.estimate) + interval,
        number(gate.boundary), f"{evidence(gate.evidence_promote)} / {evidence(gate.evidence_block)}", gate.decision,
    )  # fmt: skip


def where(stratum: str) -> str:
    """Which prompts a test is about: "Chat", "8 in flight", "cache hit", "replica b", or "all"."""
    name, _, value = stratum.partition("=")
    kinds = {"concurrency": f"{value} in flight", "prefixCache": f"cache {value.lower()}", "replica": f"replica {value}"}
    return kinds.get(name, stratum) if value else stratum or "all"


def statistic(name: str) -> str:
    return STATISTICS.get(name, name)


def evidence(value: float) -> str:
    """As large as it matters: 0.0031, 6.6, 178, 1.2e5."""
    if value == 0 or value != value:
        return number(value)
    return f"{value:.1e}".replace("e+0", "e").replace("e+", "e").replace("e-0", "e-") if value >= 1e5 or value < 1e-3 else number(value)


def number(value: float) -> str:
    """Three significant digits, without an exponent where that is short."""
    if value != value or value in (float("inf"), float("-inf")):
        return str(value)
    if value == 0:
        return "0"
    if abs(value) >= 1e6 or abs(value) < 1e-5:
        return f"{value:.2e}"
    digits = max(0, 2 - _exponent(value))
    text = f"{value:.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _exponent(value: float) -> int:
    return int(f"{value:.2e}".split("e")[1])


def optional(value: float | None) -> str:
    return DASH if value is None else number(value)


def percent(share: float) -> str:
    return f"{number(100 * share)} %"


def seconds(value: float) -> str:
    if value < 90:
        return f"{number(value)} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def cost(spent: Cost) -> str:
    if not spent.requests:
        return "not asked"
    tokens = f"{grouped(spent.prompt_tokens)} + {grouped(spent.generated_tokens)} tokens"
    return f"{grouped(spent.requests)} requests, {tokens}, {seconds(spent.seconds)}"


def about(value: float) -> str:
    """Two digits of a forecast: 1 300, 47 000."""
    size = max(1, 10 ** (len(str(round(value))) - 2))
    return grouped(round(value / size) * size)


def grouped(value: int) -> str:
    return f"{value:,}".replace(",", " ")


def capabilities(can: Capabilities) -> tuple[tuple[str, str], ...]:
    """What was probed, a row each. Unknown is told as unknown."""
    rows = [
        ("engine", can.engine or "not told"),
        ("alternatives per generated token", str(can.top_k) if can.top_k else "no log-probabilities"),
        ("scores a given continuation", f"yes, {can.prompt_top_k} alternatives" if can.prompt_logprobs else "no"),
        ("token ids in / out", f"{_yes(can.token_ids_in)} / {_yes(can.token_ids_out)}"),
        ("longest context", DASH if can.max_model_len is None else f"{can.max_model_len} tokens"),
    ]
    return (*rows, *(("note", note) for note in can.notes if not note.startswith("lists ")))


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def fingerprint(given: Fingerprint) -> tuple[tuple[str, str], ...]:
    """The parts that are known, digests shortened."""
    names = ("profile", "weights", "tokenizer", "template", "engine_image", "driver", "flags")
    rows = [(name.replace("_", " "), str(getattr(given, name))) for name in names if getattr(given, name)]
    return (*((name, short(value)) for name, value in rows), *((name, short(value)) for name, value in sorted(given.extra.items())))


def short(digest: str) -> str:
    """sha256:0123456789ab… of a digest; anything else as it is."""
    head, colon, tail = digest.rpartition("sha256:")
    return f"{head}{colon}{tail[:12]}…" if colon and len(tail) > 16 else digest
