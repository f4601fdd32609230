"""What one request may cost, and how it is told that it asked for too much."""

from __future__ import annotations

from dataclasses import dataclass, field

MOST_IMAGES = 64  # of one request
LARGEST_BODY = 1000  # MB


@dataclass(frozen=True)
class Limits:
    """What one request may cost.

    Args:
        body_mb: Largest body, in megabytes of 1,000,000 bytes.
        megapixels: Largest image, in millions of pixels.
        body_seconds: Time for the head of a request to arrive, and for its body.
        seconds: Time for the predictions of a request, waiting included.
        queue: Requests that may wait while all workers are busy.
    """

    body_mb: float = 20.0
    megapixels: float = 50.0
    body_seconds: float = 10.0
    seconds: float = 30.0
    queue: int = 64

    def __post_init__(self) -> None:
        for name, most in (("body_mb", LARGEST_BODY), ("megapixels", 178.0)):
            self._check(name, most)
        for name in ("body_seconds", "seconds"):
            self._check(name, 3600)
        if not 0 <= self.queue <= 10_000:
            raise ValueError(f"queue is {self.queue!r}; allowed: 0 to 10000 requests")

    def _check(self, name: str, most: float) -> None:
        if not 0 < (value := getattr(self, name)) <= most:
            raise ValueError(f"{name} is {value!r}; allowed: above 0, up to {most:g}")

    @property
    def body_bytes(self) -> int:
        """Largest body in bytes."""
        return int(self.body_mb * 1e6)


@dataclass
class Refused(Exception):
    """A request that gets no predictions.

    Args:
        status: Of HTTP.
        code: For programs: `bad_image`, `busy`, ...
        message: For people: what was got, what is allowed, and the cure.
        headers: Of the response.
    """

    status: int
    code: str
    message: str
    headers: dict[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, dict[str, str]]:
        """As every error of the server is written."""
        return {"error": {"code": self.code, "message": self.message}}


def busy(message: str, code: str = "busy") -> Refused:
    """The server cannot do it now; later it can."""
    return Refused(503, code, message, {"Retry-After": "1"})
