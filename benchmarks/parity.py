"""Compares every network of the family with timm's and torchvision's of the same name, number by
number.

    python benchmarks/parity.py -o docs/parity.md             # all of them, some minutes
    python benchmarks/parity.py 'resnet50*' 'densenet*'       # some
    python benchmarks/parity.py --reference FILE ...          # and the rows with a list of
    published numbers

Each network is compared with each of its peers. The state dict goes over, through `convert` where
names differ. Parameters and multiply-adds of both are the row's. Logits in float32 at a small input
are equal; so are, up to 60 M parameters, logits and running statistics of a training pass in
float64. A fresh network hides its branches: norms and what is zero are drawn anew before.
"""

from __future__ import annotations

import argparse
import fnmatch
import gc
import json
import re
import shlex
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import timm
import torch
import torchvision
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from resnets.models import create_model
from resnets.models.rows import ROWS, Row
from resnets.models.setting import TransformerSetting
from resnets.models.weights import convert
from resnets.models.zoo import REFUSED
from resnets.pretrained import TORCHVISION_NAMES
from resnets.summary.table import count_parameters, summarise

LOGITS = 1e-4  # allowed in float32, relative to the largest logit
SPREAD = 1e-3  # by which the logits of two pictures must differ at least, or they show nothing
TRAINING = 1e-6  # allowed in float64
LARGEST = 60e6  # parameters up to which a training pass is compared
# names in torchvision 0.29.1 and timm 1.0.31, without those refused; three Transformers are
# compared besides
PUBLISHED = 127
MODULES = ("resnet", "resnetv2", "densenet", "sknet", "res2net", "resnest", "senet")  # of timm
PAGE = """# Equal to timm and torchvision, number by number

`{command}` with {libraries} on the CPU: {agree} networks agree.

All that the two libraries name in this family are {published}, without those that `create_model` refuses in words. Keys of state
dicts are equal, or mapped by `convert`. Parameters and multiply-adds, of both sides, are the row's. Largest differences, relative
to the largest value: logits in evaluation (float32, allowed 1e-4); logits and running statistics of a training pass (float64,
allowed 1e-6; networks up to 60 M parameters; empty where not compared).

| network | peers | keys | parameters | G multiply-adds | logits | training | statistics | holds |
|---|---|---|---:|---:|---:|---:|---:|---|
"""


@dataclass(frozen=True)
class Result:
    """One comparison. Differences are relative to the largest value, the worst of all peers; None
    where none was made."""

    name: str
    peers: str
    keys: str  # "equal" or "mapped" for each peer
    counts: dict[str, tuple[int, int]]  # parameters and multiply-adds by whose they are
    logits: float
    spread: float  # between the logits of two pictures
    training: float | None = None
    statistics: float | None = None


def names() -> list[str]:
    """What has a peer: all rows but those for CIFAR."""
    return [name for name, row in ROWS.items() if row.classes != 10]


def published() -> set[str]:
    """What timm and torchvision have of the family and is not refused; detection and segmentation
    put other things behind it."""
    homes = {
        name: torchvision.models.get_model_builder(name).__module__
        for name in torchvision.models.list_models()
    }
    found = [
        name
        for name, home in homes.items()
        if re.fullmatch(r"torchvision\.models\.(\w+\.)?(resnet|densenet)", home)
    ]
    found += [name for module in MODULES for name in timm.list_models(module=module)]
    return {
        name for name in found if not any(fnmatch.fnmatch(name, pattern) for pattern in REFUSED)
    }


def miscounted() -> list[str]:
    """What keeps the names compared from being exactly those published; nothing where they are."""
    compared = {name for name in names() if not isinstance(ROWS[name].setting, TransformerSetting)}
    problems = [f"{name}: neither compared nor refused" for name in sorted(published() - compared)]
    problems += [
        f"{name}: neither in timm nor in torchvision" for name in sorted(compared - published())
    ]
    return problems + [f"{len(compared)} names instead of {PUBLISHED}"] * (
        len(compared) != PUBLISHED
    )


