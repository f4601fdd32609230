"""From bytes to network input: against torchvision, against NumPy written out, and against files
that are odd or broken."""

import dataclasses
import io
import os
import struct
import subprocess
import sys
import time
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from resnets.images import MAX_PIXELS, BadImage, open_image, to_mode
from resnets.preprocessing import IMAGENET_MEAN, IMAGENET_STD, RESAMPLING, Axis, Preprocessing

ORIENTATION = 0x0112
# How a viewer turns each EXIF orientation upright, written out in NumPy on (height, width, ...)
# arrays.
UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a.swapaxes(0, 1)[:, ::-1],
    7: lambda a: a.swapaxes(0, 1)[::-1, ::-1],
    8: lambda a: a.swapaxes(0, 1)[::-1],
}


def noise(height, width, seed=0, channels=3):
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)


def smooth(height, width):
    """Colours that say where they are: red grows to the right, green downwards, blue is 128."""
    y, x = np.mgrid[0:height, 0:width]
    return (
        np.stack([255 * (x + 0.5) / width, 255 * (y + 0.5) / height, np.full_like(x, 128.0)], 2)
        .round()
        .astype(np.uint8)
    )


def encode(image, form="PNG", **options):
    image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


# ---- geometry


def torchvision_crop(image, size, resize, interpolation="bilinear"):
    transforms = pytest.importorskip(
        "torchvision.transforms", reason="torchvision is the reference"
    )
    mode = transforms.InterpolationMode(interpolation)
    return np.asarray(
        transforms.Compose([transforms.Resize(resize, mode), transforms.CenterCrop(size)])(image),
        int,
    )


def rows_first(image, size, mode):
    """Both steps of a resize in the order in which the exported graph has them."""
    return np.asarray(image.resize((size[0], image.height), mode).resize(size, mode))


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 300),
    width=st.integers(1, 300),
    size=st.integers(1, 64),
    more=st.integers(0, 24),
    interpolation=st.sampled_from(["bilinear", "bicubic"]),
)
def test_crop_equals_torchvision_pixel_for_pixel(height, width, size, more, interpolation):
    value = Preprocessing(
        size=(size, size), resize=(size + more, size + more), interpolation=interpolation
    )
    # else a panorama: below
    assume(max(axis.resized for axis in value.axes(height, width)) <= 8 * size)
    image = Image.fromarray(noise(height, width))
    vertical, horizontal = value.axes(height, width)
    found, wanted = value.pixels(image), torchvision_crop(image, size, size + more, interpolation)
    scaled, mode = (horizontal.resized, vertical.resized), RESAMPLING[interpolation]
    if np.array_equal(rows_first(image, scaled, mode), image.resize(scaled, mode)):
        np.testing.assert_array_equal(found, wanted)
    else:  # Pillow from 13 on goes first along the columns where that is less work
        difference = np.abs(found.astype(int) - wanted)
        # of noise a cubic filter overshoots, and what lies outside is cut after each step
        assert difference.max() <= (2 if interpolation == "bilinear" else 48)
        assert difference.mean() < 1


@settings(max_examples=30, deadline=None)
@given(
    short=st.integers(1, 40),
    ratio=st.floats(8.5, 20),
    upright=st.booleans(),
    size=st.integers(16, 48),
    more=st.integers(0, 8),
)
def test_panoramas_differ_in_rounding_at_most(short, ratio, upright, size, more):
    height, width = (short, int(short * ratio) + 1)[:: -1 if upright else 1]
    value = Preprocessing(size=(size, size), resize=(size + more, size + more))
    assert max(axis.resized for axis in value.axes(height, width)) > 8 * size
    image = Image.fromarray(noise(height, width))
    difference = np.abs(value.pixels(image) - torchvision_crop(image, size, size + more))
    # values half-way between two levels may be rounded the other way, in each of two passes
    assert difference.max() <= 2
    assert difference.mean() < 0.5


