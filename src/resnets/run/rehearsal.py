"""What can be known before the work: whether a network can be trained, tried on a copy of it."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from resnets.export import rehearse
from resnets.kinds.kind import Output
from resnets.kinds.sample import Sample
from resnets.run.spec import Spec
from resnets.run.trials import blank_batch, blank_images, take_steps
from resnets.screen import Screen
from resnets.training.device import choose_device, place_net
from resnets.training.loop import Diverged, set_training, unsound
from resnets.training.settings import TrainSettings

# What the code of a network may raise; its own faults are told as such
FAULTS = (
    RuntimeError,
    TypeError,
    ValueError,
    LookupError,
    AttributeError,
    AssertionError,
    ArithmeticError,
)


def check_module(net: object) -> None:
    """Refuses what is no network, or none that can be trained.

    Raises:
        ValueError: What was got, and what is needed.
    """
    if not isinstance(net, nn.Module):
        got = f"the class {net.__name__}" if isinstance(net, type) else f"a {type(net).__name__}"
        raise ValueError(
            f"model is {got}; allowed: the name of a network, such as 'resnet18', or an nn.Module"
            " that maps (N, C, H, W) to (N, classes)" + (", made" if isinstance(net, type) else "")
        )
    name = type(net).__name__
    tensors = [*net.parameters(), *net.buffers()]
    if any(is_lazy(tensor) for tensor in tensors):
        raise ValueError(
            f"{name} has lazy layers without weights yet; call it once on an input of its shape"
            " before: net(torch.zeros(2, 3, 224, 224))"
        )
    if any(tensor.is_meta for tensor in tensors):
        raise ValueError(f"{name} is on the meta device, without weights; make it on the CPU")
    if not any(parameter.requires_grad for parameter in net.parameters()):
        raise ValueError(
            f"no parameter of {name} requires a gradient (requires_grad), so there is nothing to"
            " train: all are frozen, or there is none; free at least the last layer:"
            " layer.requires_grad_(True)"
        )


@contextmanager
def memory_explained(settings: TrainSettings) -> Iterator[None]:
    """Turns an exhausted memory, of the machine or its GPU, into a message with the cure.

    Raises:
        ValueError: The memory did not suffice.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not _is_memory(error):
            raise
        raise ValueError(
            f"the memory does not suffice for steps of {settings.batch_size} images of"
            f" {settings.size} x {settings.size}; choose a smaller --batch-size or --size"
        ) from error


def try_network(net: nn.Module, spec: Spec, samples: list[Sample], screen: Screen) -> None:
    """Predicts for two images, takes one training step, and of a foreign network builds the graph
    of the export: what cannot work is said before time is spent. All of it on a copy, and with
    random numbers of its own, so that the run is not changed.

    Args:
        net: With its first weights.
        spec: Of the run.
        samples: To train on; their ground truth is used, with blank images.
        screen: Told of what the network lacks.

    Raises:
        ValueError: It cannot be trained; the message says what to do.
    """
    check_module(net)
    if name := unsound(net):
        raise ValueError(f"{spec.weights}: {name} holds NaN or infinity; take other first weights")
    device = choose_device(spec.settings.device)
    generators = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(generators), memory_explained(spec.settings):
        raw, given = _try_inference(net.eval(), spec)
        _try_step(net, raw, spec, samples, device)
        outputs = spec.make_task().kind.outputs.values()
        if given <= sum(output.always for output in outputs) < len(outputs):
            screen.say(
                "no class activation maps: the network does not end in global average pooling and"
                " a linear layer by name"
            )
        if spec.network["kind"] != "family":  # of ours, tests know that they can be exported
            rehearse(spec.make_model(net))


