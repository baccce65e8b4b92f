r"""The clipping of AWQ: cut the largest weights of a group, where a finer grid for all the others is worth it.

With 3 bits there are 8 levels, and the largest weight of a group sets their distance. Each group G of each row is
clamped to a share c of its largest magnitude, and the share is searched on what the group adds to the output:

.. math:: c = \arg\min_{c \in \{1, 0.95, .., 0.55\}} \bigl\lVert X_G\, w - X_G\, Q(\mathrm{clamp}(w, \pm c \max|w|))
   \bigr\rVert^2 = \arg\min_c\; d^T H_{GG}\, d, \qquad d = w - Q(\cdot), \quad H = X^T X .

The block :math:`H_{GG}` of the Hessian is all that is needed of the inputs. c = 1 is round-to-nearest, so what a group
adds is never worse for it, on the calibration data.

J. Lin et al., "AWQ: Activation-aware Weight Quantization for On-Device LLM Compression and Acceleration", MLSys 2024,
and the code that the authors released (``auto_clip``), where the grid of shares comes from. That code leaves out q and k;
here they are clipped like the others.

What this file is *not*: exact for the layer. The errors of two groups of one row meet in the same output, and their
product, X_G d_G times X_F d_F, is ignored; GPTQ is the method that looks at it.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from dca_lab.quantization._calibration import checked_hessian
from dca_lab.quantization.nearest import quantize_groupwise


def clip_weights(
    weight: Tensor,
    hessian: Tensor,
    *,
    bits: int = 4,
    group_size: int | None = 64,
    symmetric: bool = False,
    steps: int = 20,
    smallest: float = 0.5,
) -> Tensor:
    """The weight with each group clamped to the range that is best for the output after rounding.

    Parameters
    ----------
    weight : Tensor
        (O, I), finite. Not changed.
    hessian : Tensor
        (I, I): X^T X of what the layer receives; its scale does not matter.
    bits, group_size, symmetric
        The grid, as for `quantize_groupwise`, which is what the result is meant for.
    steps : int
        Shares of the largest magnitude: 1, 1 - 1/steps, 1 - 2/steps, ..
    smallest : float
        In [0, 1): .. as long as they are above this.

    Returns
    -------
    Tensor
        (O, I), of the weight's dtype; at a tie the wider range.

    Raises
    ------
    ValueError
        Shapes that do not fit, NaN, no step, or `smallest` outside [0, 1).

    Examples
    --------
    >>> weight = torch.tensor([[0.4, -0.3, 0.3, -0.4, 1.0]])
    >>> clip_weights(weight, torch.eye(5), bits=2, group_size=5).shape
    torch.Size([1, 5])
    """
    grid = {"bits": bits, "group_size": group_size, "symmetric": symmetric}
    start = quantize_groupwise(weight, **grid)  # checks the weight
    (rows, inputs), size = weight.shape, start.group_size
    hessian = checked_hessian(hessian, inputs)
    if steps < 1 or not 0 <= smallest < 1:
        raise ValueError(f"steps={steps} must be at least 1, and smallest={smallest} in [0, 1)")

    def groups(matrix: Tensor) -> Tensor:
        return F.pad(matrix, (0, -inputs % size)).view(rows, -1, size)  # (O, G, g); zeros add no error

    float_groups = groups(weight.detach().double())
    blocks = _diagonal_blocks(hessian, size)
    largest = float_groups.abs().amax(-1, keepdim=True)  # (O, G, 1)
    error = torch.full_like(largest, torch.inf)
    best = float_groups
    for share in (1 - step / steps for step in range(steps) if 1 - step / steps > smallest):
        clipped = float_groups.clamp(-share * largest, share * largest)
        rounded = quantize_groupwise(clipped.view(rows, -1)[:, :inputs], **grid).dequantize().double()
        change = float_groups - groups(rounded)
        found = (torch.einsum("ogi,gij->ogj", change, blocks) * change).sum(-1, keepdim=True)
        best = torch.where(found < error, clipped, best)
        error = torch.minimum(found, error)
    return best.view(rows, -1)[:, :inputs].to(weight.dtype)


def _diagonal_blocks(hessian: Tensor, size: int) -> Tensor:
    """(I, I) -> (G, g, g): what the inputs of one group have to do with each other; the last one filled with zeros."""
    more = -len(hessian) % size
    padded = F.pad(hessian, (0, more, 0, more))
    count = len(padded) // size
    return padded.view(count, size, count, size).diagonal(dim1=0, dim2=2).permute(2, 0, 1)
