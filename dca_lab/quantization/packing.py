"""Codes of b bits, packed with no gap: two int4 a byte, eight int3 in three bytes.

    eight values of b bits are one word of b bytes:   word = sum_i value_i * 2^(b i)

The first value has the lowest bits and the first byte is the lowest of the word, so two int4 values lie low
nibble first, the order that ONNX Runtime's MatMulNBits reads as well. n values take ceil(n b / 8) bytes.
This is *not* entropy coding: every value costs b bits, however often it occurs. That is the matter of
S. Han, H. Mao, W. J. Dally, "Deep Compression: Compressing Deep Neural Networks with Pruning, Trained
Quantization and Huffman Coding", ICLR, 2016.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from dca_lab.quantization._checks import check_bits


def packed_size(count: int, bits: int) -> int:
    """Bytes that `count` values of `bits` bits take: ceil(count * bits / 8).

    Examples
    --------
    >>> packed_size(9, 4), packed_size(8, 3)
    (5, 3)
    """
    check_bits("bits", bits, lowest=1)
    if count < 0:
        raise ValueError(f"count={count}: a number of values is 0 or more")
    return -(-count * bits // 8)


def pack(values: Tensor, bits: int) -> Tensor:
    """Packs small integers into bytes.

    Parameters
    ----------
    values : Tensor
        uint8, any shape, read in row order; each in 0 .. 2^bits - 1.
    bits : int
        1 to 8.

    Returns
    -------
    Tensor
        uint8 of shape (ceil(n bits / 8),); bits left over in the last byte are 0.

    Raises
    ------
    ValueError
        When a value does not fit into `bits` bits, the dtype is not uint8, or bits is not in 1 to 8.

    Examples
    --------
    >>> pack(torch.tensor([1, 2, 15], dtype=torch.uint8), 4).tolist()  # 0x21, 0x0f
    [33, 15]
    >>> pack(torch.zeros(3, 8, dtype=torch.uint8), 3).shape
    torch.Size([9])
    """
    check_bits("bits", bits, lowest=1)
    _check_bytes(values, "values")
    if values.numel() and int(values.max()) >= 1 << bits:
        raise ValueError(
            f"the value {int(values.max())} does not fit into {bits} bits (at most {(1 << bits) - 1}): "
            "clamp it, or pack with more bits",
        )
    count = values.numel()
    eights = F.pad(values.flatten(), (0, -count % 8)).view(-1, 8)
    words = _join(eights, bits)
    return _split(words, 8, bits).flatten()[: packed_size(count, bits)].clone()


def unpack(packed: Tensor, bits: int, count: int) -> Tensor:
    """The values that `pack` packed.

    Parameters
    ----------
    packed : Tensor
        uint8 of shape (ceil(count bits / 8),).
    bits : int
        1 to 8.
    count : int
        How many values there are; the bytes alone do not tell.

    Returns
    -------
    Tensor
        uint8 of shape (count,).

    Raises
    ------
    ValueError
        When the number of bytes is not the one that `count` values take.

    Examples
    --------
    >>> unpack(torch.tensor([33, 15], dtype=torch.uint8), 4, 3).tolist()
    [1, 2, 15]
    """
    _check_bytes(packed, "packed")
    if packed.ndim != 1 or len(packed) != packed_size(count, bits):
        raise ValueError(
            f"{count} values of {bits} bits take {packed_size(count, bits)} bytes in one dimension, "
            f"not a tensor of shape {tuple(packed.shape)}",
        )
    words = _join(F.pad(packed, (0, -len(packed) % bits)).view(-1, bits), 8)
    return _split(words, bits, 8).flatten()[:count].clone()


def _join(parts: Tensor, bits: int) -> Tensor:
    """Rows of small integers (N, k) -> words (N,), int64; part i takes the bits from i * bits on."""
    words = torch.zeros(len(parts), dtype=torch.int64)
    for i in range(parts.shape[1]):
        words |= parts[:, i].long() << (bits * i)
    return words


def _split(words: Tensor, bits: int, count: int) -> Tensor:
    """Words (N,) -> their parts (N, count), uint8. A 64-bit word may be negative; the mask hides the sign."""
    mask = (1 << bits) - 1
    return torch.stack([((words >> (bits * i)) & mask).to(torch.uint8) for i in range(count)], dim=1)


def _check_bytes(values: Tensor, name: str) -> None:
    if not isinstance(values, Tensor) or values.dtype != torch.uint8:
        found = values.dtype if isinstance(values, Tensor) else type(values).__name__
        raise ValueError(f"{name} must be a tensor of dtype torch.uint8, not {found}")
