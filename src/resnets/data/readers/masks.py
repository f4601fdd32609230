"""Images and masks: of each image a second one, whose pixels say what each pixel shows."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import PurePosixPath
from typing import NamedTuple

from resnets.data.readers.lookup import about_images, finish, read_image_sets, split_of
from resnets.data.readers.mask_classes import CLASS_FILES, Names, read_classes
from resnets.data.readers.mask_values import Content, look_at_mask
from resnets.data.readers.naming import NAMED
from resnets.data.readers.reader import Found, Reader, Source
from resnets.kinds.sample import Annotation, Finding, Sample
from resnets.listing import counted, suffix_of
from resnets.settings import listed

# Folders of masks, and of images where these are called so as well: images/1.jpg, masks/1.png
MASK_FOLDERS = frozenset(
    ("masks", "mask", "labels", "label", "annotations", "annotation", "gt", "segmentationclass")
    + ("segmentationclasspng", "labelled", "segmentations", "groundtruth", "ground_truth")
)
IMAGE_FOLDERS = frozenset(("images", "image", "imgs", "img", "jpegimages"))
# train/1.png, train_labels/1_L.png: ends of names that tell a mask from its image
FOLDER_ENDS = ("_labels", "_label", "_masks", "_mask", "_annotations", "annot", "_gt")
FILE_ENDS = ("_mask", "_masks", "_l", "_label", "_labels", "_seg", "_segmentation", "_gt")
BESIDE = "_mask"  # 1.jpg, 1_mask.png in one folder


class Pair(NamedTuple):
    """An image and its mask, by their names."""

    image: str
    mask: str


def matches(source: Source) -> bool:
    """Whether images have masks, by the names of folders and files."""
    return bool(_pairs(source)[0])


def read(source: Source, kind: str | None) -> Found:
    """See `Reader`; masks are decoded, since only their pixels say which classes they show.

    Raises:
        ValueError: Masks that cannot be told from one another, or have no names and many values.
    """
    pairs, alone = _pairs(source)
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        contents = list(pool.map(look_at_mask, (source.path / pair.mask for pair in pairs)))
    _refuse_lossy(source, pairs, contents)
    sound = [content for content in contents if not content.error]
    names = read_classes(source, [pair.image for pair in pairs], sound)
    parts = read_image_sets(source, "Segmentation")
    samples = [
        Sample(
            source.path / pair.image,
            pair.image,
            _annotations(content, names),
            _split(pair, parts),
            mask=source.path / pair.mask,
        )
        for pair, content in zip(pairs, contents, strict=True)
        if not content.error
    ]
    found = Found(
        layout=f"images and masks: {counted(len(pairs), 'pair')}",
        samples=tuple(samples),
        kind="mask",
        reader=MASKS.name,
        notes=names.notes,
        findings=(
            *about_images("warning", alone, "masks without an image, left out"),
            *_about_broken(pairs, contents),
            *_about_values(pairs, contents, names),
        ),
    )
    broken = [p.image for p, content in zip(pairs, contents, strict=True) if content.error]
    return finish(found, source, {*(pair.mask for pair in pairs), *alone, *broken, *names.files})


def _pairs(source: Source) -> tuple[list[Pair], list[str]]:
    """Images with their masks, and masks that have no image."""
    images, masks = dict[str, str](), dict[str, str]()
    stems = {os.path.splitext(name)[0] for name in source.contents.images}  # noqa: PTH122
    for name in source.contents.images:
        is_mask, key = _key(name, stems)
        own = masks if is_mask else images
        if own.setdefault(key, name) != name and is_mask:
            own.setdefault(name, name)  # a second mask of an image is said to have none
    pairs = [Pair(image, masks.pop(key)) for key, image in images.items() if key in masks]
    return pairs, sorted(masks.values()) if pairs else []


def _key(name: str, stems: set[str]) -> tuple[bool, str]:
    """Whether a file is a mask by its name, and what an image and its mask have in common."""
    *folders, last = name.split("/")
    stem = os.path.splitext(last)[0]  # noqa: PTH122
    for place in reversed(range(len(folders))):
        folder = folders[place]
        low = folder.lower()
        end = next((one for one in FOLDER_ENDS if low.endswith(one) and low != one), "")
        if low in MASK_FOLDERS or end:
            common = "*" if low in MASK_FOLDERS else folder[: -len(end)]
            return True, "/".join([*folders[:place], common, *folders[place + 1 :], _bare(stem)])
        if low in IMAGE_FOLDERS:
            return False, "/".join([*folders[:place], "*", *folders[place + 1 :], stem])
    full = "/".join([*folders, stem])
    bare = full.removesuffix(BESIDE)
    beside = bare != full and bare in stems and suffix_of(last) == ".png"
    return (True, bare) if beside else (False, full)


def _bare(stem: str) -> str:
    """The name of a mask without what tells it from its image."""
    end = next((one for one in FILE_ENDS if stem.lower().endswith(one)), "")
    return stem[: len(stem) - len(end)] or stem


def _split(pair: Pair, parts: dict[tuple[str, str], str]) -> str:
    """As the lists say, or the folders of the image."""
    path = PurePosixPath(pair.mask)
    if parts:
        above = str(path.parent.parent)
        return parts.get(("" if above == "." else above, path.stem), "")
    return split_of(pair.image.split("/")[:-1])


def _annotations(content: Content, names: Names) -> tuple[Annotation, ...]:
    """The classes in a mask, each with the value of its pixels."""
    found = {value: names.label(content, value) for value in sorted(content.values)}
    return tuple(Annotation(label, value=value) for value, label in found.items() if label)


def _refuse_lossy(source: Source, pairs: Sequence[Pair], contents: Sequence[Content]) -> None:
    lossy = [pair.mask for pair, one in zip(pairs, contents, strict=True) if one.is_lossy]
    if lossy:
        raise ValueError(
            f"{source.path}: {counted(len(lossy), 'mask')} as JPEG ({listed(lossy, NAMED)}), whose"
            " compression changes the values of pixels, so that classes cannot be told apart; save"
            " masks as PNG, of two classes after setting every pixel to 0 or 255"
        )


def _about_broken(pairs: Sequence[Pair], contents: Sequence[Content]) -> list[Finding]:
    """Masks that cannot be decoded, by reason."""
    reasons = sorted({content.error for content in contents if content.error})
    findings = []
    for reason in reasons:
        own = [p.mask for p, c in zip(pairs, contents, strict=True) if c.error == reason]
        text = f"masks that cannot be read, left out with their images: {reason}"
        findings += about_images("warning", own, text)
    return findings


def _about_values(
    pairs: Sequence[Pair], contents: Sequence[Content], names: Names
) -> list[Finding]:
    """Values of pixels that are of no class."""
    unknown = dict[str, str]()
    values = set[str]()
    for pair, content in zip(pairs, contents, strict=True):
        own = [value for value in content.values if names.is_unknown(content, value)]
        values |= {content.shown(value) for value in own}
        unknown |= {pair.mask: ""} if own else {}
    text = f"masks with pixels of no class, which are not judged: {listed(sorted(values), NAMED)}"
    return about_images("warning", list(unknown), text)


MASKS = Reader(
    name="masks",
    kinds=("mask",),
    expects=f"images/* and masks/*.png, with {CLASS_FILES[0]}, or SegmentationClass/*.png",
    matches=matches,
    read=read,
)
