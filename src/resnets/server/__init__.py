"""`NAME.onnx` over HTTP, and a page to try it: FastAPI and uvicorn on the runtime; PyTorch is never
imported.

serve([open_model("photos.onnx")], "127.0.0.1", 8000, Limits())
"""

from __future__ import annotations

import importlib.util


def need_packages() -> None:
    """Looks for what `pip install "resnets[serve]"` adds.

    Raises:
        ValueError: Some of it is not installed.
    """
    missing = [name for name in ("fastapi", "uvicorn") if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(
            f"serving needs {' and '.join(missing)}, not installed here; run: pip install"
            ' "resnets[serve]"'
        )
