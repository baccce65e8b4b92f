"""A file that is either whole or not there: what training needs in order to be killed at any moment.

    write beside -> fsync -> rename over the old file -> fsync the folder

A rename within one folder is atomic, so a reader finds the old checkpoint or the new one, never half of one;
the two fsyncs make that true after a power cut as well (T. S. Pillai et al., "All File Systems Are Not
Created Equal: On the Complexity of Crafting Crash-Consistent Applications", OSDI, 2014). A SHA-256 of the
content comes first in the file, because torch does not check its archives' checksums on loading. It is *not*
a format for exchanging models: weights that leave the course are safetensors.
"""

import hashlib
import io
import os
import pickle
from pathlib import Path
from typing import Any

import torch

_MAGIC = b"dca-lab checkpoint, format "
_FORMAT = b"1"


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; the message names the file and says what to do."""


def save_checkpoint(path: str | Path, state: dict[str, Any]) -> None:
    """Writes `state` to `path`, atomically: on any error the former file is still there, whole.

    Parameters
    ----------
    path : str or Path
        Its folder is made when missing. The new file is first written beside it as ``<name>.tmp``.
    state : dict
        Tensors, numbers, strings and containers of them (what ``torch.load(weights_only=True)`` gives back).

    Raises
    ------
    OSError
        When the disk is full or the folder not writable.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_checkpoint(f"{folder}/a.pt", {"w": torch.zeros(2, 3)})
    ...     load_checkpoint(f"{folder}/a.pt")["w"].shape
    torch.Size([2, 3])
    """
    path = Path(path)
    buffer = io.BytesIO()
    torch.save(state, buffer)
    digest = hashlib.sha256(buffer.getbuffer()).hexdigest().encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(_MAGIC + _FORMAT + b"\n" + digest + b"\n")
            file.write(buffer.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """Reads what `save_checkpoint` wrote; only tensors and plain values come back, no code is run.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    dict
        Tensors on the CPU.

    Raises
    ------
    FileNotFoundError
        When there is no such file.
    CheckpointError
        When the file is truncated, altered, of another format, or no checkpoint at all.
    """
    path = Path(path)
    content = path.read_bytes()
    remedy = f"delete {path} and train again"
    head, _, rest = content.partition(b"\n")
    digest, _, payload = rest.partition(b"\n")
    if not head.startswith(_MAGIC):
        raise CheckpointError(f"{path} is no checkpoint of this package, or its start was altered: {remedy}")
    if head != _MAGIC + _FORMAT:
        found = head.removeprefix(_MAGIC)[:20].decode(errors="replace")
        raise CheckpointError(f"{path} has format {found}, not {_FORMAT.decode()} as this version: {remedy}")
    if hashlib.sha256(payload).hexdigest().encode() != digest:
        raise CheckpointError(f"{path} is truncated or was altered (its SHA-256 does not match): {remedy}")
    try:
        return torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError) as error:
        raise CheckpointError(f"{path} cannot be read by torch {torch.__version__}: {remedy}") from error


def _sync_folder(folder: Path) -> None:
    """Makes a rename in the folder last; Windows has no such call and needs none."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
