"""Pictures in, predictions out, one after the other, in the memory of a few pictures."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Collection, Container, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, SupportsIndex

import numpy as np
from PIL import Image

from resnets.preprocessing import BadImage, Preprocessing
from resnets.results import Prediction
from resnets.runtime.decoding import array_input, image_input, read_input
from resnets.runtime.engines import Engine, EngineError, make_engine
from resnets.runtime.folders import Inputs, count_pictures, find_pictures
from resnets.runtime.onnxfile import read_onnx

DECODERS = (
    2  # threads that decode while the network runs; decoding a photo costs less than the network
)
# pictures that may be decoded or waiting at a time: memory is bounded by them, however long the
# list
AHEAD = 4


def load(path: str | Path, engine: str = "onnxruntime", threads: int = 0) -> Predictor:
    """Opens a file of `resnets export`.

    Args:
        path: `NAME.onnx`.
        engine: `onnxruntime` or `openvino`.
        threads: Threads of one prediction; 0 takes all cores.

    Raises:
        ValueError: The file is not whole, not ours or too new, or the engine is unknown, missing or
            cannot run it.
    """
    file = read_onnx(path)
    made = make_engine(engine, file.path, threads)
    given = getattr(made, "num_classes", None)
    if given not in (None, len(file.classes)):
        raise ValueError(
            f"{path}: it names {len(file.classes)} classes, but its network gives {given}"
            " probabilities; export it again"
        )
    found = Predictor(made, file.classes, file.preprocessing, file.metadata)
    found._opened = (Path(path).absolute(), engine, threads)
    return found


class Predictor:
    """A network that is ready to answer.

    Args:
        engine: Any callable from (N, height, width, channels) pictures to an `Answer`, with a name
            and a version.
        classes: Names of the classes, in the order of the outputs.
        preprocessing: What the engine does to a picture; here it says which channels and type to
            decode.
        metadata: What else the file said.
    """

    def __init__(
        self,
        engine: Engine,
        classes: Sequence[str],
        preprocessing: Preprocessing,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        self.engine = engine
        self.classes = tuple(classes)
        self.preprocessing = preprocessing
        self.metadata = metadata or {}
        self._opened: tuple[Path, str, int] | None = None  # as it was given to `load`

    def __reduce_ex__(self, protocol: SupportsIndex) -> str | tuple[Any, ...]:
        """In a pickle a predictor that was loaded is its file's place and its options: whoever
        reads it opens the file. Of any other, the engine has to be fit for a pickle."""
        return (load, self._opened) if self._opened else super().__reduce_ex__(protocol)

    def predict(
        self, inputs: Inputs, heat: bool = False, skip: Container[str] = ()
    ) -> Iterator[Prediction]:
        """Answers for files and folders, in order, each as soon as it is there.

        Args:
            inputs: A file, a folder (all pictures below it, sorted by name), or several of them,
                also as they come from a generator.
            heat: Whether predictions carry class activation maps, if the file gives them.
            skip: Names of files to leave out, as `Prediction.file` spells them.

        Returns:
            A prediction for each file; one that cannot be read or answered has an `error`.

        Raises:
            ValueError: At once, if an input is missing, or a folder cannot be read or holds no
                picture. The items of a generator cannot be looked at before: a missing one becomes
                a prediction with an `error`.
        """
        if isinstance(inputs, (os.PathLike, Collection)):
            count_pictures(inputs)
        return self._stream((file for file in find_pictures(inputs) if file not in skip), heat)

    def predict_image(
        self, image: Image.Image | np.ndarray | bytes, heat: bool = False, file: str = ""
    ) -> Prediction:
        """Answers for one picture in memory.

        Args:
            image: Of Pillow; or (height, width, channels) in the type the network was made for,
                uint8 RGB unless its preprocessing says otherwise; or the content of a picture file.
            heat: Whether the prediction carries class activation maps.
            file: The name the prediction is to have.

        Raises:
            BadImage: The bytes are not a picture.
            ValueError: The array has another shape or type.
            EngineError: The engine failed.
        """
        return self._answer(file, *self._in_memory(image), heat)

    def _stream(self, files: Iterator[str], heat: bool) -> Iterator[Prediction]:
        pool = ThreadPoolExecutor(DECODERS, "decode")
        waiting: deque[tuple[str, Future[tuple[np.ndarray, list[str]]]]] = deque()
        try:
            for file in files:
                waiting.append((file, pool.submit(self._decode, file)))
                if len(waiting) == AHEAD:
                    yield self._result(*waiting.popleft(), heat)
            while waiting:
                yield self._result(*waiting.popleft(), heat)
        finally:  # also when the caller stops early
            pool.shutdown(cancel_futures=True)

    def _result(
        self, file: str, decoded: Future[tuple[np.ndarray, list[str]]], heat: bool
    ) -> Prediction:
        try:
            return self._answer(file, *decoded.result(), heat)
        except (BadImage, EngineError, MemoryError) as error:
            return Prediction(file, self.classes, error=str(error) or "not enough memory")

    def _answer(self, file: str, image: np.ndarray, notes: Sequence[str], heat: bool) -> Prediction:
        # One picture at a time: on two cores a ResNet-18 gains nothing in batches of 2 or 4
        # equal-sized ones, a tenth in 8.
        answer = self.engine(image[None])
        if answer.probabilities.shape != (1, len(self.classes)):
            raise EngineError(
                f"{self.engine.name} gave probabilities of shape {answer.probabilities.shape} for"
                f" one image and {len(self.classes)} classes"
            )
        if not np.isfinite(answer.probabilities).all():
            raise EngineError("the network gave probabilities that are not finite numbers")
        return Prediction(
            file,
            self.classes,
            answer.probabilities[0],
            None if answer.embedding is None else answer.embedding[0],
            answer.heat[0] if heat and answer.heat is not None else None,
            notes=tuple(notes),
        )

    def _decode(self, source: str | bytes) -> tuple[np.ndarray, list[str]]:
        """An image that the graph scales no further, (height, width, channels), and remarks."""
        if isinstance(source, str) and os.path.exists(source) and not os.path.isfile(source):  # noqa: PTH110, PTH113 - never raise
            raise BadImage(
                "neither a file nor a folder"
            )  # a pipe or a device: opening it may never end
        return read_input(source, self.preprocessing)

    def _in_memory(self, image: Image.Image | np.ndarray | bytes) -> tuple[np.ndarray, list[str]]:
        if isinstance(image, bytes):
            return self._decode(image)
        if isinstance(image, Image.Image):
            return image_input(image, self.preprocessing)
        wanted = self.preprocessing
        if (
            image.ndim != 3
            or image.shape[2] != wanted.channels
            or image.dtype != wanted.dtype
            or 0 in image.shape
        ):
            raise ValueError(
                f"an array of shape {image.shape} and type {image.dtype}; this network takes "
                f"(height, width, {wanted.channels}) of type {wanted.dtype}"
            )
        return array_input(image, wanted), []
