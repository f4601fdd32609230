"""The packages of engines, imported in one place, so that none of them reaches the network."""

from __future__ import annotations

import os
import sys
from types import ModuleType


def import_onnxruntime() -> ModuleType:
    """The onnxruntime package, kept from the network; everything that uses it takes it from here.

    From 1.32 on, importing it writes a number for the device into the home folder and collects
    events for its maker, unless the environment says no before.
    """
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime

    return onnxruntime


def import_openvino() -> ModuleType:
    """The openvino package, kept from the network; everything that uses it takes it from here.

    Importing OpenVINO sends an event to its maker, unless a file in the home folder or the
    environment says no. Without the package that does the sending it falls back on its own stub:
    nothing is sent and no file is written.

    Raises:
        ValueError: It is not installed.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        import openvino
    except ModuleNotFoundError:
        raise ValueError(
            'the engine openvino is not installed; run: pip install "resnets[openvino]"'
        ) from None
    return openvino
