"""First weights whose BatchNorm statistics came folded: measured anew on training images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from resnets.data.loader import PreparedImages
from resnets.kinds.sample import Sample
from resnets.models.statistics import folded_norms, unfold_statistics
from resnets.run.spec import Spec
from resnets.screen import Bar, Screen
from resnets.training.device import place_input

IMAGES = 512  # that statistics are measured on


def restore_statistics(spec: Spec, net: nn.Module, samples: list[Sample], screen: Screen) -> Spec:
    """Where the first weights have folded statistics, gives them those of training images, since
    training on folded ones collapses; says so, also in the spec that it returns."""
    if not folded_norms(net):
        return spec
    training = [sample for sample in samples if sample.split == "train"]
    places = np.unique(np.linspace(0, len(training) - 1, IMAGES).astype(int))
    chosen, workers = [training[place] for place in places], spec.settings.workers or None
    images = PreparedImages(chosen, spec.preprocessing, 0, workers, spec.sampling)
    with screen.progress("BatchNorm statistics", len(images)) as bar:
        unfold_statistics(net, _inputs(images, next(net.parameters()).device, bar))
    remark = f"BatchNorm statistics re-estimated on {len(images):,} training images"
    screen.say(f"{remark}: the weights came with folded ones")
    return replace(spec, weights=f"{spec.weights}; {remark}")


def _inputs(images: PreparedImages, device: torch.device, bar: Bar) -> Iterator[Tensor]:
    for places, pixels, _ in images.batches(32):
        yield place_input(torch.from_numpy(images.preprocessing.normalise(pixels)), device)
        bar.update(int(places[-1]) + 1)
