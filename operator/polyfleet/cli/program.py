"""Parses the command line, runs one command, and turns every failure into what · why · next command and a stable exit code."""

from __future__ import annotations

import argparse
import gc
import os
import sys
from importlib import import_module
from typing import Any, NoReturn, TextIO

from polyfleet.cli import options
from polyfleet.cli.failure import FAILED, USAGE, Failure, nearest

# Commands with a module of their own: `add(subparsers)` is cheap, `run(chosen, out, err)` imports what it needs.
_FAMILIES = ("profile", "model", "bench", "accuracy", "scaler", "simulate")
_DEBUG = "POLYFLEET_TRACEBACK"  # for who works on polyfleet itself


class _Parser(argparse.ArgumentParser):
    """argparse ends with 2 on a usage error, which means `changes` here."""

    def error(self, message: str) -> NoReturn:
        why = " ".join(message.split())
        known = [name for action in self._actions if isinstance(action, argparse._SubParsersAction) for name in action.choices]
        if known and "invalid choice" in why:
            word = why.split("'")[1] if why.count("'") > 1 else ""
            near = nearest(word, known, 1)
            raise Failure(f"no command named {word}", f"known: {', '.join(known)}", f"{self.prog} {near[0] if near else '--help'}", USAGE)
        raise Failure("the command line is not right", why, f"{self.prog} --help", USAGE)


def parser() -> argparse.ArgumentParser:
    top = _Parser(prog=_name(), description="Places, scales and verifies models over mixed accelerators.")
    top.add_argument("--version", action="version", version=version())
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)

    commands.add_parser("run", help="run the operator against the cluster of KUBECONFIG, or of the pod it runs in")
    commands.add_parser("version", help="print the version")

    plan = commands.add_parser("plan", help="what would be placed where, what it costs, what is missing; writes nothing")
    options.cluster(plan)
    options.snapshot(plan)
    options.files(plan)
    options.output(plan)

    explain = commands.add_parser("explain", help="why a model runs where it runs, why not elsewhere, and what would fix it")
    explain.add_argument("model", metavar="mdep/NAME", help="mdep/NAME or mdep/NAMESPACE/NAME")
    explain.add_argument("--why-not", metavar="PROFILE|POOL", default="", help="why this profile or pool has no more replicas of it")
    options.cluster(explain)
    options.snapshot(explain)
    options.files(explain)

    snapshot = commands.add_parser("snapshot", help="everything that a plan needs in one file, without secrets; reads only")
    snapshot.add_argument("-o", "--output", metavar="FILE", default="-", help="where to write it (default: standard output)")
    options.cluster(snapshot)

    used = commands.add_parser("usage", help="work, cost and utilisation by model and device type, idle devices, and one vendor alone")
    used.add_argument("--no-counterfactual", action="store_true", help="leave out the plans for one vendor alone, which take a second each")
    options.cluster(used)
    options.snapshot(used)
    options.files(used)
    options.output(used)

    for name in _FAMILIES:
        import_module(f"polyfleet.cli.{name}.command").add(commands)
    return top


def _name() -> str:
    """kubectl runs a plug-in as kubectl-polyfleet; its users write kubectl polyfleet."""
    return "kubectl polyfleet" if os.path.basename(sys.argv[0] if sys.argv else "") == "kubectl-polyfleet" else "polyfleet"


def main(arguments: list[str] | None = None) -> int:
    return call(sys.argv[1:] if arguments is None else arguments, sys.stdout, sys.stderr)


def call(arguments: list[str], out: TextIO, err: TextIO) -> int:
    """One command; never raises."""
    try:
        code = _command(parser().parse_args(arguments), out, err)
        out.flush()
        return code
    except Failure as failure:
        lines, code = failure.lines(), failure.code
    except SystemExit as end:  # --help
        return int(end.code or 0)
    except BrokenPipeError:
        # The reader went away (`| head`); Python would complain once more when it closes standard output.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return FAILED
    except KeyboardInterrupt:
        lines, code = Failure("interrupted", "a signal came", "repeat the command").lines(), FAILED
    except Exception as error:  # the last line of defence: a fault of this program, said as one
        if os.environ.get(_DEBUG):
            raise
        again = f"{_DEBUG}=1 {_name()} {' '.join(arguments)}"
        why = f"{type(error).__name__}: {str(error)[:300]}"
        lines, code = Failure("polyfleet failed on this input", why, f"{again}  # and please report it").lines(), FAILED
    for line in lines:
        print(line, file=err)
    return code


def _command(chosen: argparse.Namespace, out: TextIO, err: TextIO) -> int:
    if chosen.command == "version":
        print(version(), file=out)
        return 0
    if chosen.command == "run":
        from polyfleet.main import main as run

        return run()
    gc.set_threshold(200_000, 20, 100)  # imports and one plan, then the end: a fifth of the time otherwise
    if chosen.command in _FAMILIES:
        return int(import_module(f"polyfleet.cli.{chosen.command}.command").run(chosen, out, err))
    from polyfleet.cli import commands

    command: Any = getattr(commands, chosen.command)
    return int(command(chosen, out, err))


def version() -> str:
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    try:
        return installed("polyfleet")
    except PackageNotFoundError:
        return "unknown (not installed as a package)"


def completion() -> int:
    """`kubectl_complete-polyfleet`: words that may come next, one a line, then the directive of the shell (4: no file names)."""
    from polyfleet.cli import completing

    found, directive = completing.words(parser(), sys.argv[1:])
    for item in found:
        print(item)
    print(f":{directive}")
    return 0
