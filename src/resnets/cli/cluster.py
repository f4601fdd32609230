"""`resnets predict --ray`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

from typer import Exit, Option

from resnets.cli.options import OUTPUT

Ray = Annotated[
    str | None,
    Option(
        metavar="local|auto|ADDRESS",
        help="Predict in many processes with Ray: on the cores of this machine, on the cluster it"
        " is part of, or on that of an address. -o names a folder of Parquet files; INPUT may be a"
        " list of names (NAME.txt) or Parquet files with a column of images.",
        show_default="none",
        rich_help_panel=OUTPUT,
    ),
]


def predict_on_cluster(
    model: str,
    inputs: Sequence[Path],
    output: Path | None,
    address: str,
    options: Mapping[str, Any],
    quiet: bool,
) -> None:
    """Predicts for all images that have no prediction in the folder yet.

    Args:
        model: `NAME.onnx`.
        inputs: Folders, images, a list or Parquet files.
        output: The folder.
        address: Of a cluster, or `local` or `auto`.
        options: `engine`, `unknown` and `probs`; others that are given are refused.
        quiet: Whether warnings alone are told.
    """
    from resnets.loading import is_onnx
    from resnets.runtime import load
    from resnets.runtime.cluster import Task, predict_blocks
    from resnets.runtime.engines import AUTO
    from resnets.runtime.rows import Columns
    from resnets.screen import Screen, printable

    known = {"engine", "unknown", "probs"}
    if others := [name for name, value in options.items() if value and name not in known]:
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in others)
        raise ValueError(f"{flags} does not go with --ray; leave it out")
    if not is_onnx(model):
        raise ValueError(f"--ray needs NAME.onnx, made by: resnets export {model}")
    if output is None or output.suffix.lower() in (".csv", ".jsonl", ".parquet"):
        raise ValueError(
            f"--ray writes a folder of Parquet files, not {output or 'a table'}: -o FOLDER"
        )
    screen = Screen(quiet)
    predictor = load(model, options["engine"] or AUTO)
    if predictor.kind.takes != "image":
        raise ValueError(f"{model}: takes a {predictor.kind.takes}; --ray is for images alone")
    predictor = predictor.naming_unknown() if options["unknown"] else predictor
    each = predictor.classes if options["probs"] else ()
    columns = Columns.of(predictor.kind, each, False, predictor.outputs)
    where = [str(path.absolute()) for path in (Path(model), output)]
    task = Task(where[0], options["engine"] or AUTO, where[1], columns, options["unknown"])
    with ExitStack() as stack:

        def plan(total: int, done: int) -> Callable[[int], None]:
            if done:
                screen.say(f"{printable(str(output))}: {done:,} images are predicted already")
            bar = stack.enter_context(screen.progress("predicting", total))
            return bar.update

        predicted, failed = predict_blocks(
            task, [str(path.absolute()) for path in inputs], address, plan
        )
    screen.say(f"{predicted:,} images predicted, in {printable(str(output))}")
    if failed:
        screen.warn(f"{failed:,} of {predicted:,} images could not be predicted")
        if failed == predicted:
            raise Exit(1)
