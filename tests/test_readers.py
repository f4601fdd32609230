"""Readers, each a row: what all of them promise, how one is chosen, and that they share one walk."""

import contextlib
import math
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from layouts import coco, jpeg, png, voc, write
from PIL import ImageFile
from typer.main import get_command

from resnets.cli.app import app
from resnets.data import sources
from resnets.data.check import look_at
from resnets.data.readers import READERS, Found, Reader, Source
from resnets.data.sources import find_data
from resnets.kinds import KINDS
from resnets.kinds.sample import Sample, annotate

MASK = png([[0, 1]])
# Files of each layout and their content, out of order; images hold nothing that could be decoded,
# but where the reader needs their size
EXAMPLES = {
    "table": {
        "labels.csv": "file_name,label\nz/1.jpg,a\nb/2.jpg,b\nz/0.jpg,b\na.jpg,a\n",
        **dict.fromkeys(("z/1.jpg", "b/2.jpg", "z/0.jpg", "a.jpg"), ""),
    },
    "box_table": {
        "boxes.csv": "file_name,xmin,ymin,xmax,ymax,label\nz/1.jpg,0,0,4,4,a\nb/2.jpg,1,2,3,4.5,b\n",
        **dict.fromkeys(("z/1.jpg", "b/2.jpg"), ""),
    },
    "voc": {
        "Annotations/b.xml": voc(("dog", 2, 3, 5, 6)),
        "Annotations/a.xml": voc(),
        **dict.fromkeys(("JPEGImages/b.jpg", "JPEGImages/a.jpg"), ""),
    },
    "coco": {
        "annotations/instances_all.json": coco(("z/1.jpg", "b/2.jpg"), (0, 1, [1, 2, 3, 4])),
        **dict.fromkeys(("images/z/1.jpg", "images/b/2.jpg"), ""),
    },
    "yolo": {
        "labels/b.txt": "0 0.5 0.5 0.5 0.5\n",
        "labels/a.txt": "",
        "classes.txt": "dog\ncat\n",
        **dict.fromkeys(("images/b.jpg", "images/a.jpg"), jpeg()),
    },
    "masks": {
        "masks/b.png": MASK,
        "masks/a.png": MASK,
        "classes.txt": "road\nsky\n",
        **dict.fromkeys(("images/b.jpg", "images/a.jpg"), ""),
    },
    "clips": dict.fromkeys(("walk/2.mp4", "run/b.avi.mp4", "walk/1.mp4"), ""),
    "folders": dict.fromkeys(("b/10.jpg", "b/2.jpg", "a b/1.jpg", "a/9.jpg", "a/c/1.jpg"), ""),
}
every = pytest.mark.parametrize("reader", READERS.values(), ids=READERS)


def error_of(*arguments, **options):
    with pytest.raises(ValueError, match=r".") as error:
        find_data(*arguments, **options)
    return str(error.value)


def special(name, suffix):
    """A reader of files with a suffix, that looks at everything below the folder."""

    def matches(source):
        return any(file.endswith(suffix) for file in source.contents.others)

    def read(source, kind):
        names = sorted(source.contents.images)
        samples = tuple(Sample(source.path / one, one, annotate(name)) for one in names)
        return Found(suffix, samples, kind or "classes", name)

    return Reader(name, ("classes",), f"*{suffix}", matches, read)


@pytest.fixture
def more(monkeypatch):
    """Two readers more, before folders."""
    rows = {one.name: one for one in (special("stars", ".star"), special("moons", ".moon"))}
    rows = {"table": READERS["table"], **rows, "folders": READERS["folders"]}
    monkeypatch.setattr(sources, "READERS", rows)
    return rows


# ---- each


def test_every_reader_has_an_example_and_folders_come_last():
    assert set(EXAMPLES) == set(READERS)
    assert list(READERS)[-1] == "folders"


