"""Tables of predictions: what is in them, and how they are continued after a crash, with another
model, after images have changed, and by two processes."""

import csv
import json
import os
import signal
import sys
import tracemalloc
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resnets import files
from resnets.kinds.classes import CLASSES as KIND
from resnets.kinds.classes import ClassPrediction
from resnets.runtime import outputs, writers
from resnets.runtime.ledger import Ledger
from resnets.runtime.outputs import SUFFIX, open_output
from resnets.runtime.rows import Columns
from resnets.runtime.writers import FORMATS, Table, print_predictions

CLASSES = ("red", "green", "blue")
PLAIN = Columns.of(KIND)
COLUMNS = ("file", "label", "probability", "error", "notes")
SOURCE = {"model": "colours.onnx", "sha256": "a" * 64}
OTHER = {"model": "shapes.onnx", "sha256": "b" * 64}


def probabilities(name: str) -> np.ndarray:
    drawn = np.random.default_rng(sum(os.fsencode(name))).random(3).astype(np.float32)
    return drawn / drawn.sum()


def predicted(name: str, notes=()) -> ClassPrediction:
    """What a network says of an image that holds b"broken" or anything else."""
    path = Path(name)
    if path.is_file() and path.read_bytes().startswith(b"broken"):
        return ClassPrediction(name, CLASSES, error='broken: "a", b\nc')
    return ClassPrediction(name, CLASSES, probabilities(name), notes=tuple(notes))


def write(path, names, source=SOURCE, columns=(), predict=predicted) -> list[str]:
    """A run; the files it predicted."""
    asked = []
    with open_output(path, names, source, Columns.of(KIND, columns)) as output:
        output.write(predict(asked.append(name) or name) for name in output.files())
    return asked


def table(path: Path) -> list[dict]:
    """The rows of an output as anybody would read them."""
    if path.suffix == ".csv":
        with open(path, newline="", encoding="utf-8", errors="surrogateescape") as file:
            return list(csv.DictReader(file))
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    return pytest.importorskip("pyarrow.parquet", reason="pyarrow").read_table(path).to_pylist()


def names_in(path: Path) -> list[str]:
    return [Path(row["file"]).name for row in table(path)]


@pytest.fixture
def images(tmp_path) -> list[str]:
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(6):
        (folder / f"{number}.png").write_bytes(b"broken" if number == 2 else b"good")
    return [str(folder / f"{number}.png") for number in range(6)]


@pytest.fixture(params=FORMATS)
def path(request, tmp_path) -> Path:
    if request.param == ".parquet":
        pytest.importorskip("pyarrow", reason="pyarrow")
    return tmp_path / f"out{request.param}"


# --- what is in them

NAMES = [
    "a.jpg",
    "with, comma.jpg",
    'two "quoted"\nlines.jpg',
    "cr\r.jpg",
    "한글 \N{SEE-NO-EVIL MONKEY}.png",
    "raw \udcff\udc80.jpg",
]


@pytest.mark.parametrize("columns", [(), CLASSES])
def test_tables_hold_what_was_predicted(path, images, columns):
    names = [*NAMES, images[2]]
    found = {name: predicted(name, ("turned", "x, y")[: i % 3]) for i, name in enumerate(names)}
    assert write(path, names, columns=columns, predict=found.get) == names
    rows = table(path)
    assert list(rows[0]) == [*COLUMNS, *(f"p_{name}" for name in columns)]
    for row, prediction in zip(rows, found.values(), strict=True):
        name = prediction.file
        if path.suffix == ".parquet":
            name = name.replace("\udcff\udc80", r"\xff\x80")
        assert row["file"] == name
        assert (row["label"] or "") == prediction.label
        assert (row["error"] or None) == prediction.error
        assert (row["notes"] or "") == "; ".join(prediction.notes)
        if prediction.error:
            assert row["probability"] in (None, "")
            assert not columns or row["p_red"] in (None, "")
        else:
            assert np.float32(row["probability"]) == prediction.probabilities.max()  # exactly
            assert not columns or np.float32(row["p_blue"]) == prediction.probabilities[2]
    left = {entry.name for entry in path.parent.iterdir()} - {"images"}
    assert left == {path.name, path.name + SUFFIX, f".{path.name}.lock"}


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.text(
            st.characters(exclude_categories=["Cs"], exclude_characters="\0/")
            | st.sampled_from("\udc80\udcff,\"'\n\r\t\\;"),
            min_size=1,
            max_size=40,
        ).filter(lambda name: name.strip(".")),
        min_size=1,
        max_size=5,
        unique=True,
    )
)
def test_any_name_survives_and_is_found_again(tmp_path_factory, names):
    folder = tmp_path_factory.mktemp("names")
    for suffix in (".csv", ".jsonl"):
        path = folder / f"a{suffix}"
        assert write(path, names) == names
        assert [row["file"] for row in Table(path, PLAIN).rows()] == names
        assert write(path, names) == []


