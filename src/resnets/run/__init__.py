"""A run, from a folder of pictures to a proven file: the only place where data, network and
training meet.

Reading order is running order: `prepare` looks and decides, `work` reads the pictures, fixes the
number of steps and trains, `finish` measures, reports and exports. `resume` enters at `work` with
what an earlier run wrote down.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from resnets.data.splits import read_split, split_csv
from resnets.files import write_file
from resnets.modelfile import build_network, read_model
from resnets.run.finish import Run, finish
from resnets.run.folder import RunFolder, choose_folder, claimed
from resnets.run.keywords import TrainCall, takes
from resnets.run.prepare import prepare
from resnets.run.spec import Spec
from resnets.run.work import Callback, carry_out, plan, read_pictures
from resnets.screen import Screen
from resnets.settings import change
from resnets.training.recipe import TrainSettings

__all__ = ["Run", "resume", "train"]


@takes(TrainCall)
def train(
    data: str | Path,
    model: str | nn.Module | None = None,
    *,
    output: str | Path | None = None,
    name: str | None = None,
    exist_ok: bool = False,
    callbacks: Sequence[Callback] = (),
    quiet: bool = False,
    started: float | None = None,
    **settings: Any,
) -> Run:
    """Trains a classifier on a folder of pictures, measures it, and exports it with a proof.

    Args:
        data: A folder, a table or the name of a torchvision data set
            (`resnets.data.sources.find_data`).
        model: The words for a network (`"resnet50 shortcut=none"`), or any module (N, C, H, W) ->
            (N, classes).
        output: The run's folder; by default `runs/train/NAME`.
        name: NAME; by default the next free number.
        exist_ok: Write into a folder that is not empty.
        callbacks: Called with each row of results.csv; a true answer ends training early.
        quiet: Say nothing but warnings.
        started: `time.monotonic()` at which `minutes` began to run.
        **settings: Fields of `TrainSettings`; docs/settings.md has a sentence about each.

    Raises:
        ValueError: The data, the network or a setting cannot be used; the message says what to do.
        ProofFailed: The exported file answers differently from the model.
        OSError: A file could not be written (disk full); what was saved before stays.
    """
    started = time.monotonic() if started is None else started
    screen = Screen(quiet)
    named = model if isinstance(model, str) else None
    given = None if model is None or isinstance(model, str) else model
    wanted = change(TrainSettings(str(data)), {**({"model": named} if named else {}), **settings})
    with claimed(choose_folder(Path(output) if output else None, name, exist_ok)) as folder:
        prepared = prepare(wanted, given, screen)
        job = read_pictures(
            prepared.spec, folder, prepared.net, prepared.samples, screen, callbacks, started
        )
        job.spec = plan(job)
        write_file(folder.split, split_csv(job.samples))
        write_file(folder.args, job.spec.to_yaml())
        return finish(job, carry_out(job))


def resume(
    folder: str | Path,
    model: str | nn.Module | None = None,
    callbacks: Sequence[Callback] = (),
    quiet: bool = False,
) -> Run:
    """Goes on with a run that was interrupted, from its last checkpoint; on the CPU it ends in the
    same bits.

    Args:
        folder: The run's folder.
        model: The network, or its words (`timm:NAME`), where it was made outside this package.
        callbacks: As for `train`.
        quiet: Say nothing but warnings.

    Raises:
        ValueError: Not the folder of a run, or it is finished.
    """
    started = time.monotonic()
    screen = Screen(quiet)
    files = RunFolder(Path(folder))
    for needed in (files.args, files.split, files.last):
        if not needed.is_file():
            raise ValueError(
                f"{folder} cannot be resumed: it has no {needed.relative_to(files.path)}"
            )
    if (
        files.summary.is_file()
        and not json.loads(files.summary.read_text(encoding="utf-8"))["stopped"]
    ):
        raise ValueError(
            f"{folder} is finished; its report is {files.report}. To train longer, start from it:"
            f" --weights {files.best}"
        )
    spec = Spec.read(files.args)
    tensors, metadata = read_model(files.last)
    net = build_network(spec.network, model)
    job = read_pictures(spec, files, net, read_split(files.split), screen, callbacks, started)
    return finish(job, carry_out(job, tensors, metadata["checkpoint"]))
