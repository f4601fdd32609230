"""Files are written in one piece, and by one process at a time."""

import multiprocessing
import os
import signal

import pytest

from resnets import files
from resnets.files import Locked, locked


def hold(path, ready):
    with locked(path, "wait"):
        ready.set()
        signal.pause()


def test_a_lock_is_held_by_one(tmp_path):
    path = tmp_path / "lock"
    with locked(path, "name another output"):
        with pytest.raises(Locked, match="another process") as refused, locked(path, "wait for it"):
            raise AssertionError
        assert str(refused.value).endswith("wait for it")
    with locked(path, ""):
        pass


@pytest.mark.skipif(not hasattr(signal, "pause"), reason="needs POSIX signals")
def test_a_killed_process_leaves_no_lock(tmp_path):
    path, context = tmp_path / "lock", multiprocessing.get_context("spawn")
    ready = context.Event()
    process = context.Process(target=hold, args=(path, ready))
    process.start()
    assert ready.wait(30)
    with pytest.raises(Locked), locked(path, ""):
        raise AssertionError
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    with locked(path, ""):
        pass


def test_a_lock_whose_file_is_gone_or_another_is_not_held(tmp_path, monkeypatch):
    """Its holder removed the file between the opening and the locking of it."""
    path = tmp_path / ".lock"
    lock = files._try_lock
    for put_back in (False, True):

        def late(descriptor, put_back=put_back):
            path.unlink()
            if put_back:
                path.touch()
            return lock(descriptor)

        monkeypatch.setattr(files, "_try_lock", late)
        with pytest.raises(Locked), locked(path, "wait"):
            raise AssertionError("it holds a file that nobody else will look at")
    monkeypatch.setattr(files, "_try_lock", lock)
    with locked(path, "wait"):
        pass
