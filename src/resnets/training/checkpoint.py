"""The state of a run as tensors and JSON, and back: after a crash the run goes on in the same
bits."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from resnets.training.loop import TrainingState

AVERAGE, OPTIMIZER = "average/", "optimizer/"  # prefixes; names without one are the network's own

NUMBER = int | float
TYPES: dict[str, Any] = {"step": int, "seconds": NUMBER, "sums": dict, "rows": list, "best": dict}
SCALER = {"scale", "growth_factor", "backoff_factor", "growth_interval", "_growth_tracker"}
ROW = ("step", "epoch", "seconds", "train_loss", "images_per_second")  # of a row, never empty


def pack(state: TrainingState) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Everything that `unpack` needs: tensors, and a JSON-able rest."""
    tensors = dict(state.net.state_dict())
    tensors |= {AVERAGE + name: tensor for name, tensor in state.average.net.state_dict().items()}
    tensors[f"{AVERAGE}count/"] = state.average.model.n_averaged
    for number, slots in state.optimizer.state_dict()["state"].items():
        tensors |= {
            f"{OPTIMIZER}{number}/{slot}": value
            for slot, value in slots.items()
            if isinstance(value, Tensor)
        }
    rest = {
        "step": state.step,
        "sums": state.sums,
        "seconds": state.seconds,
        "rows": state.rows,
        "best": state.best,
        "bends": [list(bend) for bend in state.bends],
        "slowed": state.slowed,
    }
    if scaler := state.scaler.state_dict():
        rest["scaler"] = scaler
    return tensors, rest


def position(rest: object, main: str) -> tuple[int, tuple[tuple[int, int], ...]]:
    """The step at which a state was packed, and the bends of its plan until then.

    Raises:
        ValueError: Not a checkpoint.
    """
    rest = _checked(rest, main)
    return int(rest["step"]), bends_of(rest)


def bends_of(rest: Mapping[str, Any]) -> tuple[tuple[int, int], ...]:
    """Bends as the plan has them; none in a checkpoint from before there were any."""
    return tuple((start, steps) for start, steps in rest.get("bends", ()))


def unpack(state: TrainingState, tensors: Mapping[str, Tensor], rest: object, main: str) -> None:
    """Puts a packed state into a fresh one, in place.

    Args:
        state: With the optimizer of the phase.
        tensors: Of `pack`.
        rest: Of `pack`.
        main: Name of the number that chooses the best weights.

    Raises:
        ValueError: It is of another network or optimizer, or no checkpoint.
    """
    rest = _checked(rest, main)
    plain = {name: tensor for name, tensor in tensors.items() if "/" not in name}
    averaged = _below(tensors, AVERAGE)
    count = averaged.pop("count/", None)
    slots: dict[int, dict[str, Tensor]] = {}
    own = state.optimizer.state_dict()
    for name, tensor in _below(tensors, OPTIMIZER).items():
        number, _, slot = name.partition("/")
        slots.setdefault(int(number) if number.isdecimal() else -1, {})[slot] = tensor
    _check_slots(state.optimizer, slots)
    _lay_out(state.optimizer, slots)
    try:
        state.net.load_state_dict(plain)
        state.average.net.load_state_dict(averaged)
    except RuntimeError as error:
        raise ValueError(
            f"the checkpoint is of another network: {' '.join(str(error).split())[:200]}"
        ) from None
    if count is None or count.shape != state.average.model.n_averaged.shape:
        raise ValueError("the checkpoint does not say how many steps its averages are of")
    state.average.model.n_averaged.copy_(count)
    state.optimizer.load_state_dict({**own, "state": slots})
    if state.scaler.is_enabled() and "scaler" in rest:
        state.scaler.load_state_dict(rest["scaler"])
    state.step, state.seconds = rest["step"], rest["seconds"]
    state.sums, state.rows, state.best = dict(rest["sums"]), list(rest["rows"]), dict(rest["best"])
    state.bends, state.slowed = bends_of(rest), rest.get("slowed", 0)


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }


