"""The one error of quantization: a network, a layer or data that cannot be quantized, and what to do about it.

A `ValueError`, raised before any work is done. It is *not* used for mistakes in an argument's type or range
that have nothing to do with the network: those are plain `ValueError`.
"""

from __future__ import annotations


class QuantizationError(ValueError):
    """Names the layer that cannot be quantized and says what to write instead."""
