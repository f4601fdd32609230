"""Bodies as they arrive, within their limits, and the images in them. Nothing is decoded here, and
nothing is written to the disk."""

from __future__ import annotations

import asyncio
import contextlib
from email.message import Message

from starlette.requests import ClientDisconnect, Request

from resnets.server.limits import MOST_IMAGES, Limits, Refused

LINGER = 1.0  # seconds in which a body that is refused is still received: who sends it then listens
RAW = ("", "application/octet-stream", "application/x-www-form-urlencoded")  # the last: curl's


async def read_body(request: Request, limits: Limits) -> bytes:
    """The body of a request.

    Raises:
        Refused: It is too large, which is seen before all of it has arrived; or too slow.
    """
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > limits.body_bytes:
        raise _too_large(limits)
    body = bytearray()
    try:
        async with asyncio.timeout(limits.body_seconds):
            async for chunk in request.stream():
                body += chunk
                if len(body) > limits.body_bytes:
                    break
    except TimeoutError:
        raise Refused(
            408,
            "slow_body",
            f"{len(body):,} bytes arrived in {limits.body_seconds:g} s and the rest did not; send"
            " a smaller image, or allow more: --body-seconds",
            {"Connection": "close"},
        ) from None
    except ClientDisconnect:
        raise Refused(400, "disconnected", "the body ended before its end") from None
    if len(body) > limits.body_bytes:
        raise _too_large(limits)
    return bytes(body)


def _too_large(limits: Limits) -> Refused:
    return Refused(
        413,
        "body_too_large",
        f"the body is larger than {limits.body_mb:g} MB; send fewer or smaller images, or allow"
        " more: --body-mb",
        {"Connection": "close"},
    )


async def discard_body(request: Request) -> None:
    """Receives a body without keeping it, for a moment."""
    # RuntimeError: all of it was received before
    with contextlib.suppress(TimeoutError, ClientDisconnect, RuntimeError):
        async with asyncio.timeout(LINGER):
            async for _ in request.stream():
                pass


def images_of(body: bytes, content_type: str) -> list[bytes]:
    """The images in a body: itself, or the files of a form.

    Args:
        body: As it arrived.
        content_type: The header of that name; empty where there is none.

    Raises:
        Refused: It holds none, or too many, or is of another type.
    """
    message = Message()
    message["content-type"] = content_type or "application/octet-stream"
    kind = message.get_content_type()
    if kind == "multipart/form-data":
        images = _files(body, _boundary(message))
    elif kind in RAW or kind.startswith(("image/", "video/")):
        images = [body] if body else []
    else:
        raise Refused(
            415,
            "content_type",
            f"a body of type {kind[:80]}; allowed: image/*, video/*, application/octet-stream, or"
            " multipart/form-data with one or several files",
        )
    if not images:
        raise Refused(
            400,
            "no_image",
            "the body holds no image; send its bytes: curl --data-binary @photo.jpg, or files of a"
            " form: curl -F image=@photo.jpg",
        )
    if len(images) > MOST_IMAGES:
        raise Refused(
            413, "too_many_images", f"{len(images)} images; allowed: {MOST_IMAGES} in one request"
        )
    return images


def _boundary(message: Message) -> bytes:
    """What lies between the fields of a form.

    Raises:
        Refused: There is none, or it is in a charset that cannot be read (RFC 2231 allows any).
    """
    try:
        found = message.get_boundary()
        if found:
            return found.encode("utf-8", "surrogateescape")
    except ValueError:  # UnicodeError among them
        pass
    raise Refused(
        400, "form", "multipart/form-data without a readable boundary in its Content-Type"
    )


def _files(body: bytes, boundary: bytes) -> list[bytes]:
    """The files of a form (RFC 7578); its other fields are left alone."""
    mark = b"\r\n--" + boundary
    parts = (b"\r\n" + body).split(mark, MOST_IMAGES + 100)
    if len(parts) < 2 or not parts[-1].startswith(b"--"):
        raise Refused(400, "form", "the form does not end as its Content-Type says; send it again")
    files = []
    for part in parts[1:-1]:
        head, _, content = part.partition(b"\r\n\r\n")
        if b"filename" in head.lower() and content:
            files.append(content)
    return files
