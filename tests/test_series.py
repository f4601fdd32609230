"""Images that belong together by their names: found, said, and kept on one side of a split."""

import csv
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from conftest import write_pictures
from hypothesis import given
from hypothesis import strategies as st

import resnets
from resnets import cli
from resnets.data.check import check_images
from resnets.data.findings import about_series
from resnets.data.series import NAMED, group_by_name, torn_series
from resnets.data.sources import find_data
from resnets.data.splits import complete_splits
from resnets.kinds.sample import Sample, annotate


def samples_of(names, parts=(), groups=()):
    """Samples whose class is their first folder."""
    return [
        Sample(
            Path(name),
            name,
            annotate(name.split("/")[0]),
            parts[place] if parts else "",
            groups[place] if groups else "",
        )
        for place, name in enumerate(names)
    ]


def named(pattern, series=6, images=4, classes="ab"):
    """Names of each class, of each series, of each image."""
    return [
        pattern.format(c=c, s=s, i=i) for c in classes for s in range(series) for i in range(images)
    ]


@pytest.mark.parametrize(
    ("pattern", "group", "first"),
    [
        ("{c}/video{s}/{i:04}.jpg", "folder", "video0"),
        ("{c}/patient{s}_{i}.png", "first", "patient0"),
        ("{c}/P{s}-{c}-left {i}.png", "first", "P0"),
        ("{c}/IMG_{s}_{i}.jpg", "second", "IMG_0"),
        ("{c}/IMG_{s}_jpg.rf.{i}.jpg", "second", "IMG_0"),  # augmented before it was stored
        ("{c}/a {s}-{i}.tif", "second", "a 0"),
        ("{c}/one_two_three_{s}_{i}.jpg", "last", "one_two_three_0"),
        ("{c}/one.two_{s}.5_{i}.jpg", "second", "one.two_0.5"),
    ],
)
def test_series_are_found_by_what_names_have_in_common(pattern, group, first):
    found = torn_series(samples_of(named(pattern)))
    assert found is not None
    assert (found[0], found[1][0], len(found[1])) == (group, first, 6)


@pytest.mark.parametrize(
    "names",
    [
        named("{c}/{c}_{s}{i:03}.jpg"),  # the name of the class
        named("{c}/IMG_{s}{i:03}.jpg"),  # of the camera
        named("{c}/{s}{i:03}.jpg"),
        named("{c}/{s}{i:03}_{s}9{i}.jpg"),  # a photo's own
        named("{c}/{s}_{i}.jpg", series=4),  # too few to hold some of them out
        named("{c}/{s}_{i}.jpg", images=1),
        [],
    ],
)
def test_other_names_tell_of_no_series(names):
    assert torn_series(samples_of(names)) is None


def test_what_stays_whole_is_not_torn():
    names = named("{c}/{s}_{i}.jpg")
    series = [name.split("/")[1][0] for name in names]
    assert torn_series(samples_of(names, groups=series)) is None
    apart = ["val" if one == "0" else "train" for one in series]
    assert torn_series(samples_of(names, parts=apart)) is None
    mixed = ["val" if name.endswith("0.jpg") else "train" for name in names]
    assert torn_series(samples_of(names, parts=mixed)) is not None
    beside = ["val" if name.endswith("0.jpg") else "test" for name in names]
    assert torn_series(samples_of(names, parts=beside)) is None  # nothing is trained on


def test_what_is_all_for_training_is_torn_where_validation_is_held_out_of_it():
    names = named("{c}/{s}_{i}.jpg")
    assert torn_series(samples_of(names, parts=["train"] * len(names))) is not None
    apart = samples_of(["a/x.jpg", "b/y.jpg"], parts=["val", "val"])
    assert torn_series([*samples_of(names, parts=["train"] * len(names)), *apart]) is None


@pytest.mark.parametrize(
    ("given", "cure"),
    [
        ({""}, "too good; resnets train --group first keeps each on one side"),
        ({"train"}, "too good; resnets train --group first keeps each on one side"),
        ({"train", "val"}, "too good; put each into one part of the data"),
        (
            {"train", "test"},
            "too good; put each into one part of the data, and resnets train --group first keeps"
            " each on one side",
        ),
    ],
)
def test_the_cure_is_one_that_helps(given, cure):
    """Parts that the data name are not drawn again."""
    names = named("{c}/{s}_{i}.jpg")
    parts = [("val" if name.endswith("0.jpg") else "train") for name in names]
    (finding,) = about_series(samples_of(names, parts=parts), given)
    assert finding.text.endswith(cure)


