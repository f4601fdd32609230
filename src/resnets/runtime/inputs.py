"""What may be given to predict from: files, folders, images in memory, and lists of them."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import IO, Any

import numpy as np
from PIL import Image

from resnets.clip import Video, open_video
from resnets.images import UNREADABLE, BadImage, to_mode
from resnets.listing import Listing
from resnets.preprocessing import Preprocessing
from resnets.runtime.decoding import Decoded, image_input, read_input
from resnets.runtime.folders import find_images

Input = (
    str | os.PathLike[str] | bytes | bytearray | memoryview | IO[bytes] | Image.Image | np.ndarray
)
Inputs = Input | Iterable[Input]
Source = str | bytes | Image.Image | np.ndarray  # what can be decoded: a name, content, pixels

ALLOWED = (
    "allowed: the name of a file, its content (bytes), an open file, an image of Pillow, or an"
    " array (height, width, channels)"
)
_NUMBERS = "biufc"  # kinds of NumPy types
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


def open_inputs(inputs: Inputs, takes: str = "image") -> Iterator[tuple[str, Source]]:
    """Each image with the name its prediction is to have; a folder stands for all images below it,
    or, for `takes` "clip", for all videos and folders of frames.

    Folders are walked through at once, each a single time, so that mistakes show before the work
    starts; from a generator nothing is taken before its turn.

    Raises:
        ValueError: At once, where a file or folder is missing, a folder cannot be read or holds no
            image, or something is no image.
    """
    items = _items(inputs)
    if not (_is_one(inputs) or isinstance(inputs, (Collection, np.ndarray))):
        return _named(items, takes)
    given = list(items)
    if not given:
        raise ValueError(f"nothing to predict: {_kind(inputs)} without an image in it")
    if all(isinstance(item, (str, os.PathLike)) for item in given):
        return ((file, file) for file in Listing((_path(item) for item in given), takes))
    return _named([_looked_at(item, takes) for item in given], takes)


def _looked_at(item: object, takes: str) -> object:
    """An item that is no mistake, a folder with what is below it."""
    if isinstance(item, (str, os.PathLike)):
        return Listing([_path(item)], takes)
    _refuse_others(item)
    return item


def _named(items: Iterable[object], takes: str) -> Iterator[tuple[str, Source]]:
    for number, item in enumerate(items):
        if isinstance(item, (str, os.PathLike)):
            yield from ((file, file) for file in find_images(iter([_path(item)]), takes))
        elif isinstance(item, Listing):
            yield from ((file, file) for file in item)
        else:
            yield _name(item) or f"image {number}", to_source(item)


def to_source(item: object) -> Source:
    """One image as it can be decoded.

    Raises:
        ValueError: It is no image; the message says what is allowed.
    """
    _refuse_others(item)
    if isinstance(item, (bytes, Image.Image, np.ndarray)):
        return item
    if isinstance(item, (str, os.PathLike)):
        return _path(item)
    if isinstance(item, (bytearray, memoryview)):
        return bytes(item)
    if hasattr(item, "read"):
        return _content(item)
    try:
        return np.asarray(item)
    except (TypeError, RuntimeError) as error:  # a tensor on a GPU, or one that needs gradients
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"{_kind(item)} that cannot become an array ({reason}); of a tensor give"
            " tensor.detach().cpu().numpy()"
        ) from None


def decode(source: Source, wanted: Preprocessing, exact: bool = False) -> Decoded:
    """What an engine takes of one image.

    Args:
        source: What `to_source` gave.
        wanted: Of the network.
        exact: Whether files are decoded as they are stored, and never at a smaller scale.

    Raises:
        BadImage: It cannot be read as an image.
        ValueError: An array of another shape or type.
    """
    if isinstance(source, np.ndarray):
        return decode_array(source, wanted)
    if isinstance(source, Image.Image):
        return decode_image(source, wanted)
    if isinstance(source, str) and os.path.exists(source) and not os.path.isfile(source):  # noqa: PTH110, PTH113 - never raise
        # a pipe or a device: opening it may never end
        raise BadImage("neither a file nor a folder")
    return read_input(source, wanted, exact)


def decode_image(image: Image.Image, wanted: Preprocessing) -> Decoded:
    """An image of Pillow for a network, read to its end and upright.

    Raises:
        BadImage: Its file is broken, or it is closed, empty or of a mode that cannot be converted.
    """
    try:
        if 0 in image.size:
            raise BadImage("an image without pixels")
        return image_input(image, wanted)
    except BadImage:
        raise
    except (*UNREADABLE, AttributeError) as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise BadImage(f"not readable as an image ({reason})") from None


@contextmanager
def open_source(source: Source) -> Iterator[Video]:
    """A video by its name or content.

    Raises:
        BadImage: It cannot be read.
        ValueError: An image or an array.
    """
    if not isinstance(source, (str, bytes)):
        raise ValueError(
            f"{_kind(source)} is no video; this network takes videos: the name of a file or of a"
            " folder of frames, or the content of a file (bytes)"
        )
    with open_video(source) as video:
        yield video


def decode_array(array: np.ndarray, wanted: Preprocessing) -> Decoded:
    """An array for a network: gray becomes colour, transparency is laid on white.

    Raises:
        ValueError: Another shape or type; the message says how to change it.
    """
    takes = f"this network takes (height, width, {wanted.channels}) of type {wanted.dtype}"
    if cure := _array_cure(array, wanted):
        raise ValueError(f"an array of shape {array.shape} and type {array.dtype}; {takes}: {cure}")
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    notes: list[str] = []
    if array.dtype.itemsize == 2:
        image = Image.fromarray(np.ascontiguousarray(array, wanted.dtype))
    else:
        image = Image.fromarray(np.ascontiguousarray(array))
        image = to_mode(image, wanted.channels, wanted.value_range, notes)
    return Decoded(wanted.framed(wanted.pixels(image)), array.shape[:2], notes)


def _array_cure(array: np.ndarray, wanted: Preprocessing) -> str:
    """How to change an array that is not fit; empty for one that is."""
    shape, kind = array.shape, array.dtype.kind
    if kind not in _NUMBERS:
        return "give pixels"
    if array.ndim == 4:
        return "a batch; predict takes a list of its images: predict(list(array))"
    if array.ndim not in (2, 3):
        return "give one image"
    if 0 in shape:
        return "there are no pixels in it"
    if array.ndim == 3 and shape[2] not in _MODES:
        if shape[0] in _MODES:
            return "turn its channels to the end: array.transpose(1, 2, 0)"
        return "give 1, 3 or 4 channels (gray, RGB, RGBA)"
    if array.dtype == np.uint8:
        return ""
    if kind == "f":
        small = np.max(array, initial=0, where=np.isfinite(array)) <= 1
        values = "(array * 255).round()" if small else "array.round()"
        return f"{values}.astype('uint8'), for pixels of 0 to {'1' if small else '255'}"
    if array.dtype.newbyteorder("=") == wanted.dtype and shape[2:] in ((), (1,)):
        return ""
    if kind == "b":
        return "array.astype('uint8') * 255"
    if kind == "c":
        return "give pixels"
    return "scale its values to 0 to 255, then array.astype('uint8')"


def _items(inputs: Inputs) -> Iterable[Any]:
    """What was given, one by one."""
    if _is_one(inputs):
        return [inputs]
    _refuse_data_sets(inputs)
    if isinstance(inputs, np.ndarray):
        return inputs.ravel().tolist()  # of names
    if isinstance(inputs, Mapping) or not isinstance(inputs, Iterable):
        raise ValueError(f"{_kind(inputs)} is no image; {ALLOWED}; or several of them")
    return inputs


def _is_one(inputs: object) -> bool:
    one = (str, bytes, bytearray, memoryview, os.PathLike, Image.Image)
    # Columns of names (NumPy, pandas) are arrays too; a tensor's type has no kind.
    kind = getattr(getattr(inputs, "dtype", None), "kind", "u")
    pixels = hasattr(inputs, "__array__") and kind in _NUMBERS
    return isinstance(inputs, one) or hasattr(inputs, "read") or pixels


def _refuse_others(item: object) -> None:
    _refuse_data_sets(item)
    if isinstance(item, tuple):
        raise ValueError(
            "a tuple, as data sets give them with the label; give the image alone:"
            " predict(image for image, label in data)"
        )
    elif isinstance(item, list):
        raise ValueError(
            "a list in the place of an image; give a list of images to predict, or np.array(list,"
            " 'uint8') of pixels"
        )
    elif isinstance(item, Mapping):
        raise ValueError(
            f"{_kind(item)}; give the image in it alone: predict(row['image'] for row in data)"
        )
    elif not _is_one(item):
        raise ValueError(f"{_kind(item)} is no image; {ALLOWED}")


def _refuse_data_sets(item: object) -> None:
    torch = any(base.__module__.startswith("torch.utils.data") for base in type(item).__mro__)
    indexed = hasattr(item, "__getitem__") and hasattr(item, "__len__")  # the shape of a Dataset
    if torch or (indexed and not _is_one(item) and not isinstance(item, Iterable)):
        raise ValueError(
            f"{_kind(item)}, whose images are made for training; give the folder or the files"
            " themselves: predict('photos/'), or images without transforms:"
            " predict(image for image, label in dataset)"
        )


def _path(item: str | os.PathLike[str]) -> str:
    name = os.fspath(item)
    if not isinstance(name, str) or not name or "\0" in name:
        raise ValueError(f"{name!r} is not the name of a file; {ALLOWED}")
    return name


def _content(file: Any) -> bytes:
    if callable(seekable := getattr(file, "seekable", None)) and seekable():
        file.seek(0)  # as Pillow does: it may just have been written
    content = file.read()
    if not isinstance(content, bytes):
        raise ValueError(
            f"{_kind(file)} gives {_kind(content)}, not bytes; open files with open(name, 'rb')"
        )
    return content


def _name(item: object) -> str:
    """The file that an image in memory comes from, as far as it knows."""
    name = getattr(item, "filename", None) or getattr(item, "name", None)
    return name if isinstance(name, str) else ""


def _kind(item: object) -> str:
    return "None" if item is None else f"a value of type {type(item).__name__}"
