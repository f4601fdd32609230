"""One walk over folders: in order, without circles, each folder opened once; what is left out is
counted."""

import io
import os
import sys
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from resnets import listing
from resnets.data.check import check_images
from resnets.data.sources import find_data
from resnets.images import BadImage, open_image
from resnets.listing import IMAGE_SUFFIXES, Listing, about_left_out, images_below, is_image, walk
from resnets.runtime.folders import count_images, find_images

linux = pytest.mark.skipif(sys.platform != "linux", reason="links as on Linux")
HEIC = b"\0\0\0\x18ftypheic" + bytes(50)


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def encode(form, **options):
    buffer = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (16, 20, 3), np.uint8)
    Image.fromarray(pixels).save(buffer, form, **options)
    return buffer.getvalue()


def below(folder):
    return [os.path.relpath(file, folder).replace(os.sep, "/") for file in walk(str(folder))]


# ---- the walk


def test_files_come_in_the_order_of_their_names_and_hidden_ones_not(tmp_path):
    touch(
        tmp_path, "b/2.jpg", "b/10.jpg", "a.txt", "c.png", "b/deep/er/x", ".git/y.jpg", "b/._2.jpg"
    )
    assert below(tmp_path) == ["a.txt", "b/10.jpg", "b/2.jpg", "b/deep/er/x", "c.png"]


def test_each_folder_is_opened_once(tmp_path, monkeypatch):
    touch(tmp_path, *(f"{k}/{n}/x.jpg" for k in "abc" for n in "xyz"))
    opened = Counter()
    scandir = os.scandir

    def counting(path):
        opened[str(path)] += 1
        return scandir(path)

    monkeypatch.setattr(os, "scandir", counting)
    files = Listing([str(tmp_path)])
    assert (len(files), len(list(files)), len(list(files))) == (9, 9, 9)
    assert set(opened.values()) == {1}
    assert len(opened) == 13
    opened.clear()
    find_data(tmp_path)
    assert set(opened.values()) == {1}


@linux
def test_links_are_followed_and_circles_end(tmp_path):
    elsewhere = touch(tmp_path / "elsewhere", "1.jpg", "more/2.jpg")
    root = touch(tmp_path / "data", "a/0.jpg")
    (root / "a" / "linked").symlink_to(elsewhere)
    (root / "a" / "up").symlink_to(root)
    (root / "a" / "self").symlink_to("self")
    (root / "twice").symlink_to(elsewhere)
    assert below(root) == [
        "a/0.jpg",
        "a/linked/1.jpg",
        "a/linked/more/2.jpg",
        "a/self",
        "twice/1.jpg",
        "twice/more/2.jpg",
    ]


@pytest.mark.parametrize("read", [find_data, find_images, lambda folder: list(walk(str(folder)))])
def test_a_folder_that_cannot_be_read_is_named(tmp_path, monkeypatch, read):
    touch(tmp_path, "a/1.jpg", "b/locked/1.jpg")
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(
        ValueError, match=r"locked: this folder cannot be read \(Permission denied\)"
    ):
        read(tmp_path)


def test_training_and_prediction_see_the_same_images(tmp_path):
    touch(tmp_path, "a/1.jpg", "a/.2.jpg", "a/3.GIF", "b/4.avif", "b/.thumbs/5.jpg", "b/6.txt")
    (tmp_path / "b" / "7").write_bytes(encode("PNG"))
    names = [os.path.relpath(file, tmp_path) for file in find_images(tmp_path)]
    assert names == [sample.name for sample in find_data(tmp_path).samples]
    assert names == ["a/1.jpg", "b/4.avif", "b/7"]
    assert find_images(tmp_path).left_out == find_data(tmp_path).left_out == {".gif": 1, ".txt": 1}


# ---- what an image is


