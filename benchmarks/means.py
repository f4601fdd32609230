"""What a means of training is worth: runs with and without it, on the same split.

    python benchmarks/means.py eurosat/ --train 2000 --test 2000 --minutes 5 --seeds 3 --out m.csv
    python benchmarks/means.py cifar10/ --train 2000 --test 2000 --minutes 5 --only mixup mixup+rand

Images are dealt out once, as for a duel: --test images to test on, in proportion to the classes; of
--train others, a fifth to validate on. A line of the table is a run: its settings, its seed, and the
accuracy of its NAME.onnx on the test images; what each says of them lies beside the table. Runs that
are there already are not made again. The last lines are the differences to the run without any,
paired over test images, with 95 % intervals; images are resampled with all their seeds, and the
spread over the seeds is given besides.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from dealing import beside, deal, unfolded
from duel import add, read

import resnets
from resnets.data.sources import find_data
from resnets.evaluation import EVALUATORS
from resnets.evaluation.comparison import compare_paired

CHANGES: dict[str, dict[str, Any]] = {
    "default": {},
    "mixup": {"mixup": 0.2},
    "cutmix": {"cutmix": 1.0},
    "colour": {"augment": "colour"},
    "rand": {"augment": "rand"},
    "trivial": {"augment": "trivial"},
    "erase": {"erase": 0.25},
    "mixup+rand": {"mixup": 0.2, "augment": "rand"},
    "adamw": {"optimizer": "adamw"},
    "mixup+rand+adamw": {"mixup": 0.2, "augment": "rand", "optimizer": "adamw"},
    "lamb": {"optimizer": "lamb", "clip": 1.0},
    "bce": {"loss": "bce"},
    "dropout": {"dropout": 0.2},
    "depth": {"stochastic_depth": 0.1},
    "layer_decay": {"layer_decay": 0.8},
    "freeze": {"freeze": 2},
    "norms": {"norms": "measured"},
}
COLUMNS = ("change", "seed", "images", "accuracy", "steps", "minutes", "settings")
Said = dict[str, bool]  # whether a run is right, by the name of an image


def main() -> None:
    """Makes the runs that are missing, a seed at a time, and prints what each change is worth."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--weights", type=Path, help="first weights; none: from scratch")
    parser.add_argument("--model", help="by default the one that is chosen")
    parser.add_argument("--train", type=int, help="images to train and validate on")
    parser.add_argument("--test", type=int, help="images to test on")
    limit = parser.add_mutually_exclusive_group()
    limit.add_argument("--minutes", type=float, default=5.0)
    limit.add_argument("--epochs", type=float, help="instead of minutes")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="*", choices=CHANGES)
    parser.add_argument("--out", type=Path, default=Path("runs/means/means.csv"))
    options = parser.parse_args()
    folder = options.out.parent / options.out.stem
    folder.mkdir(parents=True, exist_ok=True)
    data = deal(options.data, folder / "data" / options.data.name, options)
    weights = unfolded(options.weights, data, folder) if options.weights else "none"
    common = {
        "model": options.model or ("resnet18" if options.weights else None),
        "weights": str(weights),
        **({"epochs": options.epochs} if options.epochs else {"minutes": options.minutes}),
    }
    names = [one for one in CHANGES if one == "default" or not options.only or one in options.only]
    for seed in range(options.seeds):
        for name in names:
            done = [(row["change"], row["seed"]) for row in read(options.out)]
            if (name, str(seed)) not in done:
                row = run(name, seed, data, folder, common)
                add(options.out, [row], COLUMNS)
                print(row, flush=True)
    for line in worth(folder, names, options.seeds):
        print(line)


def run(
    name: str, seed: int, data: Path, folder: Path, common: Mapping[str, Any]
) -> dict[str, Any]:
    """One run, and what its exported file says of the test images: a row of the table."""
    settings, started = {**common, **CHANGES[name], "seed": seed}, time.monotonic()
    where = folder / f"{name}-{seed}"
    made = resnets.train(data, output=where, exist_ok=True, quiet=True, **settings)
    minutes = (time.monotonic() - started) / 60
    samples = find_data(beside(data), kind="classes").samples
    found = resnets.load(made.proven.path).predict([str(one.path) for one in samples])
    said = {
        one.name: prediction.label == one.labels[0]
        for one, prediction in zip(samples, found, strict=True)
    }
    (folder / f"{name}-{seed}.json").write_text(json.dumps(said))
    steps = read(where / "results.csv")[-1]["step"]
    figures = (len(said), round(float(np.mean([*said.values()])), 5), steps, round(minutes, 2))
    return dict(zip(COLUMNS, (name, seed, *figures, json.dumps(CHANGES[name])), strict=True))


def worth(folder: Path, names: Sequence[str], seeds: int) -> list[str]:
    """A line for each change: its accuracy, and the difference to the default, paired."""
    runs = {
        name: [json.loads((folder / f"{name}-{seed}.json").read_text()) for seed in range(seeds)]
        for name in names
    }
    lines = []
    for name, said in runs.items():
        each = [float(np.mean([*one.values()])) for one in said]
        line = f"{name:18} {np.mean(each):.4f} ({min(each):.4f} to {max(each):.4f}, {seeds} seeds)"
        lines.append(line if name == "default" else f"{line}; {compare(said, runs['default'])}")
    return lines


def compare(said: Sequence[Said], default: Sequence[Said]) -> str:
    """Runs with a change against those without, seed by seed and image by image."""
    pairs = [
        (image, (one[image], other[image]))
        for one, other in zip(said, default, strict=True)
        for image in sorted(one)
    ]
    groups = np.array([image for image, _ in pairs])
    evaluator = replace(EVALUATORS["classes"], right=bool)
    return str(compare_paired(evaluator, [pair for _, pair in pairs], groups))


if __name__ == "__main__":
    main()
