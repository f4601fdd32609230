"""A validation in the middle of training: what chooses the best weights, and what keeps them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from resnets.data.loader import PreparedImages
from resnets.data.splits import class_indices
from resnets.kinds.prediction import Prediction
from resnets.modelfile import Model, read_model, write_model
from resnets.run import outcome
from resnets.run.spec import Spec
from resnets.run.work import Job
from resnets.tasks import Task, describe_task
from resnets.training.loop import Row, TrainingState, diverged
from resnets.training.plan import Plan


class Quick(NamedTuple):
    """The number that chooses the best weights, and the loss where there is one."""

    main: float
    loss: float | None


def main_number(task: Task) -> str:
    """Name of the number that chooses the best weights."""
    return "accuracy"


def columns_of_validation(task: Task) -> tuple[str, ...]:
    """The columns of results.csv that a validation fills."""
    main = main_number(task)
    return "val_loss", f"val_{main}", f"val_{main}_ema"


def validate(job: Job, state: TrainingState, plan: Plan) -> Row:
    """Measures raw and averaged weights; the better, if it is the best so far, becomes
    best.safetensors.

    Raises:
        Diverged: What they say is not finite: nothing to compare, and nothing to keep.
    """
    main, row = main_number(job.task), Row()
    for weights, net, suffix in (("raw", state.net, ""), ("averaged", state.average.net, "_ema")):
        model = Model(net, job.spec.classes, job.spec.preprocessing, job.spec.network)
        try:
            quick = measure_quickly(job.spec, model, job.images.held_out)
        except outcome.NotFinite as error:
            raise diverged(f"in validation {error}", state.step, plan) from None
        if weights == "raw":
            row["val_loss"] = quick.loss
        row[f"val_{main}{suffix}"] = quick.main
        best = {main: quick.main, "loss": quick.loss, "weights": weights, "step": state.step}
        if not state.best or _rank(best, main) > _rank(state.best, main):
            state.best = best
            write_model(job.folder.best, net.state_dict(), {**job.spec.metadata(), "weights": best})
    return row


def _rank(best: Mapping[str, Any], main: str) -> tuple[float, float, int]:
    """The higher, the better: by the main number, then by the loss, then the later step."""
    return best[main], -(best["loss"] or 0.0), best["step"]


def measure_quickly(spec: Spec, model: Model, images: PreparedImages) -> Quick:
    """What a model says of some images, without intervals.

    Raises:
        NotFinite: Some of it is NaN.
    """
    labels = class_indices(images.samples, spec.classes)
    probabilities = outcome.answer_all(model.answer, images).probabilities
    said = probabilities[np.arange(len(labels)), labels]
    accuracy = float((probabilities.argmax(1) == labels).mean())
    return Quick(accuracy, float(-np.log(np.maximum(said, 1e-12)).mean()))


def settled(job: Job, truths: Sequence[Prediction], predictions: Sequence[Prediction]) -> Task:
    """The task with the options that are fitted on validation images, which become part of
    best.safetensors; called once, before measuring.

    Args:
        job: Whose training is over.
        truths: Of the validation images.
        predictions: The best weights' of the same images.
    """
    task = job.task.settle(truths, predictions)
    if task != job.task:
        tensors, metadata = read_model(job.folder.best)
        write_model(job.folder.best, tensors, {**metadata, "task": describe_task(task)})
    return task
