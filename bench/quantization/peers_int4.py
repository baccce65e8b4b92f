"""Round-to-nearest weights of two other libraries, to be compared with ours number by number.

Both are optional: they are named in the extra ``bench`` and imported when a function here is called. Each function
takes a weight (O, I) and returns the float32 weights that the library's codes and scales stand for. Neither rounds
its scales to float16 at this point (nncf does when it stores them), so ours is compared with
``scale_dtype=torch.float32``.

Conventions found in their code. Asymmetric: both widen the range to contain 0, scale = (max - min) / (2^b - 1),
zero point = round(-min / scale); neural-compressor computes round(w / scale) + zero point, as we do, nncf
round(w / scale + zero point), which differs where w / scale is half an integer. Symmetric: neural-compressor has
scale = max|w| / (2^(b-1) - 1), as we do; nncf has scale = -+max|w| / 2^(b-1), whose sign puts the larger end on the
level -2^(b-1): another grid, with one more level.
"""

from __future__ import annotations

import os

from torch import Tensor

from dca_lab.deploy.quiet import quiet

_INSTALL = "pip install -c constraints.txt -e '.[bench]'"


def rtn_with_nncf(weight: Tensor, bits: int = 4, group_size: int = 64, symmetric: bool = False) -> Tensor:
    """Weights (O, I) after nncf's integer weight compression: 4 or 8 bits (symmetric also 2, 3), groups divide I."""
    os.environ.setdefault("NNCF_CI", "1")  # or importing it sends usage statistics
    with quiet():
        try:
            from nncf.parameters import CompressWeightsMode
            from nncf.quantization.algorithms.weight_compression.config import WeightCompressionConfig
            from nncf.quantization.algorithms.weight_compression.weight_lowering import (
                integer_quantize_dequantize_weight,
            )
            from nncf.tensor import Tensor as NncfTensor
        except ImportError as error:
            raise ImportError(f"nncf is not installed: {_INSTALL}") from error
        name = f"INT{bits}_{'SYM' if symmetric else 'ASYM'}"
        if name not in CompressWeightsMode.__members__:
            raise ValueError(f"nncf has no {name}: 4 and 8 bits, symmetric also 2 and 3")
        config = WeightCompressionConfig(mode=CompressWeightsMode[name], group_size=group_size)
        # In groups already, (O, G, g): nncf then keeps its hands off the shape.
        groups = weight.detach().float().unflatten(1, (-1, group_size)).clone()
        config.group_size = -1
        return integer_quantize_dequantize_weight(NncfTensor(groups), config, 2).data.reshape(weight.shape)


def rtn_with_neural_compressor(
    weight: Tensor,
    bits: int = 4,
    group_size: int = 64,
    symmetric: bool = False,
) -> Tensor:
    """Weights (O, I) after neural-compressor's round-to-nearest: 2 to 8 bits, any group size."""
    with quiet():
        try:
            from neural_compressor.torch.algorithms.weight_only.utility import quant_tensor
        except ImportError as error:
            raise ImportError(f"neural-compressor-pt is not installed: {_INSTALL}") from error
        # It works in place.
        return quant_tensor(
            weight.detach().float().clone(),
            bits=bits,
            group_size=group_size,
            scheme="sym" if symmetric else "asym",
            dtype="int",
            full_range=False,
        )