def test_a_long_panorama_is_no_work():
    image = Image.new("RGB", (100_000, 1), "red")
    start = time.perf_counter()
    pixels = Preprocessing().pixels(image)
    assert time.perf_counter() - start < 2
    assert (pixels == (255, 0, 0)).all()


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(1, 200),
    width=st.integers(1, 200),
    out_h=st.integers(1, 50),
    out_w=st.integers(1, 50),
)
def test_pad_keeps_all_of_the_picture_and_fills_the_rest(height, width, out_h, out_w):
    value = Preprocessing(size=(out_h, out_w), fit="pad", pad_color=7)
    image = Image.new("RGB", (width, height), (200, 200, 200))
    pixels = value.pixels(image)
    vertical, horizontal = value.axes(height, width)
    inside = np.zeros((out_h, out_w), bool)
    top, left = -vertical.offset, -horizontal.offset
    assert top >= 0
    assert left >= 0
    inside[top : top + vertical.resized, left : left + horizontal.resized] = True
    assert inside.sum() == vertical.resized * horizontal.resized
    assert (pixels[inside] == 200).all()
    assert (pixels[~inside] == 7).all()
    assert vertical.resized == out_h or horizontal.resized == out_w
    assert abs(top - (out_h - top - vertical.resized)) <= 1  # in the middle
    assert abs(left - (out_w - left - horizontal.resized)) <= 1


def test_pad_of_a_wide_picture_is_the_scaled_picture_between_two_bars():
    image = Image.fromarray(noise(30, 60))
    pixels = Preprocessing(size=(20, 20), fit="pad", pad_color=9).pixels(image)
    np.testing.assert_array_equal(
        pixels[5:15], np.asarray(image.resize((20, 10), Image.Resampling.BILINEAR))
    )
    assert (pixels[:5] == 9).all()
    assert (pixels[15:] == 9).all()


@settings(max_examples=30, deadline=None)
@given(
    height=st.integers(1, 150),
    width=st.integers(1, 150),
    out_h=st.integers(1, 40),
    out_w=st.integers(1, 40),
)
def test_stretch_is_a_resize(height, width, out_h, out_w):
    image = Image.fromarray(noise(height, width))
    expected = rows_first(image, (out_w, out_h), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(
        Preprocessing(size=(out_h, out_w), fit="stretch").pixels(image), expected
    )


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_one_channel_and_sixteen_bits_go_the_same_way(fit):
    base = Preprocessing(size=(16, 24), resize=(20, 28), fit=fit)
    grey = noise(50, 40)[:, :, 0]
    three = base.pixels(Image.fromarray(np.repeat(grey[:, :, None], 3, 2)))
    one = dataclasses.replace(base, channels=1, mean=(0.5,), std=(0.5,))
    np.testing.assert_array_equal(one.pixels(Image.fromarray(grey)), three[:, :, :1])
    deep = dataclasses.replace(one, value_range=65535)
    pixels = deep.pixels(Image.fromarray(grey.astype(np.uint16) * 257))
    assert pixels.dtype == np.uint16
    assert pixels.shape == (16, 24, 1)
    assert np.abs(pixels / 257 - three[:, :, :1]).max() <= 1


axes = st.builds(
    Axis,
    length=st.integers(1, 5000),
    resized=st.integers(1, 5000),
    offset=st.integers(-500, 500),
    size=st.integers(1, 512),
)


@given(axis=axes, x=st.floats(-1e4, 1e4))
def test_axis_there_and_back(axis, x):
    assert axis.to_input(axis.to_image(x)) == pytest.approx(x, abs=1e-6)
    assert axis.to_image(axis.to_input(x)) == pytest.approx(x, abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(8, 160),
    width=st.integers(8, 160),
    fit=st.sampled_from(["crop", "pad", "stretch"]),
    data=st.data(),
)
def test_axis_points_at_the_pixel_that_was_marked(height, width, fit, data):
    value = Preprocessing(size=(24, 32), resize=(28, 36), fit=fit)
    vertical, horizontal = value.axes(height, width)
    y, x = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    marked = np.zeros((height, width, 3), np.uint8)
    marked[y, x] = 255
    pixels = value.pixels(Image.fromarray(marked))[:, :, 0].astype(float)
    there = float(vertical.to_input(y + 0.5)), float(horizontal.to_input(x + 0.5))
    # of the filter, in input pixels
    reach = (
        1 + max(1.0, 1 / vertical.scale),
        1 + max(1.0, 1 / horizontal.scale),
    )
    if not all(
        r <= place <= size - r for place, size, r in zip(there, value.size, reach, strict=True)
    ):
        return  # cut away, or at the edge, where a part of the spot is missing
    if pixels.sum() < 20:
        return  # so much reduced that a single pixel drowns in rounding
    centre = [(np.indices(pixels.shape)[i] + 0.5) * pixels for i in (0, 1)]
    found = [c.sum() / pixels.sum() for c in centre]
    assert found == pytest.approx(there, abs=0.51)


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(40, 400),
    width=st.integers(40, 400),
    fit=st.sampled_from(["crop", "pad", "stretch"]),
)
def test_axis_says_where_each_input_pixel_comes_from(height, width, fit):
    value = Preprocessing(size=(20, 28), resize=(24, 32), fit=fit)
    pixels = value.pixels(Image.fromarray(smooth(height, width))).astype(float)
    vertical, horizontal = value.axes(height, width)
    y, x = vertical.to_image(np.arange(20) + 0.5), horizontal.to_image(np.arange(28) + 0.5)
    # at an edge the filter is cut off
    inner_y = (y > 1.5 * vertical.scale) & (y < height - 1.5 * vertical.scale)
    inner_x = (x > 1.5 * horizontal.scale) & (x < width - 1.5 * horizontal.scale)
    np.testing.assert_allclose(
        pixels[inner_y][:, inner_x, 0],
        np.tile(255 * x[inner_x] / width, (inner_y.sum(), 1)),
        atol=1.5,
    )
    np.testing.assert_allclose(
        pixels[inner_y][:, inner_x, 1].T,
        np.tile(255 * y[inner_y] / height, (inner_x.sum(), 1)),
        atol=1.5,
    )


