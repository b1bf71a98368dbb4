"""Parses the command line, runs one command, and turns every failure into what · why · next command and a stable exit code."""

from __future__ import annotations

import argparse
import gc
import os
import sys
from typing import Any, NoReturn, TextIO

from polyfleet.cli.failure import FAILED, USAGE, Failure, nearest

FORMS = ("table", "wide", "json", "yaml", "md")
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
    _cluster(plan)
    _snapshot(plan)
    _files(plan)
    plan.add_argument("-o", "--output", choices=FORMS, default="table", help="table (default), wide, json, yaml, md")

    explain = commands.add_parser("explain", help="why a model runs where it runs, why not elsewhere, and what would fix it")
    explain.add_argument("model", metavar="mdep/NAME", help="mdep/NAME or mdep/NAMESPACE/NAME")
    explain.add_argument("--why-not", metavar="PROFILE|POOL", default="", help="why this profile or pool has no more replicas of it")
    _cluster(explain)
    _snapshot(explain)
    _files(explain)

    snapshot = commands.add_parser("snapshot", help="everything that a plan needs in one file, without secrets; reads only")
    snapshot.add_argument("-o", "--output", metavar="FILE", default="-", help="where to write it (default: standard output)")
    _cluster(snapshot)
    return top


def _cluster(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "-n", "--namespace", metavar="NAME", default="", help="only this namespace's models; also of -f objects without one"
    )
    command.add_argument("-A", "--all-namespaces", action="store_true", help="models of every namespace (default)")
    command.add_argument("--context", metavar="NAME", default="", help="context of the kubeconfig")
    command.add_argument(
        "--kubeconfig", metavar="FILE", default="", help="default: KUBECONFIG, then ~/.kube/config, then the pod's account"
    )


def _snapshot(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--snapshot", metavar="FILE|demo", default="", help="work on a file of `polyfleet snapshot`, or on the demo; no cluster"
    )


def _files(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "-f",
        "--filename",
        metavar="FILE",
        action="append",
        default=[],
        help="objects to add or replace for this plan; - reads standard input; may be repeated",
    )


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
    given = sys.argv[1:]
    word = given[-1] if given else ""
    before = given[:-1]
    top = parser()
    commands = next(action for action in top._actions if isinstance(action, argparse._SubParsersAction))
    chosen = next((item for item in before if item in commands.choices), None)
    directive = 4
    if chosen is None:
        words = list(commands.choices)
    elif before and before[-1] in ("-o", "--output") and chosen == "plan":
        words = list(FORMS)
    elif before and before[-1] in ("-f", "--filename", "--kubeconfig", "-o", "--output"):
        words, directive = [], 0
    elif before and before[-1] == "--snapshot":
        words, directive = ["demo"], 0
    else:
        words = [option for action in commands.choices[chosen]._actions for option in action.option_strings if option.startswith("--")]
    for item in sorted(words):
        if item.startswith(word):
            print(item)
    print(f":{directive}")
    return 0
