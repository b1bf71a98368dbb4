"""`polyfleet profile` without a cluster: list, show, validate, diff. Goldens are of the demo; rules are shown on small files."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from polyfleet.cli import completing
from polyfleet.cli.profile.terms import age
from polyfleet.cli.program import call, parser
from polyfleet.cli.text import cells

from hwprofiles.shipped_profiles import SHIPPED, load_shipped
from tests.unit.cli.lib import failed, golden, polyfleet

TODAY = ("--today", "2026-11-28")


def shipped(name: str) -> dict[str, Any]:
    return dict(yaml.safe_load((SHIPPED / f"{name}.yaml").read_text(encoding="utf-8")))


def profile_file(folder: Path, body: dict[str, Any], name: str = "profile.yaml") -> str:
    path = folder / name
    path.write_text(yaml.safe_dump(body), encoding="utf-8")
    return str(path)


def changed(path: str, value: Any, name: str = "nvidia-l20") -> dict[str, Any]:
    """A shipped profile with one field set (None: removed)."""
    body = shipped(name)
    *parents, last = path.split(".")
    place: Any = body
    for part in parents:
        place = place.setdefault(part, {})
    if value is None:
        place.pop(last)
    else:
        place[last] = value
    return body


# ---- list and show


def test_goldens() -> None:
    """Read by somebody: the demo's profiles, one of them, one with an estimate, one with a refusal."""
    golden("profile-list-demo.txt", polyfleet("profile", "list", "--snapshot", "demo", *TODAY).out)
    golden("profile-show-demo.txt", polyfleet("profile", "show", "alibaba-ppu-810e", "--snapshot", "demo", *TODAY).out)
    load = ("--model", "Qwen/Qwen3-32B", "--input-tokens", "3500", "--output-tokens", "1500")
    golden("profile-show-estimate.md", polyfleet("profile", "show", "nvidia-l20", "--snapshot", "demo", "-o", "md", *load, *TODAY).out)
    long = ("--model", "Qwen/Qwen3-32B", "--input-tokens", "32000", "--output-tokens", "200")
    refused = polyfleet("profile", "show", "huawei-910c-752", "--snapshot", "demo", *long, *TODAY)
    golden("profile-show-refused.txt", refused.out)
    assert refused.code == 3


@pytest.mark.parametrize("form", ["table", "wide", "md"])
def test_list_names_every_shipped_profile_and_needs_no_cluster(form: str) -> None:
    done = polyfleet("profile", "list", "--shipped", "-o", form, *TODAY)
    assert done.code == 0
    assert all(any(name in line for line in done.lines) for name in load_shipped())
    assert form != "table" or all(cells(line) <= 100 for line in done.lines)


def test_list_counts_evidence_as_the_files_have_it() -> None:
    body = json.loads(polyfleet("profile", "list", "--shipped", "-o", "json", *TODAY).out)
    specs = load_shipped()
    assert [row["name"] for row in body["profiles"]] == sorted(specs)
    for row in body["profiles"]:
        entries = specs[row["name"]].throughput
        assert row["evidence"] == {
            word.lower(): sum(e.evidence == word for e in entries) for word in ("Measured", "Published", "Estimated")
        }


def test_the_demo_counts_devices() -> None:
    """Four H100 nodes of eight: 32 devices (operator/polyfleet/cli/demo/fleet.yaml)."""
    rows = {row["name"]: row for row in yaml.safe_load(polyfleet("profile", "list", "--snapshot", "demo", "-o", "yaml").out)["profiles"]}
    assert (rows["nvidia-h100-sxm"]["nodes"], rows["nvidia-h100-sxm"]["devices"]["total"]) == (4, 32)
    assert rows["nvidia-l20"]["nodes"] == 0


def test_every_number_of_a_shown_profile_has_its_origin() -> None:
    body = json.loads(polyfleet("profile", "show", "huawei-910c-752", "--shipped", "-o", "json", *TODAY).out)
    rows = {row["field"]: row for row in body["numbers"]}
    assert rows["bandwidthTBps"]["value"] == "1.76"
    assert rows["derate.vllm.wideMoE"]["evidence"] == "Estimated"
    assert all(row.get("source") for row in rows.values())
    assert body["spec"] == shipped("huawei-910c-752")["spec"]


def test_what_is_assumed_is_said() -> None:
    """The PPU's bandwidth is not published."""
    assert "bandwidthTBps 1.6 assumed" in polyfleet("profile", "show", "alibaba-ppu-810e", "--shipped").out


