"""CPU time and resident memory of a process, from Linux' /proc."""

import os
from pathlib import Path


def cpu_seconds(pid: int) -> float:
    """CPU time of all living threads, to the nanosecond where the kernel keeps schedstat."""
    try:
        stats = [
            task.joinpath("schedstat").read_text() for task in Path(f"/proc/{pid}/task").iterdir()
        ]
    except FileNotFoundError:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return sum(int(stat.split()[0]) for stat in stats) / 1e9


def resident_kib(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise ProcessLookupError(pid)