# ---- numbers


def test_normalise_is_what_it_says():
    value = Preprocessing(size=(5, 6), fit="stretch")
    pixels = np.stack([noise(5, 6, seed) for seed in range(3)])
    result = value.normalise(pixels)
    assert result.shape == (3, 3, 5, 6)
    assert result.dtype == np.float32
    assert np.moveaxis(result, 1, -1).flags.c_contiguous  # channels last
    for n, c, y, x in np.ndindex(result.shape):
        expected = (int(pixels[n, y, x, c]) / 255 - IMAGENET_MEAN[c]) / IMAGENET_STD[c]
        assert result[n, c, y, x] == pytest.approx(expected, abs=1e-5)


def test_normalise_of_sixteen_bits():
    value = Preprocessing(
        size=(2, 2), fit="stretch", channels=1, value_range=65535, mean=(0.25,), std=(0.5,)
    )
    pixels = np.array([[[[0], [65535]], [[13107], [1]]]], np.uint16)
    expected = [[[[-0.5, 1.5], [-0.1, (1 / 65535 - 0.25) / 0.5]]]]
    np.testing.assert_allclose(value.normalise(pixels), expected, atol=1e-6)


def test_torch_normalises_alike():
    torch = pytest.importorskip("torch", reason="training install")
    from resnets.data.transforms import normalise

    value = Preprocessing(size=(5, 6), fit="stretch")
    pixels = np.stack([noise(5, 6, seed) for seed in range(3)])
    images = torch.from_numpy(pixels.transpose(0, 3, 1, 2).astype(np.float32))
    np.testing.assert_allclose(normalise(images, value).numpy(), value.normalise(pixels), atol=1e-5)


# ---- the value


VALUES = [
    Preprocessing(),
    Preprocessing.square(32),
    Preprocessing(size=(10, 30), fit="pad", pad_color=255, interpolation="bicubic"),
    Preprocessing(
        size=(8, 8),
        fit="stretch",
        channels=1,
        value_range=65535,
        pad_color=65535,
        mean=(0.1,),
        std=(2.0,),
    ),
]


