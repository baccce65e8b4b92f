"""What the grader knows about the lab "Pruning": fresh cases and oracles that are not the answer.

Masks and removed filters are exact. The other tolerances are derived where they stand, at the end of the file. The
first case of an exercise is fixed and tells the mistakes of `wrong.py` apart whatever the seed; the others are drawn
anew in each run. Where a score would be a tie, the docstring says who stays; sparsities are drawn so that the number
of removed weights is never a matter of rounding.

What this file is *not*: shown to students. They get the public cases with the expected values.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from measure import accuracy, judge_compress
from torch.nn import functional as F

from dca_lab.grading.exercise import Case, Exercise

TITLE = "Pruning"
HELPERS = ()
CHOICES = {"final": (0.9, 0.8, 0.85, 0.95), "steps": (200, 160, 240, 300)}


def _weights(rng, *shape, dtype=torch.float32):
    """Numbers of both signs whose magnitudes all differ: a shuffled ladder, so that no rule for ties is needed."""
    count = int(np.prod(shape))
    ladder = (1 + rng.permutation(count)) / 8  # exact in float16 and above
    return torch.tensor(ladder * rng.choice([-1.0, 1.0], count), dtype=dtype).reshape(
        shape
    )


def _sparsity(rng, count):
    """A share of `count` pieces, a fifth of a piece away from a whole number: rounding must go to the near one."""
    removed = int(rng.integers(1, count))
    return float((removed + rng.choice([-0.2, 0.2])) / count)


# 1. magnitude_mask ------------------------------------------------------------------------------------------


def mask_cases(rng, constants):
    fixed = np.random.default_rng(3)
    first = _weights(fixed, 7, 9)
    yield Case((first * first.abs(), 29.7 / 63))  # 30 go, 29 when the number is cut off
    # ties at zero
    yield Case(
        (torch.tensor([[0.0, 3.0, 0.0], [-2.0, 0.0, 0.0], [1.0, 0.0, -5.0]]), 4 / 9)
    )
    yield Case((torch.tensor([[2.0, -2.0, 2.0, -2.0]]), 0.5))
    yield Case((_weights(rng, 4, 3), 0.0))
    yield Case((_weights(rng, 4, 3), 1.0))
    yield Case((torch.tensor([-0.5], dtype=torch.float64), 0.3))
    yield Case((_weights(rng, 4, 3, 3, 3, dtype=torch.float64), _sparsity(rng, 108)))
    yield Case((_weights(rng, 12, 5).T, _sparsity(rng, 60)))  # not contiguous
    yield Case((_weights(rng, 5, 8), 1.2))
    yield Case((_weights(rng, 5, 8), -0.1))


def mask_oracle(weight, sparsity):
    if not 0 <= sparsity <= 1:
        raise ValueError("sparsity is a share")
    # brute force on Python numbers: sort all places by magnitude, of equals the first in reading order first
    sizes = [abs(w) for w in weight.flatten().tolist()]
    order = sorted(range(len(sizes)), key=lambda place: (-sizes[place], place))
    kept = set(order[: round((1 - sparsity) * len(sizes))])
    return np.array([place in kept for place in range(len(sizes))]).reshape(
        weight.shape
    )


# 2. n_m_mask ------------------------------------------------------------------------------------------------


def n_m_cases(rng, constants):
    fixed = np.random.default_rng(5)
    yield Case((_weights(fixed, 8, 24), 1, 4))
    yield Case((_weights(fixed, 8, 24), 2, 4))
    yield Case((torch.tensor([[-8.0, 1.0, 2.0, 3.0, 0.5, -0.25, 0.125, 0.75]]), 2, 4))
    # ties
    yield Case((torch.tensor([[0.0, 0.0, 0.0, 0.0], [1.0, -1.0, 1.0, -1.0]]), 2, 4))
    yield Case((torch.tensor([[-3.0]], dtype=torch.float64), 1, 1))
    m = int(rng.integers(3, 9))
    yield Case(
        (_weights(rng, 6, 3 * m, dtype=torch.float64), int(rng.integers(1, m)), m)
    )
    yield Case((_weights(rng, 16, 4).T, 2, 8))  # (4, 16), not contiguous
    yield Case((_weights(rng, 4, 10), 2, 4))
    yield Case((_weights(rng, 4, 8), 5, 4))
    yield Case((_weights(rng, 4, 8), 0, 4))


def n_m_oracle(weight, n, m):
    if weight.shape[1] % m or not 1 <= n <= m:
        raise ValueError("no groups")
    mask = np.zeros(tuple(weight.shape), dtype=bool)
    for r, row in enumerate(weight.tolist()):
        for start in range(0, len(row), m):
            places = sorted(
                range(start, start + m), key=lambda place: (-abs(row[place]), place)
            )
            mask[r, places[:n]] = True
    return mask


# 3. global_masks --------------------------------------------------------------------------------------------


def _layers(rng, shapes, dtype=torch.float32):
    """Several tensors whose magnitudes all differ, some of them large and some small."""
    sizes = [int(np.prod(shape)) for shape in shapes]
    whole, found, at = _weights(rng, sum(sizes), dtype=dtype), {}, 0
    # half of the first tensor's numbers are made the largest of all: layers differ in how much they lose
    order = whole.abs().argsort(descending=True)
    top = order[: sizes[0] // 2]
    rest = torch.tensor(np.setdiff1d(np.arange(len(whole)), top.numpy()))
    whole = torch.cat([whole[top], whole[rest]])
    for index, (shape, size) in enumerate(zip(shapes, sizes, strict=True)):
        found[f"layer{index}.weight"] = whole[at : at + size].reshape(shape)
        at += size
    return found


def global_cases(rng, constants):
    fixed = np.random.default_rng(8)
    yield Case((_layers(fixed, [(6, 5), (4, 6), (3, 4)]), 40.2 / 66))
    yield Case(({"only": _weights(rng, 3, 4)}, 0.5))
    yield Case(
        (_layers(rng, [(8, 3, 3, 3), (1,), (5, 8)], torch.float64), _sparsity(rng, 257))
    )
    yield Case((_layers(rng, [(7, 7), (9, 7)]), _sparsity(rng, 112)))
    yield Case((_layers(rng, [(4, 4), (2, 4)]), 0.0))
    yield Case((_layers(rng, [(4, 4), (2, 4)]), 1.0))
    small = {
        "a": torch.full((3, 3), 1e-6) * torch.arange(1, 10).reshape(3, 3),
        "b": _weights(rng, 3, 3),
    }
    yield Case((small, 0.5))  # the small layer loses everything
    yield Case((_layers(rng, [(4, 4), (2, 4)]), 1.01))


def global_oracle(weights, sparsity):
    if not 0 <= sparsity <= 1:
        raise ValueError("sparsity is a share")
    ranked = sorted(
        (-abs(w), name, i)
        for name in weights
        for i, w in enumerate(weights[name].flatten().tolist())
    )
    masks = {name: np.zeros(weights[name].numel(), dtype=bool) for name in weights}
    for _, name, i in ranked[: round((1 - sparsity) * len(ranked))]:
        masks[name][i] = True
    return {
        name: mask.reshape(tuple(weights[name].shape)) for name, mask in masks.items()
    }


# 4. obs_saliency --------------------------------------------------------------------------------------------


def _hessian(rng, size):
    """Symmetric, with eigenvalues from 1 to 50 in a random basis: far from diagonal, and its condition is known."""
    basis, _ = np.linalg.qr(rng.normal(size=(size, size)))
    return basis @ np.diag(np.linspace(1, 50, size)) @ basis.T


def obs_cases(rng, constants):
    fixed = np.random.default_rng(11)
    yield Case((fixed.normal(size=6), _hessian(fixed, 6)))
    yield Case((np.array([2.0]), np.array([[0.5]])))
    # nothing to repair with
    yield Case((np.array([1.0, -2.0, 0.0]), np.diag([1.0, 4.0, 9.0])))
    for size in (3, 9):
        yield Case((rng.normal(size=size), _hessian(rng, size)))


def obs_oracle(weights, hessian):
    # The theorem's left side: delete one weight, let least squares refit the others, and measure the damage.
    # With H = L L^T the loss 0.5 d^T H d is 0.5 |L^T d|^2.
    root = np.linalg.cholesky(hessian).T
    costs = []
    for q in range(len(weights)):
        others = np.delete(root, q, axis=1)
        target = root[:, q] * weights[q]
        repair = (
            np.linalg.lstsq(others, target, rcond=None)[0]
            if others.size
            else np.zeros(0)
        )
        costs.append(0.5 * np.sum((others @ repair - target) ** 2))
    return np.array(costs)


# 5. cubic_sparsity ------------------------------------------------------------------------------------------


def cubic_cases(rng, constants):
    final, steps = constants["final"], constants["steps"]
    yield Case((np.array([0, 5, 10, 20, 30, 40, 55, 60, 90]), 10, 50, 0.2, 0.8))
    yield Case((np.linspace(0, steps, 9), 0, steps, 0.0, final))
    # With `step` alone the student's own schedule counts. An oracle gets the arguments alone, so the shape of `step`
    # says which variant is asked.
    own = (steps // 20, round(20 * final))
    yield Case((np.linspace(-10, 1.1 * steps, own[0] * own[1]).reshape(own),))
    yield Case((rng.integers(0, steps + 20, own),))
    yield Case((np.array([3]), 3, 4, 0.0, 1.0))
    for _ in range(2):
        begin = int(rng.integers(0, 50))
        end = begin + int(rng.integers(5, 100))
        initial, final = sorted(float(s) for s in rng.uniform(0, 1, 2))
        yield Case((rng.integers(-10, 200, (2, 6)), begin, end, initial, final))
    yield Case((np.array([1, 2]), 5, 5, 0.0, 0.9))
    yield Case((np.array([1, 2]), 6, 5, 0.0, 0.9))


def cubic_oracle(step, begin=0, end=None, initial=0.0, final=None):
    if end is None:  # see cubic_cases
        end, final = 20 * step.shape[0], step.shape[1] / 20
    if end <= begin:
        raise ValueError("the schedule must have a length")

    def one(t):  # the polynomial multiplied out, on the clamped share of the way
        share = min(max((t - begin) / (end - begin), 0.0), 1.0)
        return initial + (final - initial) * (3 * share - 3 * share**2 + share**3)

    return np.array([one(float(t)) for t in np.ravel(step)]).reshape(np.shape(step))


# 6. remove_filters ------------------------------------------------------------------------------------------


def _pair(rng, out, inputs, kernel, after, positions=None, dtype=torch.float32):
    """Weights of a convolution and of what reads it: a convolution, or a linear layer behind a flatten."""
    w2 = (
        _weights(rng, after, out, kernel, kernel)
        if positions is None
        else _weights(rng, after, out * positions)
    )
    return [
        part.to(dtype)
        for part in (_weights(rng, out, inputs, kernel, kernel), _weights(rng, out), w2)
    ]


def remove_cases(rng, constants):
    fixed = np.random.default_rng(13)
    yield Case((*_pair(fixed, 6, 3, 3, 6, positions=4), [1, 2, 5]))
    yield Case((*_pair(fixed, 6, 6, 3, 6), [0, 2, 3]))
    yield Case((*_pair(rng, 1, 1, 1, 1), [0]))
    yield Case((*_pair(rng, 5, 2, 2, 3, positions=1), [4]))
    for positions in (None, int(rng.integers(2, 10))):
        out = int(rng.integers(4, 10))
        keep = sorted(
            int(c) for c in rng.choice(out, int(rng.integers(2, out)), replace=False)
        )
        w1, b1, w2 = _pair(rng, out, 2, 3, 5, positions, torch.float64)
        # not contiguous
        yield Case((w1, b1, w2.transpose(0, 1).contiguous().transpose(0, 1), keep))
    yield Case((*_pair(rng, 4, 2, 3, 3), []))
    yield Case((*_pair(rng, 4, 2, 3, 3), [1, 1]))
    yield Case((*_pair(rng, 4, 2, 3, 3), [0, 4]))
    yield Case((*_pair(rng, 4, 2, 3, 3), [-1, 2]))


def remove_oracle(w1, b1, w2, keep):
    if not keep or len(set(keep)) != len(keep) or not set(keep) <= set(range(len(w1))):
        raise ValueError("keep must name channels once each")
    # one channel after the other, with the reader's columns seen as (channel, position)
    positions = w2.shape[1] // len(w1) if w2.ndim == 2 else 1
    columns = [c * positions + p for c in keep for p in range(positions)]
    readers = [np.take(w2.numpy(), column, axis=1) for column in columns]
    return (
        np.stack([w1.numpy()[c] for c in keep]),
        np.array([b1.tolist()[c] for c in keep]),
        np.stack(readers, axis=1),
    )


# 7. compress (capstone) -------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def _mnist():
    from dca_lab import data

    return data.load("mnist")


def _small(pictures):
    """28 x 28 bytes -> 64 bytes: the border of two goes, windows of 3 x 3 are averaged."""
    blocks = pictures[:, 2:26, 2:26].reshape(-1, 8, 3, 8, 3)
    return blocks.mean((2, 4)).round().astype(np.uint8).reshape(-1, 64)


def _trained(x, y, seed):
    """A dense 64-64-32-10 network. Adam is written out: importing torch.optim costs more than this training."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, (out, inputs) in {
        "fc1": (64, 64),
        "fc2": (32, 64),
        "fc3": (10, 32),
    }.items():
        state[f"{name}.weight"] = (
            torch.randn(out, inputs, generator=generator) * (2 / inputs) ** 0.5
        )
        state[f"{name}.bias"] = torch.zeros(out)
    parameters = [value.requires_grad_() for value in state.values()]
    first, second, steps = (
        [torch.zeros_like(p) for p in parameters],
        [torch.zeros_like(p) for p in parameters],
        250,
    )
    for step in range(steps):
        batch = torch.randint(len(x), (128,), generator=generator)
        hidden = F.relu(F.linear(x[batch], state["fc1.weight"], state["fc1.bias"]))
        hidden = F.relu(F.linear(hidden, state["fc2.weight"], state["fc2.bias"]))
        loss = F.cross_entropy(
            F.linear(hidden, state["fc3.weight"], state["fc3.bias"]), y[batch]
        )
        slopes = torch.autograd.grad(loss, parameters)
        with torch.no_grad():
            for p, m, v, g in zip(parameters, first, second, slopes, strict=True):
                m.lerp_(g, 0.1)
                v.lerp_(g * g, 0.01)
                correction = (1 - 0.99 ** (step + 1)) ** 0.5 / (1 - 0.9 ** (step + 1))
                p -= 0.01 * (1 - step / steps) * correction * m / (v.sqrt() + 1e-8)
    return {name: value.detach() for name, value in state.items()}


