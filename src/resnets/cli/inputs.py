"""The options that say how images are prepared, for weights that do not say it; `export`, `predict`
and `val` share them."""

from __future__ import annotations

from typing import Annotated, Any

from typer import Option

PANEL = "Input"  # for weights that do not say how images are prepared


def _option(metavar: str, help: str) -> Any:
    return Option(
        metavar=metavar,
        help=help,
        show_default="what the network was published with",
        rich_help_panel=PANEL,
    )


Size = Annotated[int | None, _option("INT", "Side of the square input. [pixels]")]
Mean = Annotated[
    str | None, _option("NUMBERS", "Mean of each channel, for values of 0 to 1: 0.485,0.456,0.406.")
]
Std = Annotated[
    str | None, _option("NUMBERS", "Standard deviation of each channel: 0.229,0.224,0.225.")
]
Interpolation = Annotated[
    str | None, _option("bilinear|bicubic", "Interpolation when images are resized.")
]
Fit = Annotated[
    str | None,
    _option("crop|pad|stretch", "How an image is made square: crop its centre, pad or stretch it."),
]
Crop = Annotated[
    float | None,
    _option("FLOAT", "Fraction of the resized image that the centre crop keeps: 0.875."),
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
