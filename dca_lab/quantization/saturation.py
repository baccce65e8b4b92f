"""The 16-bit trap: on a CPU without VNNI, two int8 products are added in 16 bits, and a large sum is cut off.

    pair = clamp(q_0 w_0 + q_1 w_1, -2^15, 2^15 - 1),      sum of all pairs in int32

The AVX2 instruction vpmaddubsw multiplies unsigned by signed bytes and adds the products of two neighbours
with saturation (Intel, "Intel 64 and IA-32 Architectures Software Developer's Manual", volume 2, PMADDUBSW). A
pair reaches 2 * 255 * 127 = 64,770, about twice what 16 bits hold. With 7-bit weights it cannot: 2 * 255 * 63 =
32,130 is below 2^15: that is `reduce_range`. Processors with VNNI (vpdpbusd) add four products in 32 bits and
have no such trap. The model here pairs neighbours along the row of the matrix product (see `products`); it is
*not* a cycle-exact model of a library, which may treat some layers (depthwise, say) with other instructions.
"""

from __future__ import annotations

import torch
from torch import Tensor

LOWEST, HIGHEST = -(2**15), 2**15 - 1


def saturating_product(levels: Tensor, weight: Tensor) -> Tensor:
    """Sums of products whose neighbouring pairs saturate at 16 bits.

    Parameters
    ----------
    levels : Tensor
        uint8, (P, K).
    weight : Tensor
        int8, (O, K). An odd K is filled up with a zero.

    Returns
    -------
    Tensor
        int32, (P, O).

    Examples
    --------
    >>> levels = torch.full((1, 4), 255, dtype=torch.uint8)
    >>> saturating_product(levels, torch.full((1, 4), 127, dtype=torch.int8)).item()  # exact: 129540
    65534
    >>> saturating_product(levels, torch.full((1, 4), 63, dtype=torch.int8)).item()  # exact as well
    64260
    """
    q, w = levels.to(torch.int32), weight.to(torch.int32)
    K = q.shape[1]
    total = torch.zeros(len(q), len(w), dtype=torch.int32)
    for k in range(0, K - 1, 2):
        pair = q[:, k : k + 1] * w[:, k]  # (P, O)
        pair += q[:, k + 1 : k + 2] * w[:, k + 1]
        total += pair.clamp_(LOWEST, HIGHEST)
    if K % 2:
        total += q[:, -1:] * w[:, -1]  # one product of 8 bits by 8 bits always fits
    return total


def can_saturate(weight: Tensor) -> Tensor:
    """Whether some input can make a pair of neighbours overflow 16 bits, for each row of a weight matrix.

    Parameters
    ----------
    weight : Tensor
        int8, (O, K), in the order of the product.

    Returns
    -------
    Tensor
        bool, (O,).

    Examples
    --------
    >>> can_saturate(torch.tensor([[127, 127], [127, -127], [63, 63]], dtype=torch.int8)).tolist()
    [True, False, False]
    """
    w = torch.nn.functional.pad(weight.to(torch.int32), (0, weight.shape[1] % 2))
    pairs = w.reshape(len(w), -1, 2)
    most, least = 255 * pairs.clamp(min=0).sum(-1), 255 * pairs.clamp(max=0).sum(-1)  # (O, K / 2)
    return ((most > HIGHEST) | (least < LOWEST)).any(-1)
