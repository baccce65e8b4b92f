"""Files that are written whole or not at all.

A file is written beside its place and then renamed, which the system does in one step: whoever reads, and whoever
kills the program, finds the old file or the new one. What this is *not*: a promise that the bytes have reached the
disk (see `training.checkpoint`, which waits for them).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def require_folder(path: str | os.PathLike) -> Path:
    """`path` as a Path whose folder exists; asked before hours of calibration, not after.

    Examples
    --------
    >>> require_folder("model.onnx").name
    'model.onnx'
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"the folder {path.parent} does not exist: make it, then write {path.name}")
    if path.is_dir():
        raise ValueError(f"{path} is a folder: give the name of a file in it, such as {path / 'model.onnx'}")
    return path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A name beside `path` to write to; it takes the place of `path` at the end, and is gone after an error.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with replacing(Path(folder) / "a.txt") as beside:
    ...         _ = beside.write_text("whole", encoding="utf-8")
    ...     [file.name for file in Path(folder).iterdir()]
    ['a.txt']
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield beside
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
