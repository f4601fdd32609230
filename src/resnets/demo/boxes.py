"""The demonstration of detection: cells in whole microscope images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

MINUTES = 2.5


def run_box_demo(output: Path) -> dict[str, Any]:
    """Trains a detector from scratch on the images with boxes in the package, exports it, and finds
    cells with the file; returns what summary.json says.

    Raises:
        ValueError: `output` holds something that is not an earlier demonstration.
    """
    from resnets import runtime
    from resnets.data.sources import sample_folder
    from resnets.data.splits import read_split
    from resnets.evaluation.maps import draw_prediction
    from resnets.run import train
    from resnets.run.folder import RunFolder
    from resnets.screen import Screen

    screen, split = Screen(), RunFolder(output).split
    run = train(
        sample_folder("boxes"),
        "resnet18",
        minutes=MINUTES,
        flip="both",
        output=output,
        exist_ok=split.is_file(),
        weights="none",
    )
    screen.say("")
    screen.say(f"{run.proven.path} on some held-out images, without PyTorch:")
    held_out = [sample for sample in read_split(split) if sample.split == "val"][:6]
    predictions = list(runtime.load(run.proven.path).predict([one.path for one in held_out]))
    rows = [
        (sample.name, found.summary(), str(draw_prediction(found, output / "drawn")))
        for sample, found in zip(held_out, predictions, strict=True)
    ]
    screen.table(("image", "found", "drawn"), rows)
    summary = run.to_dict()
    screen.say("")
    screen.say(f"all files are in {output}; open {summary['report']} in a browser")
    return summary
