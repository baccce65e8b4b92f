"""Empties a folder in which a stranger could write, whatever it left there.

`shutil.rmtree` gives up where this must not: a tree deeper than the longest path that the system accepts, deeper than
Python recurses, or folders without permissions. How: every folder found is lifted up to the top before it is emptied,
so that no path ever grows. Links are removed, never followed.

What this is *not*: safe while the stranger's process still runs. End that first.
"""

from __future__ import annotations

import os
import stat


def wipe(folder: str) -> None:
    """Remove everything in `folder`, which stays.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as top:
    ...     os.makedirs(os.path.join(top, "a/b/c"))
    ...     wipe(top)
    ...     os.listdir(top)
    []
    """
    number = 0
    pending = [os.path.join(folder, name) for name in os.listdir(folder)]
    while pending:
        path = pending.pop()
        if not stat.S_ISDIR(os.lstat(path).st_mode):
            os.unlink(path)
            continue
        os.chmod(path, 0o700)
        for name in os.listdir(path):
            inner = os.path.join(path, name)
            if stat.S_ISDIR(os.lstat(inner).st_mode):
                os.chmod(inner, 0o700)  # to move a folder is to write to it: its ".." changes
                number += 1
                lifted = os.path.join(folder, f".lifted-{number}")
                while os.path.lexists(lifted):
                    number += 1
                    lifted = os.path.join(folder, f".lifted-{number}")
                os.rename(inner, lifted)
                pending.append(lifted)
            else:
                os.unlink(inner)
        os.rmdir(path)
