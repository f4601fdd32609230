"""Settings as frozen dataclasses: to and from text and YAML. An unknown key is an error that names
the nearest one."""

from __future__ import annotations

import dataclasses
import difflib
import reprlib
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path, PurePath
from typing import Any, TypeVar

T = TypeVar("T")
MOST = 40  # names in a hint
ENDLESS = 1e6  # a bound from here on only guards against nonsense, and is not told


@dataclass(frozen=True)
class About:
    """What one setting is. Help, flags, documents, completion and the check of values read it here.

    Args:
        help: A sentence.
        group: Where help lists it: Data, Network, Training or Output.
        unit: Of its number: pixels, minutes.
        between: The least and the most that is allowed.
        choices: The values that are allowed, where they are few.
        open: How the value is decided where the default is None.
        flags: On the command line, where more than `--name`.
    """

    help: str
    group: str
    unit: str = ""
    between: tuple[float, float] | None = None
    choices: tuple[Any, ...] = ()
    open: str = ""
    flags: tuple[str, ...] = ()

    def allowed(self) -> str:
        """The values that it may have: `8 to 4096 pixels`, `crop, pad, stretch`."""
        if self.between is None:
            return ", ".join(map(str, self.choices)) or self.unit
        low, high = (f"{bound:g}" for bound in self.between)
        span = f"{low} to {high}" if self.between[1] < ENDLESS else f"{low} or more"
        return f"{span} {self.unit}".strip()

    def refuses(self, value: Any) -> bool:
        """Whether a value is none of the choices, or out of range; NaN is."""
        if self.between is not None:
            is_number = isinstance(value, int | float)
            return not is_number or not self.between[0] <= value <= self.between[1]
        return bool(self.choices) and value not in self.choices


def setting(help: str, group: str, default: Any = dataclasses.MISSING, **more: Any) -> Any:
    """A field of a settings dataclass that says what it is; `more` as in `About`."""
    return field(default=default, metadata={"about": About(help, group, **more)})


def about(kind: Any) -> dict[str, About]:
    """What each field of a settings dataclass is, by name."""
    return {one.name: one.metadata["about"] for one in fields(kind)}


def default_of(kind: Any, name: str) -> str:
    """The default of a field as text: its value, or how it is decided where it is open."""
    one = next(one for one in fields(kind) if one.name == name)
    if one.default is dataclasses.MISSING:
        return "required"
    return one.metadata["about"].open or format_value(one.default)


def check_values(settings: Any) -> None:
    """Refuses values that are none of the choices, or out of range; None is a setting left open.

    Raises:
        ValueError: With what is allowed.
    """
    for name, one in about(settings).items():
        value = getattr(settings, name)
        if value is not None and one.refuses(value):
            raise ValueError(f"{name} is {value}; allowed: {one.allowed()}")


LONGEST = 80  # characters of a value in a message
# Of a YAML file: far beyond what settings need, and read in a second
MOST_BYTES, MOST_DEPTH, MOST_CHARACTERS = 4_000_000, 20, 20_000


def nearest(name: object, names: Iterable[str]) -> str:
    """A hint for an unknown name: "did you mean ...?", or what is allowed where nothing is near."""
    names = sorted(names)
    if close := difflib.get_close_matches(str(name), names, n=3, cutoff=0.6):
        return f"did you mean {' or '.join(close)}?"
    return f"allowed: {listed(names)}"


