"""The figure of `degradation.py`."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

from matplotlib import pyplot


def draw(rows: Sequence[dict], norms: Sequence[dict], file: Path) -> None:
    """Figure 6 of the paper: plain, residual; and the gradients. Grey on nothing, so that it can be
    read on white and on black."""
    grey, colours = "#808080", {"20": "#c98a1b", "56": "#3f8fd2"}
    names = ("text", "axes.edge", "axes.label", "xtick.", "ytick.")
    pyplot.rcParams |= {f"{name}{'' if name[-1] == '.' else ('.' if name == 'text' else '')}color"
                        if name != "axes.label" else "axes.labelcolor": grey for name in names}  # fmt: skip
    pyplot.rcParams |= {"axes.edgecolor": grey, "svg.hashsalt": "resnets", "font.size": 10}
    figure, axes = pyplot.subplots(1, 3, figsize=(11, 3.8), layout="constrained")
    for axis, kind in zip(axes, ("plain", "residual"), strict=False):
        for name in (f"{kind}-20", f"{kind}-56"):
            for key, style, width in (("train_error", "-", 1.8), ("val_error", ":", 1.0)):
                x, low, mean, high = spread(rows, name, "epoch", key)
                label = f"{name[-2:]} layers, {key.removesuffix('_error')}"
                axis.plot(x, mean, style, color=colours[name[-2:]], linewidth=width, label=label)
                if key == "train_error":
                    axis.fill_between(
                        x, low, high, color=colours[name[-2:]], alpha=0.25, linewidth=0
                    )
        axis.set(title=kind, xlabel="epoch", ylabel="error (%)")
        axis.legend(frameon=False, fontsize=8)
    top = max(axis.get_ylim()[1] for axis in axes[:2])
    for axis in axes[:2]:
        axis.set_ylim(0, top)
    for name in dict.fromkeys(row["network"] for row in norms):
        kind, depth = name.split("-")
        x, _, mean, _ = spread(norms, name, "layer", "norm")
        style = "-" if kind == "plain" else "--"
        axes[2].plot(x, mean, style, color=colours[depth], label=f"{kind}, {depth} layers")
    axes[2].set(
        title="before the first step", xlabel="layer", ylabel="norm of the gradient", yscale="log"
    )
    axes[2].legend(frameon=False, fontsize=8)
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.xaxis.get_major_locator().set_params(integer=True)
    figure.savefig(file, transparent=True, metadata={"Date": None})


def spread(
    rows: Sequence[dict], name: str, x: str, y: str
) -> tuple[list[int], list[float], list[float], list[float]]:
    """Lowest, mean and highest of the seeds at each x."""
    found: dict[int, list[float]] = {}
    for row in rows:
        if row["network"] == name:
            found.setdefault(row[x], []).append(row[y])
    at = sorted(found)
    reduced: list[Callable] = [min, statistics.fmean, max]
    low, mean, high = ([of(found[one]) for one in at] for of in reduced)
    return at, low, mean, high
