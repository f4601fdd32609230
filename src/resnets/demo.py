"""The demonstration: blood cells of three kinds, from the images in the package to predictions
with the exported file."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from resnets.evaluation.metrics import Metrics
    from resnets.kinds.sample import Sample

MINUTES = 2.5  # of the demonstration of boxes
SIZE = 32  # pixels: the crops are 64, and the task is easy
EPOCHS = 20


def run_demo(output: Path) -> dict[str, Any]:
    """Trains, measures beside a linear classifier, exports, predicts; returns what summary.json
    says.

    Raises:
        ValueError: `output` holds something that is not an earlier demonstration.
    """
    from resnets import runtime
    from resnets.data.sources import sample_folder
    from resnets.data.splits import read_split
    from resnets.files import write_file
    from resnets.run import train
    from resnets.run.folder import RunFolder
    from resnets.screen import Screen

    started = time.monotonic()
    screen = Screen()
    again = RunFolder(output).split.is_file()
    run = train(
        sample_folder(),
        "resnet20",
        size=SIZE,
        epochs=EPOCHS,
        flip="both",
        output=output,
        exist_ok=again,
        weights="none",
    )
    linear = measure_linear(read_split(RunFolder(output).split))
    screen.say("")
    screen.say("these cells differ in colour alone, so even a linear classifier does well on them:")
    screen.table(
        ("balanced accuracy", "", ""),
        [
            ("linear classifier on 12 x 12 pixels", str(linear.balanced_accuracy), ""),
            (run.model.network_name, str(run.metrics.balanced_accuracy), ""),
        ],
    )
    screen.say("")
    screen.say(f"predictions of {run.proven.path} for some held-out cells, without PyTorch:")
    held_out = [sample for sample in read_split(RunFolder(output).split) if sample.split == "val"][
        :: max(1, run.metrics.n // 6)
    ][:6]
    predictions = runtime.load(run.proven.path).predict([sample.path for sample in held_out])
    rows = [
        (sample.name, p.label, f"{p.probability:.3f}")
        for sample, p in zip(held_out, predictions, strict=True)
    ]
    screen.table(("image", "prediction", "probability"), rows)
    summary = {
        **run.to_dict(),
        "linear_balanced_accuracy": linear.balanced_accuracy.value,
        "seconds": round(time.monotonic() - started, 2),
    }
    write_file(
        RunFolder(output).summary,
        json.dumps({**summary, "stopped": False}, ensure_ascii=False, indent=1),
    )
    screen.say("")
    screen.say(f"all files are in {output}; open {summary['report']} in a browser")
    screen.say(
        "next: resnets train YOUR_PHOTOS/ --minutes 5   (YOUR_PHOTOS has one folder per class)"
    )
    return summary


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


DEMOS = {"classes": run_demo, "boxes": run_box_demo}


def measure_linear(samples: Sequence[Sample]) -> Metrics:
    """A linear softmax classifier on 12 x 12 pixels, trained and measured on the same split: what a
    network must beat."""
    import torch
    import torch.nn.functional as F
    from torch import nn

    from resnets.data.splits import class_indices
    from resnets.evaluation.accuracy import measure
    from resnets.preprocessing import Preprocessing

    preprocessing = Preprocessing.square(12)
    classes = tuple(sorted({label for sample in samples for label in sample.labels}))

    def read(part: str) -> tuple[torch.Tensor, np.ndarray, np.ndarray]:
        chosen = [sample for sample in samples if sample.split == part]
        pixels = np.stack(
            [preprocessing.pixels(preprocessing.open(sample.path)) for sample in chosen]
        )
        inputs = torch.from_numpy(preprocessing.normalise(pixels)).flatten(1)
        return inputs, class_indices(chosen, classes), np.array([sample.group for sample in chosen])

    inputs, labels, _ = read("train")
    net = nn.Linear(inputs.shape[1], len(classes))
    nn.init.zeros_(net.weight)
    optimizer = torch.optim.LBFGS(net.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = (
            F.cross_entropy(net(inputs), torch.from_numpy(labels))
            + 1e-3 * net.weight.square().sum()
        )
        loss.backward()
        return loss

    optimizer.step(closure)
    inputs, labels, groups = read("val")
    with torch.no_grad():
        probabilities = net(inputs).softmax(1).numpy()
    return measure(probabilities, labels, classes, groups=groups)
