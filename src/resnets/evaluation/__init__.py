"""How good a model is: numbers with intervals, and the page that shows them. One file a task, one
row of `EVALUATORS`. Needs no torch."""

from resnets.evaluation.boxes import EVALUATOR as BOXES
from resnets.evaluation.classes import EVALUATOR as CLASSES
from resnets.evaluation.clips import EVALUATOR as CLIPS
from resnets.evaluation.evaluator import Evaluator
from resnets.evaluation.labels import EVALUATOR as LABELS
from resnets.evaluation.mask import EVALUATOR as MASK

EVALUATORS: dict[str, Evaluator] = {
    "classes": CLASSES,
    "labels": LABELS,
    "boxes": BOXES,
    "mask": MASK,
    "clips": CLIPS,
}

__all__ = ["EVALUATORS", "Evaluator"]
