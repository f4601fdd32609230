"""What has to be known of an ONNX file before anything runs, read by hand from its protobuf bytes:
its metadata properties, and whether all of its tensors lie in it. That needs no library and does
not depend on the engine.
"""

from __future__ import annotations

from collections.abc import Iterator

METADATA_PROPS = 14  # ModelProto.metadata_props
# Every way from a ModelProto to a TensorProto: a field's number in onnx.proto and what it holds.
# Subgraphs lie in attributes (g, graphs), constants too (t, tensors, sparse_tensor(s)).
MESSAGES: dict[str, dict[int, str]] = {
    "ModelProto": {7: "GraphProto", 20: "TrainingInfoProto", 25: "FunctionProto"},
    "TrainingInfoProto": {1: "GraphProto", 2: "GraphProto"},
    "FunctionProto": {7: "NodeProto", 11: "AttributeProto"},
    "GraphProto": {1: "NodeProto", 5: "TensorProto", 15: "SparseTensorProto"},
    "NodeProto": {5: "AttributeProto"},
    "AttributeProto": {
        5: "TensorProto",
        6: "GraphProto",
        10: "TensorProto",
        11: "GraphProto",
        22: "SparseTensorProto",
        23: "SparseTensorProto",
    },
    "SparseTensorProto": {1: "TensorProto", 2: "TensorProto"},
    "TensorProto": {},
}
EXTERNAL_DATA, DATA_LOCATION = 13, 14  # TensorProto; a location other than 0 is another file
# The largest network of the family has about 100,000. Numbers that are not packed into one field
# each would keep the reader busy for minutes.
MOST_FIELDS = 2_000_000


def properties(model: memoryview) -> dict[str, str]:
    """The metadata properties of a serialized ModelProto.

    Raises:
        ValueError: These bytes are not one.
    """
    found = {}
    for number, content in fields(model):
        if number == METADATA_PROPS and isinstance(content, memoryview):
            entry = {
                key: bytes(text).decode()
                for key, text in fields(content)
                if isinstance(text, memoryview)
            }
            found[entry.get(1, "")] = entry.get(2, "")
    return found


def has_external_data(model: memoryview) -> bool:
    """Whether any tensor of a serialized ModelProto has its values in another file: an initializer,
    dense or sparse, or a constant, at any depth of subgraphs and in local functions.

    Raises:
        ValueError: These bytes are not a ModelProto, or of far more fields than any network has.
    """
    waiting, seen = [("ModelProto", model)], 0
    while waiting:
        message, content = waiting.pop()
        inner = MESSAGES[message]
        for number, value in fields(content):
            seen += 1
            if isinstance(value, memoryview):
                if number in inner:
                    waiting.append((inner[number], value))
                elif message == "TensorProto" and number == EXTERNAL_DATA:
                    return True
            elif message == "TensorProto" and number == DATA_LOCATION and value:
                return True
            if seen > MOST_FIELDS:
                raise ValueError(f"not an ONNX model of ours: more than {MOST_FIELDS:,} fields")
    return False


def fields(message: memoryview) -> Iterator[tuple[int, memoryview | int]]:
    """(number, value) of the top-level fields of a protobuf message: bytes, or a whole number;
    those of a fixed width are passed over.

    Raises:
        ValueError: A length or a type points outside the message.
    """
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        kind = tag & 7
        if kind == 0:
            value, at = _varint(message, at)
            yield tag >> 3, value
            continue
        if kind == 2:
            length, at = _varint(message, at)
        else:  # 64 and 32 bits; other types are not in use
            length = {1: 8, 5: 4}.get(kind, len(message) + 1)
        if length > len(message) - at:
            raise ValueError("not an ONNX model")
        if kind == 2:
            yield tag >> 3, message[at : at + length]
        at += length


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """A number in groups of 7 bits, lowest first, and the place after it."""
    value = 0
    for shift, byte in zip(range(0, 64, 7), message[at : at + 10], strict=False):
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
    raise ValueError("not an ONNX model")
