"""What the grader knows about the lab "A network in integers": fresh cases, and oracles that are not the answer.

Levels, zero points and integer sums are exact: tolerance 0 for whole numbers. Scales get rtol 1e-6: an honest answer
in float32 rounds its two inputs, a sum and a quotient, each with relative error 6e-8, and every mistake in `wrong.py`
is larger by far. So that float32 and float64 agree on every *rounded* number, random cases keep their quotients at
least 1e-3 away from a tie; exact ties are asked on purpose, with scales that are powers of two. The first cases of
each exercise are fixed and tell all mistakes apart whatever the seed; the others are drawn anew in each run.

What this file is *not*: shown to students. They get the public cases with the expected values.
"""

from __future__ import annotations

import math
from fractions import Fraction
from functools import lru_cache

import numpy as np
import torch
from measure import judge_file
from torch.nn.functional import avg_pool2d

from dca_lab.grading.exercise import Case, Exercise

TITLE = "A network in integers"
HELPERS = ()
CHOICES = {"bits": (4, 3, 5)}


# 1. affine_params -------------------------------------------------------------------------------------------


def affine_cases(rng, constants):
    bits = constants["bits"]
    top = 2**bits - 1
    yield Case((3.0, 6.0, 2))  # the chapter's exercise: the range does not contain zero
    yield Case((-6.0, -3.0, 2))
    yield Case(
        (-1.25, -1.25 + 0.5 * top, bits)
    )  # scale 0.5: the zero point is round(2.5)
    yield Case((-1.0, 2.0, 3))  # the zero point is 2.33, rounded
    yield Case((-1.0, 1.625, 3))  # and here 2.67
    yield Case((3.0, 3.0, bits))  # constants
    yield Case((-2.0, -2.0, bits))
    yield Case((0.0, 0.0, bits))
    for impossible in (
        (math.nan, 1.0),
        (-1.0, math.nan),
        (0.0, math.inf),
        (-math.inf, 0.0),
        (2.0, 1.0),
    ):
        yield Case((*impossible, bits))
    drawn = 0
    while drawn < 6:
        bits, size = int(rng.integers(2, 9)), 10.0 ** rng.uniform(-3, 3)
        low, high = (
            float(end) for end in np.sort(rng.normal(rng.uniform(-2, 2), 1, 2)) * size
        )
        step = (max(high, 0) - min(low, 0)) / (2**bits - 1)
        if (
            abs(abs(min(low, 0)) / step % 1 - 0.5) > 1e-3
        ):  # no tie: float32 and float64 round alike
            drawn += 1
            yield Case((low, high, bits))


def affine_oracle(x_min, x_max, bits):
    """The same numbers as exact fractions: Python rounds a Fraction half to even."""
    if not (math.isfinite(x_min) and math.isfinite(x_max)):
        raise ValueError("a range has finite ends")
    if x_min > x_max:
        raise ValueError("the range is upside down")
    low, high = sorted((Fraction(x_min), Fraction(x_max), Fraction(0)))[::2]
    if low == high:
        return 1.0, 0
    scale = (high - low) / (2**bits - 1)
    return float(scale), round(-low / scale)


# 2. quantize ------------------------------------------------------------------------------------------------


def quantize_cases(rng, constants):
    halves = torch.tensor(
        [-1e6, -9.0, -2.5, -1.5, -0.5, 0.0, 0.5, 1.5, 2.5, 3.5, 40.0, 1e6]
    )
    yield Case((halves / 2, 0.5, 3, 4))  # exact ties, and an odd zero point
    yield Case(
        (torch.tensor([-200.0, -129.0, -0.75, 0.75, 127.0, 128.0, 200.0]), 1.0, 128, 8)
    )
    yield Case((torch.tensor([[0.0, 1.0, math.nan]]), 0.5, 0, 4))
    yield Case((torch.tensor([-math.inf, 1.0]), 0.5, 0, 4))
    widths = [constants["bits"], 2, 8, int(rng.integers(2, 9))]
    for bits, shape in zip(widths, ((7,), (3, 5), (2, 3, 4), (4, 6)), strict=True):
        top, scale = 2**bits - 1, float(10.0 ** rng.uniform(-3, 2))
        zero_point = int(rng.integers(0, top + 1))
        # at most 0.45 from a level: the quotient, rounded to float32 (at most 510 * 6e-8), is never beside a tie
        x = scale * (
            rng.integers(-2 * top, 2 * top + 1, shape) + rng.uniform(-0.45, 0.45, shape)
        )
        x = torch.from_numpy(x).to(torch.float64 if shape == (3, 5) else torch.float32)
        yield Case((x.mT if shape == (4, 6) else x, scale, zero_point, bits))


