"""The end of a run: the best weights measured, shown, exported, and everything written that people
look at."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from resnets.data.splits import class_indices, read_split
from resnets.evaluation.curves import plot_curves
from resnets.evaluation.metrics import Metrics
from resnets.export import Proven
from resnets.files import write_file
from resnets.modelfile import Model, load_model, read_model, write_model
from resnets.run import outcome
from resnets.run.doubts import doubts_about
from resnets.run.folder import RunFolder
from resnets.run.steps import Trained
from resnets.run.work import Job
from resnets.training.loop import TrainingState


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
        return f"accuracy {self.metrics.accuracy}, {self.seconds:.0f} s, {self.folder}"

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
            "unmeasured": _unmeasured(self.metrics),
            "seconds": round(self.seconds, 2),
        }


def finish(job: Job, trained: Trained) -> Run:
    """Measures the best weights once more, writes everything that people look at, and exports."""
    spec, folder, screen, state = job.spec, job.folder, job.screen, trained.state
    net = job.net if spec.network["kind"] == "object" else None
    model = load_model(folder.best, net)
    model.net.to(job.device).to(memory_format=torch.channels_last)
    with screen.progress("measuring", len(job.images.measured)) as bar:
        answers = outcome.measure_model(model, job.images.measured, bar.update)
    model.metadata["metrics"] = answers.metrics.to_dict()
    tensors, metadata = read_model(folder.best)
    write_model(folder.best, tensors, {**metadata, "metrics": model.metadata["metrics"]})
    write_file(folder.predictions, answers.to_csv())
    folder.write_results(state.rows)
    name = _data_name(spec.settings.data)
    facts = _facts(job, state)
    if missing := _unmeasured(answers.metrics):
        facts.append(("not measured", f"no held-out image of: {', '.join(missing)}"))
    labels = class_indices(job.images.held_out.samples, spec.classes)
    doubts = doubts_about(state.rows, labels, spec.classes)
    title = f"{model.network_name} on {name}"
    with screen.progress("writing the report", 1):
        plot_curves(state.rows, folder.path / "results.png")
        outcome.write_outcome_report(
            folder.report,
            model,
            answers,
            job.images.measured,
            title=title,
            command=spec.command,
            facts=facts,
            rows=state.rows,
            findings=spec.findings,
            notes=[*_notes(job, trained), *doubts],
        )
    with screen.progress("exporting and verifying", 1):
        proven = outcome.export_outcome(
            model, folder.path / f"{name}.onnx", job.images.measured.samples
        )
    outcome.write_card(
        folder.card,
        title,
        [*facts, *(("caution", doubt) for doubt in doubts)],
        answers.metrics,
        proven,
    )
    run = Run(folder.path, model, answers.metrics, proven, time.monotonic() - job.started)
    write_file(
        folder.summary,
        json.dumps(
            {**run.to_dict(), "stopped": trained.stopped, "diverged": trained.diverged},
            ensure_ascii=False,
            indent=1,
        ),
    )
    screen.say("")
    screen.pairs(
        [
            ("accuracy", str(answers.metrics.accuracy), ""),
            ("balanced accuracy", str(answers.metrics.balanced_accuracy), ""),
            ("report", str(folder.report), ""),
            ("file", str(proven), ""),
        ]
    )
    for doubt in doubts:
        screen.warn(f"  warning: {doubt}")
    return run


def _notes(job: Job, trained: Trained) -> list[str]:
    notes, state = [], trained.state
    if job.images.measured is job.images.held_out:
        notes.append("the best weights were chosen on these same images")
    if trained.stopped:
        notes.append(f"stopped at step {state.step:,} of {job.spec.steps:,}")
    if trained.diverged:
        notes.append(
            f"the training diverged: {trained.diverged}. These are the last good weights, of step"
            f" {state.best['step']:,}"
        )
    return notes


def _facts(job: Job, state: TrainingState) -> list[tuple[str, str]]:
    spec, settings = job.spec, job.spec.settings
    counts = {
        split: sum(sample.split == split for sample in job.images.samples)
        for split in ("train", "val", "test")
    }
    epochs = state.step / job.images.batches.steps_per_epoch
    return [
        ("data", f"{settings.data} ({spec.layout})"),
        (
            "images",
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
            (
                f"{state.step:,} steps of {job.images.batches.batch_size} ({epochs:.1f} epochs),"
                f" learning rate {settings.lr:g}"
            ),
        ),
        ("time", f"{state.seconds:.0f} s of training on {job.device}"),
        (
            ("best weights", f"{state.best.get('weights')}, step {state.best.get('step', 0):,}")
            if state.best
            else ("best weights", "last")
        ),
    ]


def _unmeasured(metrics: Metrics) -> list[str]:
    """Classes of which no image was held out: no number says anything of them."""
    return [one.name for one in metrics.per_class if not one.n]


def _data_name(data: str) -> str:
    path = Path(data).absolute()  # of a link, its own name
    name = (
        path.name
        if path.is_dir()
        else path.parent.name
        if path.stem in ("labels", "metadata")
        else path.stem
    )
    return name or "model"
