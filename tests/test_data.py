"""Folders and tables to samples, what is wrong with them, and how they are split."""

import contextlib
import hashlib
import http.server
import io
import os
import pickle
import shutil
import socket
import sys
import tarfile
import threading
import time
import unicodedata
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from resnets.data import check as check_module
from resnets.data.check import check_images, look_at
from resnets.data.downloads import torchvision_folder
from resnets.data.duplicates import THUMBNAIL, find_pairs
from resnets.data.findings import PAIRS, SPLIT, UNUSABLE, about_names, about_split
from resnets.data.sources import find_data
from resnets.data.splits import (
    class_indices,
    complete_splits,
    hold_out,
    read_split,
    refuse_unknown_classes,
    samples_to_measure,
    split_csv,
    thin_out,
)
from resnets.kinds import KINDS
from resnets.kinds.sample import Annotation, Finding, Sample, annotate

CLASSES = KINDS["classes"]
linux = pytest.mark.skipif(
    sys.platform != "linux", reason="file names that are not UTF-8, and links, as on Linux"
)


def photo(seed, height=120, width=160, mean=128, contrast=50):
    """Something like a photograph: smooth random fields, a part of them common to the three
    colours."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(width), np.fft.fftfreq(height)))
    frequency[0, 0] = np.inf
    common = rng.normal(size=(height, width))
    layers = [
        np.fft.ifft2(
            np.fft.fft2(0.8 * common + 0.4 * rng.normal(size=(height, width))) / frequency**1.3
        ).real
        for _ in "rgb"
    ]
    pixels = mean + contrast * np.stack([layer / layer.std() for layer in layers], 2)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def save(path, image=None, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    (image or Image.new("RGB", (8, 8))).save(path, **options)
    return path


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def rows(found):
    return [(sample.name, sample.labels[0], sample.split, sample.group) for sample in found.samples]


def listing(root):
    return {
        str(path): (path.lstat().st_mtime_ns, path.lstat().st_size)
        for path in sorted(root.rglob("*"))
    }


# ---- layouts


def test_class_folders_flat_and_nested(tmp_path):
    touch(
        tmp_path,
        "dog/b.jpg",
        "dog/a/z.png",
        "dog/a/deep/er.webp",
        "cat/x.JPG",
        "cat/y.Jpeg",
        "cat/notes.txt",
        "cat/z.TIF",
    )
    found = find_data(tmp_path)
    assert rows(found) == [
        ("cat/x.JPG", "cat", "", ""),
        ("cat/y.Jpeg", "cat", "", ""),
        ("cat/z.TIF", "cat", "", ""),
        ("dog/a/deep/er.webp", "dog", "", ""),
        ("dog/a/z.png", "dog", "", ""),
        ("dog/b.jpg", "dog", "", ""),
    ]
    assert found.classes == ("cat", "dog")
    assert found.layout == "CLASS / images"
    assert [sample.path for sample in found.samples] == [
        tmp_path / sample.name for sample in found.samples
    ]
    assert find_data(str(tmp_path)).samples == found.samples


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (["train", "val", "test"], {"train", "val", "test"}),
        (["Training", "VALIDATION", "Testing"], {"train", "val", "test"}),
        (["TRAIN", "valid"], {"train", "val"}),
        (["train", "dev", "eval"], {"train", "val", "test"}),
        (["train", "evaluation"], {"train", "test"}),
        (["val"], {"val"}),
        (["Test"], {"test"}),
    ],
)
def test_parts_by_their_usual_names_in_any_case(tmp_path, names, splits):
    for name in names:
        touch(tmp_path, f"{name}/cat/1.jpg", f"{name}/dog/2.jpg")
    found = find_data(tmp_path)
    assert {sample.split for sample in found.samples} == splits
    assert all(sample.labels[0] == sample.name.split("/")[1] for sample in found.samples)
    assert len(found.samples) == 2 * len(names)
    assert all(name in found.layout for name in names)


def test_a_folder_beside_train_is_left_out_and_said(tmp_path):
    touch(tmp_path, *(f"train/{label}/{number}.jpg" for label in "ab" for number in range(5)))
    touch(tmp_path, "docs/2.jpg", "docs/readme.txt")
    found = find_data(tmp_path)
    assert len(found.samples) == 10
    assert found.notes == ("left out, not part of the data: docs",)
    assert found.left_out == {}


def test_a_class_may_be_called_like_a_part(tmp_path):
    touch(tmp_path, "test/1.jpg", "pass/1.jpg", "fail/1.jpg")
    assert find_data(tmp_path).classes == ("fail", "pass", "test")


def layout_of(root, **counts):
    """`bus=12` images directly in a folder, `train_x=12` in a folder x of it."""
    for place, count in counts.items():
        touch(root, *(f"{place.replace('_', '/')}/{number}.jpg" for number in range(count)))
    return find_data(root)


@pytest.mark.parametrize(
    ("counts", "classes"),
    [
        ({"bus": 12, "car": 12, "train": 12}, ("bus", "car", "train")),
        (
            {"airplane": 12, "train": 12, "train_more": 1, "truck": 12},
            ("airplane", "train", "truck"),
        ),
        ({"bus": 3, "train": 3, "train_a": 2, "train_b": 1}, ("bus", "train")),
        ({"pass": 5, "fail": 5, "test_day": 3, "test_night": 3}, ("fail", "pass", "test")),
        ({"val": 4, "eval": 4, "dev": 4, "other": 4}, ("dev", "eval", "other", "val")),
    ],
)
def test_a_class_called_train_val_or_test_beside_others(tmp_path, counts, classes):
    found = layout_of(tmp_path, **counts)
    assert found.classes == classes
    assert len(found.samples) == sum(counts.values())
    assert {sample.split for sample in found.samples} == {""}
    assert found.notes == ()


@pytest.mark.parametrize(
    ("counts", "parts", "notes"),
    [
        (
            {"train_a": 9, "train_b": 9, "val_a": 2, "unlabelled": 99},
            {"train", "val"},
            ["unlabelled"],
        ),
        ({"train_a": 9, "train_b": 9, "test": 50}, {"train"}, ["50 images in test"]),
        ({"train_a": 30, "train_b": 30, "docs": 2}, {"train"}, ["docs"]),
        ({"train_a": 9, "train_b": 9, "train": 2}, {"train"}, ["2 images in train"]),
    ],
)
def test_parts_stay_parts_whatever_lies_beside_them(tmp_path, counts, parts, notes):
    found = layout_of(tmp_path, **counts)
    assert {sample.split for sample in found.samples} == parts
    assert found.classes == ("a", "b")
    assert len(found.notes) == len(notes)
    assert all(words in note for words, note in zip(notes, found.notes, strict=True))


def test_a_folder_train_that_may_be_a_class_or_a_part_is_refused(tmp_path):
    with pytest.raises(
        ValueError, match=r"train holds folders with images, and so do bus, car"
    ) as e:
        layout_of(tmp_path, bus=12, car=12, train_steam=9, train_diesel=9)
    assert (
        "If train is a part of the data, move the others elsewhere; if it is a class, give"
        in str(e.value)
    )
    (tmp_path / "train").rename(tmp_path / "train_class")
    assert find_data(tmp_path).classes == ("bus", "car", "train_class")


@linux
def test_class_names_that_look_alike_letter_by_letter_are_one_class(tmp_path):
    composed, taken_apart = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    touch(
        tmp_path, f"{composed}/1.jpg", f"{taken_apart}/2.jpg", f"{taken_apart}/3.jpg", "tea/4.jpg"
    )
    found = find_data(tmp_path)
    assert found.counts() == {"all": {composed: 3, "tea": 1}}
    assert found.notes == (
        f"read as one class, though its name is written in several ways: {composed}",
    )
    assert (found.samples[0].path).parent.name in (composed, taken_apart)
    assert all(sample.path.is_file() for sample in found.samples)
    for form in (composed, taken_apart):  # also of a model that was trained before
        assert class_indices(found.samples, ["tea", form]).tolist() == [1, 1, 1, 0]
    (tmp_path / "labels.csv").write_text(
        f"file,label\n1.jpg,{composed}\n2.jpg,{taken_apart}\n", encoding="utf-8"
    )
    assert find_data(tmp_path).classes == (composed,)


@linux
def test_the_same_name_in_two_parts_is_no_twin(tmp_path):
    taken_apart = unicodedata.normalize("NFD", "café")
    touch(tmp_path, f"train/{taken_apart}/1.jpg", f"val/{taken_apart}/2.jpg", "train/tea/4.jpg")
    assert find_data(tmp_path).notes == ()


@pytest.mark.parametrize(
    ("names", "warned"),
    [
        (("Cat", "cat"), True),
        (("red blood cell", "red  blood cell"), True),
        (("cat", "cat "), True),
        (("grizzly_bear", "grizzly bear", "Grizzly-Bear"), True),
        (("STRASSE", "straße"), True),
        (("cat", "cats"), False),
    ],
)
def test_classes_that_people_take_for_one_are_a_warning(names, warned):
    """No refusal: letters may be told apart by their case."""
    found = [finding.text for finding in about_names(("zebra", *names))]
    assert len(found) == warned
    assert all(repr(name) in text for text in found for name in names)


def test_classes_are_those_of_training(tmp_path):
    touch(tmp_path, "train/b/1.jpg", "train/c/1.jpg", "val/a/1.jpg", "val/c/1.jpg")
    assert find_data(tmp_path).classes == ("b", "c")


def test_hidden_files_and_folders_are_passed_over(tmp_path):
    touch(tmp_path, "a/1.jpg", "a/.2.jpg", "a/._1.jpg", ".git/x.jpg", "a/.thumbs/3.jpg", "b/1.jpg")
    assert [sample.name for sample in find_data(tmp_path).samples] == ["a/1.jpg", "b/1.jpg"]


def test_names_of_any_script(tmp_path):
    touch(tmp_path, "고양이/첫 번째.jpg", "perro grande/ñ.jpg", "\N{CAT}/\N{DOG}.png")
    assert [(s.name, s.labels[0]) for s in find_data(tmp_path).samples] == [
        ("perro grande/ñ.jpg", "perro grande"),
        ("고양이/첫 번째.jpg", "고양이"),
        ("\N{CAT}/\N{DOG}.png", "\N{CAT}"),
    ]


def test_empty_class_folders_and_loose_pictures_are_noted(tmp_path):
    touch(tmp_path, "a/1.jpg", "b/1.jpg", "c/readme.txt", "loose.jpg", "list.txt")
    found = find_data(tmp_path)
    assert found.classes == ("a", "b")
    assert found.notes == (
        f"left out, in no class folder: 1 image in {tmp_path.name}",
        "no images in c",
    )
    assert found.left_out == {".txt": 2}


def test_wordnet_ids_get_their_names(tmp_path):
    touch(tmp_path, "n01440764/1.jpg", "n02123045/1.jpg", "n99999999/1.jpg", "tench/2.jpg")
    assert find_data(tmp_path).classes == ("n99999999", "tabby", "tench")
    samples = find_data(tmp_path).samples
    assert class_indices(samples, ["n02123045", "tench", "n99999999"]).tolist() == [1, 0, 2, 1]


@linux
def test_links_are_followed_and_circles_left(tmp_path):
    elsewhere = touch(tmp_path / "elsewhere", "1.jpg", "more/2.jpg")
    root = touch(tmp_path / "data", "a/0.jpg", "b/0.jpg")
    (root / "a" / "linked").symlink_to(elsewhere)
    (root / "a" / "back").symlink_to(root / "a")
    (root / "a" / "up").symlink_to(root)
    (root / "a" / "self").symlink_to("self")
    (root / "c").symlink_to(elsewhere)
    (root / "b" / "broken.jpg").symlink_to("nowhere.jpg")
    names = [sample.name for sample in find_data(root).samples]
    assert {
        "a/linked/1.jpg",
        "a/linked/more/2.jpg",
        "c/1.jpg",
        "c/more/2.jpg",
        "b/broken.jpg",
    } <= set(names)
    assert len(names) == len(set(names)) < 30


def test_gifs_are_counted_with_the_cure_and_refused_where_a_table_names_them(tmp_path):
    save(tmp_path / "a" / "x.gif")
    for label in "ab":
        save(tmp_path / label / "y.png")
    assert "left out: 1 .gif (convert what is not read to PNG or JPEG)" in findings(
        tmp_path, "warning"
    )
    (tmp_path / "t.csv").write_text("file,label\na/x.gif,a\nb/y.png,b\n")
    check = check_images(find_data(tmp_path / "t.csv"))
    assert [fact.error[:3] for fact in check.facts] == ["GIF", ""]


# ---- nothing there


def error_of(source):
    with pytest.raises(ValueError, match=r".") as error:
        find_data(source)
    return str(error.value)


def test_what_is_not_there_is_said_with_the_cure(tmp_path):
    assert "put the images of each class into a folder of its own" in error_of(tmp_path)
    touch(tmp_path, "loose.jpg")
    assert "no class folder with images" in error_of(tmp_path)
    assert error_of(tmp_path / "nope") == f"no such folder or file: {tmp_path / 'nope'}"
    assert error_of("cifra10").endswith("cifra10; did you mean cifar10 or cifar100?")
    assert "allowed: cifar10, cifar100" in error_of("zzz")
    (tmp_path / "x.jpg").touch()
    assert "data are a folder of class folders, or a .csv or .tsv" in error_of(tmp_path / "x.jpg")


# ---- tables


@pytest.mark.parametrize(
    "file", ["file_name", "filename", "file", "path", "image", "Image", " File_Name "]
)
@pytest.mark.parametrize("label", ["label", "class", "Label"])
@pytest.mark.parametrize(("suffix", "mark"), [("csv", ","), ("tsv", "\t")])
def test_columns_by_their_usual_names(tmp_path, file, label, suffix, mark):
    table = tmp_path / f"data.{suffix}"
    table.write_text(
        f"number{mark}{label}{mark}{file}\n1{mark}dog{mark}b/2.jpg\n2{mark}cat{mark}a/1.jpg\n"
    )
    assert rows(find_data(table)) == [("a/1.jpg", "cat", "", ""), ("b/2.jpg", "dog", "", "")]
    assert find_data(table).samples[0].path == tmp_path / "a" / "1.jpg"


def test_split_and_group_columns_bom_blank_lines_and_windows_line_ends(tmp_path):
    (tmp_path / "labels.csv").write_bytes(
        b"\xef\xbb\xbffile_name,label,split,group\r\n1.jpg,a,Train,p1\r\n\r\n2.jpg,b,VALID,p2\r\n3.jpg,"
        b" b ,test,\r\n"
    )
    expected = [
        ("1.jpg", "a", "train", "p1"),
        ("2.jpg", "b", "val", "p2"),
        ("3.jpg", "b", "test", ""),
    ]
    assert rows(find_data(tmp_path)) == rows(find_data(tmp_path / "labels.csv")) == expected


@pytest.mark.parametrize("name", ["labels.csv", "labels.tsv", "metadata.csv", "metadata.tsv"])
def test_a_table_in_a_folder_goes_before_its_folders(tmp_path, name):
    touch(tmp_path, "a/1.jpg", "b/2.jpg")
    (tmp_path / name).write_text(
        "file_name,label\na/1.jpg,one\n".replace(",", "\t" if name.endswith("tsv") else ",")
    )
    assert find_data(tmp_path).classes == ("one",)


def test_names_in_tables_may_hold_anything(tmp_path):
    names = [
        "a,b.jpg",
        'say "x".jpg',
        "two\nlines.jpg",
        "car\rriage.jpg",
        "line\u2028separator\x85.jpg",
        "고양이.jpg",
    ]
    with (tmp_path / "t.csv").open("w", encoding="utf-8", newline="") as file:
        import csv

        csv.writer(file).writerows([("file", "label"), *((name, "x") for name in names)])
    assert {sample.name for sample in find_data(tmp_path / "t.csv").samples} == set(names)


def test_absolute_names_stand_for_themselves(tmp_path):
    (tmp_path / "t.csv").write_text(f"file,label\n{tmp_path / 'x.jpg'},a\n")
    assert find_data(tmp_path / "t.csv").samples[0].path == tmp_path / "x.jpg"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "file_name,breed\n1.jpg,x\n",
            ["columns are file_name, breed", "file_name and label are needed"],
        ),
        ("", ["columns are missing"]),
        ("file,label\n", ["no lines below its header"]),
        ("file,label\n1.jpg,a\n\n2.jpg\n", ["line 4", "file name and a label are needed"]),
        ("file,label\n1.jpg,\n", ["line 2", "needed in every line"]),
        ('file,label\n"two\nlines.jpg",a\n,b\n', ["line 4"]),
        ("file,label,split\n1.jpg,a,trian\n", ["line 2", "'trian'", "did you mean train"]),
        (
            "file,label,split\n1.jpg,a,train\n2.jpg,b,\n",
            ["some lines have a split and some have none"],
        ),
        ('file,label\n"1.jpg,a\n' + "x" * 200_000, ["not a table with commas"]),
    ],
)
def test_tables_that_cannot_be_used(tmp_path, text, words):
    table = tmp_path / "t.csv"
    table.write_text(text)
    message = error_of(table)
    assert message.startswith(str(table))
    assert all(word in message for word in words), message


def test_a_table_that_is_not_utf8(tmp_path):
    (tmp_path / "t.csv").write_bytes("file,label\nñ.jpg,a\n".encode("latin-1"))
    assert "save the table as UTF-8" in error_of(tmp_path / "t.csv")


# ---- splits


def samples_of(classes, groups=None):
    return [
        Sample(Path(f"{i}.png"), f"{i}.png", annotate(label), "", groups[i] if groups else "")
        for i, label in enumerate(classes)
    ]


@settings(max_examples=60, deadline=None)
@given(
    counts=st.lists(st.integers(1, 80), min_size=1, max_size=5),
    fraction=st.floats(0.01, 0.9),
    seed=st.integers(0, 2**40),
)
def test_held_out_parts_are_stratified_and_reproducible(counts, fraction, seed):
    samples = samples_of([f"c{k}" for k, count in enumerate(counts) for _ in range(count)])
    held = hold_out(samples, fraction, seed)
    assert held == hold_out(samples, fraction, seed)
    assert [(s.path, s.name, s.labels[0]) for s in held] == [
        (s.path, s.name, s.labels[0]) for s in samples
    ]
    assert {s.split for s in held} <= {"train", "val"}
    found = Counter(s.labels[0] for s in held if s.split == "val")
    for k, count in enumerate(counts):
        assert found[f"c{k}"] == min(count - 1, max(1, round(fraction * count)))


def test_another_seed_holds_out_others():
    samples = samples_of(["a"] * 50 + ["b"] * 50)
    chosen = {
        tuple(s.name for s in hold_out(samples, 0.2, seed) if s.split == "val")
        for seed in range(20)
    }
    assert len(chosen) == 20


@settings(max_examples=100, deadline=None)
@given(data=st.data(), fraction=st.floats(0.05, 0.6), seed=st.integers(0, 1000))
def test_groups_never_cross_a_split(data, fraction, seed):
    classes = data.draw(st.lists(st.sampled_from("abc"), min_size=2, max_size=60))
    groups = data.draw(
        st.lists(
            st.sampled_from(["", *map(str, range(12))]),
            min_size=len(classes),
            max_size=len(classes),
        )
    )
    held = hold_out(samples_of(classes, groups), fraction, seed)
    for group in set(groups) - {""}:
        assert len({s.split for s in held if s.group == group}) == 1
    for label in set(classes):  # training keeps something of every class
        assert any(s.split == "train" for s in held if s.labels[0] == label)


@settings(max_examples=100, deadline=None)
@given(
    sizes=st.lists(st.lists(st.integers(1, 30), min_size=1, max_size=6), min_size=1, max_size=4),
    fraction=st.floats(0.05, 0.6),
    seed=st.integers(0, 1000),
)
def test_a_class_with_two_groups_is_measured(sizes, fraction, seed):
    places = [
        (f"c{k}", f"c{k} g{g}")
        for k, groups in enumerate(sizes)
        for g, size in enumerate(groups)
        for _ in range(size)
    ]
    held = hold_out(samples_of(*zip(*places, strict=True)), fraction, seed)
    for k, groups in enumerate(sizes):
        parts = {s.split for s in held if s.labels[0] == f"c{k}"}
        assert parts == ({"train", "val"} if len(groups) > 1 else {"train"})


def test_groups_of_even_size_come_near_the_fraction():
    places = [("ab"[g % 2], f"g{g}") for g in range(60) for _ in range(5)]
    held = hold_out(samples_of(*zip(*places, strict=True)), 0.2, 0)
    assert Counter(s.labels[0] for s in held if s.split == "val") == {"a": 30, "b": 30}


def shown_of(label_sets):
    return [
        Sample(Path(f"{i}.png"), f"{i}.png", annotate(*labels))
        for i, labels in enumerate(label_sets)
    ]


@settings(max_examples=100, deadline=None)
@given(
    label_sets=st.lists(st.lists(st.sampled_from("abcde"), max_size=6), min_size=1, max_size=60),
    fraction=st.floats(0.05, 0.6),
    seed=st.integers(0, 1000),
)
def test_any_number_of_labels_is_divided(label_sets, fraction, seed):
    samples = shown_of(label_sets)
    held = hold_out(samples, fraction, seed)
    assert held == hold_out(samples, fraction, seed)
    assert [replace(sample, split="") for sample in held] == samples
    for label in {label for labels in label_sets for label in labels}:  # training keeps some of all
        assert any(s.split == "train" for s in held if label in s.labels)
    without = [sample.split for sample in held if not sample.labels]
    expected = min(len(without) - 1, max(1, round(fraction * len(without))))
    assert without.count("val") == (expected if without else 0)


def test_images_are_counted_and_not_their_annotations():
    """A label that is there ten times in an image is no ten images."""
    held = hold_out(shown_of([["a"] * 10, *[["a"]] * 9, *[["b"]] * 10]), 0.2, 0)
    assert Counter(s.labels[0] for s in held if s.split == "val") == {"a": 2, "b": 2}
    assert hold_out(shown_of([["a", "a"]]), 0.5, 0)[0].split == "train"


def test_several_labels_come_near_the_fraction():
    rng = np.random.default_rng(0)
    frequency = dict(zip("abcdefgh", (0.5, 0.4, 0.3, 0.2, 0.15, 0.1, 0.1, 0.05), strict=True))
    samples = shown_of([[k for k, p in frequency.items() if rng.random() < p] for _ in range(1000)])
    for seed in range(5):
        held = hold_out(samples, 0.2, seed)
        total = Counter(label for s in held for label in s.labels or ("none",))
        found = Counter(label for s in held if s.split == "val" for label in s.labels or ("none",))
        assert all(abs(found[label] / total[label] - 0.2) < 0.05 for label in total), found


def test_parts_that_the_data_name_are_kept():
    samples = [
        Sample(Path(str(i)), str(i), annotate("ab"[i % 2]), ("train", "val", "test")[i % 3])
        for i in range(60)
    ]
    assert complete_splits(samples, 0.2, 0) == (samples, "as the data say")
    test = [s for s in samples if s.split != "val"]
    completed, words = complete_splits(test, 0.3, 7)
    assert words == "30.0% of each class held out for validation (seed 7)"
    assert Counter(s.split for s in completed) == {"train": 14, "val": 6, "test": 20}
    assert {s.name for s in completed if s.split == "test"} == {
        s.name for s in samples if s.split == "test"
    }


def test_no_more_than_enough_is_held_out():
    samples = samples_of("ab" * 15_000)
    completed, words = complete_splits(samples, 0.2, 0)
    assert Counter(s.split for s in completed) == {"train": 25_000, "val": 5_000}
    assert words.startswith("16.7% of each class")


def test_groups_are_mentioned():
    samples = samples_of("ab" * 10, [f"g{i // 4}" for i in range(20)])
    assert complete_splits(samples, 0.2, 0)[1].endswith("groups kept together")


def test_a_split_is_virtual(tmp_path):
    for label in ("a", "b"):
        for number in range(12):
            save(tmp_path / label / f"{number}.png", photo(number + (label == "b") * 100, 20, 24))
    before = listing(tmp_path)
    samples, _ = complete_splits(check_images(find_data(tmp_path)).usable(), 0.2, 0)
    split_csv(samples)
    assert {s.split for s in samples} == {"train", "val"}
    assert listing(tmp_path) == before


STRANGE = [
    "plain.jpg",
    "a,b.jpg",
    'say "x".jpg',
    "two\nlines.jpg",
    "return\r.jpg",
    "both\r\n.jpg",
    " 고양이 .jpg",
    "n\udcff\udc80t.jpg",
]


@settings(max_examples=60, deadline=None)
@given(
    names=st.lists(
        st.one_of(
            st.sampled_from(STRANGE),
            st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1),
        ),
        min_size=1,
    )
)
def test_split_csv_and_back(names, tmp_path_factory):
    from resnets.files import write_file

    samples = [
        Sample(Path("/data") / name, name, annotate(name[::-1]), ("train", "val")[i % 2], name[:2])
        for i, name in enumerate(names)
    ]
    path = tmp_path_factory.getbasetemp() / "split.csv"
    write_file(path, split_csv(samples))
    assert read_split(path) == samples


@settings(max_examples=100, deadline=None)
@given(
    label_sets=st.lists(
        st.lists(
            st.one_of(
                st.sampled_from(
                    ["a|b", "|", 'say "x"', "two\nlines", "return\r", "고양이", "a,b", " "]
                ),
                st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
            ),
            max_size=4,
        ),
        min_size=1,
    )
)
def test_split_csv_of_any_number_of_labels_and_back(label_sets, tmp_path_factory):
    from resnets.files import write_file

    samples = [
        Sample(Path(f"/data/{i}.jpg"), f"{i}.jpg", annotate(*labels), "train", "g")
        for i, labels in enumerate(label_sets)
    ]
    path = tmp_path_factory.getbasetemp() / "split.csv"
    write_file(path, split_csv(samples, {samples[0].path: "1f"}))
    assert read_split(path) == samples
    header = path.read_text("utf-8").splitlines()[0].replace('"', "").split(",")
    plain = all(len(labels) == 1 for labels in label_sets)
    more = [] if plain else ["annotations"]
    assert header == ["file_name", "label", "split", "group", "path", "digest", *more]


@pytest.mark.parametrize(
    "cell",
    ["", "x", "1", "null", '"a"', "{}", '{"label": "a"}', '["a"]', "[1]", "[{}]", "[[]]"]
    + ['[{"label": 1}]', '[{"label": null}]', '[{"label": "a", "labl": "b"}]', '[{"label": "a"}'],
)
def test_annotations_that_cannot_be_read_name_the_image(tmp_path, cell):
    text = split_csv(shown_of([["a", "b"]]))
    whole = '"' + '[{"label": "a"}, {"label": "b"}]'.replace('"', '""') + '"'
    assert whole in text
    path = tmp_path / "split.csv"
    path.write_text(text.replace(whole, '"' + cell.replace('"', '""') + '"'))
    with pytest.raises(ValueError, match=r"split.csv, 0.png: annotations .*restore the file"):
        read_split(path)


def test_an_annotation_is_written_without_its_defaults():
    assert Annotation("a").to_dict() == {"label": "a"}
    assert Annotation.from_dict({"label": "a"}) == Annotation("a")


def test_a_split_finds_its_pictures_from_any_folder(tmp_path, monkeypatch):
    save(tmp_path / "photos" / "a" / "1.png", photo(1, 8, 8))
    monkeypatch.chdir(tmp_path)
    Path("split.csv").write_text(split_csv(find_data("photos").samples), encoding="utf-8")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert [sample.path.is_file() for sample in read_split(tmp_path / "split.csv")] == [True]


@linux
def test_file_names_that_are_not_utf8_survive(tmp_path):
    from resnets.files import write_file

    folder = os.fsencode(tmp_path) + b"/data/a"
    Path(os.fsdecode(folder)).mkdir(parents=True)
    with open(folder + b"/caf\xe9.png", "wb") as file:
        Image.new("RGB", (4, 4)).save(file, "PNG")
    samples = list(find_data(tmp_path / "data").samples)
    write_file(tmp_path / "split.csv", split_csv(samples))
    again = read_split(tmp_path / "split.csv")
    assert again == samples
    assert again[0].path.is_file()
    assert b"caf\xe9" in (tmp_path / "split.csv").read_bytes()


def test_classes_go_by_name_and_never_by_the_order_of_folders(tmp_path):
    touch(tmp_path, "train/b/1.jpg", "train/c/1.jpg", "train/d/1.jpg", "val/d/1.jpg", "val/c/1.jpg")
    found = find_data(tmp_path)
    held_out = [s for s in found.samples if s.split == "val"]
    assert [
        (s.labels[0], i)
        for s, i in zip(held_out, class_indices(held_out, found.classes), strict=True)
    ] == [("c", 1), ("d", 2)]
    with pytest.raises(ValueError, match=r"classes the model does not know: b; it knows: c, d"):
        class_indices(found.samples, ["c", "d"])


def test_classes_that_a_model_does_not_know():
    samples = shown_of([["a", "b"], [], ["b", "c", "c"]])
    refuse_unknown_classes(samples, ("a", "b", "c"))
    refuse_unknown_classes([], ())
    with pytest.raises(ValueError, match=r"^classes the model does not know: a, c; it knows: b$"):
        refuse_unknown_classes(samples, ("b",))


def test_what_is_measured(tmp_path):
    touch(tmp_path / "parts", "train/a/1.jpg", "val/a/2.jpg", "test/a/3.jpg", "test/a/4.jpg")
    assert [s.name for s in samples_to_measure(tmp_path / "parts", None)[1]] == [
        "test/a/3.jpg",
        "test/a/4.jpg",
    ]
    assert [s.name for s in samples_to_measure(tmp_path / "parts", "val")[1]] == ["val/a/2.jpg"]
    shutil.rmtree(tmp_path / "parts" / "test")
    assert samples_to_measure(tmp_path / "parts", None)[2] == "val"
    with pytest.raises(ValueError, match=r"has no split 'test'; it has train, val"):
        samples_to_measure(tmp_path / "parts", "test")
    touch(tmp_path / "flat", "a/1.jpg")
    assert samples_to_measure(tmp_path / "flat", None)[2] == "all"
    with pytest.raises(
        ValueError, match=r"has no split 'val'; it has no splits; leave out --split"
    ):
        samples_to_measure(tmp_path / "flat", "val")


# ---- check


def findings(root, severity=None):
    return [
        f.text for f in check_images(find_data(root)).findings if severity in (None, f.severity)
    ]


@pytest.fixture
def good(tmp_path):
    """Two classes with 12 pictures each, in which nothing is to be found."""
    for k, label in enumerate(("cat", "dog")):
        for number in range(12):
            save(
                tmp_path / "good" / label / f"{number:02d}.jpg", photo(100 * k + number), quality=92
            )
    return tmp_path / "good"


def test_a_good_folder_has_no_findings(good):
    check = check_images(find_data(good))
    assert check.findings == ()
    assert check.pairs == ()
    values = check.to_dict()
    assert values["counts"] == {"all": {"cat": 12, "dog": 12}}
    assert values["size"] == {"min": [160, 120], "median": [160, 120], "max": [160, 120]}
    assert (values["pictures"], values["unusable"], values["classes"]) == (24, 0, ["cat", "dog"])
    assert len(check.usable()) == 24


def test_progress_is_told(good):
    told = []
    check_images(find_data(good), told.append, workers=3)
    assert told == list(range(1, 25))


def test_unusable_files_are_counted_by_reason_and_left_out(good):
    whole = (good / "cat" / "00.jpg").read_bytes()
    for name, content in {
        "cut1.jpg": whole[:3000],
        "cut2.jpg": whole[:3500],
        "empty.jpg": b"",
        "text.jpg": b"hello",
    }.items():
        (good / "cat" / name).write_bytes(content)
    (good / "dog" / "gone.jpg").symlink_to("nowhere")
    check = check_images(find_data(good))
    texts = [f.text for f in check.findings]
    assert [f.severity for f in check.findings] == ["warning"] * 4
    assert (
        "unusable, skipped: not readable as an image (image file is truncated) (cat/cut1.jpg,"
        " cat/cut2.jpg)" in texts
    )
    assert "unusable, skipped: empty file (cat/empty.jpg)" in texts
    assert any(
        text.startswith("unusable, skipped: not readable as an image (none of BMP")
        for text in texts
    )
    assert "unusable, skipped: no such file (dog/gone.jpg)" in texts
    assert check.to_dict()["unusable"] == 5
    assert len(check.usable()) == 24


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes on this system")
def test_a_pipe_does_not_stop_the_check(good):
    os.mkfifo(good / "cat" / "pipe.jpg")
    assert findings(good) == [
        "unusable, skipped: a folder, a pipe or a device, not a file (cat/pipe.jpg)"
    ]


def test_what_was_done_to_pictures_is_noted(good):
    for number in range(5):
        exif = Image.Exif()
        exif[0x0112] = 6
        save(good / "cat" / f"turned{number}.jpg", photo(500 + number), exif=exif)
    names = "cat/turned0.jpg, cat/turned1.jpg, cat/turned2.jpg and 2 more"
    assert findings(good) == [f"turned upright (EXIF) ({names})"]


COPIES = {
    "exact": ("exact", None),
    "jpeg": ("near", lambda image: (image, {"quality": 50})),
    "half": (
        "near",
        lambda image: (image.resize((image.width // 2, image.height // 2)), {"quality": 92}),
    ),
    "brighter": ("near", lambda image: (image.point(lambda v: min(255, v + 10)), {"quality": 92})),
    "mirror": (
        "mirrored",
        lambda image: (image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), {"quality": 92}),
    ),
}


@pytest.mark.parametrize("copy", COPIES)
@pytest.mark.parametrize("where", ["within", "class", "split"])
def test_copies_are_found_within_a_class_and_across_classes_and_parts(tmp_path, copy, where):
    for k, label in enumerate(("cat", "dog")):
        for part in ("train", "val"):
            for number in range(12):
                save(
                    tmp_path / part / label / f"{number:02d}.jpg",
                    photo(100 * k + number + 50 * (part == "val")),
                    quality=92,
                )
    source = tmp_path / "train" / "cat" / "03.jpg"
    name = {"within": "train/cat", "class": "train/dog", "split": "val/cat"}[where] + "/copy.jpg"
    kind, change = COPIES[copy]
    if change is None:
        shutil.copy(source, tmp_path / name)
    else:
        image, options = change(Image.open(source))
        image.save(tmp_path / name, **options)
    check = check_images(find_data(tmp_path))
    assert check.to_dict()["pairs"] == [{"kind": kind, "files": sorted(["train/cat/03.jpg", name])}]
    (finding,) = check.findings
    pair = " ~ ".join(sorted(["train/cat/03.jpg", name]))
    assert finding.files == (f"{pair} ({kind})",)
    assert (finding.severity, finding.text) == {
        "within": ("note", "1 pair alike within a class; kept on one side of a split"),
        "class": ("warning", "1 pair alike, but of different classes"),
        "split": ("warning", "1 pair alike across train and val: the measurement is too good"),
    }[where]


def test_other_formats_and_transparency_do_not_hide_a_copy(good):
    image = Image.open(good / "cat" / "05.jpg")
    save(good / "cat" / "copy.png", image.convert("RGBA"))
    save(good / "cat" / "grey.webp", image.convert("L"))
    kinds = {
        tuple(pair["files"]): pair["kind"]
        for pair in check_images(find_data(good)).to_dict()["pairs"]
    }
    assert kinds.pop(("cat/05.jpg", "cat/copy.png")) == "near"
    assert kinds.pop(("cat/05.jpg", "cat/grey.webp")) == "near"
    assert set(kinds) <= {("cat/copy.png", "cat/grey.webp")}


def test_flat_pictures_are_not_paired(good):
    for number in range(20):
        level = 100 + 3 * number
        save(good / "cat" / f"flat{number}.png", Image.new("RGB", (40, 40), (level, level, level)))
        noise = (
            np.random.default_rng(number)
            .normal(level, 2, (40, 40, 3))
            .clip(0, 255)
            .astype(np.uint8)
        )
        save(good / "dog" / f"sky{number}.png", Image.fromarray(noise))
    assert findings(good) == []


def test_a_symmetrical_picture_is_not_paired_with_itself(good):
    pixels = np.asarray(photo(900))
    save(good / "cat" / "face.png", Image.fromarray(np.concatenate([pixels, pixels[:, ::-1]], 1)))
    assert findings(good) == []


def test_six_hundred_unlike_photographs_are_not_paired():
    thumbnails = [
        photo(seed, 48, 54).resize(THUMBNAIL, Image.Resampling.BOX).convert("L")
        for seed in range(600)
    ]
    assert (
        find_pairs(
            [str(k).encode() for k in range(600)], np.stack([np.asarray(t) for t in thumbnails])
        )
        == []
    )


def test_equal_files_are_paired_with_the_first_of_them():
    thumbnails = np.random.default_rng(0).integers(0, 256, (4, *THUMBNAIL[::-1]), np.uint8)[
        [0, 1, 0, 0]
    ]
    pairs = find_pairs([b"x", b"y", b"x", b"x"], thumbnails)
    assert [(p.first, p.second, p.kind) for p in pairs] == [(0, 2, "exact"), (0, 3, "exact")]


def test_no_thumbnails_at_all():
    assert find_pairs([], np.zeros((0, *THUMBNAIL[::-1]), np.uint8)) == []


def test_copies_are_found_in_a_crowd():
    """Every tenth of 5,000 thumbnails comes again, with noise and brighter, behind all the
    others."""
    rng = np.random.default_rng(0)
    smooth = rng.integers(20, 220, (5000, 4, 5)).repeat(4, 1).repeat(4, 2)[:, :16, :18]
    first = (smooth + rng.normal(0, 5, smooth.shape)).clip(0, 255).astype(np.uint8)
    again = (first[::10] + rng.normal(0, 2, first[::10].shape) + 10).clip(0, 255).astype(np.uint8)
    thumbnails = np.concatenate([first, again])
    pairs = {
        (p.first, p.second)
        for p in find_pairs([str(k).encode() for k in range(len(thumbnails))], thumbnails)
    }
    wanted = {(10 * k, 5000 + k) for k in range(500)}
    assert len(wanted & pairs) >= 490
    assert len(pairs - wanted) <= 5


def test_time_grows_less_than_with_the_square():
    def seconds(count):
        rng = np.random.default_rng(0)
        thumbnails = rng.integers(0, 256, (count, *THUMBNAIL[::-1]), np.uint8)
        digests = [str(k).encode() for k in range(count)]
        best = float("inf")
        for _ in range(2):
            start = time.process_time()
            assert find_pairs(digests, thumbnails) == []
            best = min(best, time.process_time() - start)
        return best

    few, many = seconds(5_000), seconds(20_000)
    assert many < 5
    assert many < 6 * few


def test_classes_that_training_lacks_are_an_error(tmp_path):
    for number in range(12):
        for place, seed in (("train/a", 0), ("train/b", 100), ("val/a", 200), ("val/c", 300)):
            save(tmp_path / place / f"{number}.jpg", photo(seed + number, 40, 50))
    assert findings(tmp_path, "error") == ["classes in val that training data lack: c"]
    assert findings(tmp_path, "warning") == [
        "classes without a usable image in val, so they are not measured there: b"
    ]


def test_a_class_whose_training_pictures_are_all_broken_is_lacking(tmp_path):
    for number in range(12):
        for place, seed in (("train/a", 0), ("train/b", 100), ("val/a", 200), ("val/c", 300)):
            save(tmp_path / place / f"{number}.jpg", photo(seed + number, 40, 50))
    touch(tmp_path, "train/c/broken.jpg")
    assert findings(tmp_path, "error") == ["classes in val that training data lack: c"]


def test_one_class_and_no_training(tmp_path):
    for number in range(12):
        save(tmp_path / "one" / "a" / f"{number}.jpg", photo(number, 40, 50))
        save(tmp_path / "val" / "val" / "a" / f"{number}.jpg", photo(number, 40, 50))
    assert findings(tmp_path / "one") == [
        "one class only (a): at least two are needed to tell apart"
    ]
    assert findings(tmp_path / "val") == ["no usable image to train on, only for: val"]
    touch(tmp_path, "none/a/1.jpg", "none/b/1.jpg")
    assert findings(tmp_path / "none", "error") == [
        "no usable image to train on, no file could be read"
    ]


def test_a_class_that_is_never_measured_is_named_with_the_reason(tmp_path):
    """One image, or all alike: there is nothing to hold out, and it is said."""
    for number in range(12):
        for label, seed in (("a", 0), ("b", 100)):
            save(tmp_path / label / f"{number}.jpg", photo(seed + number, 40, 50))
        save(tmp_path / "alike" / f"{number}.jpg", photo(200, 40, 50), quality=70 + number)
    save(tmp_path / "single" / "1.jpg", photo(300, 40, 50))
    check = check_images(find_data(tmp_path))
    samples, _ = complete_splits(check.usable(), 0.25, 0)
    after = check.findings_after(samples)
    (finding,) = [one for one in after if one.text.startswith("classes without")]
    assert finding == Finding(
        "warning",
        "classes without a usable image in val, so they are not measured there: alike (12 images,"
        " all alike or of one group), single (1 image)",
        topic=SPLIT,
    )
    severities = [one.severity for one in after]
    assert severities == sorted(severities, key=["error", "warning", "note"].index)
    texts = [one.text for one in after]
    assert "fewer than 10 images for training: a, b, single" in texts  # 9 of 12 are left
    assert "fewer than 10 images for training: single" not in texts
    assert len(texts) == len(set(texts))


def test_what_is_said_of_given_parts_is_said_of_those_that_were_made(tmp_path):
    """The same samples, split by us or by the data: the same lines."""
    samples = samples_of(["a"] * 20 + ["b"] * 12 + ["c"], [""] * 32 + [""])
    made, _ = complete_splits(samples, 0.2, 0)
    assert [f.text for f in about_split(made, ("a", "b", "c"), CLASSES)] == [
        "classes without a usable image in val, so they are not measured there: c (1 image)",
        "fewer than 10 images for training: c",
        "imbalanced: a has 16 images, c has 1; read the balanced accuracy",
    ]
    assert about_split(samples, ("a", "b", "c"), CLASSES) == [
        Finding("warning", "fewer than 10 images for training: c", topic=SPLIT),
        Finding(
            "warning",
            "imbalanced: a has 20 images, c has 1; read the balanced accuracy",
            topic=SPLIT,
        ),
    ]
    given_ = [replace(sample, split="val") for sample in samples if sample.labels[0] != "c"]
    assert about_split([*made, *given_], ("a", "b", "c"), CLASSES)[0].text.startswith(
        "classes without"
    )


def test_given_parts_are_judged_once(good):
    check = check_images(find_data(good))
    parts = [replace(sample, split="train") for sample in check.found.samples]
    named = check_images(replace(check.found, samples=tuple(parts)))
    assert named.findings_after(named.usable()) == named.findings


def test_few_and_imbalanced(tmp_path):
    for label, count, seed in (("a", 33, 0), ("b", 3, 100), ("c", 10, 200)):
        for number in range(count):
            save(tmp_path / label / f"{number}.jpg", photo(seed + number, 40, 50))
    assert findings(tmp_path) == [
        "fewer than 10 images for training: b",
        "imbalanced: a has 33 images, b has 3; read the balanced accuracy",
    ]
    for number in range(3, 4):
        save(tmp_path / "b" / f"{number}.jpg", photo(150 + number, 40, 50))
    assert findings(tmp_path) == ["fewer than 10 images for training: b"]


def test_how_many_classes_are_enough_is_for_the_kind_to_say():
    samples = shown_of([["a"]] * 12)
    assert [f.severity for f in about_split(samples, ("a",), CLASSES)] == ["error"]
    assert about_split(samples, ("a",), replace(CLASSES, fewest_classes=1)) == []
    none = about_split(shown_of([[], []]), (), replace(CLASSES, fewest_classes=1))
    assert none == [Finding("error", "not one image to train on has a label", topic=SPLIT)]


def test_images_with_several_labels_count_once_for_each():
    samples = shown_of([["a", "a", "b"]] * 12 + [["a"]] * 120 + [[]] * 3)
    assert [f.text for f in about_split(samples, ("a", "b"), replace(CLASSES, name="labels"))] == [
        "imbalanced: a has 132 images, b has 12; read the numbers of each class"
    ]


def test_what_a_kind_finds_in_annotations_is_said(good, monkeypatch):
    (good / "cat" / "00.jpg").write_bytes(b"")

    def complain(samples, sizes):
        assert [sample.name for sample in samples][:2] == ["cat/01.jpg", "cat/02.jpg"]
        assert list(sizes) == [(160, 120)] * 23
        return [Finding("error", "a box outside of its image", ("cat/01.jpg",), "annotations")]

    monkeypatch.setitem(check_module.KINDS, "classes", replace(CLASSES, check=complain))
    check = check_images(find_data(good))
    assert check.findings[0].text == "a box outside of its image"
    assert [finding.topic for finding in check.findings] == ["annotations", UNUSABLE]
    assert check.findings_after(check.usable()) == check.findings


def test_findings_are_chosen_by_topic(good):
    shutil.copy(good / "cat" / "03.jpg", good / "dog" / "copy.jpg")
    (good / "dog" / "empty.jpg").touch()
    save(good / "rare" / "1.jpg", photo(900))
    topics = {f.topic: f.text for f in check_images(find_data(good)).findings}
    assert set(topics) == {PAIRS, UNUSABLE, SPLIT}
    assert topics[PAIRS] == "1 pair alike, but of different classes"
    assert topics[UNUSABLE].startswith("unusable, skipped: empty file")


def test_looking_at_images_searches_for_no_pairs(good, monkeypatch):
    def refuse(*_arguments):
        raise AssertionError("searched for pairs")

    monkeypatch.setattr(check_module, "find_pairs", refuse)
    told = []
    facts = look_at(find_data(good).samples, told.append, workers=2)
    assert [(fact.width, fact.height, fact.error) for fact in facts] == [(160, 120, "")] * 24
    assert told == list(range(1, 25))


def test_errors_come_first(tmp_path):
    save(tmp_path / "a" / "1.jpg")
    touch(tmp_path, "b/readme")
    severities = [f.severity for f in check_images(find_data(tmp_path)).findings]
    assert severities == ["error", "warning", "note", "note"]


def test_usable_keeps_like_pictures_on_one_side(good):
    for number in range(6):  # chains: 0 ~ copy ~ copy of the copy, across formats
        image = Image.open(good / "cat" / f"{number:02d}.jpg")
        save(good / "cat" / f"copy{number}.jpg", image, quality=60)
        save(good / "dog" / f"mirror{number}.png", image.transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    check = check_images(find_data(good))
    assert len(check.pairs) >= 12
    for seed in range(30):
        held = {s.name: s.split for s in hold_out(check.usable(), 0.3, seed)}
        for number in range(6):
            names = f"cat/{number:02d}.jpg", f"cat/copy{number}.jpg", f"dog/mirror{number}.png"
            assert len({held[name] for name in names}) == 1


def test_usable_joins_what_is_alike_with_what_the_table_groups(tmp_path):
    lines = ["file,label,group"]
    for number in range(12):
        save(tmp_path / f"{number}.jpg", photo(number // 2 if number in (2, 3) else number, 40, 50))
        lines.append(
            f"{number}.jpg,{'ab'[number % 2]},{'p1' if number < 3 else 'p2' if number in (3, 4) else ''}"
        )
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    groups = {s.name: s.group for s in check_images(find_data(tmp_path)).usable()}
    assert len({groups[f"{number}.jpg"] for number in range(5)}) == 1  # 2 ~ 3 joins both patients
    assert all(not groups[f"{number}.jpg"] for number in range(5, 12))


# ---- downloads


@contextlib.contextmanager
def serve(files):
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            content = files.get(self.path)
            self.send_response(200 if content is not None else 404)
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content or b"")

        do_HEAD = do_GET

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def tiny_cifar(monkeypatch, tmp_path):
    """torchvision's CIFAR10 with 20 + 10 pictures; the archive's bytes."""
    datasets = pytest.importorskip("torchvision.datasets", reason="training install")
    rng = np.random.default_rng(0)
    parts = {"data_batch_1": 20, "test_batch": 10}
    files = {
        name: pickle.dumps(
            {
                "data": rng.integers(0, 256, (n, 3072), np.uint8),
                "labels": [i % 10 for i in range(n)],
            }
        )
        for name, n in parts.items()
    }
    names = [
        "airplane",
        "automobile",
        "bird",
        "cat",
        "deer",
        "dog",
        "frog",
        "horse",
        "ship",
        "truck",
    ]
    files["batches.meta"] = pickle.dumps({"label_names": names})
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    md5 = {name: hashlib.md5(content).hexdigest() for name, content in files.items()}
    monkeypatch.setattr(datasets.CIFAR10, "train_list", [["data_batch_1", md5["data_batch_1"]]])
    monkeypatch.setattr(datasets.CIFAR10, "test_list", [["test_batch", md5["test_batch"]]])
    monkeypatch.setattr(
        datasets.CIFAR10, "meta", {**datasets.CIFAR10.meta, "md5": md5["batches.meta"]}
    )
    monkeypatch.setattr(datasets.CIFAR10, "tgz_md5", hashlib.md5(archive.getvalue()).hexdigest())
    monkeypatch.setenv("RESNETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("http_proxy", raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return datasets.CIFAR10, archive.getvalue(), pickle.loads(files["data_batch_1"])


def test_cifar10_becomes_a_folder_once(tiny_cifar, tmp_path, monkeypatch, capsys):
    cifar, archive, train = tiny_cifar
    with serve({"/cifar.tar.gz": archive}) as (url, asked):
        monkeypatch.setattr(cifar, "url", f"{url}/cifar.tar.gz")
        folder = torchvision_folder("cifar10")
        assert asked.count("/cifar.tar.gz") >= 1
        count = len(asked)
        found = find_data("CIFAR10")
        assert len(asked) == count
    said = capsys.readouterr()
    assert said.out == ""
    assert f"downloading cifar10 (torchvision.datasets.CIFAR10) into {folder}" in said.err
    assert torchvision_folder("cifar10") == folder == tmp_path / "cache" / "data" / "cifar10"
    assert {split: sum(c.values()) for split, c in found.counts().items()} == {
        "train": 20,
        "test": 10,
    }
    assert found.classes[:3] == ("airplane", "automobile", "bird")
    pixels = np.asarray(Image.open(folder / "train" / "bird" / "000012.png"))
    np.testing.assert_array_equal(pixels, train["data"][12].reshape(3, 32, 32).transpose(1, 2, 0))
    # no archive, nothing half-made
    assert [path.name for path in (tmp_path / "cache" / "data").iterdir()] == ["cifar10"]


def nothing_left(tmp_path):
    return [
        path
        for path in (tmp_path / "cache").rglob("*")
        if path.is_file() or path.name.startswith("cifar10")
    ] == []


def test_offline_says_how_to_bring_the_data_by_hand(tiny_cifar, tmp_path, monkeypatch):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setattr(
            tiny_cifar[0], "url", f"http://127.0.0.1:{unused.getsockname()[1]}/cifar.tar.gz"
        )
        with pytest.raises(
            ValueError,
            match=r"cifar10 could not be downloaded .*; put its images as PART/CLASS/\*.png into",
        ):
            torchvision_folder("cifar10")
    assert nothing_left(tmp_path)


def test_a_broken_download_leaves_nothing(tiny_cifar, tmp_path, monkeypatch):
    cifar, archive, _ = tiny_cifar
    with serve({"/cifar.tar.gz": archive[:-100]}) as (url, _):
        monkeypatch.setattr(cifar, "url", f"{url}/cifar.tar.gz")
        with pytest.raises(ValueError, match="could not be downloaded"):
            torchvision_folder("cifar10")
    assert nothing_left(tmp_path)
    with serve({"/cifar.tar.gz": archive}) as (url, _):
        monkeypatch.setattr(cifar, "url", f"{url}/cifar.tar.gz")
        assert torchvision_folder("cifar10").is_dir()  # the next try starts afresh


def test_an_interrupted_download_is_no_data_set(tiny_cifar, tmp_path, monkeypatch):
    cifar, archive, _ = tiny_cifar

    def stop(self, index):
        if index == 7:
            raise KeyboardInterrupt
        return Image.new("RGB", (32, 32)), index

    with serve({"/cifar.tar.gz": archive}) as (url, _):
        monkeypatch.setattr(cifar, "url", f"{url}/cifar.tar.gz")
        monkeypatch.setattr(cifar, "__getitem__", stop)
        with pytest.raises(KeyboardInterrupt):
            torchvision_folder("cifar10")
    assert nothing_left(tmp_path)


@given(
    counts=st.lists(st.integers(1, 60), min_size=1, max_size=4),
    share=st.floats(0, 1),
    fewest=st.integers(1, 10),
)
def test_a_share_of_the_images_has_all_classes_in_proportion(counts, share, fewest):
    samples = [
        Sample(Path(f"{label}{number}"), f"{label}{number}", (Annotation(str(label)),), split)
        for label, count in enumerate(counts)
        for split in ("train", "val")
        for number in range(count)
    ]
    kept = thin_out(samples, share, fewest)
    assert [one for one in samples if one in kept] == kept
    for label, count in enumerate(counts):
        for split in ("train", "val"):
            left = sum(one.split == split and one.labels == (str(label),) for one in kept)
            assert left == min(count, max(fewest, round(share * count)))
    assert thin_out(samples, 1.0, 1) == samples
