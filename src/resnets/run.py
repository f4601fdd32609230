"""A run, from a folder of pictures to a proven file: the only place where data, network and training meet.

Reading order is running order: `train` prepares, reads, plans, writes down what was decided, and carries it out; `resume` enters at
the last of these.
"""

from __future__ import annotations

import json
import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from torch import nn

from resnets import outcome
from resnets.data.check import Check, check_pictures
from resnets.data.loader import Pictures, TrainingBatches
from resnets.data.sources import Sample, find_data
from resnets.data.splits import class_indices, complete_splits, read_split, split_csv
from resnets.data.transforms import Augmentation
from resnets.evaluation.curves import plot_curves
from resnets.evaluation.metrics import Metrics
from resnets.export import Proven, rehearse
from resnets.files import write_file
from resnets.modelfile import Model, best_weights, build_network, describe_network, load_model, read_model, write_model
from resnets.models import Network
from resnets.models.weights import Offline, Weights, is_folded, load_weights, read_state, torchvision_weights
from resnets.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from resnets.runfolder import RunFolder, choose_folder, claimed
from resnets.screen import Screen
from resnets.settings import change, read_yaml, to_dict, to_yaml
from resnets.tasks.classification import Classification
from resnets.timing import measure_costs
from resnets.training.checkpoint import pack, unpack
from resnets.training.loop import Hooks, Plan, Row, TrainingState, train_steps
from resnets.training.optimizers import Average, Schedule, make_optimizer
from resnets.training.recipe import Circumstances, TrainSettings, choose_device, choose_model, decide, memory_for_pictures

Callback = Callable[[Row], Any]
ROWS_AN_EPOCH = 10  # lines of results.csv
VALIDATIONS = 20  # at most about so many in a run


@dataclass(frozen=True)
class Spec:
    """A run as it was decided; with the split and the last checkpoint, all that is needed to go on with it.

    Args:
        settings: Nothing open.
        network: How the network is built (`describe_network`).
        classes: Names, in the order of the outputs.
        preprocessing: Of the network.
        steps: Of the whole run.
        weights: Where the first weights came from, in words.
        layout: How the data lie, in words.
        split: How they were split, in words.
        findings: What the check found.
        command: What was typed.
    """

    settings: TrainSettings
    network: dict[str, Any]
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    steps: int
    weights: str
    layout: str
    split: str
    findings: tuple[tuple[str, str], ...]
    command: str

    def to_yaml(self) -> str:
        """args.yaml."""
        own = {key: value for key, value in vars(self).items() if key not in ("settings", "preprocessing")}
        plain = {**own, "classes": list(self.classes), "findings": [list(finding) for finding in self.findings]}
        return to_yaml({"settings": to_dict(self.settings), "preprocessing": self.preprocessing.to_dict(), **plain})

    @classmethod
    def read(cls, path: Path) -> Spec:
        """From args.yaml."""
        values = read_yaml(path)
        given = values.pop("settings")
        settings = change(TrainSettings(given.pop("data")), given)
        preprocessing = Preprocessing.from_dict(values.pop("preprocessing"))
        classes, findings = tuple(values.pop("classes")), tuple(tuple(finding) for finding in values.pop("findings"))
        return cls(settings=settings, preprocessing=preprocessing, classes=classes, findings=findings, **values)


@dataclass
class Run:
    """What came of a run.

    Args:
        folder: Where everything lies.
        model: The best weights, ready to use.
        metrics: On pictures it was not trained on.
        proven: The exported file.
        seconds: From start to end.
    """

    folder: Path
    model: Model
    metrics: Metrics
    proven: Proven
    seconds: float

    def __str__(self) -> str:
        return f"accuracy {self.metrics.accuracy}, {self.seconds:.0f} s, {self.folder}"

    def export(self, path: str | Path) -> Proven:
        """Writes the model as one ONNX file, proven on whole pictures of the run's data.

        Raises:
            ProofFailed: It answers differently from the model; nothing is written.
        """
        samples = [sample for sample in read_split(RunFolder(self.folder).split) if sample.split != "train"]
        return outcome.export_outcome(self.model, Path(path), samples)

    def to_dict(self) -> dict[str, Any]:
        """For `--json` and summary.json."""
        folder = RunFolder(self.folder)
        return {
            "run": str(self.folder),
            "model": str(folder.best),
            "onnx": str(self.proven.path),
            "report": str(folder.report),
            "network": self.model.network_name,
            "metrics": self.metrics.to_dict(),
            "classes": list(self.model.classes),
            "seconds": round(self.seconds, 2),
        }


