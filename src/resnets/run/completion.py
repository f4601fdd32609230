"""The end of a run: the best weights measured, shown, exported, and everything written that people
look at."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from resnets.data.splits import read_split
from resnets.evaluation import EVALUATORS
from resnets.evaluation.advice import Background, next_steps
from resnets.evaluation.curves import plot_curves
from resnets.evaluation.forecast import Growth, growth_section
from resnets.evaluation.metrics import Metrics, title
from resnets.export import Proven
from resnets.files import write_file
from resnets.modelfile import Model, load_model, read_model, write_model
from resnets.run import outcome
from resnets.run.calibration import calibrate
from resnets.run.familiarity import with_familiarity
from resnets.run.featured import see_all
from resnets.run.folder import RunFolder
from resnets.run.growth import read_growth
from resnets.run.reporting import Account, duplicate_sections, write_card, write_outcome_report
from resnets.run.start import OFFLINE
from resnets.run.steps import Trained
from resnets.run.suspects import find_suspects, suspect_section, suspects_csv
from resnets.run.validation import held_out_truth, main_number, settled
from resnets.run.work import Job, data_name
from resnets.training.device import place_net
from resnets.training.loop import Reached
from resnets.training.plan import SLOWER

HEADLINES = 2  # numbers on the screen; the report has all


@dataclass
class Run:
    """What came of a run.

    Args:
        folder: Where everything lies.
        model: The best weights, ready to use.
        metrics: On images it was not trained on.
        proven: The exported file.
        seconds: From start to end.
    """

    folder: Path
    model: Model
    metrics: Metrics
    proven: Proven
    seconds: float

    def __str__(self) -> str:
        name, estimate = self.metrics.main
        return f"{name} {estimate}, {self.seconds:.0f} s, {self.folder}"

    def export(self, path: str | Path) -> Proven:
        """Writes the model as one ONNX file, proven on whole images of the run's data.

        Raises:
            ProofFailed: Its predictions differ from those of the model; nothing is written.
        """
        samples = [
            sample for sample in read_split(RunFolder(self.folder).split) if sample.split != "train"
        ]
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
            "unmeasured": self.metrics.unmeasured,
            "seconds": round(self.seconds, 2),
        }


def finish(job: Job, trained: Trained) -> Run:
    """Measures the best weights once more, writes everything that people look at, and exports."""
    folder, screen, state = job.folder, job.screen, trained.state
    model = _best(job)
    seen = see_all(job, model, trained.features)
    calibrated = calibrate(job, model, seen)
    model = replace(model, task=settled(job, model))
    model, familiar = with_familiarity(model, seen)
    images = job.images.measured
    with screen.progress("measuring", len(images)) as bar:
        measured = outcome.measure_model(model, images, bar.update)
    model.metadata["metrics"] = measured.metrics.to_dict()
    tensors, metadata = read_model(folder.best)
    weights = {name: tensor for name, tensor in tensors.items() if "/" not in name}
    metadata["metrics"] = model.metadata["metrics"]
    write_model(folder.best, {**weights, **model.fitted()}, metadata)
    write_file(folder.predictions, measured.to_csv())
    folder.write_results(state.rows)
    doubts = _doubts(job, state, model)
    more = []
    if suspects := find_suspects(job, model, seen):
        write_file(folder.suspects, suspects_csv(job, suspects))
        more = [suspect_section(job, suspects)]
    more += duplicate_sections(job.spec, job.images.samples)
    if growth := read_growth(job):
        more.append(growth_section(growth))
    account = _account(job, trained, model, measured.metrics)
    account = replace(account, facts=(*account.facts, *calibrated, *familiar))
    steps = next_steps(measured.metrics, _background(job, state, len(suspects), growth), doubts)
    steps = [*_slowed(job, state), *steps]
    with screen.progress("writing the report", 1):
        plot_curves(state.rows, folder.path / "results.png")
        advised = replace(account, steps=tuple(steps))
        write_outcome_report(folder.report, model, measured, images, advised, more)
    with screen.progress("exporting and verifying", 1):
        proven = outcome.export_outcome(model, job.exported, images.samples)
    cautions = tuple(("caution", doubt) for doubt in doubts)
    cautioned = replace(account, facts=(*account.facts, *cautions))
    write_card(folder.card, model, cautioned, measured.metrics, proven)
    run = Run(folder.path, model, measured.metrics, proven, time.monotonic() - job.started)
    ended = {
        "stopped": trained.stopped,
        "diverged": trained.diverged,
        "ended_early": trained.enough,
    }
    text = json.dumps({**run.to_dict(), **ended}, ensure_ascii=False, indent=1)
    write_file(folder.summary, text)
    _tell(job, run, doubts)
    return run


def _best(job: Job) -> Model:
    """The best weights, on the device of the run."""
    net = job.net if job.spec.network["kind"] == "object" else None
    model = load_model(job.folder.best, net)
    place_net(model.net, job.device)
    return model


def _doubts(job: Job, state: Reached, model: Model) -> list[str]:
    """What speaks against the training, in sentences."""
    doubts = EVALUATORS[model.task.kind.name].doubts
    return doubts(state.rows, held_out_truth(job), job.spec.classes)


def _slowed(job: Job, state: Reached) -> list[str]:
    """The next step after a collapse."""
    if not state.slowed:
        return []
    rate = (job.spec.settings.lr or 0.0) * SLOWER
    return [
        f"The first three validations found nothing learnt, so the learning rate was lowered to a"
        f" tenth at step {state.slowed:,}: start with it, --lr {rate:.2g}."
    ]


def _background(job: Job, state: Reached, suspects: int, growth: Growth | None) -> Background:
    """What the next steps are computed from beside the metrics."""
    training = [sample for sample in job.images.samples if sample.split == "train"]
    counts = Counter(label for sample in training for label in sample.labels)
    spec, rows = job.spec, tuple(state.rows)
    main, offline = main_number(job.task), spec.weights == OFFLINE
    return Background(main, rows, counts, suspects, growth, spec.omitted, offline)


def _account(job: Job, trained: Trained, model: Model, metrics: Metrics) -> Account:
    spec, facts = job.spec, _facts(job, trained.state)
    if missing := metrics.unmeasured:
        facts.append(("not measured", f"no held-out image of: {', '.join(missing)}"))
    return Account(
        data_name(spec.settings.data),
        spec.command,
        tuple(facts),
        tuple(trained.state.rows),
        spec.findings,
        tuple(_notes(job, trained, model)),
        files=_files(job),
    )


def _files(job: Job) -> tuple[str, ...]:
    """What the report links to, relative to it."""
    folder = job.folder
    there = [file for file in (folder.suspects, folder.learning_curve) if file.is_file()]
    files = [job.exported, folder.best, folder.predictions, *there, folder.results, folder.card]
    return tuple(file.relative_to(folder.path).as_posix() for file in [*files, folder.args])


def _tell(job: Job, run: Run, doubts: Sequence[str]) -> None:
    numbers = list(run.metrics.numbers.items())[:HEADLINES]
    files = [("report", str(job.folder.report)), ("file", str(run.proven))]
    rows = [*((title(name), str(estimate)) for name, estimate in numbers), *files]
    job.screen.say("")
    baseline = EVALUATORS[job.task.kind.name].baseline(run.metrics)
    reasons = [baseline, *[""] * (len(rows) - 1)]
    job.screen.pairs([(*row, reason) for row, reason in zip(rows, reasons, strict=True)])
    for doubt in doubts:
        job.screen.warn(f"  warning: {doubt}")


def _notes(job: Job, trained: Trained, model: Model) -> list[str]:
    notes, state = [], trained.state
    if job.images.measured is job.images.held_out:
        notes.append("the best weights were chosen on these same images")
        if model.task != job.task:
            notes.append("so were the options of the task, such as thresholds")
    if trained.stopped:
        notes.append(f"stopped at step {state.step:,} of {job.spec.steps:,}")
    if trained.enough:
        notes.append(f"ended at step {state.step:,} of {job.spec.planned:,}: {trained.enough}")
    if trained.diverged:
        notes.append(
            f"the training diverged: {trained.diverged}. These are the last good weights, of step"
            f" {state.best['step']:,}"
        )
    return notes


def _shortened(job: Job, state: Reached) -> bool:
    """Whether the plan ended with fewer steps than were planned at first."""
    return bool(state.bends) and state.bends[-1][1] < job.spec.planned


def _facts(job: Job, state: Reached) -> list[tuple[str, str]]:
    spec, settings = job.spec, job.spec.settings
    counts = {
        split: sum(sample.split == split for sample in job.images.samples)
        for split in ("train", "val", "test")
    }
    epochs = state.step / job.images.batches.steps_per_epoch
    return [
        ("data", f"{settings.data} ({spec.layout})"),
        (
            EVALUATORS[spec.make_task().kind.name].unit,
            ", ".join(f"{count:,} {split}" for split, count in counts.items() if count)
            + f"; {spec.split}",
        ),
        (
            "network",
            f"{spec.network['name']}, {sum(p.numel() for p in job.net.parameters()):,} parameters",
        ),
        ("first weights", spec.weights),
        (
            "input",
            (
                f"{spec.preprocessing.size[0]} x {spec.preprocessing.size[1]},"
                f" {spec.preprocessing.fit}"
            ),
        ),
        (
            "training",
            ("a linear probe on frozen features, " if spec.probe else "")
            + f"{state.step:,} steps of {job.images.batches.step_size} ({epochs:.1f} epochs)"
            + (" of the last stage alone" if spec.stage else "")
            + (f" instead of {spec.planned:,}, for want of time" if _shortened(job, state) else "")
            + f", learning rate {settings.lr:g}",
        ),
        ("time", f"{state.seconds:.0f} s of training on {job.device}"),
        (
            ("best weights", f"{state.best.get('weights')}, step {state.best.get('step', 0):,}")
            if state.best
            else ("best weights", "last")
        ),
    ]
