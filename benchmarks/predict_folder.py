"""A folder of photos to a table: ours against the loop that people write.

    python benchmarks/predict_folder.py photos/ resnet50.safetensors [--model resnet50] [--copies 2]
    python benchmarks/predict_folder.py photos/ resnet50.safetensors --int8
    python benchmarks/predict_folder.py photos/ resnet50.safetensors --megapixels 12 --copies 1

The loop: ImageFolder, torchvision's transforms (256, 224, ImageNet's mean and deviation), DataLoader
with two workers, the eager network in float32, batches of 32, a CSV. Ours: the same weights exported
once, then `resnets predict FILE.onnx FOLDER -o OUT.csv` with each engine; with --int8 the file of
`resnets export FILE.onnx --int8` beside it, calibrated on half of the photos, with --bf16 that of
--precision bf16 in OpenVINO. Every contestant is a new process, from its start to the last row of
its table; rounds alternate. FOLDER has a subfolder for each WordNet id, so that answers can be
judged; each photo is there --copies times under other names, with --megapixels enlarged to as much
beforehand.

Printed, and written to OUT/predict_folder.csv: images a second (median, lowest and highest round),
the ratio to the loop in the same round, and how many images get the right class and the loop's class.
"""

from __future__ import annotations

import argparse
import csv
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from resnets.imagenet import names_by_wnid
from resnets.runtime.cores import usable_cores
from resnets.runtime.engines import available_engines

FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")
COLUMNS = ("contestant", "round", "seconds", "images", "right", "as_the_loop")
LOOP = """
import csv, sys
import safetensors.torch, torch, torchvision
from torch.utils.data import DataLoader
from torchvision import transforms

folder, weights, network, target = sys.argv[1:]
transform = transforms.Compose([
    transforms.Resize(256), transforms.CenterCrop(224), transforms.ToTensor(),
    transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
])
data = torchvision.datasets.ImageFolder(folder, transform)
net = torchvision.models.get_model(network, weights=None).eval()
net.load_state_dict(safetensors.torch.load_file(weights))
found = []
with torch.inference_mode():
    for images, _ in DataLoader(data, batch_size=32, num_workers=2):
        values, places = net(images).softmax(1).max(1)
        found += zip(places.tolist(), values.tolist())
with open(target, "w", newline="") as file:
    writer = csv.writer(file)
    for (name, _), (place, value) in zip(data.samples, found):
        writer.writerow((name, place, value))
"""


class Contestant(NamedTuple):
    """One side.

    Args:
        name: In the table.
        command: What is run; the name of its table follows.
    """

    name: str
    command: list[str]


def main() -> None:
    """Makes the folder and the file, runs the rounds and prints."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("photos", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--model", default="resnet50")
    parser.add_argument("--copies", type=int, default=2)
    parser.add_argument("--megapixels", type=float)
    parser.add_argument("--int8", action="store_true")
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--only", nargs="*", help="of ours, by the names that are printed")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("runs/predict_folder"))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    folder = spread(
        given.photos, given.out / f"photos-{given.copies}-{given.megapixels or 0:g}", given
    )
    loop, *ours = contestants_for(folder, given)
    contestants = [loop, *(one for one in ours if not given.only or one.name in given.only)]
    labels = {str(file): file.parent.name for file in sorted(folder.glob("*/*"))}
    rows = []
    for number in range(given.rounds):
        said: dict[str, str] = {}
        for one in contestants if number % 2 == 0 else [contestants[0], *contestants[:0:-1]]:
            target = given.out / "said.csv"
            for old in given.out.glob("said.csv*"):
                old.unlink()
            began = time.perf_counter()
            subprocess.run([*one.command, str(target)], check=True, stderr=subprocess.DEVNULL)
            seconds = time.perf_counter() - began
            found = read(target)
            said = said or found  # of the loop, which comes first
            right = sum(found[file] == label for file, label in labels.items())
            same = sum(found[file] == said[file] for file in labels)
            rows.append(
                dict(
                    zip(COLUMNS, (one.name, number, seconds, len(labels), right, same), strict=True)
                )
            )
            print(f"{one.name}: {len(labels) / seconds:.1f} images/s", flush=True)
    with (given.out / "predict_folder.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    tell(rows)


def spread(photos: Path, folder: Path, given: argparse.Namespace) -> Path:
    """The photos as FOLDER/WNID/*, several times, enlarged if that is asked for."""
    if folder.exists():
        return folder
    for file in sorted(photos.glob("n*/*")):
        place = folder / file.parent.name
        place.mkdir(parents=True, exist_ok=True)
        first = place / f"{file.stem}_0.jpg"
        enlarge(file, first, given.megapixels)
        for number in range(1, given.copies):
            (place / f"{file.stem}_{number}.jpg").write_bytes(first.read_bytes())
    return folder


