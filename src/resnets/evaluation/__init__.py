"""How good a model is: numbers with intervals, and the page that shows them. One file a task, one
row of `EVALUATORS`. Needs no torch."""

from resnets.evaluation.classes import EVALUATOR as CLASSES
from resnets.evaluation.clips import EVALUATOR as CLIPS
from resnets.evaluation.evaluator import Evaluator
from resnets.evaluation.labels import EVALUATOR as LABELS

EVALUATORS: dict[str, Evaluator] = {"classes": CLASSES, "labels": LABELS, "clips": CLIPS}

__all__ = ["EVALUATORS", "Evaluator"]
