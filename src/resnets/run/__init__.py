"""A run, from a folder of images to a verified file: the only place where data, network and
training meet.

Reading order is running order: `preparation` looks and decides, `rehearsal` tries the network,
`work` reads the images, `probe` makes a first model, `finder` finds the learning rate if asked,
`timing` fixes the number of steps, `steps` trains, or `stage` the last stage alone, `validation`
chooses the best weights, `completion` measures, reports and exports.
`resume` enters at `work` with what an earlier run wrote down.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from resnets.data.splits import check_split, read_split, split_csv
from resnets.files import write_file
from resnets.modelfile import build_network, read_model, write_model
from resnets.run.completion import Run, finish
from resnets.run.finder import Search, find_rate
from resnets.run.folder import RunFolder, claim, held
from resnets.run.keywords import TrainCall, takes
from resnets.run.loggers import logged
from resnets.run.norms import restore_statistics
from resnets.run.pacing import Pacing
from resnets.run.preparation import prepare
from resnets.run.probe import Probed, make_probe
from resnets.run.rehearsal import check_module
from resnets.run.spec import Spec
from resnets.run.stage import decide_stage, train_stage
from resnets.run.steps import Trained, carry_out, go_on
from resnets.run.timing import decide_steps, time_costs
from resnets.run.work import Callback, Job, place_network, read_images, write_best
from resnets.screen import Screen
from resnets.settings import change
from resnets.training.loop import Diverged, Reached
from resnets.training.papers import filled
from resnets.training.settings import TrainSettings

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
    """Trains a network on a folder of images, evaluates it, and exports it as a verified file.

    Args:
        data: A folder, a table or the name of a torchvision data set
            (`resnets.data.sources.find_data`).
        model: A network (`"resnet50 shortcut=none"`), or any module (N, C, H, W) ->
            (N, classes).
        output: The run's folder; by default `runs/train/NAME`.
        name: NAME; by default the next free number.
        exist_ok: Write into a folder that is not empty.
        callbacks: Called with each row of results.csv; a true result ends training early.
        quiet: Say nothing but warnings.
        started: `time.monotonic()` at which `minutes` began to run.
        **settings: Fields of `TrainSettings`; docs/settings.md has a sentence about each.

    Raises:
        ValueError: The data, the network or a setting cannot be used; the message says what to do.
        Diverged: Training ended in numbers that are none; the last good weights, where there are
            some, are measured and exported first, as at the end of every run.
        ProofFailed: The exported file gives other predictions than the model.
        OSError: A file could not be written (disk full); what was saved before stays.
    """
    started = time.monotonic() if started is None else started
    screen = Screen(quiet)
    _check_types(data, model, output, name)
    named = model if isinstance(model, str) else None
    given = None if model is None or isinstance(model, str) else model
    asked = filled({**({"model": named} if named else {}), **settings})
    if given is not None:
        asked.pop("model", None)  # that of the recipe
    wanted = change(TrainSettings(str(data)), asked)
    with claim(Path(output) if output else None, name, exist_ok) as folder:
        prepared = prepare(wanted, given, screen, started)
        images = read_images(prepared.spec, prepared.samples, screen)
        net = place_network(prepared.net, prepared.spec)
        split = split_csv(prepared.samples, prepared.digests)
        return _begin(Job(prepared.spec, folder, net, images, screen, callbacks, started), split)


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
        model: The network, or its name (`timm:NAME`), where it was made outside this package.
        callbacks: As for `train`.
        quiet: Say nothing but warnings.

    Raises:
        ValueError: Not the folder of a run, or it is finished, at work, or its images have changed.
    """
    started = time.monotonic()
    screen = Screen(quiet)
    if model is not None and not isinstance(model, str):
        check_module(model)
    files = RunFolder(Path(folder))
    _check_resumable(files)
    with held(files, "wait for it"):
        _check_resumable(files)
        spec, samples = Spec.read(files.args), read_split(files.split)
        if not {"train", "val"} <= {sample.split for sample in samples}:
            raise ValueError(f"{files.split}: images to train and to validate on expected")
        with screen.progress("comparing files", len(samples)) as bar:
            check_split(files.split, bar.update)
        tensors, metadata = read_model(files.last)
        checkpoint = metadata.get("checkpoint")
        net = build_network(spec.network, spec.make_task(), model)
        if checkpoint is None:  # these are the first weights
            _load_first(net, tensors, files.last)
        try:
            images = read_images(spec, samples, screen)
        except ValueError as error:
            raise ValueError(
                f"{files.path} cannot be resumed with its {files.args.name} and {files.split.name}:"
                f" {error}"
            ) from error
        net = place_network(net, spec)
        job = Job(spec, files, net, images, screen, callbacks, started)
        if checkpoint is None:
            return _begin(job)
        with logged(job) as one:
            trained = go_on(one, tensors, checkpoint)
        return _end(job, trained)