def test_an_unknown_name_offers_the_nearest() -> None:
    assert failed("profile", "show", "nvidia-h100", "--shipped")[2] == "repeat with nvidia-h100-sxm"
    assert failed("profile", "show", "nvidia-h200", "--shipped")[2] == "repeat with nvidia-h200-sxm"
    assert failed("profile", "show", "nvidia-l20", "--shipped", "--model", "Qwen/Qwen3-32")[2].startswith(
        "repeat with --model Qwen/Qwen3-3"
    )


def test_a_layout_that_is_no_legal_size_is_refused() -> None:
    """L20 is asked for as 1, 2, 4 or 8 (its allocation.sizes): no number is shown for three of them, nor for six over two nodes."""
    for layout in (("--tensor", "3"), ("--tensor", "6", "--span", "2")):
        done = polyfleet("profile", "show", "nvidia-l20", "--shipped", "--model", "Qwen/Qwen3-8B", *layout)
        assert (done.code, "SizeNotAllowed" in done.out, "planning counts on" in done.out) == (3, True, False)
        assert "allowed per node (allocation.sizes): 1, 2, 4, 8" in " ".join(done.out.split())
    assert polyfleet("profile", "show", "nvidia-l20", "--shipped", "--model", "Qwen/Qwen3-8B", "--tensor", "2").code == 0


def test_faults_are_listed_in_the_order_of_the_entries(tmp_path: Path) -> None:
    """throughput[4] before throughput[14], by validate and by show's own source of faults."""
    entries = [
        {
            "model": f"m{number}", "precision": "bf16", "engine": "vllm", "parallelism": {"tensor": 1}, "evidence": "Published",
            "source": "s", "date": "2199-01" if number in (4, 14) else "2026-10", "outputTokensPerSecond": "100",
        }
        for number in range(15)
    ]  # fmt: skip
    done = polyfleet("profile", "validate", profile_file(tmp_path, changed("spec.throughput", entries)), *TODAY)
    assert [line.split()[1] for line in done.lines if line.split()[:1] == ["error"]] == [
        "spec.throughput[4].date:", "spec.throughput[14].date:",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "arguments",
    [
        ("list", "--shipped", "--snapshot", "demo"),
        ("list", "--shipped", "--context", "x"),
        ("list", "--shipped", "--today", "2026-02-30"),
        ("list", "--shipped", "--today", "tomorrow"),
        ("show", "nvidia-l20", "--shipped", "--model", "m", "--concurrency", "3"),
        ("show", "nvidia-l20", "--shipped", "--model", "m", "--input-tokens", "3"),
        ("show", "nvidia-l20", "--shipped", "--model", "m", "--tensor", "0"),
        ("show", "nvidia-l20", "--shipped", "--model", "m", "--ttft", "1d"),
        ("import", "x", "--from", "vllm", "--profile", "p", "--shipped", "--apply"),
        ("import", "x", "--from", "vllm", "--profile", "p", "--shipped", "--date", "2199-01-01"),
        ("import", "x", "--from", "csv", "--profile", "p"),
        ("lst",),
    ],
)
def test_usage_errors_end_with_64(arguments: tuple[str, ...]) -> None:
    failed("profile", *arguments, code=64)


def test_without_a_cluster_the_ways_out_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert "--shipped" in failed("profile", "list")[2]


@pytest.mark.parametrize(
    ("date", "text"),
    [("2026-11-28", "new"), ("2026-11-24", "4d"), ("2025-11-28", "365d"), ("2026-08", "3mo"), ("2026-11", "new"), ("2026-12", "future")],
)
def test_ages(date: str, text: str) -> None:
    """A month is not made a day: its age stays in months."""
    assert age(date, "2026-11-28") == text


# ---- validate