@pytest.mark.parametrize("value", VALUES)
def test_to_dict_and_back(value):
    import json

    assert Preprocessing.from_dict(value.to_dict()) == value
    assert Preprocessing.from_dict(json.loads(json.dumps(value.to_dict()))) == value


def test_square():
    assert Preprocessing.square(224, 0.875).resize == (256, 256)
    assert Preprocessing.square(224) == Preprocessing(size=(224, 224), resize=(224, 224))
    assert Preprocessing.square(64, fit="pad").fit == "pad"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"fit": "cover"}, ["fit", "'cover'", "crop, pad, stretch"]),
        ({"interpolation": "nearest"}, ["interpolation", "'nearest'", "bilinear, bicubic"]),
        ({"channels": 4}, ["channels", "4", "1, 3"]),
        ({"value_range": 65535}, ["value_range", "65535", "255"]),
        (
            {"channels": 1, "value_range": 1, "mean": (0,), "std": (1,)},
            ["value_range", "255, 65535"],
        ),
        ({"size": (0, 224)}, ["size", "(0, 224)", "from 1 on"]),
        ({"size": (224.5, 224)}, ["size", "whole numbers"]),
        ({"size": (224,)}, ["size", "height and width"]),
        ({"resize": (-1, 256)}, ["resize", "(-1, 256)", "from 1 on"]),
        ({"resize": (200, 256)}, ["(224, 224)", "(200, 256)", "at least as large"]),
        ({"mean": (0.5,)}, ["mean", "each of 3 channels"]),
        ({"std": (1.0,) * 4}, ["std", "each of 3 channels"]),
        ({"std": (1.0, 0.0, 1.0)}, ["std", "above 0"]),
        ({"std": (1.0, float("nan"), 1.0)}, ["std", "above 0"]),
        ({"mean": (0.0, float("inf"), 1.0)}, ["mean", "finite"]),
        ({"pad_color": 256}, ["pad_color", "256", "0 to 255"]),
        ({"pad_color": -1}, ["pad_color", "-1", "0 to 255"]),
    ],
)
def test_invalid_values_are_refused_and_what_is_allowed_is_named(changes, words):
    with pytest.raises(ValueError, match="preprocessing: ") as error:
        Preprocessing(**changes)
    assert all(word in str(error.value) for word in words), str(error.value)


def test_an_unknown_key_is_refused():
    with pytest.raises(ValueError, match=r"unknown sizes; allowed: size, resize, channels"):
        Preprocessing.from_dict({"sizes": [1, 2]})


# ---- files that are read


def test_a_plain_picture_comes_as_it_is(tmp_path):
    array = noise(20, 30)
    path = tmp_path / "a.png"
    path.write_bytes(encode(array))
    for source in (path, str(path), path.read_bytes()):
        image, notes, size = open_image(source)
        assert (notes, size, image.mode) == ([], (30, 20), "RGB")
        np.testing.assert_array_equal(np.asarray(image), array)


@pytest.mark.parametrize("form", ["BMP", "WEBP", "TIFF", "PPM", "JPEG2000"])
def test_lossless_formats(form):
    array = noise(20, 30)
    options = {"lossless": True} if form == "WEBP" else {}
    np.testing.assert_array_equal(np.asarray(open_image(encode(array, form, **options))[0]), array)


@pytest.mark.parametrize(
    "name",
    [
        "with spaces.png",
        "고양이 사진.png",
        "\N{CAT}\N{SMILING FACE WITH OPEN MOUTH}.png",
        "a'b\"c,d.png",
    ],
)
def test_names_of_any_script(tmp_path, name):
    (tmp_path / name).write_bytes(encode(noise(4, 5)))
    assert open_image(tmp_path / name)[2] == (5, 4)