def _try_inference(net: nn.Module, spec: Spec) -> tuple[Any, int]:
    """Predicts for two blank images; the raw output, and how many outputs come of it."""
    shape = spec.input_shape(2)
    task = spec.make_task()
    images = torch.zeros(shape, device=next(net.parameters()).device)
    try:
        with torch.no_grad():
            raw = net(images)
    except FAULTS as error:
        if _is_memory(error):
            raise
        raise ValueError(
            f"the network cannot take input of shape {shape}: {first_line(error)}"
        ) from error
    try:
        with torch.no_grad():
            decoded = task.inference(net)(images)
        outputs = {
            name: output.float().cpu().numpy()
            for name, output in zip(task.kind.outputs, decoded, strict=False)
        }
        fits = all(_fits(one, task.kind.outputs[name], spec) for name, one in outputs.items())
        if fits:
            files = [str(number) for number in range(len(images))]
            options = {key: value for key, value in spec.task.items() if key != "name"}
            options = dict(task.kind.options(options, spec.classes))
            task.kind.unbatch(outputs, files, spec.classes, options)
    except FAULTS as error:
        if _is_memory(error):
            raise
        raise _wrong_output(raw, spec) from error
    if not fits:
        raise _wrong_output(raw, spec)
    return raw, len(outputs)


def _fits(array: np.ndarray, output: Output, spec: Spec) -> bool:
    """Whether an output for two images has the shape that its kind says."""
    names, known = output.shape.split(", "), {"N": 2, "classes": len(spec.classes)}
    return array.ndim == len(names) and all(
        known.get(name, length) == length for name, length in zip(names, array.shape, strict=True)
    )


def _wrong_output(raw: object, spec: Spec, when: str = "") -> ValueError:
    """What a network returned and should return: the shape of the first output of its kind."""
    got = tuple(raw.shape) if isinstance(raw, Tensor) else f"a {type(raw).__name__}"
    shapes = [output.shape for output in spec.make_task().kind.outputs.values()]
    needed = shapes[0].replace("classes", str(len(spec.classes)))
    return ValueError(
        f"the network returns {got} for {len(spec.classes)} classes{when}; a tensor ({needed}) is"
        " needed"
    )


def _shapes(raw: object) -> object:
    """The shapes of a raw output but for the number of images."""
    if isinstance(raw, Tensor):
        return tuple(raw.shape[1:])
    if isinstance(raw, dict):
        return {key: _shapes(value) for key, value in raw.items()}
    return [_shapes(one) for one in raw] if isinstance(raw, tuple | list) else type(raw)


def _try_step(
    net: nn.Module, raw: Any, spec: Spec, samples: list[Sample], device: torch.device
) -> None:
    """As many images as a step takes where a GPU's memory is at stake, else as few as tell."""
    settings, task = spec.settings, spec.make_task()
    assert settings.batch_size is not None
    size = min(settings.batch_size, len(samples))
    size = size if device.type == "cuda" else min(2, size)
    images = blank_images(size, spec, device)
    trial = _copy(net, device)
    try:
        set_training(trial, trial, task, settings.norms != "frozen")
        with torch.no_grad():
            trained = trial(images)
        if _shapes(trained) != _shapes(raw):
            raise _wrong_output(trained, spec, " in training mode")
        for phase in spec.phases:
            batch = blank_batch(spec, samples[:size], device, phase.size)
            images = batch.images
            take_steps(trial, spec, phase, batch)
    except Diverged as error:
        raise ValueError(
            f"a trial step from the first weights ({spec.weights}) gives no number: {error}"
        ) from None
    except FAULTS as error:
        if _is_memory(error):
            raise
        if size == 1 and "more than 1 value per channel" in str(error):
            raise ValueError(
                "BatchNorm has no statistics of a single value: of one image a step, whose maps"
                " end at 1 x 1; choose --batch-size 2 or more, or --norms frozen"
            ) from None
        raise ValueError(
            "the network cannot take a training step on input of shape"
            f" {tuple(images.shape)}: {first_line(error)}"
        ) from error


def _copy(net: nn.Module, device: torch.device) -> nn.Module:
    try:
        return place_net(copy.deepcopy(net), device)
    except FAULTS as error:
        if _is_memory(error):
            raise
        raise ValueError(
            "the network cannot be copied, which the averaging of weights needs; keep its tensors"
            f" as parameters or buffers ({first_line(error)})"
        ) from error


def _is_memory(error: BaseException) -> bool:
    text = str(error).lower()
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(
        phrase in text for phrase in ("out of memory", "can't allocate memory", "not enough memory")
    )


def first_line(error: BaseException) -> str:
    """What a message for people keeps of an error."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