@pytest.mark.parametrize("argument", ["hwprofiles/*.yaml", "hwprofiles", "hwprofiles/shipped", "hwprofiles/shipped/*.yaml", None])
def test_the_shipped_profiles_are_green(argument: str | None) -> None:
    """The command of the issue as a shell passes it when no file matches, a folder, a pattern, nothing."""
    done = polyfleet("profile", "validate", *([argument] if argument else []))
    assert done.code == 0, done.out
    assert f"{len(load_shipped())} ok, 0 errors" in done.lines[-1]
    row = next(line for line in done.lines if line.split()[:1] == ["huawei-910c-752"])
    assert row.split()[1:4] == ["0", str(len(load_shipped()["huawei-910c-752"].throughput)), "0"]


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (
            "spec.cost.perDeviceHour",
            2.6,
            'spec.cost.perDeviceHour: 2.6 is not allowed; it must be a decimal number in quotes, for example "2.20"',
        ),
        ("spec.unit.memory", "48GB", "spec.unit.memory: '48GB' is not allowed; it must be a number with Ki, Mi, Gi or Ti"),
        ("spec.unit.perNode", 0, "spec.unit.perNode: 0 is not allowed; it must be a whole number from 1 to 1024"),
        ("spec.unit.kind", "chip", "spec.unit.kind: 'chip' is not allowed; it must be one of card, die, slice"),
        ("spec.unit.memory", None, "spec.unit.memory: missing; it must be a number with Ki"),
        ("spec.bandwithTBps", "1", "spec.bandwithTBps: unknown field; did you mean bandwidthTBps?"),
        ("spec.efficiency.mfuu", "1", "spec.efficiency.mfuu: unknown field; did you mean mfu?"),
        (
            "spec.dtypes.bf16",
            "Sure",
            "spec.dtypes.bf16: 'Sure' is not allowed; it must be one of Native, Emulated, WeightOnly, Unsupported",
        ),
        ("spec.allocation.sizes", [3, 16], "size 16 exceeds unit.perNode 8"),
        ("spec.peakTflops.int3", "7", ""),
        ("kind", "HardwareProfil", "kind: 'HardwareProfil' must be HardwareProfile; did you mean it?"),
        ("apiVersion", "v1", "apiVersion: 'v1' must be polyfleet.io/v1alpha1"),
        ("metadata.name", None, "metadata.name: None must be a name"),
        ("specs", {}, "unknown field specs; did you mean spec?"),
    ],
)
def test_a_bad_field_is_named_with_value_and_range(tmp_path: Path, path: str, value: Any, said: str) -> None:
    done = polyfleet("profile", "validate", profile_file(tmp_path, changed(path, value)), *TODAY)
    text = " ".join(done.out.split())
    assert said in text
    assert done.code == (1 if said else 0), done.out


def test_an_entry_that_planning_leaves_out_is_an_error(tmp_path: Path) -> None:
    """80,000 tokens/s of a 32B model on two L20 is far above what 2 x 0.864 TB/s can read."""
    entry = {
        "model": "Qwen/Qwen3-32B", "precision": "bf16", "engine": "vllm", "parallelism": {"tensor": 2},
        "inputTokens": 1000, "outputTokens": 900, "concurrency": 16, "outputTokensPerSecond": "80000", "evidence": "Published",
        "source": "a wish", "date": "2026-10",
    }  # fmt: skip
    done = polyfleet("profile", "validate", profile_file(tmp_path, changed("spec.throughput", [entry])), *TODAY)
    assert done.code == 1
    assert "RooflineBroken" in done.out
    assert "left out of planning" in " ".join(done.out.split())


def test_an_unquoted_date_is_a_date(tmp_path: Path) -> None:
    """YAML would make an object of it, which no field takes."""
    path = tmp_path / "x.yaml"
    text = (SHIPPED / "nvidia-l20.yaml").read_text(encoding="utf-8")
    assert 'date: "2026-11-24"' in text
    path.write_text(text.replace('date: "2026-11-24"', "date: 2026-11-24"), encoding="utf-8")
    done = polyfleet("profile", "validate", str(path), *TODAY)
    assert (done.code, "1 ok, 0 errors" in done.lines[-1]) == (0, True), done.out
    assert polyfleet("plan", "--snapshot", "demo", "-f", str(path)).code == 3


def test_a_warning_fails_only_with_strict(tmp_path: Path) -> None:
    """A price without provenance is used, and said."""
    body = shipped("nvidia-l20")
    rows = [{**row, "fields": [field for field in row["fields"] if field != "cost"]} for row in body["spec"]["provenance"]]
    body["spec"]["provenance"] = [row for row in rows if row["fields"]]
    path = profile_file(tmp_path, body)
    done = polyfleet("profile", "validate", path, *TODAY)
    assert (done.code, "1 warning" in done.lines[-1]) == (0, True), done.out
    assert polyfleet("profile", "validate", path, "--strict", *TODAY).code == 1


