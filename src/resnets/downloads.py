"""Files from the network: said, checked, resumed, and put in place in one piece."""

from __future__ import annotations

import contextlib
import hashlib
import http
import http.client
import re
import urllib.request
from pathlib import Path


class Offline(Exception):
    """Something could not be downloaded, or is not what was announced."""


def sha256(path: Path) -> str:
    """Digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def download(url: str, target: Path, timeout: float = 15.0) -> str:
    """Fetches a file, checks the digest that its name carries (NAME-f37072fd.pth), and puts it in
    place in one piece. What came before an interruption stays beside it, and the next call goes on
    from there.

    Returns:
        Its sha256.

    Raises:
        Offline: Nothing answers, or what came is not the file; the message says which file to bring
            and where to.
    """
    by_hand = f"bring {url} to {target} by hand"
    partial = target.with_name(f"{target.name}.partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        have = partial.stat().st_size if partial.is_file() else 0
        request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
        with urllib.request.urlopen(request, timeout=timeout) as response:
            have = have if response.status == http.HTTPStatus.PARTIAL_CONTENT else 0
            expected = response.headers.get("Content-Length")
            with partial.open("ab" if have else "wb") as file:
                while block := response.read(1 << 20):
                    file.write(block)
                size = file.tell()
        if expected is not None and size != have + int(expected):
            raise Offline(
                f"the download broke off at {size:,} of {have + int(expected):,} bytes; try again"
                f" to go on, or {by_hand}"
            )
        digest = sha256(partial)
        named = re.search(r"-([0-9a-f]{8,})\.", target.name)
        if named and not digest.startswith(named[1]):
            partial.unlink()
            raise Offline(f"sha256 of what came is {digest}, {named[1]}... was expected; {by_hand}")
        partial.replace(target)
    except (
        OSError,
        http.client.HTTPException,
    ) as error:  # URLError and time-outs are kinds of OSError
        if getattr(error, "code", None) == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            with contextlib.suppress(OSError):
                partial.unlink()
        raise Offline(f"{getattr(error, 'reason', error)}; {by_hand}") from None
    return digest
