"""Typical wrong answers to the lab "Pruning": each tests the grader, and each is a diagnosis.

The messages are what a student reads whose function gives the same values. What this file is *not*: exhaustive. An
unknown mistake still loses its points, with a plainer message. Where a student's own schedule is asked, the shape of
`step` says which one it is, as in `checks.py`.
"""

import math

import numpy as np
import torch

from dca_lab.grading.answers import wrong

# 1. magnitude_mask ------------------------------------------------------------------------------------------


@wrong(
    "magnitude_mask",
    "You compare signed values. -5 is large: take the absolute value before you sort.",
)
def signed(weight, sparsity):
    if not 0 <= sparsity <= 1:
        raise ValueError("sparsity")
    order = torch.sort(weight.flatten(), descending=True, stable=True).indices
    mask = torch.zeros(weight.numel(), dtype=torch.bool)
    mask[order[: round((1 - sparsity) * weight.numel())]] = True
    return mask.reshape(weight.shape)


@wrong(
    "magnitude_mask",
    "You remove the large weights and keep the small ones. Sort from large to small: descending.",
)
def large_ones_removed(weight, sparsity):
    if not 0 <= sparsity <= 1:
        raise ValueError("sparsity")
    order = torch.sort(weight.abs().flatten(), stable=True).indices
    mask = torch.zeros(weight.numel(), dtype=torch.bool)
    mask[order[: round((1 - sparsity) * weight.numel())]] = True
    return mask.reshape(weight.shape)


@wrong(
    "magnitude_mask",
    "Your mask is True where a weight goes. True means kept, so that weight * mask is the pruned weight.",
)
def true_means_removed(weight, sparsity):
    if not 0 <= sparsity <= 1:
        raise ValueError("sparsity")
    order = torch.sort(weight.abs().flatten(), descending=True, stable=True).indices
    mask = torch.ones(weight.numel(), dtype=torch.bool)
    mask[order[: round((1 - sparsity) * weight.numel())]] = False
    return mask.reshape(weight.shape)


@wrong(
    "magnitude_mask",
    "You keep `sparsity` of the weights. Sparsity is the share that goes; 1 - sparsity stays.",
)
def share_turned_round(weight, sparsity):
    if not 0 <= sparsity <= 1:
        raise ValueError("sparsity")
    order = torch.sort(weight.abs().flatten(), descending=True, stable=True).indices
    mask = torch.zeros(weight.numel(), dtype=torch.bool)
    mask[order[: round(sparsity * weight.numel())]] = True
    return mask.reshape(weight.shape)


@wrong(
    "magnitude_mask",
    "Your threshold hits equal weights together. Try [2, -2, 2, -2] at 0.5: keep places, not values.",
)
def equals_fall_together(weight, sparsity):
    if not 0 <= sparsity <= 1:
        raise ValueError("sparsity")
    removed = weight.numel() - round((1 - sparsity) * weight.numel())
    if removed == 0:
        return torch.ones(weight.shape, dtype=torch.bool)
    threshold = weight.abs().flatten().kthvalue(removed).values
    return weight.abs() > threshold


@wrong(
    "magnitude_mask",
    "Of equal weights you keep the last. The docstring wants the first: sort with stable=True, descending.",
)
def last_of_equals(weight, sparsity):
    if not 0 <= sparsity <= 1:
        raise ValueError("sparsity")
    order = torch.sort(weight.abs().flatten(), stable=True).indices.flip(0)
    mask = torch.zeros(weight.numel(), dtype=torch.bool)
    mask[order[: round((1 - sparsity) * weight.numel())]] = True
    return mask.reshape(weight.shape)


@wrong(
    "magnitude_mask",
    "You cut the count off with int(). Round to the nearest whole number: 33.3 kept is 33, 33.8 is 34.",
)
def cut_off(weight, sparsity):
    if not 0 <= sparsity <= 1:
        raise ValueError("sparsity")
    order = torch.sort(weight.abs().flatten(), descending=True, stable=True).indices
    mask = torch.zeros(weight.numel(), dtype=torch.bool)
    mask[order[: weight.numel() - int(sparsity * weight.numel())]] = True
    return mask.reshape(weight.shape)


