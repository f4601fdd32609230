"""`resnets bench`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from resnets.cli.options import MODEL, OUTPUT, Json
from resnets.cli.output import print_json

if TYPE_CHECKING:
    from collections.abc import Sequence

EXAMPLES = """
resnets bench photos.onnx
resnets bench photos.onnx photos-int8.onnx photos-bf16.onnx --engine openvino
resnets bench photos.onnx --json > bench.json
"""
TITLES = {
    "file": "file",
    "engine": "engine",
    "precision": "precision",
    "latency_p50_ms": "p50 ms",
    "latency_p95_ms": "p95 ms",
    "latency_p99_ms": "p99 ms",
    "images_per_second": "images/s",
    "start_seconds": "start s",
    "peak_megabytes": "peak MB",
    "file_megabytes": "file MB",
}
CHARTED = {
    "images_per_second": "images a second, in batches",
    "latency_p50_ms": "milliseconds for one image",
}


def bench(
    files: Annotated[
        list[Path],
        Argument(metavar="FILE...", help="NAME.onnx, one or several.", rich_help_panel=MODEL),
    ],
    engine: Annotated[
        list[str] | None,
        Option(
            metavar="onnxruntime|openvino",
            help="Engine to measure; may be given several times.",
            show_default="all that are installed",
            rich_help_panel=MODEL,
        ),
    ] = None,
    precision: Annotated[
        str | None,
        Option(
            metavar="float32|bf16",
            help="Precision in which the engine computes; bf16 (bfloat16) is for openvino, on"
            " processors that have it.",
            show_default="that of the file, where the engine can; else float32",
            rich_help_panel=MODEL,
        ),
    ] = None,
    threads: Annotated[
        int,
        Option(
            metavar="INT",
            min=0,
            help="Threads that compute; 0 for one per CPU core. [0 or more threads]",
            rich_help_panel=MODEL,
        ),
    ] = 0,
    rounds: Annotated[
        int,
        Option(
            metavar="INT",
            min=1,
            help="Times each is measured, in turn. [1 or more]",
            rich_help_panel=MODEL,
        ),
    ] = 9,
    picture: Annotated[
        Path | None,
        Option(
            metavar="FILE",
            help="Chart of the table: FILE.svg or FILE.png.",
            show_default="none",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Measure how fast exported files are on this machine, in each engine: milliseconds for one
    image, images a second in batches, start-up and memory. Decoding is not part of it.
    """
    from resnets.runtime.bench import Way, measure_speeds
    from resnets.runtime.engines import SPELLINGS, available_engines
    from resnets.screen import Screen

    if picture is not None and picture.suffix.lower() not in (".svg", ".png"):
        raise ValueError(f"--picture {picture}: a chart is drawn as .svg or .png; name it so")
    screen = Screen()
    asked = SPELLINGS.get(precision or "", precision or "")
    ways = [
        Way(file, name, asked, threads) for file in files for name in engine or available_engines()
    ]
    with screen.progress("measuring", rounds) as bar:
        speeds = measure_speeds(ways, rounds, bar.update)
    values = [speed.to_dict() for speed in speeds]
    screen.table(tuple(TITLES.values()), [[_cell(one[name]) for name in TITLES] for one in values])
    if picture is not None:
        _draw(values, picture)
        screen.say(f"{picture} written")
    if json:
        print_json({"rounds": rounds, "threads": threads, "speeds": values})


def _cell(value: Any) -> str:
    return f"{value:,}" if isinstance(value, (int, float)) else str(value)


def _draw(values: Sequence[dict[str, Any]], target: Path) -> None:
    """Images a second and milliseconds for one image, a bar each."""
    from matplotlib.figure import Figure

    names = [f"{Path(one['file']).name}\n{one['engine']} {one['precision']}" for one in values]
    figure = Figure(figsize=(9, 1.2 + 0.6 * len(names)), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, (key, title) in zip(panels, CHARTED.items(), strict=True):
        bars = axes.barh(names, [one[key] for one in values])
        axes.bar_label(bars, fmt="{:,.1f}", padding=3)
        axes.set_title(title, fontsize=10)
        axes.margins(x=0.2)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].invert_yaxis()  # the first on top
    figure.savefig(target)
