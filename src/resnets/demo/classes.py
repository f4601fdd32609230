"""The demonstration of classification: faults are planted in a copy of the sample; what becomes of
them, from the check to predictions with the exported file."""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from resnets.demo.planting import DUPLICATES, WRONG, Planted, plant_faults

if TYPE_CHECKING:
    from resnets.evaluation.metrics import Metrics
    from resnets.kinds.prediction import Prediction
    from resnets.kinds.sample import Sample
    from resnets.run.completion import Run
    from resnets.run.folder import RunFolder
    from resnets.screen import Screen

SETTINGS: dict[str, Any] = {
    "size": 32,
    "epochs": 40,
    "flip": "both",  # seen from above, nothing is upright
    "weights": "none",
    "precision": "float32",
}
FIRST = (WRONG, 100)  # suspects among which wrong labels are looked for


class Found(NamedTuple):
    """What was found of what was planted.

    Args:
        truncated: By the check.
        duplicates: By the check.
        wrong: Among so many of the first suspects.
    """

    truncated: int
    duplicates: int
    wrong: dict[int, int]


def run_demo(output: Path, seed: int = 0) -> dict[str, Any]:
    """Plants faults in a copy of the sample, trains on it, and tells which of them were found;
    measures by the true labels beside a linear classifier, exports, predicts; returns what
    summary.json says.

    Args:
        output: Folder of the run; an earlier demonstration there is replaced.
        seed: Of the faults, and of the run.

    Raises:
        ValueError: `output` holds something that is not an earlier demonstration.
    """
    from resnets import runtime
    from resnets.data.sources import sample_folder
    from resnets.data.splits import read_split
    from resnets.demo.linear import predict_linear
    from resnets.files import write_file
    from resnets.run import train
    from resnets.run.folder import RunFolder
    from resnets.screen import Screen

    started, screen, folder = time.monotonic(), Screen(), RunFolder(output)
    planted = plant_faults(sample_folder(), output, seed)
    screen.say(
        f"{planted.folder}: a copy of 1,500 satellite images, with {WRONG} wrong labels,"
        f" {DUPLICATES} duplicates in other classes and a truncated file planted in it"
        " (planted.csv lists them)"
    )
    run = train(planted.folder, "resnet20", **SETTINGS, seed=seed, output=output, exist_ok=True)
    samples = read_split(folder.split)
    training, held_out = (
        [one for one in samples if one.split == part] for part in ("train", "val")
    )
    predictions = list(runtime.load(run.proven.path).predict([one.path for one in held_out]))
    said = [one.probabilities for one in predictions]
    network = _measure(said, held_out, run.model.classes, planted)
    probabilities = predict_linear(training, held_out, run.model.classes)
    linear = _measure(probabilities, held_out, run.model.classes, planted)
    found = _find(planted, folder)
    _tell(screen, run, found, network, linear)
    _show(screen, run, planted, predictions, held_out)
    summary = {
        **run.to_dict(),
        "planted": {"wrong": WRONG, "duplicates": DUPLICATES, "truncated": 1},
        "found": found._asdict(),
        "true_labels": network.to_dict(),
        "linear_true_labels": linear.to_dict(),
        "linear_balanced_accuracy": linear.balanced_accuracy.value,
        "seconds": round(time.monotonic() - started, 2),
    }
    text = json.dumps({**summary, "stopped": False}, ensure_ascii=False, indent=1)
    write_file(folder.summary, text)
    screen.say("")
    screen.say(f"all files are in {output}; open {summary['report']} in a browser")
    screen.say(
        "next: resnets train YOUR_PHOTOS/ --minutes 5   (YOUR_PHOTOS has one folder per class)"
    )
    return summary


def _measure(
    probabilities: Any, samples: Sequence[Sample], classes: Sequence[str], planted: Planted
) -> Metrics:
    """By the true labels, whatever folder an image lies in."""
    import numpy as np

    from resnets.evaluation.accuracy import measure
    from resnets.evaluation.metrics import clusters

    truths = np.array([classes.index(planted.truth(sample.name)) for sample in samples])
    groups = clusters([sample.group for sample in samples])
    return measure(np.asarray(probabilities), truths, classes, groups)


def _find(planted: Planted, folder: RunFolder) -> Found:
    """Looks for what was planted, in what the check of the run said and among its suspects."""
    from resnets.run.spec import Spec

    spec = Spec.read(folder.args)
    left_out = [text for _, text in spec.findings if text.startswith("unusable")]
    pairs = [{first, second} for first, second, _ in spec.pairs]
    with folder.suspects.open(encoding="utf-8", newline="") as file:
        names = [row["file"] for row in csv.DictReader(file)]
    return Found(
        int(any(planted.truncated in text for text in left_out)),
        sum(set(pair) in pairs for pair in planted.duplicates),
        {first: len(set(planted.wrong) & set(names[:first])) for first in FIRST},
    )


def _tell(screen: Screen, run: Run, found: Found, network: Metrics, linear: Metrics) -> None:
    """What became of the faults, and what was learnt in spite of them."""
    first, more = found.wrong.items()
    wrong = f"{first[1]} among the first {first[0]} suspects, {more[1]} among the first {more[0]}"
    screen.say("")
    screen.table(
        ("planted", "found"),
        [
            ("1 truncated file", f"{found.truncated} by the check, and left out"),
            (f"{DUPLICATES} duplicates in other classes", f"{found.duplicates} by the check"),
            (f"{WRONG} wrong labels", f"{wrong} (suspects.csv)"),
        ],
    )
    screen.say("")
    screen.table(
        ("accuracy on held-out tiles, by their true labels", ""),
        [
            ("linear classifier on 12 x 12 pixels", str(linear.accuracy)),
            (f"{run.model.network_name}, in spite of the wrong labels", str(network.accuracy)),
        ],
    )


def _show(
    screen: Screen,
    run: Run,
    planted: Planted,
    predictions: Sequence[Prediction],
    samples: Sequence[Sample],
) -> None:
    """A few predictions of the exported file."""
    screen.say("")
    screen.say(f"some predictions of {run.proven.path}, without PyTorch:")
    rows = [
        (sample.name, planted.truth(sample.name), one.label, f"{one.probability:.3f}")
        for sample, one in zip(samples, predictions, strict=True)
    ]
    screen.table(
        ("image", "shows", "prediction", "probability"), rows[:: max(1, len(rows) // 6)][:6]
    )