def test_cmyk_jpeg():
    image, notes, _ = open_image(
        encode(Image.new("CMYK", (20, 20), (0, 255, 255, 0)), "JPEG", quality=95)
    )
    assert notes == ["CMYK turned into RGB"]
    assert np.abs(np.asarray(image).astype(int) - (255, 0, 0)).max() <= 6
    grey = open_image(encode(Image.new("CMYK", (20, 20), (0, 0, 0, 0)), "JPEG"), channels=1)[0]
    assert grey.mode == "L"
    assert np.asarray(grey).min() >= 250


def test_transparency_is_laid_on_white():
    array = np.zeros((2, 2, 4), np.uint8)
    array[..., 0], array[0, 0, 3], array[1, 1, 3] = 200, 255, 51
    image, notes, _ = open_image(encode(array))
    assert notes == ["transparency laid on white"]
    expected = [[(200, 0, 0), (255, 255, 255)], [(255, 255, 255), (244, 204, 204)]]
    assert np.abs(np.asarray(image).astype(int) - expected).max() <= 1


def test_an_alpha_channel_without_transparency_is_no_remark():
    array = noise(6, 7)
    image, notes, _ = open_image(encode(Image.fromarray(array).convert("RGBA")))
    assert notes == []
    np.testing.assert_array_equal(np.asarray(image), array)


def test_grey_with_transparency_is_laid_on_white():
    array = np.array([[[0, 255], [0, 0]], [[100, 255], [0, 51]]], np.uint8)
    image, notes, _ = open_image(encode(Image.fromarray(array, "LA")), channels=1)
    assert notes == ["transparency laid on white"]
    assert np.asarray(image).tolist() == [[0, 255], [100, 204]]


def test_palette_with_transparency():
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putdata([0, 1])
    opened, notes, _ = open_image(encode(image, transparency=1))
    assert notes == ["transparency laid on white"]
    assert np.asarray(opened).tolist() == [[[10, 20, 30], [255, 255, 255]]]
    opened, notes, _ = open_image(encode(image))
    assert notes == []
    assert np.asarray(opened).tolist() == [[[10, 20, 30], [40, 50, 60]]]


def test_grey_and_one_bit():
    grey = noise(7, 9)[:, :, 0]
    np.testing.assert_array_equal(
        np.asarray(open_image(encode(grey))[0]), np.repeat(grey[:, :, None], 3, 2)
    )
    np.testing.assert_array_equal(np.asarray(open_image(encode(grey), channels=1)[0]), grey)
    bits = Image.fromarray(grey > 127)
    assert bits.mode == "1"
    np.testing.assert_array_equal(
        np.asarray(open_image(encode(bits), channels=1)[0]), np.where(grey > 127, 255, 0)
    )


def sixteen_bit_files():
    values = np.random.default_rng(0).integers(0, 65536, (6, 8), np.uint16)
    big_endian = io.BytesIO()
    Image.frombytes("I;16B", (8, 6), values.astype(">u2").tobytes()).save(big_endian, "TIFF")
    return values, {
        "png": encode(values),
        "tiff": encode(values, "TIFF"),
        "big-endian tiff": big_endian.getvalue(),
    }


@pytest.mark.parametrize("kind", ["png", "tiff", "big-endian tiff"])
def test_sixteen_bits_are_kept_or_scaled(kind):
    values, files = sixteen_bit_files()
    image, notes, _ = open_image(files[kind], channels=1, value_range=65535)
    assert notes == []
    np.testing.assert_array_equal(np.asarray(image), values)
    image, notes, _ = open_image(files[kind], channels=3)
    assert notes == ["values 0-65535 scaled to 8 bits"]
    np.testing.assert_array_equal(np.asarray(image)[:, :, 1], np.round(values / 257))


def test_eight_bits_where_sixteen_are_wanted():
    grey = noise(7, 9)[:, :, 0]
    np.testing.assert_array_equal(
        np.asarray(open_image(encode(grey), 1, 65535)[0]), grey.astype(np.uint16) * 257
    )


