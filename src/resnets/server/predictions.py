"""Images to predictions and drawings, as JSON. Everything here runs on a worker."""

from __future__ import annotations

import base64
import io
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from resnets.images import BadImage, open_image, reading
from resnets.kinds.heat import overlay
from resnets.kinds.prediction import Prediction
from resnets.kinds.view import View
from resnets.runtime.file_engine import EngineError
from resnets.runtime.rows import Columns, rounded
from resnets.server.limits import Limits, Refused, busy
from resnets.server.served import Served

SIDE = 1024  # pixels of the longer side of a drawing
DRAWINGS = ("overlay", "heat", "mask")


@dataclass(frozen=True)
class Wanted:
    """What of a prediction is asked for.

    Args:
        draw: Of `DRAWINGS`.
        top: How many classes, where the task has a number for each.
    """

    draw: tuple[str, ...] = ()
    top: int = 5


@dataclass(frozen=True)
class Answer:
    """The prediction for one image.

    Args:
        values: As JSON.
        images: Drawings by name, as PNG.
    """

    values: dict[str, Any]
    images: dict[str, bytes] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON, images in base64."""
        images = {name: base64.b64encode(png).decode() for name, png in self.images.items()}
        return {**self.values, **({"images": images} if images else {})}


def parse_draw(text: str, served: Served) -> tuple[str, ...]:
    """Names of drawings, with commas between them.

    Raises:
        Refused: One that the file cannot give.
    """
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    for name in names:
        if name not in served.draws:
            allowed = ", ".join(served.draws) or "nothing: it takes videos"
            raise Refused(
                422, "draw", f"{served.name} cannot draw {name[:40]!r}; allowed: {allowed}"
            )
    return names


def predict_images(
    served: Served, images: Sequence[bytes], wanted: Wanted, limits: Limits
) -> list[Answer]:
    """The predictions for the images of a request, one after the other.

    Raises:
        Refused: No image could be read, the engine failed, or the time is over.
    """
    end, answers, first = time.monotonic() + limits.seconds, list[Answer](), None
    for content in images:
        if time.monotonic() > end:
            raise busy(f"{len(answers)} of {len(images)} images in {limits.seconds:g} s", "timeout")
        try:
            answers.append(_predict(served, content, wanted, limits))
        except Refused as refused:
            first = first or refused
            answers.append(Answer({"error": refused.to_dict()["error"]}))
        except (EngineError, MemoryError) as error:
            reason = str(error) or "not enough memory"
            raise busy(f"the engine could not run the image ({reason})", "engine") from None
    if first and all("error" in answer.values for answer in answers):
        raise first
    return answers


def _predict(served: Served, content: bytes, wanted: Wanted, limits: Limits) -> Answer:
    predictor, begin = served.predictor, time.perf_counter()
    if predictor.kind.takes == "image":
        check_pixels(content, limits)
    try:
        prediction = predictor.predict_image(content, heat="heat" in wanted.draw)
        seconds = time.perf_counter() - begin
        more, images = _draw(served, prediction, content, wanted.draw) if wanted.draw else ({}, {})
    except BadImage as error:
        raise Refused(422, "bad_image", f"the image cannot be read: {error}") from None
    columns = Columns.of(predictor.kind, objects=True, outputs=predictor.outputs)
    (row, *_) = columns.rows(prediction)
    values = {name: row[name] for name in columns.own}
    if (by_class := prediction.by_class()) is not None:
        values["top"] = _top(prediction, by_class, wanted.top)
    return Answer({**values, "notes": list(prediction.notes), "seconds": seconds, **more}, images)


def check_pixels(content: bytes, limits: Limits) -> None:
    """Looks at the header of an image; nothing is decoded.

    Raises:
        Refused: It has too many pixels, or is none.
    """
    try:
        with reading(content) as image:
            width, height = image.size
    except BadImage as error:
        raise Refused(422, "bad_image", f"the image cannot be read: {error}") from None
    if width * height > limits.megapixels * 1e6:
        raise Refused(
            413,
            "too_many_pixels",
            f"{width} x {height} pixels; allowed: {limits.megapixels:g} million; scale it down, or"
            " allow more: --megapixels",
        )


def _top(prediction: Prediction, by_class: np.ndarray, count: int) -> list[dict[str, Any]]:
    chosen = prediction.chosen()
    order = np.argsort(-by_class, kind="stable")[:count].tolist()
    return [
        {
            "label": prediction.classes[place],
            "value": rounded(float(by_class[place])),
            **({} if chosen is None else {"chosen": bool(chosen[place])}),
        }
        for place in order
    ]


def _draw(
    served: Served, prediction: Prediction, content: bytes, names: Sequence[str]
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Drawings on the image, at most `SIDE` pixels long; the size of the image, and the box of it
    that the network saw."""
    image, _, (width, height) = open_image(content, short_side=SIDE)
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    seen = served.predictor.preprocessing.view(height, width).box
    images: dict[str, bytes] = {}
    if "overlay" in names:
        small = View((0, 0, width, height), (image.height, image.width))
        images["overlay"] = _png(prediction.seen(small).drawn(image))
    if "heat" in names and (heat := prediction.heat_map()) is not None:
        images["heat"] = _png(_evidence(image, heat, [side * image.width / width for side in seen]))
    if "mask" in names and (indexed := prediction.indexed()) is not None:
        images["mask"] = _png(indexed)
    return {"size": [width, height], "seen": [round(side, 1) for side in seen]}, images


def _evidence(image: Image.Image, heat: np.ndarray, seen: Sequence[float]) -> Image.Image:
    """A map over the part of the image that the network saw; the rest is as without evidence."""
    left, top, right, bottom = map(round, seen)
    drawn = overlay(np.asarray(image), np.zeros_like(heat))
    part = overlay(np.asarray(image.crop((left, top, right, bottom))), heat)
    drawn.paste(part, (left, top))
    return drawn


def _png(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "PNG", compress_level=3)
    return stream.getvalue()
