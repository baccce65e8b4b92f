"""Medicine: shoulder exercises felt by a smart watch, and cells measured under a microscope.

Burns, Leung, Hardisty, Whyne, Henry, McLachlin (2018), "Shoulder physiotherapy exercise recognition: machine
learning the inertial signals from a smartwatch". Hill, LaPan, Li, Haney (2007), "Impact of image segmentation
on high-content screening data quality for SK-BR-3 cells". Neither set says anything about a patient in front
of you.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np

from dca_lab.data._store import unpack
from dca_lab.data.dataset import Dataset, take

REHAB_FILES = ("medical/watch_rehab_50hz.npz.xz",)
CELLS_FILES = ("medical/cells.csv.gz",)
TEST_SUBJECTS = (8, 9, 10)


def load_rehab(root: Path) -> Dataset:
    """Seven shoulder exercises: x float32 (N, 2618, 6) at 50 Hz, y int64 exercise.

    Channels (``channels``): acceleration ax, ay, az, about 1 at rest and so in units of gravity, and rotation
    rate wx, wy, wz. A recording ends at ``lengths_*`` (int64, samples); the rest of its row is zero. Split by
    subject: 1 to 7 train, 8 to 10 test. Every subject does every exercise with each arm once (``subject_*``,
    ``side_*``).
    """
    with np.load(io.BytesIO(unpack(root, REHAB_FILES[0])), allow_pickle=False) as arrays:
        data = (arrays["data"] * arrays["scale"]).astype(np.float32)  # (sum of lengths, 6)
        lengths, y, subject, side = (arrays[k].astype(np.int64) for k in ("lengths", "y", "subject", "side"))
        channels, classes = arrays["channels"], tuple(arrays["classes"].tolist())
    x = np.zeros((len(lengths), lengths.max(), data.shape[1]), dtype=np.float32)  # (N, T, C)
    for row, recording, length in zip(x, np.split(data, np.cumsum(lengths)[:-1]), lengths, strict=True):
        row[:length] = recording
    parts = take(np.isin(subject, TEST_SUBJECTS), x=x, y=y, lengths=lengths, subject=subject, side=side)
    return Dataset(
        name="rehab",
        **{key: parts.pop(key) for key in ("x_train", "y_train", "x_test", "y_test")},
        classes=classes,
        extras={**parts, "channels": channels, "rate": np.array(50)},
        licence="BSD-3-Clause (David M. Burns)",
        source="smart-watch recordings of shoulder exercises, from the Python package seglearn 1.2.5",
    )


def load_cells(root: Path) -> Dataset:
    """Cells in microscopy images: x float64 (N, 56) features, y int64: 1 where the outline was found.

    The split is the one of the study, in the file: 1,009 train, 1,010 test; no row occurs twice. ``features``
    names the columns. Their scales differ by six orders of magnitude: standardise.
    """
    rows = list(csv.reader(io.StringIO(unpack(root, CELLS_FILES[0]).decode("utf-8"))))
    header, rows = rows[0], rows[1:]
    codes = ("PS", "WS")
    parts = take(
        np.array([row[0] == "Test" for row in rows]),
        x=np.array([[float(value) for value in row[2:]] for row in rows]),
        y=np.array([codes.index(row[1]) for row in rows], dtype=np.int64),
    )
    return Dataset(
        name="cells",
        **parts,
        classes=("poorly segmented", "well segmented"),
        extras={"features": np.array(header[2:])},
        licence="MIT (the package)",
        source="Hill et al. (2007), from the Debian package r-cran-modeldata 1.1.0",
    )
