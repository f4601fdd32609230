"""BatchNorm statistics measured on training images: where those of first weights came folded, and,
if the run is to, before each validation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from resnets.data.loader import PreparedImages
from resnets.kinds.sample import Sample
from resnets.models.statistics import folded_norms, measure_statistics, unfold_statistics
from resnets.run.spec import Spec
from resnets.run.work import Job, autocast_of
from resnets.training.device import autocasting, place_input

IMAGES = 512  # that statistics are measured on
LEAST = 32  # of these
FOLDED = 128  # that folded ones are measured on; what the network computes does not depend on them


def restore_statistics(job: Job) -> Job:
    """Where the first weights have folded statistics, gives the network those of training images,
    since training on folded ones collapses; says so, also in the spec of the job that it returns.
    A head on the frozen backbone does without them, so the probe does not wait for this."""
    spec, net = job.spec, job.net
    if not folded_norms(net):
        return job
    training = [sample for sample in job.images.samples if sample.split == "train"]
    with job.screen.progress("BatchNorm statistics", min(FOLDED, len(training))) as bar:
        images = _prepared(spec, training).spread(FOLDED)
        with autocasting(job.device, autocast_of(spec.settings, job.device)):
            unfold_statistics(net, _inputs(images, job.device, bar.update))
    remark = f"BatchNorm statistics re-estimated on {len(images):,} training images"
    job.screen.say(f"{remark}: the weights came with folded ones")
    origin = spec.weights.removesuffix(f"; {remark}")  # of a run that was interrupted hereafter
    return replace(job, spec=replace(spec, weights=f"{origin}; {remark}"))


def images_for_norms(spec: Spec, training: Sequence[Sample], validated: int) -> PreparedImages:
    """What statistics are measured on before each validation, in memory: no more images than are
    validated on, but for `LEAST`."""
    return _prepared(spec, training).spread(min(IMAGES, max(LEAST, validated)))


def _prepared(spec: Spec, samples: Sequence[Sample]) -> PreparedImages:
    return PreparedImages(
        samples, spec.preprocessing, 0, spec.settings.workers or None, spec.sampling
    )


def measure_norms(spec: Spec, net: nn.Module, images: PreparedImages) -> None:
    """Statistics of these images instead of averages over the last steps, which lag behind weights
    that move fast.

    Args:
        spec: Of the run.
        net: Changed in place.
        images: `images_for_norms`.
    """
    device = next(net.parameters()).device
    with autocasting(device, autocast_of(spec.settings, device)):
        measure_statistics(net, _inputs(images, device))


def _inputs(
    images: PreparedImages,
    device: torch.device,
    progress: Callable[[int], None] = lambda done: None,
) -> Iterator[Tensor]:
    for places, pixels, _ in images.batches(32):
        yield place_input(torch.from_numpy(images.preprocessing.normalise(pixels)), device)
        progress(int(places[-1]) + 1)