def quantize_oracle(x, scale, zero_point, bits):
    """Value by value in exact fractions."""
    if not torch.isfinite(x).all():
        raise ValueError("only finite numbers have a level")
    nearest = [
        round(Fraction(value) / Fraction(scale)) + zero_point
        for value in x.flatten().tolist()
    ]
    return np.array([sorted((0, level, 2**bits - 1))[1] for level in nearest]).reshape(
        x.shape
    )


# 3. channel_scales ------------------------------------------------------------------------------------------


def channel_cases(rng, constants):
    yield Case(
        (torch.tensor([[1.0, -3.0, 2.0], [0.0, 0.0, 0.0], [0.5, 0.25, -0.125]]), 3)
    )
    yield Case((torch.tensor([[-4.0, 1.0], [0.5, 2.0], [-0.1, -0.2]]), 8))
    yield Case((torch.zeros(2, 5), 4))
    yield Case((torch.tensor([[0.5, math.nan], [1.0, 2.0]]), 4))
    yield Case((torch.tensor([[0.5, 1.0], [-math.inf, 2.0]]), 4))
    # Without `bits` the student's own number counts. An oracle gets the arguments alone, so these say by their number
    # of channels which variant is asked.
    own = constants["bits"]
    yield Case((torch.tensor([[1.0, -3.0], [0.5, 2.0]] * 4)[:own],))
    yield Case((torch.from_numpy(rng.normal(size=(own, 3, 2, 2))),))
    for shape, bits in (
        ((3, 2, 3, 3), own),
        ((5, 5), 2),
        ((1, 4), 8),
        ((6, 4), 5),
    ):
        # channels as unlike as in a trained network: their sizes spread over two decades
        weight = rng.normal(size=shape) * 10.0 ** rng.uniform(
            -1, 1, (shape[0], *[1] * (len(shape) - 1))
        )
        weight[rng.integers(shape[0])] *= rng.integers(0, 2)  # sometimes a dead channel
        yield Case(
            (
                torch.from_numpy(weight).to(
                    torch.float64 if bits == 2 else torch.float32
                ),
                bits,
            )
        )


def channel_oracle(weight, bits=None):
    bits = bits or len(weight)  # see channel_cases
    rows = weight.double().flatten(1).tolist()
    if not all(math.isfinite(value) for row in rows for value in row):
        raise ValueError("a weight must be finite")
    largest = [max(-min(row), max(row)) for row in rows]
    return [value / (2 ** (bits - 1) - 1) or 1.0 for value in largest]


# 4. best_clip -----------------------------------------------------------------------------------------------


def clip_cases(rng, constants):
    bits = constants["bits"]
    bulk = [k / 16 for k in range(-16, 17)]
    # squared: 1 (6.7 against 11.7); absolute: 0.5; the largest error alone: 3
    yield Case((torch.tensor([*bulk, 3.0]), 2, [3.0, 1.0, 0.5]))
    yield Case((torch.tensor([*bulk, -1.75]), 5, [0.25, 1.0, 1.75, 7.0]))
    yield Case((torch.tensor([0.5, -0.5, 4.0]), 3, [8.0, 0.75, 4.0, 2.0]))
    yield Case((torch.zeros(4), bits, [2.0, 1.0, 3.0]))  # all errors are 0: the first
    yield Case((torch.tensor([-1.0, 1.0, 0.0, 1.0]), 2, [4.0, 1.0, 2.0]))
    drawn = 0
    while drawn < 4:
        width = bits if drawn < 2 else int(rng.integers(2, 7))
        x = torch.from_numpy(
            rng.standard_t(3, (20, 10) if drawn % 2 else (150,))
            * 10.0 ** rng.uniform(-2, 2)
        )
        candidates = [
            float(x.abs().max() * part)
            for part in rng.permutation(np.linspace(0.1, 1, 12))
        ]
        least, second = sorted(clip_errors(x, width, candidates))[:2]
        if (
            second > 1.001 * least
        ):  # float32 sums of 200 squares are good to 1e-5: no doubt about the best
            drawn += 1
            yield Case((x if drawn == 1 else x.float(), width, candidates))