def test_a_few_torn_series_are_not_worth_a_word():
    few = named("{c}/{s}_{i}.jpg")
    alone = named("{c}/{s}{i}.jpg", series=40)
    assert torn_series(samples_of(few + alone)) is None


@given(st.integers(0, 10**6), st.sampled_from(sorted(NAMED)))
def test_what_is_advised_keeps_each_series_on_one_side(seed, group):
    pattern = {
        "folder": "{c}/v{s}/{i}.jpg",
        "first": "{c}/v{s}_{i}.jpg",
        "second": "{c}/v_{s}_{i}.jpg",
        "last": "{c}/v_w_x_{s}_{i}.jpg",
    }[group]
    samples = samples_of(named(pattern, series=10))
    advised, series = torn_series(samples)
    assert advised == group
    split, _ = complete_splits(group_by_name(samples, advised), 0.2, seed)
    parts = defaultdict(set)
    for sample in split:
        parts[sample.group].add(sample.split)
    assert sorted(parts) == sorted(series)
    assert all(len(sides) == 1 for sides in parts.values())
    assert torn_series(split) is None


def test_a_regular_expression_tells_series_too_and_leaves_the_others():
    samples = samples_of(["a/x1_0.png", "a/x1_1.png", "b/y.png"], groups=["", "", "table"])
    assert [one.group for one in group_by_name(samples, r"x(\d)")] == ["1", "1", "table"]
    assert [one.group for one in group_by_name(samples, "x.")] == ["x1", "x1", "table"]


@pytest.mark.parametrize(
    ("group", "said"),
    [
        ("(", ["no regular expression", "folder, first, second, last"]),
        ("nowhere", ["found in none of the names of 2 files", "a/1.png, a/2.png"]),
        ("last", ["found in none"]),
    ],
)
def test_what_finds_nothing_is_refused(group, said):
    with pytest.raises(ValueError, match=r"^group=") as raised:
        group_by_name(samples_of(["a/1.png", "a/2.png"]), group)
    assert all(text in str(raised.value) for text in said)


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    """Two classes with eight videos of four frames each."""
    folder = write_pictures(tmp_path_factory.mktemp("frames") / "data", count=32)
    for file in sorted(folder.rglob("*.png")):
        video, frame = divmod(int(file.stem), 4)
        file.rename(file.with_name(f"v{video}_{frame}.png"))
    return folder


def test_a_folder_of_frames_is_warned_of(frames, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["resnets", "check", str(frames)])
    with pytest.raises(SystemExit) as exit:
        cli.main()
    assert exit.value.code == 0
    assert "warning: by their names, most images belong to 8 series (v0, v1, v2 and 5 more)" in (
        capsys.readouterr().err
    )
    (finding,) = [one for one in check_images(find_data(frames)).findings if "series" in one.text]
    assert "resnets train --group first" in finding.text


def trained(frames, output, **more):
    """The split and the report of a short run."""
    words = {"epochs": 1, "size": 16, "weights": "none", "quiet": True, **more}
    run = resnets.train(frames, "resnet20", output=output, **words)
    with (run.folder / "split.csv").open(newline="") as file:
        return list(csv.DictReader(file)), (run.folder / "report.html").read_text("utf-8")


@pytest.mark.parametrize("group", ["auto", "first"])
def test_a_run_keeps_series_together_where_it_is_told_to(frames, tmp_path, group):
    rows, report = trained(frames, tmp_path, group=group)
    parts = defaultdict(Counter)
    for row in rows:
        parts[Path(row["file_name"]).name.split("_")[0]][row["split"]] += 1
    torn = [series for series, sides in parts.items() if len(sides) > 1]
    if group == "first":
        assert not torn
        assert "groups kept together" in report
    else:
        assert len(torn) > 4
    said = f"most images belong to {len(torn)} series"
    assert (said in report) == (group == "auto")


def test_a_validation_part_of_one_group_is_no_end_of_a_run(frames, tmp_path):
    """How much of it is familiar is measured on halves that share no group."""
    group = r"v(?=[0-3])|(?<=v)[4-7]"  # the first four videos together, the others each
    rows, report = trained(frames, tmp_path, group=group, val_fraction=0.5)
    held_out = [row["group"] for row in rows if row["split"] == "val"]
    assert len(held_out) == 32
    assert len(set(held_out)) == 1
    assert "nearly all validation images are of one group" in report
