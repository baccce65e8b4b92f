"""Unusual right answers to the lab "Pruning": loops, other libraries, other types, all worth full points.

What this file is *not*: better solutions. They are here so that the grader punishes no honest way of writing.
"""

import math

import numpy as np
import torch

from dca_lab.grading.answers import right

# 1. magnitude_mask ------------------------------------------------------------------------------------------


@right("magnitude_mask")
def mask_in_numpy(weight, sparsity):
    if sparsity < 0 or sparsity > 1:
        raise ValueError("0 to 1")
    size = np.abs(weight.numpy()).ravel()
    removed = len(size) - round((1 - sparsity) * len(size))
    mask = np.ones(len(size), dtype=int)
    # from the back, so that of equals the last goes first
    order = len(size) - 1 - np.argsort(size[::-1], kind="stable")
    mask[order[:removed]] = 0
    return mask.reshape(tuple(weight.shape))


@right("magnitude_mask")
def mask_in_a_loop(weight, sparsity):
    if not (0 <= sparsity <= 1):
        raise ValueError(sparsity)
    sizes = [abs(float(w)) for w in weight.reshape(-1)]
    mask = [0.0] * len(sizes)
    for _ in range(round(len(sizes) - sparsity * len(sizes))):
        # max: the first of equals
        best = max((i for i in range(len(sizes)) if not mask[i]), key=sizes.__getitem__)
        mask[best] = 1.0
    return torch.tensor(mask, dtype=torch.float64).reshape(weight.shape)


@right("magnitude_mask")
def mask_by_threshold_and_rank(weight, sparsity):
    if sparsity > 1 or sparsity < 0:
        raise ValueError("sparsity")
    size = weight.abs().double().flatten()
    kept = int(math.floor((1 - sparsity) * size.numel() + 0.5))
    if kept == 0:
        return torch.zeros_like(weight, dtype=torch.bool)
    threshold = size.sort(descending=True).values[kept - 1]
    above, equal = size > threshold, size == threshold
    mask = above | (equal & (equal.cumsum(0) <= kept - above.sum()))
    return mask.view(weight.shape)


# 2. n_m_mask ------------------------------------------------------------------------------------------------


@right("n_m_mask")
def n_m_in_a_loop(weight, n, m):
    rows, columns = weight.shape
    if columns % m != 0 or n < 1 or n > m:
        raise ValueError("n:m")
    mask = torch.zeros(rows, columns)
    for r in range(rows):
        for start in range(0, columns, m):
            group = [abs(float(w)) for w in weight[r, start : start + m]]
            for _ in range(n):
                best = group.index(max(group))
                group[best] = -1.0
                mask[r, start + best] = 1
    return mask


@right("n_m_mask")
def n_m_in_numpy(weight, n, m):
    w = np.abs(weight.numpy())
    if w.shape[1] % m or not 0 < n <= m:
        raise ValueError(f"{n}:{m}")
    groups = w.reshape(w.shape[0], -1, m)
    rank = np.argsort(np.argsort(-groups, axis=2, kind="stable"), axis=2)
    return (rank < n).reshape(w.shape)


@right("n_m_mask")
def n_m_by_counting(weight, n, m):
    if weight.shape[1] % m or not 1 <= n <= m:
        raise ValueError("groups")
    g = weight.double().abs().reshape(-1, 1, m)
    # a group's member is beaten by the larger, and by equal earlier ones
    earlier = torch.ones(m, m).tril(-1).bool()
    beaten = (g > g.transpose(1, 2)) | ((g == g.transpose(1, 2)) & earlier)
    return (beaten.sum(2) < n).reshape(weight.shape).tolist()


# 3. global_masks --------------------------------------------------------------------------------------------


@right("global_masks")
def global_by_threshold(weights, sparsity):
    if sparsity < 0 or sparsity > 1:
        raise ValueError("sparsity")
    every = torch.cat([w.reshape(-1).abs().double() for w in weights.values()])
    removed = len(every) - round((1 - sparsity) * len(every))
    threshold = every.kthvalue(removed).values if removed else torch.tensor(-1.0)
    return {name: w.abs().double() > threshold for name, w in weights.items()}