def _check_slots(
    optimizer: torch.optim.Optimizer, slots: Mapping[int, Mapping[str, Tensor]]
) -> None:
    parameters = [one for group in optimizer.param_groups for one in group["params"]]
    for number, values in slots.items():
        shapes = [value.shape for value in values.values() if value.ndim]
        if not 0 <= number < len(parameters) or not all(
            _fits(shape, parameters[number].shape) for shape in shapes
        ):
            raise ValueError("the checkpoint is of another optimizer, or of other parameters")


def _lay_out(optimizer: torch.optim.Optimizer, slots: dict[int, dict[str, Tensor]]) -> None:
    """Puts slots into the order in memory that their parameters have: sums over them, such as the
    norms of LAMB, are in the same bits only then, and fused optimizers take it for granted."""
    parameters = [one for group in optimizer.param_groups for one in group["params"]]
    for number, values in slots.items():
        like = parameters[number]
        for name, value in values.items():
            if value.shape == like.shape:
                values[name] = torch.empty_like(like, dtype=value.dtype).copy_(value)


def _fits(shape: torch.Size, whole: torch.Size) -> bool:
    """Whether a slot is of a parameter, or of its rows or columns."""
    return len(shape) == len(whole) and all(
        side in (1, full) for side, full in zip(shape, whole, strict=True)
    )


def _checked(rest: object, main: str) -> dict[str, Any]:
    rest = _upgraded(rest, main)
    if not isinstance(rest, dict) or not all(
        isinstance(rest.get(key), kind) for key, kind in TYPES.items()
    ):
        raise ValueError(f"not a checkpoint: {', '.join(TYPES)} expected")
    sums, best = rest["sums"], rest["best"]
    summed = not sums or ({"loss", "count"} <= sums.keys() and _are_numbers(sums.values()))
    rows = all(
        isinstance(row, dict)
        and _are_numbers(row.get(key) for key in ROW)
        and _are_numbers(value for value in row.values() if value is not None)
        and (row.get(f"val_{main}") is None or row.get(f"val_{main}_ema") is not None)
        for row in rest["rows"]
    )
    compared = not best or (
        _are_numbers(best.get(key) for key in (main, "step"))
        and isinstance(best.get("loss"), NUMBER | None)
    )
    scaler = rest.get("scaler")
    scaled = scaler is None or (
        isinstance(scaler, dict) and scaler.keys() == SCALER and _are_numbers(scaler.values())
    )
    slowed = rest.get("slowed", 0)
    compared = compared and type(slowed) is int and 0 <= slowed <= rest["step"]
    if not (summed and rows and compared and scaled and _bends(rest) and rest["step"] >= 0):
        raise ValueError("not a checkpoint: its numbers are not of the expected kind")
    return rest


def _bends(rest: Mapping[str, Any]) -> bool:
    """Whether bends lie in order, each before its end."""
    bends = rest.get("bends", [])
    pairs = isinstance(bends, list) and all(
        isinstance(bend, list) and len(bend) == 2 and all(type(one) is int for one in bend)
        for bend in bends
    )
    return pairs and all(
        before[0] <= start < min(steps, before[1])
        for before, (start, steps) in pairwise([[0, sys.maxsize], *bends])
    )


def _upgraded(rest: object, main: str) -> object:
    """Sums had no names when classes were the only task: loss, hits (the main number), images."""
    sums = rest.get("sums") if isinstance(rest, dict) else None
    if not isinstance(rest, dict) or not isinstance(sums, list) or len(sums) != 3:
        return rest
    named = dict(zip(("loss", main, "count"), sums, strict=True)) if any(sums) else {}
    return {**rest, "sums": named}


def _are_numbers(values: Iterable[object]) -> bool:
    return all(isinstance(value, NUMBER) for value in values)
