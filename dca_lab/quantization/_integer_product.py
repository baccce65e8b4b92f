"""A matrix product of int8 by int8 that accumulates in int32, exactly, on every processor.

``torch._int_mm`` uses the processor's 8-bit instructions where it has them. Not all of these are exact: the
older ones add pairs of products in 16 bits and saturate (see `integer`). So the first call multiplies the
worst matrices there are and looks: where the answer is wrong, the product is computed by torch's int32 loop,
which is slow and right. It is *not* fast everywhere; the fast execution is ONNX Runtime's.
"""

from functools import cache

import torch
from torch import Tensor


def integer_product(x: Tensor, weight: Tensor) -> Tensor:
    """``x @ weight.T`` in int32, shape (M, O), of x (M, I) and weight (O, I), both int8.

    Examples
    --------
    >>> integer_product(torch.full((1, 3), -128, dtype=torch.int8), torch.full((2, 3), 127, dtype=torch.int8))
    tensor([[-48768, -48768]], dtype=torch.int32)
    """
    # with one column the kernel (torch 2.13) takes rows for columns and reads memory that is not the matrix's
    if x.shape[1] > 1 and _kernel_is_exact():
        return torch._int_mm(x, weight.t())
    return x.to(torch.int32) @ weight.t().to(torch.int32)


@cache
def _kernel_is_exact() -> bool:
    """Whether ``torch._int_mm`` is right about the matrices whose products are largest."""
    weight = torch.full((16, 256), 127, dtype=torch.int8)
    for level in (-128, 127):
        x = torch.full((16, 256), level, dtype=torch.int8)
        for rows in (1, 16):  # one row goes through another kernel than many
            try:
                if not bool((torch._int_mm(x[:rows], weight.t()) == level * 127 * 256).all()):
                    return False
            except (AttributeError, RuntimeError):  # private to torch: it may go
                return False
    return True
