"""The door for networks from elsewhere, `timm:NAME` or `FILE.py:FUNCTION`: naming one is asking for
its code to run."""

from __future__ import annotations

import importlib.util
import inspect
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from resnets.settings import nearest


def is_foreign(source: str) -> bool:
    """Whether a text names a network from elsewhere."""
    return source.startswith("timm:") or ".py:" in source


def check_foreign(source: str) -> None:
    """Refuses what names no network, before any code is run for them.

    Raises:
        ValueError: timm is not installed or has none of that name, or there is no such file.
    """
    if not source.startswith("timm:"):
        if not (file := Path(source.rpartition(":")[0])).is_file():
            raise ValueError(f"no such file: {file}; a network is named as FILE.py:FUNCTION")
        return
    try:
        import timm
    except ModuleNotFoundError:
        raise ValueError(f"{source} needs timm; run: pip install timm") from None
    # what follows the point is a tag of weights, see --weights timm:NAME.TAG
    if (name := source.removeprefix("timm:").partition(".")[0]) not in timm.list_models():
        raise ValueError(
            f"timm {timm.__version__} has no network {name!r}: {nearest(name, timm.list_models())}"
        )


def build_foreign(source: str, num_classes: int, in_channels: int = 3) -> nn.Module:
    """A network from elsewhere, with fresh weights.

    Args:
        source: `timm:NAME`, or `FILE.py:FUNCTION`; the function gets `num_classes`, and
            `in_channels` where it takes it, and returns a module (N, C, H, W) -> (N, classes).
        num_classes: Outputs.
        in_channels: Channels of the images.

    Raises:
        ValueError: There is none of that name, or what comes is not a module.
    """
    check_foreign(source)
    if source.startswith("timm:"):
        return _from_timm(source.removeprefix("timm:"), num_classes, in_channels)
    file, _, name = source.rpartition(":")
    if not name:
        raise ValueError(f"{source} names no function; a network is named as FILE.py:FUNCTION")
    function = _function(Path(file), name)
    try:
        known = inspect.signature(function).parameters
    except ValueError:
        raise ValueError(f"{source} is not a function in Python") from None
    takes_all = any(one.kind is inspect.Parameter.VAR_KEYWORD for one in known.values())
    wanted = {"num_classes": num_classes, "in_channels": in_channels}
    given = {key: value for key, value in wanted.items() if key in known or takes_all}
    net = _call(source, lambda: function(**given))
    if not isinstance(net, nn.Module):
        raise ValueError(f"{source} returned {type(net).__name__}; a torch.nn.Module was expected")
    return net


def _from_timm(name: str, num_classes: int, in_channels: int) -> nn.Module:
    import timm

    net: nn.Module = _call(
        f"timm:{name}",
        lambda: timm.create_model(
            name.partition(".")[0], pretrained=False, num_classes=num_classes, in_chans=in_channels
        ),
    )
    return net


def _call(source: str, make: Callable[[], Any]) -> Any:
    """What code of somebody else makes; where it fails, in one message with its own line.

    Raises:
        ValueError: It raised something.
    """
    try:
        return make()
    except Exception as error:  # code of somebody else may raise anything
        trace = traceback.extract_tb(error.__traceback__)[-1]
        raise ValueError(
            f"{source} fails in {Path(trace.filename).name}, line {trace.lineno}:"
            f" {type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
        ) from error


def _function(file: Path, name: str) -> Any:
    found: Any = importlib.util.spec_from_file_location(file.stem, file)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    _call(str(file), lambda: found.loader.exec_module(module))
    if not callable(function := getattr(module, name, None)):
        functions = [
            key
            for key, value in vars(module).items()
            if callable(value) and not key.startswith("_")
        ]
        raise ValueError(f"{file} has no function {name!r}: {nearest(name, functions)}")
    return function