def listed(names: Sequence[str], most: int = MOST) -> str:
    """Names in one line, the first of them where they are many: `a, b, c and 10 more`."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def change(setting: T, changes: Mapping[str, Any]) -> T:
    """A copy of a settings dataclass with some fields changed; text is converted to each field's
    type.

    Raises:
        ValueError: A key that is no field, or a value that its field cannot take.
    """
    kinds = typing.get_type_hints(type(setting))
    for key in changes:
        if key not in kinds:
            raise ValueError(f"unknown setting {key!r}: {nearest(key, kinds)}")
    return dataclasses.replace(
        setting, **{key: convert(key, value, kinds[key]) for key, value in changes.items()}
    )  # type: ignore[type-var]


def convert(key: str, value: Any, kind: Any) -> Any:
    """One value to the type of its field: int, float, bool, str, tuples of them (as 3-4-6-3), or
    one of these or None."""
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        inner = [option for option in typing.get_args(kind) if option is not type(None)]
        return (
            None
            if value is None or (value == "none" and str not in inner)
            else convert(key, value, inner[0])
        )
    if typing.get_origin(kind) is tuple:
        items = (
            value.split("-")
            if isinstance(value, str)
            else value
            if isinstance(value, list | tuple)
            else [value]
        )
        return tuple(convert(key, item, typing.get_args(kind)[0]) for item in items)
    if kind is bool:
        names = {
            "true": True,
            "yes": True,
            "on": True,
            "1": True,
            "false": False,
            "no": False,
            "off": False,
            "0": False,
        }
        if str(value).lower() in names:
            return names[str(value).lower()]
    elif kind is str:
        if isinstance(value, str | PurePath):
            return str(value)
        raise ValueError(f"{key}={_short(value)}: text expected; in YAML, put it in quotes")
    elif not isinstance(value, bool):
        try:
            if kind is not int or float(value) == int(value):
                return kind(value)
        except (TypeError, ValueError, OverflowError):
            pass
    raise ValueError(f"{key}={_short(value)}: {kind.__name__} expected")


def _short(value: Any) -> str:
    text = reprlib.repr(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def format_changes(setting: Any, base: Any) -> str:
    """What differs from `base`, as `key=value key=value` in the order of the fields; `change` reads
    it back."""
    pairs = ((field.name, getattr(setting, field.name)) for field in dataclasses.fields(setting))
    return " ".join(
        f"{key}={format_value(value)}" for key, value in pairs if value != getattr(base, key)
    )


def format_value(value: Any) -> str:
    """One value as text: tuples with dashes, booleans as true and false, nothing as none."""
    if isinstance(value, tuple):
        return "-".join(map(str, value))
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def parse_changes(text: str) -> tuple[str, dict[str, str]]:
    """`"resnet50 shortcut=none"` to the name and the changes.

    Raises:
        ValueError: A part that is not key=value, or a key given twice.
    """
    name, *pairs = text.split() or [""]
    changes: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key or not value:
            raise ValueError(
                f"{pair!r} in {text!r}: a name is followed by changes of the form key=value"
            )
        if key in changes:
            raise ValueError(f"{key} is given twice in {text!r}")
        changes[key] = value
    return name, changes


def to_dict(setting: Any) -> dict[str, Any]:
    """The fields as plain values for JSON and YAML."""
    values = {field.name: getattr(setting, field.name) for field in dataclasses.fields(setting)}
    return {
        key: list(value) if isinstance(value, tuple) else value for key, value in values.items()
    }


def read_yaml(path: Path, as_text: bool = False) -> dict[str, Any]:
    """The keys and values of a settings file.

    Args:
        path: The file.
        as_text: Whether keys and values stay text as it stands there: a class may be called `no` or
            `1.0`.

    Raises:
        ValueError: Not YAML, not a mapping, or with what plain settings have no need of (aliases,
            tags, deep nesting) and which may take time or memory without end.
    """
    try:
        import yaml  # part of the training install only
    except ModuleNotFoundError:
        cure = "pip install 'resnets[train]'"
        raise ValueError(f"{path}: reading YAML needs PyYAML: {cure}") from None

    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise ValueError(f"more than {MOST_BYTES / 1e6:g} MB")
        text = content.decode("utf-8-sig")
        _refuse_strange_yaml(text)
        loader = yaml.BaseLoader if as_text else getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        values = yaml.load(text, loader)
    except OSError as error:
        raise ValueError(f"{path}: not readable ({error.strerror})") from None
    except (yaml.YAMLError, ValueError) as error:  # a ValueError: dates and numbers that are none
        raise ValueError(f"{path}: not readable as YAML ({' '.join(str(error).split())})") from None
    if not isinstance(values, dict):
        raise ValueError(f"{path}: a mapping of settings to values was expected")
    return values


def _refuse_strange_yaml(text: str) -> None:
    """Looks at the events of a YAML text before anything is made of them."""
    import yaml

    depth = 0
    event: Any
    for event in yaml.parse(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise ValueError(f"line {line}: anchors and aliases are not read; write the value out")
        if getattr(event, "tag", None):
            raise ValueError(f"line {line}: tags such as {event.tag} are not read")
        if isinstance(event, yaml.ScalarEvent) and len(event.value) > MOST_CHARACTERS:
            raise ValueError(f"line {line}: a value of more than {MOST_CHARACTERS:,} characters")
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > MOST_DEPTH:
            raise ValueError(f"line {line}: nested more than {MOST_DEPTH} deep")


def to_yaml(values: Mapping[str, Any]) -> str:
    """Plain values as YAML, in their order."""
    import yaml

    return yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True)
