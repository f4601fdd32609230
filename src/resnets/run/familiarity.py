"""How familiar an image is: fitted after training, where network and data meet, and measured on
images that did not choose its scale."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import torch

from resnets.data.splits import class_indices
from resnets.evaluation.metrics import wilson
from resnets.kinds.prediction import UNFAMILIAR
from resnets.kinds.sample import Sample
from resnets.modelfile import Model
from resnets.run.featured import Seen, draw_folds
from resnets.tasks.familiarity import FEWEST, Familiarity, kept_when_halved, share_beyond
from resnets.training.probe import Featured


def with_familiarity(model: Model, seen: Seen) -> tuple[Model, list[tuple[str, str]]]:
    """The model that tells how familiar an image is, and what the report says of that. The model as
    it is where its task does not ask, or there is too little to tell it by.

    Args:
        model: The best weights.
        seen: By it.
    """
    if "familiar" not in model.task.kind.outputs or not seen:
        return model, []
    train, held_out = seen["train"], seen["val"].featured
    found = fit_familiarity(model, train.images.samples, train.featured, held_out)
    told = _kept(found, seen) if found else "not told: there are too few images"
    return replace(model, familiarity=found), [("familiar images", told)]


def fit_familiarity(
    model: Model, samples: Sequence[Sample], train: Featured, held_out: Featured
) -> Familiarity | None:
    """What is familiar to a model; None where its task does not ask, or there are too few images.

    Args:
        model: With the head that predicts.
        samples: The training images.
        train: The same.
        held_out: Images that it was not trained on.
    """
    if "familiar" not in model.task.kind.outputs:
        return None
    groups = torch.from_numpy(class_indices(samples, model.classes))
    return Familiarity.fit(train.features, groups, held_out.features)


def time_fit(model: Model, some: Featured) -> float:
    """Seconds of the fit, which takes as long as the features are many."""
    if "familiar" not in model.task.kind.outputs:
        return 0.0
    features = some.features.repeat(-(-4 * FEWEST // len(some.features)), 1)
    tick = time.perf_counter()
    Familiarity.fit(features, torch.arange(len(features)) % 2, features)
    return time.perf_counter() - tick


def _kept(found: Familiarity, seen: Seen) -> str:
    """How many of the run's own images count as familiar: of a test part; else of the validation
    images, each to the scale of the other half of them."""
    scaled, judged = seen["val"].images, seen.get("test", seen["val"])
    distances = found.distances(judged.featured.features)
    if "test" in seen:
        kept = share_beyond(distances, found.knots) >= UNFAMILIAR
        of = f"test images, on the scale of the {len(scaled):,} validation images"
    else:
        halves = draw_folds(judged.images.samples, 2)
        if min(int((halves == one).sum()) for one in (0, 1)) < FEWEST // 4:  # of a few groups
            return "told, but not measured: nearly all validation images are of one group"
        kept = kept_when_halved(distances, halves, UNFAMILIAR)
        of = "validation images, each on the scale of the other half of them"
    return f"{wilson(int(kept.sum()), len(kept))} {of}"
