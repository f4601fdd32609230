"""Images with masks: which class a value is, in every usual layout, and what cannot be told."""

import io
from collections import Counter

import numpy as np
import pytest
from layouts import encoded, error_of, jpeg, png, voc, warnings_of, write
from PIL import Image
from shared_data import unpacked

from resnets.data.readers import READERS, Source
from resnets.data.readers.mask_values import look_at_mask
from resnets.data.sources import find_data
from resnets.data.splits import check_split, read_split, split_csv
from resnets.kinds.mask import stored_values

TWO = png([[0, 0, 1, 1]])
CLASSES = "road\nsky\n"


def colour(*rows):
    return encoded(Image.fromarray(np.array(rows, np.uint8)))


def palette(values, colours, **options):
    image = Image.fromarray(np.array(values, np.uint8)).convert("P")
    image = Image.frombytes("P", image.size, np.array(values, np.uint8).tobytes())
    image.putpalette([level for one in colours for level in one])
    return encoded(image, **options)


def values_of(found):
    """Labels and values of each image, by the end of its name."""
    return {
        sample.name.rpartition("/")[2]: {one.value: one.label for one in sample.annotations}
        for sample in found.samples
    }


def one(tmp_path, mask, **more):
    """A folder with one image, its mask, and other files."""
    files = {"images/a.jpg": "", "masks/a.png": mask}
    return write(tmp_path, files | {name.replace("_", ".", 1): text for name, text in more.items()})


# ---- layouts


def test_road_scenes_by_their_folders():
    found = find_data(unpacked("camvid"))
    assert (found.reader, found.kind, len(found.samples)) == ("masks", "mask", 701)
    assert Counter(s.split for s in found.samples) == {"train": 367, "val": 101, "test": 233}
    names = "Bicyclist Building Car Fence Pavement Pedestrian Pole Road SignSymbol Sky Tree"
    assert found.classes == tuple(names.split())
    assert (found.notes, found.findings, found.left_out) == ((), (), {})
    first = found.samples[0]
    assert first.mask.is_file()
    assert {one.value for one in first.annotations} <= set(range(11))
    assert {one.value: one.label for one in first.annotations}[3] == "Road"
    values = np.unique(np.asarray(Image.open(first.mask)))
    assert sorted({*values.tolist()} - {255}) == [one.value for one in first.annotations]


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("images/1.jpg", "masks/1.png"),
        ("images/a/1.jpg", "masks/a/1.png"),
        ("Images/1.jpg", "Labels/1_mask.png"),
        ("images/training/1.jpg", "annotations/training/1.png"),
        ("train/images/1.jpg", "train/masks/1.png"),
        ("train/1.png", "train_labels/1_L.png"),
        ("train/1.png", "trainannot/1.png"),
        ("train/1.jpg", "train/1_mask.png"),
        ("VOC2012/JPEGImages/1.jpg", "VOC2012/SegmentationClass/1.png"),
        ("data/img/1.jpg", "data/gt/1_segmentation.png"),
    ],
)
def test_usual_places_of_masks(tmp_path, image, mask):
    write(tmp_path, {image: "", mask: TWO, "more/2.jpg": "", "classes.txt": CLASSES})
    found = find_data(tmp_path)
    (sample,) = found.samples
    assert (sample.name, sample.mask) == (image, tmp_path / mask)
    assert sample.split == ("train" if "train" in image else "")
    assert found.notes == ("left out, without annotations: 1 image (more/2.jpg)",)


def test_masks_of_the_published_set_have_its_names_and_lists(tmp_path):
    sets = "ImageSets/Segmentation/"
    files = {f"JPEGImages/2007_00000{n}.jpg": "" for n in "1234"}
    mask = palette([[0, 15, 255]], [(0, 0, 0)] * 256)
    files |= {f"SegmentationClass/2007_00000{n}.png": mask for n in "124"}
    files |= {"SegmentationObject/2007_000001.png": mask}
    lists = {sets + "train.txt": "2007_000001\n", sets + "val.txt": "2007_000002\n"}
    found = find_data(write(tmp_path, files | lists))
    assert [s.split for s in found.samples] == ["train", "val"]
    assert values_of(found)["2007_000001.jpg"] == {0: "background", 15: "person"}
    note, *left_out = found.notes
    assert note == "images are called as those of Pascal VOC, so classes have its names"
    assert left_out == [
        "left out, in no part of the data: 1 image (JPEGImages/2007_000004.jpg)",
        "left out, without annotations: 2 images (JPEGImages/2007_000003.jpg,"
        " SegmentationObject/2007_000001.png)",
    ]
    write(tmp_path, {"Annotations/2007_000001.xml": voc()})
    assert "can be read as voc and as masks: choose one with --format" in error_of(tmp_path)
    assert find_data(tmp_path, "masks").samples == found.samples


