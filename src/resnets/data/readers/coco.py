"""COCO: JSON files that list images, categories and boxes; one file for each part of the data."""

from __future__ import annotations

import json
import re
import reprlib
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from resnets.data.readers.lookup import PEEK, Images, about_images, finish, read_text, split_of
from resnets.data.readers.naming import NAMED
from resnets.data.readers.reader import Found, Reader, Source
from resnets.kinds.sample import Annotation, Finding, Sample
from resnets.settings import listed

KEYS = ("info", "licenses", "images", "annotations", "categories", "type")
SIDES = ("width", "height")
FARTHEST = 1e9  # pixels: no image is as large
INSTANCES = "instances_"  # files of boxes, where those of captions and key points lie beside them


class Content(NamedTuple):
    """One file: by their ids, the names and sizes of its images and the names of its categories;
    and its annotations."""

    images: dict[int | str, tuple[str, tuple[int, int] | None]]
    categories: dict[int | str, str]
    annotations: Sequence[Mapping[str, Any]]


def matches(source: Source) -> bool:
    """Whether one of the first JSON files is of COCO."""
    root, names = _place(source)
    return any(_is_coco(root.path / name) for name in names[:PEEK])


def read(source: Source, kind: str | None) -> Found:
    """See `Reader`; an image without annotations shows none.

    Raises:
        ValueError: A file cannot be read, or what it says of an image or a box.
    """
    root, names = _place(source)
    names = [name for name in names if _is_coco(root.path / name)]
    instances = [name for name in names if PurePosixPath(name).name.startswith(INSTANCES)]
    names = instances or names
    images = Images(root.contents.images)
    samples, findings, described = list[Sample](), list[Finding](), set[str]()
    for name in names:
        content = _content(root.path / name)
        annotations, lost = _annotations(content, root.path / name)
        what = f"{name}: boxes of images that it does not list, left out"
        findings += about_images("warning", lost, what)
        described |= set(content.categories.values())
        stem = re.split(r"[^a-z]+", PurePosixPath(name).stem.lower())
        split = split_of([*PurePosixPath(name).parts[:-1], *stem])
        for key, (called, size) in content.images.items():
            image = images.find(called, name, split)
            image = image or str(PurePosixPath(name).parent / called)
            own = tuple(annotations.get(key, ()))
            samples.append(Sample(root.path / image, image, own, split, size=size))
    unused = sorted(described - {label for sample in samples for label in sample.labels})
    found = Found(
        layout=f"COCO: {listed(names, NAMED)}",
        samples=tuple(samples),
        kind="boxes",
        reader=COCO.name,
        notes=(f"no class, since no box shows one: {listed(unused, NAMED)}",) if unused else (),
        findings=tuple(findings),
    )
    return finish(found, root, set(names))


def _place(source: Source) -> tuple[Source, list[str]]:
    """What holds images and annotations, and the JSON files in it: all, or the one that was
    named."""
    path = source.path
    if path.is_dir():
        return source, [one for one in source.contents.others if one.lower().endswith(".json")]
    if path.suffix.lower() != ".json":
        return source, []
    inside = path.parent.name.lower() == "annotations"
    root = path.parent.parent if inside else path.parent
    return Source(root), [path.relative_to(root).as_posix()]


def _is_coco(path: Path) -> bool:
    """Whether a JSON file begins as those of COCO."""
    return bool(re.match(rf'\s*{{\s*"({"|".join(KEYS)})"\s*:', read_text(path, 4096)))


def _content(path: Path) -> Content:
    text = read_text(path)
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not readable as JSON ({error}); write it again") from None
    lists = {key: values.get(key) for key in ("images", "categories", "annotations")}
    for key, value in lists.items():
        if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
            raise ValueError(
                f"{path}: no list {key}; images, categories and annotations are needed"
            )
    images = dict[int | str, tuple[str, tuple[int, int] | None]]()
    categories = dict[int | str, str]()
    for one in lists["images"]:
        called = one.get("file_name")
        if not isinstance(called, str) or not called or not _is_key(one.get("id")):
            raise ValueError(f"{path}: an image needs id and file_name, and one is {_short(one)}")
        if one["id"] in images:
            raise ValueError(f"{path}: two images have the id {one['id']}; give each its own")
        images[one["id"]] = called, _size(one)
    for one in lists["categories"]:
        if not isinstance(one.get("name"), str) or not _is_key(one.get("id")):
            raise ValueError(f"{path}: a category needs id and name, and one is {_short(one)}")
        categories[one["id"]] = one["name"]
    return Content(images, categories, lists["annotations"])


def _annotations(
    content: Content, path: Path
) -> tuple[dict[int | str, list[Annotation]], list[str]]:
    """The boxes of each image by its id, and the ids of annotations whose image is not listed."""
    annotations = dict[int | str, list[Annotation]]()
    lost = list[str]()
    for one in content.annotations:
        image, category, box = one.get("image_id"), one.get("category_id"), one.get("bbox")
        where = f"{path}: annotation {_short(one.get('id'))} of image {_short(image)}"
        if not _is_key(category) or category not in content.categories:
            raise ValueError(
                f"{where} has the category {_short(category)}, which is not listed; there are:"
                f" {listed([str(key) for key in content.categories], NAMED)}"
            )
        if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
            raise ValueError(
                f"{where} has the bbox {_short(box)}; four numbers are needed: left, top, width,"
                " height"
            )
        left, top, width, height = map(float, box)
        if not _is_key(image) or image not in content.images:
            lost.append(_short(image))
            continue
        difficult = bool(one.get("iscrowd") or one.get("ignore"))
        edges = (left, top, left + width, top + height)
        found = Annotation(content.categories[category], edges, difficult)
        annotations.setdefault(image, []).append(found)
    return annotations, lost


def _is_key(value: Any) -> bool:
    return isinstance(value, int | str)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) <= FARTHEST


def _size(image: Mapping[str, Any]) -> tuple[int, int] | None:
    width, height = (int(image[side]) if _is_number(image.get(side)) else 0 for side in SIDES)
    return (width, height) if width > 0 and height > 0 else None


def _short(value: Any) -> str:
    return reprlib.repr(value)


COCO = Reader(
    name="coco",
    kinds=("boxes",),
    expects="a JSON file of COCO (images, annotations, categories) for each part",
    matches=matches,
    read=read,
)
