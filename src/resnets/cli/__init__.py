"""The command line: one file a verb. What a verb needs is imported when it runs, so that `--help` answers at once."""

from __future__ import annotations

import sys
import time

STARTED = time.monotonic()


def main() -> None:
    """Runs `resnets`. Exit codes: 0 done, 1 a refusal (a proof that failed, a full disk), 2 a mistake of the user's."""
    from resnets.cli.app import app, complain

    try:
        app(standalone_mode=False)
    except SystemExit:
        raise
    except BaseException as error:  # noqa: BLE001 - the outermost place: what it does not know, it raises again
        sys.exit(complain(error))
