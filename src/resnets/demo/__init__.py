"""The demonstrations: what a run does, on the images that come with the package."""

from resnets.demo.boxes import run_box_demo
from resnets.demo.classes import run_demo

DEMOS = {"classes": run_demo, "boxes": run_box_demo}

__all__ = ["DEMOS", "run_box_demo", "run_demo"]
