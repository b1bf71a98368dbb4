"""A report as one HTML page that stands by itself: verdict first, then why, then what it does not show. No scripts, nothing from outside.

Everything that comes from an endpoint or a golden set is escaped; the page's own policy (CSP) forbids scripts and every request.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from html import escape
from math import isinf

from accuracy.report import figures, plots, words
from accuracy.report.model import Report, Side
from accuracy.report.style import CSS
from accuracy.types import Capabilities, GateResult

_CSP = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def render(report: Report, curves: Sequence[figures.Curve] | None = None) -> str:
    """The page. `curves` None: the evidence is computed again from the samples."""
    found = figures.curves(report) if curves is None else tuple(curves)
    sections = (
        _verdict(report), _gates(report), _evidence(report, found), _ratios(report), _suspects(report), _honest(report), _worst(report),
        _sides(report), _run(report),
    )  # fmt: skip
    body = words.clean("\n".join(part for section in sections for part in section))
    title = words.clean(escape(f"{words.verdict_word(report)}: {words.pair(report)}"))
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_CSP}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{CSS}</style>
</head>
<body>
<main>
{body}
{_footer(report)}
</main>
</body>
</html>
"""


def _verdict(report: Report) -> Iterator[str]:
    decision = report.decision
    tone = decision.verdict or "Running"
    model = f" <small>{escape(report.candidate.model)}</small>" if report.candidate.model else ""
    yield f'<section class="verdict {tone}">'
    yield f'<h1><span class="word">{words.verdict_word(report)}</span>{escape(words.pair(report))}{model}</h1>'
    yield f'<p class="lead">{escape(words.meaning(report))}</p>'
    yield f'<p class="why"><b>{escape(decision.reason)}.</b> {escape(decision.message)}</p>'
    yield f'<div class="figures">{"".join(_figure(value, label) for value, label in _figures(report))}</div>'
    yield "</section>"


def _figures(report: Report) -> Iterator[tuple[str, str]]:
    decision, margins = report.decision, report.policy.margins
    limit = "the cap decides" if margins.noise_ratio is None else f"allowed {words.number(margins.noise_ratio)}"
    declared = f", {words.arrow(report.declared)}" if report.declared else ""
    yield words.optional(decision.noise_ratio), f"distance over the reference's own noise ({limit}{declared})"
    yield str(decision.prompts), f"prompts, of at most {report.policy.max_prompts}"
    if decision.certified_rate is not None and decision.confidence is not None:
        yield f"≤ {words.percent(decision.certified_rate)}", f"bad prompts, with {words.percent(decision.confidence)} confidence"
    else:
        yield words.DASH, f"certified rate of bad prompts (asked for: {words.percent(report.policy.bad_prompt_rate)})"
    yield str(report.mode or words.DASH), f"level {report.policy.level}, {report.top_k or 'no'} alternatives per position"
    spent = sum(cost.prompt_tokens + cost.generated_tokens for cost in report.cost)
    yield words.grouped(spent), f"tokens on both sides, in {words.seconds(float(round(max(cost.seconds for cost in report.cost))))}"


def _figure(value: str, label: str) -> str:
    return f"<div><b>{escape(value)}</b><span>{escape(label)}</span></div>"


def _gates(report: Report) -> Iterator[str]:
    yield '<h2>Gates</h2>\n<ul class="gates">'
    for line in figures.gate_lines(report):
        tests = "" if not line.tests or line.state == "NotRun" else f" {len(line.tests) - line.open} of {len(line.tests)} tests pass."
        yield (
            f'<li class="{line.state}"><span class="chip">{words.STATES[line.state]}</span><b>{line.gate}</b><br>'
            f"{escape(words.ASKS[line.gate])}.{tests}</li>"
        )
    yield "</ul>"
    results = report.decision.gates
    if not results:
        return
    failed = [gate for gate in results if gate.decision == "Fail"]
    for gate in failed[:5]:
        which = f"{gate.gate} {words.where(gate.stratum) if gate.stratum else ''} ({words.statistic(gate.statistic)})"
        yield f"<p><b>{escape(which)}</b> fails. {escape(gate.message)}</p>"
    promote, block = figures.thresholds(report)
    opened = " open" if len(results) <= 14 else ""
    rule = f"a test passes at evidence {words.number(promote)} for Promote; {words.number(block)} for Block in any one ends the run"
    yield f"<details{opened}><summary>All {len(results)} tests: {rule}</summary>"
    yield _gate_table(results)
    yield "</details>"


