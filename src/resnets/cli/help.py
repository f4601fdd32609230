"""What `--help` shows: options in groups, a sentence each with its range and default, examples at
the end; no line is broken within a word."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Any

from typer.core import TyperCommand, TyperGroup

LEFT = 26  # columns of option names; a longer one has a line of its own
WIDEST = 100


def bracket(*notes: str) -> str:
    """What follows a sentence: ` [8 to 4096 pixels; default: 224]`."""
    text = "; ".join(note for note in notes if note)
    return f" [{text}]" if text else ""


class Command(TyperCommand):
    """A verb with this help."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        show(self, ctx, _usage(self, ctx), [])


class Group(TyperGroup):
    """All verbs with this help."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        verbs = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        rows = [(name, _first_sentence(verb.help or "")) for name, verb in verbs if verb]
        show(self, ctx, f"{ctx.command_path} COMMAND ...", rows)


def show(command: Any, ctx: Any, usage: str, verbs: list[tuple[str, str]]) -> None:
    """Prints the help of a command."""
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    width = min(console.width, WIDEST) - 1
    groups: dict[str, list[tuple[str, str]]] = {"Commands": verbs} if verbs else {}
    for parameter in command.get_params(ctx):
        name = getattr(parameter, "rich_help_panel", None) or "Options"
        if parameter.name == "help":
            name = next(reversed(groups)) if groups and not verbs else name
        groups.setdefault(name, []).append((_names(parameter), _sentence(parameter)))
    console.print(Text(f"Usage: {usage}", style="bold"))
    for paragraph in (command.help or "").strip().split("\n\n"):
        text = textwrap.fill(" ".join(paragraph.split()), width, break_long_words=False)
        console.print(Text(f"\n{text}"), soft_wrap=True)
    for title, rows in groups.items():
        console.print(Text(f"\n{title}", style="bold"))
        for row in rows:
            for line in _lines(*row, width):
                console.print(Text(line), soft_wrap=True)
    if command.epilog:
        console.print(Text("\nExamples", style="bold"))
        for line in command.epilog.strip().splitlines():
            console.print(Text(f"  {line.strip()}"), soft_wrap=True)


def _lines(name: str, sentence: str, width: int) -> Iterator[str]:
    """A name and its sentence beside it, or below it where the name is long."""
    wrapped = textwrap.wrap(
        sentence, width - LEFT, break_long_words=False, break_on_hyphens=False
    ) or [""]
    beside = len(name) + 4 <= LEFT
    yield f"  {name:<{LEFT - 2}}{wrapped[0]}".rstrip() if beside else f"  {name}"
    yield from (f"{'':<{LEFT}}{line}" for line in wrapped[1 if beside else 0 :])


def _names(parameter: Any) -> str:
    metavar = "" if _is_flag(parameter) else str(parameter.metavar or "").strip()
    if parameter.param_type_name == "argument":
        return metavar or parameter.name.upper()
    short = [one for one in parameter.opts if not one.startswith("--")]
    long = [one for one in parameter.opts if one.startswith("--")]
    return f"{', '.join(short + long)} {metavar}".rstrip()


def _sentence(parameter: Any) -> str:
    """The help of an option, and its default: its value, or a text for it."""
    shown, default = parameter.show_default, parameter.default
    if not isinstance(shown, str):
        shown = str(default) if shown and default is not None and default is not False else ""
    text = str(parameter.help or "")
    if parameter.required or not shown or _is_flag(parameter):
        return text
    if text.endswith("]"):
        return f"{text[:-1]}; default: {shown}]"
    return text + bracket(f"default: {shown}")


def _is_flag(parameter: Any) -> bool:
    return bool(getattr(parameter, "is_flag", False))


def _usage(command: Any, ctx: Any) -> str:
    arguments = [
        _names(one) if one.required or "[" in _names(one) else f"[{_names(one)}]"
        for one in command.get_params(ctx)
        if one.param_type_name == "argument"
    ]
    return " ".join([ctx.command_path, "[OPTIONS]", *arguments])


def _first_sentence(text: str) -> str:
    return " ".join(text.split("\n\n")[0].split())
