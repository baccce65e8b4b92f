r"""How many bits each layer deserves: spend the bytes of the budget where they help most.

:func:`bit_sensitivity` (its own file) measures what each layer alone loses at each width.
:func:`allocate_bits` takes that table and solves

.. math:: \min_{b_1, \dots, b_L} \sum_l c_l(b_l) \quad \text{with} \quad \sum_l B_l(b_l) \le B ,

:math:`c_l(b)` the cost of b bits in layer l alone, :math:`B_l(b)` its bytes. It is a multiple-choice knapsack.
Dynamic programming over the layers solves it exactly: of two partial choices, the one that takes more bytes and
costs more can be forgotten, whatever comes after it.

Bits against distortion as an allocation problem: Y. Shoham, A. Gersho, "Efficient Bit Allocation for an
Arbitrary Set of Quantizers", IEEE Transactions on Acoustics, Speech, and Signal Processing 36(9), 1988. Bits of
the layers of a network under a budget, as an integer program over measured sensitivities: Z. Yao et al.,
"HAWQ-V3: Dyadic Neural Network Quantization", ICML 2021.

What this file is *not*: exact for the network. The sum assumes that the damage of different layers adds up,
which it does only roughly: the allocation is the best one of the model of the network, and has to be measured
like any other.
"""

from __future__ import annotations

import numpy as np

from dca_lab.quantization.bit_sensitivity import BitSensitivity, bit_sensitivity

__all__ = ["BitSensitivity", "allocate_bits", "bit_sensitivity"]


def allocate_bits(sensitivity: BitSensitivity, *, budget_bytes: int) -> dict[str, int]:
    """The bits of each layer that fit the budget at the least summed cost.

    Parameters
    ----------
    sensitivity : BitSensitivity
    budget_bytes : int
        Bytes of all these layers together, at most.

    Returns
    -------
    dict[str, int]
        Layer -> bits, ready for ``quantize_static(..., weight_bits=...)``. No allocation of the same table
        that fits costs less; of several that cost the same, one with the fewest bytes.

    Raises
    ------
    ValueError
        A budget below the smallest allocation, or costs that are not finite.

    Examples
    --------
    >>> costs = {"robust": np.array([0.1, 0.0]), "fragile": np.array([5.0, 0.0])}
    >>> sizes = {"robust": np.array([200, 800]), "fragile": np.array([20, 80])}
    >>> allocate_bits(BitSensitivity((2, 8), costs, sizes), budget_bytes=300)
    {'robust': 2, 'fragile': 8}
    """
    if not all(np.isfinite(row).all() for row in sensitivity.costs.values()):
        raise ValueError("the costs contain NaN or infinity")
    least = [int(sensitivity.sizes[name].min()) for name in sensitivity]
    if budget_bytes < sum(least):
        raise ValueError(
            f"budget_bytes={budget_bytes} is below {sum(least)}, the least that these {len(least)} layers take "
            f"at {min(sensitivity.bits)} bits: allow more bytes, or fewer bits"
        )
    # the front: partial allocations in order of bytes, each cheaper in cost than all that take fewer bytes
    used, cost = np.zeros(1, np.int64), np.zeros(1)
    history: list[np.ndarray] = []
    for index, name in enumerate(sensitivity):
        room = budget_bytes - sum(least[index + 1 :])  # the layers to come need at least this much
        all_used = (used[:, None] + sensitivity.sizes[name]).ravel()
        all_cost = (cost[:, None] + sensitivity.costs[name]).ravel()
        order = np.lexsort((all_cost, all_used))
        order = order[all_used[order] <= room]
        best = np.minimum.accumulate(np.concatenate([[np.inf], all_cost[order][:-1]]))
        front = order[all_cost[order] < best]
        used, cost = all_used[front], all_cost[front]
        history.append(front)
    chosen: dict[str, int] = {}
    at = len(used) - 1  # the last of the front costs least
    for name, front in zip(reversed(list(sensitivity)), reversed(history), strict=True):
        at, choice = divmod(int(front[at]), len(sensitivity.bits))
        chosen[name] = sensitivity.bits[choice]
    return {name: chosen[name] for name in sensitivity}
