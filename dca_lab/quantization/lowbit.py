r"""One bit and a half: weights that are only a sign, or a sign or nothing, times one number.

The far end of the same map: a level is -1, 0 or 1 and the scale is :math:`\alpha`. For given codes :math:`c` the best
scale is the projection :math:`\alpha = \langle w, c\rangle / \langle c, c\rangle`, which leaves the error
:math:`\|w\|^2 - \langle w, c\rangle^2 / \langle c, c\rangle`. So the codes shall make that quotient large:

- *binary* (no zero): :math:`c = \mathrm{sign}(w)`, hence :math:`\alpha = \mathrm{mean}|w|`: optimal.
- *ternary*: the :math:`k` largest magnitudes keep their sign, hence the error depends on
  :math:`(\sum_{top\,k} |w|)^2 / k` alone. Sorting finds the best :math:`k` exactly; the rule of thumb keeps what exceeds
  :math:`0.7\,\mathrm{mean}|w|`.

M. Rastegari, V. Ordonez, J. Redmon, A. Farhadi, "XNOR-Net: ImageNet Classification Using Binary Convolutional Neural
Networks", ECCV 2016. F. Li, B. Zhang, B. Liu, "Ternary Weight Networks", arXiv:1605.04711, 2016.

What this file is *not*: training. A network made binary after training is lost; trained so, it works (see the
straight-through estimator). Neither does a binary weight have a level for 0, which affine grids always have.
"""

from __future__ import annotations

from torch import Tensor

from dca_lab.quantization._checks import checked_values


def _rows(weight: Tensor, axis: int | None) -> tuple[Tensor, tuple[int, ...]]:
    """One row (float64) for each part that has its own scale, and the shape in which scales broadcast."""
    if weight.numel() == 0:
        raise ValueError(f"a weight of shape {tuple(weight.shape)} holds no value")
    values = checked_values(weight).double()
    if axis is None:
        return values.reshape(1, -1), (1,) * weight.dim()
    if not -weight.dim() <= axis < weight.dim():
        raise ValueError(f"axis {axis} is not an axis of a weight of shape {tuple(weight.shape)}")
    axis %= weight.dim()
    shape = tuple(size if d == axis else 1 for d, size in enumerate(weight.shape))
    return values.movedim(axis, 0).reshape(weight.shape[axis], -1), shape


def binarize(weight: Tensor, *, axis: int | None = 0) -> tuple[Tensor, Tensor]:
    """The signs of the weights and the one scale a channel with the least squared error, mean(|w|).

    Parameters
    ----------
    weight : Tensor
        (O, I), (O, I, kh, kw), ...
    axis : int or None
        The axis with one scale for each entry; ``None``: one scale for the tensor.

    Returns
    -------
    codes : Tensor, int8
        -1 or 1 (a zero weight becomes 1), shape of ``weight``.
    scale : Tensor, float32
        Broadcasts against ``weight``; 0 for a channel of zeros. ``codes * scale`` is the approximation.

    Raises
    ------
    ValueError
        If the weight is empty, holds NaN or infinity, or has no such axis.

    Examples
    --------
    >>> import torch
    >>> codes, scale = binarize(torch.tensor([[1.0, -3.0], [0.5, 0.5]]))
    >>> codes.tolist(), scale.tolist()
    ([[1, -1], [1, 1]], [[2.0], [0.5]])
    """
    rows, shape = _rows(weight, axis)
    codes = (weight.detach() >= 0).char() * 2 - 1
    return codes, rows.abs().mean(dim=1).reshape(shape).float()


def ternarize(weight: Tensor, *, axis: int | None = 0, threshold: str = "mean") -> tuple[Tensor, Tensor]:
    """-1, 0 or 1 for each weight, and one scale a channel: the mean magnitude of those that are kept.

    Parameters
    ----------
    weight, axis
        As for :func:`binarize`.
    threshold : {"mean", "exact"}
        ``"mean"``: keep what exceeds 0.7 mean(|w|), the rule of Ternary Weight Networks. ``"exact"``: the threshold
        with the least squared error, by sorting.

    Returns
    -------
    codes : Tensor, int8
        Shape of ``weight``.
    scale : Tensor, float32
        Broadcasts against ``weight``; 0 for a channel of zeros.

    Raises
    ------
    ValueError
        As for :func:`binarize`, and for an unknown threshold.

    Examples
    --------
    >>> import torch
    >>> codes, scale = ternarize(torch.tensor([[4.0, -2.0, 0.1, -0.1]]))
    >>> codes.tolist(), scale.tolist()
    ([[1, -1, 0, 0]], [[3.0]])
    """
    if threshold not in ("mean", "exact"):
        raise ValueError(f"threshold must be 'mean' or 'exact', got {threshold!r}")
    rows, shape = _rows(weight, axis)
    size = rows.abs()
    if threshold == "mean":
        keep = size > 0.7 * size.mean(dim=1, keepdim=True)
    else:
        ordered = size.sort(dim=1, descending=True).values
        count = (ordered > -1).cumsum(dim=1)  # 1, 2, 3, ...
        gain = ordered.cumsum(dim=1) ** 2 / count
        # The best set never parts equal magnitudes, so its smallest member is a threshold.
        keep = size >= ordered.gather(1, gain.argmax(dim=1, keepdim=True))
    scale = (size * keep).sum(dim=1) / keep.sum(dim=1).clamp(min=1)
    values = weight.detach() if axis is None else weight.detach().movedim(axis, 0)
    codes = values.sign().char() * keep.reshape(values.shape)
    return (codes if axis is None else codes.movedim(0, axis)).contiguous(), scale.reshape(shape).float()
