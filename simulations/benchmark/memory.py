"""Memory: the peak of a run, and how many runs fit at a time."""

import resource
import sys
from pathlib import Path

_STATUS, _RESET, _SYSTEM = Path("/proc/self/status"), Path("/proc/self/clear_refs"), Path("/proc/meminfo")
SPARE = 1.25  # memory for a run, as a multiple of what the first took


def forget_peak() -> None:
    """Begin a new measurement of this process's peak; where the system cannot, ``peak_mb`` is that since its start."""
    try:
        _RESET.write_text("5")  # proc(5): resets the peak of the resident set
    except OSError:
        return


def peak_mb() -> float:
    """Return the most resident memory of this process since ``forget_peak``, in MB of 10⁶ bytes."""
    try:
        return _kilobytes(_STATUS, "VmHWM") * 1024 / 1e6
    except (OSError, ValueError):
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def available_mb() -> float:
    """Return the memory that new processes can have without swapping, in MB; infinite where the system does not say."""
    try:
        return _kilobytes(_SYSTEM, "MemAvailable") * 1024 / 1e6
    except (OSError, ValueError):
        return float("inf")


def processes_that_fit(cores: int, available: float, need: float) -> int:
    """Return how many runs are made at a time: one a core at most, and one at least.

    Args:
        cores: that they share.
        available: memory for all of them, MB.
        need: peak of one, MB.
    """
    return int(max(1, min(cores, available // (SPARE * need) if need else cores)))


def _kilobytes(file: Path, name: str) -> int:
    for line in file.read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1])
    raise ValueError(name)
