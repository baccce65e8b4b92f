"""What the door lets in, and what it says to the rest."""

import numpy as np
import pytest
import torch

from dca_lab.quantization._checks import check_bits, checked_grid, checked_range, checked_values


def test_a_range_comes_back_in_float64_and_one_shape():
    low, high = checked_range(-1.0, torch.tensor([[1.0], [2.0]]))
    assert low.dtype == high.dtype == torch.float64 and low.shape == high.shape == (2, 1)


@pytest.mark.parametrize("ends", [(float("nan"), 1.0), (0.0, float("inf")), (-1e39, 0.0), (1.0, 0.0)])
def test_a_range_that_is_none(ends):
    with pytest.raises(ValueError, match="x_m"):
        checked_range(*ends)


def test_values_lose_their_gradient_and_nothing_else():
    x = torch.ones(3, requires_grad=True)
    assert not checked_values(x).requires_grad and torch.equal(checked_values(x), x)
    with pytest.raises(ValueError, match="2 of 3 values"):
        checked_values(torch.tensor([1.0, float("nan"), float("-inf")]))


def test_a_grid_must_stretch_to_the_values():
    scale, zero_point = checked_grid(torch.full((3, 1), 0.5), 2, torch.Size([3, 4]))
    assert scale.dtype == torch.float32 and zero_point.dtype == torch.int32
    with pytest.raises(ValueError, match=r"scale of shape \(3,\) does not broadcast"):
        checked_grid(torch.ones(3), 0, torch.Size([3, 4]))
    with pytest.raises(ValueError, match="must be an integer"):
        checked_grid(1.0, 0.5, torch.Size([3]))
    with pytest.raises(ValueError, match="positive and finite"):
        checked_grid(0.0, 0, torch.Size([3]))


@pytest.mark.parametrize("bits", [1, 9, 4.0, True, "4", None])
def test_bits_that_are_none(bits):
    with pytest.raises(ValueError, match=r"^weight_bits=.* for layer 'a': give a whole number from 2 to 8$"):
        check_bits("weight_bits", bits, "for layer 'a'")


def test_bits_that_are_some():
    assert [check_bits("bits", bits) for bits in range(2, 9)] == [*range(2, 9)]
    assert type(check_bits("bits", np.int64(8))) is int and check_bits("bits", 1, lowest=1) == 1