def _gate_table(results: Iterable[GateResult]) -> str:
    heads = ("gate", "prompts", "statistic", "n", "estimate [interval]", "boundary", "evidence promote / block", "")
    rows = []
    for gate in results:
        cells = words.gate_row(gate)
        row = "".join(
            f'<td class="r">{escape(cell)}</td>' if 3 <= at <= 6 else f"<td>{escape(cell)}</td>" for at, cell in enumerate(cells[:7])
        )
        rows.append(f'<tr>{row}<td class="{gate.decision}">{gate.decision}</td></tr>')
    head = "".join(f'<th class="r">{name}</th>' if 3 <= at <= 6 else f"<th>{name}</th>" for at, name in enumerate(heads))
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _evidence(report: Report, curves: Sequence[figures.Curve]) -> Iterator[str]:
    picture = plots.evidence(curves, *figures.thresholds(report))
    if picture:
        yield f"<h2>Evidence over prompts</h2>\n{picture}"
        yield (
            '<p class="soft">One line per test. Each is a bet against its hypothesis; reading it at any moment is allowed. The run stops '
            "when the last test has crossed the upper panel's line, or the first one the lower panel's. A dot marks the crossing.</p>"
        )


def _ratios(report: Report) -> Iterator[str]:
    which = figures.statistic(report)
    picture = plots.ratios(figures.ratios(report, lambda sample: sample.stratum, which))
    if picture:
        what = "mean divergence" if which == "kl" else "mean squared difference of the golden token"
        yield f"<h2>Noise ratio by stratum</h2>\n{picture}"
        limit = "The boundary is κ, and more where the reference's noise is below the floor."
        bad = "A bad prompt has a position beyond τ, a confident flip or a fault."
        yield f'<p class="soft">Statistic: {what} per token. {limit} {bad}</p>'
    everything = plots.prompts(report, which)
    if everything:
        yield f"<h2>Every prompt</h2>\n{everything}"
    margins = [(name, row) for name, way in figures.margins_of_design(report) for row in figures.ratios(report, way, which)]
    if margins:
        rows = ((name, row.name, row.prompts, words.optional(row.ratio), words.optional(row.boundary), row.bad) for name, row in margins)
        yield "<h2>By condition</h2>"
        yield _table(("condition", "", "prompts", "ratio", "boundary", "bad"), rows, right=(2, 3, 4, 5))


def _suspects(report: Report) -> Iterator[str]:
    if not report.suspects:
        return
    yield "<h2>Suspects</h2>\n<table><thead><tr><th>likely cause</th><th>fits</th><th>evidence</th></tr></thead><tbody>"
    for suspect in report.suspects:
        width = round(90 * min(max(suspect.weight, 0.0), 1.0))
        bar = f'<span class="track"><span class="bar" style="width:{width}px"></span></span>{words.percent(round(suspect.weight, 3))}'
        yield f"<tr><td><b>{escape(suspect.code)}</b></td><td style='white-space:nowrap'>{bar}</td><td>{escape(suspect.evidence)}</td></tr>"
    yield "</tbody></table>"


def _honest(report: Report) -> Iterator[str]:
    yield "<h2>What this does not show</h2>"
    yield f"<p>{escape(words.certified(report))}</p>"
    if report.uncovered:
        yield "<p><b>Not covered by this run</b></p>" + _list(report.uncovered)
    yield "<p><b>Limits of the method</b></p>" + _list(words.limits(report))