@pytest.mark.parametrize(
    ("form", "options"),
    [
        ("JPEG", {}),
        ("PNG", {}),
        ("BMP", {}),
        ("WEBP", {}),
        ("TIFF", {}),
        ("TIFF", {"big_endian": True}),
        ("PPM", {}),
        ("JPEG2000", {}),
        ("JPEG2000", {"no_jp2": True}),
        ("AVIF", {}),
    ],
)
def test_a_file_without_a_suffix_is_judged_by_its_first_bytes(tmp_path, form, options):
    (tmp_path / "a").mkdir()
    content = encode(form, **options)
    (tmp_path / "a" / "noext").write_bytes(content)
    assert is_image(str(tmp_path / "a" / "noext"))
    assert [sample.name for sample in find_data(tmp_path).samples] == ["a/noext"]
    assert open_image(tmp_path / "a" / "noext")[2] == (20, 16)


@pytest.mark.parametrize(
    "content", [b"", b"text", b"BMW and others", b"PK\x03\x04", b"GIF89a" + bytes(20), b"P7 x"]
)
def test_other_files_without_a_suffix_are_counted(tmp_path, content):
    touch(tmp_path, "1.jpg")
    (tmp_path / "odd").write_bytes(content)
    files = Listing([str(tmp_path)])
    assert (len(files), files.left_out) == (1, {"without a suffix": 1})


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes on this system")
def test_a_pipe_without_a_suffix_is_not_waited_for(tmp_path):
    touch(tmp_path, "1.jpg")
    os.mkfifo(tmp_path / "pipe")
    assert Listing([str(tmp_path)]).left_out == {"without a suffix": 1}


def test_every_suffix_is_of_a_format_that_is_opened():
    from resnets.images import FORMATS

    Image.init()
    known = {suffix: name for suffix, name in Image.EXTENSION.items() if name in FORMATS}
    assert set(known) >= IMAGE_SUFFIXES
    assert "GIF" not in {known[suffix] for suffix in IMAGE_SUFFIXES}


def test_avif_is_read():
    features = pytest.importorskip("PIL.features")
    if not features.check("avif"):
        pytest.skip("this Pillow was built without AVIF")
    image, notes, size = open_image(encode("AVIF", quality=95))
    assert (image.mode, notes, size) == ("RGB", [], (20, 16))


# ---- what is left out


def test_what_is_left_out_is_counted_by_suffix_with_the_cure(monkeypatch):
    monkeypatch.setattr(listing, "heic_installed", lambda: False)
    left = {".heic": 20, ".txt": 3, ".gif": 3, "without a suffix": 1200}
    assert about_left_out(left) == (
        "left out: 1,200 without a suffix, 20 .heic, 3 .gif, 3 .txt (to read HEIC: pip install"
        " 'resnets[heic]'; convert what is not read to PNG or JPEG)"
    )
    many = {f".{number:02d}": 1 for number in range(15)}
    assert about_left_out(many).endswith(".11 and 3 of other suffixes")


def test_heic_is_left_out_and_said_in_check_and_refused_with_the_cure(tmp_path, monkeypatch):
    monkeypatch.setattr(listing, "heic_installed", lambda: False)
    monkeypatch.setattr("resnets.images.heic_installed", lambda: False)
    for number in range(3):
        touch(tmp_path, f"a/{number}.png", f"b/{number}.png")
        (tmp_path / "a" / f"{number}.HEIC").write_bytes(HEIC)
    check = check_images(find_data(tmp_path))
    (finding,) = [one for one in check.findings if "left out" in one.text]
    assert finding.severity == "warning"
    assert finding.text == "left out: 3 .heic (to read HEIC: pip install 'resnets[heic]')"
    assert check.to_dict()["left_out"] == {".heic": 3}
    with pytest.raises(BadImage, match=r"HEIC: to read it, pip install 'resnets\[heic\]'"):
        open_image(HEIC)
    for number in range(3):
        (tmp_path / "a" / f"{number}.png").unlink()
    with pytest.raises(ValueError, match=r"no image in this folder .*3 \.heic \(to read HEIC: pip"):
        find_images(tmp_path / "a")


