"""Is everything here, and as it was shipped? One record for each data file.

Loaders check what they read; this checks all of it and reports instead of raising, so that a command can
print the whole list at once. What this is *not*: a check of the table itself. Someone who changes a file and
its line in ``SHA256SUMS`` has made another data set.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from dca_lab.data._store import find_root, table


@dataclass(frozen=True)
class FileRecord:
    """One file: its path below the data folder, the bytes found, ``'ok'``, ``'missing'`` or ``'altered'``."""

    path: str
    bytes: int
    status: str


def verify(root: Path | str | None = None) -> list[FileRecord]:
    """Compare every shipped file with ``SHA256SUMS``.

    Parameters
    ----------
    root : path, optional
        The data folder; see `find_root`.

    Returns
    -------
    list of FileRecord
        One a listed file, in the order of the table. ``bytes`` is 0 for a missing file; ``'altered'``
        includes truncated.

    Raises
    ------
    DataError
        When the folder or its table cannot be read.

    Examples
    --------
    >>> from dca_lab.data import verify
    >>> records = verify()
    >>> len(records), {record.status for record in records}
    (17, {'ok'})
    """
    folder, records = find_root(root), []
    for path, expected in table(folder).items():
        try:
            with open(folder / path, "rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
                size = file.tell()
        except FileNotFoundError:
            records.append(FileRecord(path, 0, "missing"))
        except OSError:
            # A folder in its place, no permission to read: there, but not usable.
            records.append(FileRecord(path, 0, "altered"))
        else:
            records.append(FileRecord(path, size, "ok" if digest == expected else "altered"))
    return records
