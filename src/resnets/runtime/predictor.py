"""Pictures in, predictions out, one after the other, in the memory of a few pictures."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Container, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from resnets.preprocessing import BadImage, Preprocessing, open_image, to_mode
from resnets.results import Prediction
from resnets.runtime.engines import Engine, EngineError, make_engine
from resnets.runtime.folders import Inputs, find_pictures
from resnets.runtime.onnxfile import read_onnx, whole

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
    return Predictor(
        make_engine(engine, file.path, threads), file.classes, file.preprocessing, file.metadata
    )


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
        files = find_pictures(inputs)  # folders are walked through now, once
        return self._stream((file for file in files if file not in skip), heat)

    def predict_image(
        self, image: Image.Image | np.ndarray | bytes, heat: bool = False, file: str = ""
    ) -> Prediction:
        """Answers for one picture in memory.

        Args:
            image: Of Pillow; or (height, width, channels) in the type the network was made for,
                uint8 RGB unless its preprocessing says otherwise (uint16 as the graph takes it,
                after `deep_range`); or the content of a picture file.
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
        return Prediction(
            file,
            self.classes,
            answer.probabilities[0],
            None if answer.embedding is None else answer.embedding[0],
            answer.heat[0] if heat and answer.heat is not None else None,
            notes=tuple(notes),
        )

    def _decode(self, source: str | bytes) -> tuple[np.ndarray, list[str]]:
        """The whole picture, (height, width, channels), and remarks: the graph scales it, so
        nothing may be left out here."""
        if isinstance(source, str) and os.path.exists(source) and not os.path.isfile(source):  # noqa: PTH110, PTH113 - never raise
            raise BadImage(
                "neither a file nor a folder"
            )  # a pipe or a device: opening it may never end
        wanted = self.preprocessing
        image, notes, _ = open_image(
            source, wanted.channels, wanted.value_range, None, wanted.deep_range
        )
        return whole(image), notes

    def _in_memory(self, image: Image.Image | np.ndarray | bytes) -> tuple[np.ndarray, list[str]]:
        if isinstance(image, bytes):
            return self._decode(image)
        notes: list[str] = []
        wanted = self.preprocessing
        if isinstance(image, Image.Image):
            upright = ImageOps.exif_transpose(image)
            ranges = wanted.value_range, notes, wanted.deep_range
            return whole(to_mode(upright, wanted.channels, *ranges)), notes
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
        return np.ascontiguousarray(image), notes
