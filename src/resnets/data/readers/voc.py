"""Pascal VOC: an XML file for each image, and lists of the parts in ImageSets/Main."""

from __future__ import annotations

import math
import re
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from resnets.data.readers.lookup import (
    PEEK,
    Images,
    about_images,
    finish,
    read_image_sets,
    read_text,
    split_of_file,
)
from resnets.data.readers.naming import NAMED
from resnets.data.readers.reader import Found, Reader, Source
from resnets.kinds.sample import Annotation, Sample
from resnets.listing import counted
from resnets.settings import listed

SIDES, DIMENSIONS = ("xmin", "ymin", "xmax", "ymax"), ("width", "height")


def matches(source: Source) -> bool:
    """Whether one of the first XML files is of Pascal VOC."""
    return any(_is_voc(source.path / name) for name in _files(source)[:PEEK])


def read(source: Source, kind: str | None) -> Found:
    """See `Reader`; an XML file without objects says that its image shows none.

    Raises:
        ValueError: An XML file cannot be read, or what it says of an object.
    """
    images = Images(source.contents.images)
    parts = read_image_sets(source, "Main")
    own = [name for name in _files(source) if _is_voc(source.path / name)]
    samples, renamed = list[Sample](), list[str]()
    for name in own:
        root = _root(source.path / name)
        image, other_name = _image(root, name, images)
        renamed += [name] if other_name else []
        folders, stem = PurePosixPath(name).parent.parts, PurePosixPath(name).stem
        listed_split = parts.get(("/".join(folders[:-1]), stem), "")
        samples.append(
            Sample(
                source.path / image,
                image,
                tuple(_annotation(one, source.path / name) for one in root.findall("object")),
                listed_split if parts else split_of_file(name) or split_of_file(image),
                size=_size(root),
            )
        )
    known = {PurePosixPath(name).stem for name in own}
    lost = sorted({stem for _, stem in parts} - known)
    what = f"in the lists of ImageSets/Main and without an XML file: {counted(len(lost), 'image')}"
    note = (
        f"{counted(len(renamed), 'XML file')} with another name in <filename>, found by the name of"
        f" the file itself ({listed(renamed, NAMED)})"
    )
    found = Found(
        layout=f"Pascal VOC: {counted(len(own), 'XML file')}",
        samples=tuple(samples),
        kind="boxes",
        reader=VOC.name,
        notes=(note,) if renamed else (),
        findings=tuple(about_images("warning", lost, what)),
    )
    lists = [one for one in source.contents.others if "ImageSets/" in one]
    return finish(found, source, {*own, *lists})


def _image(root: Element, name: str, images: Images) -> tuple[str, bool]:
    """The image that an XML file is about, by its own name and then by what it says; and whether
    the two differ. Copies keep their old name inside."""
    called = (root.findtext("filename") or "").strip()
    stem = PurePosixPath(name).stem
    if by_stem := images.find(stem, name):
        return by_stem, PurePosixPath(called.replace("\\", "/")).stem not in ("", stem)
    found = images.find(called, name) if called else None
    return found or str(PurePosixPath(name).parent / (called or stem)), False


def _files(source: Source) -> list[str]:
    return [name for name in source.contents.others if name.lower().endswith(".xml")]


def _is_voc(path: Path) -> bool:
    """Whether an XML file begins as those of Pascal VOC; others may lie beside images for any
    reason."""
    return bool(re.search(r"<annotation[\s>]", read_text(path, 4096)))


def _root(path: Path) -> Element:
    try:
        return ElementTree.fromstring(path.read_bytes())
    except ElementTree.ParseError as error:
        raise ValueError(f"{path}: not readable as XML ({error}); correct or remove it") from None
    except (OSError, ValueError, LookupError) as error:  # of an encoding that is not known
        raise ValueError(f"{path}: not readable as XML ({error}); save it as UTF-8") from None


def _size(root: Element) -> tuple[int, int] | None:
    """Width and height; many programs write zeros where they do not know."""
    try:
        width, height = (int(float(root.findtext(f"size/{side}") or 0)) for side in DIMENSIONS)
    except (ValueError, OverflowError):
        return None
    return (width, height) if width > 0 and height > 0 else None


def _annotation(thing: Element, path: Path) -> Annotation:
    label = (thing.findtext("name") or "").strip()
    box = thing.find("bndbox")  # not those of its parts, which lie deeper
    if not label or box is None:
        lacking = "<name>" if not label else f"<bndbox>, and is called {label}"
        turned = "; rotated boxes are not read" if thing.find("robndbox") is not None else ""
        raise ValueError(f"{path}: an object has no {lacking}{turned}; correct or remove it")
    texts = [(box.findtext(side) or "").strip() for side in SIDES]
    try:
        numbers = [float(text) for text in texts]
    except ValueError:
        numbers = [math.nan]
    if not all(map(math.isfinite, numbers)):
        given = ", ".join(f"{side} {text!r}" for side, text in zip(SIDES, texts, strict=True))
        raise ValueError(f"{path}: the box of {label} has {given}; four numbers are needed")
    difficult = (thing.findtext("difficult") or "").strip() in ("1", "true", "True")
    return Annotation(label, _edges(*numbers), difficult)


def _edges(
    left: float, top: float, right: float, bottom: float
) -> tuple[float, float, float, float]:
    """Pixels are counted from 1, and the last one belongs to the box; some programs write 0 at the
    edge. A box from a pixel to the same pixel is a click by mistake and stays empty."""
    first = max(left - 1, min(left, 0)), max(top - 1, min(top, 0))
    if right > left and bottom > top:
        return *first, right, bottom
    return *first, first[0] + right - left, first[1] + bottom - top


VOC = Reader(
    name="voc",
    kinds=("boxes",),
    expects="Annotations/*.xml of Pascal VOC beside JPEGImages",
    matches=matches,
    read=read,
)