@dataclass
class Job:
    """A run in work: what was decided, and the objects that do it."""

    spec: Spec
    folder: RunFolder
    net: nn.Module
    samples: list[Sample]
    screen: Screen
    callbacks: Sequence[Callback]
    started: float
    device: torch.device
    batches: TrainingBatches
    held_out: Pictures
    measured: Pictures
    stopped: bool = field(default=False)


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
        data: A folder, a table or the name of a torchvision data set (`resnets.data.sources.find_data`).
        model: The words for a network (`"resnet50 shortcut=none"`), or any module (N, C, H, W) -> (N, classes).
        output: The run's folder; by default `runs/train/NAME`.
        name: NAME; by default the next free number.
        exist_ok: Write into a folder that is not empty.
        callbacks: Called with each row of results.csv; a true answer ends training early.
        quiet: Say nothing but warnings.
        started: `time.monotonic()` at which `minutes` began to run.
        **settings: Fields of `TrainSettings`.

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
        spec, net, samples = _prepare(wanted, given, screen)
        job = _read(spec, folder, net, samples, screen, callbacks, started)
        job.spec = _plan(job)
        write_file(folder.split, split_csv(samples))
        write_file(folder.args, job.spec.to_yaml())
        return _carry_out(job)


def resume(folder: str | Path, net: nn.Module | None = None, callbacks: Sequence[Callback] = (), quiet: bool = False) -> Run:
    """Goes on with a run that was interrupted, from its last checkpoint; on the CPU it ends in the same bits.

    Args:
        folder: The run's folder.
        net: The network, where it was made outside this package.
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
            raise ValueError(f"{folder} cannot be resumed: it has no {needed.relative_to(files.path)}")
    if files.summary.is_file() and not json.loads(files.summary.read_text(encoding="utf-8"))["stopped"]:
        raise ValueError(
            f"{folder} is finished; its report is {files.report}. To train longer, start from it: --weights {files.best}"
        )
    spec = Spec.read(files.args)
    samples = read_split(files.split)
    job = _read(spec, files, net or build_network(spec.network), samples, screen, callbacks, started)
    return _carry_out(job, *read_model(files.last))


def _prepare(settings: TrainSettings, given: nn.Module | None, screen: Screen) -> tuple[Spec, nn.Module, list[Sample]]:
    """Looks at the data, chooses the network, decides what is open: everything but the number of steps."""
    check = _check(settings, screen)
    samples, split = complete_splits(check.usable(), settings.val_fraction, settings.seed)
    training = [sample for sample in samples if sample.split == "train"]
    classes = tuple(sorted({sample.label for sample in training}))
    held_out = [sample for sample in samples if sample.split != "train"]
    if len(classes) < 2 or not held_out:
        raise ValueError(
            f"{settings.data}: {len(training)} pictures of {len(classes)} classes to train on and {len(held_out)} held out are too few"
        )
    class_indices(held_out, classes)
    sizes = {sample.name: (fact.height, fact.width) for sample, fact in zip(check.found.samples, check.facts, strict=True)}
    measured = np.array([sizes[sample.name] for sample in training])
    median = (int(np.median(measured[:, 0])), int(np.median(measured[:, 1])))
    network, reason = None, "given as a module"
    if given is None:
        name, reason = (settings.model, "") if settings.model else choose_model(median)
        network = Network.parse(name, len(classes), settings.channels)
    torch.manual_seed(settings.seed)
    net = given if network is None else network.build()
    assert net is not None
    weights, words = _first_weights(settings, network, screen)
    seen = Circumstances(
        weights is not None or settings.weights == "given",
        weights is not None and is_folded(weights.state),
        weights.preprocessing.size[0] if weights and weights.preprocessing else 224 if weights else None,
        median,
        float((measured.max(1) > 1.6 * measured.min(1)).mean()),
        len(training),
    )
    decided, reasons = decide(replace(settings, model=str(network) if network else None), seen)
    if weights is not None:
        words = f"{weights.source}: {load_weights(net, weights.state)}"
    screen.say("")
    show = {"model": str(network or type(net).__name__), "weights": words}
    shown = [*show.items(), *((key, str(getattr(decided, key))) for key in reasons if key != "model")]
    screen.pairs([(key, value, {**reasons, "model": reason}.get(key, "")) for key, value in shown])
    description = describe_network(network, net, len(classes), settings.channels)
    findings = tuple((finding.severity, finding.text) for finding in check.findings)
    preprocessing = _preprocessing(decided, weights)
    spec = Spec(decided, description, classes, preprocessing, 0, words, check.found.layout, split, findings, _command())
    _try_network(net, spec, screen)
    return spec, net, samples


def _check(settings: TrainSettings, screen: Screen) -> Check:
    found = find_data(settings.data)
    screen.say(f"{settings.data}: {found.layout}, {len(found.samples):,} files, {len(found.classes)} classes")
    with screen.progress("checking", len(found.samples)) as bar:
        check = check_pictures(found, bar.update, settings.workers or None)
    for finding in check.findings:
        (screen.say if finding.severity == "note" else screen.warn)(f"  {finding.severity}: {finding.text}")
    errors = [finding.text for finding in check.findings if finding.severity == "error"]
    if errors:
        raise ValueError(f"{settings.data}: {'; '.join(errors)}")
    return check


def _first_weights(settings: TrainSettings, network: Network | None, screen: Screen) -> tuple[Weights | None, str]:
    """What the network starts from, and in words why."""
    choice = settings.weights
    if choice == "none":
        return None, "from scratch, as asked"
    if choice == "given" or (network is None and choice == "auto"):
        return None, "as the module was given"
    if choice == "auto":
        assert network is not None
        try:
            if str(network) != network.name:
                raise ValueError("ImageNet weights exist for the networks of the papers, not for changed ones")
            return torchvision_weights(network.name, say=screen.say), ""
        except ValueError as error:
            return None, f"from scratch: {error}"
        except Offline as error:
            screen.warn(f"FROM SCRATCH, without ImageNet weights: they could not be downloaded ({error})")
            return None, "from scratch: offline"
    if choice.startswith("torchvision:"):
        if network is None:
            raise ValueError(f"weights={choice}: name the network, or load them into the module and say weights=given")
        try:
            return torchvision_weights(network.name, choice.removeprefix("torchvision:"), screen.say), ""
        except Offline as error:
            raise ValueError(f"weights={choice}: {error}") from None
    path = Path(choice)
    if not path.exists():
        raise ValueError(f"weights={choice}: no such file; allowed: auto, none, given, torchvision:TAG, or a file")
    if path.is_dir() or path.suffix == ".safetensors":
        model = _own_weights(path)
        if model is not None:
            return model, ""
    return Weights(read_state(path), str(path)), ""


def _own_weights(path: Path) -> Weights | None:
    """Weights of a model file of ours; None for bare safetensors."""
    path = best_weights(path)
    try:
        tensors, metadata = read_model(path)
    except ValueError as error:
        if "without resnets' metadata" in str(error):
            return None
        raise
    state = {name: tensor for name, tensor in tensors.items() if "/" not in name}
    return Weights(state, str(path), Preprocessing.from_dict(metadata["preprocessing"]))


def _preprocessing(settings: TrainSettings, weights: Weights | None) -> Preprocessing:
    """The weights' own where they bring one; size, fit and channels as decided."""
    assert settings.size is not None
    assert settings.fit is not None
    base = weights.preprocessing if weights and weights.preprocessing else None
    crop = base.size[0] / base.resize[0] if base else 1.0 if settings.crop == "shift" else 0.875
    mean, std = (base.mean, base.std) if base and base.channels == settings.channels else (IMAGENET_MEAN, IMAGENET_STD)
    if settings.channels == 1 and len(mean) == 3:
        mean, std = (round(sum(mean) / 3, 4),), (round(sum(std) / 3, 4),)
    value_range = 255 if settings.bits == 8 else 65535
    pad = round(mean[0] * value_range) if settings.fit == "pad" else 0
    interpolation = base.interpolation if base else "bilinear"
    return Preprocessing.square(
        settings.size, crop, channels=settings.channels, value_range=value_range, fit=settings.fit, pad_color=pad,
        interpolation=interpolation, mean=mean, std=std,
    )  # fmt: skip


