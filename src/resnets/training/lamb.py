"""LAMB: steps of Adam, each as long as the weights of its layer allow; for large batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class Lamb(torch.optim.Optimizer):
    """LAMB (You et al. 2020, arXiv:1904.00962, algorithm 2): a step of AdamW is scaled to the norm
    of the weights it moves, where they decay; biases and norms take it as it is.

    Args:
        params: Parameters, or groups of them.
        lr: Length of a step, relative to the norm of the weights.
        betas: Of the averages of gradient and squared gradient.
        eps: Added to the root of the squared gradient.
        weight_decay: Added to the step before it is scaled.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step of all groups."""
        assert closure is None
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    weight.sub_(group["lr"] * self._direction(weight, weight.grad, group))
        return None

    def _direction(self, weight: Tensor, gradient: Tensor, group: dict[str, Any]) -> Tensor:
        state = self.state[weight]
        if not state:
            state["step"] = torch.zeros(())
            state["exp_avg"] = torch.zeros_like(weight)
            state["exp_avg_sq"] = torch.zeros_like(weight)
        state["step"] += 1
        first, second = group["betas"]
        mean = state["exp_avg"].lerp_(gradient, 1 - first) / (1 - first ** int(state["step"]))
        square = state["exp_avg_sq"].mul_(second).addcmul_(gradient, gradient, value=1 - second)
        root = (square / (1 - second ** int(state["step"]))).sqrt() + group["eps"]
        if not group["weight_decay"]:
            return mean / root
        direction = mean / root + group["weight_decay"] * weight
        ratio = weight.norm() / direction.norm()
        return direction * ratio.where((ratio > 0) & ratio.isfinite(), 1.0)
