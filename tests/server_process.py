"""A server for tests, on a free loopback port, and a client that knows nothing of it."""

import http.client
import json
import threading
from contextlib import contextmanager

from resnets.server.app import make_app
from resnets.server.serving import listen, make_server


@contextmanager
def running(models, limits, threads=1):
    """A server in a thread of this process: its address."""
    listening = listen("127.0.0.1", 0)
    server = make_server(make_app(models, limits, threads), limits, log=False)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        yield listening.getsockname()[:2]
    finally:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()


def ask(address, method, path, body=None, headers=None):
    """Status, headers and content of a response, JSON parsed."""
    connection = http.client.HTTPConnection(*address, timeout=30)
    try:
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        content = response.read()
    finally:
        connection.close()
    if response.getheader("content-type", "").startswith("application/json"):
        content = json.loads(content)
    return response.status, dict(response.getheaders()), content