def test_no_predictions_make_an_empty_table(path):
    assert write(path, []) == write(path, []) == []
    assert table(path) == []
    if path.suffix == ".csv":
        assert path.read_text() == "file,label,probability,error,notes\n"


def test_csv_goes_to_the_standard_output(capfdbinary):
    assert print_predictions([predicted("a.jpg")], PLAIN) == 1
    assert print_predictions([], Columns.of(KIND, CLASSES)) == 0
    lines = capfdbinary.readouterr().out.splitlines()
    assert lines[0] == b"file,label,probability,error,notes"
    assert lines[1].startswith(b"a.jpg,")
    assert lines[2:] == [b"file,label,probability,error,notes,p_red,p_green,p_blue"]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_rows_are_in_the_file_before_the_next_image(tmp_path, images, suffix):
    path = tmp_path / f"out{suffix}"

    def watched(name):
        assert (names_in(path) if path.exists() else []) == [f"{i}.png" for i in range(len(seen))]
        seen.append(name)
        return predicted(name)

    seen: list[str] = []
    assert write(path, images, predict=watched) == images


# --- continued


def test_a_finished_output_is_left_as_it_is(path, images):
    good = [*images[:2], *images[3:]]
    assert write(path, good) == good
    before = path.read_bytes(), path.stat().st_mtime_ns
    assert write(path, good) == []
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before
    assert write(path, images) == [images[2]]  # and grows, whatever its format
    assert names_in(path) == ["0.png", "1.png", "3.png", "4.png", "5.png", "2.png"]


def test_failed_files_are_tried_again_and_have_one_row(path, images):
    assert write(path, images) == images
    assert write(path, images) == [images[2]]  # still broken
    assert Counter(names_in(path)) == Counter(f"{i}.png" for i in range(6))
    Path(images[2]).write_bytes(b"whole now")
    assert write(path, images) == [images[2]]
    assert Counter(names_in(path)) == Counter(f"{i}.png" for i in range(6))
    assert not [row for row in table(path) if row["error"]]
    assert write(path, images) == []


@pytest.mark.parametrize("change", ["content", "time", "size"])
def test_a_changed_image_is_predicted_again(path, images, change):
    write(path, images)
    changed = Path(images[4])
    time = changed.stat().st_mtime_ns
    changed.write_bytes(b"GOOD" if change == "content" else b"longer" * (change == "size"))
    os.utime(changed, ns=(time, time if change == "size" else time + 1000))
    Path(images[2]).unlink()
    others = [name for name in images if name != images[2]]
    assert write(path, others) == [images[4]]
    assert names_in(path) == ["0.png", "1.png", "2.png", "3.png", "5.png", "4.png"]  # 2 stays
    assert write(path, others) == []


def test_an_image_that_changes_while_it_is_predicted_is_predicted_again(path, images):
    def changing(name):
        if name == images[0]:
            Path(name).write_bytes(b"other content")
        return predicted(name)

    write(path, images[:2], predict=changing)
    assert write(path, images[:2]) == [images[0]]


def test_other_files_keep_their_rows(path, images):
    write(path, images[:4])
    Path(images[0]).write_bytes(b"changed, but not asked for")
    assert write(path, images[3:]) == images[4:]
    assert names_in(path) == [f"{i}.png" for i in range(6)]


def test_a_file_under_several_names_has_one_row(path, images, tmp_path, monkeypatch):
    folder = tmp_path / "images"
    (tmp_path / "linked").symlink_to(folder)
    (folder / "same.png").symlink_to("0.png")
    other = [
        str(folder / ".." / "images" / "0.png"),
        str(tmp_path / "linked" / "0.png"),
        str(folder / "same.png"),
    ]
    assert write(path, [images[0], *other, images[1], images[0]]) == images[:2]
    assert write(path, [*other, *images[:3]]) == [images[2]]
    monkeypatch.chdir(folder)
    assert write(path, ["0.png", "./1.png", "3.png"]) == ["3.png"]
    assert len(table(path)) == 4
    Path(images[1]).write_bytes(b"changed")
    assert write(path, ["1.png"]) == ["1.png"]  # replaces the row of the long name
    assert Counter(names_in(path)) == Counter(["0.png", "1.png", "2.png", "3.png"])


def test_another_file_of_the_same_name_is_refused(path, tmp_path, monkeypatch):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.png").write_bytes(b"good")
    monkeypatch.chdir(tmp_path / "a")
    write(path, ["1.png"])
    monkeypatch.chdir(tmp_path / "b")
    with pytest.raises(ValueError, match=r"1\.png: .*another file.*a.1\.png.*the full path"):
        write(path, ["1.png"])
    assert len(table(path)) == 1


