"""Predictions by many processes: every image exactly once, whatever is killed, and the values are
those of one process."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resnets.runtime import blocks, cluster, load
from resnets.runtime.blocks import Block, digest_of, split_images
from resnets.runtime.rows import Columns

pyarrow = pytest.importorskip("pyarrow")
import pyarrow.parquet as parquet  # noqa: E402

TINY = Path(__file__).parent / "data" / "format1" / "tiny.onnx"


def make_photos(folder: Path, count: int) -> Path:
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(count):
        small = Image.fromarray(rng.integers(0, 256, (3, 3, 3), np.uint8))
        small.resize((24, 24)).save(folder / f"{number:04}.png")
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = make_photos(tmp_path_factory.mktemp("cluster") / "photos", 70)
    (folder / "0007.png").write_bytes(b"broken")
    return folder


def rows_in(output: Path) -> dict[str, dict]:
    found = {}
    for file in sorted(output.glob("*.parquet")):
        for row in parquet.read_table(file).to_pylist():
            assert row["file"] not in found
            found[row["file"]] = row
    return found


# --- blocks


def names_in(found) -> list[str]:
    return [name for block in found for name, _ in block.images()]


def test_a_folder_and_a_list_are_the_same_images(photos, tmp_path, monkeypatch):
    monkeypatch.setattr(blocks, "SIZE", 32)
    files = [str(file) for file in sorted(photos.iterdir())]
    of_folder = split_images([str(photos)])
    assert [block.count for block in of_folder] == [32, 32, 6]
    assert names_in(of_folder) == files
    listed = tmp_path / "names.txt"
    listed.write_text("\n\n".join(files) + "\n")
    of_list = split_images([str(listed)])
    assert [block.count for block in of_list] == [32, 32, 6]
    assert names_in(of_list) == files
    assert not any(block.files for block in of_list)  # they stay in the list
    assert digest_of(of_list) == digest_of(split_images([str(listed)])) != digest_of(of_folder)


@pytest.mark.parametrize("shape", ["bytes", "struct", "nameless"])
def test_contents_in_parquet_files(photos, tmp_path, shape):
    files = sorted(photos.iterdir())[:10]
    contents = [file.read_bytes() for file in files]
    columns = {
        "bytes": {"label": list(range(10)), "path": list(map(str, files)), "jpg": contents},
        "struct": {
            "image": [
                {"bytes": content, "path": str(file)}
                for content, file in zip(contents, files, strict=True)
            ]
        },
        "nameless": {"jpg": contents},
    }[shape]
    target = tmp_path / "images.parquet"
    parquet.write_table(pyarrow.table(columns), target, row_group_size=4)
    found = split_images([str(target)])
    assert [block.count for block in found] == [4, 4, 2]
    pairs = [pair for block in found for pair in block.images()]
    assert [content for _, content in pairs] == contents
    expected = [f"{target}:{place}" for place in range(10)] if shape == "nameless" else files
    assert [name for name, _ in pairs] == list(map(str, expected))


def test_sources_that_are_none(photos, tmp_path):
    (tmp_path / "empty.txt").write_text("\n\n")
    (tmp_path / "no.parquet").write_bytes(b"no")
    parquet.write_table(pyarrow.table({"a": [1], "b": ["x"]}), tmp_path / "other.parquet")
    for inputs, told in (
        (["empty.txt"], "no name of an image in it"),
        (["gone.txt"], "cannot be read"),
        (["no.parquet"], "cannot be read as Parquet"),
        (["empty.txt", "no.parquet"], "give either"),
    ):
        with pytest.raises(ValueError, match=told):
            split_images([str(tmp_path / name) for name in inputs])
    (block,) = split_images([str(tmp_path / "other.parquet")])
    with pytest.raises(ValueError, match=r"0 columns of bytes; wanted: one.* a \(int64\)"):
        list(block.images())


def test_a_block_is_predicted_once(photos, tmp_path):
    predictor = load(TINY)
    columns = Columns.of(predictor.kind, predictor.classes, False, predictor.outputs)
    work = cluster.Worker(cluster.Task(str(TINY), "onnxruntime", str(tmp_path), columns))
    (block,) = split_images([str(photos)])
    row = {**vars(block), "files": list(block.files)}
    assert work(row) == {"images": 70, "failed": 1}
    (file,) = tmp_path.iterdir()
    written = file.stat().st_mtime_ns
    assert work(row) == {"images": 70, "failed": 0}
    assert file.stat().st_mtime_ns == written
    for found in predictor.exactly().predict(photos):
        row = rows_in(tmp_path)[found.file]
        assert (row["error"] is None) == (found.error is None)
        if found.error is None:
            assert row["label"] == found.label
            shares = [row[f"p_{name}"] for name in found.classes]
            np.testing.assert_allclose(shares, found.probabilities, atol=2e-6)


def test_a_folder_of_others_is_not_continued(tmp_path):
    made = {"format": 1, "sha256": "a", "images": "b", "columns": ["file"], "model": "x.onnx"}
    cluster._claim(tmp_path, made)
    cluster._claim(tmp_path, made)
    for key, told in (("sha256", r"another model \(x.onnx\)"), ("images", "other images")):
        with pytest.raises(ValueError, match=told):
            cluster._claim(tmp_path, {**made, key: "c"})
    (tmp_path / "source.json").unlink()
    (tmp_path / "part-000000000.parquet").write_bytes(b"")
    with pytest.raises(ValueError, match="nothing says of which model"):
        cluster._claim(tmp_path, made)


def test_names_of_files_are_in_the_order_of_blocks():
    assert Block(12, 1, ("a",)).name == "part-000000012.parquet"


# --- the command


def start(*arguments, **options):
    command = [sys.executable, "-m", "resnets", "predict", *map(str, arguments)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["-o", "out.csv"], "--ray writes a folder of Parquet files, not out.csv: -o FOLDER"),
        ([], "--ray writes a folder of Parquet files, not a table"),
        (["-o", "out", "--exact"], "--exact does not go with --ray; leave it out"),
    ],
)
def test_options_that_do_not_go_together(photos, tmp_path, options, told):
    process = start(TINY, photos, "--ray", "local", *options, cwd=tmp_path)
    _, said = process.communicate()
    assert process.returncode == 2
    assert told in " ".join(said.split())
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_what_is_killed_costs_time_only(tmp_path):
    """A worker, then the driver; then a second start goes on, and the values are those of one
    process."""
    pytest.importorskip("ray")
    photos = make_photos(tmp_path / "photos", 2000)
    out = tmp_path / "out"
    options = "--ray", "local", "--engine", "onnxruntime", "--probs", "-o", out
    first = start(TINY, photos, *options)
    _wait(lambda: _workers() or first.poll() is not None)
    assert first.poll() is None, first.communicate()[1]
    os.kill(_workers()[0], signal.SIGKILL)
    _wait(lambda: list(out.glob("*.parquet")) or first.poll() is not None)
    first.kill()
    first.communicate()
    done = {file.name: file.stat().st_mtime_ns for file in out.glob("*.parquet")}
    second = start(TINY, photos, *options)
    _, said = second.communicate(timeout=300)
    assert second.returncode == 0, said
    assert not [name for name in done if (out / name).stat().st_mtime_ns != done[name]]
    found = rows_in(out)
    assert len(found) == 2000
    assert json.loads((out / "source.json").read_text())["format"] == 1
    table = tmp_path / "one.csv"
    one = start(TINY, photos, "--probs", "--engine", "onnxruntime", "-o", table)
    assert one.wait() == 0
    with table.open(newline="") as file:
        for row in csv.DictReader(file):
            other = found[str(Path(row["file"]).absolute())]
            assert other["label"] == row["label"]
            for name, value in row.items():
                if name.startswith("p_"):
                    assert other[name] == pytest.approx(float(value), abs=2e-6)
    assert not [file for file in out.iterdir() if file.name.endswith(".partial")]


LOOPBACK = {"0100007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F"}


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="needs the sockets of Linux")
def test_a_cluster_of_this_machine_talks_to_nobody_else(photos, tmp_path):
    """Of the kernel's list of sockets those that belong to the run, again and again: Ray's own
    processes are out of Python's sight."""
    pytest.importorskip("ray")
    mark = f"RESNETS_TEST={tmp_path}"
    environment = {key: value for key, value in os.environ.items() if "proxy" not in key.lower()}
    process = start(TINY, photos, "--ray", "local", "-o", tmp_path / "out",
                    env={**environment, "RESNETS_TEST": str(tmp_path)})  # fmt: skip
    seen = set()
    while process.poll() is None:
        seen |= _sockets(mark.encode())
        time.sleep(0.05)
    assert process.returncode == 0, process.communicate()
    assert len(seen) > 10
    abroad = {one for one in seen if one.rpartition(":")[0] not in LOOPBACK}
    assert not abroad


def _sockets(mark: bytes) -> set[str]:
    """Where sockets of processes with this in their environment listen, and whom they talk to: hex
    addresses and ports as the kernel writes them."""
    inodes = set()
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (place / "environ").read_bytes().split(b"\0"):
                inodes |= {str(one.readlink())[8:-1] for one in (place / "fd").iterdir()}
        except OSError:  # it has just ended
            continue
    found = set()
    for name in ("tcp", "tcp6", "udp", "udp6"):
        for line in (Path("/proc/net") / name).read_text().splitlines()[1:]:
            (
                _,
                local,
                remote,
                *_,
            ) = (cells := line.split())
            if cells[9] in inodes:
                found.add(local)
                found |= {remote} if int(remote.partition(":")[0], 16) else set()
    return found


def _workers() -> list[int]:
    """Processes of Ray that predict."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            title = (place / "cmdline").read_bytes()
        except OSError:
            continue
        if title.startswith(b"ray::") and b"Map" in title:
            found.append(int(place.name))
    return found


def _wait(condition, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.05)
