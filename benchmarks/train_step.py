"""A training step of this package beside one of eager PyTorch in NCHW and float32.

    python benchmarks/train_step.py [--rounds 15] [--only resnet20 ...] [--clock cpu|wall] [--threads 1]

Either side is a process of its own, so that neither gains from what the other set; they take turns,
two steps at a time, and a round gives one ratio. Printed: medians, and the ratio's median and range
over rounds. Ours is the step that a run takes: `training.loop.train_steps` with the network placed by
`place_net`, the run's optimizer, its average of weights and its precision; images are in memory, as
`train_epoch.py` measures their preparation. The other side is the same network, loss and kind of
optimizer, written as in PyTorch's tutorials, without an average.

    resnet20          32 px, batches of 128, SGD, float32: what a run from scratch takes
    resnet18          224 px, batches of 16, AdamW, bfloat16 where the processor has AMX
    resnet18-no-amx   the same, both sides with ONEDNN_MAX_CPU_ISA=AVX512_CORE, ours in float32, which
                      is what a run takes on a processor without bfloat16
    *-compiled        torch.compile in the place of our step's network, which a run does not take: the
                      first step of it takes most of a minute
    last-stage        ours against ours: the last stage and the head of ResNet-18 on maps (256, 14, 14) of
                      the stage before, kept in memory, against all layers on images: what a run
                      that is too short for all layers gains, reading the kept maps not counted;
                      bfloat16, where the processor has AMX
    last-stage-no-amx the same in float32, as resnet18-no-amx
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

STEPS = 2  # of a turn
AVX512 = "AVX512_CORE"


@dataclass(frozen=True)
class Side:
    """What one process does: a network, its input and its precision.

    Args:
        network: Its name.
        shape: Of the input, (N, C, H, W).
        optimizer: `sgd` or `adamw`.
        ours: Whether the package takes the step.
        precision: float32 or bfloat16.
        compiled: Whether torch.compile makes code of the network.
        last: Whether only the last stage is there.
        isa: The largest instruction set that oneDNN may use; empty: any.
    """

    network: str
    shape: tuple[int, int, int, int]
    optimizer: str
    ours: bool = True
    precision: str = "float32"
    compiled: bool = False
    last: bool = False
    isa: str = ""


SMALL = Side("resnet20", (128, 3, 32, 32), "sgd")
LARGE = Side("resnet18", (16, 3, 224, 224), "adamw", precision="bfloat16")
FULL = replace(LARGE, precision="float32")
PLAIN = replace(FULL, isa=AVX512)
MAPS = (16, 256, 14, 14)  # before the last stage of ResNet-18
CASES = {  # the faster side, the slower one, the ratio that is wanted
    "resnet20": (SMALL, replace(SMALL, ours=False), 1.45),
    "resnet18": (LARGE, replace(FULL, ours=False), 3.0),
    "resnet18-no-amx": (PLAIN, replace(PLAIN, ours=False), 1.35),
    "resnet20-compiled": (replace(SMALL, compiled=True), replace(SMALL, ours=False), 1.45),
    "resnet18-compiled": (replace(PLAIN, compiled=True), replace(PLAIN, ours=False), 1.35),
    "last-stage": (replace(LARGE, shape=MAPS, last=True), LARGE, 4.0),
    "last-stage-no-amx": (replace(PLAIN, shape=MAPS, last=True), PLAIN, 4.0),
}


def make_network(side: Side) -> Any:
    """With 10 classes; of the last stage alone, from the maps before it."""
    import torch
    from torch import nn

    from resnets import create_model

    torch.manual_seed(0)
    net: Any = create_model(side.network, num_classes=10)
    return (
        nn.Sequential(net.layer4, nn.AdaptiveAvgPool2d(1), nn.Flatten(), net.fc)
        if side.last
        else net
    )


def eager(side: Side, tick: Callable[[], float]) -> Callable[[], list[float]]:
    """A turn of the loop of a tutorial."""
    import torch

    net = make_network(side).train()
    images, labels = torch.randn(side.shape), torch.arange(side.shape[0]) % 10
    optimizer: torch.optim.Optimizer
    if side.optimizer == "sgd":
        optimizer = torch.optim.SGD(net.parameters(), 1e-6, 0.9, weight_decay=5e-4, nesterov=True)
    else:
        optimizer = torch.optim.AdamW(net.parameters(), 1e-6, weight_decay=0.05)

    def turn() -> list[float]:
        marks = [tick()]
        for _ in range(STEPS):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(net(images), labels).backward()
            optimizer.step()
            marks.append(tick())
        return [after - before for before, after in pairwise(marks)]

    return turn


def ours(side: Side, tick: Callable[[], float]) -> Callable[[], list[float]]:
    """A turn of the loop of the package; saving and validating do nothing."""
    import torch

    from resnets.data.batches import Batch
    from resnets.run.work import autocast_of, make_state
    from resnets.tasks import make_task
    from resnets.training.device import place_input, place_net
    from resnets.training.loop import Hooks, train_steps
    from resnets.training.optimizers import Schedule
    from resnets.training.plan import Phase, Plan, PlannedPhase
    from resnets.training.settings import TrainSettings

    device, settings = torch.device("cpu"), TrainSettings("", precision=side.precision)
    task, net = make_task({"name": "classes"}), place_net(make_network(side), device)
    net = torch.compile(net) if side.compiled else net
    images = place_input(torch.randn(side.shape), device)
    batch = Batch(images, {"labels": torch.arange(side.shape[0]) % 10})
    phase = PlannedPhase(Schedule(1e-6, 10**6, 0), phase=Phase(optimizer=side.optimizer))
    autocast = autocast_of(settings, device)
    plan = Plan((phase,), 10**6, 10**6, 10**6, checkpoint_seconds=math.inf, autocast=autocast)
    state = make_state(net, task, plan, settings.average)

    def turn() -> list[float]:
        marks = [tick()]
        hooks = Hooks(lambda _: {}, lambda _: None, lambda state, loss: marks.append(tick()))
        train_steps(state, [batch] * STEPS, task, plan, hooks)
        return [after - before for before, after in pairwise(marks)]

    return turn


def serve(side: Side, clock: str, threads: int, connection: Connection) -> None:
    """A process: a turn whenever it is told to."""
    os.environ["OMP_NUM_THREADS"] = str(threads)
    if side.isa:
        os.environ["ONEDNN_MAX_CPU_ISA"] = side.isa
    import torch  # reads both

    torch.set_num_threads(threads)
    tick = time.process_time if clock == "cpu" else time.perf_counter
    turn = (ours if side.ours else eager)(side, tick)
    turn()  # warms up
    connection.send([])
    while connection.recv():
        connection.send(turn())


def compare(sides: tuple[Side, Side], rounds: int, clock: str, threads: int) -> list[list[float]]:
    """Seconds of a step of both sides, round by round."""
    context = multiprocessing.get_context("spawn")
    ends, processes = [], []
    for side in sides:
        here, there = context.Pipe()
        process = context.Process(target=serve, args=(side, clock, threads, there), daemon=True)
        process.start()
        here.recv()
        ends.append(here)
        processes.append(process)
    found: list[list[float]] = [[], []]
    for number in range(rounds):
        for k in (0, 1) if number % 2 else (1, 0):  # neither is always the first
            ends[k].send(True)
            found[k].append(statistics.fmean(ends[k].recv()))
    for end, process in zip(ends, processes, strict=True):
        end.send(False)
        process.join()
    return found


def flags() -> str:
    """What of the processor matters here."""
    try:
        words = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return platform.processor() or "unknown processor"
    wanted = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
    return " ".join(word for word in wanted if word in words)


def main() -> None:
    """Runs the cases and prints a line each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--only", nargs="*", choices=CASES, default=list(CASES))
    parser.add_argument("--clock", choices=("cpu", "wall"), default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    print(f"{flags()}; {options.threads} thread(s), {options.clock} time")
    for name in options.only:
        fast, slow, wanted = CASES[name]
        if fast.precision == "bfloat16" and not fast.isa and "amx_bf16" not in flags():
            print(f"{name:16} not measured: no AMX here", flush=True)
            continue
        quick, long = compare((fast, slow), options.rounds, options.clock, options.threads)
        ratios = [b / a for a, b in zip(quick, long, strict=True)]
        print(
            f"{name:16} {1e3 * statistics.median(quick):6.0f} ms against"
            f" {1e3 * statistics.median(long):6.0f} ms a step of {fast.shape[0]}: ratio"
            f" {statistics.median(ratios):.2f} [{min(ratios):.2f}, {max(ratios):.2f}], n ="
            f" {options.rounds} (wanted: {wanted:g})",
            flush=True,
        )


if __name__ == "__main__":
    main()
