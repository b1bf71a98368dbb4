"""The runner of documentation pages: what it runs, what it compares, and that it can fail."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests import pages

PAGE = """# A page

```yaml
# file: a.yaml
x: 1
```

```sh
cat a.yaml
```

```text
…
x: 1
```

```bash
exit 3   # shown, not run
```

```sh
echo "one   two 17" >&2
```

```text
one two …
```
"""


def write(tmp_path: Path, text: str) -> tuple[Path, Path]:
    page, folder = tmp_path / "page.md", tmp_path / "scratch"
    page.write_text(text, encoding="utf-8")
    folder.mkdir()
    return page, folder


def test_commands_files_and_promises(tmp_path: Path) -> None:
    """Two blocks run, in order, beside the page's file; standard error counts as output."""
    page, folder = write(tmp_path, PAGE)
    assert pages.run(page, folder, os.environ) == 2
    assert (folder / "a.yaml").read_text() == "# file: a.yaml\nx: 1\n"
    assert (folder / "charts" / "polyfleet" / "Chart.yaml").is_file()


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("one two …", "one three", "page.md:21: printed something else"),
        ("cat a.yaml", "cat b.yaml", "page.md:8: ended with 1"),
        ("cat a.yaml", "false | cat a.yaml", "page.md:8: ended with 1"),
        ("cat a.yaml", "echo $NOT_SET_ANYWHERE", "page.md:8: ended with 1"),
        ("```bash\nexit 3", "```text\nexit 3", "line 17: a text block"),
    ],
)
def test_a_page_that_is_wrong_fails_with_its_line(tmp_path: Path, before: str, after: str, said: str) -> None:
    """Wrong output, a failing command, one inside a pipe, an unset variable, a promise that belongs to nothing."""
    page, folder = write(tmp_path, PAGE.replace(before, after))
    with pytest.raises(pages.PageError, match=said):
        pages.run(page, folder, os.environ)


@pytest.mark.parametrize(
    ("promised", "printed", "fit"),
    [
        ("a  b", "a b\n", True),
        ("a b", "a b c", False),
        ("a …", "a ", False),  # the blank is promised
        ("a…", "a", True),
        ("…\nlast", "first\nsecond\nlast", True),
        ("…\nlast", "last", True),
        ("…\nlast", "last\nmore", False),
        ("x … y", "x 1 z y", True),
        ("1.0", "1x0", False),  # no other sign is special
        ("a\nb", "a", False),
    ],
)
def test_what_fits(promised: str, printed: str, fit: bool) -> None:
    """`…` inside a line and as a line; gaps are free; everything else is itself."""
    assert pages.fits(promised, printed) is fit