def differing(reference: Path) -> list[str]:
    """Where the rows are not what a list of published networks says (name, source, params, macs,
    input_size each)."""
    entries = json.loads(reference.read_text(encoding="utf-8"))
    problems = [
        f"{name}: not in {reference.name}"
        for name in sorted(published() - {entry["name"] for entry in entries})
    ]
    for entry in entries:
        said = (entry["params"], entry["macs"], entry["input_size"][-1])
        row = ROWS.get(entry["name"])
        if row and (own := (row.parameters, row.macs, row.size)) != said:
            problems.append(f"{entry['name']}: {own}, in {entry['source']} {said}")
    return problems


def make_peers(name: str) -> Iterator[tuple[str, nn.Module]]:
    """The networks of this name, one after the other."""
    if timm.is_model(name):
        yield "timm", timm.create_model(name)
    if (theirs := TORCHVISION_NAMES.get(name, name)) in torchvision.models.list_models():
        yield "torchvision", torchvision.models.get_model(theirs)


@torch.no_grad()
def randomise(net: nn.Module) -> None:
    """Norms as of a trained network, mild enough that logits stay small, and nothing that is
    zero."""
    generator = torch.Generator().manual_seed(0)
    for module in net.modules():
        statistics = getattr(module, "running_mean", None) is not None
        if statistics or isinstance(module, nn.GroupNorm | nn.LayerNorm):
            module.weight.uniform_(0.8, 1.2, generator=generator)
            module.bias.uniform_(-0.1, 0.1, generator=generator)
        if statistics:
            module.running_mean.uniform_(-0.1, 0.1, generator=generator)
            module.running_var.uniform_(0.8, 1.2, generator=generator)
    for parameter in net.parameters():
        if not parameter.any():
            parameter.normal_(0, 0.02, generator=generator)


def sides(row: Row) -> tuple[int, ...]:
    """Of the input that a row's numbers hold for."""
    return (16, row.size, row.size) if row.classes == 400 else (row.size, row.size)


def pictures(row: Row, count: int) -> torch.Tensor:
    """Noise, small, with odd sides on the way down, each louder than the one before: equally loud
    ones give like logits."""
    shape: tuple[int, ...] = (4, 48, 56) if row.classes == 400 else (72, 56)
    if isinstance(row.setting, TransformerSetting):
        shape = sides(row)  # the only ones that it has learned places for
    elif row.setting.antialias == "average":
        shape = (64, 64)  # timm's cannot take odd sides: the branch rounds down and the shortcut up
    noise = torch.randn(count, 3, *shape, generator=torch.Generator().manual_seed(1))
    return noise * torch.linspace(0.5, 2, count).view(-1, *[1] * (noise.ndim - 1))


