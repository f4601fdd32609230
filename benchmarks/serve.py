"""Requests a second of `resnets serve` on loopback, against the runtime without HTTP and the same file
behind LitServe, in one run:

python benchmarks/serve.py resnet18.onnx PHOTOS/ --seconds 60 --litserve lit/bin/python

For each number of clients the three take turns. A client sends the bytes of one image, waits for the
prediction and sends the next; all clients are one asyncio process, which parses nothing. `--memory N`
sends N more requests and tells the resident memory of the server before and after. LitServe needs an
environment of its own with litserve and the base install of this package.
"""

import argparse
import asyncio
import base64
import itertools
import json
import multiprocessing
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from resnets.listing import Listing
from resnets.runtime import load
from resnets.runtime.cores import usable_cores

WARM = 5.0  # seconds before each measurement
LITSERVE = """
import base64, sys
import litserve
from resnets.runtime import load

class Api(litserve.LitAPI):
    def setup(self, device):
        self.predictor = load(sys.argv[1], sys.argv[4], threads=1)

    def decode_request(self, request):
        return base64.b64decode(request["image"])

    def predict(self, image):
        return self.predictor.predict_image(image)

    def encode_response(self, found):
        return {"row": found.rows()[0]}

if __name__ == "__main__":
    server = litserve.LitServer(Api(), accelerator="cpu", workers_per_device=int(sys.argv[3]))
    server.run(host="127.0.0.1", port=int(sys.argv[2]), generate_client_file=False, log_level="error")
"""


def read_images(folder, most=64):
    """The bytes of the first images of a folder."""
    return [Path(file).read_bytes() for file in itertools.islice(Listing([folder], "image"), most)]


def http_request(path, body, kind):
    """A request as it goes over the wire."""
    head = f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def _client(port, requests, until, times):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for request in requests:
        begin = time.perf_counter()
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
        await reader.readexactly(length)
        times.append((begin, time.perf_counter(), int(head.split(b" ", 2)[1])))
        if until():
            break
    writer.close()


def load_http(port, requests, clients, seconds, results):
    """In a process of its own: what a number of clients got, as (begin, end, status)."""

    async def all_of_them():
        times, end = [], time.perf_counter() + WARM + seconds
        waiting = [
            _client(
                port,
                itertools.islice(itertools.cycle(requests), number, None),
                lambda: time.perf_counter() > end,
                times,
            )
            for number in range(clients)
        ]
        begin = time.perf_counter() + WARM
        await asyncio.gather(*waiting)
        results.put([one for one in times if begin <= one[1] <= end])

    asyncio.run(all_of_them())


def measure_http(port, requests, clients, seconds):
    """What clients in another process got: (begin, end, status) of each request."""
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    process = context.Process(target=load_http, args=(port, requests, clients, seconds, results))
    process.start()
    found = results.get(timeout=seconds + 120)
    process.join()
    return found


def measure_runtime(path, engine, images, clients, seconds):
    """As many threads as the server has workers, or clients where these are fewer."""
    predictor, times = load(path, engine, threads=1), []
    workers = min(clients, usable_cores())
    end = time.perf_counter() + WARM + seconds

    def work(number):
        for image in itertools.islice(itertools.cycle(images), number, None):
            begin = time.perf_counter()
            predictor.predict_image(image)
            times.append((begin, time.perf_counter(), 200))
            if time.perf_counter() > end:
                return

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(work, range(workers)))
    return [one for one in times if end - seconds <= one[1] <= end]


def summary(name, clients, seconds, times):
    """Prints rate and latency, and gives them as a row."""
    good = [end - begin for begin, end, status in times if status == 200]
    p50, p95, p99 = (1000 * np.percentile(good, share) for share in (50, 95, 99))
    row = {
        **{"server": name, "clients": clients, "per_second": len(good) / seconds},
        **{"p50_ms": p50, "p95_ms": p95, "p99_ms": p99, "refused": len(times) - len(good)},
    }
    print(
        f"{name:10} {clients:3} clients {row['per_second']:8.1f}/s  p50 {p50:7.1f} ms  p95 {p95:7.1f}"
        f"  p99 {p99:7.1f}  refused {row['refused']}",
        flush=True,
    )
    return row


