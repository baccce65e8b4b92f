"""The numbers in a TensorBoard log, without TensorBoard.

``keras.callbacks.TensorBoard`` appends *events* to a file: records (a length, two checksums, a protocol buffer) of a
step, a tag such as ``epoch_loss`` and a tensor. Each run writes into a folder of its own, ``train`` and
``validation``. Read back they are arrays, from which a figure is a line of matplotlib.

What this file is *not*: a reader of the graphs, histograms and profiles that such a file may hold besides.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf


def scalars(folder: str | os.PathLike) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Every scalar under `folder`.

    Parameters
    ----------
    folder : path
        What was given to ``keras.callbacks.TensorBoard``; it is searched with all folders in it.

    Returns
    -------
    dict of str to (ndarray of int64, ndarray of float64)
        ``"train/epoch_loss"``: run and tag, to (steps, values), by rising step. Where a run was written twice into one
        folder, the later value of a step counts. A run that lies in `folder` itself has no prefix.

    Raises
    ------
    FileNotFoundError
        If there is no such folder, or no log in it.
    ValueError
        If a file is damaged. A last record that is cut off (the program was killed) is left out instead.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with tf.summary.create_file_writer(folder).as_default():
    ...         for step in range(3):
    ...             _ = tf.summary.scalar("loss", 1 / 2**step, step=step)
    ...     scalars(folder)
    {'loss': (array([0, 1, 2]), array([1.  , 0.5 , 0.25]))}
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}: give the one of keras.callbacks.TensorBoard")
    files = sorted(folder.rglob("*tfevents*"))  # by name, which holds the time: later files win
    if not files:
        raise FileNotFoundError(f"there is no TensorBoard log (*tfevents*) in {folder}: has training begun?")
    found: dict[str, dict[int, float]] = {}
    for file in files:
        run = file.parent.relative_to(folder).as_posix()
        for step, tag, value in _scalars_in(file):
            found.setdefault(tag if run == "." else f"{run}/{tag}", {})[step] = value
    return {
        tag: (np.array(sorted(values)), np.array([values[step] for step in sorted(values)]))
        for tag, values in sorted(found.items())
    }


def _scalars_in(file: Path) -> Iterator[tuple[int, str, float]]:
    for record in _records(file):
        event = tf.compat.v1.Event.FromString(record)
        for value in event.summary.value:
            if value.HasField("simple_value"):  # written by TensorFlow 1 and by torch
                yield event.step, value.tag, value.simple_value
            elif value.metadata.plugin_data.plugin_name == "scalars":
                yield event.step, value.tag, float(tf.make_ndarray(value.tensor))


def _records(file: Path) -> Iterator[bytes]:
    try:
        for record in tf.data.TFRecordDataset(str(file)):
            yield record.numpy()
    except tf.errors.DataLossError as error:
        if "truncated" not in error.message:
            raise ValueError(f"{file} is damaged: {error.message}") from error
