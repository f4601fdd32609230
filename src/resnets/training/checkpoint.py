"""The state of a run as tensors and JSON, and back: after a crash the run goes on in the same
bits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from resnets.training.loop import TrainingState

AVERAGE, OPTIMIZER = "average/", "optimizer/"  # prefixes; names without one are the network's own


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
    }
    return tensors, rest


def unpack(state: TrainingState, tensors: Mapping[str, Tensor], rest: Mapping[str, Any]) -> None:
    """Puts a packed state into a fresh one, in place."""
    state.net.load_state_dict({name: tensor for name, tensor in tensors.items() if "/" not in name})
    averaged = {
        name.removeprefix(AVERAGE): tensor
        for name, tensor in tensors.items()
        if name.startswith(AVERAGE)
    }
    state.average.model.n_averaged.copy_(averaged.pop("count/"))
    state.average.net.load_state_dict(averaged)
    slots: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith(OPTIMIZER):
            number, slot = name.removeprefix(OPTIMIZER).split("/")
            slots.setdefault(int(number), {})[slot] = tensor
    state.optimizer.load_state_dict({**state.optimizer.state_dict(), "state": slots})
    state.step, state.seconds = rest["step"], rest["seconds"]
    state.sums, state.rows, state.best = list(rest["sums"]), list(rest["rows"]), dict(rest["best"])