def _try_network(net: nn.Module, spec: Spec, screen: Screen) -> None:
    """One forward pass and a rehearsal of the export, before any time is spent: what cannot work is said now."""
    shape = (2, spec.preprocessing.channels, *spec.preprocessing.size)
    try:
        with torch.no_grad():
            out = net.eval()(torch.zeros(shape))
    except (RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"the network cannot take input of shape {shape}: {str(error).splitlines()[0]}") from error
    if not isinstance(out, torch.Tensor) or out.shape != (2, len(spec.classes)):
        got = tuple(out.shape) if isinstance(out, torch.Tensor) else type(out).__name__
        raise ValueError(f"the network answers {got} for {len(spec.classes)} classes; (N, {len(spec.classes)}) is needed")
    model = Model(net, spec.classes, spec.preprocessing, spec.network)
    if not model.answering.has_maps:
        screen.say("no class activation maps: the network does not end in global average pooling and a linear layer by name")
    if spec.settings.minutes is None:  # else the whole export is timed before the first step
        rehearse(model)


def _read(
    spec: Spec,
    folder: RunFolder,
    net: nn.Module,
    samples: list[Sample],
    screen: Screen,
    callbacks: Sequence[Callback],
    started: float,
) -> Job:
    """Decodes the pictures into memory, as far as the budget goes; held-out ones first, since they are all needed every time."""
    settings, preprocessing = spec.settings, spec.preprocessing
    assert settings.batch_size is not None
    device = choose_device(settings.device)
    budget, workers = memory_for_pictures(settings.cache_gb), settings.workers or None
    parts = {split: [sample for sample in samples if sample.split == split] for split in ("train", "val", "test")}
    augmentation = Augmentation(settings.crop or "none", settings.smallest or 1.0, settings.flip)
    held_out = Pictures(parts["val"], preprocessing, None, budget, workers)
    measured = Pictures(parts["test"], preprocessing, None, budget, workers) if parts["test"] else held_out
    training = Pictures(parts["train"], preprocessing, augmentation.short_side(preprocessing), budget, workers)
    for title, pictures in (("held-out pictures", held_out), ("test pictures", measured), ("training pictures", training)):
        if pictures.kept:
            continue
        pictures.budget = budget
        with screen.progress(title, len(pictures)) as bar:
            for done in pictures.fill():
                bar.update(done)
        budget -= pictures.bytes
    kept, total = training.kept, len(training)
    beyond = "" if kept == total else f"; {total - kept:,} beyond it are decoded every time (--cache-gb)"
    screen.say(f"{kept:,} of {total:,} training pictures in memory ({training.bytes / 1e9:.2f} GB){beyond}")
    labels = class_indices(parts["train"], spec.classes)
    batches = TrainingBatches(training, labels, settings.batch_size, augmentation, settings.seed)
    net = net.to(device).to(memory_format=torch.channels_last)
    return Job(spec, folder, net, samples, screen, callbacks, started, device, batches, held_out, measured)


