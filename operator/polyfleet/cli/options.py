"""Options that several commands share. Light: building the parser imports nothing of the commands."""

from __future__ import annotations

import argparse

FORMS = ("table", "wide", "json", "yaml", "md")


def cluster(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "-n", "--namespace", metavar="NAME", default="", help="only this namespace's models; also of -f objects without one"
    )
    command.add_argument("-A", "--all-namespaces", action="store_true", help="models of every namespace (default)")
    connection(command)


def connection(command: argparse.ArgumentParser) -> None:
    """Which API server; for commands about objects without a namespace."""
    command.add_argument("--context", metavar="NAME", default="", help="context of the kubeconfig")
    command.add_argument(
        "--kubeconfig", metavar="FILE", default="", help="default: KUBECONFIG, then ~/.kube/config, then the pod's account"
    )


def snapshot(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--snapshot", metavar="FILE|demo", default="", help="work on a file of `polyfleet snapshot`, or on the demo; no cluster"
    )


def files(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "-f",
        "--filename",
        metavar="FILE",
        action="append",
        default=[],
        help="objects to add or replace for this plan; - reads standard input; may be repeated",
    )


def output(command: argparse.ArgumentParser, *, default: str = "table") -> None:
    command.add_argument("-o", "--output", choices=FORMS, default=default, help="table (default), wide, json, yaml, md")
