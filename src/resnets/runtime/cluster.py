"""Predictions by many processes, on one machine or on many: each block of images becomes one
Parquet file, written beside and renamed, so that whatever dies costs time only. Ray Data hands out
the blocks."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from resnets.files import locked, write_file
from resnets.runtime.blocks import Block, digest_of, split_images
from resnets.runtime.opening import load
from resnets.runtime.rows import Columns
from resnets.runtime.writers import write_parquet

FORMAT = 1  # of a folder of predictions
SOURCE = "source.json"  # in it: what its files are made from and with
LOCAL = "local"  # address of a cluster that is this machine, for as long as it is needed
# For the processes that Ray starts on it: one of them asks the network which cloud it is in, also
# where reports of use are off. A proxy at which nobody listens keeps the question on the machine.
NOWHERE = {"http_proxy": "http://127.0.0.1:9", "no_proxy": "", "NO_PROXY": ""}


@dataclass(frozen=True)
class Task:
    """What every process does.

    Args:
        model: `NAME.onnx`, where each of them finds it.
        engine: Which runs it.
        output: The folder for the predictions, of all of them.
        columns: Of their tables.
        unknown: Whether an image that is not familiar gets no class.
    """

    model: str
    engine: str
    output: str
    columns: Columns
    unknown: bool = False


class Worker:
    """One process with an engine of its own."""

    def __init__(self, task: Task) -> None:
        self.task = task
        predictor = load(task.model, task.engine, threads=1)
        self.predictor = predictor.naming_unknown() if task.unknown else predictor

    def __call__(self, row: dict[str, Any]) -> dict[str, int]:
        """Predicts for a block, unless its file is there, and counts."""
        block = Block(**{**row, "files": tuple(row["files"])})
        target = Path(self.task.output) / block.name
        failed = 0
        if not target.exists():
            rows = []
            for prediction in self.predictor.predict_named(block.images()):
                failed += prediction.error is not None
                rows += self.task.columns.rows(prediction)
            write_parquet(target, rows, self.task.columns)
        return {"images": block.count, "failed": failed}


def predict_blocks(
    task: Task,
    inputs: Sequence[str],
    address: str,
    plan: Callable[[int, int], Callable[[int], None]],
) -> tuple[int, int]:
    """Predicts for all images of some inputs, or for those that are left of an earlier start.

    Args:
        task: What is done.
        inputs: See `blocks.split_images`.
        address: `local`, the processors of this machine; `auto`, the cluster that this machine is
            part of; or that of a cluster.
        plan: Told how many images there are and how many are done; gives what is told, time and
            again, how many are done.

    Returns:
        How many images were predicted now, and how many of them failed.

    Raises:
        ValueError: Ray is not installed or cannot be reached; the folder has predictions of
            another model or of other images; or inputs are refused.
    """
    import_ray(address)  # before anything is written
    output = Path(task.output)
    blocks = split_images(inputs)
    predictor = Worker(task).predictor
    output.mkdir(parents=True, exist_ok=True)
    with locked(output / ".lock", f"wait until it has ended, or name another output than {output}"):
        made = {"format": FORMAT, "sha256": predictor.sha256, "images": digest_of(blocks)}
        _claim(output, {**made, "model": task.model, "columns": list(task.columns.types)})
        missing = [block for block in blocks if not (output / block.name).exists()]
        total = sum(block.count for block in blocks)
        done = before = total - sum(block.count for block in missing)
        update, failed = plan(total, done), 0
        for counted in _hand_out(task, missing, address):
            done, failed = done + counted["images"], failed + counted["failed"]
            update(done)
    return done - before, failed


def _claim(output: Path, made: dict[str, Any]) -> None:
    """Writes down what a folder's files are made from, or compares it."""
    file = output / SOURCE
    if not file.exists():
        if any(output.glob("*.parquet")):
            raise ValueError(
                f"{output}: holds Parquet files, and nothing says of which model; name another"
                " output"
            )
        write_file(file, json.dumps(made))
        return
    try:
        then = dict(json.loads(file.read_text()))
    except (ValueError, TypeError):
        then = {}
    told = {
        "format": "by another version",
        "sha256": f"by another model ({then.get('model', 'unnamed')})",
        "images": "from other images, or these have become more or fewer",
        "columns": "with other columns",
    }
    for key, how in told.items():
        if then.get(key) != made[key]:
            raise ValueError(f"{output}: was made {how}; name another output, or remove it")


def _hand_out(task: Task, blocks: Sequence[Block], address: str) -> Any:
    """What each block came to, in any order; a process that dies is started again."""
    if not blocks:
        return
    ray = import_ray(address)
    own = not ray.is_initialized()
    _connect(ray, address)
    try:
        ray.data.DataContext.get_current().enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        rows = [{**asdict(block), "files": list(block.files)} for block in blocks]
        most = max(1, min(len(blocks), int(ray.cluster_resources().get("CPU", 1))))
        pool = ray.data.ActorPoolStrategy(min_size=1, max_size=most)
        data = ray.data.from_items(rows, override_num_blocks=len(rows))
        yield from data.map(
            Worker, fn_constructor_args=[task], num_cpus=1, compute=pool
        ).iter_rows()
    finally:
        if own:
            ray.shutdown()


def _connect(ray: Any, address: str) -> None:
    quiet = {"log_to_driver": False, "logging_level": "error"}
    if ray.is_initialized():
        return
    if address == LOCAL:
        with _environment(NOWHERE):
            ray.init("local", include_dashboard=False, **quiet)
        return
    try:
        ray.init(address, **quiet)
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise ValueError(
            f"--ray {address}: no cluster was found ({reason}); start one with `ray start --head`;"
            " if it has a token, set RAY_AUTH_MODE=token; or take --ray local"
        ) from None


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """These variables of the environment for a while."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def import_ray(address: str) -> Any:
    """The ray package with its data library, kept from the network: it would report its use.

    Raises:
        ValueError: It is not installed.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    if address == LOCAL:
        # It is read on import. With it a machine knows itself as 127.0.0.1, and listens there
        # alone; without it, it asks for the way to 8.8.8.8, and listens on all its addresses.
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # what matters is an exception
    try:
        import ray
        import ray.data
    except ModuleNotFoundError:
        raise ValueError(
            '--ray needs Ray, which is not installed; run: pip install "resnets[ray]"'
        ) from None
    return ray
