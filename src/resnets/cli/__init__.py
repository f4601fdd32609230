"""The command line: one file a verb. What a verb needs is imported when it runs, so that `--help`
is printed at once."""

from __future__ import annotations

import sys
import time

STARTED = time.monotonic()


def main() -> None:
    """Runs `resnets`. Exit codes: 0 done, 1 a refusal (a verification that failed, a full disk, a
    closed output), 2 a mistake of the user's."""
    from resnets.cli.app import app, complain
    from resnets.cli.output import flush_streams, open_streams

    open_streams()
    code: int | str | None = 0
    try:
        app()  # ends by SystemExit, also for wrong flags (2) and Ctrl-C (130)
    except SystemExit as end:
        code = end.code
    except BrokenPipeError:
        code = 1
    except Exception as error:  # noqa: BLE001 - the outermost place: what it does not know, it raises again
        code = complain(error)
    if not flush_streams():
        code = code or 1
    sys.exit(code)
