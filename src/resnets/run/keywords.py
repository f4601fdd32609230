"""What `resnets.train` can be called with, for people, editors and type checkers."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from torch import nn

from resnets.training.settings import TrainSettings

if TYPE_CHECKING:
    from resnets.run.work import Callback

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class TrainCall(TrainSettings):
    """The settings, and what belongs to one call alone; never made, only its parameters are used.
    So a setting is written once, and `resnets.train` has it by name."""

    data: str | Path  # type: ignore[assignment]
    model: str | nn.Module | None = None  # type: ignore[assignment]
    _: KW_ONLY
    output: str | Path | None = None
    name: str | None = None
    exist_ok: bool = False
    callbacks: Sequence[Callback] = ()
    quiet: bool = False
    started: float | None = None


def takes(like: Callable[P, object]) -> Callable[[Callable[..., R]], Callable[P, R]]:
    """Gives a function the parameters of another callable."""

    def sign(function: Callable[..., R]) -> Callable[P, R]:
        returns = inspect.signature(function).return_annotation

        @functools.wraps(function)
        def signed(*args: P.args, **kwargs: P.kwargs) -> R:
            return function(*args, **kwargs)

        described: Any = signed
        described.__signature__ = inspect.signature(like).replace(return_annotation=returns)
        return signed

    return sign