def clip_errors(x, bits, candidates):
    """Squared error of each range, from the distance of each value to all of the levels."""
    signed = np.arange(-(2 ** (bits - 1)) + 1, 2 ** (bits - 1))
    values = x.double().numpy().reshape(-1, 1)
    return [
        float(np.square(values - signed * (c / signed[-1])).min(axis=1).sum())
        for c in candidates
    ]


def clip_oracle(x, bits, candidates):
    errors = clip_errors(x, bits, candidates)
    return candidates[errors.index(min(errors))]


# 5. integer_linear ------------------------------------------------------------------------------------------


def integer_cases(rng, constants):
    q_x = torch.tensor([[0, 10, 255], [3, 7, 200]], dtype=torch.uint8)
    q_w = torch.tensor(
        [[1, -2, 3], [127, -127, 5], [0, 0, 0], [-5, 100, -127]], dtype=torch.int8
    )
    yield Case((q_x, 100, q_w, torch.tensor([5, -1000, 70000, 0], dtype=torch.int32)))
    # 601 products of 255 and 127: an odd sum above 2^24, which no float32 can hold
    full = (
        torch.full((1, 601), 255, dtype=torch.uint8),
        torch.full((2, 601), 127, dtype=torch.int8),
    )
    full[1][1] = -127
    yield Case((full[0], 0, full[1], torch.tensor([0, 0], dtype=torch.int32)))
    for batch, inputs, outputs in ((1, 1, 1), (3, 3, 3), (4, 40, 5)):
        q_x, q_w = (
            rng.integers(0, 256, (batch, inputs)),
            rng.integers(-127, 128, (outputs, inputs)),
        )
        bias = torch.from_numpy(rng.integers(-100_000, 100_000, outputs)).int()
        zero_x = int(rng.integers(1, 256))
        yield Case(
            (
                torch.from_numpy(q_x).byte(),
                zero_x,
                torch.from_numpy(q_w).to(torch.int8),
                bias,
            )
        )


def integer_oracle(q_x, zero_x, q_w, bias):
    """Python's integers: as long as they need to be."""
    q_x, q_w, bias = q_x.tolist(), q_w.tolist(), bias.tolist()
    return [
        [
            sum((x - zero_x) * w for x, w in zip(xs, ws, strict=True)) + b
            for ws, b in zip(q_w, bias, strict=True)
        ]
        for xs in q_x
    ]


# 6. requantize ----------------------------------------------------------------------------------------------


def requantize_cases(rng, constants):
    quarters = [-2000, -10, -7, -6, -5, -3, -2, -1, 0, 1, 2, 3, 5, 6, 7, 10, 2000]
    yield Case(
        (torch.tensor(quarters, dtype=torch.int32), 2**30, 32, 10)
    )  # M = 1/4, with ties
    # M = 2^-28: the first value is 7.5 less one part in 2^28, which float32 rounds to the tie
    near = [15 * 2**27 - 1, 15 * 2**27, -(2**31), 2**31 - 1, 0]
    yield Case((torch.tensor(near, dtype=torch.int32), 2**30, 58, 3))
    for shape in ((9,), (3, 4), (2, 2, 3)):
        multiplier, shift = int(rng.integers(2**30, 2**31)), int(rng.integers(34, 48))
        zero_point = int(rng.integers(1, 255))
        levels = rng.integers(
            -300, 600, shape
        )  # below, on and above the levels that there are
        acc = np.clip(
            (levels + rng.uniform(-0.4, 0.4, shape)) * 2.0**shift / multiplier,
            -(2**31),
            2**31 - 1,
        )
        yield Case(
            (
                torch.from_numpy(np.rint(acc)).to(torch.int32),
                multiplier,
                shift,
                zero_point,
            )
        )


def requantize_oracle(acc, multiplier, shift, zero_point):
    real = [Fraction(value * multiplier, 2**shift) for value in acc.flatten().tolist()]
    levels = [math.floor(value + Fraction(1, 2)) + zero_point for value in real]
    return np.array([sorted((0, level, 255))[1] for level in levels]).reshape(acc.shape)


# 7. saturating_dot ------------------------------------------------------------------------------------------


