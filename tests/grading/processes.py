"""What several tests of the sandbox ask about a process."""

from pathlib import Path


def running(pid: str | int) -> bool:
    """Whether there is such a process, and it is more than an entry that nobody has asked for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