def enlarge(photo: Path, target: Path, megapixels: float | None) -> None:
    """A copy of a photo, with at least so many pixels."""
    with Image.open(photo) as image:
        scale = (megapixels * 1e6 / (image.width * image.height)) ** 0.5 if megapixels else 1
        if scale > 1:
            size = round(image.width * scale), round(image.height * scale)
            image.convert("RGB").resize(size, Image.Resampling.BICUBIC).save(target, quality=90)
        else:
            target.write_bytes(photo.read_bytes())


def contestants_for(folder: Path, given: argparse.Namespace) -> list[Contestant]:
    """The loop, then ours with each engine."""
    file = given.out / f"{given.model}.onnx"
    program = [sys.executable, "-m", "resnets"]
    if not file.exists():
        export = ["export", str(given.weights), "--model", given.model, "--classes", "imagenet"]
        subprocess.run([*program, *export, "-o", str(file)], check=True)
    loop = [sys.executable, "-c", LOOP, str(folder), str(given.weights), given.model]
    found = [Contestant("loop", loop)]
    files = {"": file}
    for form in ("int8", "bf16"):
        if not getattr(given, form):
            continue
        made = files[f"{form} "] = file.with_stem(f"{file.stem}-{form}")
        if not made.exists():
            export = ["export", str(file), "--precision", form, "--calibrate", str(given.photos)]
            subprocess.run([*program, *export, "--accept-unproven"], check=True)
    for prefix, one in files.items():
        names = [*available_engines(), "auto"] if prefix != "bf16 " else ["openvino"]
        for name in names:
            ours = [*program, "predict", str(one), str(folder), "--engine", name]
            found.append(Contestant(prefix + name, [*ours, "-o"]))
            if name != "auto" and not prefix:
                found.append(Contestant(f"{name} --exact", [*ours, "--exact", "-o"]))
    return found


def read(target: Path) -> dict[str, str]:
    """The WordNet id of each file."""
    wnids = list(names_by_wnid())
    by_name = {name: wnid for wnid, name in names_by_wnid().items()}
    with target.open(newline="") as file:
        rows = list(csv.reader(file))
    if rows[0][0] == "file":  # of ours, which has a header and names
        return {row[0]: by_name[row[1]] for row in rows[1:]}
    return {row[0]: wnids[int(row[1])] for row in rows}


def tell(rows: Sequence[dict[str, float]]) -> None:
    """A line for each contestant."""
    print(processor())
    for name in dict.fromkeys(row["contestant"] for row in rows):
        own = next(row for row in rows if row["contestant"] == name)
        print(
            f"{name:22} {speed(rows, name)}; right {own['right']} of {own['images']}, as the loop"
            f" {own['as_the_loop']}"
        )


def speed(rows: Sequence[dict[str, float]], name: str, others: Sequence[str] = ("loop",)) -> str:
    """Images a second of a contestant, and ratios to others in the same round."""
    seconds = {(row["contestant"], row["round"]): row["seconds"] for row in rows}
    own = [row for row in rows if row["contestant"] == name]
    rates = [row["images"] / row["seconds"] for row in own]
    text = f"{statistics.median(rates):6.1f} images/s ({min(rates):.1f} to {max(rates):.1f})"
    for other in others:
        ratios = [seconds[other, row["round"]] / row["seconds"] for row in own]
        text += (
            f", {statistics.median(ratios):.2f} times the {other} ({min(ratios):.2f} to"
            f" {max(ratios):.2f})"
        )
    return text


def processor() -> str:
    """What computes here, with the instructions that matter."""
    info = Path("/proc/cpuinfo")
    words = info.read_text().split() if info.exists() else []
    name = f"{platform.processor() or platform.machine()}, {usable_cores()} cores,"
    return " ".join((name, *(flag for flag in FLAGS if flag in words)))


if __name__ == "__main__":
    main()
