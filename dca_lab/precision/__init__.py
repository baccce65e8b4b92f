"""Numbers of 16 bits: what rounding to them costs, and how a network is trained with them all the same.

``formats`` says what float16 and bfloat16 can hold, ``cast`` rounds to them by hand, ``loss_scale`` keeps small
gradients from vanishing, ``mixed`` trains with 16-bit arithmetic and float32 weights, ``memory`` counts what that
saves.
"""

from dca_lab.precision.cast import decode, encode, round_to, vanishing
from dca_lab.precision.formats import BFLOAT16, FLOAT16, Format, ulp
from dca_lab.precision.loss_scale import LossScaler
from dca_lab.precision.memory import SavedBytes, saved_bytes
from dca_lab.precision.mixed import MixedPrecision, fit_mixed

__all__ = [
    "BFLOAT16",
    "FLOAT16",
    "Format",
    "LossScaler",
    "MixedPrecision",
    "SavedBytes",
    "decode",
    "encode",
    "fit_mixed",
    "round_to",
    "saved_bytes",
    "ulp",
    "vanishing",
]
