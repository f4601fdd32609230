"""How many threads are worth having on this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

GROUPS, OWN = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def usable_cores() -> int:
    """Physical cores this process may use: those it is bound to, and no more than the quota of its
    container."""
    processors = (
        os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    )
    siblings = (
        Path(f"/sys/devices/system/cpu/cpu{number}/topology/thread_siblings_list")
        for number in processors
    )
    cores = len({file.read_text() if file.exists() else str(file) for file in siblings})
    return max(1, min([cores, *map(int, quotas(GROUPS, OWN))]))


def quotas(groups: Path, own: Path) -> Iterator[float]:
    """Processor time a second that control groups of Linux allow, of the group of this process and
    of those around it.

    Args:
        groups: Where control groups are mounted.
        own: The groups of this process.
    """
    # "0::/a/b" in version 2; "4:cpu,cpuacct:/a/b" in version 1. In a container the groups may
    # begin at its own, so that their names do not lead there.
    for line in own.read_text().splitlines() if own.exists() else ():
        number, names, path = line.split(":", 2)
        top = groups if number == "0" else groups / "cpu"
        if number != "0" and "cpu" not in names.split(","):
            continue
        group = top / path.strip("/")
        for folder in (group, *group.parents):
            yield from _quota(folder)
            if folder == top:
                break


def _quota(folder: Path) -> Iterator[float]:
    files = folder / "cpu.max", folder / "cpu.cfs_quota_us", folder / "cpu.cfs_period_us"
    if files[0].exists():  # "200000 100000": microseconds of processor time in a period, or "max"
        time, period = files[0].read_text().split()
    elif files[1].exists():  # -1: no limit
        time, period = files[1].read_text().strip(), files[2].read_text()
    else:
        return
    if time not in ("max", "-1"):
        yield int(time) / int(period)