def test_folders_of_classes_hold_no_masks(tmp_path):
    names = ("cat/1.jpg", "cat/1_l.jpg", "mask/1.jpg", "with_mask/1.png", "labels/1.png")
    source = Source(write(tmp_path, dict.fromkeys(names, "")))
    assert [name for name, one in READERS.items() if one.matches(source)] == ["folders"]


# ---- classes of values


@pytest.mark.parametrize(
    ("mask", "classes"),
    [
        (png([[0, 255]]), {0: "background", 255: "foreground"}),
        (png([[255, 255]]), {255: "foreground"}),
        (png([[0, 1]]), {0: "background", 1: "foreground"}),
        (encoded(Image.new("1", (2, 2), 1)), {255: "foreground"}),
        (colour([[0, 0, 0], [255, 255, 255]]), {0: "background", 0xFFFFFF: "foreground"}),
        (palette([[0, 1]], [(0, 0, 0), (9, 9, 9)]), {0: "background", 1: "foreground"}),
        (png([[0, 3, 255]]), {0: "0", 3: "3"}),
        (png([[0, 1, 255]]), {0: "0", 1: "1"}),
        (colour([[0, 0, 0], [2, 2, 2], [255, 255, 255]]), {0: "0", 0x020202: "2"}),
        (colour([[128, 0, 0], [0, 0, 0]]), {0: "#000000", 0x800000: "#800000"}),
        (encoded(Image.fromarray(np.array([[0, 700]], np.uint16))), {0: "0", 700: "700"}),
    ],
)
def test_values_without_names(tmp_path, mask, classes):
    found = find_data(one(tmp_path, mask))
    assert values_of(found) == {"a.jpg": classes}
    assert found.notes  # it is said how they were read
    assert found.findings == ()


@pytest.mark.parametrize(
    ("name", "text", "mask", "classes"),
    [
        ("classes.txt", CLASSES, png([[0, 1, 255]]), {0: "road", 1: "sky"}),
        ("classes.txt", CLASSES, png([[0, 255]]), {0: "road", 255: "sky"}),
        ("classes.txt", "cell\n", png([[0, 255]]), {0: "background", 255: "cell"}),
        ("classes.txt", "cell\n", png([[0, 1]]), {0: "background", 1: "cell"}),
        ("classes.txt", "void\nroad\nsky\n", png([[0, 1, 2]]), {1: "road", 2: "sky"}),
        (
            "class_names.txt",
            "__ignore__\n_background_\ncar\n",
            png([[0, 1, 255]]),
            {0: "_background_", 1: "car"},
        ),
        (
            "_classes.csv",
            "Pixel Value, Class\n0, sky\n7, car\n",
            png([[0, 7]]),
            {0: "sky", 7: "car"},
        ),
        (
            "class_dict.csv",
            "name,r,g,b\nSky,128,128,128\nCar,64,0,128\n",
            colour([[128, 128, 128], [64, 0, 128]]),
            {0x808080: "Sky", 0x400080: "Car"},
        ),
        (
            "class_dict.csv",
            "name,r,g,b\nSky,128,128,128\nCar,64,0,128\n",
            png([[0, 1]]),
            {0: "Sky", 1: "Car"},
        ),
        (
            "class_dict.csv",
            "name,r,g,b\nSky,128,128,128\nCar,64,0,128\n",
            palette([[0, 1, 2]], [(64, 0, 128), (128, 128, 128), (64, 0, 128)]),
            {0: "Car", 1: "Sky", 2: "Car"},
        ),
        (
            "class_dict.csv",
            "name,r,g,b\nno road,0,0,0\nroad,255,255,255\n",
            png([[0, 255]]),
            {0: "no road", 255: "road"},
        ),
        (
            "class_dict.csv",
            "name,r,g,b\nno road,0,0,0\nroad,255,255,255\n",
            colour([[0, 0, 0], [255, 255, 255]]),
            {0: "no road", 0xFFFFFF: "road"},
        ),
        (
            "label_colors.txt",
            "64 128 64\tAnimal\n192 0 128\t\tArchway\n",
            colour([[192, 0, 128]]),
            {0xC00080: "Archway"},
        ),
        (
            "labelmap.txt",
            "# label:color_rgb:parts:actions\nbackground:0,0,0::\ncar:0,128,0::\n",
            colour([[0, 0, 0], [0, 128, 0]]),
            {0: "background", 0x008000: "car"},
        ),
    ],
)
def test_names_from_files(tmp_path, name, text, mask, classes):
    write(tmp_path, {"images/a.jpg": "", "masks/a.png": mask, name: text})
    found = find_data(tmp_path)
    assert values_of(found) == {"a.jpg": classes}
    assert (found.findings, found.left_out) == ((), {})


