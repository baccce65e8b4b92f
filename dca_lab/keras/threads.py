"""How many cores TensorFlow computes on; on one, a run repeats bit for bit.

A sum that two threads share is added up in another order than a sum of one thread, and float addition is not
associative: the same notebook ends with other weights on two cores than on one. One thread is the same everywhere,
and leaves the other cores to the other notebooks. TensorFlow has two pools: *intra-op* (one operation split over
threads) and *inter-op* (several operations at once). Both are made with the first tensor and stay.

`OMP_NUM_THREADS`, which torch and NumPy obey, means nothing to TensorFlow. This room hands it on: whoever sets it
(``make`` does, to 1) has it for all three.

What this file is *not*: a promise over machines. A processor with other vector instructions rounds differently.
"""

from __future__ import annotations

import os

import tensorflow as tf


def follow_omp() -> None:
    """Give TensorFlow's pools the number in ``OMP_NUM_THREADS``, if there is one and nothing else was said.

    Called when `dca_lab.keras` is imported.

    Examples
    --------
    >>> follow_omp()
    """
    if (number := os.environ.get("OMP_NUM_THREADS", "")).isdigit():
        os.environ.setdefault("TF_NUM_INTRAOP_THREADS", number)
        os.environ.setdefault("TF_NUM_INTEROP_THREADS", number)


def use_threads(number: int) -> None:
    """Compute on `number` threads: the first line of a notebook, before any tensor exists.

    Parameters
    ----------
    number : int
        At least 1. With 1, training gives the same weights whatever the number of cores, once weights and the order of
        the batches have a seed: ``keras.utils.set_random_seed(0)``.

    Raises
    ------
    ValueError
        If `number` is not a positive integer.
    RuntimeError
        If TensorFlow has computed already on another number of threads: they cannot be changed any more.

    Examples
    --------
    In the first cell::

        from dca_lab.keras import use_threads
        use_threads(1)
    """
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        raise ValueError(f"number={number!r}: give the number of threads, 1 or more")
    try:
        tf.config.threading.set_intra_op_parallelism_threads(number)
        tf.config.threading.set_inter_op_parallelism_threads(number)
    except RuntimeError as error:
        raise RuntimeError(
            "TensorFlow has computed already and keeps its threads: restart the kernel and call "
            f"use_threads({number}) in the first cell, before any tensor, model or data set"
        ) from error
