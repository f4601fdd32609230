"""What people see: whole words at any width, nothing of a name that steers the terminal, a bar that
shares no line, and no complaint where nobody reads."""

import fcntl
import io
import json
import os
import re
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from rich.cells import cell_len
from rich.console import Console
from rich.progress import Progress

from resnets.screen import Bar, Screen, printable, wrap

pty = pytest.importorskip("pty", reason="terminals are made with pty")
termios = pytest.importorskip("termios", reason="terminals are made with pty")

NETWORK = "resnet20 depths=1-1-1"
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
ALLOWED = re.compile(r"\x1b\[(?:[0-9;]*m|\d*[AKG]|\?25[hl])")  # style, line up, erase, cursor


def terminal(width, *words, folder=None):
    """What `resnets WORDS` writes to a terminal of so many columns, and its exit code."""
    reader, writer = pty.openpty()
    fcntl.ioctl(writer, termios.TIOCSWINSZ, struct.pack("HHHH", 50, width, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    environment |= {"TERM": "xterm-256color", "PYTHONPATH": ":".join(sys.path)}
    # not forked: what other tests have imported does not survive that in every order
    process = subprocess.Popen(
        [sys.executable, "-m", "resnets", *map(str, words)],
        stdin=writer,
        stdout=writer,
        stderr=writer,
        cwd=folder or ".",
        env=environment,
        start_new_session=True,
    )
    os.close(writer)
    written = b""
    while True:
        try:
            part = os.read(reader, 65536)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        written += part
    os.close(reader)
    return written.decode("utf-8"), process.wait()


def left_standing(text):
    """The lines that are left on the screen, when bars have been erased."""
    lines, row = [""], 0
    for token in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|\r|\n|[^\x1b\r\n]+", text):
        if token == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
            lines[row] = ""
        elif token == "\r" or (token.endswith(("m", "h", "l")) and ESCAPE.match(token)):
            continue
        elif token.endswith("A") and ESCAPE.match(token):
            row -= int(token[2:-1] or 1)
        elif token.endswith("K") and ESCAPE.match(token):
            lines[row] = ""
        else:
            lines[row] += token
    return lines


HOSTILE = "red \x1b[31m\x07 | *star* [x](y) <b>"
LONG = "a class with a name that is rather long, as classes of birds and of plants often are"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Recorded: `resnets train` in a terminal of 80 columns, on names that are meant badly."""
    pytest.importorskip("torch", reason="training install")
    root = tmp_path_factory.mktemp("screen")
    rng = np.random.default_rng(0)
    for name, colour in ((HOSTILE, (200, 40, 30)), (LONG, (30, 60, 200))):
        (root / "photos" / name).mkdir(parents=True)
        for number in range(12):
            noise = rng.normal(0, 40, (32, 32, 3))
            pixels = np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / "photos" / name / f"사진\x1b]0;x\x07 {number}.png")
        (root / "photos" / name / "broken\x1b[2J.png").write_bytes(b"no image")
    words = ["train", "photos", "-m", NETWORK, "--size", "16", "--epochs", "2"]
    return root, terminal(80, *words, "--weights", "none", "-o", "run", folder=root)


VERBS = {
    "train": None,
    "val": ["val", "run"],
    "val of a file": ["val", "run/photos.onnx", "photos"],
    "check": ["check", "photos"],
    "export": ["export", "run", "-o", "again.onnx"],
    "show": ["show", "resnet1*"],
    "show one": ["show", "resnet50"],
    "show two": ["show", "resnet50", "resnet50d"],
    "a mistake": ["train", "photos", "-o", "run"],
    "help": ["train", "--help"],
}


SLOW = pytest.mark.slow  # each starts torch anew
CASES = [(verb, 80) for verb in ("train", "val", "check", "a mistake")]
CASES += [
    pytest.param(verb, width, marks=SLOW)
    for verb in VERBS
    for width in (80, 100)
    if (verb, width) not in CASES
]


@pytest.mark.parametrize(("verb", "width"), CASES)
def test_lines_fit_whole_and_nothing_of_a_name_acts(trained, verb, width):
    root, (text, code) = trained
    if VERBS[verb] is not None:
        text, code = terminal(width, *VERBS[verb], folder=root)
    elif width != 80:
        pytest.skip("recorded once")
    assert code == (2 if verb == "a mistake" else 0), text
    assert not ESCAPE.sub("", ALLOWED.sub("", text)).count("\x1b")
    assert "\x07" not in text
    lines = left_standing(text)
    for line in lines:
        assert cell_len(line) <= width or len(line.split()) <= 2, line
    assert not [line for line in lines if "━" in line]  # bars are gone, and took no line with them
    if verb in ("train", "val", "check"):
        assert "\\x1b" in text
    whole = " ".join(" ".join(lines).split())
    for said in {
        "val": ["balanced accuracy", "precision"],
        "check": [LONG],
        "val of a file": ["verified: onnxruntime"],
        "a mistake": ["name another folder, or add --exist-ok"],
    }.get(verb, ()):
        assert said in whole


def test_the_bar_has_a_line_of_its_own(trained):
    _, (text, _) = trained
    for line in re.split(r"[\r\n]+|\x1b\[2K", text):
        if "━" in line:
            assert re.match(r"(\x1b\[[0-9;?]*[A-Za-z])*[a-z-]+( [a-z-]+)* ", line), line
            assert "epoch" not in line


def test_the_card_shows_names_as_they_are(trained):
    root, _ = trained
    card = (root / "run" / "model_card.md").read_text("utf-8")
    assert "\\x1b\\[31m" in card.replace("\\\\", "\\")
    assert "\\| \\*star\\* \\[x\\](y) \\<b\\>" in card
    assert not re.search(r"[\x00-\x09\x0b-\x1f]", card)
    tables = re.findall(r"(?:^\|.*\n)+", card, re.MULTILINE)
    assert len(tables) == 3, "facts, numbers, classes"
    for table in tables:
        bars = {len(re.findall(r"(?<!\\)\|", row)) for row in table.splitlines()}
        assert len(bars) == 1, table


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a|b", r"a\|b"),
        ("*a* _b_ __c", r"\*a\* \_b\_ \__c"),
        ("snake_case_name", "snake_case_name"),
        ("[x](y) <b>&lt;", r"\[x\](y) \<b\>\&lt;"),
        ("`code` ~~old~~ \\", r"\`code\` \~\~old\~\~ \\"),
        ("two\nlines", r"two\\nlines"),
    ],
)
def test_markdown_shows_a_name_as_it_is(name, shown):
    reporting = pytest.importorskip("resnets.run.reporting", reason="training install")
    assert reporting.markdown(name) == shown


def test_lists_that_are_cut_say_how_much_more(tmp_path):
    for number in range(45):
        (tmp_path / f"class {number:02d}").mkdir()
        Image.new("RGB", (16, 16), (number * 5, 99, 7)).save(tmp_path / f"class {number:02d}/1.png")
        if number < 9:  # nine pairs of equal images
            Image.new("RGB", (16, 16), (number * 5, 99, 7)).save(
                tmp_path / f"class {number:02d}/2.png"
            )
    done = subprocess.run(
        [sys.executable, "-m", "resnets", "check", str(tmp_path)], capture_output=True, text=True
    )
    assert "and 5 more classes (--json has all)" in done.stderr
    assert re.search(r"and [\d,]+ more \(--json has all\)", done.stderr)


# ---- the pieces


@given(st.text(st.characters(codec="utf-8"), max_size=200), st.integers(1, 60))
def test_wrapping_keeps_every_word(text, width):
    lines = wrap(text, width)
    assert " ".join(lines).split() == text.split()
    for line in lines:
        assert cell_len(line) <= width or len(line.split(" ")) <= 1 or not line.strip()


def screen_of(width, force=True):
    screen, written = Screen(), io.StringIO()
    screen.console = Console(
        file=written, width=width, force_terminal=force, no_color=True, highlight=False
    )
    return screen, written


names = st.text(st.characters(codec="utf-8"), max_size=30)


@given(names, st.lists(st.tuples(names, names), min_size=1, max_size=4), st.integers(20, 100))
def test_no_name_acts_on_the_terminal(name, rows, width):
    screen, written = screen_of(width)
    screen.say(name)
    screen.warn(name)
    screen.pairs([(first, second, name) for first, second in rows])
    screen.table((name, "b"), rows)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", written.getvalue())
    assert plain.replace("\n", "") == printable(plain.replace("\n", ""))


def test_a_table_too_wide_becomes_paragraphs():
    screen, written = screen_of(40)
    screen.table(("class", "file"), [("q" * 30, "r" * 30), ("a", "b")])
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in written.getvalue().splitlines()]
    assert lines == ["class  " + "q" * 30, "file   " + "r" * 30, "class  a", "file   b"]


def test_a_long_path_stays_whole_on_its_own_line():
    screen, written = screen_of(40)
    path = "/a/" + "b" * 60
    screen.pairs([("report", path, ""), ("n", "3", "why")])
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in written.getvalue().splitlines()]
    assert lines == ["report  ", f"  {path}", "n       3  (why)"]


def test_a_pipe_gets_whole_lines():
    screen, written = screen_of(40, force=False)
    screen.say("word " * 30 + "end")
    screen.table(("a",), [["word " * 30 + "end"]])
    assert written.getvalue().count("\n") == 3


# ---- nobody reads


CLOSED = (">&-", "2>&-", ">&- 2>&-", "| true", "2>&1 | true")
WORDS = [(words, closed) for words in (["--help"], ["check", "none"]) for closed in CLOSED]
WORDS += [(["check", "run", "--json"], closed) for closed in CLOSED]
WORDS += [
    pytest.param(["show", "resnet18", *more], closed, marks=SLOW)
    for more in ([], ["--json"])
    for closed in CLOSED
]


@pytest.mark.parametrize(("words", "closed"), WORDS)
def test_a_closed_output_is_no_traceback(tmp_path, words, closed):
    for name, colour in (("a", (200, 40, 30)), ("b", (30, 60, 200))):
        (tmp_path / "run" / name).mkdir(parents=True)
        Image.new("RGB", (8, 8), colour).save(tmp_path / "run" / name / "1.png")
    command = f"{sys.executable} -m resnets {' '.join(words)} {closed}"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode in (0, 1, 2)
    for said in ("Traceback", "Exception ignored", "BrokenPipe"):
        assert said not in done.stdout + done.stderr


def test_stdout_in_a_pipe_is_not_drawn_into_the_terminal(trained):
    """The bar takes prints in only where stdout is the same terminal."""
    root, _ = trained
    code = f"cd {root} && {sys.executable} -m resnets val run --json 2>/dev/null"
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True)
    assert json.loads(done.stdout)["metrics"]["n"] > 0
    assert Path(root / "run").is_dir()


def test_a_bar_in_a_terminal_too_narrow_for_it_drops_its_remark_and_goes_on() -> None:
    bar = Bar(Progress(disable=True), 0, room=-5)
    bar._progress.add_task("photos", total=3)
    bar.update(1)
    bar.update(2, "loss 0.5  1 img/s")
    assert bar._progress.tasks[0].fields["remark"] == ""
