"""How much a process uses of what the kernel does not limit: threads, and files in a folder.

Both the grader and the zygote look, ten times a second. What this is *not*: a promise about files that were removed and
are still open. Nobody can count those; `walls.set_limits` keeps them few and small.
"""

from __future__ import annotations

import os


def threads(pid: int) -> int:
    """Number of threads of a process; 0 if it is gone or the system does not tell."""
    try:
        return os.stat(f"/proc/{pid}/task").st_nlink - 2
    except OSError:
        return 0


def usage(folder: str, most: int) -> tuple[int, int]:
    """Bytes on disk and number of entries beneath `folder`; counting stops soon after `most` entries.

    Examples
    --------
    >>> usage("/nowhere", 10)
    (0, 0)
    """
    used = count = 0
    pending = [folder]
    while pending and count <= most:
        try:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    count += 1
                    if count > most:
                        break
                    found = entry.stat(follow_symlinks=False)
                    used += 512 * found.st_blocks
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)
        except OSError:
            continue  # removed meanwhile, or a path longer than the system accepts
    return used, count


def too_much(pid: int | None, folder: str, limits: dict) -> str:
    """Which limit the process or the folder is beyond; empty where none is.

    Examples
    --------
    >>> too_much(None, "/nowhere", {"threads": 64, "files": 2000, "file_bytes": 1 << 20})
    ''
    """
    if pid is not None and threads(pid) > limits["threads"]:
        return f"more than {limits['threads']} threads"
    used, files = usage(folder, limits["files"])
    if files > limits["files"]:
        return f"more than {limits['files']:,} files"
    return f"more than {limits['file_bytes']:,} bytes of files" if used > limits["file_bytes"] else ""
