"""Write docs/recipes.md from the rows of `training.papers`; a test holds the two together.

python tools/recipe_table.py
"""

from pathlib import Path

from resnets.training.papers import PAPERS

PAGE = Path(__file__).parents[1] / "docs" / "recipes.md"
HEAD = """# Recipes

`resnets train DATA --recipe NAME` takes the values of a recipe where no option is given;
`--recipe list` explains them. Options win: `--recipe cifar-paper --model resnet56`, or with
`--minutes` instead of the epochs. A learning rate belongs to its batch size: who changes one changes
both. Without `--recipe`, a run takes the values of its task and weights, printed with the reasons.
Where memory is short, `--accumulate` makes one step of several batches: `--recipe imagenet-a3
--batch-size 64 --accumulate 32`.
This page is made by `python tools/recipe_table.py`.

The recipes of papers start from random weights, and ask for hours or days on a CPU. What they have
in common here, and papers have not: biases and the scales of norms do not decay, the momentum of SGD
is Nesterov's, images are normalised with the mean and deviation of ImageNet, and the best weights
are chosen on images that are held out.
"""


def page() -> str:
    """The page as Markdown."""
    rows = ["| Recipe | What it is for | Values | Source | Not here |", "|---|---|---|---|---|"]
    for name, paper in PAPERS.items():
        cells = (f"`{name}`", paper.purpose, f"`{paper}`", paper.source, paper.without)
        rows.append(f"| {' | '.join(cells)} |")
    return HEAD + "\n" + "\n".join(rows) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