@every
def test_a_row_says_what_it_is(reader, tmp_path):
    assert READERS[reader.name] is reader
    for function in (reader.matches, reader.read):
        assert function.__module__ == f"resnets.data.readers.{reader.name}"
    assert reader.kinds
    assert set(reader.kinds) <= set(KINDS)
    assert reader.expects in error_of(tmp_path)
    assert reader.expects in error_of(tmp_path, reader.name)


@every
def test_samples_are_sorted_and_no_image_is_decoded(reader, tmp_path, monkeypatch):
    load = ImageFile.ImageFile.load

    def refuse(image):
        assert "masks" in Path(image.filename).parts, "an image was decoded"
        return load(image)

    monkeypatch.setattr(ImageFile.ImageFile, "load", refuse)
    write(tmp_path, EXAMPLES[reader.name])
    found = find_data(tmp_path)
    names = [sample.name for sample in found.samples]
    assert names == sorted(names)
    assert (
        len(names)
        == len(set(names))
        == sum(name.endswith(("jpg", "mp4")) for name in EXAMPLES[reader.name])
    )
    assert all(sample.path == tmp_path / sample.name for sample in found.samples)
    assert (found.reader, found.kind) == (reader.name, reader.kinds[0])
    assert find_data(tmp_path, reader.name) == found
    for kind in reader.kinds:
        assert find_data(tmp_path, reader.name, kind).kind == kind


@every
def test_nothing_is_read_as_what_it_is_not(reader, tmp_path):
    for name, files in EXAMPLES.items():
        source = Source(write(tmp_path / name, files))
        takes_all = reader.name == "folders"
        assert takes_all or reader.matches(source) == (name == reader.name), name
    assert not reader.matches(Source(write(tmp_path / "none", {"a.txt": "", "b.jpg": ""})))


@pytest.mark.parametrize("format", sorted(set(EXAMPLES) - {"folders"}))
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_damaged_files_are_read_or_refused(format, data, tmp_path_factory):
    """Whatever stands in a file of annotations: samples, or a message."""
    files = EXAMPLES[format]
    texts = [name for name in files if not name.endswith(".jpg")]
    name = data.draw(st.sampled_from(texts))
    content = files[name].encode() if isinstance(files[name], str) else files[name]
    start = data.draw(st.integers(0, len(content)))
    end = data.draw(st.integers(start, min(len(content), start + 8)))
    strange = st.sampled_from(
        [b"", b"-1", b"nan", b"1e999", b"[]", b'"', b"\0", b"\xff", b"9" * 400]
    )
    put = data.draw(strange | st.binary(max_size=4))
    root = tmp_path_factory.mktemp("damaged")
    write(root, {**files, name: content[:start] + put + content[end:]})
    with contextlib.suppress(ValueError):
        found = find_data(root, format)
        for sample in found.samples:
            boxes = [one.box for one in sample.annotations if one.box]
            assert all(math.isfinite(side) for box in boxes for side in box)
        look_at(found.samples, workers=1)


# ---- one of them


def test_two_that_match_are_named_and_one_is_chosen(tmp_path, more):
    write(tmp_path, {"a/1.jpg": "", "b/2.jpg": "", "x.star": "", "y.moon": ""})
    assert error_of(tmp_path) == (
        f"{tmp_path} can be read as stars and as moons: choose one with --format (stars or moons)"
    )
    for name in more:
        if name != "table":
            assert find_data(tmp_path, format=name).reader == name
    (tmp_path / "y.moon").unlink()
    assert find_data(tmp_path).reader == "stars"  # folders take what is left
    write(tmp_path, {"labels.csv": "file_name,label\na/1.jpg,a\n"})
    assert "can be read as table and as stars" in error_of(tmp_path)


def test_a_table_goes_before_folders_unless_these_are_asked_for(tmp_path):
    write(tmp_path, {"a/1.jpg": "", "b/2.jpg": "", "labels.csv": "file,label\na/1.jpg,one\n"})
    assert (find_data(tmp_path).reader, find_data(tmp_path).classes) == ("table", ("one",))
    found = find_data(tmp_path, "folders")
    assert (found.classes, found.notes, found.left_out) == (("a", "b"), (), {})


