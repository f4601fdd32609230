"""Which class a value in a mask is: by a file of names, or by the values themselves."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from resnets.data.readers.lookup import read_text
from resnets.data.readers.mask_values import GREY, Content, packed
from resnets.data.readers.naming import NAMED
from resnets.data.readers.reader import Source
from resnets.kinds.view import NOT_JUDGED
from resnets.listing import counted
from resnets.settings import listed

CLASS_FILES = (
    *("classes.txt", "class_names.txt", "class_dict.csv", "classes.csv", "_classes.csv"),
    *("label_colors.txt", "labelmap.txt"),
)
MANY = 60  # values without names: more come from soft edges or compression, not from classes
BACKGROUND, FOREGROUND = "background", "foreground"
# Names that mean: neither right nor wrong, whatever is predicted
VOID = frozenset(("void", "ignore", "__ignore__", "unlabeled", "unlabelled", "don't care"))
# The published set has no file of names; its images are called 2007_000032
VOC_IMAGE = re.compile(r"20\d\d_\d{6}")
VOC = (
    *(BACKGROUND, "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair"),
    *("cow", "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa"),
    *("train", "tvmonitor"),
)
# A line of a file of names: `car,64,0,128` or `car:64,0,128::`, or `64 0 128 car`, or `car`
NAME_FIRST = re.compile(r"(.+?)\s*[:,;\s]\s*(\d+)[\s,]+(\d+)[\s,]+(\d+)[\s:,;]*")
COLOUR_FIRST = re.compile(r"(\d+)[\s,]+(\d+)[\s,]+(\d+)[\s,]+(.+)")
VALUE_FIRST = re.compile(r"(\d+)\s*[,;:\s]\s*(.+)")


@dataclass(frozen=True)
class ClassFile:
    """A file of names: what each value is, and each colour where it says so."""

    name: str
    values: dict[int, str]
    colours: dict[int, str]


@dataclass(frozen=True)
class Names:
    """The class of each value.

    Args:
        values: Of indices and levels.
        colours: Of colours.
        by_palette: Whether the colours of a palette tell the classes, not its indices.
        by_level: Whether colours are all grey, and their level is an index.
        files: That names were read from.
        notes: What is to be said.
    """

    values: Mapping[int, str]
    colours: Mapping[int, str] = field(default_factory=dict)
    by_palette: bool = False
    by_level: bool = False
    files: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def label(self, content: Content, value: int) -> str | None:
        """The class that a value of a mask is of; None where its pixels are not judged."""
        name = self._name(content, value)
        return None if name is None or name.lower() in VOID else name

    def is_unknown(self, content: Content, value: int) -> bool:
        """Whether nothing at all is said of a value."""
        level = value % 256 if content.is_colour and self.by_level else value
        usual = level == NOT_JUDGED and (self.by_level or not content.is_colour)
        return not usual and self._name(content, value) is None

    def _name(self, content: Content, value: int) -> str | None:
        if content.is_colour:
            return self.values.get(value % 256) if self.by_level else self.colours.get(value)
        if self.by_palette and value < len(content.palette):
            return self.colours.get(content.palette[value])
        return self.values.get(value)


def read_classes(source: Source, images: Sequence[str], contents: Sequence[Content]) -> Names:
    """The class of each value in some masks.

    Args:
        source: Where a file of names may lie.
        images: Names of the images.
        contents: Of their masks.

    Raises:
        ValueError: A file of names cannot be read, contradicts another, or does not fit the masks;
            or there is none, and values are too many for classes.
    """
    colours = {value for one in contents if one.is_colour for value in one.values}
    by_level = all(value == value % 256 * GREY for value in colours)
    levels = {value for one in contents if not one.is_colour for value in one.values}
    levels |= {value % 256 for value in colours} if by_level else set()
    file, files = _class_file(source)
    if file is not None:
        return _with_file(file, files, contents, levels, by_level)
    if colours and not by_level:
        _refuse_many(source, colours, "colours")
        named = {value: f"#{value:06x}" for value in colours}
        note = "classes are called by their colours; for names: class_dict.csv with name,r,g,b"
        return Names(_numbered(levels), named, notes=(note,))
    if binary := _binary(levels, (BACKGROUND, FOREGROUND)):
        note = f"masks of two values: {_described(binary)}"
        return Names(binary, by_level=by_level, notes=(note,))
    stems = [PurePosixPath(image).stem for image in images]
    if levels - {NOT_JUDGED} <= set(range(len(VOC))) and all(map(VOC_IMAGE.fullmatch, stems)):
        note = "images are called as those of Pascal VOC, so classes have its names"
        return Names(dict(enumerate(VOC)), by_level=by_level, notes=(note,))
    _refuse_many(source, levels, "values")
    note = "classes are called by their values; for names: classes.txt, a line for each from 0 on"
    return Names(_numbered(levels), by_level=by_level, notes=(note,))


def _with_file(
    file: ClassFile,
    files: tuple[str, ...],
    contents: Sequence[Content],
    levels: set[int],
    by_level: bool,
) -> Names:
    """The classes by a file of names."""
    shown = {
        one.palette[value]
        for one in contents
        for value in one.values
        if not one.is_colour and value < len(one.palette)
    }
    void = sorted(name for name in file.values.values() if name.lower() in VOID)
    notes: tuple[str, ...] = ()
    if void:
        notes = (f"not judged, as its name says: {listed(void)}",)
    if file.colours:
        grey = all(value == value % 256 * GREY for value in file.colours)
        values = (
            {value % 256: name for value, name in file.colours.items()} if grey else file.values
        )
        # of a palette that is no more than grey levels, the index is meant
        by_palette = bool((shown & set(file.colours)) - {0}) and not grey
        return Names(values, file.colours, by_palette, grey and by_level, files, notes)
    if not by_level:
        raise ValueError(
            f"{file.name} names classes without colours, and masks are in colour; write the colours"
            " into class_dict.csv (name,r,g,b), or save masks as indices"
        )
    names = tuple(file.values.values())
    both = (BACKGROUND, *names) if len(names) == 1 else names
    if len(both) == 2 and (binary := _binary(levels, both)):
        if binary != file.values:
            notes += (f"masks of two values: {_described(binary)}",)
        return Names(binary, by_level=by_level, files=files, notes=notes)
    if len(names) in levels and 0 in levels and list(file.values) == list(range(len(names))):
        raise ValueError(
            f"{file.name}: {counted(len(names), 'name')} for the values 0 to {len(names) - 1}, and"
            f" masks have {len(names)} as well: if 0 is what none of the names is, write its own"
            f" name ({BACKGROUND}, or void: not judged) into the first line"
        )
    return Names(file.values, by_level=by_level, files=files, notes=notes)


def _binary(levels: set[int], names: Sequence[str]) -> dict[int, str]:
    """The classes of masks that hold 0 and 255 alone, or 0 and 1; else nothing."""
    one = max(levels, default=0)
    return {0: names[0], one: names[1]} if levels <= {0, one} and one in (1, 255) else {}


def _described(classes: Mapping[int, str]) -> str:
    return ", ".join(f"{value} is {name}" for value, name in classes.items())


def _numbered(levels: set[int]) -> dict[int, str]:
    return {value: str(value) for value in levels - {NOT_JUDGED}}


def _refuse_many(source: Source, values: set[int], what: str) -> None:
    if len(values) > MANY:
        raise ValueError(
            f"{source.path}: masks have {len(values):,} different {what} and no file of names. If"
            " edges are soft, save masks without smoothing; else name the classes in classes.txt (a"
            " line for each value from 0 on) or class_dict.csv (name,r,g,b)"
        )


def _class_file(source: Source) -> tuple[ClassFile | None, tuple[str, ...]]:
    """The file of names, one with colours before others; and all that say the same."""
    names = [one for one in source.contents.others if PurePosixPath(one).name in CLASS_FILES]
    found = [_read(source.path / name, name) for name in names]
    if len({tuple(file.values.values()) for file in found}) > 1:
        raise ValueError(
            f"{source.path}: {listed(names, NAMED)} name different classes; leave one of them"
        )
    best = max(found, key=lambda file: bool(file.colours), default=None)
    return best, tuple(names)


def _read(path: Path, name: str) -> ClassFile:
    """A file of names in any of the usual forms; `#` begins a remark."""
    lines = [line.strip() for line in read_text(path).splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    has_header = path.suffix == ".csv" and lines and not NAME_FIRST.fullmatch(lines[0])
    header = lines.pop(0).lower() if has_header else ""
    if lines and lines[0] == "__ignore__":  # as labelme writes it: of no value of its own
        lines.pop(0)
    values, colours = dict[int, str](), dict[int, str]()
    for number, line in enumerate(lines):
        try:
            label, value, colour = _parsed(line, number, header)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
        if label in values.values() and label.lower() not in VOID:
            raise ValueError(f"{path}: {label} is there twice; each class needs its own name")
        values[value] = label
        if colour is not None:
            colours[colour] = label
    if not values:
        raise ValueError(f"{path}: names no classes; write a line for each, from value 0 on")
    if colours and len(colours) < len(values):
        raise ValueError(f"{path}: a colour is missing, or there twice; each class needs its own")
    return ClassFile(name, values, colours)


def _parsed(line: str, number: int, header: str) -> tuple[str, int, int | None]:
    """The label, the value and the colour in a line."""
    if "value" in header and (match := VALUE_FIRST.fullmatch(line)):
        return match[2].strip(), int(match[1]), None
    if match := NAME_FIRST.fullmatch(line):
        label, *levels = match.groups()
    elif match := COLOUR_FIRST.fullmatch(line):
        *levels, label = match.groups()
    else:
        return line.strip(" ,"), number, None
    red, green, blue = map(int, levels)
    if max(red, green, blue) > 255:
        raise ValueError(f"{label} has the colour {red}, {green}, {blue}; 0 to 255 are allowed")
    return label.strip(), number, packed(red, green, blue)
