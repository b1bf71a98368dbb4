"""What may come next on the command line: commands, options, their choices, profile names. Reads the parser and imports nothing else."""

from __future__ import annotations

import argparse
from importlib.util import find_spec
from pathlib import Path

NO_FILES, FILES = 4, 0  # directives of kubectl's completion
# Values that a parser cannot know. Anything else that takes a value gets file names.
_VALUES = {"--snapshot": ("demo",)}
_FREE = frozenset({"--model", "--precision", "--engine", "--namespace", "--context", "--source", "--today", "--date", "--accelerator"})


def words(top: argparse.ArgumentParser, given: list[str]) -> tuple[list[str], int]:
    """Sorted words that begin with the last one given, and whether file names may come too."""
    word = given[-1] if given else ""
    command, path, place = _reached(top, given[:-1])
    last = given[-2] if len(given) > 1 else ""
    option = next((action for action in command._actions if last in action.option_strings and action.nargs != 0), None)
    if option is not None:
        found, directive = _of_option(option)
    elif (below := _below(command)) is not None:
        found, directive = list(below.choices), NO_FILES
    else:
        found, directive = _options(command), NO_FILES
        if not word.startswith("-") and path[:1] == ["accuracy"] and path[1:] != ["run"]:
            directive = FILES  # reports, captures, golden sets
        if not word.startswith("-") and path[:1] == ["profile"]:
            more, directive = _profile_words(path[-1], place)
            found = more if more else found
    return sorted({item for item in found if item.startswith(word)}), directive


def _reached(top: argparse.ArgumentParser, before: list[str]) -> tuple[argparse.ArgumentParser, list[str], int]:
    """The parser of the innermost command named so far, the names on the way, and how many plain words follow it."""
    command, path, plain, skip = top, [], 0, False
    for item in before:
        below = _below(command)
        if skip:
            skip = False
        elif item.startswith("-"):
            skip = any(item in action.option_strings and action.nargs != 0 for action in command._actions)
        elif below is not None and item in below.choices:
            command, plain = below.choices[item], 0
            path.append(item)
        else:
            plain += 1
    return command, path, plain


def _below(command: argparse.ArgumentParser) -> argparse._SubParsersAction[argparse.ArgumentParser] | None:
    return next((action for action in command._actions if isinstance(action, argparse._SubParsersAction)), None)


def _options(command: argparse.ArgumentParser) -> list[str]:
    return [option for action in command._actions for option in action.option_strings if option.startswith("--")]


def _of_option(option: argparse.Action) -> tuple[list[str], int]:
    name = option.option_strings[-1]
    if option.choices is not None:
        return [str(item) for item in option.choices], NO_FILES
    if name == "--profile":
        return profile_names(), NO_FILES
    return list(_VALUES.get(name, ())), NO_FILES if name in _FREE or option.type is int else FILES


def _profile_words(verb: str, place: int) -> tuple[list[str], int]:
    """Plain arguments of `polyfleet profile`: names for show and diff, files for the others."""
    if verb == "show" and place == 0:
        return profile_names(), NO_FILES
    if verb == "diff" and place < 2:
        return [*profile_names(), *(f"shipped/{name}" for name in profile_names())], FILES
    return [], FILES if verb in ("validate", "import") else NO_FILES


def profile_names() -> list[str]:
    """The shipped profiles, by the names of their files: no YAML is read, and no cluster is asked while somebody types."""
    spec = find_spec("hwprofiles")
    origin = spec.origin if spec is not None else None
    return sorted(path.stem for path in (Path(origin).parent / "shipped").glob("*.yaml")) if origin else []
