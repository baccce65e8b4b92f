"""The IDX reader against published MD5 sums, a writer of the format, and every way a header can lie."""

import gzip
import hashlib
import lzma
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dca_lab import data
from dca_lab.data import _store
from dca_lab.data.vision import MNIST_FILES, parse_idx

# MD5 of the four raw files, as they were published long before this project.
MD5 = {
    "vision/train-images-idx3-ubyte.xz": "6bbc9ace898e44ae57da46a324031adb",
    "vision/train-labels-idx1-ubyte.xz": "a25bea736e30d166cdddb491f175f624",
    "vision/t10k-images-idx3-ubyte.xz": "2646ac647ad5339dbf082846283269ea",
    "vision/t10k-labels-idx1-ubyte.xz": "27ae3e4e09519cfbb04c329615203637",
}


def write_idx(array):
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def test_mnist_is_the_original():
    mnist = data.load("mnist")
    arrays = (mnist.x_train, mnist.y_train, mnist.x_test, mnist.y_test)
    assert [a.shape for a in arrays] == [(60000, 28, 28), (60000,), (10000, 28, 28), (10000,)]
    assert [str(a.dtype) for a in arrays] == ["uint8", "int64", "uint8", "int64"]
    for path, array in zip(MNIST_FILES, arrays, strict=True):
        # Written back in IDX, what was loaded has the bytes of the published file.
        assert hashlib.md5(write_idx(array.astype(np.uint8))).hexdigest() == MD5[path]


def test_fashion():
    fashion = data.load("fashion")
    assert fashion.x_train.shape == (12000, 28, 28) and fashion.x_test.shape == (4000, 28, 28)
    assert fashion.x_train.dtype == np.uint8 and fashion.y_train.dtype == np.int64
    assert np.bincount(fashion.y_train).tolist() == [1200] * 10
    assert np.bincount(fashion.y_test).tolist() == [400] * 10
    assert len({image.tobytes() for part in (fashion.x_train, fashion.x_test) for image in part}) == 16000
    # Trousers are narrow, bags are wide: class names sit on the right pictures.
    ink = {n: (fashion.x_train[fashion.y_train == i] > 50).mean() for i, n in enumerate(fashion.classes)}
    assert min(ink, key=ink.get) == "sandal" and ink["trouser"] < ink["shirt"] < ink["pullover"]


@settings(deadline=None, max_examples=50)
@given(hnp.arrays(np.uint8, hnp.array_shapes(max_dims=4, max_side=6, min_side=0)))
def test_idx_round_trip(array):
    read = parse_idx(write_idx(array))
    np.testing.assert_array_equal(read, array)
    assert read.dtype == np.uint8 and read.shape == array.shape


@settings(deadline=None, max_examples=50)
@given(st.binary(max_size=40))
def test_idx_refuses_or_reads_exactly(content):
    try:
        array = parse_idx(content)
    except ValueError:
        return
    assert write_idx(array) == content


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "two zero bytes"),
        (b"\x1f\x8b\x08\x00", "two zero bytes"),
        (bytes([0, 0, 0x0D, 1, 0, 0, 0, 1]) + b"1234", "0x0d"),
        (bytes([0, 0, 8, 0]), "0 dimensions"),
        (bytes([0, 0, 8, 3, 0, 0, 0, 1]), "3 dimensions"),
        (bytes([0, 0, 8, 1, 0, 0, 0, 3, 1, 2]), "needs 3 bytes"),
        (bytes([0, 0, 8, 1, 0, 0, 0, 1, 1, 2]), "needs 1 bytes"),
        # 2^32 wraps to 0 in 32 bits: the size must be computed without overflow.
        (bytes([0, 0, 8, 2, 0, 1, 0, 0, 0, 1, 0, 0]), "needs 4294967296 bytes"),
    ],
)
def test_idx_headers_that_lie(content, message):
    with pytest.raises(ValueError, match=message):
        parse_idx(content, name="some file")


def test_wrong_content_behind_a_right_checksum(tmp_path):
    (tmp_path / "vision").mkdir()
    lines = []
    for path in MNIST_FILES:
        raw = lzma.compress(b"not IDX at all")
        (tmp_path / path).write_bytes(raw)
        lines.append(f"{hashlib.sha256(raw).hexdigest()}  {path}\n")
    (tmp_path / _store.TABLE).write_text("".join(lines), encoding="utf-8")
    with pytest.raises(data.DataError, match="train-images.*two zero bytes.*git checkout"):
        data.load("mnist", root=tmp_path)


def test_unpack_reads_both_containers(tmp_path):
    for name, pack in (("a.xz", lzma.compress), ("a.gz", gzip.compress)):
        raw = pack(b"content")
        (tmp_path / name).write_bytes(raw)
        (tmp_path / _store.TABLE).write_text(f"{hashlib.sha256(raw).hexdigest()} *{name}\n", encoding="utf-8")
        assert _store.unpack(tmp_path, name) == b"content"
