"""How good a model is: numbers with intervals, and the page that shows them. One file a task, one
row of `EVALUATORS`. Needs no torch."""

from resnets.evaluation.classes import EVALUATOR as CLASSES
from resnets.evaluation.evaluator import Evaluator

EVALUATORS: dict[str, Evaluator] = {"classes": CLASSES}

__all__ = ["EVALUATORS", "Evaluator"]
