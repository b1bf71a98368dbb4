"""Plain text for terminals: columns that stay aligned for wide characters, lines that end before the edge, sparing colour.

Widths are those of a terminal: East Asian wide and full-width characters take two cells, combining marks none (Unicode's
East_Asian_Width property). No line is wider than the width that is given: tables shorten their widest text column, sentences wrap.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH = 100
ELLIPSIS = "…"


def cells(text: str) -> int:
    """Columns of a terminal that the text takes."""
    return sum(_cell(sign) for sign in text)


def _cell(sign: str) -> int:
    if unicodedata.combining(sign) or unicodedata.category(sign) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(sign) in ("W", "F") else 1


def plain(text: str) -> str:
    """One line without control characters: text from a cluster must not steer the terminal."""
    return " ".join("".join(" " if unicodedata.category(sign) in ("Cc", "Zl", "Zp") else sign for sign in text).split())


def cut(text: str, width: int) -> str:
    """The text, shortened with an ellipsis if it takes more than `width` cells."""
    if cells(text) <= width:
        return text
    room, kept = width - 1, ""
    for sign in text:
        room -= _cell(sign)
        if room < 0:
            break
        kept += sign
    return kept.rstrip() + ELLIPSIS


def pad(text: str, width: int, *, right: bool = False) -> str:
    blank = " " * max(0, width - cells(text))
    return blank + text if right else text + blank


def wrap(text: str, width: int = WIDTH, *, first: str = "", rest: str | None = None) -> list[str]:
    """Lines of at most `width` cells, the first begun with `first`, the others with `rest` (default: blanks of the same width).

    Breaks at blanks; a word that is wider than a line (a long name, text without blanks) is broken inside.
    """
    rest = " " * cells(first) if rest is None else rest
    lines: list[str] = []
    line, start = first, True
    for word in text.split():
        while True:
            joined = line + ("" if start else " ") + word
            if cells(joined) <= width:
                line, start = joined, False
                break
            if not start:
                lines.append(line.rstrip())
                line, start = rest, True
                continue
            room = max(1, width - cells(line))
            head = _head(word, room)
            lines.append(line + head)
            line, word = rest, word[len(head) :]
            if not word:
                break
    if not start or not lines:
        lines.append(line.rstrip())
    return lines


def _head(word: str, room: int) -> str:
    kept = 0
    for index, sign in enumerate(word):
        kept += _cell(sign)
        if kept > room:
            return word[: max(1, index)]
    return word


def command(text: str, width: int = WIDTH, *, indent: str = "   ") -> list[str]:
    """A shell command that can be copied as it stands: where it is too long it goes on after a backslash, never inside quotes."""
    lines: list[str] = []
    line = indent
    for word in _WORD.findall(plain(text)):
        joined = line + (" " if line.strip() else "") + word
        if cells(joined) > width - 2 and line.strip():
            lines.append(line + " \\")
            joined = indent + "  " + word
        line = joined
    return [*lines, line]


_WORD = re.compile(r"(?:'[^']*'|\"[^\"]*\"|[^\s'\"]|['\"])+")


@dataclass(frozen=True, slots=True)
class Column:
    title: str
    right: bool = False
    least: int = 8  # how narrow it may become, cells
    shrinks: bool = False  # a text that may be cut where the table is too wide


def table(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int = WIDTH, *, indent: str = " ") -> list[str]:
    """A header and one line per row, two blanks between columns."""
    body = [[plain(value) for value in row] for row in rows]
    widths = [
        max(cells(column.title), *(cells(row[i]) for row in body)) if body else cells(column.title) for i, column in enumerate(columns)
    ]
    over = cells(indent) + sum(widths) + 2 * (len(columns) - 1) - width
    while over > 0:
        able = [i for i, column in enumerate(columns) if column.shrinks and widths[i] > max(column.least, cells(column.title))]
        if not able:
            break
        widest = max(able, key=lambda i: (widths[i], -i))
        widths[widest] -= 1
        over -= 1
    lines = []
    for row in [[column.title for column in columns], *body]:
        parts = [pad(cut(value, widths[i]), widths[i], right=columns[i].right) for i, value in enumerate(row)]
        lines.append((indent + "  ".join(parts)).rstrip())
    return [cut(line, width) for line in lines]


def markdown(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> list[str]:
    """The same table in Markdown, nothing cut."""
    lines = ["| " + " | ".join(column.title for column in columns) + " |"]
    lines.append("|" + "|".join("---:" if column.right else "---" for column in columns) + "|")
    return lines + ["| " + " | ".join(plain(value).replace("|", "\\|") for value in row) + " |" for row in rows]


def money(value: float) -> str:
    """Two digits, without a sign for zero."""
    return f"{value + 0.0:.2f}".replace("-0.00", "0.00")


def count(number: int, noun: str, plural: str = "") -> str:
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


@dataclass(frozen=True, slots=True)
class Style:
    """Colour for a terminal; without it the same text, so nothing is told by colour alone."""

    colour: bool = False

    def bold(self, text: str) -> str:
        return self._ansi("1", text)

    def bad(self, text: str) -> str:
        return self._ansi("31;1", text)

    def good(self, text: str) -> str:
        return self._ansi("32", text)

    def dim(self, text: str) -> str:
        return self._ansi("2", text)

    def _ansi(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.colour and text else text