def _worst(report: Report) -> Iterator[str]:
    """Where the sides differ most. A promoted run has such items as well: they say how far "far" is."""
    if not report.worst:
        return
    quoted = any(item.output for item in report.worst)
    what = '<th class="r">token</th><th class="r">KL there</th>'
    yield f"<h2>{words.WORST}</h2>"
    yield f'<p class="soft">{escape(words.worst(report))}</p>'
    yield f"<table><thead><tr><th>item</th>{what}{'<th>what the candidate says there</th>' if quoted else ''}</tr></thead><tbody>"
    for item in report.worst:
        place = words.DASH if item.position is None else str(item.position)
        blank = "blanks only" if item.output else "not quoted"
        output = f"<pre>{escape(item.output)}</pre>" if item.output.strip() else f'<span class="soft">{blank}</span>'
        tone = "r bad" if item.kl > report.policy.margins.tail_kl else "r"
        far = f'<td class="r">{place}</td><td class="{tone}">{words.number(item.kl)}</td>'
        yield f"<tr><td>{escape(item.item)}</td>{far}{f'<td>{output}</td>' if quoted else ''}</tr>"
    yield "</tbody></table>"


def _sides(report: Report) -> Iterator[str]:
    yield '<h2>The two sides</h2>\n<div class="two">'
    for title, side, can, cost in zip(
        ("Reference", "Candidate"), (report.reference, report.candidate), report.capabilities, report.cost, strict=True
    ):
        yield f"<div><p><b>{title}: {escape(side.name)}</b></p>{_table((), _side(side, can, words.cost(cost)))}</div>"
    yield "</div>"


def _side(side: Side, can: Capabilities, cost: str) -> list[tuple[str, str]]:
    model = [("model", side.model)] if side.model else []
    return [*model, *words.fingerprint(side.fingerprint), *words.capabilities(can), ("cost", cost)]


def _run(report: Report) -> Iterator[str]:
    policy, margins = report.policy, report.policy.margins
    yield '<h2>The run</h2>\n<div class="two">'
    kappa = "the cap decides" if margins.noise_ratio is None else words.number(margins.noise_ratio)
    yield _table((), (
        ("declared pair", words.arrow(report.declared) or "none: judged as the same number formats"),
        ("κ, noise ratio", kappa),
        ("floor, cap of KL", f"{words.number(margins.floor_kl)}, {words.number(margins.cap_kl)} nats"),
        ("τ, bad position", f"{words.number(margins.tail_kl)} nats"),
        ("confident flip", "not judged" if isinf(margins.flip_margin_nats) else f"{words.number(margins.flip_margin_nats)} nats"),
        ("b, bias", f"{words.number(margins.bias)} nats"),
        ("α, β, ρ", f"{words.percent(policy.alpha)}, {words.percent(policy.beta)}, {words.percent(policy.bad_prompt_rate)}"),
        ("policy", words.short(policy.digest)),
    ))  # fmt: skip
    golden = [(f"golden set {name}", f"{items} items, {words.short(digest)}") for name, digest, items in report.golden]
    record = words.short(report.record_digest) if report.record_digest else "not stored"
    noise = [(f"noise in {name}", f"{words.optional(kl)} KL, {words.optional(sq)} Δ²") for name, kl, sq in report.noise]
    yield _table((), (
        ("made", report.made), ("seed", str(report.seed)), ("mode", words.mode(report)), ("reference record", record), *golden,
        ("replicas", ", ".join(report.replicas) or "one"),
    ))  # fmt: skip
    yield "</div>"
    if noise:
        yield f"<details><summary>The reference's own noise, nats per token</summary>{_table((), noise)}</details>"


def _table(heads: Sequence[str], rows: Iterable[Sequence[object]], right: Sequence[int] = ()) -> str:
    body = "".join(
        "<tr>" + "".join(f"<td{' class=r' if at in right else ''}>{escape(str(cell))}</td>" for at, cell in enumerate(row)) + "</tr>"
        for row in rows
    )
    head = "".join(f"<th{' class=r' if at in right else ''}>{escape(name)}</th>" for at, name in enumerate(heads))
    return f"<table>{f'<thead><tr>{head}</tr></thead>' if heads else ''}<tbody>{body}</tbody></table>"


def _list(items: Iterable[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(item)}</li>" for item in items) + "</ul>"


def _footer(report: Report) -> str:
    return (
        "<footer>Every number of every prompt is in the JSON report beside this page; <code>polyfleet accuracy verify report.json</code> "
        "computes the verdict again from it, without either endpoint. The verdict holds for this fingerprint only. "
        f"Made {escape(report.made)}.</footer>"
    )
