"""A linear probe: the head of a network fitted on features of its frozen backbone, in seconds.

A logistic regression has one minimum, so there is nothing to schedule: full batches and L-BFGS find
it. Only the strength of its weight decay is open, and validation chooses it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

Targets = dict[str, Tensor]
Loss = Callable[[Tensor, Targets], dict[str, Tensor]]

# Weights of the squared norm of the head on standardised features, from the strongest on: each fit
# starts where the one before ended
STRENGTHS = (0.3, 0.1, 0.03, 0.01, 0.003, 0.001, 0.0003)
ITERATIONS = 100  # of L-BFGS for one strength; more changed no prediction


@dataclass(frozen=True)
class Featured:
    """Images as the frozen backbone sees them.

    Args:
        features: (n, channels) float32.
        targets: What is true of them, first dimension n.
    """

    features: Tensor
    targets: Targets


@dataclass(frozen=True)
class Fitted:
    """A head that was fitted.

    Args:
        weight: (outputs, channels).
        bias: (outputs,).
        strength: Of its weight decay.
        train: What the loss tells of the images it was fitted on, each a mean.
        val_loss: On those that chose the strength.
    """

    weight: Tensor
    bias: Tensor
    strength: float
    train: dict[str, float]
    val_loss: float

    def __call__(self, features: Tensor) -> Tensor:
        """(n, channels) to raw outputs (n, outputs)."""
        return features @ self.weight.T + self.bias


def fit_probe(train: Featured, val: Featured, outputs: int, loss: Loss) -> Fitted:
    """The linear head with the lowest validation loss over `STRENGTHS` (Bishop 2006, section
    4.3.2).

    Args:
        train: To fit on.
        val: To choose the strength on.
        outputs: Of the head.
        loss: Of the task: raw output (n, outputs) and targets to `loss`, a mean.
    """
    mean, scale = train.features.mean(0), train.features.std(0, correction=0) + 1e-6
    inputs = (train.features - mean) / scale
    head = nn.Linear(inputs.shape[1], outputs)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    best: Fitted | None = None
    for strength in STRENGTHS:
        _fit(head, inputs, train.targets, loss, strength)
        with torch.no_grad():
            weight = head.weight / scale
            bias = head.bias - weight @ mean
            said = loss(inputs @ head.weight.T + head.bias, train.targets)
            val_loss = float(loss(val.features @ weight.T + bias, val.targets)["loss"])
        if best is None or val_loss < best.val_loss:
            count = len(inputs)  # all but the loss are sums
            means = {
                name: float(one) / (1 if name == "loss" else count) for name, one in said.items()
            }
            best = Fitted(weight, bias, strength, means, val_loss)
    assert best is not None
    return best


def _fit(head: nn.Linear, inputs: Tensor, targets: Targets, loss: Loss, strength: float) -> None:
    optimizer = torch.optim.LBFGS(
        head.parameters(), max_iter=ITERATIONS, history_size=20, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss(head(inputs), targets)["loss"] + strength * head.weight.square().sum()
        value.backward()
        return value

    optimizer.step(closure)
