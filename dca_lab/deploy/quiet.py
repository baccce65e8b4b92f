"""Call a library that talks, and hear nothing: exporters print, warn and log on every model.

It is *not* for code of our own, which says what its caller needs to know and nothing else.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Inside, no banners, warnings or log lines; what goes wrong is still raised.

    Examples
    --------
    >>> with quiet():
    ...     print("a banner")
    """
    before, nowhere = logging.root.manager.disable, io.StringIO()
    logging.disable(logging.CRITICAL)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(nowhere),
            contextlib.redirect_stderr(nowhere),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
