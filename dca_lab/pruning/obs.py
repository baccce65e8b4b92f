r"""Optimal Brain Surgeon for one linear layer: prune a weight and let the others make up for it.

For the layer's squared error :math:`\tfrac12 \lVert X w - X w_0 \rVert^2` with Hessian :math:`H = X^T X`,
the cheapest way to make :math:`w_q = 0` costs, and needs the correction,

.. math:: \rho_q = \frac{w_q^2}{2\, [H^{-1}]_{qq}}, \qquad \delta w = -\frac{w_q}{[H^{-1}]_{qq}} H^{-1} e_q .

The weights are pruned one at a time, and q leaves :math:`H^{-1}` by one step of Gaussian elimination.
After each step the rest is the least-squares solution on its support: no refit could be better for the
same choice of weights.

B. Hassibi, D. G. Stork, "Second Order Derivatives for Network Pruning: Optimal Brain Surgeon", NeurIPS
1992 (printed 1993); row by row as in E. Frantar, D. Alistarh, "Optimal Brain Compression", NeurIPS 2022.

What this file is *not*: the greedy choice is not the best support of a given size (that search is
exponential), and the error is the layer's own, not the network's loss. The work grows with O I^3 at high
sparsity: for small layers.
"""

import torch
from torch import Tensor

from dca_lab.pruning._checks import check_sparsity, kept_count


def obs_prune_linear(
    weight: Tensor,
    inputs: Tensor,
    *,
    sparsity: float,
    damping: float = 0.0,
) -> tuple[Tensor, Tensor]:
    r"""Prune each output row of a linear layer by OBS, updating the weights that stay.

    Parameters
    ----------
    weight : Tensor, (O, I)
        Not changed.
    inputs : Tensor, (N, ..., I)
        What the layer receives on calibration data.
    sparsity : float in [0, 1)
        Each row keeps round((1 - sparsity) I) weights.
    damping : float
        Added to the diagonal of H, as a share of its mean. Needed when features are constant zero or
        dependent, as the border pixels of digits are; 0.01 is usual.

    Returns
    -------
    new_weight : Tensor, (O, I)
        The dtype of ``weight``; zero where pruned.
    mask : BoolTensor, (O, I)
        True = kept.

    Raises
    ------
    ValueError
        Shapes that do not fit, NaN, a sparsity outside [0, 1), or a singular H.

    References
    ----------
    Hassibi and Stork, NeurIPS 1992; Frantar and Alistarh, NeurIPS 2022.

    Examples
    --------
    >>> x = torch.randn(50, 6, generator=torch.Generator().manual_seed(0))
    >>> new, mask = obs_prune_linear(torch.ones(2, 6), x, sparsity=0.5)
    >>> mask.sum(1).tolist(), bool((new[~mask] == 0).all())
    ([3, 3], True)
    """
    sparsity = check_sparsity(sparsity)
    if weight.ndim != 2 or inputs.ndim < 2 or inputs.shape[-1] != weight.shape[1]:
        raise ValueError(
            "a weight (O, I) and inputs (N, ..., I) are needed, "
            f"got {tuple(weight.shape)} and {tuple(inputs.shape)}"
        )
    if not damping >= 0:
        raise ValueError(f"damping must be at least 0, got {damping!r}")
    x = inputs.detach().flatten(0, -2).double()  # (rows, I)
    if not torch.isfinite(x).all() or not torch.isfinite(weight).all():
        raise ValueError("weight and inputs must be finite; they contain NaN or infinity")
    hessian = x.T @ x
    hessian.diagonal().add_(damping * hessian.diagonal().mean())
    factor, failed = torch.linalg.cholesky_ex(hessian)
    # a singular matrix can pass with a rounding error as its pivot, so the pivots are looked at too
    pivots = factor.diagonal()
    if failed or bool(pivots.min() <= 1e-7 * pivots.max()):
        raise ValueError("X^T X is singular (constant or dependent features): pass damping=0.01")
    inverse = torch.cholesky_inverse(factor)
    new = weight.detach().double().clone()
    mask = torch.ones_like(new, dtype=torch.bool)
    for row, kept in zip(new, mask, strict=True):
        left = inverse.clone()
        for _ in range(weight.shape[1] - kept_count(weight.shape[1], sparsity)):
            cost = torch.where(kept, row.square() / left.diagonal(), torch.inf)
            q = int(cost.argmin())
            column, pivot = left[:, q].clone(), left[q, q].clone()
            row -= row[q] / pivot * column
            left.addr_(column, column, alpha=-1 / float(pivot))
            kept[q] = False
            row[~kept] = 0  # exactly: the elimination leaves rounding errors there
            left[q, q] = 1  # its row and column are zero now; the diagonal is divided by, so it must not be
    return new.to(weight.dtype), mask
