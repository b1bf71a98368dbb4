"""Compares versions of engines, drivers and runtimes, which come in many spellings, and never guesses.

Read: an optional `v`, then numbers between dots, then a mark of a release before (`rc1`, `a1`, `b2`, `.dev3`, `-rc.1`) or after
(`.post2`) the one with these numbers. Anything else behind the numbers is the build for one kind of hardware (`-a3`, `+ppu2.1.0`,
`-openeuler`) and does not count. A text without a number in front (`nightly`, `main`, `dev`) is not comparable.
"""

from __future__ import annotations

import re

from hwprofiles.model import Engine

_RELEASE = re.compile(r"v?([0-9]+(?:\.[0-9]+)*)", re.IGNORECASE)
# `-a3` behind a dash is a build for Ascend A3, not the third alpha; `a3` right behind a number or a dot is the alpha.
_BEFORE = re.compile(r"(?:[._]?(dev|alpha|beta|rc|a|b|c)|-(dev|alpha|beta|rc))(?![a-z])[._-]?([0-9]*)", re.IGNORECASE)
_AFTER = re.compile(r"[._-]?post[._-]?([0-9]*)", re.IGNORECASE)
_ORDER = {"dev": 0, "alpha": 1, "a": 1, "beta": 2, "b": 2, "c": 3, "rc": 3}
_FINAL = 4


def older(version: str, minimum: str) -> bool | None:
    """Whether `version` is below `minimum`; None where one of the two is no number, so that nobody is called old by mistake.

    Missing numbers are 0 (13 is not below 13.0). A release candidate is below its release, a `.post` release above it.
    """
    have, want = _key(version), _key(minimum)
    if have is None or want is None:
        return None
    length = max(len(have[0]), len(want[0]))
    return (_padded(have[0], length), have[1]) < (_padded(want[0], length), want[1])


def minimum_version(engine: Engine, model_id: str) -> str | None:
    """The lowest engine version that serves the model, by `engines.<name>.models`; None = no entry speaks of this model.

    An entry names the model exactly or, with a `*` at its end, every model that begins so; of several that fit, the longest name counts.
    """
    fitting = [entry for entry in engine.models if _fits(entry.model, model_id)]
    if not fitting:
        return None
    # An exact name beats a prefix of the same length.
    best = max(fitting, key=lambda entry: (len(entry.model.removesuffix("*")), not entry.model.endswith("*"), entry.min_version))
    return best.min_version


def _fits(pattern: str, model_id: str) -> bool:
    name, wanted = model_id.lower(), pattern.lower()
    return name.startswith(wanted[:-1]) if wanted.endswith("*") else name == wanted


def _padded(numbers: tuple[int, ...], length: int) -> tuple[int, ...]:
    return numbers + (0,) * (length - len(numbers))


def _key(text: str) -> tuple[tuple[int, ...], tuple[int, int]] | None:
    """Numbers of the release, then how far before or after it."""
    found = _RELEASE.match(text.strip())
    if found is None:
        return None
    rest = text.strip()[found.end() :]
    release = tuple(int(part) for part in found[1].split("."))
    after = _AFTER.match(rest)
    if after is not None:
        return release, (_FINAL, 1 + int(after[1] or "0"))
    before = _BEFORE.match(rest)
    if before is not None:
        return release, (_ORDER[(before[1] or before[2]).lower()], int(before[3] or "0"))
    return release, (_FINAL, 0)