def test_a_binary_set_is_recognised_over_all_its_masks(tmp_path):
    files = {f"images/{n}.jpg": "" for n in "abc"}
    masks = {"masks/a.png": png([[0, 0]]), "masks/b.png": png([[255, 255]])}
    write(tmp_path, files | masks | {"masks/c.png": png([[0, 255]])})
    assert values_of(find_data(tmp_path))["a.jpg"] == {0: "background"}
    assert values_of(find_data(tmp_path))["b.jpg"] == {255: "foreground"}
    write(tmp_path, {"masks/c.png": png([[0, 1]])})
    assert values_of(find_data(tmp_path))["b.jpg"] == {}  # then 255 is what is not judged


# ---- what is wrong with them


def test_values_of_no_class_are_told_and_not_judged(tmp_path):
    write(tmp_path, {f"images/{n}.jpg": "" for n in "ab"})
    write(tmp_path, {"masks/a.png": png([[0, 1, 7, 9]]), "masks/b.png": png([[0, 7, 255]])})
    write(tmp_path, {"classes.txt": CLASSES})
    found = find_data(tmp_path)
    assert values_of(found) == {"a.jpg": {0: "road", 1: "sky"}, "b.jpg": {0: "road"}}
    assert warnings_of(found) == [
        "masks with pixels of no class, which are not judged: 7, 9 (masks/a.png, masks/b.png)"
    ]
    root = one(tmp_path / "colour", colour([[1, 2, 3], [0, 9, 0]]), labelmap_txt="car:0,9,0::\n")
    assert warnings_of(find_data(root)) == [
        "masks with pixels of no class, which are not judged: #010203 (masks/a.png)"
    ]


def test_names_that_begin_one_too_late_are_refused(tmp_path):
    root = one(tmp_path, png([[0, 1, 2]]), classes_txt=CLASSES)
    assert error_of(root).startswith("classes.txt: 2 names for the values 0 to 1, and masks have 2")


def test_names_without_colours_do_not_fit_masks_in_colour(tmp_path):
    root = one(tmp_path, colour([[1, 2, 3], [0, 9, 0]]), classes_txt=CLASSES)
    assert "classes.txt names classes without colours, and masks are in colour" in error_of(root)


def test_masks_and_images_alone_and_masks_that_cannot_be_read(tmp_path):
    files = dict.fromkeys((f"images/{n}.jpg" for n in "abcd"), "")
    masks = {"masks/a.png": TWO, "masks/b.png": "no image", "masks/x.png": TWO, "masks/c.png": ""}
    found = find_data(write(tmp_path, files | masks))
    assert [sample.name for sample in found.samples] == ["images/a.jpg"]
    assert found.notes[-1] == "left out, without annotations: 1 image (images/d.jpg)"
    alone, empty, unread = warnings_of(found)
    assert alone == "masks without an image, left out (masks/x.png)"
    assert empty == (
        "masks that cannot be read, left out with their images: empty file (masks/c.png)"
    )
    assert "not readable as an image" in unread
    truncated = encoded(Image.new("L", (64, 64)))[:-30]
    write(tmp_path, {"masks/a.png": truncated})
    assert find_data(tmp_path).samples == ()