def wait_for(port, process, seconds=120):
    """Until something listens at a port."""
    import socket

    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.2)
        else:
            return
    raise SystemExit(f"nothing listens at port {port}")


def resident(pid):
    """Resident memory of a process, in MB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return sum(int(line.split()[1]) / 1000 for line in lines if line.startswith("VmRSS"))


def start(command, port, **options):
    """A server that listens, in a group of its own: LitServe has several processes."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "start_new_session": True}
    process = subprocess.Popen(command, **quiet, **options)
    wait_for(port, process)
    return process


def parse():
    """The options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model")
    parser.add_argument("images")
    parser.add_argument("--engine", default="onnxruntime", help="of all three")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--clients", default="1,4,16,64")
    parser.add_argument("--port", type=int, default=8311)
    parser.add_argument("--litserve", metavar="PYTHON")
    parser.add_argument("--memory", type=int, default=0, metavar="N")
    parser.add_argument("--json", metavar="FILE")
    return parser.parse_args()


@contextmanager
def servers(options):
    """Ours and, where its Python is named, LitServe at the next port; the process of ours."""
    ours = [sys.executable, "-m", "resnets", "serve", options.model, "--engine", options.engine]
    running = [start([*ours, "--port", str(options.port), "--quiet"], options.port)]
    with tempfile.TemporaryDirectory() as folder:
        try:
            if options.litserve:
                script, port = Path(folder) / "lit.py", options.port + 1
                script.write_text(LITSERVE)
                words = [options.model, str(port), str(usable_cores()), options.engine]
                env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1] / "src")}
                command = [options.litserve, str(script), *words]
                running.append(start(command, port, cwd=folder, env=env))
                time.sleep(10)  # its workers open the file after the port
            yield running[0]
        finally:
            for process in running:
                os.killpg(process.pid, signal.SIGTERM)
                process.wait(60)


def take_turns(options, images, clients):
    """A row of each of the three for so many clients."""
    ours = [http_request("/v1/predict", image, "image/jpeg") for image in images]
    encoded = (json.dumps({"image": base64.b64encode(image).decode()}) for image in images)
    theirs = [http_request("/predict", body.encode(), "application/json") for body in encoded]
    seconds = options.seconds
    times = measure_runtime(options.model, options.engine, images, clients, seconds)
    rows = [summary("runtime", clients, seconds, times)]
    times = measure_http(options.port, ours, clients, seconds)
    rows.append(summary("resnets", clients, seconds, times))
    print(f"{'':10} {rows[1]['per_second'] / rows[0]['per_second']:.2f} times the runtime")
    if options.litserve:
        times = measure_http(options.port + 1, theirs, clients, seconds)
        rows.append(summary("litserve", clients, seconds, times))
    return rows


def watch_memory(options, images, server):
    """Prints what more requests do to the memory of a server."""
    requests = [http_request("/v1/predict", image, "image/jpeg") for image in images]
    before, sent = resident(server.pid), 0
    while sent < options.memory:
        sent += len(measure_http(options.port, requests, 4, 5))
    print(f"memory: {before:.0f} MB, after {sent:,} requests {resident(server.pid):.0f} MB")


def main():
    """Measures and prints."""
    options = parse()
    images, rows = read_images(options.images), []
    print(
        f"{platform.machine()}, {usable_cores()} cores, {len(images)} images, {options.seconds:g} s each"
    )
    with servers(options) as server:
        for clients in map(int, options.clients.split(",")):
            rows += take_turns(options, images, clients)
        if options.memory:
            watch_memory(options, images, server)
    if options.json:
        Path(options.json).write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
