"""What networks say of images of something else: how many are told from the run's own ones.

    python benchmarks/familiar.py --own runs/bees runs/cells --other photos/ tiles/test/ -o familiar.csv

Every run is tried on its own test images, which chose neither its weights nor the scale of `familiar`
(on its validation images where it has no others), and on all images of the other folders. An image
counts as unfamiliar below 0.05. Printed for each run and folder: the share of the folder that is
rejected and of the own images that is kept, with Wilson intervals, and the area under the ROC curve of
`familiar` and, for comparison, of the largest probability.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterable
from pathlib import Path

import numpy as np

import resnets
from resnets.data.splits import read_split
from resnets.evaluation.metrics import wilson
from resnets.kinds.prediction import UNFAMILIAR
from resnets.listing import Listing
from resnets.run.folder import RunFolder

COLUMNS = (
    "run", "other", "n_other", "rejected", "rejected_low", "rejected_high",
    "part", "n_own", "kept", "kept_low", "kept_high", "auroc_familiar", "auroc_probability",
)  # fmt: skip


def look(predictor: resnets.Predictor, files: Iterable[str | Path]) -> np.ndarray:
    """(n, 2): how familiar each image is, and its largest probability."""
    found = [one for one in predictor.predict(map(str, files)) if one.error is None]
    if any(one.familiar is None for one in found):
        raise SystemExit(f"{predictor.name} does not say how familiar an image is")
    return np.array([(one.familiar, one.probability) for one in found])


def area(own: np.ndarray, other: np.ndarray) -> float:
    """The probability that an own image has a higher score than another one; ties count half."""
    higher, equal = own[:, None] > other, own[:, None] == other
    return float((higher + 0.5 * equal).mean())


def open_run(folder: Path, engine: str) -> tuple[resnets.Predictor, str, list[Path]]:
    """The newest exported file of a run, and a part of its data that it was not trained on."""
    files = sorted(folder.glob("*.onnx"), key=lambda one: one.stat().st_mtime)
    if not files:
        raise SystemExit(f"{folder} has no .onnx")
    samples = read_split(RunFolder(folder).split)
    part = "test" if any(sample.split == "test" for sample in samples) else "val"
    own = [sample.path for sample in samples if sample.split == part]
    return resnets.load(files[-1], engine), part, own


def main() -> None:
    """Tries all runs on all folders."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--own", nargs="+", type=Path, required=True, metavar="RUN")
    parser.add_argument("--other", nargs="+", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--engine", default="onnxruntime")
    parser.add_argument("-o", "--output", type=Path, help="CSV to add rows to")
    options = parser.parse_args()
    rows = []
    for folder in options.own:
        predictor, part, files = open_run(folder, options.engine)
        own = look(predictor, files)
        kept = wilson(int((own[:, 0] >= UNFAMILIAR).sum()), len(own))
        for other in options.other:
            found = look(predictor, Listing([str(other)]))
            rejected = wilson(int((found[:, 0] < UNFAMILIAR).sum()), len(found))
            areas = [area(own[:, column], found[:, column]) for column in (0, 1)]
            shares = (rejected.value, rejected.low, rejected.high)
            own_shares = (kept.value, kept.low, kept.high)
            cells = (len(found), *shares, part, len(own), *own_shares, *areas)
            texts = [f"{one:.4f}" if isinstance(one, float) else str(one) for one in cells]
            rows.append(dict(zip(COLUMNS, (folder.name, str(other), *texts), strict=True)))
            print(
                f"{folder.name:16} {other!s:24} rejected {rejected}; kept {kept} ({part}); AUROC"
                f" {areas[0]:.3f}, of the probability {areas[1]:.3f}",
                flush=True,
            )
    if options.output:
        new = not options.output.exists()
        with options.output.open("a", newline="") as file:
            table = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            if new:
                table.writeheader()
            table.writerows(rows)


if __name__ == "__main__":
    main()