@right("global_masks")
def global_in_numpy(weights, sparsity):
    if not 0 <= sparsity <= 1:
        raise ValueError("sparsity")
    sizes = {name: np.abs(w.numpy()).astype(np.float64) for name, w in weights.items()}
    every = np.sort(np.concatenate([s.ravel() for s in sizes.values()]))[::-1]
    kept = round((1 - sparsity) * len(every))
    return {name: (s >= every[kept - 1]) * (kept > 0) for name, s in sizes.items()}


@right("global_masks")
def global_in_a_loop(weights, sparsity):
    if not 0 <= sparsity <= 1:
        raise ValueError("sparsity")
    places = [(name, i) for name in weights for i in range(weights[name].numel())]
    flat = {name: weights[name].flatten().tolist() for name in weights}
    places.sort(key=lambda place: abs(flat[place[0]][place[1]]), reverse=True)
    masks = {name: torch.zeros(weights[name].numel()) for name in reversed(weights)}
    for name, i in places[: round((1 - sparsity) * len(places))]:
        masks[name][i] = 1
    return {name: mask.reshape(weights[name].shape) for name, mask in masks.items()}


# 4. obs_saliency --------------------------------------------------------------------------------------------


@right("obs_saliency")
def obs_in_torch_float32(weights, hessian):
    w, h = (
        torch.tensor(weights, dtype=torch.float32),
        torch.tensor(hessian, dtype=torch.float32),
    )
    return 0.5 * w.square() / torch.linalg.inv(h).diagonal()


@right("obs_saliency")
def obs_by_solving(weights, hessian):
    costs = []
    for q, w in enumerate(weights):
        unit = np.zeros(len(weights))
        unit[q] = 1
        costs.append(w * w / (2 * np.linalg.solve(hessian, unit)[q]))
    return costs


@right("obs_saliency")
def obs_by_eigenvalues(weights, hessian):
    values, vectors = np.linalg.eigh(hessian)
    return weights**2 / (2 * (vectors**2 / values).sum(1))


# 5. cubic_sparsity ------------------------------------------------------------------------------------------


@right("cubic_sparsity")
def cubic_in_a_loop(step, begin=0, end=200, initial=0.0, final=0.9):
    if not end > begin:
        raise ValueError("end must be after begin")
    values = []
    for t in np.ravel(step):
        if t <= begin:
            values.append(initial)
        elif t >= end:
            values.append(final)
        else:
            values.append(final - (final - initial) * ((end - t) / (end - begin)) ** 3)
    return np.reshape(values, np.shape(step))


@right("cubic_sparsity")
def cubic_in_torch_float32(step, begin=0, end=200, initial=0.0, final=0.9):
    if begin >= end:
        raise ValueError("end")
    left = 1 - ((torch.tensor(np.array(step)).float() - begin) / (end - begin)).clamp(
        0, 1
    )
    return final + (initial - final) * left**3


@right("cubic_sparsity")
def cubic_by_clipping_steps(step, begin=0, end=200, initial=0.0, final=0.9):
    if end <= begin:
        raise ValueError("length")
    t = np.minimum(np.maximum(step, begin), end)
    return initial + (final - initial) * (1 - (1 - (t - begin) / (end - begin)) ** 3)


# 6. remove_filters ------------------------------------------------------------------------------------------


@right("remove_filters")
def remove_by_concatenation(w1, b1, w2, keep):
    channels = w1.shape[0]
    if (
        len(keep) == 0
        or len(keep) != len(set(keep))
        or any(c not in range(channels) for c in keep)
    ):
        raise ValueError("keep")
    width = w2.shape[1] // channels  # 1 for a convolution
    blocks = [w2[:, c * width : (c + 1) * width] for c in keep]
    return (
        torch.stack([w1[c] for c in keep]),
        torch.stack([b1[c] for c in keep]),
        torch.cat(blocks, dim=1),
    )


