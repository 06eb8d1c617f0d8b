"""What a machine has: memory, and disk."""

import os
import shutil
from pathlib import Path

_LIMIT = Path("/sys/fs/cgroup/memory.max")  # of a container or a service


def memory_bytes() -> int:
    """Return the memory of this machine, or of the container or service that this process is in."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        return min(memory, int(_LIMIT.read_text()))
    except (OSError, ValueError):  # the file is missing, or says "max"
        return memory


def used_memory_bytes() -> int:
    """Return the memory that this process uses now; 0 on systems without /proc."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def free_disk_bytes(folder: Path) -> int:
    """Return the free disk where a folder is, or will be."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def folder_bytes(folder: Path) -> int:
    """Return the size of all files in a folder and below; 0 if it is missing."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
