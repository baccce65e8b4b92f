"""Packed bytes against Python's big integers and numpy's packbits."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dca_lab.quantization.packing import pack, packed_size, unpack


@st.composite
def codes(draw):
    bits = draw(st.integers(1, 8))
    return bits, draw(st.lists(st.integers(0, 2**bits - 1), max_size=70))


@given(codes())
@settings(deadline=None, max_examples=50)
def test_the_bytes_are_those_of_one_big_integer(given_codes):
    bits, values = given_codes
    number = sum(value << (bits * i) for i, value in enumerate(values))
    expected = number.to_bytes(-(-len(values) * bits // 8), "little")
    assert bytes(pack(torch.tensor(values, dtype=torch.uint8), bits).tolist()) == expected


@given(codes())
@settings(deadline=None, max_examples=50)
def test_numpy_packs_the_same_and_nothing_is_lost(given_codes):
    bits, values = given_codes
    array = np.array(values, dtype=np.uint8)
    each = np.unpackbits(array[:, None], axis=1, bitorder="little")[:, :bits]
    packed = pack(torch.from_numpy(array), bits)
    np.testing.assert_array_equal(packed.numpy(), np.packbits(each, bitorder="little"))
    assert len(packed) == packed_size(len(values), bits) == -(-len(values) * bits // 8)
    assert unpack(packed, bits, len(values)).tolist() == values


def test_int4_two_a_byte_low_nibble_first_and_int3_eight_in_three_bytes():
    assert pack(torch.tensor([0xA, 0x5, 0xF], dtype=torch.uint8), 4).tolist() == [0x5A, 0x0F]
    assert len(pack(torch.zeros(8, dtype=torch.uint8), 3)) == 3
    assert len(pack(torch.zeros(9, dtype=torch.uint8), 3)) == 4


def test_a_matrix_is_read_row_by_row_also_when_transposed_in_memory():
    values = torch.arange(12, dtype=torch.uint8).view(3, 4)
    assert torch.equal(pack(values.T, 4), pack(values.T.contiguous().flatten(), 4))
    assert torch.equal(unpack(pack(values, 4), 4, 12).view(3, 4), values)


def test_the_input_is_left_alone():
    values = torch.arange(16, dtype=torch.uint8)
    packed = pack(values, 8)
    packed.zero_()
    assert values.tolist() == list(range(16))


@pytest.mark.parametrize("bits", range(1, 8))
def test_a_value_that_does_not_fit_is_refused(bits):
    pack(torch.tensor([2**bits - 1], dtype=torch.uint8), bits)
    with pytest.raises(ValueError, match=f"{2**bits} does not fit into {bits} bits"):
        pack(torch.tensor([0, 2**bits], dtype=torch.uint8), bits)


@pytest.mark.parametrize("bits", [0, 9, -1, 4.0, True, "4"])
def test_other_widths_are_refused(bits):
    for call in (lambda: pack(torch.zeros(4, dtype=torch.uint8), bits), lambda: packed_size(4, bits)):
        with pytest.raises(ValueError, match="from 1 to 8"):
            call()


def test_wrong_types_and_lengths_are_refused():
    with pytest.raises(ValueError, match="uint8, not torch.int64"):
        pack(torch.zeros(4, dtype=torch.int64), 4)
    with pytest.raises(ValueError, match="not list"):
        pack([1, 2], 4)
    packed = pack(torch.zeros(9, dtype=torch.uint8), 4)
    for count in (8, 11):
        with pytest.raises(ValueError, match=f"{count} values of 4 bits take"):
            unpack(packed, 4, count)
    with pytest.raises(ValueError, match="count=-1"):
        packed_size(-1, 4)
