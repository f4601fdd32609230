"""A network as a picture (SVG): its stages in a row, shortcuts as arcs, and a block of each kind opened below. Plain text in, plain
text out; dark where the reader's screen is dark, black on white on paper."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape


@dataclass(frozen=True)
class Part:
    """One piece of the row.

    Args:
        name: `layer1`.
        words: What it does, in short lines.
        output: What comes out, `256 x 56 x 56`.
        blocks: How many blocks are in it; 0 for a single layer.
        arcs: What the blocks' shortcuts do: `sum`, `dense` or `none`.
    """

    name: str
    words: tuple[str, ...]
    output: str
    blocks: int = 0
    arcs: str = "none"


@dataclass(frozen=True)
class Opened:
    """A block with its lid off.

    Args:
        title: Which blocks look like this.
        steps: Of the branch, in running order.
        shortcut: What the other way does, in words; none without one.
        end: How both meet, `+`, and what follows.
    """

    title: str
    steps: tuple[str, ...]
    shortcut: str | None
    end: str = "+"


STYLE = """
text{font:13px system-ui,"Noto Sans CJK KR",sans-serif;fill:#1a1a1a;text-anchor:middle}
.title{font-size:17px;font-weight:600;text-anchor:start}.small{font-size:11px;fill:#555}.head{font-weight:600;text-anchor:start}
rect{fill:#eef3fb;stroke:#33527f;stroke-width:1.2}.block{fill:#cfdef5}.end{fill:#fff}
path,line{fill:none;stroke:#33527f;stroke-width:1.4}.arc{stroke:#b0541e;stroke-width:1.6}.arrow{fill:#33527f;stroke:none}
@media (prefers-color-scheme:dark){text{fill:#e8e8e8}.small{fill:#aaa}rect{fill:#1f2a3d;stroke:#8fb0e0}.block{fill:#2e4264}.end{fill:#10141c}
path,line{stroke:#8fb0e0}.arc{stroke:#f0a66c}.arrow{fill:#8fb0e0}svg{background:#10141c}}
@media print{svg{background:#fff}}
""".replace("\n", "")

SHOWN = 8  # blocks of a stage that are drawn; more are counted
STEP, GAP, MARGIN = 15, 34, 24
TOP, HEIGHT = 92, 64  # of the row
LETTER = 6.9  # pixels of a letter, about


def draw_network(title: str, parts: Sequence[Part], opened: Sequence[Opened]) -> str:
    """The whole picture.

    Args:
        title: Name and size.
        parts: In running order.
        opened: Blocks to show in detail.
    """
    row, width = _row(parts)
    pieces, bottom = [], TOP + HEIGHT + 78
    for block in opened:
        piece, wide, high = _open(block, bottom)
        pieces.append(piece)
        width, bottom = max(width, wide), bottom + high
    width = max(width, MARGIN * 2 + len(title) * 9)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {bottom:.0f}" width="{width:.0f}" role="img" '
        f'aria-label="{escape(title)}"><style>{STYLE}</style>'
        f'<text class="title" x="{MARGIN}" y="34">{escape(title)}</text>{row}{"".join(pieces)}</svg>\n'
    )


def _row(parts: Sequence[Part]) -> tuple[str, float]:
    """The chain of parts, left to right, and its width."""
    x, middle, drawn = float(MARGIN), TOP + HEIGHT / 2, []
    for number, part in enumerate(parts):
        label = max((len(text) for text in (part.name, *part.words, part.output)), default=1) * LETTER * 0.88
        shown = min(part.blocks, SHOWN)
        inner = shown * STEP + (26 if part.blocks > SHOWN else 8) if part.blocks else 26
        width = max(inner, label)
        if number:
            drawn.append(_arrow(x, middle, x + GAP))
            x += GAP
        centre = x + width / 2
        if part.blocks:
            drawn += _blocks(part, centre - inner / 2, inner, shown)
        else:
            drawn.append(f'<rect x="{centre - inner / 2:.1f}" y="{TOP}" width="{inner}" height="{HEIGHT}" rx="3"/>')
        lines = [(part.name, ""), *((word, "small") for word in part.words), (part.output, "small")]
        drawn += [_text(centre, TOP + HEIGHT + 17 + 14 * place, text, style) for place, (text, style) in enumerate(lines)]
        x += width
    return "".join(drawn), x + MARGIN


def _blocks(part: Part, left: float, width: float, shown: int) -> list[str]:
    drawn = [f'<rect x="{left:.1f}" y="{TOP}" width="{width}" height="{HEIGHT}" rx="3"/>']
    for place in range(shown):
        x = left + 4 + place * STEP
        drawn.append(f'<rect class="block" x="{x:.1f}" y="{TOP + 10}" width="{STEP - 4}" height="{HEIGHT - 20}" rx="2"/>')
        reach = {"sum": STEP, "dense": (shown - place) * STEP}.get(part.arcs)
        if reach:
            start, end = x - 2, x - 2 + reach
            rise = 15 if part.arcs == "sum" else 8 + 4 * (shown - place)
            drawn.append(f'<path class="arc" d="M{start:.1f} {TOP} C{start:.1f} {TOP - rise} {end:.1f} {TOP - rise} {end:.1f} {TOP}"/>')
    if part.blocks > SHOWN:
        drawn.append(_text(left + width - 12, TOP + HEIGHT / 2 + 4, "...", ""))
    return drawn


def _open(block: Opened, top: float) -> tuple[str, float, float]:
    """One block in detail, from left to right; the shortcut is an arc above."""
    y, x = top + 66, MARGIN + 30.0
    drawn = [f'<text class="head" x="{MARGIN}" y="{top + 12:.0f}">{escape(block.title)}</text>', _text(MARGIN + 8, y + 4, "x", "")]
    start = x - 12
    for step in block.steps:
        width = len(step) * LETTER + 18
        drawn += [_arrow(x - 16, y, x + 8)]
        x += 8
        drawn += [f'<rect x="{x:.1f}" y="{y - 16:.0f}" width="{width:.1f}" height="32" rx="3"/>', _text(x + width / 2, y + 4, step, "")]
        x += width + 16
    sign, *after = block.end
    drawn.append(_arrow(x - 16, y, x + 8))
    meet = x + 20
    if block.shortcut is None:
        drawn.append(_text(meet, y + 5, "out", ""))
    else:
        drawn += [f'<circle class="arrow" cx="{meet:.1f}" cy="{y:.1f}" r="11"/>', f'<circle cx="{meet:.1f}" cy="{y:.1f}" r="9.5" class="end" fill="#fff"/>',
                  _text(meet, y + 5, sign, "")]  # fmt: skip
        drawn.append(f'<path class="arc" d="M{start:.1f} {y:.1f} C{start:.1f} {y - 62:.1f} {meet:.1f} {y - 62:.1f} {meet:.1f} {y - 11:.1f}"/>')
        drawn.append(_text((start + meet) / 2, y - 50, block.shortcut, "small"))
    rest = "".join(after).strip()
    if rest:
        drawn += [_arrow(meet + 11, y, meet + 34), _text(meet + 40 + len(rest) * LETTER / 2, y + 4, rest, "")]
    return "".join(drawn), meet + 60 + len(rest) * LETTER, 128


def _arrow(start: float, y: float, end: float) -> str:
    return f'<line x1="{start:.1f}" y1="{y:.1f}" x2="{end - 5:.1f}" y2="{y:.1f}"/><path class="arrow" d="M{end:.1f} {y:.1f} l-7 -4 v8 z"/>'


def _text(x: float, y: float, text: str, style: str) -> str:
    return f'<text class="{style}" x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>' if style else f'<text x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>'