def test_float_tiff():
    values = np.array([[0.0, 257.0, 65535.0, np.nan, -5.0, 1e9]], np.float32)
    image, notes, _ = open_image(encode(values, "TIFF"), channels=1, deep_range=(0, 65535))
    assert np.asarray(image).tolist() == [[0, 1, 255, 0, 0, 255]]
    assert notes == [
        "values 0-65535 scaled to 8 bits",
        "values that are not finite made black or white",
        "values outside of 0-65535, the range of the model, were cut",
    ]


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_gives_the_same_upright_picture(form, orientation):
    upright = smooth(24, 40)
    inverse = {6: 8, 8: 6}.get(orientation, orientation)
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    options = {"JPEG": {"quality": 95}, "WEBP": {"lossless": True}}.get(form, {})
    content = encode(np.ascontiguousarray(UPRIGHT[inverse](upright)), form, exif=exif, **options)
    image, notes, _ = open_image(content)
    assert image.size == (40, 24)
    assert notes == ([] if orientation == 1 else ["turned upright (EXIF)"])
    assert np.abs(np.asarray(image).astype(int) - upright).max() <= (12 if form == "JPEG" else 0)


@pytest.mark.parametrize("orientation", [0, 9, 200])
def test_orientations_that_do_not_exist_turn_nothing(orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    image, notes, _ = open_image(encode(smooth(24, 40), exif=exif))
    assert (image.size, notes) == ((40, 24), [])


def test_the_first_frame_of_an_animation_is_used_and_said():
    frames = [Image.fromarray(noise(6, 7, seed)) for seed in range(3)]
    for form in ("PNG", "TIFF", "WEBP"):
        options = {"lossless": True} if form == "WEBP" else {}
        image, notes, _ = open_image(
            encode(frames[0], form, save_all=True, append_images=frames[1:], **options)
        )
        assert notes == ["several frames: the first is used"]
        np.testing.assert_array_equal(np.asarray(image), np.asarray(frames[0]))


def test_a_phone_picture_with_a_second_one_behind_it_is_reduced_as_a_jpeg():
    image = Image.fromarray(smooth(400, 600))
    content = encode(image, "MPO", save_all=True, append_images=[image.rotate(180)])
    opened, notes, size = open_image(content, short_side=100)
    assert notes == ["several frames: the first is used"]
    assert (opened.size, size) == ((150, 100), (600, 400))


@settings(max_examples=60, deadline=None)
@given(height=st.integers(1, 700), width=st.integers(1, 700), short=st.integers(1, 200))
def test_reduced_decoding_never_falls_below_the_short_side(height, width, short):
    image, _, size = open_image(encode(Image.new("RGB", (width, height)), "JPEG"), short_side=short)
    assert size == (width, height)
    assert min(image.size) >= min(short, height, width)
    # an eighth is the least that JPEG decodes to
    assert min(image.size) <= 2 * short or min(height, width) >= 16 * short


def test_to_mode_takes_pictures_in_memory():
    notes = []
    assert to_mode(Image.new("RGBA", (2, 2), (0, 0, 0, 0)), 1, 255, notes).getpixel((0, 0)) == 255
    assert notes == ["transparency laid on white"]


# ---- files that are refused


def reason(source, **options):
    with pytest.raises(BadImage) as error:
        open_image(source, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.filterwarnings(
    "ignore::UserWarning:PIL"
)  # pytest puts its own filters before those of the module
@pytest.mark.parametrize("form", ["JPEG", "PNG", "BMP", "TIFF", "WEBP", "PPM", "JPEG2000"])
def test_truncated(form):
    content = encode(noise(200, 300), form)
    assert reason(content[: len(content) * 2 // 3]).startswith("not readable as an image")
    assert reason(content[:8]).startswith("not readable as an image")


def test_truncated_jpeg_is_found_at_reduced_scale_too():
    content = encode(noise(400, 300), "JPEG")
    assert (
        reason(content[: len(content) * 2 // 3], short_side=64)
        == "not readable as an image (image file is truncated)"
    )


def test_empty_text_gif_missing_and_folder(tmp_path):
    for name, content in {
        "empty.jpg": b"",
        "text.jpg": b"This is no picture.\n",
        "anim.jpg": encode(noise(5, 5), "GIF"),
    }.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "folder.jpg").mkdir()
    assert reason(tmp_path / "empty.jpg") == reason(b"") == "empty file"
    assert (
        reason(tmp_path / "text.jpg")
        == "not readable as an image (none of BMP, GIF, JPEG, JPEG2000, PNG, PPM, TIFF, WEBP,"
        " AVIF)"
    )
    assert (
        reason(tmp_path / "anim.jpg") == "GIF: not read as a photograph; convert it to PNG or JPEG"
    )
    assert reason(tmp_path / "missing.jpg") == "no such file"
    assert reason(tmp_path / "folder.jpg") == "a folder, a pipe or a device, not a file"
    assert reason(tmp_path / ("x" * 300 + ".jpg")).startswith("not readable as an image")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes on this system")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    assert reason(tmp_path / "pipe.jpg") == "a folder, a pipe or a device, not a file"


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything"
)
def test_no_permission(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(encode(noise(4, 4)))
    path.chmod(0)
    assert reason(path) == "no permission to read it"


def png_bomb(side):
    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(1000)))
        + chunk(b"IEND", b"")
    )


def test_a_bomb_is_refused_before_anything_is_allocated():
    resource = pytest.importorskip("resource", reason="memory is read with resource")
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    assert (
        reason(png_bomb(30_000))
        == f"too large (Image size (900000000 pixels) exceeds limit of {MAX_PIXELS} pixels); scale"
        " it down first"
    )
    assert time.perf_counter() - start < 0.5
    # kilobytes; decoded it would be 2.7 GB
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000


def test_a_bomb_is_refused_where_pillow_was_told_not_to(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert reason(png_bomb(30_000)).startswith(
        "30000 x 30000 pixels, more than the limit of 178,956,970"
    )


def test_formats_that_start_programs_are_not_opened():
    eps = encode(Image.new("RGB", (10, 10)), "EPS")
    assert reason(eps).startswith("not readable as an image (none of")


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_damage_gives_a_reason_or_a_picture_and_nothing_else(data):
    kinds = {"JPEG": {}, "PNG": {}, "WEBP": {}, "BMP": {}, "PPM": {}}
    form = data.draw(st.sampled_from(sorted(kinds)))
    content = bytearray(encode(noise(12, 16), form))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        image = open_image(bytes(content))[0]
    except BadImage:
        return
    assert image.mode == "RGB"


# ---- what the module does to its process


def test_reading_in_threads_leaves_the_warnings_alone_and_says_nothing():
    odd = encode(Image.fromarray(noise(8, 8)), "TIFF", compression="tiff_lzw")
    palette = Image.new("P", (40, 40))
    palette.putpalette([0, 0, 0, 255, 255, 255])
    files = [odd, encode(palette, transparency=bytes([0, 128])), encode(noise(64, 64), "JPEG")] * 60
    with warnings.catch_warnings(record=True) as said:
        before = list(warnings.filters)
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(open_image, files))
        assert warnings.filters == before
    assert said == []


def test_pillows_limits_and_others_warnings_stay_as_they_were():
    code = (
        "import warnings, PIL.Image as I; limit = I.MAX_IMAGE_PIXELS; import resnets.preprocessing;"
        "assert I.MAX_IMAGE_PIXELS == limit;"
        "warnings.warn('heard', UserWarning)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "heard" in done.stderr


def test_odd_metadata_is_read_without_a_remark(tmp_path):
    content = bytearray(
        encode(
            noise(8, 8),
            "JPEG",
            exif=b"Exif\0\0II*\0\x08\0\0\0\x05\0\x12\x01\x03\0\x01\0\0\0\xff\xff",
        )
    )
    path = tmp_path / "odd.jpg"
    path.write_bytes(bytes(content))
    code = f"from resnets.images import open_image; open_image({str(path)!r})"
    done = subprocess.run(
        [sys.executable, "-W", "always", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
