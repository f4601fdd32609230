"""A validation in the middle of training: what chooses the best weights, and what keeps them."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from resnets.data.loader import PreparedImages
from resnets.evaluation import EVALUATORS
from resnets.evaluation.evaluator import Evidence, Quick
from resnets.modelfile import Model, read_model, write_model
from resnets.run import outcome
from resnets.run.norms import images_for_norms, measure_norms
from resnets.run.work import Job, autocast_of, write_best
from resnets.tasks import Task, describe_task
from resnets.torch_engine import TorchEngine
from resnets.training.loop import Row, TrainingState, diverged
from resnets.training.plan import Plan

STILL = 0.01  # of the training loss between validations, below which it does not fall


def main_number(task: Task) -> str:
    """Name of the number that chooses the best weights."""
    return EVALUATORS[task.kind.name].main


def columns_of_validation(task: Task) -> tuple[str, ...]:
    """The columns of results.csv that a validation fills."""
    main = main_number(task)
    return "val_loss", f"val_{main}", f"val_{main}_ema"


class Validation:
    """Measures raw and averaged weights; the better, if it is the best so far, becomes
    best.safetensors.

    Args:
        job: The run.
        state: Of it; it is the same object throughout.
    """

    def __init__(self, job: Job, state: TrainingState) -> None:
        self.job, self.state = job, state
        self.engines = {  # once: to make one, the network is asked for its outputs
            weights: TorchEngine(
                job.spec.make_model(net), autocast_of(job.spec.settings, job.device)
            )
            for weights, net in (("raw", state.net), ("averaged", state.average.net))
        }
        self.images = None
        if job.spec.settings.norms == "measured":
            training = job.images.batches.images.samples
            self.images = images_for_norms(job.spec, training, len(job.images.held_out))

    def __call__(self, plan: Plan) -> Row:
        """The columns of a row of results.

        Raises:
            Diverged: What the weights say is not finite: nothing to compare, and nothing to keep.
        """
        state, main, row = self.state, main_number(self.job.task), Row()
        for weights, engine in self.engines.items():
            if self.images:
                measure_norms(self.job.spec, engine.model.net, self.images)
            try:
                quick = measure_quickly(engine, self.job.images.held_out)
            except outcome.NotFinite as error:
                raise diverged(f"in validation {error}", state.step, plan) from None
            fill_in(row, quick, main, averaged=weights == "averaged")
            if choose(state, quick, main, weights):
                write_best(self.job, engine.model.net, state.best)
        return row


def held_out_truth(job: Job) -> list[Evidence]:
    """The evidence of validation images of which everything is said rightly."""
    kind = job.task.kind
    compare = EVALUATORS[kind.name].compare
    truths = kind.ground_truth(job.images.held_out.samples, job.spec.classes)
    return [compare(truth, truth) for truth in truths]


def collapsed(job: Job, rows: Sequence[Row]) -> bool:
    """Whether a run has learnt nothing by its third validation, which is the last row: the second
    and the third say what the most frequent answer gives, and the training loss does not fall."""
    main = main_number(job.task)
    ends = [
        place for place, row in enumerate(rows) if row["step"] and row[f"val_{main}"] is not None
    ]
    if len(ends) != 3 or ends[-1] != len(rows) - 1:
        return False
    first, second, third = ends
    earlier, later = (
        statistics.fmean(row["train_loss"] or 0.0 for row in rows[start + 1 : end + 1])
        for start, end in ((first, second), (second, third))
    )
    falls = later < earlier * (1 - STILL)
    stuck = EVALUATORS[job.task.kind.name].stuck
    return not falls and stuck([rows[second], rows[third]], held_out_truth(job))


def fill_in(row: Row, quick: Quick, main: str, averaged: bool) -> None:
    """Enters what raw or averaged weights reached in a row of results."""
    row[f"val_{main}{'_ema' if averaged else ''}"] = quick.main
    if not averaged:
        row["val_loss"] = quick.loss


def choose(state: TrainingState, quick: Quick, main: str, weights: str) -> bool:
    """Whether weights are the best of a run so far; if so, they are from now on.

    Args:
        state: Of the run.
        quick: What the weights reached.
        main: Name of the number that chooses.
        weights: What they are called.
    """
    best = {main: quick.main, "loss": quick.loss, "weights": weights, "step": state.step}
    better = not state.best or rank(best, main) > rank(state.best, main)
    if better:
        state.best = best
    return better


def rank(best: Mapping[str, Any], main: str) -> tuple[float, float, int]:
    """The higher, the better: by the main number, then by the loss, then the later step."""
    return best[main], -(best["loss"] or 0.0), best["step"]


def measure_quickly(engine: TorchEngine, images: PreparedImages) -> Quick:
    """What a model says of some images, without intervals.

    Raises:
        NotFinite: Some of it is NaN.
    """
    evaluator = EVALUATORS[engine.model.task.kind.name]
    return evaluator.quick([evaluator.compare(*pair) for pair in outcome.judged(engine, images)])


def settled(job: Job, model: Model) -> Task:
    """The task with the options that are fitted on validation images, which become part of
    best.safetensors; called once, before measuring. Most tasks fit none and look at no image.

    Args:
        job: Whose training is over.
        model: The best weights.
    """
    task = model.task.settle(outcome.judged(TorchEngine(model), job.images.held_out))
    if task != model.task:
        tensors, metadata = read_model(job.folder.best)
        write_model(job.folder.best, tensors, {**metadata, "task": describe_task(task)})
    return task
