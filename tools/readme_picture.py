"""Make the picture of the README: the terminal of a real `resnets demo` beside the suspect labels and
a confusion cell of its report, opened.

    python tools/readme_picture.py docs/readme.png

Needs a Unix terminal, Chromium and Playwright (in the `dev` install). Nothing is drawn by hand: the
command is run under a terminal, what it wrote is read as a terminal reads it, and the cell is
clicked in the browser.
"""

import argparse
import fcntl
import html
import os
import pty
import re
import shlex
import shutil
import struct
import sys
import tempfile
import termios
from io import BytesIO
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, sync_playwright

FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--no-first-run"),
)
COLORS = {
    **{
        30: "#484f58",
        31: "#ff7b72",
        32: "#7ee787",
        33: "#e3b341",
        34: "#79c0ff",
        35: "#d2a8ff",
        36: "#76e3ea",
        37: "#c9d1d9",
    },
    **{
        90: "#6e7681",
        91: "#ffa198",
        92: "#a5f0b0",
        93: "#f2cc60",
        94: "#a5d6ff",
        95: "#e2c5ff",
        96: "#a2f0f5",
        97: "#f0f6fc",
    },
}
SEQUENCE = re.compile(r"\x1b\[([?\d;]*)([A-Za-z])")
PALETTE = re.compile(
    r"[34]8;(?:5;\d+|2;\d+;\d+;\d+)"
)  # colours that only erased progress bars have
PARTS = re.compile(r"\x1b\[[?\d;]*[A-Za-z]|.", re.DOTALL)
WIDTH = 620  # of the report's window, in pixels
SUSPECTS = 790  # of the height of the suspect labels: three rows
SCALE = 1.75  # pixels of the file for a pixel of the page

PAGE = """<!doctype html><meta charset="utf-8"><style>
body {{ margin: 0; }}
main {{ display: flex; width: max-content; background: #15181b; }}
pre {{ margin: 0; padding: 26px 32px; background: #0d1117; color: #c9d1d9; }}
pre {{ font: 14.5px/1.5 "DejaVu Sans Mono", Menlo, Consolas, monospace; }}
.prompt {{ color: #6e7681; }} .typed {{ color: #f0f6fc; font-weight: bold; }}
div {{ display: flex; flex-direction: column; align-items: start; justify-content: space-evenly; gap: 20px; padding: 22px; }}
img {{ display: block; zoom: {zoom}; }} img + img {{ border-radius: 8px; }}
</style><body><main><pre>{terminal}</pre><div><img src="suspects.png"><img src="cell.png"></div></main></body>"""


class Terminal:
    """As much of a terminal as a progress bar needs: lines that wrap, colours, going up and
    erasing.

    Args:
        columns: Its width.
    """

    def __init__(self, columns: int) -> None:
        self.columns = columns
        self.lines: list[list[tuple[str, str]]] = [[]]  # of (character, style)
        self.row, self.column, self.codes = 0, 0, [0]

    def write(self, text: str) -> None:
        """What a program wrote."""
        for part in PARTS.findall(text):
            if found := SEQUENCE.match(part):
                self._obey(found[1], found[2])
            elif part == "\r":
                self.column = 0
            elif part == "\n":
                self._go_down()
            elif part >= " ":
                self._put(part)

    def to_html(self) -> str:
        """The lines, with a span for each run of one style."""
        lines = []
        for line in self.lines:
            parts, place = [], 0
            while place < len(line):
                style, start = line[place][1], place
                while place < len(line) and line[place][1] == style:
                    place += 1
                run = html.escape("".join(character for character, _ in line[start:place]))
                parts.append(f'<span style="{style}">{run}</span>' if style else run)
            lines.append("".join(parts).rstrip())
        return "\n".join(lines).strip("\n")

    def _put(self, character: str) -> None:
        if self.column == self.columns:
            self._go_down()
            self.column = 0
        line = self.lines[self.row]
        line += [(" ", "")] * (self.column + 1 - len(line))
        line[self.column] = (character, self._style())
        self.column += 1

    def _go_down(self) -> None:
        self.row += 1
        if self.row == len(self.lines):
            self.lines.append([])

    def _obey(self, numbers: str, letter: str) -> None:
        numbers = PALETTE.sub("39", numbers)
        values = (
            [int(number or 0) for number in numbers.split(";")]
            if not numbers.startswith("?")
            else []
        )
        if letter == "m":
            self.codes = [0] if values in ([], [0]) else self.codes + values
        elif letter == "A":
            self.row = max(0, self.row - max(1, values[0]))
        elif letter == "K":
            self.lines[self.row] = [] if values[0] == 2 else self.lines[self.row][: self.column]

    def _style(self) -> str:
        styles: dict[str, str] = {}
        for code in self.codes:
            if code == 0:
                styles = {}
            elif code == 39:
                styles.pop("color", None)
            elif code in COLORS:
                styles["color"] = COLORS[code]
            elif code == 1:
                styles["font-weight"] = "bold"
            elif code == 2:
                styles["color"] = "#8b949e"
        return ";".join(f"{key}:{value}" for key, value in styles.items())


