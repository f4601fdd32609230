"""Small data sets in the layouts that readers know."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from resnets.data.sources import find_data


def write(root, files):
    """Files by their names, of text or bytes."""
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        content = content.encode() if isinstance(content, str) else content
        (root / name).write_bytes(content)
    return root


def encoded(image, format="PNG", **options):
    """An image as the bytes of a file."""
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def jpeg(width=8, height=6, turned=0):
    """A JPEG, perhaps with the EXIF tag of an image that lies on its side."""
    exif = Image.Exif()
    if turned:
        exif[0x0112] = turned
    return encoded(Image.new("RGB", (width, height)), "JPEG", exif=exif)


def png(values):
    """A grey PNG of some rows of values."""
    return encoded(Image.fromarray(np.array(values, np.uint8)))


def voc(*things, size=(8, 6), name=""):
    """An XML file of Pascal VOC with some objects: name, xmin, ymin, xmax, ymax, and more tags."""
    objects = "".join(
        f"<object><name>{label}</name>{''.join(more)}<bndbox><xmin>{a}</xmin><ymin>{b}</ymin>"
        f"<xmax>{c}</xmax><ymax>{d}</ymax></bndbox></object>"
        for label, a, b, c, d, *more in things
    )
    width, height = size
    return (
        f"<annotation><filename>{name}</filename><size><width>{width}</width><height>{height}"
        f"</height><depth>3</depth></size>{objects}</annotation>"
    )


def coco(files, *boxes, categories=("cat", "dog"), **more):
    """A JSON file of COCO with some images and boxes: image, category, bbox, and more keys."""
    return json.dumps(
        {
            "images": [{"id": i, "file_name": name, **more} for i, name in enumerate(files)],
            "categories": [{"id": i, "name": name} for i, name in enumerate(categories)],
            "annotations": [
                {"id": i, "image_id": image, "category_id": category, "bbox": box, **dict(rest)}
                for i, (image, category, box, *rest) in enumerate(boxes)
            ],
        }
    )


def error_of(source, **options):
    """What `find_data` says of a source that it refuses."""
    with pytest.raises(ValueError, match=r".") as error:
        find_data(source, **options)
    return str(error.value)


def warnings_of(found):
    """The warnings of a reader."""
    return [finding.text for finding in found.findings if finding.severity == "warning"]
