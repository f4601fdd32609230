"""Compares every network of the family with timm's or torchvision's of the same name, number by number.

    python benchmarks/parity.py -o docs/parity.md             # all of them, about half an hour
    python benchmarks/parity.py 'resnet50*' 'densenet*'       # some

For each: state dicts go over (through `convert` where the names differ), parameters and multiply-adds are those published, logits with
mildly randomised norms (a fresh network hides its branches: their last norm is often zero) are equal in float32 at a small input, and
up to 60 M parameters a training step in float64 without randomness gives the same logits and running statistics.
"""

from __future__ import annotations

import argparse
import fnmatch
import gc
import time
from dataclasses import dataclass
from pathlib import Path

import timm
import torch
import torchvision
from torch import nn

from resnets.models import create_model
from resnets.models.rows import ROWS, Row
from resnets.models.setting import TransformerSetting
from resnets.models.weights import convert
from resnets.summary.table import summarise

LOGITS = 1e-4  # allowed in float32, relative to the largest logit
TRAINING = 1e-6  # allowed in float64
LARGEST = 60e6  # parameters up to which a training step is compared


@dataclass(frozen=True)
class Result:
    """One comparison; differences are relative to the largest value, None where it was not made."""

    name: str
    peer: str
    keys: str
    parameters: int
    macs: int
    logits: float
    training: float | None
    statistics: float | None
    problem: str = ""


def names() -> list[str]:
    """What has a peer: all rows but those for CIFAR."""
    return [name for name, row in ROWS.items() if row.classes != 10]


def make_peer(name: str) -> tuple[nn.Module, str]:
    """timm's network of this name, or torchvision's for clips."""
    if ROWS[name].classes == 400:
        return getattr(torchvision.models.video, name)(weights=None), "torchvision"
    return timm.create_model(name), "timm"


@torch.no_grad()
def randomise(net: nn.Module) -> None:
    """Norms as of a trained network, mild enough that logits stay small (trap 1)."""
    generator = torch.Generator().manual_seed(0)
    for module in net.modules():
        statistics = getattr(module, "running_mean", None) is not None
        if statistics or isinstance(module, nn.GroupNorm | nn.LayerNorm):
            module.weight.uniform_(0.8, 1.2, generator=generator)
            module.bias.uniform_(-0.1, 0.1, generator=generator)
        if statistics:
            module.running_mean.uniform_(-0.1, 0.1, generator=generator)
            module.running_var.uniform_(0.8, 1.2, generator=generator)


def pictures(row: Row, count: int) -> torch.Tensor:
    """Noise, small; of the size that a Transformer has learned its places for."""
    generator = torch.Generator().manual_seed(1)
    if row.classes == 400:
        return torch.randn(count, 3, 4, 48, 48, generator=generator)
    side = row.size if isinstance(row.setting, TransformerSetting) else 64
    return torch.randn(count, 3, side, side, generator=generator)


def difference(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """The largest difference, relative to the largest value."""
    return ((ours - theirs).abs().max() / theirs.abs().max().clamp(min=1e-12)).item()


def compare(name: str) -> Result:
    """All comparisons of one network."""
    row = ROWS[name]
    torch.manual_seed(0)
    peer, source = make_peer(name)
    randomise(peer)
    ours = create_model(name)
    state = peer.state_dict()
    converted = convert(state, name)
    ours.load_state_dict(converted, strict=True)
    keys = "equal" if list(converted) == list(state) else "mapped"
    parameters = sum(parameter.numel() for parameter in ours.parameters())
    images = pictures(row, 2)
    with torch.no_grad():
        logits = difference(ours.eval()(images), peer.eval()(images))
    training = statistics = None
    if parameters < LARGEST:
        ours, peer, images = ours.double().train(), peer.double().train(), pictures(row, 4).double()
        with torch.no_grad():
            training = difference(ours(images), peer(images))
        after = convert(peer.state_dict(), name)
        means = [key for key in after if "running_" in key]
        own = ours.state_dict()
        statistics = max((difference(own[key], after[key]) for key in means), default=None)
    side = (16, row.size, row.size) if row.classes == 400 else (row.size, row.size)
    macs = sum(stage.macs for stage in summarise(ours.float(), side))
    return Result(name, source, keys, parameters, macs, logits, training, statistics)


def judge(result: Result) -> str:
    """What is wrong with a result; nothing where all holds."""
    row = ROWS[result.name]
    problems = []
    if result.parameters != row.parameters:
        problems.append(f"parameters {result.parameters} for {row.parameters}")
    if result.macs != row.macs:
        problems.append(f"multiply-adds {result.macs} for {row.macs}")
    if not result.logits <= LOGITS:
        problems.append(f"logits differ by {result.logits:.1e}")
    for what, value in (("training logits", result.training), ("running statistics", result.statistics)):
        if value is not None and not value <= TRAINING:
            problems.append(f"{what} differ by {value:.1e}")
    return "; ".join(problems)


def page(results: list[tuple[Result, str]], command: str) -> str:
    """docs/parity.md."""
    count = sum(not problem for _, problem in results)
    cells = [f"| {r.name} | {r.peer} | {r.keys} | {r.parameters:,} | {r.macs / 1e9:.3f} | {r.logits:.1e} | "
             f"{'' if r.training is None else f'{r.training:.1e}'} | {'' if r.statistics is None else f'{r.statistics:.1e}'} | "
             f"{problem or 'yes'} |" for r, problem in results]  # fmt: skip
    return "\n".join(
        [
            "# Equal to torchvision and timm, number by number",
            "",
            f"`{command}` with torch {torch.__version__}, torchvision {torchvision.__version__}, timm {timm.__version__} on the CPU: "
            f"{count} of {len(results)} networks agree.",
            "",
            "Largest differences, relative to the largest value: logits in evaluation (float32, allowed 1e-4); logits and running",
            "statistics of a training pass (float64, allowed 1e-6; networks under 60 M parameters; empty where not compared).",
            "Parameters and multiply-adds must be equal to those published. Norms are mildly randomised first.",
            "",
            "| network | peer | keys | parameters | G multiply-adds | logits | training | statistics | holds |",
            "|---|---|---|---:|---:|---:|---:|---:|---|",
            *cells,
            "",
        ]
    )


def main() -> None:
    """Runs the comparisons and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("patterns", nargs="*", default=["*"])
    parser.add_argument("-o", "--output", type=Path)
    given = parser.parse_args()
    wanted = [name for name in names() if any(fnmatch.fnmatch(name, pattern) for pattern in given.patterns)]
    results = []
    for number, name in enumerate(wanted, 1):
        start = time.monotonic()
        result = compare(name)
        problem = judge(result)
        results.append((result, problem))
        print(
            f"{number:3}/{len(wanted)} {name:24} {result.logits:.1e} {problem or 'equal'}  {time.monotonic() - start:.1f} s",
            flush=True,
        )
        gc.collect()
    if given.output:
        given.output.write_text(page(results, f"python benchmarks/parity.py -o {given.output}"), encoding="utf-8")
    raise SystemExit(any(problem for _, problem in results))


if __name__ == "__main__":
    main()
