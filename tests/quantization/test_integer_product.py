"""Oracle: 64-bit integers."""

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dca_lab.quantization import _integer_product
from dca_lab.quantization._integer_product import integer_product


@pytest.mark.parametrize("exact", [None, False])
def test_it_is_exact(exact, monkeypatch):
    if exact is not None:  # as on a processor whose kernel saturates
        monkeypatch.setattr(_integer_product, "_kernel_is_exact", lambda: exact)

    @settings(deadline=None, max_examples=30)
    @example(3, 1, 5, 0, 0)  # one column: torch's kernel is wrong about it
    @given(
        st.integers(1, 40),
        st.integers(1, 70),
        st.integers(1, 40),
        st.sampled_from([0, -128, 127]),
        st.integers(0, 9),
    )
    def check(M, K, N, level, seed):
        generator = torch.Generator().manual_seed(seed)
        x = torch.randint(-128, 128, (M, K), generator=generator, dtype=torch.int8)
        weight = torch.randint(-127, 128, (N, K), generator=generator, dtype=torch.int8)
        if level:  # the largest sums there are
            x, weight = torch.full_like(x, level), torch.full_like(weight, 127)
        got = integer_product(x, weight)
        assert got.dtype == torch.int32 and torch.equal(got.long(), x.long() @ weight.long().T)

    check()


@pytest.mark.parametrize("kernel", ["saturates", "is gone"])
def test_a_wrong_kernel_is_noticed(kernel, monkeypatch):
    def product(x, weight):
        if kernel == "is gone":
            raise RuntimeError("not implemented")
        return (x.int() @ weight.int()).clamp(-(2**15), 2**15 - 1)

    monkeypatch.setattr(torch, "_int_mm", product)
    assert _integer_product._kernel_is_exact.__wrapped__() is False