def saturating_cases(rng, constants):
    for q_x, q_w in (
        ([255, 255], [127, 127]),
        ([255] * 5, [-128] * 5),
        (
            [255, 0, 255, 0],
            [127, 1, 127, 1],
        ),  # only values that are neighbours share 16 bits
        ([255, 255, 255, 255, 200, 9], [127, 127, -127, -127, 100, -3]),
        ([255, 200, 240, 250, 3], [127, 120, 127, 110, 2]),
        ([7], [-3]),
    ):
        yield Case(
            (torch.tensor(q_x, dtype=torch.uint8), torch.tensor(q_w, dtype=torch.int8))
        )
    for size in (2, 33, 64):
        q_x, q_w = rng.integers(0, 256, size), rng.integers(-128, 128, size)
        yield Case((torch.from_numpy(q_x).byte(), torch.from_numpy(q_w).to(torch.int8)))


def saturating_oracle(q_x, q_w):
    """Exact products, added in numpy's 64 bits, cut at what numpy says that an int16 holds."""
    products = np.pad(q_x.numpy().astype(np.int64) * q_w.numpy(), (0, len(q_x) % 2))
    ends = np.iinfo(np.int16)
    return int(
        np.add.reduceat(products, np.arange(0, len(products), 2))
        .clip(ends.min, ends.max)
        .sum()
    )


# 8. compress ------------------------------------------------------------------------------------------------


def eight_by_eight(images):
    """28 x 28 in a frame of two pixels, then the mean of each 4 x 4: float32 (N, 64), 0 to 1."""
    pixels = torch.tensor(images, dtype=torch.float32).unsqueeze(1) / 255
    return avg_pool2d(pixels, 4, padding=2).flatten(1).numpy()


@lru_cache(maxsize=4)
def trained(seed: int):
    """A network 64 - hidden - 10: its weights, pictures of its training, pictures held out.

    Backpropagation is written out, for importing torch.optim costs more than all of the training.
    """
    from dca_lab import data

    mnist, rng = data.load("mnist"), np.random.default_rng(seed)
    hidden = int(rng.choice((80, 96, 112)))
    here = rng.permutation(len(mnist.x_train))[:4000]
    held = rng.permutation(len(mnist.x_test))[:2000]
    x, y = eight_by_eight(mnist.x_train[here]), mnist.y_train[here]
    sizes = ((hidden, 64), (10, hidden))
    w1, w2 = (
        rng.normal(0, (2 / n) ** 0.5, (m, n)).astype(np.float32) for m, n in sizes
    )
    parameters = [w1, np.zeros(hidden, np.float32), w2, np.zeros(10, np.float32)]
    speeds = [np.zeros_like(value) for value in parameters]
    w1, b1, w2, b2 = parameters
    for rate in np.linspace(0.2, 0.01, 10):
        for batch in np.array_split(rng.permutation(len(x)), 80):
            h = np.maximum(x[batch] @ w1.T + b1, 0)
            scores = np.exp(h @ w2.T + b2)
            slope = scores / scores.sum(axis=1, keepdims=True)
            slope[np.arange(len(batch)), y[batch]] -= 1
            slope /= len(batch)
            back = (slope @ w2) * (h > 0)
            slopes = (back.T @ x[batch], back.sum(0), slope.T @ h, slope.sum(0))
            for value, speed, change in zip(parameters, speeds, slopes, strict=True):
                speed *= 0.9
                speed -= np.float32(rate) * change
                value += speed
    names = ("fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias")
    state = dict(zip(names, parameters, strict=True))
    held_out = {"x": eight_by_eight(mnist.x_test[held]), "y": mnist.y_test[held]}
    return state, x[:512], held_out


def compress_cases(rng, constants):
    state, x, held_out = trained(int(rng.integers(2**31)))
    own = {name: value.copy() for name, value in state.items()}
    tensors = {name: torch.tensor(value) for name, value in state.items()}
    yield Case((tensors, torch.tensor(x)), held={"state": own, **held_out})


EXERCISES = (
    Exercise(
        "affine_params", points=10, cases=affine_cases, oracle=affine_oracle, rtol=1e-6
    ),
    Exercise("quantize", points=10, cases=quantize_cases, oracle=quantize_oracle),
    Exercise(
        "channel_scales",
        points=10,
        cases=channel_cases,
        oracle=channel_oracle,
        rtol=1e-6,
    ),
    Exercise("best_clip", points=15, cases=clip_cases, oracle=clip_oracle, rtol=1e-6),
    Exercise("integer_linear", points=10, cases=integer_cases, oracle=integer_oracle),
    Exercise("requantize", points=15, cases=requantize_cases, oracle=requantize_oracle),
    Exercise(
        "saturating_dot", points=10, cases=saturating_cases, oracle=saturating_oracle
    ),
    Exercise("compress", points=20, cases=compress_cases, judge=judge_file, seconds=20),
)