def test_heic_is_read_where_its_extra_is_installed(tmp_path):
    heif = pytest.importorskip("pillow_heif", reason="the extra heic")
    listing.heic_installed.cache_clear()
    pixels = np.full((48, 64, 3), (200, 40, 40), np.uint8)
    heif.from_pillow(Image.fromarray(pixels)).save(tmp_path / "x.heic", quality=95)
    (tmp_path / "x.jpg").write_bytes((tmp_path / "x.heic").read_bytes())  # as phones send it
    assert len(Listing([str(tmp_path)])) == 2
    for name in ("x.heic", "x.jpg"):
        image, _, size = open_image(tmp_path / name)
        assert (image.mode, size) == ("RGB", (64, 48))
        assert np.abs(np.asarray(image).astype(int) - (200, 40, 40)).max() < 12
    with pytest.raises(BadImage, match="not readable"):
        open_image((tmp_path / "x.heic").read_bytes()[:300])


def test_files_that_are_no_images_are_a_note_and_not_a_warning(tmp_path):
    for label in "ab":
        touch(tmp_path, f"{label}/1.jpg", f"{label}/notes.txt")
    severities = {f.text: f.severity for f in check_images(find_data(tmp_path)).findings}
    assert severities["left out: 2 .txt"] == "note"


# ---- inputs of a prediction


def test_predict_says_what_it_left_out(tmp_path, monkeypatch, capsys):
    from pathlib import Path

    from resnets import cli

    touch(tmp_path, "1.gif", "2.gif", "notes.txt")
    Image.new("RGB", (9, 9)).save(tmp_path / "3.png")
    model = Path(__file__).parent / "data" / "format1" / "tiny.onnx"
    monkeypatch.setattr(
        sys, "argv", ["resnets", "predict", str(model), str(tmp_path), "-o", "x.csv"]
    )
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert not end.value.code
    assert "left out: 2 .gif, 1 .txt (convert what is not read to PNG or JPEG)" in (
        capsys.readouterr().err
    )


def test_a_listing_is_counted_and_iterated_from_one_walk(tmp_path):
    touch(tmp_path, "a/1.jpg", "a/2.png", "b/3.jpg", "odd.dat")
    files = find_images([tmp_path / "a", tmp_path / "odd.dat", tmp_path])
    assert [os.path.relpath(file, tmp_path) for file in files] == [
        "a/1.jpg",
        "a/2.png",
        "odd.dat",
        "a/1.jpg",
        "a/2.png",
        "b/3.jpg",
    ]
    assert len(files) == count_images(files) == 6
    assert find_images(files) is files
    assert str(tmp_path / "b" / "3.jpg") in files


def test_a_generator_is_not_looked_at_before(tmp_path):
    touch(tmp_path, "a/1.jpg")

    def inputs():
        yield tmp_path / "a"
        pytest.fail("asked too early")

    assert next(find_images(inputs())) == str(tmp_path / "a" / "1.jpg")


def test_a_large_folder_takes_little_memory():
    import tracemalloc

    class Many(Listing):
        def __init__(self):
            super().__init__([])
            for number in range(100_000):
                self._add(f"/photos/of/a/year/IMG_{number:06d}.jpg")

    tracemalloc.start()
    try:
        files = Many()
        assert tracemalloc.get_traced_memory()[0] < 9_000_000  # 90 bytes a file
    finally:
        tracemalloc.stop()
    assert sum(1 for _ in files) == 100_000


def test_images_below_counts_as_it_goes(tmp_path):
    touch(tmp_path, "1.txt", "2.jpg", "3.txt")
    left = Counter()
    files = images_below(str(tmp_path), left)
    assert next(files).endswith("2.jpg")
    assert left == {".txt": 1}
