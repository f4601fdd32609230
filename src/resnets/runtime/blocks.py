"""Images in blocks: which there are, told without holding their names, and what is in each."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from resnets.listing import Listing
from resnets.runtime.writers import parquet

SIZE = 512  # images of a block: a file of predictions, and what is done again after a crash


@dataclass(frozen=True)
class Block:
    """Some images, and where their names or contents lie.

    Args:
        number: Of the block, from 0 on.
        count: Of its images.
        files: Their names, of a folder or of images that were named.
        source: Else the list or the Parquet file that they are in.
        start: Where in it: the byte of a list, or the row group of a Parquet file.
    """

    number: int
    count: int
    files: tuple[str, ...] = ()
    source: str = ""
    start: int = 0

    @property
    def name(self) -> str:
        """Of the file with its predictions."""
        return f"part-{self.number:09}.parquet"

    def images(self) -> Iterator[tuple[str, str | bytes]]:
        """The name of each image, and its file or its content.

        Raises:
            ValueError: The source is gone or has changed.
        """
        if self.files:
            yield from ((file, file) for file in self.files)
        elif Path(self.source).suffix == ".parquet":
            yield from _rows_of(self.source, self.start)
        else:
            with open(self.source, encoding="utf-8", errors="surrogateescape") as lines:
                lines.seek(self.start)
                names = filter(None, (line.rstrip("\r\n") for line in lines))
                yield from ((name, name) for name in islice(names, self.count))


def split_images(inputs: Sequence[str], takes: str = "image") -> list[Block]:
    """Blocks of the images in some folders and files; in a list, `NAME.txt` with a name in each
    line; or in Parquet files with a column of images (bytes, or `bytes` and `path` of each).

    Raises:
        ValueError: There are none, or inputs of several kinds.
    """
    suffixes = {Path(name).suffix.lower() for name in inputs}
    if len(inputs) == 1 and suffixes == {".txt"}:
        return list(_of_list(inputs[0]))
    if suffixes == {".parquet"}:
        return list(_of_parquet(inputs))
    if suffixes & {".txt", ".parquet"}:
        raise ValueError(
            f"{', '.join(inputs)}: give either folders and images, or one list of names (NAME.txt),"
            " or Parquet files"
        )
    files = list(Listing(inputs, takes))
    parts = (files[start : start + SIZE] for start in range(0, len(files), SIZE))
    return [Block(number, len(part), tuple(part)) for number, part in enumerate(parts)]


def digest_of(blocks: Sequence[Block]) -> str:
    """What tells whether blocks are the same ones."""
    digest = hashlib.sha256()
    for block in blocks:
        digest.update(json.dumps(asdict(block)).encode())
    return digest.hexdigest()


def _of_list(file: str) -> Iterator[Block]:
    number = count = start = end = 0
    try:
        with open(file, "rb") as lines:
            for line in lines:
                end += len(line)
                count += bool(line.strip())
                if count == SIZE:
                    yield Block(number, count, (), file, start)
                    number, count, start = number + 1, 0, end
    except OSError as error:
        raise ValueError(f"{file}: cannot be read ({error.strerror})") from None
    if count:
        yield Block(number, count, (), file, start)
    elif not number:
        raise ValueError(f"{file}: no name of an image in it; write one in each line")


def _of_parquet(files: Sequence[str]) -> Iterator[Block]:
    number = 0
    for file in files:
        metadata = _open(file).metadata
        for group in range(metadata.num_row_groups):
            yield Block(number, metadata.row_group(group).num_rows, (), file, group)
            number += 1
    if not number:
        raise ValueError(f"{', '.join(files)}: no rows in it")


def _rows_of(file: str, group: int) -> Iterator[tuple[str, bytes]]:
    opened = _open(file)
    image, name = _columns(file, opened.schema_arrow)
    columns = [image] if name is None else [image, name]
    place = sum(opened.metadata.row_group(k).num_rows for k in range(group))
    for row in opened.read_row_group(group, columns=columns).to_pylist():
        held = row[image] if isinstance(row[image], dict) else {"bytes": row[image]}
        named = row[name] if name is not None else held.get("path")
        yield str(named or f"{file}:{place}"), held["bytes"] or b""
        place += 1


def _columns(file: str, schema: Any) -> tuple[str, str | None]:
    """Names of the column of images, and of that of their names, where there is one."""
    import pyarrow.types as types

    def holds_bytes(kind: Any) -> bool:
        inner = types.is_struct(kind) and kind.get_field_index("bytes") >= 0
        return types.is_binary(kind) or types.is_large_binary(kind) or inner

    images = [field.name for field in schema if holds_bytes(field.type)]
    texts = [
        field.name
        for field in schema
        if types.is_string(field.type) or types.is_large_string(field.type)
    ]
    if len(images) != 1:
        found = ", ".join(f"{field.name} ({field.type})" for field in schema)
        raise ValueError(
            f"{file}: {len(images)} columns of bytes; wanted: one, with the content of an image"
            f" file in each row; its columns are {found}"
        )
    named = [name for name in ("file", "path", "name", "id", "key") if name in texts]
    return images[0], (named or texts[:1] or [None])[0]


def _open(file: str) -> Any:
    import pyarrow

    try:
        return parquet().ParquetFile(file)
    except (pyarrow.ArrowException, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"{file}: cannot be read as Parquet ({reason})") from None
