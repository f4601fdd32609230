"""The options that say how images are prepared, for weights that do not say it; `export`, `predict`
and `val` share them."""

from __future__ import annotations

from typing import Annotated, Any

from typer import Option

PANEL = "Input, for weights that do not say it"
Size = Annotated[int | None, Option(help="Side of the input in pixels.", rich_help_panel=PANEL)]
Mean = Annotated[
    str | None,
    Option(help="Subtracted from values of 0 to 1: 0.485,0.456,0.406.", rich_help_panel=PANEL),
]
Std = Annotated[
    str | None, Option(help="Divides what is left: 0.229,0.224,0.225.", rich_help_panel=PANEL)
]
Interpolation = Annotated[str | None, Option(help="bilinear | bicubic", rich_help_panel=PANEL)]
Fit = Annotated[str | None, Option(help="crop | pad | stretch", rich_help_panel=PANEL)]
Crop = Annotated[
    float | None,
    Option(help="Part of the scaled image that is kept: 0.875.", rich_help_panel=PANEL),
]


def input_changes(model: str, **options: Any) -> dict[str, Any]:
    """Those options that were given.

    Raises:
        ValueError: The model is a NAME.onnx, which has its preprocessing inside.
    """
    given = {key: value for key, value in options.items() if value is not None}
    if given and model.endswith(".onnx"):
        raise ValueError(
            f"{model} has its preprocessing inside; leave out"
            f" {', '.join(f'--{key}' for key in given)}, or export it anew with them"
        )
    return given
