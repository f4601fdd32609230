"""What can be known before the work: whether a network can be trained, tried on a copy of it."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from resnets.export import rehearse
from resnets.modelfile import Model
from resnets.run.spec import Spec
from resnets.run.work import make_state
from resnets.screen import Screen
from resnets.tasks.classification import Classification
from resnets.torch_engine import TorchEngine
from resnets.training.loop import Diverged, Hooks, Plan, set_training, train_steps, unsound
from resnets.training.optimizers import Schedule
from resnets.training.recipe import TrainSettings, choose_device

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


@dataclass(frozen=True)
class _Batch:
    images: Tensor
    labels: Tensor


def try_network(net: nn.Module, spec: Spec, count: int, screen: Screen) -> None:
    """Predicts for two images, takes one training step, and of a foreign network builds the graph
    of the export: what cannot work is said before time is spent. All of it on a copy, and with
    random numbers of its own, so that the run is not changed.

    Args:
        net: With its first weights.
        spec: Of the run.
        count: Training images there are.
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
        _try_answer(net.eval(), spec)
        _try_step(net, spec, count, device)
        model = Model(net, spec.classes, spec.preprocessing, spec.network)
        if not TorchEngine(model).inference.has_maps:
            screen.say(
                "no class activation maps: the network does not end in global average pooling and"
                " a linear layer by name"
            )
        if spec.network["kind"] != "family":  # of ours, tests know that they can be exported
            rehearse(model)


def _try_answer(net: nn.Module, spec: Spec) -> None:
    shape = (2, spec.preprocessing.channels, *spec.preprocessing.size)
    try:
        with torch.no_grad():
            out = net(torch.zeros(shape, device=next(net.parameters()).device))
    except FAULTS as error:
        if _is_memory(error):
            raise
        raise ValueError(
            f"the network cannot take input of shape {shape}: {_line(error)}"
        ) from error
    _check_output(out, 2, spec, "")


def _check_output(out: object, count: int, spec: Spec, when: str) -> None:
    classes = len(spec.classes)
    if not isinstance(out, Tensor) or out.shape != (count, classes):
        got = tuple(out.shape) if isinstance(out, Tensor) else f"a {type(out).__name__}"
        raise ValueError(
            f"the network returns {got} for {classes} classes{when}; a tensor (N, {classes}) is"
            " needed"
        )


def _try_step(net: nn.Module, spec: Spec, count: int, device: torch.device) -> None:
    """As many images as a step takes where a GPU's memory is at stake, else as few as tell."""
    settings = spec.settings
    assert settings.batch_size is not None
    size = min(settings.batch_size, count)
    size = size if device.type == "cuda" else min(2, size)
    shape = (size, spec.preprocessing.channels, *spec.preprocessing.size)
    try:
        trial = copy.deepcopy(net).to(device).to(memory_format=torch.channels_last)
    except FAULTS as error:
        if _is_memory(error):
            raise
        raise ValueError(
            "the network cannot be copied, which the averaging of weights needs; keep its tensors"
            f" as parameters or buffers ({_line(error)})"
        ) from error
    images = torch.linspace(-1, 1, torch.Size(shape).numel(), device=device).reshape(shape)
    batch = _Batch(images, torch.arange(size, device=device) % len(spec.classes))
    plan = Plan(Schedule(1e-6, 1, 0), 1, 2, 2, train_norms=settings.norms == "train")
    hooks = Hooks(lambda _: {"val_accuracy": None}, lambda _: None)
    try:
        set_training(trial, plan.train_norms)
        with torch.no_grad():
            _check_output(trial(images), size, spec, " in training mode")
        state = make_state(trial, settings, 1)
        train_steps(state, [batch], Classification(settings.smoothing or 0.0), plan, hooks)
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
            f"the network cannot take a training step on input of shape {shape}: {_line(error)}"
        ) from error


def _is_memory(error: BaseException) -> bool:
    told = str(error).lower()
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(
        words in told for words in ("out of memory", "can't allocate memory", "not enough memory")
    )


def _line(error: BaseException) -> str:
    """What a message for people keeps of an error."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
