"""How often `val --against` calls a model worse that is not, and whether it catches one that is.

    python benchmarks/against.py eurosat/ --weights resnet18.safetensors --train 1500 --test 2000

Five runs differ in their seed alone. Each of their ten pairs is compared on the test images: none is
worse by construction, and at 95 % one verdict in forty may be wrong by chance. Then noise is added
to the last layer of the first run until 3 points of accuracy are lost: that has to be caught.
Runs that are there are not trained again.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
from itertools import combinations
from pathlib import Path
from typing import Any

import torch
from dealing import beside, deal

import resnets
from resnets.modelfile import read_model, write_model

SEEDS, LOSS, TOLERANCE, TURNS = 5, 0.03, 0.002, 20


def main() -> None:
    """Trains, compares, and writes one row for each comparison."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--train", type=int, default=1500)
    parser.add_argument("--test", type=int, default=2000)
    parser.add_argument("--epochs", type=float, default=2.0)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--out", type=Path, default=Path("runs/against"))
    options = parser.parse_args()
    data = deal(options.data, options.out / "data", options)
    runs = [train(seed, data, options) for seed in range(SEEDS)]
    rows = [compare(one, other, beside(data)) for one, other in combinations(runs, 2)]
    rows.append(compare(degrade(runs[0], beside(data)), runs[0], beside(data)))
    with (options.out / "against.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
    for row in rows:
        print(*row.values())


def train(seed: int, data: Path, options: argparse.Namespace) -> Path:
    """The folder of a run."""
    folder = Path(options.out) / f"seed{seed}"
    if not (folder / "summary.json").is_file():
        resnets.train(
            data,
            "resnet18",
            weights=str(options.weights),
            size=options.size,
            epochs=options.epochs,
            seed=seed,
            output=folder,
            exist_ok=True,
        )
    return folder


def degrade(run: Path, data: Path) -> Path:
    """A copy of the model with as much noise in its last layer as costs `LOSS` of accuracy."""
    tensors, metadata = read_model(run / "weights" / "best.safetensors")
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(tensors["fc.weight"].shape, generator=generator)
    file, whole = run.parent / "degraded.safetensors", accuracy(run, data)
    low, high = 0.0, 10 * float(tensors["fc.weight"].std())
    for _ in range(TURNS):
        scale = (low + high) / 2
        weight = tensors["fc.weight"] + scale * noise
        write_model(file, {**tensors, "fc.weight": weight}, metadata)
        lost = whole - accuracy(file, data)
        if abs(lost - LOSS) <= TOLERANCE:
            return file
        low, high = (scale, high) if lost < LOSS else (low, scale)
    raise SystemExit(f"no noise costs {LOSS} of accuracy: {lost:.3f} at {scale:.3g}")


def accuracy(model: Path, data: Path) -> float:
    """Of the test images, as `val` says."""
    return float(val(model, data)[0]["metrics"]["accuracy"])


def compare(model: Path, baseline: Path, data: Path) -> dict[str, Any]:
    """The verdict of `val MODEL --against BASELINE`, and its exit code."""
    values, code = val(model, data, "--against", str(baseline))
    found = values["against"]
    names = ("difference", "low", "high", "n", "p", "verdict")
    row = {"model": model.stem, "baseline": baseline.stem} | {name: found[name] for name in names}
    return {**row, "exit_code": code}


def val(model: Path, data: Path, *more: str) -> tuple[dict[str, Any], int]:
    """What `resnets val` prints as JSON, and its exit code."""
    command = [sys.executable, "-m", "resnets", "val", str(model), str(data), "--json", *more]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1) or not done.stdout:
        raise SystemExit(f"{' '.join(command)}: {done.stderr}")
    return json.loads(done.stdout), done.returncode


if __name__ == "__main__":
    main()
