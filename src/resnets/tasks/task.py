"""What a task is to the loop, the run and the export: met by frozen dataclasses whose fields are
the options of the task."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, NamedTuple, Protocol, Self

from torch import Tensor, nn

from resnets.kinds import Kind
from resnets.kinds.prediction import Prediction
from resnets.models import Network

Targets = dict[str, Tensor]  # whatever a loss needs, first dimension N; padded, never lists


class Limit(NamedTuple):
    """The values of a setting that a task takes, and why no others."""

    allowed: tuple[Any, ...]
    why: str


class Task(Protocol):
    """How one kind of task is learnt. Its fields are stored with the model, by name."""

    kind: ClassVar[Kind]
    # whether any module (N, C, H, W) -> (N, classes) can be trained
    takes_modules: ClassVar[bool]
    # settings of training that it does not take as they come: what is allowed, and why
    limits: ClassVar[dict[str, Limit]]

    def build(self, network: Network, classes: int) -> nn.Module:
        """The network with a head for so many classes; the same raw output in both modes."""

    def backbone(self, net: nn.Module) -> nn.Module:
        """The part that published weights fit, and whose norms `norms=frozen` freezes."""

    def head(self, net: nn.Module) -> nn.Module:
        """The part that is fresh for other classes; a phase may train it alone."""

    def features(self, net: nn.Module) -> nn.Module | None:
        """Normalised images to the features (N, channels) on which the head is linear, in eval
        mode, parameters shared: what a linear probe is fitted on. None where there are none. Else
        `inference` has an `activation`, from raw outputs to the first output of `kind`."""

    def collate(self, truths: Sequence[Prediction]) -> Targets:
        """The ground truth of a batch, as seen in the input, as tensors."""

    def loss(self, raw: Any, targets: Targets) -> dict[str, Tensor]:
        """`loss`, a mean over images; all else are sums over images, for the log."""

    def inference(self, net: nn.Module) -> nn.Module:
        """Normalised images to a tuple of the outputs of `kind`, in their order; traceable."""

    def settle(self, judged: Iterable[tuple[Prediction, Prediction]]) -> Self:
        """The task with the options that are fitted on validation images (thresholds), from the
        truth and the prediction of each; called once, before measuring. Most return themselves and
        take nothing, so that nothing is predicted."""
