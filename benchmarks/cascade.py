"""A fast network that asks a better one where it is not sure, against the better one alone and against
the loop that people write.

    python benchmarks/cascade.py resnet18-int8.onnx resnet50.onnx photos/ --weights resnet50.safetensors

PHOTOS has a subfolder for each WordNet id. Every other photo makes a half, and either half finds the
threshold for the other: `resnets predict SMALL HALF --cascade LARGE --calibrate OTHER --agreement A`. What
is said of both halves is counted together: photos with the class that LARGE names, with Wilson's 95 %
interval, and photos with the right class.

Speed is that of new processes, from their start to the last row of the table: the loop of
`benchmarks/predict_folder.py` with the weights of LARGE, LARGE alone, and each cascade with the threshold
(`--sure`) that the other half has found. Rounds judge either half in turn, in which each photo is there
--copies times under other names, and every other pair of rounds turns the order round.

Printed, and written to OUT/cascade.csv: images a second (median, lowest and highest round) and the ratios to
the loop and to LARGE alone in the same round.
"""

from __future__ import annotations

import argparse
import csv
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from predict_folder import LOOP, processor, read, speed, spread

from resnets.evaluation.metrics import wilson

COLUMNS = ("contestant", "half", "round", "seconds", "images")
LARGE = "large network"
PREDICT = (sys.executable, "-m", "resnets", "predict")


class Judged(NamedTuple):
    """One half, judged by a cascade with the threshold of the other one.

    Args:
        threshold: As `--sure` takes it.
        classes: WordNet id by file.
        passed_on: Photos that the better network answered.
    """

    threshold: str
    classes: dict[str, str]
    passed_on: int


def main() -> None:
    """Judges both halves, then times them, and prints."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("small", type=Path)
    parser.add_argument("large", type=Path)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--weights", type=Path, required=True, help="of LARGE, for the loop")
    parser.add_argument("--model", default="resnet50", help="its name in torchvision")
    parser.add_argument("--agreement", nargs="+", default=["95", "97", "99"])
    parser.add_argument("--copies", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--out", type=Path, default=Path("runs/cascade"))
    parser.set_defaults(megapixels=None)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    halves = split(given.photos, given.out)
    alone = {
        network: {**predict(network, halves[0], given)[0], **predict(network, halves[1], given)[0]}
        for network in (given.large, given.small)
    }
    found = {}
    for agreement in given.agreement:
        judged = [judge(agreement, halves[place], halves[1 - place], given) for place in (0, 1)]
        if all(judged):
            found[agreement] = judged
    print(processor())
    tell(found, alone[given.large], alone[given.small])
    if given.rounds:
        rows = measure(found, halves, given)
        with (given.out / "cascade.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        for name in dict.fromkeys(row["contestant"] for row in rows):
            print(f"{name:14}", speed(rows, name, ("loop", LARGE)))


def split(photos: Path, out: Path) -> tuple[Path, Path]:
    """Every other photo into a folder of its own."""
    halves = out / "half-0", out / "half-1"
    for number, file in enumerate(sorted(photos.glob("n*/*"))):
        target = halves[number % 2] / file.parent.name / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.read_bytes())
    return halves


def predict(
    model: Path, folder: Path, given: argparse.Namespace, *options: str
) -> tuple[dict[str, str], str]:
    """The WordNet id of each photo, and what was said meanwhile."""
    command = [*PREDICT, str(model), str(folder), *options, "-o", str(fresh(given.out))]
    run = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    if run.returncode:
        raise ValueError(run.stderr)
    return read(given.out / "said.csv"), " ".join(run.stderr.split())


def fresh(out: Path) -> Path:
    """The name of a table that is not there."""
    for old in out.glob("said.csv*"):
        old.unlink()
    return out / "said.csv"


def judge(agreement: str, judged: Path, other: Path, given: argparse.Namespace) -> Judged | None:
    """What a cascade says of one half; None, with the reason printed, where there is no threshold."""
    options = ("--cascade", str(given.large), "--calibrate", str(other), "--agreement", agreement)
    try:
        classes, said = predict(given.small, judged, given, *options)
    except ValueError as error:
        print(f"{agreement} % on {other}: {error}")
        return None
    threshold = re.search(r"--sure ([-+.\de]+)\)", said)
    passed_on = re.search(r"([\d,]+) of [\d,]+ images by", said)
    assert threshold, said
    assert passed_on, said
    return Judged(threshold[1], classes, int(passed_on[1].replace(",", "")))


def tell(
    found: Mapping[str, Sequence[Judged]], large: Mapping[str, str], small: Mapping[str, str]
) -> None:
    """A line for each agreement that was asked for, both halves counted together."""

    def right(said: Mapping[str, str]) -> int:
        return sum(Path(file).parent.name == wnid for file, wnid in said.items())

    def agreeing(said: Mapping[str, str]) -> str:
        hits = sum(large[file] == wnid for file, wnid in said.items())
        return f"{hits} of {len(said)}: {wilson(hits, len(said))}"

    print(
        f"right: {right(large)} of {len(large)} by the large one, {right(small)} by the small one"
    )
    print(f"the small one alone agrees with the large one on {agreeing(small)}")
    for agreement, judged in found.items():
        classes = {**judged[0].classes, **judged[1].classes}
        passed_on = sum(one.passed_on for one in judged)
        print(
            f"{agreement} %: believed from {' and '.join(one.threshold for one in judged)} on,"
            f" passed on {passed_on} of {len(classes)}; agrees with the large one on"
            f" {agreeing(classes)}; right {right(classes)}"
        )


def measure(
    found: Mapping[str, Sequence[Judged]], halves: Sequence[Path], given: argparse.Namespace
) -> list[dict[str, str | int | float]]:
    """Seconds of each contestant and round."""
    folders = [spread(half, Path(f"{half}-{given.copies}"), given) for half in halves]
    rows = []
    for number in range(given.rounds):
        half = number % 2
        folder = str(folders[half])
        cascade = [*PREDICT, str(given.small), folder, "--cascade", str(given.large), "--sure"]
        commands = {
            "loop": [sys.executable, "-c", LOOP, folder, str(given.weights), given.model],
            LARGE: [*PREDICT, str(given.large), folder, "-o"],
        } | {f"cascade {a} %": [*cascade, one[half].threshold, "-o"] for a, one in found.items()}
        images = len(list(folders[half].glob("*/*")))
        for name in commands if number % 4 < 2 else reversed(commands):
            target = fresh(given.out)
            began = time.perf_counter()
            subprocess.run([*commands[name], str(target)], check=True, stderr=subprocess.DEVNULL)
            seconds = time.perf_counter() - began
            rows.append(dict(zip(COLUMNS, (name, half, number, seconds, images), strict=True)))
            print(f"{name}: {images / seconds:.1f} images/s", flush=True)
    return rows


if __name__ == "__main__":
    main()
