"""Two networks for one question: a fast one, and a better one for the images of which the first is
not sure."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Mapping
from functools import partial

import numpy as np

from resnets.kinds.prediction import Outputs, Prediction
from resnets.runtime.decoding import Decoded
from resnets.runtime.file_engine import Engine
from resnets.runtime.predictor import Predictor
from resnets.runtime.streams import Batches, Steps

ROUNDS = 2  # predictions by which engines are compared, after one that does not count


class Cascade(Predictor):
    """A predictor that asks a second one about images of which the first is not sure.

    Args:
        first: The fast one. Both name one class for an image, of the same classes, and prepare
            images in the same way, so that each is read once.
        second: The better one.
        sure: How high the number of the class that the first one names has to be, 0 to 1.

    Raises:
        ValueError: They do not fit together, or `sure` is out of range.
    """

    def __init__(self, first: Predictor, second: Predictor, sure: float) -> None:
        check_pair(first, second)
        if not 0 <= sure <= 1:
            raise ValueError(f"sure is {sure!r}; allowed: a probability, 0 to 1")
        super().__init__(
            first.engine,
            first.classes,
            first.preprocessing,
            first.metadata,
            first.kind,
            first.options,
        )
        self.first, self.second, self.sure = first, second, sure
        self.asked = self.passed_on = 0  # images; those that the second one was asked about
        self._threads, self._refuses = first._threads, first._refuses
        self._find_others = first._find_others
        self._second_engine: Engine = second.engine
        self._counting = threading.Lock()
        self.name = f"{first.name}, then {second.name}"
        # a table of predictions is not continued with others
        own = f"{first.sha256} below {sure} {second.sha256}"
        self.sha256 = hashlib.sha256(own.encode()).hexdigest()

    @property
    def outputs(self) -> tuple[str, ...]:
        """Those of both."""
        return tuple(name for name in self.first.outputs if name in self.second.outputs)

    def naming_unknown(self) -> Cascade:
        """See `Predictor`; both do it."""
        return Cascade(self.first.naming_unknown(), self.second.naming_unknown(), self.sure)

    @property
    def remark(self) -> str:
        """How many images the second one was asked about, and what `Predictor` says."""
        asked = f"{self.passed_on:,} of {self.asked:,} images by {self.second.name}"
        return "; ".join(filter(None, (asked, super().remark)))

    def _open_batches(self, steps: Steps, heat: bool) -> Batches | None:
        found = super()._open_batches(steps, heat)
        if found and not heat and hasattr(self.second.engine, "for_batches"):
            # one at a time: few of a batch are passed on
            shape = 1, *self.preprocessing.framed_shape
            others = self.second._find_others().items()
            engines = {"": partial(self.second.engine.for_batches, shape)}
            engines |= {name: partial(open_other, shape) for name, open_other in others}
            self._second_engine = _fastest(engines, np.zeros(shape, self.preprocessing.dtype))
        return found

    def _conclude(self, heat: bool, file: str, decoded: Decoded, outputs: Outputs) -> Prediction:
        found = super()._conclude(heat, file, decoded, outputs)
        sure = confidence(found) >= self.sure
        with self._counting:
            self.asked += 1
            self.passed_on += not sure
        if sure:
            return found
        image = decoded.framed[None]
        outputs = self.second._run(image, large=True) if heat else self._second_engine(image)
        return self.second._conclude(heat, file, decoded, outputs)


def confidence(prediction: Prediction) -> float:
    """The number of the class that is named, 0 to 1."""
    values = prediction.by_class()
    return 0.0 if values is None else float(values.max())


def check_pair(first: Predictor, second: Predictor) -> None:
    """Refuses two networks that cannot be asked the same.

    Raises:
        ValueError: They name no class, others, or prepare images in another way.
    """
    kind = first.kind.prediction
    if kind.by_class is Prediction.by_class or kind.chosen is not Prediction.chosen:
        raise ValueError(
            f"{first.name}: predictions of the task {first.kind.name} are not one class for an"
            " image, so that nothing says how sure they are; a cascade needs two networks that"
            " name one"
        )
    if first.kind != second.kind or first.sampling or second.sampling:
        raise ValueError(
            f"{second.name}: does not predict {first.kind.name} for an image, as {first.name} does"
        )
    if first.classes != second.classes:
        raise ValueError(
            f"{second.name}: has other classes than {first.name}, or in another order; train both"
            " on the same data"
        )
    ours, theirs = first.preprocessing.to_dict(), second.preprocessing.to_dict()
    if different := [name for name in ours if ours[name] != theirs[name]]:
        raise ValueError(
            f"{second.name}: prepares images in another way than {first.name}"
            f" ({', '.join(different)}); train or export both with the same --size and the like"
        )


def _fastest(engines: Mapping[str, partial[Engine]], image: np.ndarray) -> Engine:
    """The engine that is fastest for one image; the first is known to run the graph."""
    best: tuple[float, Engine] | None = None
    for name, make in engines.items():
        try:
            engine = make()
        except ValueError:
            if not name:
                raise
            continue
        engine(image)
        times = []
        for _ in range(ROUNDS if len(engines) > 1 else 0):
            began = time.perf_counter()
            engine(image)
            times.append(time.perf_counter() - began)
        seconds = min(times, default=0.0)
        if best is None or seconds < best[0]:
            best = seconds, engine
    assert best is not None
    return best[1]
