"""Whether `--minutes` is kept: the whole command, from its start to its end, against what was asked.

    python benchmarks/minutes.py hymenoptera/ --weights resnet18.safetensors --minutes 1 3 10
    python benchmarks/minutes.py eurosat/ --weights resnet18.safetensors --minutes 3 --busy

Trains twice for each number of minutes, from the weights and from scratch. --busy keeps a core at
work from the middle on. An idle machine must never be late, and at most 15 % early; one that loses a
core at most 10 % late. Rows go to OUT/minutes.csv as they come; what is there is not run again.
"""

from __future__ import annotations

import argparse
import csv
import multiprocessing
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

COLUMNS = ("data", "start", "asked", "busy", "took", "epochs", "accuracy")


def main() -> None:
    """Runs what is missing and prints all rows."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--weights", type=Path, required=True, help="of a ResNet-18")
    parser.add_argument("--minutes", type=float, nargs="*", default=[1.0, 3.0, 10.0])
    parser.add_argument("--busy", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("runs/minutes"))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    table = given.out / "minutes.csv"
    if not table.exists():
        table.write_text(",".join(COLUMNS) + "\n")
    for minutes in given.minutes:
        for start in ("pretrained", "scratch"):
            key = [given.data.name, start, f"{minutes:g}", str(int(given.busy))]
            if any(list(row.values())[:4] == key for row in rows(table)):
                continue
            measured = measure(given, minutes, start == "pretrained")
            with table.open("a", newline="") as file:
                csv.writer(file, lineterminator="\n").writerow([*key, *measured])
    for row in rows(table):
        part = float(row["took"]) / float(row["asked"]) - 1
        most, least = (0.10, -1) if row["busy"] == "1" else (0.0, -0.15)
        verdict = "kept" if least <= part <= most else "NOT KEPT"
        print(*(f"{name} {value}" for name, value in row.items()), f"{part:+.1%}", verdict)


def rows(table: Path) -> list[dict[str, str]]:
    """Of the table."""
    with table.open(newline="") as file:
        return list(csv.DictReader(file))


def measure(given: argparse.Namespace, minutes: float, pretrained: bool) -> tuple[str, str, str]:
    """Minutes that the command took, its last epoch, and its accuracy on validation images."""
    folder = given.out / "run"
    shutil.rmtree(folder, ignore_errors=True)
    network = ["--model", "resnet18", "--weights", str(given.weights)] if pretrained else []
    options = network or ["--weights", "none"]
    command = [sys.executable, "-m", "resnets", "train", str(given.data), *options]
    command += ["--minutes", f"{minutes:g}", "--output", str(folder)]
    worker = multiprocessing.Process(target=work, daemon=True)
    later = threading.Timer(minutes * 30, worker.start)
    if given.busy:
        later.start()
    began = time.monotonic()
    with (given.out / "log.txt").open("w") as log:
        subprocess.run(command, check=True, stdout=log, stderr=subprocess.STDOUT)
    took = (time.monotonic() - began) / 60
    later.cancel()
    if worker.pid:
        worker.kill()
    found = rows(folder / "results.csv")
    accuracy = [row["val_accuracy"] for row in found if row["val_accuracy"]]
    return f"{took:.3f}", found[-1]["epoch"], max(accuracy, key=float)


def work() -> None:
    """Keeps one core at work."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    while True:
        pass


if __name__ == "__main__":
    main()
