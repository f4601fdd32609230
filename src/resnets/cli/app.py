"""The verbs together, and what is said when one of them fails."""

from __future__ import annotations

import typer

from resnets.cli import bench, check, demo, export, predict, serve, show, train, val
from resnets.cli.help import Command, Group

EXAMPLES = """
resnets demo
resnets train photos/ --minutes 5
resnets predict photos.onnx new/ -o new.csv
resnets COMMAND --help
"""

app = typer.Typer(
    cls=Group,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Train a residual network on a folder of images, and get one verified ONNX file.",
    epilog=EXAMPLES,
)
for module in (train, val, predict, check, export, serve, bench, show, demo):
    verb = module.__name__.rpartition(".")[2]
    examples = getattr(module, "EXAMPLES", f"resnets {verb} --help")
    app.command(verb, cls=Command, epilog=examples)(getattr(module, verb))


def _print_version(wanted: bool) -> None:
    if wanted:
        import resnets

        print(resnets.__version__)  # noqa: T201
        raise typer.Exit


@app.callback()
def _program(
    version: bool = typer.Option(
        False, "--version", help="Print the version.", callback=_print_version
    ),
) -> None:
    pass


def complain(error: Exception) -> int:
    """Says what went wrong in one message, and gives the exit code; an error that is a defect of
    ours is raised again."""
    if isinstance(error, ModuleNotFoundError) and not (error.name or "").startswith("resnets"):
        return _say(
            f"{error.name} is not installed; training and exporting need: pip install"
            " 'resnets[train]'",
            2,
        )
    if isinstance(error, ValueError) and type(error).__module__.partition(".")[0] in (
        "builtins",
        "resnets",
    ):
        return _say(str(error), 2)
    if type(error).__name__ == "ProofFailed":  # by name: export needs torch, which may not be there
        return _say(str(error), 1)
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return _say(f"{where}{error.strerror or error}; what was saved before is as it was", 1)
    raise error


def _say(text: str, code: int) -> int:
    from resnets.screen import Screen

    Screen().say(f"resnets: {text}")
    return code
