"""Options that several verbs share, and the flags of the settings of a run."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import Annotated, Any

from typer import Argument, Option

from resnets.cli.help import bracket
from resnets.settings import About, about, default_of

DATA, NETWORK, OUTPUT, MODEL = "Data", "Network", "Output", "Model"
METAVARS = {int: "INT", float: "FLOAT", str: "TEXT"}

Json = Annotated[
    bool, Option("--json", help="Print one JSON object on stdout.", rich_help_panel=OUTPUT)
]
Quiet = Annotated[
    bool, Option("--quiet", "-q", help="Print warnings only.", rich_help_panel=OUTPUT)
]
Format = Annotated[
    str | None,
    Option(
        metavar="table|box_table|voc|coco|yolo|masks|clips|folders",
        help="How the data are laid out, as for resnets train.",
        show_default="whichever fits",
        rich_help_panel=DATA,
    ),
]
Task = Annotated[
    str | None,
    Option(
        metavar="TASK",
        help="What is to be learnt of an image, as for resnets train.",
        show_default="what the data say",
        rich_help_panel=DATA,
    ),
]
Network = Annotated[
    str | None,
    Option(
        "--model",
        "-m",
        metavar="NETWORK",
        help="Network of a state dict or of weights that do not name it: resnet18, timm:NAME or"
        " FILE.py:FUNCTION.",
        show_default="the one that the file names",
        rich_help_panel=MODEL,
    ),
]
Classes = Annotated[
    str | None,
    Option(
        metavar="FILE",
        help="Class names of a state dict: a text file with one name per line, or imagenet.",
        show_default="those stored with the weights, else numbers",
        rich_help_panel=MODEL,
    ),
]
Engine = Annotated[
    str | None,
    Option(
        metavar="auto|onnxruntime|openvino",
        help="Engine that runs NAME.onnx. auto: onnxruntime, and for many images, or to serve,"
        " whichever turns out to be faster; of a file in bfloat16 openvino.",
        show_default="auto",
        rich_help_panel=MODEL,
    ),
]


def with_settings(kind: type, function: Callable[..., None]) -> Callable[..., None]:
    """Gives a verb, beside its own options, one for each field of a settings dataclass. An option
    that is not given is None, so that a settings file can decide."""
    own = inspect.signature(function, eval_str=True).parameters.values()
    parameters = [*_of_settings(kind), *(one for one in own if one.kind is not one.VAR_KEYWORD)]
    keyword = [one.replace(kind=one.KEYWORD_ONLY) for one in parameters]
    function.__signature__ = inspect.Signature(keyword)  # type: ignore[attr-defined]
    function.__annotations__ = {one.name: one.annotation for one in keyword}
    return function


def _of_settings(kind: type) -> Iterator[inspect.Parameter]:
    hints, descriptions = typing.get_type_hints(kind), about(kind)
    for one in fields(kind):
        inner = [hint for hint in typing.get_args(hints[one.name]) if hint is not type(None)]
        value = inner[0] if inner else hints[one.name]
        option = _option(one.name, value, descriptions[one.name], default_of(kind, one.name))
        yield inspect.Parameter(
            one.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[value | None, option],
        )


def _option(name: str, value: type, one: About, default: str) -> Any:
    if default == "required":
        return Argument(metavar=name.upper(), help=one.help, rich_help_panel=one.group)
    flag = f"--{name.replace('_', '-')}"
    if value is bool:
        return Option(
            f"{flag}/{flag.replace('--', '--no-')}", help=one.help, rich_help_panel=one.group
        )
    return Option(
        *(one.flags or (flag,)),
        metavar="|".join(map(str, one.choices)) or METAVARS[value],
        help=one.help + bracket("" if one.choices else one.allowed()),
        show_default=default,
        rich_help_panel=one.group,
    )
