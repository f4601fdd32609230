"""Boxes of Pascal VOC, COCO, YOLO and tables: the same boxes whatever they are written in, and a
message for whatever cannot be read."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from layouts import coco, error_of, jpeg, voc, warnings_of, write
from shared_data import unpacked

from resnets.data.check import check_images, look_at
from resnets.data.duplicates import Pair
from resnets.data.findings import about_missing, about_pairs, about_sizes
from resnets.data.readers import READERS, Source
from resnets.data.sources import find_data
from resnets.data.splits import complete_splits, read_split, split_csv
from resnets.kinds.sample import Annotation, Sample, annotate


@pytest.fixture(scope="module")
def bccd():
    return unpacked("bccd") / "BCCD"


def boxes_of(found):
    """The boxes of each image, by the end of its name."""
    return {
        sample.name.rpartition("/")[2]: [(one.label, one.box) for one in sample.annotations]
        for sample in found.samples
    }


def splits_of(found):
    return {sample.name: sample.split for sample in found.samples}


# ---- Pascal VOC


def test_blood_cells_by_their_own_lists(bccd):
    found = find_data(bccd)
    assert (found.reader, found.kind, len(found.samples)) == ("voc", "boxes", 364)
    assert Counter(sample.split for sample in found.samples) == {
        "train": 205,
        "val": 87,
        "test": 72,
    }
    labels = Counter(label for sample in found.samples for label in sample.labels)
    assert labels == {"RBC": 4155, "WBC": 372, "Platelets": 361}
    assert found.classes == ("Platelets", "RBC", "WBC")
    assert {sample.size for sample in found.samples} == {(640, 480)}
    assert (found.findings, found.notes, found.left_out) == ((), (), {})
    boxes = boxes_of(found)["BloodImage_00117.jpg"]
    assert boxes[:2] == [("RBC", (506, 62, 609, 180)), ("RBC", (425, 382, 528, 480))]
    empty = [one for own in boxes_of(found).values() for one in own if one[1][2] <= one[1][0]]
    assert empty == [("RBC", (503, 336, 503, 336)), ("RBC", (180, 328, 180, 328))]
    samples, how = complete_splits(found.samples, 0.2, 0)
    assert (samples, how) == (list(found.samples), "as the data say")


def test_the_empty_boxes_among_the_blood_cells_are_told(bccd):
    check = check_images(find_data(bccd))
    empty = [f"JPEGImages/BloodImage_00{n}.jpg" for n in (338, 343)]
    assert [one.severity for one in check.findings if list(one.files) == empty] == ["warning"]
    assert not [one for one in check.findings if one.severity == "error"]


def test_blood_cells_survive_the_table_of_a_split(bccd, tmp_path):
    samples = [sample for sample in find_data(bccd).samples if sample.split == "val"]
    (tmp_path / "split.csv").write_text(split_csv(samples), encoding="utf-8")
    again = read_split(tmp_path / "split.csv")
    assert [one.annotations for one in again] == [one.annotations for one in samples]


def test_pixels_are_counted_from_one_and_the_last_belongs_to_the_box(tmp_path):
    things = (
        ("whole", 1, 1, 8, 6),
        ("pixel", 3, 3, 4, 4),
        ("nought", 0, 0, 8, 6),
        ("half", "2.5", "2.5", " 4.5 ", "4.5"),
        ("click", 3, 4, 3, 4),
        ("turned", 5, 5, 2, 2),
    )
    write(tmp_path, {"a.xml": voc(*things), "a.jpg": ""})
    assert boxes_of(find_data(tmp_path))["a.jpg"] == [
        ("whole", (0, 0, 8, 6)),
        ("pixel", (2, 2, 4, 4)),
        ("nought", (0, 0, 8, 6)),
        ("half", (1.5, 1.5, 4.5, 4.5)),
        ("click", (2, 3, 2, 3)),
        ("turned", (4, 4, 1, 1)),
    ]


def test_difficult_ones_parts_of_things_and_images_without_any(tmp_path):
    part = "<part><name>head</name><bndbox><xmin>1</xmin></bndbox></part>"
    thing = ("man", 2, 2, 4, 4, "<difficult>1</difficult>", part)
    write(tmp_path, {"a.xml": voc(thing), "a.jpg": "", "b.xml": voc(size=(0, 0)), "b.jpg": ""})
    found = find_data(tmp_path)
    (one,), none = (sample.annotations for sample in found.samples)
    assert (one.label, one.box, one.difficult) == ("man", (1, 1, 4, 4), True)
    assert none == ()
    assert [sample.size for sample in found.samples] == [(8, 6), None]


LISTS = "ImageSets/Main/"


def listed(tmp_path, names, **lists):
    things = {f"Annotations/{name}.xml": voc(("a", 1, 1, 2, 2)) for name in names}
    images = {f"JPEGImages/{name}.jpg": "" for name in names}
    texts = {f"{LISTS}{name}.txt": "\n".join(lines) + "\n" for name, lines in lists.items()}
    return write(tmp_path, {**things, **images, **texts})


def test_lists_give_the_parts_and_nothing_is_lost_in_silence(tmp_path):
    lists = {
        "train": ["1", "2"],
        "val": ["3"],
        "trainval": ["1", "2", "3", "4"],
        "test": ["5", "9"],
    }
    root = listed(tmp_path, "123456", **lists, a_train=["1 1", "2 -1"])
    found = find_data(root)
    parts = {name[-5]: split for name, split in splits_of(found).items()}
    assert parts == {"1": "train", "2": "train", "3": "val", "4": "train", "5": "test"}
    assert found.notes == ("left out, in no part of the data: 1 image (JPEGImages/6.jpg)",)
    assert warnings_of(found) == [
        "in the lists of ImageSets/Main and without an XML file: 1 image (9)"
    ]


def test_an_image_in_two_lists_is_refused(tmp_path):
    root = listed(tmp_path, "12", train=["1"], test=["1", "2"])
    assert error_of(root) == (
        f"{root}: 1 is in the list of test and, in ImageSets/Main/train.txt, in that of train; leave"
        " it in one"
    )


def test_folders_give_the_parts_where_there_are_no_lists(tmp_path):
    names = ("train/1", "train/2", "valid/1", "test/1", "1")
    things = {f"{name}.xml": voc(("a", 1, 1, 2, 2)) for name in names}
    write(tmp_path, {**things, **{f"{name}.jpg": "" for name in names}})
    found = find_data(tmp_path)
    assert splits_of(found) == {
        "test/1.jpg": "test",
        "train/1.jpg": "train",
        "train/2.jpg": "train",
        "valid/1.jpg": "val",
    }
    assert found.notes == ("left out, in no part of the data: 1 image (1.jpg)",)


def test_images_are_found_by_the_file_and_then_by_what_it_says(tmp_path):
    write(
        tmp_path,
        {
            "Annotations/a.xml": voc(("x", 1, 1, 2, 2), name="other.png"),
            "Annotations/b.xml": voc(("y", 1, 1, 2, 2), name="C:\\photos\\c.jpeg"),
            "JPEGImages/a.png": "",
            "JPEGImages/c.jpeg": "",
            "JPEGImages/d.jpg": "",
        },
    )
    found = find_data(tmp_path)
    assert [(s.name, s.labels) for s in found.samples] == [
        ("JPEGImages/a.png", ("x",)),
        ("JPEGImages/c.jpeg", ("y",)),
    ]
    assert found.notes == (
        "1 XML file with another name in <filename>, found by the name of the file itself"
        " (Annotations/a.xml)",
        "left out, without annotations: 1 image (JPEGImages/d.jpg)",
    )


def test_the_nearer_of_two_images_is_meant_and_never_one_of_another_part(tmp_path):
    thing = voc(("x", 1, 1, 2, 2))
    write(tmp_path, {"a/ann/1.xml": thing, "a/img/1.jpg": "", "b/img/1.jpg": ""})
    assert [one.name for one in find_data(tmp_path).samples] == ["a/img/1.jpg"]
    root = write(tmp_path / "parts", {"ann/train/1.xml": thing, "img/test/1.jpg": ""})
    (sample,) = find_data(root).samples
    assert not sample.path.exists()
    root = write(tmp_path / "two", {"ann/1.xml": thing, "img/1.jpg": "", "img/1.png": ""})
    assert "ann/1.xml: 1 may be img/1.jpg or img/1.png; give" in error_of(root)
    root = write(tmp_path / "twice", {"x/1.xml": thing, "y/1.xml": thing, "1.jpg": ""})
    assert "annotated in two places: 1.jpg; leave each image in one" in error_of(root)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("<annotation><object>", "not readable as XML (no element found"),
        (voc(("", 1, 1, 2, 2)), "an object has no <name>; correct or remove it"),
        (
            "<annotation><object><name>a</name></object></annotation>",
            "no <bndbox>, and is called a",
        ),
        (
            "<annotation><object><name>a</name><robndbox/></object></annotation>",
            "rotated boxes are not read",
        ),
        (voc(("a", 1, "x", 2, 2)), "the box of a has xmin '1', ymin 'x', xmax '2', ymax '2'; four"),
        (voc(("a", 1, "", 2, 2)), "ymin ''"),
        (voc(("a", 1, "nan", 2, 2)), "ymin 'nan'"),
        (voc(("a", 1, 1, 2, "1e999")), "ymax '1e999'"),
    ],
)
def test_xml_that_cannot_be_read_names_the_file(tmp_path, text, said):
    write(tmp_path, {"a.xml": text, "a.jpg": ""})
    assert said in error_of(tmp_path)
    assert str(tmp_path / "a.xml") in error_of(tmp_path)


def test_xml_of_something_else_is_no_annotation(tmp_path):
    write(tmp_path, {"cat/1.jpg": "", "dog/2.jpg": "", "cat/1.xml": "<metadata/>", "a.xml": "\xff"})
    assert find_data(tmp_path).reader == "folders"
    write(tmp_path, {"cat/0.xml": voc()})
    found = find_data(tmp_path)
    assert found.reader == "voc"
    assert found.left_out == {".xml": 2}


# ---- COCO


def test_a_file_for_each_part_beside_those_of_other_things(tmp_path):
    write(
        tmp_path,
        {
            "annotations/instances_train2017.json": coco(
                ("1.jpg", "2.jpg"), (0, 1, [1, 2, 3, 4]), (0, 0, [0, 0, 0.5, 1]), width=8, height=6
            ),
            "annotations/instances_val2017.json": coco(("1.jpg",)),
            "annotations/person_keypoints_val2017.json": coco(("1.jpg",)),
            "annotations/captions_val2017.json": "{}",
            "train2017/1.jpg": "",
            "train2017/2.jpg": "",
            "train2017/3.jpg": "",
            "val2017/1.jpg": "",
        },
    )
    found = find_data(tmp_path)
    assert splits_of(found) == {
        "train2017/1.jpg": "train",
        "train2017/2.jpg": "train",
        "val2017/1.jpg": "val",
    }
    first, negative, _ = found.samples
    assert [(one.label, one.box) for one in first.annotations] == [
        ("dog", (1, 2, 4, 6)),
        ("cat", (0, 0, 0.5, 1)),
    ]
    assert (negative.annotations, first.size) == ((), (8, 6))
    assert found.notes == ("left out, without annotations: 1 image (train2017/3.jpg)",)
    assert found.left_out == {".json": 2}


def test_roboflow_writes_a_file_into_each_folder(tmp_path):
    files = {
        f"{part}/_annotations.coco.json": coco((f"{part}.jpg",), (0, 0, [0, 0, 1, 1]))
        for part in ("train", "valid", "test")
    }
    write(tmp_path, {**files, **{f"{p}/{p}.jpg": "" for p in ("train", "valid", "test")}})
    found = find_data(tmp_path)
    assert list(splits_of(found).values()) == ["test", "train", "val"]
    assert found.classes == ("cat",)
    assert found.notes == ("no class, since no box shows one: dog",)


def test_a_json_file_by_itself(tmp_path):
    text = coco(("a/1.jpg",), (0, 0, [0, 0, 1, 1]))
    write(tmp_path, {"x.json": text, "images/a/1.jpg": "", "annotations/y.json": text})
    for name in ("x.json", "annotations/y.json"):
        (sample,) = find_data(tmp_path / name).samples
        assert (sample.path, sample.split) == (tmp_path / "images/a/1.jpg", "")
    assert "annotated in two places: images/a/1.jpg" in error_of(tmp_path)
    write(tmp_path, {"z.json": "[1]"})
    assert "z.json is a file" in error_of(tmp_path / "z.json")


def test_crowds_missing_images_and_boxes_of_images_that_are_not_listed(tmp_path):
    box = [0, 0, 1, 1]
    text = coco(
        ("1.jpg", "2.jpg"),
        (0, 0, box, ("iscrowd", 1)),
        (0, 0, box, ("ignore", 1)),
        (1, 1, box, ("iscrowd", 0)),
        (7, 1, box),
    )
    write(tmp_path, {"a.json": text, "1.jpg": ""})
    found = find_data(tmp_path)
    assert [one.difficult for s in found.samples for one in s.annotations] == [True, True, False]
    assert warnings_of(found) == ["a.json: boxes of images that it does not list, left out (7)"]
    facts = look_at(found.samples)
    assert [fact.error for fact in facts] == ["empty file", "no such file"]
    assert about_missing(found, facts) == []
    (tmp_path / "1.jpg").unlink()
    found = find_data(tmp_path)
    (finding,) = about_missing(found, look_at(found.samples))
    assert finding.severity == "error"
    assert "not one of the files is there: 1.jpg was looked for at" in finding.text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"images": [', "not readable as JSON (Expecting value"),
        ('{"images": []}', "no list categories; images, categories and annotations are needed"),
        ('{"images": [1], "categories": [], "annotations": []}', "no list images"),
        ('{"images": ' + "[" * 100_000, "not readable as JSON"),
        (coco([""]), "an image needs id and file_name, and one is {'file_name': '', 'id': 0}"),
        (coco(["1.jpg"], categories=[1]), "a category needs id and name"),
        (
            coco(["1.jpg"], (0, 5, [0, 0, 1, 1])),
            "has the category 5, which is not listed; there are: 0, 1",
        ),
        (coco(["1.jpg"], (0, [], [0, 0, 1, 1])), "has the category [], which"),
        (coco(["1.jpg"], (0, 0, [0, 0, 1])), "has the bbox [0, 0, 1]; four numbers are needed"),
        (coco(["1.jpg"], (0, 0, [0, 0, 1, float("nan")])), "has the bbox [0, 0, 1, nan]"),
        (coco(["1.jpg"], (0, 0, [0, 0, 1, "4"])), "has the bbox [0, 0, 1, '4']"),
        (coco(["1.jpg"], (0, 0, None)), "has the bbox None"),
        (coco(["1.jpg", "2.jpg"]).replace('"id": 1', '"id": 0'), "two images have the id 0"),
    ],
)
def test_json_that_cannot_be_read_names_the_file(tmp_path, text, said):
    write(tmp_path, {"a.json": text, "1.jpg": ""})
    assert said in error_of(tmp_path)
    assert str(tmp_path / "a.json") in error_of(tmp_path)


def test_json_of_something_else_is_no_annotation(tmp_path):
    write(tmp_path, {"cat/1.jpg": "", "dog/2.jpg": "", "cat/1.json": '{"shapes": []}'})
    assert find_data(tmp_path).reader == "folders"


# ---- YOLO

BOX = "1 0.5 0.5 0.5 1\n"
NAMES = "names: [cat, dog]\n"


def test_folders_within_images_and_within_parts(tmp_path):
    names = ("train/1", "train/2", "val/3")
    inside = {f"images/{name}.jpg": jpeg() for name in names}
    inside |= {f"labels/{name}.txt": BOX for name in names}
    root = write(tmp_path / "a", {**inside, "data.yaml": NAMES})
    found = find_data(root)
    assert splits_of(found) == {
        "images/train/1.jpg": "train",
        "images/train/2.jpg": "train",
        "images/val/3.jpg": "val",
    }
    assert boxes_of(found)["1.jpg"] == [("dog", (2, 0, 6, 6))]
    assert (found.notes, found.left_out, found.findings) == ((), {}, ())
    parts = {f"{part}/images/1.jpg": jpeg() for part in ("train", "valid", "test")}
    parts |= {f"{part}/labels/1.txt": BOX for part in ("train", "valid", "test")}
    paths = "train: ../train/images\nval: ../valid/images\ntest: ../test/images\n"
    root = write(tmp_path / "b", {**parts, "data.yaml": paths + NAMES, "README.roboflow.txt": "x"})
    found = find_data(root)
    assert list(splits_of(found).values()) == ["test", "train", "val"]
    assert found.left_out == {".txt": 1}


def test_parts_by_data_yaml_go_before_folders(tmp_path):
    names = ("1", "2", "3", "4")
    files = {f"images/{name}.jpg": jpeg() for name in names}
    files |= {f"labels/{name}.txt": BOX for name in names}
    lists = {"a.txt": "./images/1.jpg\n/home/me/data/images/2.jpg\n", "b.txt": "images/3.jpg\n"}
    root = write(tmp_path, {**files, **lists, "data.yaml": "train: a.txt\nval: b.txt\n" + NAMES})
    found = find_data(root)
    assert list(splits_of(found).values()) == ["train", "train", "val"]
    assert found.notes == ("left out, in no part of the data: 1 image (images/4.jpg)",)
    write(root, {"data.yaml": "train: images\nval: images\n" + NAMES})
    assert "data.yaml: images/1.jpg is in train and in val" in error_of(root)
    write(root, {"data.yaml": "train: images\nval: pictures\ntest:\n" + NAMES})
    assert find_data(root).notes == ("data.yaml: val is pictures, which is not there",)


def test_a_data_yaml_by_itself_may_lie_elsewhere(tmp_path):
    write(tmp_path, {"set/images/train/1.jpg": jpeg(), "set/labels/train/1.txt": BOX})
    text = "path: ../set\ntrain: images/train\nnames:\n  0: no\n  1: 1.0\n"
    write(tmp_path, {"yaml/data.yaml": text})
    (sample,) = find_data(tmp_path / "yaml" / "data.yaml").samples
    assert (sample.name, sample.labels) == ("images/train/1.jpg", ("1.0",))
    assert sample.path.is_file()
    write(tmp_path, {"yaml/other.yaml": "a: b\n"})
    assert "other.yaml is a file" in error_of(tmp_path / "yaml" / "other.yaml")


def test_darknet_has_lists_and_names_beside(tmp_path):
    files = {f"obj_train_data/{n}.jpg": jpeg() for n in "123"}
    files |= {f"obj_train_data/{n}.txt": BOX for n in "123"}
    files |= {"obj.names": "cat\ndog\n", "train.txt": "data/obj_train_data/1.jpg\n"}
    root = write(tmp_path, {**files, "valid.txt": "data/obj_train_data/2.jpg\n"})
    found = find_data(root)
    assert list(splits_of(found).values()) == ["train", "val"]
    assert found.notes == ("left out, in no part of the data: 1 image (obj_train_data/3.jpg)",)
    assert found.left_out == {}
    write(root, {"classes.txt": "dog\ncat\n"})
    assert "classes.txt and obj.names give different names" in error_of(root)


def test_shares_are_of_the_upright_image(tmp_path):
    write(tmp_path, {"a.jpg": jpeg(80, 60, turned=6), "a.txt": "0 0.5 0.25 1 0.5\n"})
    found = find_data(tmp_path)
    assert boxes_of(found) == {"a.jpg": [("0", (0, 0, 60, 40))]}
    assert found.notes == (
        "classes have numbers and no names: write them into classes.txt, a line each",
    )


def test_polygons_and_images_with_nothing_or_without_a_file(tmp_path):
    write(
        tmp_path,
        {
            "images/a.jpg": jpeg(),
            "images/b.jpg": jpeg(),
            "images/c.jpg": jpeg(),
            "images/d.jpg": "not an image",
            "runs/plot.png": "",
            "labels/a.txt": "0 0.25 0.5 0.5 0.5 0.5 1 0.25 1\r\n\r\n",
            "labels/b.txt": "",
            "labels/d.txt": BOX,
            "labels/e.txt": BOX,
            "labels/classes.txt": "cat\ndog\n",
        },
    )
    found = find_data(tmp_path)
    assert boxes_of(found) == {
        "a.jpg": [("cat", (2, 3, 4, 6))],
        "b.jpg": [],
        "c.jpg": [],
        "d.jpg": [("dog", None)],
    }
    assert found.notes == (
        "1 image without a text file: no object in them (images/c.jpg)",
        "1 polygon read as the box around each",
        "left out, without annotations: 1 image (runs/plot.png)",
    )
    assert warnings_of(found) == ["text files without an image, left out (labels/e.txt)"]
    assert [bool(fact.error) for fact in look_at(found.samples)] == [False, False, False, True]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("0 0.1 0.2 0.3", "4 numbers; a box is: number of its class"),
        (
            "0 0.1 0.2 0.3 0.4 0.9",
            "6 numbers; a box is: number of its class, x and y of its centre, width, height; a sixth number is a score",
        ),
        ("0 0.1 0.2 0.3 0.4 0.5 0.6 0.7", "8 numbers"),
        ("2 0.1 0.2 0.3 0.4", "class 2; there are 2 names, for 0 to 1"),
        ("-1 0.1 0.2 0.3 0.4", "class -1; there are 2 names"),
        ("0.5 0.1 0.2 0.3 0.4", "'0.5 0.1 0.2 0.3 0.4'; a box is"),
        ("0 320 240 100 100", "320 is far outside the image; centre and size are shares"),
        ("0 0.1 nan 0.3 0.4", "'0 0.1 nan 0.3 0.4'; a box is"),
        ("0 0.1 inf 0.3 0.4", "'0 0.1 inf 0.3 0.4'; a box is"),
        ("cat 0.1 0.2 0.3 0.4", "'cat 0.1 0.2 0.3 0.4'; a box is"),
    ],
)
def test_lines_that_cannot_be_read_are_named(tmp_path, line, said):
    files = {"images/a.jpg": jpeg(), "labels/a.txt": f"{BOX}{line}\n", "classes.txt": "cat\ndog\n"}
    write(tmp_path, files)
    assert f"{tmp_path / 'labels/a.txt'}, line 2: {said}" in error_of(tmp_path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("names: cat\n", "names are a list of texts, or a mapping of 0, 1, 2"),
        ("names: {0: cat, 2: dog}\n", "without a gap"),
        ("names: [[cat]]\n", "names are a list of texts"),
        ("names: [cat\n", "not readable as YAML"),
        ("a: &x 1\nnames: [*x]\n", "anchors and aliases are not read"),
    ],
)
def test_a_data_yaml_that_cannot_be_read_is_named(tmp_path, text, said):
    write(tmp_path, {"images/a.jpg": jpeg(), "labels/a.txt": BOX, "data.yaml": text})
    assert said in error_of(tmp_path)
    assert str(tmp_path / "data.yaml") in error_of(tmp_path)


def test_two_descriptions_are_refused(tmp_path):
    write(tmp_path, {"images/a.jpg": jpeg(), "labels/a.txt": BOX, "a.yaml": NAMES, "b.yml": NAMES})
    assert "has a.yaml and b.yml: name the one that is meant" in error_of(tmp_path)
    assert len(find_data(tmp_path / "b.yml").samples) == 1


def test_texts_beside_images_are_not_always_boxes(tmp_path):
    files = {
        "cat/1.jpg": "",
        "dog/2.jpg": "",
        "cat/1.txt": "a cat",
        "dog/2.txt": "4 dogs in 2 rows",
    }
    assert find_data(write(tmp_path, files)).reader == "folders"


# ---- tables


def test_a_line_for_each_box(tmp_path):
    text = (
        "filename,width,height,class,xmin,ymin,xmax,ymax,split,group\n"
        "1.jpg,8,6,cat,0,0,4,4.5,train,g\n"
        "2.jpg,8,6,dog,5,1,2,3,val,h\n"
        "./1.jpg,8,6,dog,1,1,2,2,train,g\n"
        "3.jpg,8,6,,,,,,val,\n"
    )
    write(tmp_path, {"t.csv": text, "1.jpg": "", "2.jpg": "", "3.jpg": "", "4.jpg": ""})
    found = find_data(tmp_path / "t.csv")
    assert boxes_of(found) == {
        "1.jpg": [("cat", (0, 0, 4, 4.5)), ("dog", (1, 1, 2, 2))],
        "2.jpg": [("dog", (5, 1, 2, 3))],
        "3.jpg": [],
    }
    assert [(s.split, s.group, s.size) for s in found.samples] == [
        ("train", "g", (8, 6)),
        ("val", "h", (8, 6)),
        ("val", "", (8, 6)),
    ]
    assert (found.reader, found.notes) == ("box_table", ())
    assert "1.jpg, 8 x 6" not in found.notes
    (tmp_path / "t.csv").rename(tmp_path / "boxes.csv")
    again = find_data(tmp_path)
    assert again.samples == found.samples
    assert again.notes == ("left out, without annotations: 1 image (4.jpg)",)


def test_a_table_in_each_part(tmp_path):
    text = "filename,width,height,class,xmin,ymin,xmax,ymax\na.jpg,8,6,cat,1,2,3,4\n"
    parts = ("train", "valid")
    write(tmp_path, {f"{part}/_annotations.csv": text for part in parts})
    write(tmp_path, {f"{part}/a.jpg": "" for part in parts})
    assert splits_of(find_data(tmp_path)) == {"train/a.jpg": "train", "valid/a.jpg": "val"}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("1.jpg,0,0,1,,a,", "label 'a' and box 0, 0, 1, ; a label and four numbers are needed"),
        ("1.jpg,0,0,1,1,,", "label '' and box 0, 0, 1, 1"),
        ("1.jpg,0,0,1,nan,a,", "label 'a' and box 0, 0, 1, nan"),
        ("1.jpg,0,0,x,1,a,", "label 'a' and box 0, 0, x, 1"),
        (",0,0,1,1,a,", "a file name is needed in every line"),
        ("1.jpg,0,0,1,1,a,trian", "split 'trian'; did you mean train"),
        ("0.jpg,0,0,1,1,a,val", "0.jpg has another split or group than in line 2"),
    ],
)
def test_lines_of_a_table_that_cannot_be_read_are_named(tmp_path, line, said):
    text = f"file_name,xmin,ymin,xmax,ymax,label,split\n0.jpg,0,0,1,1,a,train\n{line}\n"
    write(tmp_path, {"t.csv": text, "0.jpg": "", "1.jpg": ""})
    assert f"{tmp_path / 't.csv'}, line 3: {said}" in error_of(tmp_path / "t.csv")


def test_a_table_of_labels_stays_one(tmp_path):
    root = write(tmp_path, {"labels.csv": "file_name,label,xmin\n1.jpg,a,3\n", "1.jpg": ""})
    assert find_data(root).reader == "table"
    write(root, {"labels.csv": "file_name,label,x1,y1,x2,y2\n1.jpg,a,1,1,2,2\n"})
    assert find_data(root).reader == "box_table"
    assert find_data(root / "labels.csv").reader == "box_table"


# ---- files that another program wrote


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("format", ["voc", "coco", "yolo"])
def test_the_same_boxes_from_files_that_supervision_wrote(bccd, tmp_path, format):
    supervision = pytest.importorskip("supervision")
    data = supervision.DetectionDataset.from_pascal_voc(
        str(bccd / "JPEGImages"), str(bccd / "Annotations")
    )
    if format == "voc":
        data.as_pascal_voc(str(tmp_path / "JPEGImages"), str(tmp_path / "Annotations"))
    elif format == "coco":
        data.as_coco(str(tmp_path / "images"), str(tmp_path / "annotations.json"))
    else:
        folders = str(tmp_path / "images"), str(tmp_path / "labels")
        data.as_yolo(*folders, str(tmp_path / "data.yaml"))
    found = find_data(tmp_path)
    assert (found.reader, found.kind, found.classes) == (
        format,
        "boxes",
        ("Platelets", "RBC", "WBC"),
    )
    ours, theirs = boxes_of(find_data(bccd)), boxes_of(found)
    assert set(theirs) == set(ours)
    for name, own in ours.items():
        assert [label for label, _ in theirs[name]] == [label for label, _ in own], name
        sides = [np.array([box for _, box in one]) for one in (own, theirs[name])]
        assert np.abs(sides[0] - sides[1]).max() <= 1, name


# ---- which one


def test_two_formats_in_one_folder_are_refused_and_the_cure_is_named(tmp_path):
    files = {"images/a.jpg": jpeg(), "labels/a.txt": BOX, "annotations/a.xml": voc()}
    write(tmp_path, files)
    assert error_of(tmp_path) == (
        f"{tmp_path} can be read as voc and as yolo: choose one with --format (voc or yolo)"
    )
    assert find_data(tmp_path, "voc").reader == "voc"
    assert find_data(tmp_path, "yolo").reader == "yolo"
    assert error_of(tmp_path, format="coco").endswith("; it can be read as voc or yolo")


def test_of_two_formats_the_one_that_gives_what_is_asked_for(tmp_path):
    write(
        tmp_path, {"cat/a.jpg": "", "cat/a.xml": voc(), "labels.csv": "file,label\ncat/a.jpg,cat\n"}
    )
    assert "can be read as table and as voc" in error_of(tmp_path)
    assert find_data(tmp_path, kind="boxes").reader == "voc"
    assert find_data(tmp_path, kind="classes").reader == "table"


def test_no_reader_takes_a_folder_of_classes(tmp_path):
    names = ("with_mask/1.jpg", "without_mask/1.jpg", "images/2.jpg", "train/3.jpg", "mask/1.jpg")
    source = Source(write(tmp_path, dict.fromkeys(names, "")))
    assert [name for name, one in READERS.items() if one.matches(source)] == ["folders"]


# ---- what the check of any data finds


def test_like_images_with_other_things_in_them_are_no_mistake():
    labels = (("a",), ("b",))
    plain = [Sample(Path(f"{i}"), f"{i}", annotate(*one), "train") for i, one in enumerate(labels)]
    box = (0.0, 0.0, 1.0, 1.0)
    placed = [replace(one, annotations=(Annotation(one.labels[0], box),)) for one in plain]
    pair = Pair(0, 1, "near")
    assert [one.severity for one in about_pairs(plain, [pair])] == ["warning"]
    (note,) = about_pairs(placed, [pair])
    assert (note.severity, note.text) == ("note", "1 pair alike; kept on one side of a split")
    across = [placed[0], replace(placed[1], split="val")]
    assert [one.severity for one in about_pairs(across, [pair])] == ["warning"]


def test_images_of_another_size_than_their_annotations_say(tmp_path):
    sizes = {"same": (80, 60), "turned": (80, 60), "swapped": (60, 80), "other": (40, 30)}
    files = {f"{name}.xml": voc(("a", 1, 1, 2, 2), size=size) for name, size in sizes.items()}
    files |= {f"{name}.jpg": jpeg(80, 60, turned=6 * (name == "turned")) for name in sizes}
    found = find_data(write(tmp_path, {**files, "none.xml": voc(size=(0, 0)), "none.jpg": jpeg()}))
    turned, other = about_sizes(found.samples, look_at(found.samples))
    assert turned.files == ("turned.jpg",)
    assert turned.text.startswith("1 image annotated lying on their side, as stored, but turned")
    assert "(turned.jpg: 80 x 60, is 60 x 80)" in turned.text
    assert other.files == ("other.jpg", "swapped.jpg")
    assert "(other.jpg: 40 x 30, is 80 x 60, swapped.jpg: 60 x 80, is 80 x 60)" in other.text
