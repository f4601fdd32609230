"""uvicorn around the application: the socket, patience with slow clients, one line for each
request, and a graceful end."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import time
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from resnets.server.limits import Limits, Refused

BACKLOG = 128
KEEP_ALIVE = 15  # seconds in which a connection may wait for its next request
NOSNIFF = (b"x-content-type-options", b"nosniff")


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        ValueError: The address is not one of this machine, or in use.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        # with its protocol: without it asyncio leaves Nagle's delay on, 40 ms for each response
        found = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ValueError(f"--host {host}: {error.strerror or error}; try 127.0.0.1") from None
    try:
        if sys.platform != "win32":  # where it would let two servers share a port
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
        found.listen(BACKLOG)
    except OSError as error:
        found.close()
        raise ValueError(
            f"cannot listen at {host} port {port}: {error.strerror}; take another, or 0 for any"
            " that is free: --port 0"
        ) from None
    return found


def serve(app: Any, listening: socket.socket, limits: Limits, log: bool = True) -> None:
    """Answers until SIGINT or SIGTERM; requests that run may end, within their time.

    Args:
        app: Of `make_app`.
        listening: Of `listen`.
        limits: Of each request.
        log: Whether each request is told of in a line on stderr.
    """
    make_server(app, limits, log).run(sockets=[listening])


def make_server(app: Any, limits: Limits, log: bool = True) -> uvicorn.Server:
    """The server, not started."""
    config = uvicorn.Config(
        _Told(app, log),
        http=_patient(limits.body_seconds),
        ws="none",
        log_config=None,
        log_level="critical",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=int(limits.seconds) + 1,
    )
    return uvicorn.Server(config)


class _Told:
    """An application whose requests are told of: method, route, status and time, and nothing that
    a client wrote. Every response says that browsers are not to guess its type."""

    def __init__(self, app: Any, log: bool) -> None:
        self.app, self.log = app, log

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begin, status = time.perf_counter(), 0

        async def told(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message.get("headers", ()), NOSNIFF]}
            await send(message)

        try:
            await self.app(scope, receive, told)
        finally:
            if self.log:
                route = getattr(scope.get("route"), "path", "(no such address)")
                method = (
                    scope["method"] if scope["method"] in ("GET", "POST", "HEAD") else "(other)"
                )
                taken = 1000 * (time.perf_counter() - begin)
                sys.stderr.write(f"{method} {route} {status} {taken:.0f} ms\n")


def _patient(seconds: float) -> type[H11Protocol]:
    """The protocol of a connection that is closed when the head of a request does not arrive."""

    class Patient(H11Protocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._look_again()

        def _look_again(self) -> None:
            self.loop.call_later(seconds, self._look, self.cycle)

        def _look(self, before: Any) -> None:
            if self.transport.is_closing():
                return
            waiting = self.conn.our_state is h11.IDLE and self.cycle is before
            if waiting and self.timeout_keep_alive_task is None:
                self._end(408, "slow_request", f"no request arrived within {seconds:g} s")
            else:
                self._look_again()

        def send_400_response(self, msg: str) -> None:
            if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
                self._end(400, "http", msg)
            else:
                self.transport.close()

        def _end(self, status: int, code: str, message: str) -> None:
            body = json.dumps(Refused(status, code, message).to_dict()).encode()
            self.transport.write(
                b"HTTP/1.1 %d \r\nContent-Type: application/json\r\nContent-Length: %d\r\n"
                b"X-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n"
                % (status, len(body))
                + body
            )
            self.transport.close()

    return Patient
