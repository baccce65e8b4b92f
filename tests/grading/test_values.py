"""Any value survives the wire bit for bit; any bytes give a value or BadValue."""

import json
import math
import struct

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from dca_lab.grading import blob as formats
from dca_lab.grading import values
from dca_lab.grading.values import BadValue, decode, encode

scalars = st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats() | st.text() | st.binary()
dtypes = st.sampled_from(list(formats.NUMPY.values()))
arrays = dtypes.flatmap(lambda code: npst.arrays(code, npst.array_shapes(min_dims=0, min_side=0, max_side=4)))
tensors = arrays.map(lambda array: torch.from_numpy(array.copy()))
trees = st.recursive(
    scalars | arrays | tensors,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text(), inner, max_size=4)
    ),
    max_leaves=12,
)


def same(a, b) -> bool:
    if type(a) is not type(b):
        return False
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, torch.Tensor):
        if a.dtype != b.dtype or a.shape != b.shape:
            return False
        raw = [tensor.reshape(-1).view(torch.uint8) for tensor in (a, b) if tensor.numel()]
        return not raw or torch.equal(*raw)
    if isinstance(a, float):
        return (math.isnan(a) and math.isnan(b)) or struct.pack("d", a) == struct.pack("d", b)
    return a == b


@settings(max_examples=150, deadline=None)
@given(trees)
def test_round_trip(value):
    assert same(decode(encode(value)), value)


@pytest.mark.parametrize("dtype", list(formats.TORCH))
def test_every_torch_type(dtype):
    tensor = (
        torch.arange(24, dtype=torch.uint8).view(formats.TORCH[dtype])
        if dtype != "BOOL"
        else torch.ones(3) > 0
    )
    assert same(decode(encode(tensor)), tensor)
    assert same(decode(encode(tensor[:0])), tensor[:0])


def test_what_becomes_a_plain_value():
    assert same(decode(encode([np.float32(0.5), np.int64(3), np.bool_(True)])), [0.5, 3, True])
    assert same(decode(encode(np.arange(3, dtype=">i4"))), np.arange(3, dtype="<i4"))
    assert same(decode(encode(torch.arange(6.0).reshape(2, 3).T)), torch.arange(6.0).reshape(2, 3).T)
    assert decode(encode({1: "a", None: "b", 0.5: "c"})) == {1: "a", None: "b", 0.5: "c"}
    parameter = torch.nn.Linear(2, 2).state_dict()
    assert list(decode(encode(parameter))) == ["weight", "bias"]
    decoded = decode(encode((np.zeros(2), torch.zeros(2))))
    decoded[0][0] = decoded[1][0] = 1  # both may be written to


class Liar(float):
    def __float__(self):
        raise RuntimeError("no")


@pytest.mark.parametrize(
    "value",
    [
        torch.nn.Linear(1, 1),
        {1, 2},
        lambda: 0,
        np.array([object()]),
        np.array(["text"]),
        torch.ones(2, 2).to_sparse(),
        "\ud800",
        {(1, 2): 3},
        {math.nan: 1},
        10**5000,
        Liar(3.0),
        [0.1] * 3 * 10**6,
        {str(number): 0 for number in range(1001)},
        {2**61 - 1: 0},
        {1e300: 0},
    ],
    ids=range(15),
)
def test_not_a_value(value):
    with pytest.raises(BadValue):
        encode(value)


def test_nested_too_deep():
    deep = []
    for _ in range(100_000):
        deep = [deep]
    itself = []
    itself.append(itself)
    for value in (deep, itself):
        with pytest.raises(BadValue, match="nested"):
            encode(value)
    while deep:  # taken apart by hand, level by level
        deep = deep.pop()


def frame(tree: bytes, blob: bytes = b"") -> bytes:
    return values.START.pack(values.MAGIC, len(tree)) + tree + blob