def test_a_format_that_nobody_knows_is_a_warning(tmp_path: Path) -> None:
    """Formats are free words: bf61 is taken, with the question whether bf16 was meant; each word once. A word without a neighbour gets the
    list, and --strict fails."""
    body = changed("spec.dtypes", {**shipped("nvidia-l20")["spec"]["dtypes"], "bf61": "Native", "quux": "Native"})
    body["spec"]["throughput"] = [
        {"model": "m/x", "precision": "bf61", "engine": "vllm", "outputTokensPerSecond": "1", "source": "said", "date": "2026-10",
         "evidence": "Published"},
    ]  # fmt: skip
    path = profile_file(tmp_path, body)
    done = polyfleet("profile", "validate", path, *TODAY)
    text = " ".join(done.out.split())
    assert (done.code, text.count("did you mean")) == (0, 1)
    assert "spec.dtypes.bf61: PrecisionUnknown: bytes of bf61 unknown, 2 assumed, with the 16-bit peak; did you mean bf16?" in text
    assert "bytes of quux unknown, 2 assumed, with the 16-bit peak; known formats: awq, bf16" in text
    assert polyfleet("profile", "validate", "--strict", path, *TODAY).code == 1


def test_names_given_twice_and_matches_that_are_alike(tmp_path: Path) -> None:
    first = profile_file(tmp_path, shipped("nvidia-l20"), "a.yaml")
    second = profile_file(tmp_path, shipped("nvidia-l20"), "b.yaml")
    done = polyfleet("profile", "validate", first, second, *TODAY)
    assert (done.code, f"nvidia-l20 is given twice, first in {first}" in " ".join(done.out.split())) == (1, True)
    other = changed("metadata.name", "my-l20")
    alone = polyfleet("profile", "validate", profile_file(tmp_path, other, "c.yaml"), *TODAY)
    said = "nvidia-l20 fits the same nodes equally well (nvidia.com/gpu.product=NVIDIA-L20 with nvidia.com/gpu): they belong to neither"
    assert (alone.code, said in " ".join(alone.out.split())) == (0, True)


def test_a_match_that_only_overlaps_is_warned_of(tmp_path: Path) -> None:
    """Not the same entry: one more value, or a pattern. With one key more it is more specific, and nothing is said."""
    key = "nvidia.com/gpu.product"
    for match, warned in (
        ({"labels": {key: ["NVIDIA-L20-OEM", "NVIDIA-L20"]}}, True),
        ({"labelPatterns": {key: "NVIDIA-L20.*"}}, True),
        ({"labels": {key: ["NVIDIA-L20"], "example.com/site": ["b"]}}, False),
    ):
        body = changed("spec.match", [match])
        body["metadata"]["name"] = "my-l20"
        done = polyfleet("profile", "validate", profile_file(tmp_path, body), *TODAY)
        assert (done.code, "nvidia-l20 fits the same nodes equally well" in " ".join(done.out.split())) == (0, warned), done.out


def test_several_documents_lists_and_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "two.yaml"
    path.write_text(yaml.safe_dump_all([shipped("nvidia-l20"), {"kind": "List", "items": [shipped("nvidia-l40s"), {"kind": "Pod"}]}]))
    body = json.loads(polyfleet("profile", "validate", str(path), "-o", "json", *TODAY).out)
    assert [row["name"] for row in body["profiles"]] == ["nvidia-l20", "nvidia-l40s"]
    assert [row["message"] for row in body["problems"]] == ["document 3: kind: 'Pod' must be HardwareProfile"]
    assert body["exitCode"] == 1
    monkeypatch.setattr("sys.stdin", io.StringIO(yaml.safe_dump(shipped("nvidia-l20"))))
    assert "1 ok" in polyfleet("profile", "validate", "-", *TODAY).lines[-1]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "it holds no object"),
        ("a: [", "not YAML"),
        ("a: 1\na: 2", "key 'a' is given twice"),
        ("just text", "str instead of an object"),
        ("- 1", "list instead of an object"),
    ],
)
def test_a_file_that_is_no_profile_is_an_error(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text, encoding="utf-8")
    done = polyfleet("profile", "validate", str(path))
    assert (done.code, said in done.out) == (1, True), done.out


def test_a_missing_file_and_a_folder_without_profiles(tmp_path: Path) -> None:
    assert failed("profile", "validate", str(tmp_path / "none.yaml"))[1] == "there is no such file or folder"
    assert "holds no profile file" in failed("profile", "validate", str(tmp_path))[0]
    assert "no file matches" in failed("profile", "validate", str(tmp_path / "*.yaml"))[0]
    large = tmp_path / "large.yaml"
    with large.open("wb") as file:
        file.truncate(100 << 20)
    assert failed("profile", "validate", str(large))[1] == "it has 100 MiB, at most 4 MiB"