def test_a_format_that_is_not_there(tmp_path):
    folders = write(tmp_path / "folders", EXAMPLES["folders"])
    assert error_of(folders, "table") == (
        f"nothing in the format table in {folders}; looked for {READERS['table'].expects}; nothing"
        " was left out"
    )
    write(folders, {"metadata.csv": "camera,date\n"})
    assert "columns are camera, date" in error_of(folders, "table")
    table = write(tmp_path / "table", EXAMPLES["table"]) / "labels.csv"
    said = error_of(table, "folders")
    assert said == f"{table} is a file; the format folders looks for {READERS['folders'].expects}"
    assert find_data(table, "table") == find_data(table)


def test_an_unrelated_table_does_not_hide_why_folders_cannot_be_read(tmp_path):
    files = ("train/a/1.jpg", "train/b/2.jpg", "bus/3.jpg", "car/4.jpg")
    write(tmp_path, {**dict.fromkeys(files, ""), "metadata.csv": "camera,date\n"})
    assert "train holds folders with images, and so do bus, car beside it" in error_of(tmp_path)


def test_names_of_formats_and_kinds_are_checked(tmp_path, monkeypatch):
    write(tmp_path, EXAMPLES["folders"])
    assert error_of(tmp_path, "folder") == "no format 'folder'; did you mean folders?"
    assert error_of(tmp_path, "") == f"no format ''; allowed: {', '.join(sorted(READERS))}"
    assert error_of(tmp_path, kind="class") == "no kind 'class'; did you mean classes or clips?"
    monkeypatch.setattr(sources, "KINDS", {**KINDS, "moods": replace(KINDS["classes"])})
    assert error_of(tmp_path, kind="moods") == (
        f"{tmp_path}: data in the format folders give classes, not moods; moods are read from: no"
        " format yet"
    )
    assert error_of(tmp_path, kind="labels").endswith(
        "give classes, not labels; labels are read from: labels.csv with the columns file_name and"
        " label"
    )


def test_the_command_offers_every_format():
    (option,) = (one for one in get_command(app).commands["check"].params if one.name == "format")
    assert option.metavar == "|".join(READERS)


# ---- the walk


def test_readers_share_one_walk(tmp_path, monkeypatch, more):
    write(tmp_path, {f"{k}/{n}/x.jpg": "" for k in "abc" for n in "xyz"})
    opened, scandir = Counter(), os.scandir

    def counting(path):
        opened[str(path)] += 1
        return scandir(path)

    monkeypatch.setattr(os, "scandir", counting)
    find_data(tmp_path)
    assert len(opened) == 13
    assert set(opened.values()) == {1}
    write(tmp_path, {"labels.csv": "file,label\na/x/x.jpg,one\n"})
    opened.clear()
    monkeypatch.setattr(sources, "READERS", READERS)
    assert find_data(tmp_path).reader == "table"
    assert set(opened.values()) == {1}
    opened.clear()
    assert find_data(tmp_path / "labels.csv").reader == "table"
    assert not opened  # a table says where its files are


@pytest.mark.parametrize("spelling", [".", "./", "data/..", "../{}"])
def test_names_are_relative_however_the_folder_is_called(tmp_path, monkeypatch, spelling):
    write(tmp_path, {"data/a/1.jpg": "", "data/b/c/2.jpg": "", "data/b/d/x.txt": ""})
    monkeypatch.chdir(tmp_path)
    contents = Source(Path(spelling.format(tmp_path.name))).contents
    assert contents.images == ("data/a/1.jpg", "data/b/c/2.jpg")
    assert contents.others == ("data/b/d/x.txt",)
    assert contents.folders == ("data", "data/a", "data/b", "data/b/c", "data/b/d")
    assert Source(tmp_path / "data" / "a" / "1.jpg").contents == ((), (), ())
