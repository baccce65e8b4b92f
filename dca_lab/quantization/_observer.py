"""What all observers share: the checks at the door, and the refusal to name a range before anything was seen."""

from __future__ import annotations

from torch import Tensor

from dca_lab.quantization.affine import levels


class Observer:
    """Watches the values of one activation, batch by batch, and names the range that its grid shall cover.

    Parameters
    ----------
    bits : int
        Bits of the grid; only the observers that search depend on it.
    symmetric : bool
        Whether the grid will be symmetric.
    """

    def __init__(self, *, bits: int = 8, symmetric: bool = False) -> None:
        levels(bits, signed=symmetric, symmetric=symmetric)  # an impossible grid is refused here
        self.bits = int(bits)
        self.symmetric = symmetric
        self._seen = False

    def update(self, x: Tensor) -> None:
        """Take in one batch, of any shape.

        Raises
        ------
        ValueError
            If ``x`` is empty, or holds NaN or infinity.
        """
        x = x.detach()
        if x.numel() == 0:
            raise ValueError(f"a calibration batch of shape {tuple(x.shape)} holds no value")
        low, high = (float(end) for end in x.aminmax())  # NaN comes through; so does infinity
        if not (low - low == 0 == high - high):
            raise ValueError(
                "a calibration batch holds NaN or infinity: look at the layer in front, or at the data"
            )
        self._update(x, low, high)
        self._seen = True

    def range(self) -> tuple[float, float]:
        """The range, ``x_min <= x_max``: arguments for :func:`dca_lab.quantization.affine.affine_params`.

        Raises
        ------
        ValueError
            Before the first batch.
        """
        if not self._seen:
            raise ValueError(f"{type(self).__name__} has seen no data: calibrate with at least one batch")
        return self._range()

    def _update(self, x: Tensor, low: float, high: float) -> None:
        raise NotImplementedError

    def _range(self) -> tuple[float, float]:
        raise NotImplementedError
