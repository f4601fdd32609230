"""What people see while something runs: lines, tables and a progress bar on stderr. stdout is left
to results."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

# Categories of characters that act on a terminal instead of being seen: control characters, text
# direction and other formatting, bytes that are not UTF-8, line separators.
_ACTING = ("Cc", "Cf", "Cs", "Zl", "Zp")
_JOINERS = "\u200c\u200d"  # they act on their neighbours only; scripts and emoji need them


def printable(text: str) -> str:
    """A name from outside (a class, a file) in one line, fit for a terminal: characters that would
    move the cursor, recolour or reorder the text are shown as Python writes them (`\\x1b`)."""
    return "".join(
        ascii(letter)[1:-1]
        if unicodedata.category(letter) in _ACTING and letter not in _JOINERS
        else letter
        for letter in text
    )


class Bar:
    """A running progress bar; `update` moves it and changes its remark."""

    def __init__(self, progress: Progress, task: int) -> None:
        self._progress, self._task = progress, task

    def update(self, done: int, remark: str = "") -> None:
        """Shows how many are done, and a remark behind the bar."""
        self._progress.update(self._task, completed=done, remark=remark)  # type: ignore[arg-type]


class Screen:
    """Where a run speaks to people.

    Args:
        quiet: Say nothing but warnings.
    """

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet
        self.console = Console(stderr=True, highlight=False, soft_wrap=True)

    def say(self, text: str) -> None:
        """One line."""
        if not self.quiet:
            self.console.print(Text(text))

    def warn(self, text: str) -> None:
        """One line that should not be missed."""
        self.console.print(Text(text, style="yellow"))

    def pairs(self, rows: Iterable[tuple[str, str, str]]) -> None:
        """Name, value and remark, a line each."""
        rows = list(rows)
        width = max(len(name) for name, _, _ in rows)
        for name, value, remark in rows if not self.quiet else ():
            text = Text(f"{name:<{width}}  ", style="dim").append(value, style="default not dim")
            self.console.print(text.append(f"  ({remark})" if remark else ""))

    def table(
        self, header: Sequence[str], rows: Iterable[Sequence[str]], right: Sequence[int] = ()
    ) -> None:
        """A plain table; columns whose place is in `right` are aligned to the right."""
        if self.quiet:
            return
        table = Table(box=None, show_header=bool(header), header_style="dim", padding=(0, 2, 0, 0))
        rows = [list(map(str, row)) for row in rows]
        for place in range(max(map(len, [header, *rows]), default=0)):
            table.add_column(
                header[place] if header else "",
                justify="right" if place in right else "left",
                overflow="fold",
            )
        for row in rows:
            table.add_row(*map(Text, row))
        self.console.print(table)

    @contextmanager
    def progress(self, title: str, total: int) -> Iterator[Bar]:
        """A bar with the time that is left; a plain start line where nobody watches a terminal."""
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[remark]}"),
        )
        with Progress(
            *columns,
            console=self.console,
            transient=True,
            disable=self.quiet or not self.console.is_terminal,
        ) as progress:
            yield Bar(progress, progress.add_task(title, total=total, remark=""))
