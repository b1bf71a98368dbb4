"""The services format, the independent checker and the re-implemented rules of other planners."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from bench.placement import checker, family, inferno, rules, solve
from bench.placement.__main__ import main
from bench.placement.openb import DATA
from bench.placement.services import COLUMNS, Candidate, Instance, Service, ServicesError, read, write, write_answer

# One small instance. a: 10 of 4 each = 3 on X. b: 10 of 4 each = 3 on Y or of 2 on X.
ROWS = ("a,1,10,X,X,2,4,5,3", "a,1,10,Z,Z,1,0,1,0", "b,2,10,X,X,1,2,1,5", "b,2,10,Y,Y,1,4,7,3")
STOCK = ("X,6", "Y,3", "Z,9")
KEYS = ["cost", "placed", "services", "bound", "gap_percent", "cpu_seconds", "bound_cpu_seconds", "peak_mb", "outcome"]


def files(folder: Path, rows: tuple[str, ...] = ROWS, stock: tuple[str, ...] = STOCK, header: str = ",".join(COLUMNS)) -> tuple[Path, Path]:
    one, two = folder / "s.csv", folder / "s.stock.csv"
    one.write_text("\n".join([header, *rows]) + "\n")
    two.write_text("\n".join(["device_type,devices", *stock]) + "\n")
    return one, two


def verdict(folder: Path, answer: str, stock: tuple[str, ...] = STOCK) -> checker.Verdict:
    one, two = files(folder, stock=stock)
    (folder / "a.csv").write_text(answer)
    return checker.judge(one, two, folder / "a.csv")


def test_checker_counts_a_valid_answer(tmp_path: Path) -> None:
    """3 X for a (6 devices, 15 cents) and 3 Y for b (21 cents): all placed for 36 cents."""
    got = verdict(tmp_path, "service,accelerator,replicas\na,X,3\nb,Y,3\n")
    assert (got.ok, got.cost, got.placed, got.services, got.placed_per_priority) == (True, 36.0, 2, 2, {1: 1, 2: 1})


def test_checker_accepts_unplaced_services_and_mixed_kinds(tmp_path: Path) -> None:
    """No rows is a valid answer that places nothing; b may be served by two kinds together (2 X + 2 Y = 12 of 10)."""
    nothing = verdict(tmp_path, "service,accelerator,replicas\n")
    assert (nothing.ok, nothing.cost, nothing.placed) == (True, 0.0, 0)
    mixed = verdict(tmp_path, "service,accelerator,replicas\nb,X,2\nb,Y,2\n")
    assert (mixed.ok, mixed.cost, mixed.placed) == (True, 16.0, 1)


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        ("service,accelerator,replicas\na,X,2\n", "8 of 10"),
        ("service,accelerator,replicas\na,X,4\n", "8 devices used, 6 in stock"),
        ("service,accelerator,replicas\na,Z,3\n", "its rate is 0"),
        ("service,accelerator,replicas\na,Y,3\n", "no such candidate"),
        ("service,accelerator,replicas\nc,X,3\n", "no such candidate"),
        ("service,accelerator,replicas\na,X,0\n", "must be a whole number above 0"),
        ("service,accelerator,replicas\na,X,-3\n", "must be a whole number above 0"),
        ("service,accelerator,replicas\na,X,2.5\n", "must be a whole number above 0"),
        ("service,accelerator,replicas\nb,Y,3\na,X,3\n", "not sorted"),
        ("service,accelerator,replicas\na,X,1\na,X,2\n", "listed 2 times"),
        ("service,replicas,accelerator\na,3,X\n", "header"),
        ("", "header"),
    ],
)
def test_checker_catches(tmp_path: Path, answer: str, fault: str) -> None:
    """Each kind of wrong answer is named."""
    got = verdict(tmp_path, answer)
    assert not got.ok
    assert any(fault in f for f in got.faults), got.faults


def test_checker_slack_is_one_millionth(tmp_path: Path) -> None:
    """A service is placed at 1 - 1e-6 of its demand, not below."""
    for demand, placed in (("12.00001", 1), ("12.00002", 0)):
        one, two = files(tmp_path, rows=(f"a,1,{demand},X,X,2,4,5,3",))
        (tmp_path / "a.csv").write_text("service,accelerator,replicas\na,X,3\n")
        assert checker.judge(one, two, tmp_path / "a.csv").placed == placed


@pytest.mark.parametrize(
    ("rows", "stock", "words"),
    [
        (("a,1,10,X,X,2,nan,5,3",), STOCK, ("line 2", "'replica_req_per_min'", "'nan'")),
        (("a,1,10,X,X,2,-4,5,3",), STOCK, ("line 2", "'replica_req_per_min'", "'-4'")),
        (("a,1,ten,X,X,2,4,5,3",), STOCK, ("line 2", "'demand_req_per_min'", "'ten'")),
        (("a,1,inf,X,X,2,4,5,3",), STOCK, ("line 2", "'demand_req_per_min'", "'inf'")),
        (("a,first,10,X,X,2,4,5,3",), STOCK, ("line 2", "'priority'", "'first'")),
        (("a,0,10,X,X,2,4,5,3",), STOCK, ("line 2", "'priority'", "'0'")),
        (("a,1,10,X,X,0,4,5,3",), STOCK, ("line 2", "'devices_per_replica'", "'0'")),
        (("a,1,10,X,X,1.5,4,5,3",), STOCK, ("line 2", "'devices_per_replica'", "'1.5'")),
        (("a,1,10,X,X,2,4,,3",), STOCK, ("line 2", "'replica_cost_cents_per_hour'", "''")),
        ((",1,10,X,X,2,4,5,3",), STOCK, ("line 2", "'service'", "empty")),
        (("a,1,10,X,X,2,4,5,3", "a,2,10,Y,Y,1,4,5,3"), STOCK, ("line 3", "'priority'", "'2'")),
        (("a,1,10,X,X,2,4,5,3", "a,1,11,Y,Y,1,4,5,3"), STOCK, ("line 3", "'demand_req_per_min'", "'11'")),
        (("a,1,10,X,X,2,4,5,3", "a,1,10,X,X,1,4,5,3"), STOCK, ("line 3", "'accelerator'", "'X'")),
        (("a,1,10,X",), STOCK, ("line 2", "4 values")),
        (ROWS, ("X,-1",), ("s.stock.csv", "line 2", "'devices'", "'-1'")),
        (ROWS, ("X,1", "X,2"), ("s.stock.csv", "line 3", "'device_type'", "'X'")),
    ],
)
def test_bad_files_name_line_column_and_value(
    tmp_path: Path, rows: tuple[str, ...], stock: tuple[str, ...], words: tuple[str, ...]
) -> None:
    """Nothing is guessed: the message says where and what."""
    one, two = files(tmp_path, rows, stock)
    with pytest.raises(ServicesError) as error:
        read(one, two)
    for word in (str(tmp_path), *words):
        assert word in str(error.value)


def test_bad_bytes_and_headers(tmp_path: Path) -> None:
    """A missing file, a cut gzip file, an unknown and a missing column."""
    one, two = files(tmp_path)
    cut = tmp_path / "cut.csv.gz"
    cut.write_bytes(gzip.compress(one.read_bytes())[:40])
    for bad, word in ((tmp_path / "none.csv", "none.csv"), (cut, "cut.csv.gz")):
        with pytest.raises(ServicesError, match=word):
            read(bad, two)
    for header, word in ((",".join(COLUMNS[:-2]), "replica_cost_cents_per_hour"), (",".join((*COLUMNS, "more")), "more")):
        bad, _ = files(tmp_path, rows=(), header=header)
        with pytest.raises(ServicesError, match=f"line 1: .*{word}"):
            read(bad, two)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    """Names with commas, quotes and other scripts survive; the bytes depend on the content alone."""
    candidates = (Candidate('4x"A",b', "ascend 910c", 2, 1.25, 3.75), Candidate("模型", "X", 1, 0.0, 1.0))
    instance = Instance(
        (Service('team-a/"q", 1', 1, 12.5, candidates), Service("team_a-q", 3, 0.0, candidates)), {"X": 0, "ascend 910c": 7}
    )
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        write(instance, tmp_path / folder / "i.csv.gz", tmp_path / folder / "i.stock.csv")
        assert read(tmp_path / folder / "i.csv.gz", tmp_path / folder / "i.stock.csv") == instance
    assert (tmp_path / "one/i.csv.gz").read_bytes() == (tmp_path / "two/i.csv.gz").read_bytes()


@pytest.mark.parametrize(
    ("name", "placed", "cost"),
    [
        ("services15", 15, 39_743),
        ("services27", 27, 27_007),
        ("services27_load1.1", 26, None),
        ("services27_load2", 25, None),
        ("services108", 108, 108_219),
    ],
)
def test_wva_greedy_gives_the_published_results(tmp_path: Path, name: str, placed: int, cost: float | None) -> None:
    """The results of the original allocator on the kept files (published with them)."""
    write_answer(tmp_path / "a.csv", inferno.solve(family.kept(name)))
    got = checker.judge(DATA / f"services/{name}.csv.gz", DATA / f"services/{name}.stock.csv", tmp_path / "a.csv")
    assert got.ok, got.faults
    assert got.placed == placed
    assert cost is None or got.cost == cost


def test_rules_of_kthena_and_kueue_by_hand() -> None:
    """Kthena fills the cheapest devices and goes on with the next; Kueue takes the first kind that holds the whole service."""
    s = Service("s", 1, 10.0, (Candidate("cheap", "C", 1, 2.0, 1.0), Candidate("dear", "D", 1, 4.0, 3.0)))
    assert rules.kthena(Instance((s,), {"C": 3, "D": 9})) == [("s", "cheap", 3), ("s", "dear", 1)]
    assert rules.kueue(Instance((s,), {"C": 3, "D": 9})) == [("s", "dear", 3)]
    assert rules.kueue(Instance((s,), {"C": 5, "D": 9})) == [("s", "cheap", 5)]
    assert rules.kthena(Instance((s,), {"C": 1, "D": 1})) == []


def test_drawn_instances_are_the_same_for_a_seed_and_scale() -> None:
    """As many services as asked, stock in proportion, every service with a candidate, other seeds differ."""
    one = family.draw(54, 1.25, 3)
    assert one == family.draw(54, 1.25, 3)
    assert one != family.draw(54, 1.25, 4)
    assert len(one.services) == 54
    assert all(s.candidates for s in one.services)
    base = family.kept("services27").stock
    assert all(1.2 * base[k] <= one.stock[k] <= 3.4 * base[k] for k in base)


@pytest.mark.parametrize(("name", "cost"), [("services15", 35_386.5)])
def test_solve_finds_the_proven_optimum_and_keeps_its_contract(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, cost: float
) -> None:
    """35,386.5 is the proven optimum of services15 (reproduced from the file with a general solver). Keys, bound and bytes as promised."""
    data = DATA / "services"
    out = [tmp_path / "1.csv", tmp_path / "2.csv"]
    for path in out:
        code = main(["solve", "--services", str(data / f"{name}.csv.gz"), "--stock", str(data / f"{name}.stock.csv"), "--out", str(path)])
        assert code == 0
        text = capsys.readouterr().out
        assert text.count("\n") == 1
        line = json.loads(text)
        assert list(line) == KEYS
        assert (line["cost"], line["placed"], line["services"]) == (cost, 15, 15)
        assert 0 < line["bound"] <= cost
        assert line["gap_percent"] == pytest.approx(100 * (cost - line["bound"]) / cost, abs=1e-5)
    assert out[0].read_bytes() == out[1].read_bytes()
    assert checker.judge(data / f"{name}.csv.gz", data / f"{name}.stock.csv", out[0]).ok


def test_solve_with_unplaced_services_and_with_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Room for one of two: the first priority is placed and the exit code is 0. No stock at all: an empty answer."""
    for stock, placed, body in ((("X,6",), 1, "a,X,3\n"), (("X,0",), 0, "")):
        one, two = files(tmp_path, stock=stock)
        assert main(["solve", "--services", str(one), "--stock", str(two), "--out", str(tmp_path / "a.csv")]) == 0
        line = json.loads(capsys.readouterr().out)
        assert (line["placed"], line["services"]) == (placed, 2)
        assert (tmp_path / "a.csv").read_text() == "service,accelerator,replicas\n" + body


def test_solve_refuses_bad_files_with_exit_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The message goes to standard error, nothing is written."""
    one, two = files(tmp_path, rows=("a,1,10,X,X,2,x,5,3",))
    assert main(["solve", "--services", str(one), "--stock", str(two), "--out", str(tmp_path / "a.csv")]) == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert "s.csv: line 2: column 'replica_req_per_min' has 'x'" in told.err
    assert not (tmp_path / "a.csv").exists()


def test_efforts_are_those_of_the_placer() -> None:
    """`--effort` offers the placer's two efforts by name."""
    from placement.types import DEEP, DEFAULT

    assert solve.EFFORTS == {"default": DEFAULT, "deep": DEEP}
