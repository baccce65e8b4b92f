"""Call a library that talks below Python, and hear nothing unless it fails.

TensorFlow's import, its converter and LiteRT's interpreter write from C++ straight to file descriptor 2, where
``contextlib.redirect_stderr`` does not reach. So the descriptors themselves are turned to a temporary file and
back. If the block raises, what was said is printed after all: a silent failure would be worse than the noise.

What this is *not*: a thing for threads. The descriptors belong to the whole process, so what another thread prints
meanwhile is lost too; hence only short library calls stand inside.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Inside, neither Python nor C++ prints, warns or logs; after an error, all of it appears on stderr.

    Examples
    --------
    >>> import os
    >>> with quiet():
    ...     _ = os.write(2, b"a banner from C++")
    """
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    _flush()
    with tempfile.TemporaryFile() as said:
        kept = [(number, os.dup(number)) for number in (1, 2)]
        failed = False
        try:
            with (
                open(os.devnull, "w", encoding="utf-8") as nowhere,
                contextlib.redirect_stdout(nowhere),  # a notebook's stdout is no descriptor
                warnings.catch_warnings(),
            ):
                warnings.simplefilter("ignore")
                for number, _ in kept:
                    os.dup2(said.fileno(), number)
                yield
        except BaseException:
            failed = True
            raise
        finally:
            _flush()
            for number, copy in kept:
                os.dup2(copy, number)
                os.close(copy)
            logging.disable(before)
            if failed:
                said.seek(0)
                sys.stderr.write(said.read().decode("utf-8", errors="replace"))


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