def compress_cases(rng, constants):
    digits = _mnist()
    # the classes are numbered anew: the numbers must be learnt from these images (a network made elsewhere can still be
    # renumbered by them)
    number = rng.permutation(10)
    train = rng.choice(len(digits.x_train), 2000, replace=False)
    test = rng.choice(len(digits.x_test), 3000, replace=False)
    images = torch.tensor(_small(digits.x_train[train]), dtype=torch.float32) / 255
    labels = torch.tensor(number[digits.y_train[train]])
    state = _trained(images, labels, int(rng.integers(1 << 31)))
    held = {
        "images": _small(digits.x_test[test]),
        "labels": number[digits.y_test[test]].astype(np.uint8),
    }
    held["dense"] = accuracy(state, held["images"], held["labels"])
    yield Case((state, images, labels), held)


EXERCISES = (
    Exercise("magnitude_mask", 1, mask_cases, oracle=mask_oracle),
    Exercise("n_m_mask", 2, n_m_cases, oracle=n_m_oracle),
    Exercise("global_masks", 2, global_cases, oracle=global_oracle),
    # Inverting a 9 x 9 matrix of condition 50 in float32 costs about 9 * 50 * 6e-8 = 3e-5, relative; with float64
    # the error is 1e-13. Ten times the former passes, also beside a weight of 0 (atol: the costs are about 1).
    Exercise("obs_saliency", 2, obs_cases, oracle=obs_oracle, rtol=3e-4, atol=1e-9),
    # A dozen roundings of 6e-8 in float32 on numbers up to 1, where 1 - (1 - share)^3 may cancel: absolute.
    Exercise("cubic_sparsity", 1, cubic_cases, oracle=cubic_oracle, atol=1e-6),
    Exercise("remove_filters", 3, remove_cases, oracle=remove_oracle),
    Exercise("compress", 4, compress_cases, judge=judge_compress, seconds=20.0),
)