def blob(index: dict, data: bytes = b"") -> bytes:
    head = json.dumps(index).encode()
    return struct.pack("<Q", len(head)) + head + data


ZEROS = {"0": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        values.MAGIC,
        values.START.pack(values.MAGIC, 2**63),
        frame(b"[" * 100_000),
        frame(b"[" * 100_000 + b"]" * 100_000),
        frame(b"9" * 5000),
        frame(b'{"t":[],"t":[]}'),
        frame(b'{"d":[["a",1],["a",2]]}'),
        frame(b'{"d":[[1,1],[true,2]]}'),
        frame(b'{"d":[[[],1]]}'),
        frame(b'{"d":[[{"t":[]},1]]}'),
        frame(b'{"d":[1]}'),
        frame(b'{"d":[[2305843009213693951,1]]}'),
        frame(b'{"d":[%s]}' % b",".join(b"[%d,0]" % key for key in range(1001))),
        frame(b"[%s]" % b",".join([b"[%s]" % b",".join([b"0"] * 12_501)] * 4)),
        frame(b'{"x":[]}'),
        frame(b"{}"),
        frame(b'"\\ud800"'),
        frame("\u00e9".encode()),
        frame(b'{"A":"0"}'),
        frame(b'{"A":"1"}', blob(ZEROS, b"1234")),
        frame(b'[{"A":"0"},{"A":"0"}]', blob(ZEROS, b"1234")),
        frame(b'{"B":"0"}', blob(ZEROS, b"1234")),
        frame(b'{"A":"0"}', blob(ZEROS, b"123")),
        frame(b'{"A":"0"}', blob(ZEROS, b"12345")),
        frame(b'{"A":"0"}', struct.pack("<Q", 2**62)),
        frame(
            b'{"A":"0"}', blob({"0": {"dtype": "F32", "shape": [0, 2**62, 2**62], "data_offsets": [0, 0]}})
        ),
        frame(
            b'{"T":"0"}', blob({"0": {"dtype": "F32", "shape": [0, 2**62, 2**62], "data_offsets": [0, 0]}})
        ),
        frame(
            b'{"T":"0"}', blob({"0": {"dtype": "F32", "shape": [1] * 40, "data_offsets": [0, 4]}}, b"1234")
        ),
        frame(b'{"A":"0"}', blob({"0": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}, b"1234")),
    ],
)
def test_hostile_bytes(data):
    with pytest.raises(BadValue):
        decode(data)


def test_size_limit():
    data = encode(np.zeros(1000))
    with pytest.raises(BadValue, match="more than"):
        decode(data, limit=4000)


def value_or_bad(data: bytes) -> None:
    try:
        decode(data)
    except BadValue:
        pass


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), st.binary(max_size=200))
def test_any_bytes(tree, rest):
    value_or_bad(tree)
    value_or_bad(frame(tree, rest))
    value_or_bad(frame(b'{"T":"0"}', rest))


@settings(max_examples=300, deadline=None)
@given(trees, st.data())
def test_damaged_bytes(value, data):
    whole = bytearray(encode(value))
    for _ in range(data.draw(st.integers(1, 3))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    value_or_bad(bytes(whole))
    value_or_bad(bytes(whole[: data.draw(st.integers(0, len(whole)))]))


nodes = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.just("0"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("tdATBx"), inner, max_size=2),
)
entry = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "BF16", "BOOL", "F8_E8M0", "F4", "C64", "x"]),
        "shape": st.lists(st.integers(-1, 3) | st.just(2**63), max_size=3),
        "data_offsets": st.tuples(st.integers(-1, 9), st.integers(-1, 9)),
    }
)


@settings(max_examples=300, deadline=None)
@given(nodes, st.dictionaries(st.sampled_from(["0", "1"]), entry), st.binary(max_size=16))
def test_any_tree(tree, index, data):
    value_or_bad(frame(json.dumps(tree).encode(), blob(index, data)))
