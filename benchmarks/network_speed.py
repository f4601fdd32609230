"""Networks of this package beside torchvision's own of the same name: forward and training step,
alternating in one run.

    python benchmarks/network_speed.py [resnet50 resnext50_32x4d densenet121] [--rounds 15]

Same weights, same input, same memory format; what is timed is the network and nothing else. A ratio
above 1 means that ours is faster. Each round runs both, in turns first and second; the median of
the rounds' ratios is told with its quartiles.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from resnets import create_model


def forward_step(net: nn.Module, images: Tensor) -> Callable[[], object]:
    """Inference."""
    net.eval()

    @torch.inference_mode()
    def step() -> Tensor:
        return net(images)

    return step


def training_step(net: nn.Module, images: Tensor) -> Callable[[], object]:
    """Forward, backward and SGD."""
    net.train()
    labels = torch.zeros(len(images), dtype=torch.long)
    optimizer = torch.optim.SGD(net.parameters(), 1e-4, 0.9)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(net(images), labels).backward()
        optimizer.step()

    return step


def seconds(step: Callable[[], object]) -> float:
    """How long one call takes."""
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def compare(
    name: str,
    make_step: Callable[[nn.Module, Tensor], Callable[[], object]],
    batch: int,
    rounds: int,
) -> list[float]:
    """Torchvision's seconds over ours, for each round."""
    torch.manual_seed(0)
    theirs, ours = torchvision.models.get_model(name, weights=None), create_model(name)
    ours.load_state_dict(theirs.state_dict())
    images = torch.randn(batch, 3, 224, 224).to(memory_format=torch.channels_last)
    steps = [make_step(net.to(memory_format=torch.channels_last), images) for net in (theirs, ours)]
    for step in steps * 2:
        step()
    ratios = []
    for number in range(rounds):
        first, second = steps if number % 2 else steps[::-1]
        one, two = seconds(first), seconds(second)
        their, our = (one, two) if number % 2 else (two, one)
        ratios.append(their / our)
    return ratios


def main() -> None:
    """Prints a line for each network and step."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", default=["resnet50", "resnext50_32x4d", "densenet121"])
    parser.add_argument("--rounds", type=int, default=15)
    given = parser.parse_args()
    print(
        f"torch {torch.__version__}, torchvision {torchvision.__version__},"
        f" {torch.get_num_threads()} threads, 224 px, NHWC"
    )
    for name in given.names:
        for words, make_step, batch in (
            ("forward", forward_step, 8),
            ("training step", training_step, 8),
        ):
            ratios = compare(name, make_step, batch, given.rounds)
            low, middle, high = statistics.quantiles(ratios, n=4)
            print(
                f"{name:18} {words:14} batch {batch}: {middle:.3f} times as fast [{low:.3f},"
                f" {high:.3f}], {given.rounds} rounds",
                flush=True,
            )


if __name__ == "__main__":
    main()
