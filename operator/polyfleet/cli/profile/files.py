"""Profile files as a person names them: files, folders, patterns, standard input; their documents, with what is wrong with each."""

from __future__ import annotations

import glob
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from hwprofiles.shipped_profiles import API_VERSION, Loader
from polyfleet.cli.failure import Failure, nearest
from polyfleet.cli.profile.source import read_text

MOST_MIB = 4  # the shipped profiles together have 0.1 MiB
_SUFFIXES = (".yaml", ".yml", ".json")


@dataclass(frozen=True, slots=True)
class Document:
    file: str
    number: int  # from 1
    body: Mapping[str, Any]


def expand(arguments: list[str]) -> tuple[list[str], list[str]]:
    """The files that are meant, each once, in the order given, and notes. A folder means its files, a pattern those that match it.

    `hwprofiles/*.yaml` in a checkout matches nothing, because the shipped files lie one folder deeper: they are what is meant.
    """
    found: list[str] = []
    notes: list[str] = []
    for item in arguments:
        path = Path(item)
        if item == "-" or path.is_file():
            found.append(item)
        elif path.is_dir():
            found += _of_folder(path, item, notes)
        elif glob.has_magic(item):
            found += _of_pattern(item, notes)
        else:
            raise Failure(f"cannot read {item}", "there is no such file or folder", f"ls -l {path.parent}; or polyfleet profile validate")
    return list(dict.fromkeys(found)), notes


def _of_folder(path: Path, item: str, notes: list[str]) -> list[str]:
    for folder in (path, path / "shipped"):
        files = sorted(str(file) for file in folder.glob("*") if file.suffix in _SUFFIXES) if folder.is_dir() else []
        if files:
            if folder != path:
                notes.append(f"{item} holds no profile file; those of {folder} are checked")
            return files
    raise Failure(f"{item} holds no profile file", f"none of its files ends with {', '.join(_SUFFIXES)}", "give a file or another folder")


def _of_pattern(item: str, notes: list[str]) -> list[str]:
    if files := sorted(glob.glob(item)):
        return files
    path = Path(item)
    deeper = path.parent / "shipped" / path.name
    if files := sorted(glob.glob(str(deeper))):
        notes.append(f"no file matches {item}; the profiles lie in {deeper.parent} and are checked there")
        return files
    raise Failure(f"no file matches {item}", "the shell and polyfleet found none", "polyfleet profile validate  # the shipped profiles")


def documents(path: str) -> Iterator[Document | str]:
    """The objects of a file, Lists taken apart; a text says why a document, or the whole file, cannot be one."""
    text = read_text(path, sys.stdin, MOST_MIB)
    try:
        bodies = list(yaml.load_all(text, Loader=Loader))
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        yield f"not YAML: {' '.join(str(error).split())[:300]}"
        return
    number = 0
    for body in bodies:
        if body is None:
            continue
        items = body.get("items") if isinstance(body, dict) and body.get("kind") == "List" else [body]
        for item in items if isinstance(items, list) else [items]:
            number += 1
            if not isinstance(item, dict) or (fault := _kind_fault(item)):
                yield f"document {number}: {_no_object(item) if not isinstance(item, dict) else fault}"
            else:
                yield Document(path, number, item)
    if number == 0:
        yield "it holds no object"


def _no_object(item: object) -> str:
    return f"{type(item).__name__} instead of an object; start from a file of hwprofiles/shipped"


def _kind_fault(item: Mapping[str, Any]) -> str:
    version, kind = item.get("apiVersion"), item.get("kind")
    if kind != "HardwareProfile":
        near = nearest(str(kind), ["HardwareProfile"], 1)
        return f"kind: {kind!r} must be HardwareProfile" + ("; did you mean it?" if near else "")
    if version != API_VERSION:
        return f"apiVersion: {version!r} must be {API_VERSION}"
    name = item["metadata"].get("name") if isinstance(item.get("metadata"), dict) else None
    if not isinstance(name, str) or not name:
        return f"metadata.name: {name!r} must be a name"
    if "spec" not in item:
        return f"profile {name}: spec is missing"
    unknown = sorted(set(map(str, item)) - {"apiVersion", "kind", "metadata", "spec", "status"})
    if unknown:
        near = nearest(unknown[0], ["apiVersion", "kind", "metadata", "spec"], 1)
        return f"profile {name}: unknown field {unknown[0]}" + (f"; did you mean {near[0]}?" if near else "")
    return ""
