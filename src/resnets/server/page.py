"""The page: one HTML file, whose own script and style are all that a browser may run."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

FILE = Path(__file__).with_name("page.html")


@dataclass(frozen=True)
class Page:
    """The page and the headers that go with it."""

    content: bytes
    headers: dict[str, str]

    @classmethod
    def read(cls) -> Page:
        """The page as it was installed."""
        text = FILE.read_text("utf-8")
        allowed = {tag: _digest(text, tag) for tag in ("script", "style")}
        policy = "; ".join(
            (
                "default-src 'none'",
                f"script-src '{allowed['script']}'",
                f"style-src '{allowed['style']}'",
                "img-src 'self' blob: data:",
                "connect-src 'self'",
                "form-action 'none'",
                "base-uri 'none'",
                "frame-ancestors 'none'",
            )
        )
        headers = {
            "Content-Security-Policy": policy,
            "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
            "Referrer-Policy": "no-referrer",
            "Cache-Control": "no-cache",
        }
        return cls(text.encode(), headers)


def _digest(text: str, tag: str) -> str:
    (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
