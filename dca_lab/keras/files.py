"""A Keras network as a file: written whole, read back, and its bytes counted.

Three formats: ``.keras`` is a zip of the architecture (JSON) and the weights (HDF5), neither compressed;
``.weights.h5`` the weights alone, to be loaded into a network of the same architecture; ``.tflite`` the LiteRT file, see
:mod:`dca_lab.keras.litert`. A float32 weight takes 4 bytes in the first two, whether it is zero or not: `sizes` shows
beside the plain bytes what DEFLATE (zip, gzip, HTTP) makes of the zeros.

Keras writes the optimizer's state into the file as well, for Adam two more numbers a weight: a trained network's file
is three times as large as it need be. `save` leaves the state out.

What this file is *not*: a checkpoint from which training goes on (that needs the state: ``model.save(path)``).
"""

from __future__ import annotations

import os
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import keras

from dca_lab.files import replacing, require_folder

FORMATS = (".keras", ".weights.h5")


class Sizes(NamedTuple):
    """Bytes of a file, and of the same file after DEFLATE."""

    plain: int
    compressed: int


def _format(path: Path) -> str:
    ending = next((ending for ending in FORMATS if path.name.endswith(ending)), None)
    if ending is None:
        hint = " (LiteRT files: litert.export_litert, litert.LiteModel)" if path.suffix == ".tflite" else ""
        raise ValueError(f"{path.name}: the name must end in {' or '.join(FORMATS)}{hint}")
    return ending


@contextmanager
def _without_optimizer(model: keras.Model) -> Iterator[None]:
    # not by include_optimizer=False, which has no effect on the .keras format
    kept = getattr(model, "optimizer", None)
    if kept is not None:
        model.optimizer = None
    try:
        yield
    finally:
        if kept is not None:
            model.optimizer = kept


def save(model: keras.Model, path: str | os.PathLike) -> Path:
    """Write the network to `path`, without the state of its training.

    Parameters
    ----------
    model : keras.Model
    path : path
        ``*.keras`` or ``*.weights.h5``; its folder exists. Written whole or not at all.

    Returns
    -------
    Path

    Raises
    ------
    ValueError
        If `model` is no Keras model, or the name ends otherwise.
    FileNotFoundError
        If the folder does not exist.

    Examples
    --------
    >>> model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(3)])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = save(model, Path(folder) / "small.keras")
    ...     path.name, load(path).output_shape
    ('small.keras', (None, 3))
    """
    if not isinstance(model, keras.Model):
        raise ValueError(f"model is a {type(model).__name__}: give a keras.Model")
    path = require_folder(path)
    ending = _format(path)
    with replacing(path) as beside, _without_optimizer(model):
        whole = beside.with_name(beside.name + ending)  # Keras insists on the ending
        try:
            if ending == ".keras":
                model.save(whole)
            else:
                model.save_weights(whole)
            os.replace(whole, beside)
        finally:
            whole.unlink(missing_ok=True)
    return path


def load(path: str | os.PathLike, *, into: keras.Model | None = None) -> keras.Model:
    """Read a network that :func:`save` wrote; it is not compiled.

    Parameters
    ----------
    path : path
        ``*.keras``, or ``*.weights.h5`` together with `into`.
    into : keras.Model, optional
        The network that takes the weights of a ``.weights.h5`` file.

    Returns
    -------
    keras.Model
        A new one, or `into`.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is damaged, of another architecture (`into` keeps its weights), or runs code (``Lambda``).
    """
    path = Path(path)
    ending = _format(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}: write it first, with save(model, {path.name!r})")
    if ending == ".keras" and into is not None:
        raise ValueError(f"{path.name} holds a whole network: leave `into` out")
    if ending == ".weights.h5" and into is None:
        raise ValueError(
            f"{path.name} holds weights only: say which network takes them, load(path, into=model)"
        )
    if into is not None:
        before = into.get_weights()
        try:
            into.load_weights(path)
        except OSError as error:
            raise ValueError(f"{path} is damaged or no HDF5 file: write it again ({error})") from error
        except ValueError as error:
            into.set_weights(before)  # Keras stops half-way
            raise ValueError(f"the weights in {path.name} are of another architecture: {error}") from error
        return into
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path} is damaged or no .keras file (those are zip archives): write it again")
    try:
        return keras.saving.load_model(path, compile=False)
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is damaged: write it again ({error})") from error


def sizes(source: str | os.PathLike | keras.Model, *, ending: str = ".keras") -> Sizes:
    """Bytes of a file, and of the same file compressed.

    Parameters
    ----------
    source : path or keras.Model
        Any file (``.keras``, ``.weights.h5``, ``.tflite``); or a network, which is written and removed again.
    ending : str
        In which format a network is written: ".keras", ".weights.h5" or ".tflite" (float32).

    Returns
    -------
    Sizes
        ``(plain, compressed)``, bytes.

    Raises
    ------
    FileNotFoundError
        If there is no such file.

    Examples
    --------
    >>> model = keras.Sequential([keras.layers.Input((784,)), keras.layers.Dense(300)])
    >>> plain, compressed = sizes(model, ending=".weights.h5")
    >>> 4 * 784 * 300 < plain < 4 * 784 * 300 + 20_000, compressed < plain
    (True, True)
    """
    if isinstance(source, keras.Model):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"model{ending}"
            if ending == ".tflite":
                from dca_lab.keras.litert import export_litert  # the converter is not needed for the others

                export_litert(source, path)
            else:
                save(source, path)
            return sizes(path)
    path = Path(source)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}: its bytes cannot be counted")
    squeeze, compressed = zlib.compressobj(9), 0
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            compressed += len(squeeze.compress(block))
    return Sizes(path.stat().st_size, compressed + len(squeeze.flush()))