def run_in_terminal(command: list[str], columns: int, folder: Path) -> str:
    """Runs `resnets ...` of this Python in a terminal of its own; its output is shown here and
    returned.

    Raises:
        SystemExit: The command failed.
    """
    program = Path(sys.executable).with_name(command[0])
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(folder)
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
        variables = {
            key: value
            for key, value in os.environ.items()
            if key not in ("COLUMNS", "LINES", "NO_COLOR")
        }
        os.execve(program, [str(program), *command[1:]], {**variables, "TERM": "xterm-256color"})
    written = b""
    while True:
        try:
            block = os.read(terminal, 1 << 16)
        except OSError:  # Linux says so when the other end is closed
            break
        if not block:
            break
        written += block
        os.write(2, block)
    if code := os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
        raise SystemExit(f"{shlex.join(command)} ended with exit code {code}")
    return written.decode()


def photograph_report(browser: Browser, report: Path) -> tuple[bytes, bytes]:
    """The first suspect labels, and a cell of the confusion matrix opened: the mistake with the most
    pictures, if there is one."""
    page = browser.new_page(
        viewport={"width": WIDTH, "height": 900},
        device_scale_factor=SCALE,
        color_scheme="dark",
        reduced_motion="reduce",
    )
    page.goto(report.as_uri())
    cells = page.locator(".matrix .cell")
    order = sorted(
        cells.all(),
        key=lambda cell: (
            "wrong" in (cell.get_attribute("class") or ""),
            int(cell.get_attribute("data-count") or 0),
        ),
    )
    chosen = next(
        (cell for cell in reversed(order) if cell.get_attribute("data-count") != "0"), order[-1]
    )
    suspects = page.locator("section", has=page.get_by_role("heading", name="Suspect labels"))
    box = suspects.bounding_box()
    assert box is not None
    clip = {**box, "height": min(box["height"], SUSPECTS)}
    shown = page.screenshot(clip=clip, full_page=True)
    chosen.click()
    page.mouse.move(0, 0)
    return shown, page.locator("dialog").screenshot()


def main() -> None:
    """Runs the demonstration, opens the report, and puts the two side by side."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("picture", type=Path, help="FILE.png to write")
    parser.add_argument("--columns", type=int, default=100, help="width of the terminal")
    parser.add_argument("--browser", default=shutil.which("chromium"), help="path of Chromium")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary, sync_playwright() as playwright:
        folder = Path(temporary)
        terminal = Terminal(options.columns)
        terminal.write(run_in_terminal(["resnets", "demo"], options.columns, folder))
        typed = '<span class="prompt">$</span> <span class="typed">resnets demo</span>\n'
        browser = playwright.chromium.launch(executable_path=options.browser, args=list(FLAGS))
        report = folder / "runs" / "demo" / "report.html"
        write_picture(browser, typed + terminal.to_html(), report, options.picture)
        browser.close()


def write_picture(browser: Browser, terminal: str, report: Path, picture: Path) -> None:
    """Terminal and report side by side, in 256 colours."""
    shots = dict(zip(("suspects.png", "cell.png"), photograph_report(browser, report), strict=True))
    for name, content in shots.items():
        report.with_name(name).write_bytes(content)
    composed = report.with_name("readme.html")
    composed.write_text(PAGE.format(terminal=terminal, zoom=1 / SCALE), encoding="utf-8")
    page = browser.new_page(viewport={"width": 2000, "height": 1200}, device_scale_factor=SCALE)
    page.goto(composed.as_uri())
    image = Image.open(BytesIO(page.locator("main").screenshot())).convert("RGB")
    picture.parent.mkdir(parents=True, exist_ok=True)
    image.quantize(256, Image.Quantize.MEDIANCUT, kmeans=1).save(picture, optimize=True)
    print(f"{picture}: {image.width} x {image.height}, {picture.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
