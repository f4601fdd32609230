"""What is decided by trying it: the numbers that steps compute in, and how large an input and how
many images the time allows."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from torch import nn

from resnets.data.loader import PreparedImages
from resnets.data.splits import thin_out
from resnets.data.windows import to_windows
from resnets.kinds.sample import Sample
from resnets.run.design import Data, Made, design, make_network
from resnets.run.rehearsal import FAULTS, first_line
from resnets.run.spec import Spec
from resnets.run.trials import time_step
from resnets.screen import Screen
from resnets.training.loop import Diverged
from resnets.training.recipes import LADDERS, Circumstances
from resnets.training.settings import TrainSettings

IMAGES = 8  # of a trial step in either precision
SHORT = 0.05  # seconds of a step in float32, below which noise would decide: it stays
FASTER = 0.8  # of the time of float32, from which on bfloat16 is worth its digits
ALIKE = 0.05  # by which the losses of both may differ, relative to that of float32
STRIDE = 32  # pixels: sides are multiples of the coarsest maps
SMALLEST = 128, 160  # pixels of the side of a smaller input: of small images, of photos
STEPS = 100  # of fine-tuning, below which it gains less than a probe loses with a smaller input
EPOCHS = 4.0  # of fine-tuning that are to fit before a larger input is taken
FROM_SCRATCH = 20.0  # epochs that are to fit before a larger network or input is taken
RESERVE = 25.0  # seconds of the limit that go into export, report and what is timed
PART = 0.85  # of what is left is training
FORWARD = 0.3  # of the time of a step is spent on the features of an image
# How often a run looks at each image without training on it: features before and after training;
# of held-out images also two validations of two kinds of weights, and the measurement at the end
LOOKS = {"train": 2, "val": 6, "test": 2}
LOOKING = 0.6  # of what is left of the time may go into that with all images
PARTLY = 0.45  # and with a part of them, so that a machine that slows down can still end in time
FEWEST = 8  # images of a class in a part of the data that are looked at in any case
SLOW = 0.05  # seconds of a look: where all of them would fit at that, none is timed
QUICK = 0.25  # of a limit so short that a small network leaves some of `RESERVE`


def in_float32(spec: Spec) -> Spec:
    """The same run, computed with all digits."""
    return replace(spec, settings=replace(spec.settings, precision="float32"))


def choose_precision(spec: Spec, net: nn.Module, samples: Sequence[Sample], screen: Screen) -> Spec:
    """bfloat16 where a processor is said to be faster with it, only if it is, and if it computes
    the same: some convolutions in some releases of PyTorch are slower in it, or wrong.

    Args:
        spec: With the precision of the recipe.
        net: With its first weights.
        samples: To train on.
        screen: Told where it is not taken.
    """
    plain = in_float32(spec)
    full, expected = time_step(net, plain, samples[:IMAGES])
    try:
        short, loss = time_step(net, spec, samples[:IMAGES])
    except (Diverged, *FAULTS) as error:  # a network from outside may not be able to
        screen.say(f"precision float32: in bfloat16 the network fails ({first_line(error)})")
        return plain
    if full >= SHORT and short <= FASTER * full and abs(loss - expected) <= ALIKE * abs(expected):
        return spec
    screen.say(
        f"precision float32: a step takes {full:.2f} s in it and {short:.2f} s in bfloat16, with a"
        f" loss of {expected:.3f} and {loss:.3f}"
    )
    return plain


def choose_side(
    spec: Spec, net: nn.Module, samples: Sequence[Sample], seconds: float, screen: Screen
) -> Spec:
    """A smaller input than that of the weights, where too few epochs would fit with theirs, or not
    all images could be looked at.

    Args:
        spec: With the input of the weights.
        net: With its first weights.
        samples: Of all parts of the data.
        seconds: Until the run has to end.
        screen: Told what was chosen, and why.
    """
    training = [sample for sample in samples if sample.split == "train"]
    value, batch = spec.preprocessing, training[: spec.settings.batch_size]
    small, photo = SMALLEST
    own, least = max(value.size), min(*value.size, max(small, min(photo, *spec.image_size)))
    step, _ = time_step(net, spec, batch, least)
    epoch = step * len(training) / len(batch) * (own / least) ** 2
    left = PART * (seconds - RESERVE - FORWARD * epoch)

    def epochs(side: int) -> float:
        return left / (epoch * (side / own) ** 2)

    sides = range(own, least - 1, -STRIDE)
    side = next((side for side in sides if epochs(side) >= EPOCHS), min(sides, default=own))
    idle = epochs(side) * len(training) / len(batch) < STEPS
    look = FORWARD * epoch / len(training)
    seen = _looks(samples) * look <= LOOKING * _looking(seconds)
    if side == own or (idle and seen):
        return spec
    screen.say(
        f"size {side}: with {own} about {max(0.0, epochs(own)):.1f} epochs would fit, with it"
        f" {max(0.0, epochs(side)):.1f}"
    )
    # as `make_preprocessing` does for a size that is given: the run can be repeated from args.yaml
    crop, (height, width) = value.size[0] / value.resize[0], value.size
    size = (round(height * side / own), round(width * side / own))
    resize = (int(size[0] / crop), int(size[1] / crop))
    preprocessing = replace(value, size=size, resize=resize)
    return replace(spec, settings=replace(spec.settings, size=side), preprocessing=preprocessing)


def choose_images(
    spec: Spec, net: nn.Module, samples: list[Sample], seconds: float, screen: Screen
) -> tuple[Spec, list[Sample]]:
    """Fewer images, where the time does not allow to look at all of them as often as a run does.

    Args:
        spec: With its input.
        net: With its first weights.
        samples: Of all parts of the data.
        seconds: Until the run has to end.
        screen: Told how many there are left.
    """
    looks, left = _looks(samples), _looking(seconds)
    if looks * SLOW <= LOOKING * left:
        return spec, samples
    training = [sample for sample in samples if sample.split == "train"]
    few = training[:: -(-len(training) // IMAGES)]
    step, _ = time_step(net, spec, few)
    workers = spec.settings.workers or None
    clips = to_windows(few, spec.sampling, workers=workers)
    tick = time.perf_counter()
    PreparedImages(clips, spec.preprocessing, 0, workers, spec.sampling).spread(len(clips))
    look = FORWARD * step / len(few) + (time.perf_counter() - tick) / len(clips)
    if looks * look <= LOOKING * left:
        return spec, samples
    chosen = thin_out(samples, PARTLY * left / (looks * look), FEWEST)
    taken = f"{len(chosen):,} of {len(samples):,} images"
    limit = f"{spec.settings.minutes:g} min"
    screen.say(f"{taken}: a look at one takes {1e3 * look:.0f} ms, too long for all in {limit}")
    split, omitted = f"{spec.split}; {taken}, for a limit of {limit}", len(samples) - len(chosen)
    return replace(spec, split=split, omitted=omitted), chosen


def _looks(samples: Sequence[Sample]) -> int:
    parts = Counter(sample.split for sample in samples)
    return sum(LOOKS[split] * count for split, count in parts.items())


def _looking(seconds: float) -> float:
    """Seconds that are left beside export, report and what is timed."""
    return max(seconds - RESERVE, QUICK * seconds, 0.0)


def choose_rung(
    settings: TrainSettings, data: Data, seen: Circumstances, seconds: float
) -> tuple[TrainSettings, Made]:
    """From scratch, the largest network and input with which enough epochs fit: many passes over
    small images teach more than a few over large ones.

    Args:
        settings: Network and input are open.
        data: To learn from.
        seen: What other open settings are decided by.
        seconds: Until the run has to end.

    Returns:
        The settings with both, and the network.
    """
    assert settings.task is not None
    left, short, tried = PART * (seconds - RESERVE), min(seen.median), ""
    *others, last = LADDERS[settings.task]
    for name, side in [*(one for one in others if one[1] <= short), last]:
        rung = replace(settings, model=name, size=min(side, max(16, short // 4 * 4)))
        made = make_network(rung, None, data)
        spec = design(rung, data, made, seen, None, Screen(quiet=True))
        batch = data.training[: spec.settings.batch_size]
        step, _ = time_step(made.net, spec, batch)
        epochs = max(0.0, left) / (step * len(data.training) / len(batch))
        reason = f"about {epochs:.0f} epochs fit, with an input of {rung.size}{tried}"
        if epochs >= FROM_SCRATCH:
            break
        tried = f"; with {name} at {rung.size} only {epochs:.1f}"
    return rung, make_network(rung, None, data, reason)
