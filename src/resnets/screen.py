"""What people see while something runs: lines, tables and a progress bar on stderr. stdout is left
to results."""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import zip_longest

from rich.cells import cell_len
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

GAP = 2  # columns between those of a table

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
    """A running progress bar; `update` moves it and changes its remark, `advance` moves it on."""

    def __init__(self, progress: Progress, task: int, room: int) -> None:
        self._progress, self._task, self._room = progress, task, room

    def update(self, done: int, remark: str = "") -> None:
        """Shows how many are done, and a remark behind the bar: as many of its parts, with two
        spaces between them, as the line has room for."""
        while remark and cell_len(remark) > self._room:
            remark = remark.rpartition("  ")[0]
        self._progress.update(self._task, completed=done, remark=remark)  # type: ignore[arg-type]

    def advance(self, more: int) -> None:
        """Shows that so many more are done."""
        self._progress.advance(self._task, more)  # type: ignore[arg-type]


class Screen:
    """Where a run speaks to people. In a terminal, lines are wrapped between words; a word longer
    than a line stays whole, so that a path can be copied. Elsewhere, a line stays one line.

    Args:
        quiet: Say nothing but warnings.
    """

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet
        self.console = Console(stderr=True, highlight=False)

    def say(self, text: str) -> None:
        """One line."""
        if not self.quiet:
            self._print(text)

    def warn(self, text: str) -> None:
        """One line that should not be missed."""
        self._print(text, "yellow")

    def _print(self, text: str, style: str = "") -> None:
        indent = len(text) - len(text.lstrip(" "))
        lines = self._wrapped(text.strip(" "), indent + 2)
        whole = " " * indent + ("\n" + " " * (indent + 2)).join(lines)
        self.console.print(Text(whole, style=style), soft_wrap=True)

    def _wrapped(self, text: str, indent: int) -> list[str]:
        """A text in lines, in a terminal as many as leave room for an indent."""
        text = printable(text)
        return wrap(text, self.console.width - indent) if self.console.is_terminal else [text]

    def pairs(self, rows: Iterable[tuple[str, str, str]]) -> None:
        """Name, value and remark, a line each."""
        rows = [(printable(name), value, remark) for name, value, remark in rows]
        width = max((cell_len(name) for name, _, _ in rows), default=0) + 2
        for name, value, remark in rows if not self.quiet else ():
            text = f"{value}  ({remark})" if remark else value
            lines = self._wrapped(text, width)
            beside = not self.console.is_terminal or _longest(text) + width <= self.console.width
            if not beside:  # a long path has the next line for itself
                lines = ["", *self._wrapped(text, 2)]
            for place, line in enumerate(lines):
                start = name if place == 0 else "" if beside else None
                filled = "  " if start is None else _filled(start, width)
                self.console.print(Text.assemble((filled, "dim"), line), soft_wrap=True)

    def table(
        self, header: Sequence[str], rows: Iterable[Sequence[str]], right: Sequence[int] = ()
    ) -> None:
        """A plain table; columns whose place is in `right` are aligned to the right. Where the
        terminal is too narrow for it, each row becomes a paragraph."""
        if self.quiet:
            return
        cells = [[printable(str(cell)) for cell in row] for row in ([header] if header else [])]
        cells += [[printable(str(cell)) for cell in row] for row in rows]
        count = max(map(len, cells), default=0)
        cells = [[*row, *[""] * (count - len(row))] for row in cells]
        room = self.console.width - GAP * (count - 1) if self.console.is_terminal else None
        widths = _column_widths(list(zip(*cells, strict=True)), room)
        if widths is None:
            names = cells.pop(0) if header else [""] * count
            for row in cells:
                self.pairs([(name, cell, "") for name, cell in zip(names, row, strict=True)])
            return
        for place, row in enumerate(cells):
            style = "dim" if header and place == 0 else ""
            for line in _lines_of_row(row, widths, right):
                self.console.print(Text(line, style=style), soft_wrap=True)

    @contextmanager
    def progress(self, title: str, total: int) -> Iterator[Bar]:
        """A bar with the time that is left; nothing where nobody watches a terminal."""
        width = 24 if self.console.width >= 100 else 12
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=width),
            MofNCompleteColumn(),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[remark]}", markup=False),
        )
        counts = 2 * len(str(total)) + 1
        room = self.console.width - cell_len(title) - width - counts - len("00:00:00") - 5
        with Progress(
            *columns,
            console=self.console,
            transient=True,
            disable=self.quiet or not self.console.is_terminal,
            redirect_stdout=sys.stdout is not None and sys.stdout.isatty(),  # not what is piped
        ) as progress:
            yield Bar(progress, progress.add_task(title, total=total, remark=""), room)


def wrap(text: str, width: int) -> list[str]:
    """A text in lines of at most so many columns, broken at spaces only; a longer word has a line
    of its own."""
    lines = [""]
    for place, word in enumerate(text.split(" ")):
        longer = f"{lines[-1]} {word}" if place else word
        if lines[-1].strip() and cell_len(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return [line.rstrip() for line in lines]


def _longest(text: str) -> int:
    return max(map(cell_len, text.split(" ")), default=0)


def _filled(text: str, width: int, right: bool = False) -> str:
    space = " " * (width - cell_len(text))
    return space + text if right else text + space


def _column_widths(columns: Sequence[Sequence[str]], room: int | None) -> list[int] | None:
    """Widths of columns that together fit into `room`: those with the most to spare give way, down
    to their longest word; None where even that is too wide."""
    widths = [max(map(cell_len, cells), default=0) for cells in columns]
    least = [max(map(_longest, cells), default=0) for cells in columns]
    if room is None or sum(widths) <= room:
        return widths
    if sum(least) > room:
        return None
    for place in sorted(range(len(widths)), key=lambda place: least[place] - widths[place]):
        excess = max(0, sum(widths) - room)
        widths[place] = max(least[place], widths[place] - excess)
    return widths


def _lines_of_row(row: Sequence[str], widths: Sequence[int], right: Sequence[int]) -> Iterator[str]:
    wrapped = [wrap(cell, width) for cell, width in zip(row, widths, strict=True)]
    for parts in zip_longest(*wrapped, fillvalue=""):
        filled = [
            _filled(part, width, place in right)
            for place, (part, width) in enumerate(zip(parts, widths, strict=True))
        ]
        yield (" " * GAP).join(filled).rstrip()
