"""The shipped files: where they are, and the proof that they are whole before anything parses them.

Every loader gets its bytes from `read`. It compares them with ``SHA256SUMS`` first, so a parser never meets a
byte that was not checked, and a damaged file is reported as *missing*, *truncated* or *altered* together with
the command that restores it. What this is *not*: a downloader. The data travels with the repository and
nothing is ever fetched.
"""

from __future__ import annotations

import gzip
import hashlib
import lzma
import os
import re
from pathlib import Path, PurePosixPath

TABLE = "SHA256SUMS"

# A checksum says that a file differs, not how: the byte count tells a file that was cut short from one that
# was changed.
SIZES = {
    "driving/german_sign_artwork.zip": 865037,
    "medical/cells.csv.gz": 406668,
    "medical/watch_rehab_50hz.npz.xz": 2237268,
    "nlp/austen_emma.txt.xz": 264372,
    "nlp/austen_prideprejudice.txt.xz": 204164,
    "nlp/jupyterlab_en-zh_cn.tsv.gz": 73937,
    "nlp/spamassassin.csv.gz": 1854534,
    "nlp/vader_movieReviewSnippets.tsv.gz": 549605,
    "speech/mandarin_tones.csv": 60123,
    "speech/mandarin_tones_8k.ogg": 2960753,
    "speech/prompts_6voices_1s.csv": 88827,
    "speech/prompts_6voices_1s_8k.ogg": 3845355,
    "vision/fashion_mnist_12k_4k.npz.xz": 6023012,
    "vision/t10k-images-idx3-ubyte.xz": 1354388,
    "vision/t10k-labels-idx1-ubyte.xz": 4040,
    "vision/train-images-idx3-ubyte.xz": 7819804,
    "vision/train-labels-idx1-ubyte.xz": 25332,
}


class DataError(RuntimeError):
    """A data file is missing, truncated, altered or unreadable; the text says which and how to restore it."""


def find_root(root: Path | str | None = None) -> Path:
    """Return the folder that holds the data.

    Parameters
    ----------
    root : path, optional
        Taken as given. Without it: the environment variable ``DCA_DATA``, else ``data`` next to the package.

    Raises
    ------
    DataError
        When that folder does not exist.
    """
    chosen = Path(root or os.environ.get("DCA_DATA") or Path(__file__).resolve().parents[2] / "data")
    if not chosen.is_dir():
        raise DataError(
            f"the data folder {chosen} does not exist. The data is part of the repository, not of "
            "an installed wheel: install with `pip install -e .` from a clone, or point the environment "
            "variable DCA_DATA at the data folder of a clone."
        )
    return chosen


def restore_advice(path: str) -> str:
    """Return the sentence that tells a reader how to get ``path`` (below the data folder) back."""
    return f"Restore it with `git checkout -- data/{path}`, or copy that file from a fresh clone."


def table(root: Path) -> dict[str, str]:
    """Read ``SHA256SUMS`` of a data folder.

    Returns
    -------
    dict[str, str]
        Path below the folder (with ``/``) to the hexadecimal SHA-256, in the order of the file.

    Raises
    ------
    DataError
        When the table is missing, has a malformed line, or names a path outside the folder.
    """
    try:
        text = (root / TABLE).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{TABLE} is missing or unreadable in {root}. {restore_advice(TABLE)}") from error
    sums = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        found = re.fullmatch(r"([0-9a-f]{64}) [ *](\S.*)", line.rstrip())
        if not found or PurePosixPath(found[2]).is_absolute() or ".." in PurePosixPath(found[2]).parts:
            raise DataError(f"{TABLE} line {number} is not '<sha256>  <path>'. {restore_advice(TABLE)}")
        sums[found[2]] = found[1]
    if not sums:
        raise DataError(f"{TABLE} in {root} lists no file. {restore_advice(TABLE)}")
    return sums


def read(root: Path, path: str) -> bytes:
    """Return the bytes of one shipped file, after comparing them with the checksum table.

    Raises
    ------
    DataError
        When the file is not listed, missing, truncated or altered; the text names the file and how to restore
        it.
    """
    expected = table(root).get(path)
    if expected is None:
        raise DataError(f"{path} is not listed in {TABLE} of {root}. {restore_advice(TABLE)}")
    try:
        raw = (root / path).read_bytes()
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing from {root}. {restore_advice(path)}") from error
    except OSError as error:
        raise DataError(f"{path} in {root} cannot be read ({error}). {restore_advice(path)}") from error
    if hashlib.sha256(raw).hexdigest() != expected:
        size = SIZES.get(path, len(raw))
        if len(raw) < size:
            raise DataError(f"{path} is truncated: {len(raw)} of {size} bytes. {restore_advice(path)}")
        raise DataError(f"{path} was altered: its SHA-256 does not match {TABLE}. {restore_advice(path)}")
    return raw


def unpack(root: Path, path: str) -> bytes:
    """Return the decompressed content of a checked ``.xz`` or ``.gz`` file.

    Raises
    ------
    DataError
        As `read`; also when checked bytes do not decompress, which means that the table was made from a
        damaged file.
    """
    raw = read(root, path)
    try:
        return lzma.decompress(raw) if path.endswith(".xz") else gzip.decompress(raw)
    except (lzma.LZMAError, EOFError, OSError, ValueError) as error:
        raise DataError(
            f"{path} matches {TABLE} but does not decompress: {error}. {restore_advice(path)}"
        ) from error


def stamp(root: Path, paths: tuple[str, ...]) -> tuple:
    """Return size and modification time of the table and the files (None: missing), to key a cache."""
    found = []
    for path in (TABLE, *paths):
        try:
            stat = (root / path).stat()
            found.append((stat.st_size, stat.st_mtime_ns))
        except OSError:
            found.append(None)
    return tuple(found)