def _plan(job: Job) -> Spec:
    """Fixes the number of steps, once: from the epochs, or from the time that is left."""
    settings, per_epoch = job.spec.settings, job.batches.steps_per_epoch
    if settings.minutes is None:
        assert settings.epochs is not None
        return replace(job.spec, steps=max(1, round(settings.epochs * per_epoch)))
    left = settings.minutes * 60 - (time.monotonic() - job.started)
    model = Model(job.net, job.spec.classes, job.spec.preprocessing, job.spec.network)
    task = Classification(settings.smoothing or 0.0)
    costs = measure_costs(make_state(job.net, settings, 100), job.batches, task, model, job.held_out, job.measured, left)
    left = settings.minutes * 60 - (time.monotonic() - job.started)
    steps = costs.steps_within(left, lambda steps: validation_interval(steps, per_epoch))
    if steps < 1:
        raise ValueError(f"{settings.minutes:g} minutes are too short: {costs}, and {left:.0f} s are left; give more, or --epochs")
    job.screen.say(f"{steps:,} steps ({steps / per_epoch:.1f} epochs) fit into {settings.minutes:g} minutes: {costs}")
    return replace(job.spec, steps=steps)


def make_state(net: nn.Module, settings: TrainSettings, steps: int) -> TrainingState:
    """A run's state before its first step."""
    assert settings.lr is not None
    assert settings.weight_decay is not None
    optimizer = make_optimizer(net, settings.lr, settings.momentum, settings.weight_decay)
    return TrainingState(net, optimizer, Average(net, settings.average * steps))


