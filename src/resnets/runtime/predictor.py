"""Images in, predictions out, one after the other, in the memory of a few images."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import os
from collections import deque
from collections.abc import Container, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, SupportsIndex

import numpy as np

from resnets.clip import read_clip
from resnets.formats import FIRST_TASK
from resnets.images import BadImage
from resnets.kinds import KINDS, Kind
from resnets.kinds.inverse import InverseTransform
from resnets.kinds.kind import check_outputs, select_outputs
from resnets.kinds.prediction import Prediction
from resnets.preprocessing import Preprocessing
from resnets.runtime.decoding import Decoded, read_input
from resnets.runtime.engines import Engine, EngineError, make_engine
from resnets.runtime.inputs import (
    Input,
    Inputs,
    Source,
    decode_array,
    decode_image,
    open_inputs,
    open_source,
    to_source,
)
from resnets.runtime.onnxfile import read_onnx
from resnets.runtime.tiles import TiledEngine, Tiles
from resnets.sampling import Sampling

# threads that decode while the network runs; decoding a photo costs less than the network
DECODERS = 2
# images that may be decoded or waiting at a time: memory is bounded by them, however long the
# list
AHEAD = 4


def load(path: str | Path, engine: str = "onnxruntime", threads: int = 0) -> Predictor:
    """Opens a file of `resnets export`.

    Args:
        path: `NAME.onnx`.
        engine: `onnxruntime` or `openvino`.
        threads: Threads of one prediction; 0 takes all cores.

    Raises:
        ValueError: The file is not whole, not ours or too new, the engine is unknown, missing or
            cannot run it, or an argument is of another type.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise ValueError(
            f"load takes the name of a file, not a value of type {type(path).__name__}:"
            " load('photos.onnx')"
        )
    if isinstance(threads, bool) or not isinstance(threads, int) or threads < 0:
        raise ValueError(f"threads is {threads!r}; allowed: whole numbers from 0 on (0: all cores)")
    file = read_onnx(path)
    made = make_engine(engine, file.path, threads, file.kind)
    for name, shape in made.shapes.items():
        named = file.kind.outputs[name].dimensions
        given = dict(zip(named, shape, strict=False)).get("classes")
        if given not in (None, len(file.classes)):
            raise ValueError(
                f"{path}: it names {len(file.classes)} classes, but its network gives {given}"
                f" {name}; export it again"
            )
    known = file.classes, file.preprocessing, file.metadata, file.kind, file.options
    found = Predictor(made, *known, file.sampling)
    found.name, found.sha256 = str(path), file.sha256
    found._opened = (Path(path).absolute(), engine, threads)
    return found


