"""When a progress bar is drawn: on a terminal and in a notebook, and never where DCA_QUIET is set."""

from __future__ import annotations

import os


def hidden(wanted: bool = True) -> bool | None:
    """What tqdm takes as ``disable``: True for no bar, None for none in a file or a pipe.

    Examples
    --------
    >>> hidden(wanted=False)
    True
    """
    return True if not wanted or os.environ.get("DCA_QUIET") else None