@right("remove_filters")
def remove_in_numpy(w1, b1, w2, keep):
    if (
        not keep
        or sorted(set(keep)) != sorted(keep)
        or min(keep) < 0
        or max(keep) >= len(b1)
    ):
        raise ValueError("keep")
    stay = np.isin(np.arange(len(b1)), keep)
    columns = np.repeat(stay, w2.shape[1] // len(b1))
    return [
        w1.numpy()[stay],
        b1.numpy()[stay],
        np.ascontiguousarray(w2.numpy()[:, columns]),
    ]


@right("remove_filters")
def remove_by_index_select(w1, b1, w2, keep):
    known = set(range(w1.size(0)))
    if len(keep) == 0 or len(set(keep)) != len(keep) or not known.issuperset(keep):
        raise ValueError("keep")
    index = torch.tensor(keep)
    if w2.dim() == 2:
        grouped = w2.unflatten(1, (w1.size(0), -1)).index_select(1, index).flatten(1)
    else:
        grouped = w2.index_select(1, index)
    return w1.index_select(0, index), b1.index_select(0, index), grouped


# 7. compress ------------------------------------------------------------------------------------------------


@right("compress")
def units_and_weights(state, images, labels):
    # first the quarter of the hidden units that matter least, physically; then weights; Adam in float64 throughout
    new = {name: value.double() for name, value in state.items()}
    for i, count in ((1, 52), (2, 28)):
        rows, bias, readers = (
            new[f"fc{i}.weight"],
            new[f"fc{i}.bias"],
            new[f"fc{i + 1}.weight"],
        )
        importance = rows.square().sum(1) + bias.square() + readers.square().sum(0)
        keep = importance.topk(count).indices.sort().values
        new |= {
            f"fc{i}.weight": rows[keep],
            f"fc{i}.bias": bias[keep],
            f"fc{i + 1}.weight": readers[:, keep],
        }
    values = [value.clone().requires_grad_() for value in new.values()]
    every = torch.cat(
        [value.detach().abs().flatten() for value in values if value.ndim == 2]
    )
    threshold = every.sort(descending=True).values[1350]
    masks = [
        (value.abs() > threshold) if value.ndim == 2 else torch.ones_like(value)
        for value in values
    ]
    torch.manual_seed(0)
    optimizer, steps = torch.optim.Adam(values), 500
    for step in range(steps):
        with torch.no_grad():
            for value, mask in zip(values, masks, strict=True):
                value *= mask
        optimizer.param_groups[0]["lr"] = 0.01 * (1 - step / steps)
        batch = torch.randint(len(images), (128,))
        w1, b1, w2, b2, w3, b3 = values
        hidden = torch.relu(torch.relu(images[batch].double() @ w1.T + b1) @ w2.T + b2)
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(hidden @ w3.T + b3, labels[batch]).backward()
        optimizer.step()
    return {
        name: (value * mask).detach().numpy()
        for name, value, mask in zip(new, values, masks, strict=True)
    }


@right("compress")
def in_rounds_by_hand(state, images, labels):
    # three rounds of pruning with momentum written out; the masks are put on after every step
    new = {name: value.clone().requires_grad_() for name, value in state.items()}
    values = list(new.values())
    speed = [torch.zeros_like(value) for value in values]
    generator = torch.Generator().manual_seed(0)
    matrices = [value for value in values if value.ndim == 2]
    for sparsity in (0.5, 0.7, 0.79):
        with torch.no_grad():
            every = torch.cat([value.abs().flatten() for value in matrices])
            threshold = every.quantile(sparsity)
            masks = [
                value.abs() > threshold if value.ndim == 2 else torch.ones_like(value)
                for value in values
            ]
        for step in range(200):
            batch = torch.randint(len(images), (128,), generator=generator)
            x = images[batch]
            for i in (1, 2, 3):
                x = (torch.relu(x) if i > 1 else x) @ new[f"fc{i}.weight"].T + new[
                    f"fc{i}.bias"
                ]
            slopes = torch.autograd.grad(
                torch.nn.functional.cross_entropy(x, labels[batch]), values
            )
            with torch.no_grad():
                for value, v, slope, mask in zip(
                    values, speed, slopes, masks, strict=True
                ):
                    v.mul_(0.9).add_(slope)
                    value -= 0.05 * (1 - step / 200) * v
                    value *= mask
    return {name: value.detach() for name, value in new.items()}