def _load_first(net: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """The weights before the probe: all of a network, and of no other."""
    try:
        net.load_state_dict(tensors)
    except RuntimeError as error:
        raise ValueError(
            f"{path}: no checkpoint, and not the first weights of the run:"
            f" {' '.join(str(error).split())[:200]}"
        ) from None


def _begin(job: Job, split: str = "") -> Run:
    """A run from its first weights on: a linear probe where there can be one, then as many steps as
    there is time for, of all layers or of the last stage."""
    probed = Probed(Reached(), None, {}, {})
    if job.spec.probe:
        # from here on the run can be resumed
        _write(job, split)
        write_model(job.folder.last, job.net.state_dict(), job.spec.metadata())
        job.folder.forget()
        probed = make_probe(job)
    restored = restore_statistics(job)
    if restored is not job and probed.reached.best:
        write_best(restored, restored.net, probed.reached.best)
    job = restored
    alone = pacing = None
    known = job.spec.steps or (job.spec.stage and probed.maps)  # of a run that goes on
    if not known:
        job, search = _searched(job)
        costs = time_costs(job, probed.exporting)
        spec, alone = decide_stage(job, probed, costs)
        spec = spec if spec.stage else decide_steps(replace(job, spec=spec), costs)
        job = replace(job, spec=spec)
        if not spec.planned:
            return _end(job, Trained(probed.reached, features=probed.features))
        if costs and job.deadline is not None:
            pacing = Pacing(job.deadline, costs, job.screen)
        job.folder.forget_search()
        if search:
            search.write(job.folder)
    if job.spec.stage:
        _write(job, split)
        with logged(job) as one:
            trained = train_stage(one, probed, alone)
        return _end(job, trained)
    probed.features.clear()  # training changes them
    probed.maps.clear()
    _write(job, split)
    with logged(job) as one:
        trained = carry_out(one, probed.reached, pacing)
    return _end(job, trained)


def _searched(job: Job) -> tuple[Job, Search | None]:
    """With the learning rate that was found, if that was asked for."""
    if not job.spec.settings.find_lr:
        return job, None
    spec, search = find_rate(job)
    return replace(job, spec=spec), search


def _write(job: Job, split: str) -> None:
    """What says what a run is; a resumed one has its split."""
    if split:
        write_file(job.folder.split, split)
    write_file(job.folder.args, job.spec.to_yaml())


def _end(job: Job, trained: Trained) -> Run:
    """What was reached is written in any case; a run that diverged fails all the same."""
    run = finish(job, trained)
    if trained.diverged:
        step = trained.state.best["step"]
        raise Diverged(
            f"{trained.diverged}. The last good weights, of step {step:,}, were kept, measured and"
            f" exported: {run.proven.path}, {job.folder.report}"
        )
    return run


def _check_resumable(files: RunFolder) -> None:
    for needed in (files.args, files.split, files.last):
        if not needed.is_file():
            raise ValueError(
                f"{files.path} cannot be resumed: it has no {needed.relative_to(files.path)}"
            )
    summary = files.read_summary()
    if summary.get("diverged"):
        raise ValueError(
            f"{files.path} diverged and would do so again: {summary['diverged']}; train anew, or"
            f" start from its last good weights: --weights {files.best}"
        )
    if summary and not summary["stopped"]:
        raise ValueError(
            f"{files.path} is finished; its report is {files.report}. To train longer, start from"
            f" it: --weights {files.best}"
        )


def _check_types(data: object, model: object, output: object, name: object) -> None:
    """Refuses what is of another type, before a folder is made for it."""
    if not isinstance(data, str | os.PathLike):
        raise ValueError(
            f"data is a {type(data).__name__}; allowed: a folder with one folder of images for"
            " each class, a table, or the name of a torchvision data set. The images of a Dataset"
            " or DataLoader can be saved in that way"
        )
    if model is not None and not isinstance(model, str):
        check_module(model)
    for key, value in (("output", output), ("name", name)):
        if value is not None and not isinstance(value, str | os.PathLike):
            raise ValueError(f"{key} is {value!r}; a text is needed, in YAML in quotes")
