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
    fit, best = Fit(train, outputs, loss), None
    for strength in STRENGTHS:
        weight, bias = fit(strength)
        said = loss(train.features @ weight.T + bias, train.targets)
        val_loss = float(loss(val.features @ weight.T + bias, val.targets)["loss"])
        if best is None or val_loss < best.val_loss:
            count = len(train.features)  # all but the loss are sums
            means = {
                name: float(one) / (1 if name == "loss" else count) for name, one in said.items()
            }
            best = Fitted(weight, bias, strength, means, val_loss)
    assert best is not None
    return best


def predict_held_out(
    featured: Featured, folds: Tensor, outputs: int, loss: Loss, strength: float
) -> Tensor:
    """Raw outputs (n, outputs) for each image by a head that was not fitted to it.

    Args:
        featured: All images.
        folds: (n,) int64; those of one fold are held out together.
        outputs: Of a head.
        loss: Of the task.
        strength: Of the weight decay of a head.
    """
    found = torch.zeros(len(featured.features), outputs)
    for fold in folds.unique():
        held_out = folds == fold
        targets = {name: one[~held_out] for name, one in featured.targets.items()}
        rest = Featured(featured.features[~held_out], targets)
        weight, bias = Fit(rest, outputs, loss)(strength)
        found[held_out] = featured.features[held_out] @ weight.T + bias
    return found


class Fit:
    """A head in the course of being fitted; each call goes on from the last one.

    Args:
        train: To fit on.
        outputs: Of the head.
        loss: Of the task.
    """

    def __init__(self, train: Featured, outputs: int, loss: Loss) -> None:
        self.targets, self.loss = train.targets, loss
        self.mean = train.features.mean(0)
        self.scale = train.features.std(0, correction=0) + 1e-6
        self.inputs = (train.features - self.mean) / self.scale
        self.head = nn.Linear(self.inputs.shape[1], outputs)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def __call__(self, strength: float) -> tuple[Tensor, Tensor]:
        """Weight (outputs, channels) and bias (outputs,) on features as they are, at the minimum
        of the loss and the decay of the weights on standardised ones."""
        head = self.head
        optimizer = torch.optim.LBFGS(
            head.parameters(), max_iter=ITERATIONS, history_size=20, line_search_fn="strong_wolfe"
        )

        def closure() -> Tensor:
            optimizer.zero_grad()
            decay = strength * head.weight.square().sum()
            value = self.loss(head(self.inputs), self.targets)["loss"] + decay
            value.backward()
            return value

        optimizer.step(closure)
        with torch.no_grad():
            weight = head.weight / self.scale
            return weight, head.bias - weight @ self.mean