def difference(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """The largest difference, relative to the largest value."""
    return ((ours - theirs).abs().max() / theirs.abs().max().clamp(min=1e-12)).item()


def multiply_adds(net: nn.Module, row: Row) -> int:
    """Of a network that is needed no more: it loses its weights."""
    with FlopCounterMode(display=False) as counter:
        net.to("meta").float().eval()(torch.zeros(1, 3, *sides(row), device="meta"))
    return counter.get_total_flops() // 2


def compare(name: str, thorough: bool = True) -> Result:
    """All comparisons of one network, or only what takes a second: neither training nor its peers'
    multiply-adds."""
    row = ROWS[name]
    torch.manual_seed(0)
    with torch.device("meta"):  # its weights come from the peers
        ours = create_model(name)
    counts = {
        "ours": (count_parameters(ours), sum(stage.macs for stage in summarise(ours, sides(row))))
    }
    ours.to_empty(device="cpu")
    sources, keys, logits, spread, training, statistics = [], [], [], [], [], []
    for source, peer in make_peers(name):
        sources.append(source)
        randomise(peer)
        state, images = peer.state_dict(), pictures(row, 2)
        keys.append("equal" if set(state) == set(ours.state_dict()) else "mapped")
        ours.float().eval().load_state_dict(convert(state, name), strict=True)
        with torch.no_grad():
            theirs = peer.eval()(images)
            logits.append(difference(ours(images), theirs))
        spread.append(difference(*theirs))
        if thorough and counts["ours"][0] <= LARGEST:
            ours, peer, images = (
                ours.double().train(),
                peer.double().train(),
                pictures(row, 4).double(),
            )
            with torch.no_grad():
                training.append(difference(ours(images), peer(images)))
            own, after = ours.state_dict(), convert(peer.state_dict(), name)
            statistics += [difference(own[key], after[key]) for key in own if "running_" in key]
        if thorough:
            counts[source] = (count_parameters(peer), multiply_adds(peer, row))
    worst = (max(values, default=None) for values in (training, statistics))
    return Result(
        name, ", ".join(sources), ", ".join(keys), counts, max(logits), min(spread), *worst
    )


def judge(result: Result) -> str:
    """What is wrong with a result; nothing where all holds."""
    row = ROWS[result.name]
    problems = []
    for whose, (parameters, macs) in result.counts.items():
        problems += [f"parameters of {whose} {parameters} for {row.parameters}"] * (
            parameters != row.parameters
        )
        problems += [f"multiply-adds of {whose} {macs} for {row.macs}"] * (macs != row.macs)
    training = [
        ("training logits", result.training, TRAINING),
        ("running statistics", result.statistics, TRAINING),
    ]
    for what, value, allowed in [("logits", result.logits, LOGITS), *training]:
        if value is not None and not value <= allowed:  # also what is not a number
            problems.append(f"{what} differ by {value:.1e}")
    if not result.spread >= SPREAD:
        problems.append(f"logits of two pictures differ by {result.spread:.1e} only")
    return "; ".join(problems)


def page(results: list[tuple[Result, str]], command: str) -> str:
    """docs/parity.md."""
    lines = []
    for result, problem in results:
        parameters, macs = result.counts["ours"]
        values = [
            "" if value is None else f"{value:.1e}"
            for value in (result.logits, result.training, result.statistics)
        ]
        words = [
            result.name,
            result.peers,
            result.keys,
            f"{parameters:,}",
            f"{macs / 1e9:.3f}",
            *values,
            problem or "yes",
        ]
        lines.append(f"| {' | '.join(words)} |\n")
    libraries = (
        f"torch {torch.__version__}, torchvision {torchvision.__version__}, timm {timm.__version__}"
    )
    agree = f"{sum(not problem for _, problem in results)} of {len(results)}"
    return PAGE.format(
        command=command, libraries=libraries, agree=agree, published=PUBLISHED
    ) + "".join(lines)


def main() -> None:
    """Runs the comparisons and writes the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("patterns", nargs="*")
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--reference", type=Path)
    given = parser.parse_args()
    problems = miscounted() + (differing(given.reference) if given.reference else [])
    print(*problems, sep="\n", end="\n" * bool(problems))
    wanted = [
        name
        for name in names()
        if any(fnmatch.fnmatch(name, pattern) for pattern in given.patterns or ["*"])
    ]
    results = []
    for number, name in enumerate(wanted, 1):
        start = time.monotonic()
        results.append((result := compare(name), problem := judge(result)))
        told = f"{number:3}/{len(wanted)} {name:24} {result.logits:.1e} {problem or 'equal'}"
        print(f"{told}  {time.monotonic() - start:.1f} s", flush=True)
        gc.collect()  # the largest pair takes 8 GB
    if given.output:
        command = shlex.join(
            ["python", "benchmarks/parity.py", *given.patterns, "-o", str(given.output)]
        )
        given.output.write_text(page(results, command), encoding="utf-8")
    raise SystemExit(bool(problems) or not results or any(problem for _, problem in results))


if __name__ == "__main__":
    main()