class Predictor:
    """A network that is ready to predict.

    Args:
        engine: Any callable from (N, height, width, channels) images to outputs by name, with a
            name and a version.
        classes: Names of the classes, in the order of the outputs.
        preprocessing: What the engine does to an image; here it says which channels and type to
            decode.
        metadata: What else the file said.
        kind: What it predicts.
        options: Of its task, in the types that `kind.unbatch` takes (`kind.options`).
        sampling: Which images of a video the engine takes; None where it takes images.
    """

    def __init__(
        self,
        engine: Engine,
        classes: Sequence[str],
        preprocessing: Preprocessing,
        metadata: dict[str, Any] | None = None,
        kind: Kind = KINDS[FIRST_TASK],
        options: Mapping[str, Any] | None = None,
        sampling: Sampling | None = None,
    ) -> None:
        self.engine = engine
        self.classes = tuple(classes)
        self.preprocessing = preprocessing
        self.metadata = metadata or {}
        self.kind, self.options, self.sampling = kind, options or {}, sampling
        self.name = ""  # what it was opened from
        self.sha256 = ""  # tells it from every other model; empty where nothing is known
        self._refuses = False  # to name a class of what is not familiar
        self._opened: tuple[Path, str, int] | None = None  # as it was given to `load`

    def __repr__(self) -> str:
        text = f"{len(self.classes)} classes, {self.engine.name} {self.engine.version}"
        return f"Predictor({self.name!r}, {text})"

    def __reduce_ex__(self, protocol: SupportsIndex) -> str | tuple[Any, ...]:
        """In a pickle a predictor that was loaded is its file's place and its options: whoever
        reads it opens the file. Of any other, the engine has to be fit for a pickle."""
        return (load, self._opened) if self._opened else super().__reduce_ex__(protocol)

    def tiled(self) -> Predictor:
        """The same network for large images, which it sees in overlapping tiles at the scale of its
        training; others it sees as a whole.

        Raises:
            ValueError: It predicts something else than a value for each pixel, or its file does not
                say how large the images of training were.
        """
        found = Predictor(
            TiledEngine(self.engine, self.preprocessing.size, self.kind),
            self.classes,
            Tiles.of(self.preprocessing, self.metadata),
            self.metadata,
            self.kind,
            self.options,
        )
        found.name = f"{self.name} in tiles"
        # a table of predictions is not continued with others
        found.sha256 = hashlib.sha256(f"{self.sha256} in tiles".encode()).hexdigest()
        return found

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs that are known without running the network."""
        return tuple(getattr(self.engine, "shapes", ()))

    def naming_unknown(self) -> Predictor:
        """The same network, which says `none of these` of images that are less familiar than 95 %
        of the held-out ones.

        Raises:
            ValueError: Its file does not say how familiar an image is.
        """
        if "familiar" not in self.outputs:
            raise ValueError(
                f"{self.name}: does not say how familiar an image is. It was made by an earlier"
                " version, on too few images or for another task than classes, or its network does"
                " not end in pooled features"
            )
        found = copy.copy(self)
        found._refuses, found._opened = True, None
        # a table of predictions is not continued with others
        found.sha256 = hashlib.sha256(f"{self.sha256} naming unknown".encode()).hexdigest()
        return found

    def predict(
        self, inputs: Inputs, heat: bool = False, skip: Container[str] = ()
    ) -> Iterator[Prediction]:
        """Predictions for files, folders and images in memory, in order, each as soon as it is
        there.

        Args:
            inputs: The name of a file or folder (all images below it, sorted by name), its content
                (bytes), an open file, an image of Pillow, an array (height, width, channels); or
                several of them, also mixed, or as they come from a generator. Where clips are
                taken, videos and folders of frames.
            heat: Whether predictions carry class activation maps, if the file gives them.
            skip: Names of files to leave out, as `Prediction.file` spells them.

        Returns:
            An iterator of one prediction for each image; one that cannot be read or predicted has
            an `error`. Images in memory are named after their file, or `image 0`, `image 1`, ...

        Raises:
            ValueError: At once, if an input is missing or is no image, or a folder cannot be read
                or holds no image. What a generator gives cannot be looked at before: a missing file
                becomes a prediction with an `error`. Arrays are looked at when their turn comes.
        """
        images = open_inputs(inputs, self.kind.takes)
        return self._stream((one for one in images if one[0] not in skip), heat)

    def predict_image(self, image: Input, heat: bool = False, file: str = "") -> Prediction:
        """The prediction for one image.

        Args:
            image: The name of a file, its content (bytes), an open file, an image of Pillow, or an
                array (height, width, channels) in the type the network was made for, uint8 unless
                its preprocessing says otherwise (uint16 as the graph takes it, after
                `deep_range`); gray arrays and RGBA are converted.
            heat: Whether the prediction carries class activation maps.
            file: The name the prediction is to have; by default that of a file that is named.

        Raises:
            BadImage: It cannot be read as an image.
            ValueError: It is no image, or an array of another shape or type.
            EngineError: The engine failed.
        """
        source = to_source(image)
        name = file or (source if isinstance(source, str) else "")
        if self.sampling:
            return self._predict_video(name, source, self.sampling)
        return self._predict(name, self._read(source), heat)

    def _stream(self, inputs: Iterator[tuple[str, Source]], heat: bool) -> Iterator[Prediction]:
        pool = ThreadPoolExecutor(DECODERS, "decode")
        waiting: deque[tuple[str, Future[Decoded] | Future[Prediction]]] = deque()
        try:
            for file, source in inputs:
                if self.sampling:  # its windows are decoded one after the other
                    future = pool.submit(self._predict_video, file, source, self.sampling)
                    waiting.append((file, future))
                else:
                    waiting.append((file, pool.submit(self._read, source)))
                if len(waiting) == AHEAD:
                    yield self._result(*waiting.popleft(), heat)
            while waiting:
                yield self._result(*waiting.popleft(), heat)
        finally:  # also when the caller stops early
            pool.shutdown(cancel_futures=True)

    def _result(
        self, file: str, future: Future[Decoded] | Future[Prediction], heat: bool
    ) -> Prediction:
        try:
            found = future.result()
            return found if isinstance(found, Prediction) else self._predict(file, found, heat)
        except (BadImage, EngineError, MemoryError) as error:
            reason = str(error) or "not enough memory"
            return self.kind.prediction(file, self.classes, error=reason)

    def _predict(self, file: str, decoded: Decoded, heat: bool) -> Prediction:
        # One image at a time: on two cores a ResNet-18 gains nothing in batches of 2 or 4
        # equal-sized ones, a tenth in 8.
        found = self._run(file, decoded.framed, decoded.size, heat)
        return dataclasses.replace(found, notes=tuple(decoded.notes))

    def _predict_video(self, file: str, source: Source, sampling: Sampling) -> Prediction:
        """The prediction for a video, from those for its windows, one after the other."""
        value, parts = self.preprocessing, []
        with open_source(source) as video:
            spans = sampling.windows(video.seconds)
            for span in spans:
                images = read_clip(video, sampling.times(span), value.channels)
                framed = value.framed(np.stack([value.pixels(image) for image in images]))
                parts.append(self._run(file, framed, video.size[::-1]))
            found = self.kind.prediction.joined(parts, spans)
            return dataclasses.replace(found, notes=tuple(video.notes))

    def _run(
        self, file: str, framed: np.ndarray, size: tuple[int, int], heat: bool = False
    ) -> Prediction:
        """The prediction for an image, or a clip, of which the graph scales nothing."""
        outputs = select_outputs(self.kind, self.engine(framed[None]), large=heat)
        try:
            check_outputs(self.kind, outputs, 1, self.classes)
            # it was scaled here, so that places are those in the input
            inverse = InverseTransform(*self.preprocessing.axes(*size))
            outputs = inverse(self.kind, outputs)
            (found,) = self.kind.unbatch(outputs, [file], self.classes, self.options)
        except ValueError as error:
            raise EngineError(str(error)) from None
        return found.judged_by_familiarity() if self._refuses else found

    def _decode(self, source: str | bytes) -> Decoded:
        if isinstance(source, str) and os.path.exists(source) and not os.path.isfile(source):  # noqa: PTH110, PTH113 - never raise
            # a pipe or a device: opening it may never end
            raise BadImage("neither a file nor a folder")
        return read_input(source, self.preprocessing)

    def _read(self, source: Source) -> Decoded:
        if isinstance(source, (str, bytes)):
            return self._decode(source)
        if isinstance(source, np.ndarray):
            return decode_array(source, self.preprocessing)
        return decode_image(source, self.preprocessing)