# --- made with something else


def test_another_model_or_other_columns_are_refused_with_the_cure(path, images):
    write(path, images)
    before = path.read_bytes()
    cases = [
        (OTHER, (), r"of another model \(colours\.onnx, sha256 a{12}; this one is shapes\.onnx"),
        (SOURCE, CLASSES, r"without a column for every class \(--probs\)"),
        (OTHER, CLASSES, "of another model"),
    ]
    for source, columns, message in cases:
        with pytest.raises(ValueError, match=rf"({message}).*name another output, or remove"):
            write(path, images, source, columns)
    assert path.read_bytes() == before
    assert write(path, images, {**SOURCE, "model": "renamed.onnx"}) == [images[2]]
    path.unlink()  # the cure
    assert write(path, images, OTHER, CLASSES) == images
    with pytest.raises(ValueError, match=r"with a column .*name another output"):
        write(path, images, OTHER)


def test_an_unfinished_parquet_is_not_continued_by_another_model(tmp_path, images):
    pytest.importorskip("pyarrow", reason="pyarrow")
    path = tmp_path / "out.parquet"
    interrupt(path, images)
    with pytest.raises(ValueError, match=r"another model.*remove out\.parquet\.partial to start"):
        write(path, images, OTHER)
    (tmp_path / "out.parquet.partial").unlink()
    assert write(path, images, OTHER) == images


def interrupt(path, names):
    """A run that ends after half of the files."""

    def stopping(name):
        if name == names[len(names) // 2]:
            raise KeyboardInterrupt
        return predicted(name)

    with pytest.raises(KeyboardInterrupt):
        write(path, names, predict=stopping)


def test_outputs_of_unknown_origin_are_refused(path, images):
    """As those of earlier versions, which kept nothing beside them."""
    write(path, images)
    before = path.read_bytes()
    beside = path.with_name(path.name + SUFFIX)
    good = beside.read_bytes()
    beside.unlink()
    with pytest.raises(ValueError, match=r"not known, since .*is not beside it.*or remove out"):
        write(path, images)
    head, _, rest = good.partition(b"\n")
    broken = [
        b"",
        b"{}\n",
        b"[1]\n",
        b"null\n",
        b"[" * 100_000,
        b'{"format": "x", "sha256": 1}\n',
        b"\xff\n",
        head + b"\n[]\n",
        head + b'\n{"file": 1, "path": "x", "size": 1, "modified": 1}\n',
        head + b'\n{"file": "x", "path": "x", "size": [], "modified": 1}\n',
        head + b'\n{"file": "x", "path": "x", "size": 1e99, "modified": 1}\n',
        head + b'\n{"file": "x", "path": "x", "size": 9999999999999999999, "modified": 1}\n',
        head + b'\n{"file": "x", "path": "x", "more": 0}\n',
    ]
    for content in broken:
        beside.write_bytes(content)
        with pytest.raises(ValueError, match=r"does not say what out.* was made with.*or remove"):
            write(path, images)
        assert path.read_bytes() == before
    beside.write_bytes(head.replace(b'"format": 1', b'"format": 2') + b"\n" + rest)
    with pytest.raises(ValueError, match="made by a newer resnets"):
        write(path, images)
    beside.write_bytes(good + b'{"file": "cut off')
    assert write(path, images) == [images[2]]
    assert write(path, images) == [images[2]]


def test_outputs_that_are_not_fit_are_refused_and_left_alone(tmp_path, monkeypatch):
    def untouched(name):
        pytest.fail("a prediction was taken")

    aliens = {
        "alien.csv": b"id,name\n1,2\n",
        "short.csv": b"filex",
        "ragged.csv": b"file,label,probability,error,notes\na\n",
        "more.csv": b"file,label,probability,error,notes,mine\na,,,,,\n",
        "alien.jsonl": b'{"id": 1}\n',
        "one.jsonl": b"[1",
        "number.jsonl": b'{"file": 1}\n',
        "deep.jsonl": b'{"file": ' + b"[" * 100_000 + b"\n",
        "alien.parquet": b"hello",
    }
    message = "not written by `resnets predict`|has the columns|cannot be read as Parquet"
    for name, content in aliens.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=rf"({message}).*name another output"):
            write(tmp_path / name, ["a.jpg"], predict=untouched)
        assert (tmp_path / name).read_bytes() == content
    (tmp_path / "folder.csv").mkdir()
    os.mkfifo(tmp_path / "pipe.csv")
    cases = {
        "out.xlsx": r"\.csv, \.jsonl, \.parquet",
        "none/out.csv": "there is no folder",
        "folder.csv": "not a file; name another",
        "pipe.csv": "not a file; name another",
    }
    for name, message in cases.items():
        with pytest.raises(ValueError, match=message):
            write(tmp_path / name, ["a.jpg"], predict=untouched)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(ValueError, match=r'pip install "resnets\[parquet\]"'):
        write(tmp_path / "out.parquet", ["a.jpg"], predict=untouched)


