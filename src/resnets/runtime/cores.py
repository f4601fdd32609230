"""How many threads are worth having on this machine."""

from __future__ import annotations

import os
from pathlib import Path


def usable_cores() -> int:
    """Physical cores this process may use: those it is bound to, and no more than its container's
    quota."""
    processors = (
        os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    )
    siblings = (
        Path(f"/sys/devices/system/cpu/cpu{number}/topology/thread_siblings_list")
        for number in processors
    )
    cores = len({file.read_text() if file.exists() else str(file) for file in siblings})
    # "200000 100000": microseconds of processor time in a period, or "max"
    quota = Path("/sys/fs/cgroup/cpu.max")
    if quota.exists():
        time, period = quota.read_text().split()
        cores = cores if time == "max" else min(cores, max(1, int(time) // int(period)))
    return cores