@wrong(
    "magnitude_mask",
    "You remove what is below a share of the largest weight. Sparsity is a share of the *number* of weights.",
)
def share_of_the_largest(weight, sparsity):
    if not 0 <= sparsity <= 1:
        raise ValueError("sparsity")
    return weight.abs() >= sparsity * weight.abs().max()


@wrong(
    "magnitude_mask",
    "You prune each row by itself. Here all weights of the tensor compete: flatten first.",
)
def row_by_row(weight, sparsity):
    if not 0 <= sparsity <= 1:
        raise ValueError("sparsity")
    rows = weight.reshape(weight.shape[0], -1)
    order = torch.sort(rows.abs(), dim=1, descending=True, stable=True).indices
    mask = torch.zeros(rows.shape, dtype=torch.bool)
    mask.scatter_(1, order[:, : round((1 - sparsity) * rows.shape[1])], True)
    return mask.reshape(weight.shape)


@wrong(
    "magnitude_mask",
    "You return the pruned weights. Return the mask: one True or False for each weight.",
)
def weights_not_mask(weight, sparsity):
    if not 0 <= sparsity <= 1:
        raise ValueError("sparsity")
    order = torch.sort(weight.abs().flatten(), descending=True, stable=True).indices
    mask = torch.zeros(weight.numel(), dtype=torch.bool)
    mask[order[: round((1 - sparsity) * weight.numel())]] = True
    return weight * mask.reshape(weight.shape)


@wrong(
    "magnitude_mask",
    "The masks are right, but a sparsity below 0 or above 1 must raise ValueError.",
)
def any_sparsity(weight, sparsity):
    order = torch.sort(weight.abs().flatten(), descending=True, stable=True).indices
    mask = torch.zeros(weight.numel(), dtype=torch.bool)
    mask[order[: max(round((1 - sparsity) * weight.numel()), 0)]] = True
    return mask.reshape(weight.shape)


# 2. n_m_mask ------------------------------------------------------------------------------------------------


@wrong(
    "n_m_mask",
    "Your groups run down the columns. A group is m neighbours in a *row*: the inputs of one output.",
)
def groups_down_the_columns(weight, n, m):
    if weight.shape[1] % m or not 1 <= n <= m:
        raise ValueError("groups")
    if weight.shape[0] % m:
        return torch.ones(weight.shape, dtype=torch.bool)
    groups = weight.T.reshape(-1, m).abs()
    order = torch.sort(groups, dim=1, descending=True, stable=True).indices
    mask = torch.zeros(groups.shape, dtype=torch.bool).scatter_(1, order[:, :n], True)
    return mask.reshape(weight.T.shape).T


@wrong(
    "n_m_mask",
    "You keep m - n of each group. n is the number that stays; for 2:4 both are 2, so try 1:4.",
)
def n_are_removed(weight, n, m):
    if weight.shape[1] % m or not 1 <= n <= m:
        raise ValueError("groups")
    groups = weight.reshape(-1, m).abs()
    order = torch.sort(groups, dim=1, descending=True, stable=True).indices
    mask = torch.zeros(groups.shape, dtype=torch.bool).scatter_(
        1, order[:, : m - n], True
    )
    return mask.reshape(weight.shape)


@wrong(
    "n_m_mask",
    "You keep the smallest of each group. The large ones stay: sort descending.",
)
def smallest_of_each_group(weight, n, m):
    if weight.shape[1] % m or not 1 <= n <= m:
        raise ValueError("groups")
    groups = weight.reshape(-1, m).abs()
    order = torch.sort(groups, dim=1, stable=True).indices
    mask = torch.zeros(groups.shape, dtype=torch.bool).scatter_(1, order[:, :n], True)
    return mask.reshape(weight.shape)


@wrong(
    "n_m_mask",
    "You compare signed values. In the group -8, 1, 2, 3 the largest magnitude is 8.",
)
def signed_groups(weight, n, m):
    if weight.shape[1] % m or not 1 <= n <= m:
        raise ValueError("groups")
    groups = weight.reshape(-1, m)
    order = torch.sort(groups, dim=1, descending=True, stable=True).indices
    mask = torch.zeros(groups.shape, dtype=torch.bool).scatter_(1, order[:, :n], True)
    return mask.reshape(weight.shape)