def test_a_second_writer_is_refused(path, images):
    (path.parent / "link").symlink_to(path.parent)
    with open_output(path, images, SOURCE, PLAIN):
        for same in (path, path.parent / "link" / path.name):
            with pytest.raises(ValueError, match=r"another process is at work.*wait until"):
                write(same, images)
    assert write(path, images) == images


def test_an_output_that_is_a_link_stays_one(tmp_path, images):
    (tmp_path / "there").mkdir()
    (tmp_path / "out.csv").symlink_to(tmp_path / "there" / "real.csv")
    write(tmp_path / "out.csv", images)
    write(tmp_path / "out.csv", images)
    assert (tmp_path / "out.csv").is_symlink()
    assert len(table(tmp_path / "there" / "real.csv")) == 6


# --- crashes


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_a_run_cut_at_any_byte_continues_to_the_same_bytes(tmp_path, images, suffix):
    path, whole = tmp_path / f"out{suffix}", tmp_path / f"whole{suffix}"
    names = [*NAMES, *images[:2]]
    write(whole, names, columns=CLASSES)
    content = whole.read_bytes()
    beside = whole.with_name(whole.name + SUFFIX).read_bytes()
    counts = set()
    for cut in [*range(0, len(content), 5), len(content)]:
        path.write_bytes(content[:cut])
        path.with_name(path.name + SUFFIX).write_bytes(beside)
        counts.add(len(write(path, names, columns=CLASSES)))
        assert path.read_bytes() == content, cut
    assert counts == set(range(9))


@pytest.mark.parametrize("cut", range(0, 700, 23))
def test_stamps_lost_in_a_power_failure_cost_predictions_and_nothing_else(tmp_path, images, cut):
    path = tmp_path / "out.csv"
    write(path, images)
    beside = path.with_name(path.name + SUFFIX)
    head = beside.read_bytes().index(b"\n") + 1
    beside.write_bytes(beside.read_bytes()[: head + cut])
    write(path, images[1:])
    assert sorted(names_in(path)) == [f"{i}.png" for i in range(6)]
    assert write(path, images[1:]) == [images[2]]


def killed_after(steps: int, path: Path, images: list[str]) -> bool:
    """Runs in another process, which is killed at its STEPS-th line; whether it came to that."""
    if child := os.fork():
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    watched = {module.__file__ for module in (outputs, writers, files)}
    left = steps

    def trace(frame, event, argument):
        nonlocal left
        if frame.f_code.co_filename not in watched:
            return None
        left -= event == "line"
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return trace

    try:
        sys.settrace(trace)
        write(path, images)
        os._exit(0)
    finally:
        os._exit(1)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork")
@pytest.mark.parametrize("step", [29, pytest.param(1, marks=pytest.mark.slow)])
def test_killed_at_any_moment_no_row_is_lost_or_doubled(tmp_path_factory, images, path, step):
    """The run goes on with an output in which a row is to be retried and one is outdated."""
    expected = Counter(f"{i}.png" for i in range(6))
    kills = 0
    while True:
        folder = tmp_path_factory.mktemp("kill")
        output = folder / path.name
        if kills % 2:
            interrupt(output, [*images, "x", "y"])  # before the fifth
        else:
            write(output, images[:4])
        Path(images[1]).write_bytes(b"changed" + bytes([kills % 251]))
        if not killed_after(kills * step, output, images):
            break
        kills += 1
        seen = Table(output, PLAIN)
        found = Counter(Path(row["file"]).name for row in seen.rows())
        assert set(found.values()) == {1}, kills  # none is doubled
        assert {"0.png", "3.png"} <= set(found), kills  # and none that was good is lost
        write(output, images)
        assert Counter(names_in(output)) == expected, kills
        assert write(output, images) == [images[2]]
    assert Counter(names_in(output)) == expected
    assert kills > 5


# --- size


def test_a_long_list_of_files_takes_no_memory():
    """Python's own memory, which a set of these names would take 4 MB of."""
    ledger = Ledger()
    tracemalloc.start()
    try:
        assert ledger.plan(f"/nowhere/{number:08}/image.jpg" for number in range(30_000)) == 30_000
        assert sum(1 for _ in ledger.planned()) == 30_000
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()
