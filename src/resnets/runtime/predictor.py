"""Images in, predictions out, in the memory of a few images: the first one by one, many in
batches."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any, SupportsIndex

import numpy as np

from resnets.clip import read_clip
from resnets.formats import FIRST_TASK
from resnets.kinds import KINDS, Kind
from resnets.kinds.inverse import InverseTransform
from resnets.kinds.kind import check_outputs, select_outputs
from resnets.kinds.prediction import Outputs, Prediction
from resnets.preprocessing import Preprocessing
from resnets.runtime.cores import usable_cores
from resnets.runtime.decoding import Decoded
from resnets.runtime.file_engine import Engine, EngineError, Shape
from resnets.runtime.inputs import (
    Input,
    Inputs,
    Source,
    decode,
    open_inputs,
    open_source,
    to_source,
)
from resnets.runtime.streams import FEW, Batches, Steps, batch_size, one_by_one
from resnets.runtime.tiles import TiledEngine, Tiles
from resnets.sampling import Sampling


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
        self._whole: Engine | None = None  # gives all outputs
        self.classes = tuple(classes)
        self.preprocessing = preprocessing
        self.metadata = metadata or {}
        self.kind, self.options, self.sampling = kind, options or {}, sampling
        self.name = ""  # what it was opened from
        self.sha256 = ""  # tells it from every other model; empty where nothing is known
        self._refuses = False  # to name a class of what is not familiar
        self._opened: tuple[Path, str, int] | None = None  # as it was given to `load`
        self._threads, self._exact = 0, False
        # finds engines that may turn out to be faster for batches, by name
        self._find_others: Callable[[], Mapping[str, Callable[[Shape], Engine]]] = dict
        self._batches: Batches | None = None  # of the last call of `predict`

    def __repr__(self) -> str:
        text = f"{len(self.classes)} classes, {self.engine.name} {self.engine.version}"
        return f"Predictor({self.name!r}, {text})"

    def __reduce_ex__(self, protocol: SupportsIndex) -> str | tuple[Any, ...]:
        """In a pickle a predictor that was loaded is its file's place and its options: whoever
        reads it opens the file. Of any other, the engine has to be fit for a pickle."""
        from resnets.runtime.opening import load  # which makes predictors

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
        given = getattr(self.engine, "graph_shapes", ())
        return tuple(name for name in self.kind.outputs if name in given)

    def exactly(self) -> Predictor:
        """The same network for images that are decoded as they are stored, each computed alone;
        otherwise large JPEG files are decoded at a half, quarter or eighth of their size, as long
        as that is twice what the network needs, and many images are computed in batches."""
        found = copy.copy(self)
        found._exact, found._opened = True, None
        # a table of predictions is not continued with others
        found.sha256 = hashlib.sha256(f"{self.sha256} exactly".encode()).hexdigest()
        return found

    @property
    def remark(self) -> str:
        """Which engine turned out to be faster for the images of the last call of `predict`; empty
        where nothing was compared."""
        return self._batches.remark if self._batches else ""

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
            After the first 16 images the others are computed in batches: some dozens are taken
            before the first of them is given (`exactly` takes four).

        Raises:
            ValueError: At once, if an input is missing or is no image, or a folder cannot be read
                or holds no image. What a generator gives cannot be looked at before: a missing file
                becomes a prediction with an `error`. Arrays are looked at when their turn comes.
        """
        images = open_inputs(inputs, self.kind.takes)
        return self._stream((one for one in images if one[0] not in skip), heat)

    def predict_named(
        self, images: Iterable[tuple[str, Input]], heat: bool = False
    ) -> Iterator[Prediction]:
        """The same for pairs of the name that a prediction is to have and an image.

        Raises:
            ValueError: In its turn, if something is no image.
        """
        return self._stream(((name, to_source(image)) for name, image in images), heat)

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
            return self._predict_video(self.sampling, name, source)
        return self._predict(heat, name, self._read(name, source))

    def outputs_for(self, image: Input, large: bool = True) -> Outputs:
        """The outputs of the graph for one image, as for a batch of it; places are those in the
        image.

        Args:
            image: As for `predict_image`.
            large: Whether class activation maps are among them, if the file gives them.

        Raises:
            BadImage: It cannot be read as an image.
            ValueError: It is no image, or an array of another shape or type.
            EngineError: The engine failed.
        """
        decoded = self._read("", to_source(image))
        outputs = select_outputs(self.kind, self._run(decoded.framed[None], large), large)
        return self._checked(outputs, decoded.size)

    def _run(self, images: np.ndarray, large: bool) -> Outputs:
        """The outputs for images; large ones are there if they are asked for, and may be if
        not."""
        return (self._whole_engine() if large else self.engine)(images)

    def _whole_engine(self) -> Engine:
        """The engine for all outputs: opened when they are asked for, if `engine` leaves some
        out."""
        giving = getattr(self.engine, "giving", None)
        if giving is None or set(self.outputs) <= set(getattr(self.engine, "shapes", ())):
            return self.engine
        try:
            self._whole = self._whole or giving(self.kind)
        except ValueError as error:  # the file has changed or is gone
            raise EngineError(str(error)) from None
        return self._whole

    def _stream(self, images: Iterator[tuple[str, Source]], heat: bool) -> Iterator[Prediction]:
        read = partial(self._predict_video, self.sampling) if self.sampling else self._read
        steps = Steps(read, partial(self._conclude, heat), partial(self._predict, heat), self._fail)
        yield from one_by_one(steps, islice(images, FEW))
        if more := list(islice(images, 1)):
            self._batches, rest = self._open_batches(steps, heat), chain(more, images)
            yield from self._batches.predict(rest) if self._batches else one_by_one(steps, rest)

    def _open_batches(self, steps: Steps, heat: bool) -> Batches | None:
        """What computes many images; None where they differ in size, or are to be alone."""
        engine = self._whole_engine() if heat else self.engine
        open_engine = getattr(engine, "for_batches", None)
        if self._exact or self.sampling or open_engine is None:
            return None
        height, width, channels = self.preprocessing.framed_shape
        size = batch_size(height, width)
        shape = size, height, width, channels
        engines = {self.engine.name: partial(open_engine, shape)}
        others = self._find_others().items() if not heat else ()  # those give no large outputs
        engines |= {name: partial(open_other, shape) for name, open_other in others}
        return Batches(steps, engines, size, self._threads or usable_cores())

    def _fail(self, file: str, error: Exception) -> Prediction:
        reason = str(error) or "not enough memory"
        return self.kind.prediction(file, self.classes, error=reason)

    def _predict(self, heat: bool, file: str, decoded: Decoded) -> Prediction:
        return self._conclude(heat, file, decoded, self._run(decoded.framed[None], heat))

    def _conclude(self, heat: bool, file: str, decoded: Decoded, outputs: Outputs) -> Prediction:
        """The prediction for an image from the outputs for a batch of it alone."""
        found = self._interpret(file, outputs, decoded.size, heat)
        return dataclasses.replace(found, notes=tuple(decoded.notes))

    def _predict_video(self, sampling: Sampling, file: str, source: Source) -> Prediction:
        """The prediction for a video, from those for its windows, one after the other."""
        value, parts = self.preprocessing, []
        with open_source(source) as video:
            spans = sampling.windows(video.seconds)
            for span in spans:
                images = read_clip(video, sampling.times(span), value.channels)
                framed = value.framed(np.stack([value.pixels(image) for image in images]))
                parts.append(self._interpret(file, self.engine(framed[None]), video.size[::-1]))
            found = self.kind.prediction.joined(parts, spans)
            return dataclasses.replace(found, notes=tuple(video.notes))

    def _interpret(
        self, file: str, outputs: Outputs, size: tuple[int, int], heat: bool = False
    ) -> Prediction:
        """The prediction for an image, or a clip, from outputs for it alone, of which the graph
        scaled nothing; with the height and width of the image itself."""
        outputs = self._checked(select_outputs(self.kind, outputs, large=heat), size)
        try:
            (found,) = self.kind.unbatch(outputs, [file], self.classes, self.options)
        except ValueError as error:
            raise EngineError(str(error)) from None
        return found.judged_by_familiarity() if self._refuses else found

    def _checked(self, outputs: Outputs, size: tuple[int, int]) -> Outputs:
        """Outputs for one image of this height and width, with places in it."""
        try:
            check_outputs(self.kind, outputs, 1, self.classes)
            # it was scaled here, so that places are those in the input
            return InverseTransform(*self.preprocessing.axes(*size))(self.kind, outputs)
        except ValueError as error:
            raise EngineError(str(error)) from None

    def _read(self, file: str, source: Source) -> Decoded:
        return decode(source, self.preprocessing, self._exact)
