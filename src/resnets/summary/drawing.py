"""A network as an image (SVG): its parts in a row, as high as their maps are large, shortcuts as
arcs; below it a block of each kind, opened. Dark where the reader's screen is dark, black on white
on paper."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape


@dataclass(frozen=True)
class Part:
    """One piece of the row.

    Args:
        name: `layer1`.
        texts: What it does, in short lines.
        side: Of the maps that come out, in pixels.
        blocks: How many blocks are in it; 0 for a single layer.
        arcs: What the blocks' shortcuts do: `sum`, `dense` or `none`.
    """

    name: str
    texts: tuple[str, ...]
    side: int
    blocks: int = 0
    arcs: str = "none"


@dataclass(frozen=True)
class Opened:
    """A block with its lid off.

    Args:
        title: Which blocks look like this.
        steps: Of the branch, in running order.
        shortcut: What the other way does, in short lines; none without one.
        sign: How both meet.
        end: What follows, as text.
    """

    title: str
    steps: tuple[str, ...]
    shortcut: tuple[str, ...] | None
    sign: str = "+"
    end: str = ""


STYLE = """
text{font:12px system-ui,sans-serif;fill:#1a1a1a;text-anchor:middle}.title{font-size:17px}.title,.name{font-weight:600}
.title,.left{text-anchor:start}.small{font-size:11px;fill:#555}
rect,circle{fill:#eef3fb;stroke:#33527f;stroke-width:1.2}.block{fill:#cfdef5}.paper{fill:#fff;stroke:none}
path{fill:none;stroke:#33527f;stroke-width:1.3}.arc{stroke:#b0541e;stroke-width:1.5}.tip{fill:#33527f;stroke:none}
@media screen and (prefers-color-scheme:dark){text{fill:#e8e8e8}.small{fill:#aab}rect,circle{fill:#1f2a3d;stroke:#8fb0e0}
.block{fill:#2e4264}.paper{fill:#10141c}path{stroke:#8fb0e0}.arc{stroke:#f0a66c}.tip{fill:#8fb0e0}}
""".replace("\n", "")

SHOWN = 8  # blocks of a stage that are drawn; more are counted
MARGIN, STEP, GAP = 24, 13, 20
AXIS, LINE = 150, 14  # the height at which the row runs, and that of a line of text
LETTER, SMALL_LETTER = 6.6, 5.9  # about the width of a letter


def draw_network(title: str, parts: Sequence[Part], opened: Sequence[Opened]) -> str:
    """The whole image.

    Args:
        title: Name and size.
        parts: In running order.
        opened: Blocks to show in detail.
    """
    row, width = _row(parts)
    top = AXIS + 62 + LINE * (1 + max(len(part.texts) for part in parts)) + 40
    pieces, left, bottom = [], float(MARGIN), float(top)
    for block in opened:
        piece, wide, high = _open(block, left, top)
        pieces.append(piece)
        left, bottom = left + wide + 2 * GAP, max(bottom, top + high)
    width = max(width, left, 2 * MARGIN + len(title) * 10)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {bottom + MARGIN:.0f}"'
        f' width="{width:.0f}" role="img" '
        f'aria-label="{escape(title)}"><style>{STYLE}</style><rect class="paper" width="100%"'
        ' height="100%"/>'
        f"{_text(MARGIN, 34, title, 'title')}{row}{''.join(pieces)}</svg>\n"
    )


def _row(parts: Sequence[Part]) -> tuple[str, float]:
    """The chain of parts, left to right, and its width."""
    x, before, drawn = float(MARGIN), None, []
    for part in parts:
        label = max(len(part.name) * LETTER, *(len(text) * SMALL_LETTER for text in part.texts))
        shown = min(part.blocks, SHOWN)
        inner = shown * STEP + (24 if part.blocks > SHOWN else 5) if part.blocks else 16
        centre = x + max(inner, label) / 2
        height = 16 + 11 * math.log2(max(part.side, 1))
        left, top = centre - inner / 2, AXIS - height / 2
        if before is not None:
            drawn.append(_arrow(before, AXIS, left, AXIS))
        drawn.append(_box(left, top, inner, height))
        if part.blocks:
            drawn += _blocks(part, left, top, height, shown)
        lines = [(part.name, "name"), *((text, "small") for text in part.texts)]
        drawn += [
            _text(centre, AXIS + 76 + LINE * place, text, style)
            for place, (text, style) in enumerate(lines)
        ]
        x, before = x + max(inner, label) + GAP, left + inner
    return "".join(drawn), x - GAP + MARGIN


def _blocks(part: Part, left: float, top: float, height: float, shown: int) -> list[str]:
    """The blocks of a stage, and over them the ways around them."""
    drawn = []
    for place in range(shown):
        x = left + 4 + place * STEP
        drawn.append(_box(x, top + 6, STEP - 3, height - 12, "block"))
        # a sum goes around one block, in a DenseNet a layer's maps go to all that follow
        if part.arcs != "none":
            reach = STEP if part.arcs == "sum" else (shown - place) * STEP
            rise = 14 if part.arcs == "sum" else 8 + 4 * (shown - place)
            drawn.append(_bow(x - 1, top, x - 1 + reach, rise))
    if part.blocks > SHOWN:
        drawn.append(_text(left + shown * STEP + 13, AXIS + 4, "...", ""))
    return drawn


def _open(block: Opened, left: float, top: float) -> tuple[str, float, float]:
    """One block in detail, downward as the papers draw it; the shortcut is an arc on its right.
    With width and height."""
    wide = max(len(text) for text in (*block.steps, block.end)) * LETTER + 18
    x, y = left + wide / 2, top + 34.0
    drawn = [_text(left, top, block.title, "name left"), _text(x, y, "x", "")]
    y = start = y + 6
    for text in block.steps:
        drawn += [_arrow(x, y, x, y + 20), _box(left, y + 20, wide, 28), _text(x, y + 38, text, "")]
        y += 48
    drawn.append(_arrow(x, y, x, y + 20))
    label = 0.0
    if block.shortcut is None:
        y += 34
        drawn.append(_text(x, y, "out", ""))
    else:
        meet, right = y + 31, wide / 2 + 20
        drawn += [
            f'<circle cx="{x:.1f}" cy="{meet:.1f}" r="11"/>',
            _text(x, meet + 4, block.sign, ""),
        ]
        drawn.append(_around(x, start + 4, right, meet))
        middle, edge = (start + meet) / 2, x + right + 10
        drawn += [
            _text(edge, middle + LINE * place, text, "small left")
            for place, text in enumerate(block.shortcut)
        ]
        label = right - wide / 2 + 10 + max(len(text) for text in block.shortcut) * SMALL_LETTER
        y = meet + 11
        if block.end:
            drawn += [_arrow(x, y, x, y + 20), _text(x, y + 34, block.end, "")]
            y += 34
    return "".join(drawn), max(wide + label, len(block.title) * LETTER), y - top


def _box(x: float, y: float, width: float, height: float, style: str = "") -> str:
    return (
        f'<rect class="{style}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
        ' rx="2"/>'
    )


def _bow(x: float, y: float, to_x: float, rise: float) -> str:
    """Over the blocks, from one to another."""
    return (
        f'<path class="arc" d="M{x:.1f} {y:.1f} C{x:.1f} {y - rise:.1f} {to_x:.1f} {y - rise:.1f}'
        f' {to_x:.1f} {y:.1f}"/>'
    )


def _around(x: float, y: float, right: float, to_y: float) -> str:
    """From the input of a branch around it to the sum at its end, with round corners."""
    down = f"q10 0 10 10 V{to_y - 10:.1f} q0 10 -10 10"
    return f'<path class="arc" d="M{x:.1f} {y:.1f} H{x + right - 10:.1f} {down} H{x + 11:.1f}"/>'


def _arrow(x: float, y: float, to_x: float, to_y: float) -> str:
    tip = "l-7 -4 v8 z" if to_y == y else "l-4 -7 h8 z"
    line = f"M{x:.1f} {y:.1f} L{to_x:.1f} {to_y:.1f}"
    return f'<path d="{line}"/><path class="tip" d="M{to_x:.1f} {to_y:.1f} {tip}"/>'


def _text(x: float, y: float, text: str, style: str) -> str:
    return f'<text class="{style}" x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>'