def test_jpeg_masks_are_refused_with_the_cure(tmp_path):
    write(
        tmp_path,
        {"images/a.jpg": "", "masks/a.jpg": jpeg(), "images/b.jpg": "", "masks/b.png": TWO},
    )
    assert "1 mask as JPEG (masks/a.jpg), whose compression changes the values" in error_of(
        tmp_path
    )
    assert "save masks as PNG" in error_of(tmp_path)


def test_soft_edges_are_not_taken_for_classes(tmp_path):
    root = one(tmp_path, png([list(range(256))]))
    assert "masks have 256 different values and no file of names. If edges are soft" in error_of(
        root
    )
    rows = [[[0, n, 9] for n in range(256)]]
    root = one(tmp_path / "colour", encoded(Image.fromarray(np.array(rows, np.uint8))))
    assert "256 different colours" in error_of(root)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"classes.txt": "\n"}, "names no classes; write a line for each"),
        ({"classes.txt": "a\na\n"}, "a is there twice; each class needs its own name"),
        ({"classes.txt": "a\n", "x/classes.txt": "b\n"}, "name different classes; leave one"),
        (
            {"class_dict.csv": "name,r,g,b\na,1,1,1\nb,1,1,1\n"},
            "a colour is missing, or there twice",
        ),
        ({"class_dict.csv": "name,r,g,b\na,1,1,1\nb\n"}, "a colour is missing, or there twice"),
        ({"class_dict.csv": "name,r,g,b\na,1,1,300\n"}, "a has the colour 1, 1, 300; 0 to 255"),
        ({"classes.txt": b"\xff\n"}, "not UTF-8 text"),
    ],
)
def test_files_of_names_that_cannot_be_read(tmp_path, files, said):
    assert said in error_of(write(one(tmp_path, TWO), files))


def test_a_photograph_or_fractions_are_no_mask(tmp_path):
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (400, 400, 3), np.uint8)).save(tmp_path / "a.png")
    assert "more than 65,536 colours" in look_at_mask(tmp_path / "a.png").error
    Image.fromarray(np.array([[0.5, 1]], np.float32)).save(tmp_path / "b.tif")
    assert "not whole numbers" in look_at_mask(tmp_path / "b.tif").error
    assert look_at_mask(tmp_path / "none.png").error == "no such file"
    Image.new("RGBA", (2, 2), (1, 2, 3, 0)).save(tmp_path / "c.png")
    assert look_at_mask(tmp_path / "c.png").values == {0x010203}


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "I;16", "I", "CMYK"])
def test_values_are_those_that_training_reads(tmp_path, mode):
    values = np.array([[0, 1, 7], [255, 7, 0]], np.uint8)
    if mode in ("P", "PA"):
        image = Image.open(io.BytesIO(palette(values, [(n, 255 - n, 9) for n in range(256)])))
        image = image.convert(mode)
    elif mode.startswith("I"):
        image = Image.fromarray(values.astype({"I": np.int32, "I;16": np.uint16}[mode]) * 100)
    else:
        image = Image.fromarray(values).convert("RGB").convert(mode)
    path = tmp_path / "a.tif"
    image.save(path)
    content = look_at_mask(path)
    assert not content.error
    assert sorted(content.values) == np.unique(stored_values(path)).tolist()


# ---- the table of a split


def test_masks_and_what_they_held_are_in_the_table_of_a_split(tmp_path):
    found = find_data(one(tmp_path, TWO))
    write(tmp_path, {"images/a.jpg": jpeg()})
    samples = list(found.samples)
    path = tmp_path / "split.csv"
    path.write_text(split_csv(samples, {samples[0].path: ""}), encoding="utf-8")
    assert read_split(path) == samples
    assert '"mask","mask_digest"' in path.read_text("utf-8").splitlines()[0]
    check_split(path)
    write(tmp_path, {"masks/a.png": png([[1, 1]])})
    with pytest.raises(ValueError, match=r"began with other images. 1 changed: .*masks/a.png"):
        check_split(path)
    (tmp_path / "masks" / "a.png").unlink()
    with pytest.raises(ValueError, match=r"1 missing or unreadable: .*masks/a.png"):
        check_split(path)