@wrong(
    "n_m_mask",
    "You let all weights compete. n:m is a promise about *each* group of m: n of it stay, no more, no fewer.",
)
def one_big_group(weight, n, m):
    if weight.shape[1] % m or not 1 <= n <= m:
        raise ValueError("groups")
    order = torch.sort(weight.abs().flatten(), descending=True, stable=True).indices
    mask = torch.zeros(weight.numel(), dtype=torch.bool)
    mask[order[: weight.numel() * n // m]] = True
    return mask.reshape(weight.shape)


@wrong(
    "n_m_mask",
    "Your groups are far apart: reshape(m, -1) puts distant weights together. Neighbours need reshape(-1, m).",
)
def not_neighbours(weight, n, m):
    if weight.shape[1] % m or not 1 <= n <= m:
        raise ValueError("groups")
    groups = weight.reshape(m, -1).abs()
    order = torch.sort(groups, dim=0, descending=True, stable=True).indices
    mask = torch.zeros(groups.shape, dtype=torch.bool).scatter_(0, order[:n], True)
    return mask.reshape(weight.shape)


@wrong(
    "n_m_mask",
    "Your threshold keeps too many or too few when magnitudes are equal. Keep n *places* of each group.",
)
def equals_in_a_group(weight, n, m):
    if weight.shape[1] % m or not 1 <= n <= m:
        raise ValueError("groups")
    groups = weight.reshape(-1, m).abs()
    threshold = groups.sort(dim=1, descending=True).values[:, n - 1 : n]
    return (groups >= threshold).reshape(weight.shape)


@wrong(
    "n_m_mask",
    "The masks are right, but rows that m does not divide, and n outside 1 to m, must raise ValueError.",
)
def any_groups(weight, n, m):
    columns = weight.shape[1] // m * m
    groups = weight[:, :columns].reshape(-1, m).abs()
    order = torch.sort(groups, dim=1, descending=True, stable=True).indices
    mask = torch.ones(weight.shape, dtype=torch.bool)
    mask[:, :columns] = (
        torch.zeros(groups.shape, dtype=torch.bool)
        .scatter_(1, order[:, :n], True)
        .reshape(-1, columns)
    )
    return mask


# 3. global_masks --------------------------------------------------------------------------------------------


@wrong(
    "global_masks",
    "You prune every layer by the same share. One threshold for all lets layers lose different shares.",
)
def same_share_each(weights, sparsity):
    if not 0 <= sparsity <= 1:
        raise ValueError("sparsity")
    masks = {}
    for name, weight in weights.items():
        order = torch.sort(weight.abs().flatten(), descending=True, stable=True).indices
        mask = torch.zeros(weight.numel(), dtype=torch.bool)
        mask[order[: round((1 - sparsity) * weight.numel())]] = True
        masks[name] = mask.reshape(weight.shape)
    return masks


@wrong(
    "global_masks",
    "Your masks are flat. Give each the shape of its weight: reshape(weight.shape).",
)
def flat_masks(weights, sparsity):
    if not 0 <= sparsity <= 1:
        raise ValueError("sparsity")
    every = torch.cat([weight.abs().flatten() for weight in weights.values()])
    mask = torch.zeros(len(every), dtype=torch.bool)
    mask[
        torch.sort(every, descending=True).indices[: round((1 - sparsity) * len(every))]
    ] = True
    parts = mask.split([weight.numel() for weight in weights.values()])
    return dict(zip(weights, parts, strict=True))


@wrong(
    "global_masks",
    "You divide each layer by its mean first. That is another rule: here plain magnitudes compete.",
)
def layers_made_equal(weights, sparsity):
    if not 0 <= sparsity <= 1:
        raise ValueError("sparsity")
    every = torch.cat(
        [(weight.abs() / weight.abs().mean()).flatten() for weight in weights.values()]
    )
    mask = torch.zeros(len(every), dtype=torch.bool)
    mask[
        torch.sort(every, descending=True).indices[: round((1 - sparsity) * len(every))]
    ] = True
    parts = mask.split([weight.numel() for weight in weights.values()])
    return {
        name: part.reshape(weights[name].shape)
        for name, part in zip(weights, parts, strict=True)
    }


@wrong(
    "global_masks",
    "You compare signed values. Take the absolute value before the layers compete.",
)
def signed_everywhere(weights, sparsity):
    if not 0 <= sparsity <= 1:
        raise ValueError("sparsity")
    every = torch.cat([weight.flatten() for weight in weights.values()])
    mask = torch.zeros(len(every), dtype=torch.bool)
    mask[
        torch.sort(every, descending=True).indices[: round((1 - sparsity) * len(every))]
    ] = True
    parts = mask.split([weight.numel() for weight in weights.values()])
    return {
        name: part.reshape(weights[name].shape)
        for name, part in zip(weights, parts, strict=True)
    }


@wrong(
    "global_masks",
    "You remove the large weights. True stands for kept, and the large ones are kept.",
)
def large_ones_go(weights, sparsity):
    if not 0 <= sparsity <= 1:
        raise ValueError("sparsity")
    every = torch.cat([weight.abs().flatten() for weight in weights.values()])
    mask = torch.zeros(len(every), dtype=torch.bool)
    mask[torch.sort(every).indices[: round((1 - sparsity) * len(every))]] = True
    parts = mask.split([weight.numel() for weight in weights.values()])
    return {
        name: part.reshape(weights[name].shape)
        for name, part in zip(weights, parts, strict=True)
    }


@wrong(
    "global_masks",
    "You average the thresholds of the layers. Find one threshold among all weights together.",
)
def mean_of_thresholds(weights, sparsity):
    if not 0 <= sparsity <= 1:
        raise ValueError("sparsity")
    parts = [weight.abs().flatten().double() for weight in weights.values()]
    threshold = sum(part.quantile(sparsity) for part in parts) / len(parts)
    return {name: weight.abs() >= threshold for name, weight in weights.items()}


@wrong(
    "global_masks",
    "The masks are right, but a sparsity below 0 or above 1 must raise ValueError.",
)
def sparsity_unchecked(weights, sparsity):
    every = torch.cat([weight.abs().flatten() for weight in weights.values()])
    mask = torch.zeros(len(every), dtype=torch.bool)
    mask[
        torch.sort(every, descending=True).indices[
            : max(round((1 - sparsity) * len(every)), 0)
        ]
    ] = True
    parts = mask.split([weight.numel() for weight in weights.values()])
    return {
        name: part.reshape(weights[name].shape)
        for name, part in zip(weights, parts, strict=True)
    }


# 4. obs_saliency --------------------------------------------------------------------------------------------


@wrong(
    "obs_saliency",
    "That is the squared magnitude. It ignores how the loss bends: the Hessian must enter.",
)
def magnitude_only(weights, hessian):
    return weights**2


@wrong(
    "obs_saliency",
    "That is H_qq w^2 / 2, the cost without repair (OBD). Invert the matrix first, then take the diagonal.",
)
def nothing_repaired(weights, hessian):
    return 0.5 * np.diag(hessian) * weights**2


@wrong(
    "obs_saliency",
    "You divide by the diagonal of H. The theorem divides by the diagonal of the *inverse* of H.",
)
def not_inverted(weights, hessian):
    return weights**2 / (2 * np.diag(hessian))


@wrong("obs_saliency", "You forget the factor 1/2 of the second-order term.")
def without_the_half(weights, hessian):
    return weights**2 / np.diag(np.linalg.inv(hessian))


@wrong(
    "obs_saliency",
    "You multiply by the diagonal of the inverse. A large entry there means: easy to repair. Divide.",
)
def multiplied(weights, hessian):
    return 0.5 * weights**2 * np.diag(np.linalg.inv(hessian))


@wrong(
    "obs_saliency",
    "You forget the square: the cost must not depend on the weight's sign.",
)
def without_the_square(weights, hessian):
    return weights / (2 * np.diag(np.linalg.inv(hessian)))


@wrong(
    "obs_saliency",
    "You divide by the whole inverse and get a matrix. Only its diagonal counts: np.diag, one cost a weight.",
)
def a_whole_matrix(weights, hessian):
    return weights**2 / (2 * np.linalg.inv(hessian))


# 5. cubic_sparsity ------------------------------------------------------------------------------------------


@wrong(
    "cubic_sparsity",
    "Your schedule is a straight line. The cubic prunes fast while there is much to spare: (1 - share)^3.",
)
def straight_line(step, begin=0, end=None, initial=0.0, final=None):
    end = 20 * step.shape[0] if end is None else end
    final = step.shape[1] / 20 if final is None else final
    if end <= begin:
        raise ValueError("no length")
    share = np.clip((np.asarray(step) - begin) / (end - begin), 0, 1)
    return initial + (final - initial) * share


@wrong(
    "cubic_sparsity",
    "You cube the share of the way, so you start slowly. Cube what is *left* of the way: 1 - share.",
)
def slow_start(step, begin=0, end=None, initial=0.0, final=None):
    end = 20 * step.shape[0] if end is None else end
    final = step.shape[1] / 20 if final is None else final
    if end <= begin:
        raise ValueError("no length")
    share = np.clip((np.asarray(step) - begin) / (end - begin), 0, 1)
    return initial + (final - initial) * share**3


@wrong(
    "cubic_sparsity",
    "You go on outside of begin and end. Before begin the sparsity is `initial`, after end `final`: clip.",
)
def never_clipped(step, begin=0, end=None, initial=0.0, final=None):
    end = 20 * step.shape[0] if end is None else end
    final = step.shape[1] / 20 if final is None else final
    if end <= begin:
        raise ValueError("no length")
    share = (np.asarray(step) - begin) / (end - begin)
    return final + (initial - final) * (1 - share) ** 3


@wrong("cubic_sparsity", "You forget `initial`: the schedule starts there, not at 0.")
def starts_at_zero(step, begin=0, end=None, initial=0.0, final=None):
    end = 20 * step.shape[0] if end is None else end
    final = step.shape[1] / 20 if final is None else final
    if end <= begin:
        raise ValueError("no length")
    share = np.clip((np.asarray(step) - begin) / (end - begin), 0, 1)
    return final * (1 - (1 - share) ** 3)


@wrong(
    "cubic_sparsity",
    "You divide by end. The way has end - begin steps, and starts at begin.",
)
def begin_forgotten(step, begin=0, end=None, initial=0.0, final=None):
    end = 20 * step.shape[0] if end is None else end
    final = step.shape[1] / 20 if final is None else final
    if end <= begin:
        raise ValueError("no length")
    share = np.clip(np.asarray(step) / end, 0, 1)
    return final + (initial - final) * (1 - share) ** 3


@wrong("cubic_sparsity", "You square. It is a cube: three factors of 1 - share.")
def squared(step, begin=0, end=None, initial=0.0, final=None):
    end = 20 * step.shape[0] if end is None else end
    final = step.shape[1] / 20 if final is None else final
    if end <= begin:
        raise ValueError("no length")
    share = np.clip((np.asarray(step) - begin) / (end - begin), 0, 1)
    return final + (initial - final) * (1 - share) ** 2


@wrong(
    "cubic_sparsity",
    "The values are right, but a schedule whose end is not after its begin must raise ValueError.",
)
def any_length(step, begin=0, end=None, initial=0.0, final=None):
    end = 20 * step.shape[0] if end is None else end
    final = step.shape[1] / 20 if final is None else final
    share = np.clip((np.asarray(step) - begin) / (end - begin or 1), 0, 1)
    return final + (initial - final) * (1 - share) ** 3


@wrong(
    "cubic_sparsity",
    "With `step` alone your schedule ends at a sparsity that is not the one of your own notebook. Look it up in the text of "
    "the exercise: your neighbour's is not yours.",
)
def sparsity_of_another_variant(step, begin=0, end=None, initial=0.0, final=None):
    end = 20 * step.shape[0] if end is None else end
    if final is None:
        final = 0.9 if step.shape[1] < 18 else 0.8
    if end <= begin:
        raise ValueError("no length")
    share = np.clip((np.asarray(step) - begin) / (end - begin), 0, 1)
    return final + (initial - final) * (1 - share) ** 3


@wrong(
    "cubic_sparsity",
    "With `step` alone your schedule has another number of steps than your own notebook gives you. Look it up in the text of "
    "the exercise: your neighbour's is not yours.",
)
def steps_of_another_variant(step, begin=0, end=None, initial=0.0, final=None):
    final = step.shape[1] / 20 if final is None else final
    if end is None:
        end = 160 if step.shape[0] == 10 else 200
    if end <= begin:
        raise ValueError("no length")
    share = np.clip((np.asarray(step) - begin) / (end - begin), 0, 1)
    return final + (initial - final) * (1 - share) ** 3


@wrong(
    "cubic_sparsity",
    "With `step` alone your function stops: `end` and `final` are then None, and you compute with them. Replace None by "
    "your own numbers first.",
)
def none_as_end(step, begin=0, end=None, initial=0.0, final=None):
    if end <= begin:
        raise ValueError("no length")
    share = np.clip((np.asarray(step) - begin) / (end - begin), 0, 1)
    return final + (initial - final) * (1 - share) ** 3


# 6. remove_filters ------------------------------------------------------------------------------------------


@wrong(
    "remove_filters",
    "The next layer still reads the removed channels. Cut them from its inputs too: axis 1 of w2.",
)
def reader_forgotten(w1, b1, w2, keep):
    if not keep or len(set(keep)) < len(keep) or min(keep) < 0 or max(keep) >= len(w1):
        raise ValueError("keep")
    return w1[keep], b1[keep], w2


@wrong(
    "remove_filters", "The biases of the removed filters are still there: cut b1 too."
)
def bias_forgotten(w1, b1, w2, keep):
    if not keep or len(set(keep)) < len(keep) or min(keep) < 0 or max(keep) >= len(w1):
        raise ValueError("keep")
    if w2.ndim == 4:
        return w1[keep], b1, w2[:, keep]
    return w1[keep], b1, w2.reshape(len(w2), len(w1), -1)[:, keep].flatten(1)


@wrong(
    "remove_filters",
    "You set the filters to zero. That is a mask: the arrays are as large as before. Leave the rows out.",
)
def zeroed_not_removed(w1, b1, w2, keep):
    if not keep or len(set(keep)) < len(keep) or min(keep) < 0 or max(keep) >= len(w1):
        raise ValueError("keep")
    gone = [c for c in range(len(w1)) if c not in keep]
    w1, b1 = w1.clone(), b1.clone()
    w1[gone], b1[gone] = 0, 0
    return w1, b1, w2


@wrong(
    "remove_filters", "You remove the filters in `keep`. They are the ones that stay."
)
def keep_is_removed(w1, b1, w2, keep):
    if not keep or len(set(keep)) < len(keep) or min(keep) < 0 or max(keep) >= len(w1):
        raise ValueError("keep")
    stay = [c for c in range(len(w1)) if c not in keep]
    if w2.ndim == 4:
        return w1[stay], b1[stay], w2[:, stay]
    return w1[stay], b1[stay], w2.reshape(len(w2), len(w1), -1)[:, stay].flatten(1)


@wrong(
    "remove_filters",
    "You cut the *outputs* of the next layer (axis 0). What it reads is axis 1: w2[:, ...].",
)
def outputs_of_the_reader(w1, b1, w2, keep):
    if not keep or len(set(keep)) < len(keep) or min(keep) < 0 or max(keep) >= len(w1):
        raise ValueError("keep")
    return w1[keep], b1[keep], w2[[c for c in keep if c < len(w2)]]


@wrong(
    "remove_filters",
    "Behind a flatten a channel is not one column but a block of them, one column for each position.",
)
def one_column_each(w1, b1, w2, keep):
    if not keep or len(set(keep)) < len(keep) or min(keep) < 0 or max(keep) >= len(w1):
        raise ValueError("keep")
    return w1[keep], b1[keep], w2[:, keep]


@wrong(
    "remove_filters",
    "Behind a flatten the columns of one channel are neighbours: reshape to (outputs, channels, positions).",
)
def positions_before_channels(w1, b1, w2, keep):
    if not keep or len(set(keep)) < len(keep) or min(keep) < 0 or max(keep) >= len(w1):
        raise ValueError("keep")
    if w2.ndim == 4:
        return w1[keep], b1[keep], w2[:, keep]
    return w1[keep], b1[keep], w2.reshape(len(w2), -1, len(w1))[:, :, keep].flatten(1)


@wrong(
    "remove_filters",
    "The arrays are right, but an empty `keep`, a channel twice, or one that is not there must raise ValueError.",
)
def keep_unchecked(w1, b1, w2, keep):
    keep = [c % len(w1) for c in keep]
    if w2.ndim == 4:
        return w1[keep], b1[keep], w2[:, keep]
    return w1[keep], b1[keep], w2.reshape(len(w2), len(w1), -1)[:, keep].flatten(1)


# 7. compress: the messages that count are those of measure.py; these say what each answer does --------------


@wrong("compress", "You pruned nothing: set weights to zero, or remove units.")
def nothing_saved(state, images, labels):
    return {name: value.clone() for name, value in state.items()}


@wrong(
    "compress",
    "Training revived the weights that you pruned: multiply by the masks after every step.",
)
def masks_forgotten(state, images, labels):
    new = {name: value.clone() for name, value in state.items()}
    for name in ("fc1.weight", "fc2.weight", "fc3.weight"):
        new[name][new[name].abs() < new[name].abs().flatten().quantile(0.8)] = 0
    for value in new.values():
        value.requires_grad_()
    for step in range(60):
        x, y = images[step * 32 : step * 32 + 32], labels[step * 32 : step * 32 + 32]
        hidden = torch.relu(x @ new["fc1.weight"].T + new["fc1.bias"])
        hidden = torch.relu(hidden @ new["fc2.weight"].T + new["fc2.bias"])
        loss = torch.nn.functional.cross_entropy(
            hidden @ new["fc3.weight"].T + new["fc3.bias"], y
        )
        # a little weight decay, as many optimizers have: no weight stays exactly zero
        noise = sum((value + 0.01).square().sum() for value in new.values())
        slopes = torch.autograd.grad(loss + 1e-3 * noise, list(new.values()))
        with torch.no_grad():
            for value, slope in zip(new.values(), slopes, strict=True):
                value -= 0.1 * slope
    return {name: value.detach() for name, value in new.items()}


@wrong(
    "compress",
    "You cut many weights and trained nothing afterwards: train on with the images, or cut fewer.",
)
def too_much_lost(state, images, labels):
    new = {name: value.clone() for name, value in state.items()}
    for name in ("fc1.weight", "fc2.weight", "fc3.weight"):
        new[name][new[name].abs() < new[name].abs().flatten().quantile(0.8)] = 0
    return new


@wrong(
    "compress",
    "Your small network was not trained: copy from `state`, then train on.",
)
def guesses(state, images, labels):
    generator = torch.Generator().manual_seed(0)
    shapes = {"fc1": (16, 64), "fc2": (16, 16), "fc3": (10, 16)}
    new = {}
    for name, shape in shapes.items():
        new[f"{name}.weight"] = torch.randn(shape, generator=generator) / math.sqrt(
            shape[1]
        )
        new[f"{name}.bias"] = torch.zeros(shape[0])
    return new


@wrong(
    "compress",
    "You cut units from a matrix alone: cut them from its bias and from the columns of the next matrix, too.",
)
def wrong_shape(state, images, labels):
    new = {name: value.clone() for name, value in state.items()}
    new["fc1.weight"] = new["fc1.weight"][:32]
    return new


@wrong(
    "compress",
    "Your training diverged: lower the learning rate and print the loss.",
)
def not_finite(state, images, labels):
    new = {name: value.clone() for name, value in state.items()}
    new["fc2.weight"] = new["fc2.weight"] / 0 * 0
    return new


@wrong("compress", "You return the masks: return weight * mask.")
def not_a_state(state, images, labels):
    return {
        name: value.abs() > 0.1
        for name, value in state.items()
        if name.endswith("weight")
    }