# ---- diff


def test_diff_names_fields_values_and_origins(tmp_path: Path) -> None:
    path = profile_file(tmp_path, changed("spec.cost.perDeviceHour", "1.60"))
    done = polyfleet("profile", "diff", path, "shipped/nvidia-l20", "-o", "json")
    (row,) = json.loads(done.out)["differences"]
    assert (done.code, row["field"], row["left"], row["right"]) == (2, "cost.perDeviceHour", "1.60", "1.30")
    assert row["leftOrigin"].startswith("Estimated 2026-11-24")
    assert polyfleet("profile", "diff", path, path).code == 0


def test_diff_pairs_entries_by_what_they_are_about(tmp_path: Path) -> None:
    """Reversing the list is no difference; one changed rate is one."""
    body = shipped("huawei-910c-752")
    body["spec"]["throughput"].reverse()
    same = profile_file(tmp_path, body, "same.yaml")
    assert polyfleet("profile", "diff", same, "shipped/huawei-910c-752").code == 0
    body["spec"]["throughput"][0]["outputTokensPerSecond"] = "3333"
    rows = json.loads(polyfleet("profile", "diff", profile_file(tmp_path, body), "shipped/huawei-910c-752", "-o", "json").out)[
        "differences"
    ]
    assert [row["left"].split(",")[0] for row in rows] == ["3333 tok/s"]


def test_a_changed_origin_is_a_difference(tmp_path: Path) -> None:
    body = shipped("nvidia-l20")
    row = next(row for row in body["spec"]["provenance"] if "cost" in row["fields"])
    row["source"] = "an invoice"
    done = polyfleet("profile", "diff", profile_file(tmp_path, body), "shipped/nvidia-l20")
    assert (done.code, "cost.perDeviceHour: 1.30, of another origin" in done.out) == (2, True)


def test_diff_of_a_file_and_the_snapshot(tmp_path: Path) -> None:
    path = profile_file(tmp_path, changed("spec.cost.perDeviceHour", "1.60"))
    assert polyfleet("profile", "diff", path, "--snapshot", "demo").code == 2
    assert polyfleet("profile", "diff", "nvidia-l20", "--snapshot", "demo").lines == [
        "snapshot/nvidia-l20 → shipped/nvidia-l20: no difference"
    ]


# ---- the terminal, and what comes next


class Terminal(io.StringIO):
    """An output that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("columns", [80, 140])
@pytest.mark.parametrize(
    "arguments", [("list", "--shipped"), ("list", "--snapshot", "demo"), ("show", "huawei-910c-752", "--shipped"), ("validate",)]
)
def test_tables_fit_the_terminal(columns: int, arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """No line is wider than the terminal, and no name of a profile is cut."""
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("NO_COLOR", "1")
    out, err = Terminal(), io.StringIO()
    assert call(["profile", *arguments], out, err) == 0, err.getvalue()
    lines = out.getvalue().splitlines()
    assert all(cells(line) <= columns for line in lines), [line for line in lines if cells(line) > columns]
    names = list(load_shipped()) if arguments in (("list", "--shipped"), ("validate",)) else []
    assert all(any(f" {name} " in line for line in lines) for name in names)
    assert any(cells(line) > 100 for line in lines) or columns == 80 or arguments[0] == "validate"


@pytest.mark.parametrize(
    ("words", "expected", "directive"),
    [
        (["prof"], ["profile"], 4),
        (["profile", "v"], ["validate"], 4),
        (["profile", "show", "nvidia-h2"], ["nvidia-h20-96", "nvidia-h200-sxm"], 4),
        (["profile", "import", "--from", "g"], ["genai-perf"], 4),
        (["profile", "import", "--profile", "huawei-910c"], ["huawei-910c-560", "huawei-910c-752"], 4),
        (["profile", "list", "-o", "j"], ["json"], 4),
        (["profile", "list", "--ship"], ["--shipped"], 4),
        (["profile", "diff", "shipped/nvidia-l4"], ["shipped/nvidia-l40s"], 0),
        (["profile", "validate", ""], [], 0),
    ],
)
def test_completion_knows_verbs_options_formats_and_profiles(words: list[str], expected: list[str], directive: int) -> None:
    found, files = completing.words(parser(), words)
    if words[-1] or directive:
        assert found == expected
    assert files == directive


def test_names_that_are_completed_are_the_shipped_ones() -> None:
    assert completing.profile_names() == sorted(load_shipped())
