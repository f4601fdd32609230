"""`resnets serve`."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from resnets.cli.options import MODEL, Engine, Quiet

SERVER = "Server"
EXAMPLES = """
resnets serve photos.onnx
resnets serve photos.onnx cells.onnx --port 8080
resnets serve photos.onnx --body-mb 5 --queue 16
"""


def serve(
    models: Annotated[
        list[Path],
        Argument(
            metavar="NAME.onnx...",
            help="Files of resnets export, each served under its name without .onnx. All are"
            " verified first.",
            rich_help_panel=MODEL,
        ),
    ],
    host: Annotated[
        str,
        Option(
            metavar="ADDRESS",
            help="Address to listen at; 0.0.0.0 for all of this machine.",
            rich_help_panel=SERVER,
        ),
    ] = "127.0.0.1",
    port: Annotated[
        int,
        Option(
            metavar="INT",
            min=0,
            max=65535,
            help="Port to listen at; 0 for any that is free.",
            rich_help_panel=SERVER,
        ),
    ] = 8000,
    engine: Engine = None,
    threads: Annotated[
        int,
        Option(
            metavar="INT",
            min=0,
            help="Threads of one prediction: with 1, as many predictions run at a time as there are"
            " cores; with 0, one that takes all of them.",
            rich_help_panel=MODEL,
        ),
    ] = 1,
    body_mb: Annotated[
        float,
        Option(metavar="FLOAT", help="Largest body of a request, in MB.", rich_help_panel=SERVER),
    ] = 20.0,
    megapixels: Annotated[
        float,
        Option(metavar="FLOAT", help="Largest image, in million pixels.", rich_help_panel=SERVER),
    ] = 50.0,
    body_seconds: Annotated[
        float,
        Option(
            metavar="FLOAT",
            help="Seconds for the head of a request to arrive, and again for its body.",
            rich_help_panel=SERVER,
        ),
    ] = 10.0,
    seconds: Annotated[
        float,
        Option(
            metavar="FLOAT",
            help="Seconds for the predictions of a request, waiting included.",
            rich_help_panel=SERVER,
        ),
    ] = 30.0,
    queue: Annotated[
        int,
        Option(
            metavar="INT",
            help="Requests that may wait while all cores are busy; more get 503 at once.",
            rich_help_panel=SERVER,
        ),
    ] = 64,
    quiet: Quiet = False,
) -> None:
    """Answer over HTTP what images show, and offer a page to try it."""
    from resnets.runtime.engines import AUTO
    from resnets.screen import Screen
    from resnets.server import need_packages

    need_packages()
    from resnets.server.app import make_app
    from resnets.server.limits import Limits
    from resnets.server.served import check_names, open_model
    from resnets.server.serving import listen, serve

    screen = Screen(quiet)
    limits = Limits(body_mb, megapixels, body_seconds, seconds, queue)
    check_names(models)
    served = [open_model(path, engine or AUTO, threads) for path in models]
    listening = listen(host, port)
    address, port = listening.getsockname()[:2]
    if not ipaddress.ip_address(address).is_loopback:
        screen.warn(
            f"listening at {address}: whoever reaches this machine can use it; there is no password"
            " and no encryption"
        )
    names = ", ".join(f"{one.name} in {one.predictor.engine.name}" for one in served)
    shown = f"[{address}]" if ":" in address else address
    screen.say(f"{names}: verified, at http://{shown}:{port}/ (Ctrl-C ends it)")
    serve(make_app(served, limits, threads), listening, limits, log=not quiet)