def validation_interval(steps: int, per_epoch: int) -> int:
    """Steps between validations: whole epochs, so many that there are about `VALIDATIONS` at most."""
    return per_epoch * max(1, round(steps / per_epoch / VALIDATIONS))


def _carry_out(job: Job, tensors: dict[str, torch.Tensor] | None = None, metadata: dict[str, Any] | None = None) -> Run:
    """Trains (from a checkpoint, if one is given), then measures, reports and exports the best weights."""
    spec, settings = job.spec, job.spec.settings
    assert settings.lr is not None
    state = make_state(job.net, settings, spec.steps)
    if tensors is not None and metadata is not None:
        unpack(state, tensors, metadata["checkpoint"])
        job.screen.say(f"resuming {job.folder.path} at step {state.step:,} of {spec.steps:,}")
    per_epoch = job.batches.steps_per_epoch
    plan = Plan(
        Schedule(settings.lr, spec.steps, round(settings.warmup * spec.steps)),
        per_epoch,
        max(1, per_epoch // ROWS_AN_EPOCH),
        validation_interval(spec.steps, per_epoch),
        seed=settings.seed,
        train_norms=settings.norms == "train",
        autocast=torch.bfloat16 if job.device.type == "cuda" else None,
    )
    task = Classification(settings.smoothing or 0.0)
    with _interruptible() as stopping, job.screen.progress("training", spec.steps) as bar:

        def on_step(state: TrainingState, loss: float) -> None:
            rate = state.step * job.batches.batch_size / max(1e-9, state.seconds)
            bar.update(state.step, f"loss {loss:.3f}  {rate:.0f} img/s  {_last(state.rows)}")

        def on_row(row: Row) -> bool:
            job.folder.write_results(state.rows)
            if row["val_accuracy"] is not None:
                job.screen.say(_row_words(row))
            answers = [callback(row) for callback in job.callbacks]  # all of them are told
            return any(answers)

        hooks = Hooks(lambda state: _validate(job, state), lambda state: _save(job, state), on_step, on_row, stopping)
        train_steps(state, job.batches.from_step(state.step, job.device), task, plan, hooks)
    if state.step < spec.steps:
        job.stopped = True
        job.screen.warn(
            f"stopped at step {state.step:,} of {spec.steps:,}, saved; go on with: resnets train --resume {job.folder.path}"
        )
        if not state.best:
            _validate(job, state)
    return _finish(job, state)


def _validate(job: Job, state: TrainingState) -> Row:
    """Measures raw and averaged weights; the better, if it is the best so far, becomes best.safetensors."""
    labels = class_indices(job.held_out.samples, job.spec.classes)
    row: Row = {}
    for weights, net, suffix in (("raw", state.net, ""), ("averaged", state.average.net, "_ema")):
        model = Model(net, job.spec.classes, job.spec.preprocessing, job.spec.network)
        probabilities = outcome.answer_all(model.answer, job.held_out).probabilities
        accuracy = float((probabilities.argmax(1) == labels).mean())
        loss = float(-np.log(np.maximum(probabilities[np.arange(len(labels)), labels], 1e-12)).mean())
        if weights == "raw":
            row["val_loss"] = loss
        row[f"val_accuracy{suffix}"] = accuracy
        if not state.best or (accuracy, -loss) > (state.best["accuracy"], -state.best["loss"]):
            state.best = {"accuracy": accuracy, "loss": loss, "weights": weights, "step": state.step}
            write_model(job.folder.best, net.state_dict(), {**_metadata(job.spec), "weights": state.best})
    return row


def _save(job: Job, state: TrainingState) -> None:
    tensors, rest = pack(state)
    write_model(job.folder.last, tensors, {**_metadata(job.spec), "checkpoint": rest})


def _metadata(spec: Spec) -> dict[str, Any]:
    return {
        "network": spec.network,
        "classes": list(spec.classes),
        "preprocessing": spec.preprocessing.to_dict(),
        "training": {**to_dict(spec.settings), "steps": spec.steps},
        "source": spec.weights,
        "versions": {"torch": torch.__version__, "python": sys.version.split()[0]},
    }


def _finish(job: Job, state: TrainingState) -> Run:
    """Measures the best weights once more, writes everything that people look at, and exports."""
    spec, folder, screen = job.spec, job.folder, job.screen
    net = job.net if spec.network["kind"] == "object" else None
    model = load_model(folder.best, net)
    model.net.to(job.device).to(memory_format=torch.channels_last)
    with screen.progress("measuring", len(job.measured)) as bar:
        answers = outcome.measure_model(model, job.measured, bar.update)
    model.metadata["metrics"] = answers.metrics.to_dict()
    tensors, metadata = read_model(folder.best)
    write_model(folder.best, tensors, {**metadata, "metrics": model.metadata["metrics"]})
    write_file(folder.predictions, answers.to_csv())
    folder.write_results(state.rows)
    plot_curves(state.rows, folder.path / "results.png")
    name = _data_name(spec.settings.data)
    facts = _facts(job, state)
    notes = ["the best weights were chosen on these same pictures"] if job.measured is job.held_out else []
    notes += [f"stopped at step {state.step:,} of {spec.steps:,}"] if job.stopped else []
    outcome.write_outcome_report(
        folder.report, answers, job.measured, title=f"{model.network_name} on {name}", command=spec.command, facts=facts,
        rows=state.rows, findings=spec.findings, notes=notes,
    )  # fmt: skip
    proven = outcome.export_outcome(model, folder.path / f"{name}.onnx", job.measured.samples)
    outcome.write_card(folder.card, f"{model.network_name} on {name}", facts, answers.metrics, proven)
    run = Run(folder.path, model, answers.metrics, proven, time.monotonic() - job.started)
    write_file(folder.summary, json.dumps({**run.to_dict(), "stopped": job.stopped}, ensure_ascii=False, indent=1))
    screen.say("")
    screen.pairs(
        [
            ("accuracy", str(answers.metrics.accuracy), ""),
            ("balanced accuracy", str(answers.metrics.balanced_accuracy), ""),
            ("report", str(folder.report), ""),
            ("file", str(proven), ""),
        ]
    )
    return run


def _facts(job: Job, state: TrainingState) -> list[tuple[str, str]]:
    spec, settings = job.spec, job.spec.settings
    counts = {split: sum(sample.split == split for sample in job.samples) for split in ("train", "val", "test")}
    epochs = state.step / job.batches.steps_per_epoch
    return [
        ("data", f"{settings.data} ({spec.layout})"),
        ("pictures", ", ".join(f"{count:,} {split}" for split, count in counts.items() if count) + f"; {spec.split}"),
        ("network", f"{spec.network['name']}, {sum(p.numel() for p in job.net.parameters()):,} parameters"),
        ("first weights", spec.weights),
        ("input", f"{spec.preprocessing.size[0]} x {spec.preprocessing.size[1]}, {spec.preprocessing.fit}"),
        ("training", f"{state.step:,} steps of {job.batches.batch_size} ({epochs:.1f} epochs), learning rate {settings.lr:g}"),
        ("time", f"{state.seconds:.0f} s of training on {job.device}"),
        ("best weights", f"{state.best.get('weights')}, step {state.best.get('step', 0):,}")
        if state.best
        else ("best weights", "last"),
    ]


@contextmanager
def _interruptible() -> Iterator[Callable[[], bool]]:
    """Ctrl-C and SIGTERM ask the loop to stop after the step it is in; a second one stops at once."""
    asked = threading.Event()

    def ask(number: int, frame: FrameType | None) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    if threading.current_thread() is not threading.main_thread():  # only there may signals be handled
        yield asked.is_set
        return
    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _data_name(data: str) -> str:
    path = Path(data)
    name = (
        path.resolve().name if path.is_dir() else path.resolve().parent.name if path.stem in ("labels", "metadata") else path.stem
    )
    return name or "model"


def _command() -> str:
    program = Path(sys.argv[0]).name
    return shlex.join(["resnets", *sys.argv[1:]]) if program == "resnets" else "resnets.train(...)"


def _last(rows: Sequence[Row]) -> str:
    values = [row["val_accuracy"] for row in rows if row.get("val_accuracy") is not None]
    return f"accuracy {values[-1]:.3f}" if values else ""


def _row_words(row: Row) -> str:
    return (
        f"epoch {row['epoch']:6.1f}  loss {row['train_loss']:.3f}  val loss {row['val_loss']:.3f}  "
        f"val accuracy {row['val_accuracy']:.3f}, averaged {row['val_accuracy_ema']:.3f}  {row['images_per_second']:.0f} img/s"
    )
