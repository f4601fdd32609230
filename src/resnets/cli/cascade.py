"""The options of `resnets predict` for two networks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Option

from resnets.cli.options import MODEL

if TYPE_CHECKING:
    from resnets.runtime import Cascade, Predictor
    from resnets.screen import Screen

AGREEMENT = 99.0
Second = Annotated[
    Path | None,
    Option(
        "--cascade",
        metavar="FILE",
        help="A slower and better NAME.onnx of the same classes, for the images of which MODEL is"
        " not sure; needs --sure or --calibrate.",
        show_default="none",
        rich_help_panel=MODEL,
    ),
]
Sure = Annotated[
    float | None,
    Option(
        metavar="FLOAT",
        min=0,
        max=1,
        help="Probability from which MODEL is believed, with --cascade. [0 to 1]",
        show_default="what --calibrate finds",
        rich_help_panel=MODEL,
    ),
]
Calibrate = Annotated[
    Path | None,
    Option(
        metavar="FOLDER",
        help="Images, labelled or not, on which --cascade finds out from where on MODEL is to be"
        " believed.",
        show_default="none",
        rich_help_panel=MODEL,
    ),
]
Agreement = Annotated[
    float | None,
    Option(
        metavar="FLOAT",
        min=0,
        max=100,
        help="Images in % that shall get the class of the second network, with --calibrate."
        " [0 to 100]",
        show_default=f"{AGREEMENT:g}",
        rich_help_panel=MODEL,
    ),
]


def check_cascade(
    second: Path | None, sure: float | None, calibrate: Path | None, agreement: float | None
) -> None:
    """Refuses options that do not go together.

    Raises:
        ValueError: With the cure.
    """
    given = {"--sure": sure, "--calibrate": calibrate, "--agreement": agreement}
    if second is None:
        for name, value in given.items():
            if value is not None:
                raise ValueError(f"{name} is for two networks: add --cascade FILE.onnx")
        return
    if (sure is None) == (calibrate is None):
        raise ValueError(
            "--cascade needs to know from where on the first network is believed: give either"
            " --sure P, or --calibrate FOLDER to find it out"
        )
    if agreement is not None and calibrate is None:
        raise ValueError("--agreement is for --calibrate FOLDER; with --sure leave it out")


def open_cascade(
    first: Predictor,
    second: Predictor,
    sure: float | None,
    calibrate: Path | None,
    agreement: float | None,
    screen: Screen,
) -> Cascade:
    """Both networks together; says how sure the first one has to be, and how that was found."""
    from resnets.runtime import Cascade

    if sure is None:
        from resnets.measuring import find_sureness

        target = (AGREEMENT if agreement is None else agreement) / 100
        found = find_sureness(first, second, str(calibrate), target, screen)
        sure = found.threshold
        screen.say(
            f"{first.name} is believed from {sure:.4f} on, for {found.share:.0%} of the images in"
            f" {calibrate}; same class as {second.name}: {found.agreement} (to use it again:"
            f" --sure {sure:.6g})"
        )
    return Cascade(first, second, sure)
