"""Files that strangers handed in, read into memory: no link is followed, no archive is unpacked to disk, nothing grows.

A ZIP is read member by member. Its directory, the number and the size of its members and the ratio to their packed
size are limited before anything is unpacked; only the two usual methods are allowed, since the others of `zipfile`
unpack without a limit. Links, absolute names, ``..`` and archives inside the archive are left alone. What this is
*not*: a decision about whose file it is, which is `submissions`.
"""

from __future__ import annotations

import io
import os
import stat
import zipfile
from pathlib import Path, PurePosixPath

from dca_lab.grading.notebook import LARGEST_FILE, Unreadable

MOST_DIRECTORY = 2 << 20  # bytes of a ZIP's directory: some 20,000 names
MOST_RATIO = 250  # a notebook full of the same output reaches 50; a bomb made of zeros 1030
_ONCE = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


def read_file(path: Path) -> bytes:
    """The bytes of a regular file that is no link; Unreadable with the reason otherwise."""
    try:
        handle = os.open(path, os.O_RDONLY | _ONCE)
    except OSError as error:
        link = os.path.islink(path)
        raise Unreadable(f"the file is {'a link' if link else 'locked'} ({type(error).__name__})") from None
    with open(handle, "rb") as file:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):  # a pipe would never end
            raise Unreadable("the file is not a regular file")
        if status.st_size > LARGEST_FILE:
            raise Unreadable(
                f"the file has {status.st_size >> 20:,} MB, more than the {LARGEST_FILE >> 20} MB that are read: "
                "clear the outputs, save, and hand it in again"
            )
        return file.read(LARGEST_FILE + 1)


def notebooks(path: Path) -> list[str]:
    """Names of the notebooks in the ZIP at `path`; Unreadable when it is damaged or has none.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with zipfile.ZipFile(Path(folder) / "a.zip", "w") as archive:
    ...         archive.writestr("work/lab.ipynb", "{}")
    ...         archive.writestr("../escape.ipynb", "{}")
    ...     notebooks(Path(folder) / "a.zip")
    ['work/lab.ipynb']
    """
    with _open(path) as archive:
        found = [info.filename for info in archive.infolist() if _is_notebook(info)]
        inner = any(name.lower().endswith(".zip") for name in archive.namelist())
    if not found:
        more = ", only another ZIP: hand in the notebook itself" if inner else ""
        raise Unreadable(f"the ZIP holds no notebook{more}")
    return found


def read_member(path: Path, name: str) -> bytes:
    """The bytes of the notebook `name` in the ZIP at `path`."""
    with _open(path) as archive:
        info = archive.getinfo(name)
        if info.flag_bits & 1:
            raise Unreadable("the ZIP is locked with a password")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise Unreadable(
                "the ZIP is packed in an unusual way: pack it again, or hand in the notebook itself"
            )
        if info.file_size > LARGEST_FILE or info.file_size > MOST_RATIO * max(info.compress_size, 1 << 16):
            raise Unreadable(
                f"the notebook in the ZIP would unpack to {info.file_size >> 20:,} MB: clear its outputs"
            )
        try:
            with archive.open(info) as file:
                return file.read(LARGEST_FILE + 1)
        except Exception as error:  # zipfile, zlib and struct each have their own for a damaged file
            raise Unreadable(f"the ZIP is damaged ({type(error).__name__}): pack it again") from None


def _open(path: Path) -> zipfile.ZipFile:
    data = read_file(path)
    end = data.rfind(b"PK\x05\x06", max(0, len(data) - (1 << 16) - 22))
    large = (
        data[max(end - 20, 0) : max(end - 20, 0) + 4] == b"PK\x06\x07"
    )  # the form for more than 65,535 members
    if end < 0 or len(data) - end < 22:
        raise Unreadable("the file is no whole ZIP: pack it again, or hand in the notebook itself")
    if large or int.from_bytes(data[end + 12 : end + 16], "little") > MOST_DIRECTORY:
        raise Unreadable("the ZIP holds too many files: hand in the notebook itself")
    try:
        return zipfile.ZipFile(io.BytesIO(data))
    except Exception as error:
        raise Unreadable(f"the ZIP is damaged ({type(error).__name__}): pack it again") from None


def _is_notebook(info: zipfile.ZipInfo) -> bool:
    name = PurePosixPath(info.filename.replace("\\", "/"))
    escapes = name.is_absolute() or ".." in name.parts or ":" in name.parts[0] if name.parts else True
    if escapes or info.is_dir() or stat.S_ISLNK(info.external_attr >> 16):
        return False
    return is_work(name.parts) and name.suffix.lower() == ".ipynb"


def is_work(parts: tuple[str, ...]) -> bool:
    """Whether a path is a student's work: not hidden, not Jupyter's checkpoint, not what a Mac adds to a ZIP."""
    return not any(part.startswith(".") or part == "__MACOSX" for part in parts)
