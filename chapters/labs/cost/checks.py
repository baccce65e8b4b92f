"""What the grader knows about the lab "What a network costs": fresh cases and oracles that are not the answer.

Counts are exact integers. Floating-point answers get rtol 1e-6: at most eight roundings, each of relative
size 6e-8 in float32, so an honest answer in float32 or float64 passes, and every mistake in `wrong.py` is
larger by far. The first case of an exercise is fixed and tells all of those mistakes apart whatever the seed;
the others are drawn anew in each run.

What this file is *not*: shown to students. They get the public cases with the expected values.
"""

from __future__ import annotations

import statistics
from functools import lru_cache

import numpy as np
import torch
from measure import judge_design
from torch import nn

from dca_lab.grading.exercise import Case, Exercise

TITLE = "What a network costs"
HELPERS = ()
# rates are primes, so that no two variants have the same budget for a picture
CHOICES = {"pictures": (60, 24, 30, 50, 90, 120), "rate": (2, 7, 11, 13, 17, 19)}


# 1. linear_cost ---------------------------------------------------------------------------------------------


def linear_cases(rng, constants):
    yield Case((300, 100, 4, True))
    yield Case((5, 3))  # the defaults
    yield Case((1, 1, 1, False))
    for bias in (True, False):
        yield Case(
            (*(int(n) for n in rng.integers(2, 60, 2)), int(rng.integers(2, 9)), bias)
        )


def linear_oracle(inputs, outputs, batch=1, bias=True):
    layer, x = nn.Linear(inputs, outputs, bias=bias), torch.zeros(batch, inputs)
    # (batch, outputs, inputs): every product of the layer, one each
    products = x[:, None, :] * layer.weight
    return {
        "parameters": sum(p.numel() for p in layer.parameters()),
        "bytes": sum(p.nbytes for p in layer.parameters()),
        "macs": products.numel(),
    }


# 2. conv_macs -----------------------------------------------------------------------------------------------


def conv_cases(rng, constants):
    yield Case(((9, 12), 4, 6, 3, 2, 1, 2))
    yield Case(((28, 28), 1, 6, 5))
    yield Case(((1, 1), 1, 1, 1, 1, 0, 1))
    # the window covers the padded image exactly: one row of outputs
    yield Case(((3, 5), 2, 3, 5, 1, 1, 1))
    yield Case(((7, 6), 4, 4, 3, 1, 1, 4))  # depthwise
    for _ in range(3):
        groups, kernel = int(rng.integers(1, 4)), int(rng.integers(1, 6))
        image = tuple(int(n) for n in rng.integers(5, 17, 2))
        channels = (groups * int(n) for n in rng.integers(1, 5, 2))
        yield Case(
            (
                image,
                *channels,
                kernel,
                int(rng.integers(1, 4)),
                int(rng.integers(0, 3)),
                groups,
            )
        )
    yield Case(((8, 8), 3, 4, 3, 1, 1, 2))  # 3 channels in 2 groups
    yield Case(((8, 8), 4, 3, 3, 1, 1, 2))  # 3 outputs in 2 groups
    yield Case(((9, 2), 1, 1, 5, 1, 1, 1))  # 5 > 2 + 2


def conv_oracle(
    image, in_channels, out_channels, kernel, stride=1, padding=0, groups=1
):
    if in_channels % groups or out_channels % groups:
        raise ValueError("groups must divide both channel counts")
    if min(image) + 2 * padding < kernel:
        raise ValueError("the window is larger than the padded image")
    layer = nn.Conv2d(in_channels, out_channels, kernel, stride, padding, groups=groups)
    # torch decides what the output's shape is
    output = layer(torch.zeros(1, in_channels, *image))
    return output.numel() * layer.weight[0].numel()


# 3. network_macs --------------------------------------------------------------------------------------------


def _conv(channels, kernel, stride=1, padding=0, groups=1):
    return {
        "kind": "conv",
        "channels": int(channels),
        "kernel": int(kernel),
        "stride": int(stride),
        "padding": int(padding),
        "groups": int(groups),
    }


RELU, FLATTEN = {"kind": "relu"}, {"kind": "flatten"}


def _linear(outputs):
    return {"kind": "linear", "outputs": int(outputs)}


def _pool(size):
    return {"kind": "pool", "size": int(size)}


def network_cases(rng, constants):
    everything = [
        _conv(6, 3, 2, 1),
        RELU,
        _conv(4, 3, 1, 1, groups=2),
        _pool(3),
        FLATTEN,
        _linear(7),
        RELU,
        _linear(5),
    ]
    yield Case((everything, (3, 14, 17)))
    yield Case(([], (1, 8, 8)))
    yield Case(([FLATTEN, _linear(1)], (1, 1, 1)))
    yield Case(([_pool(2), FLATTEN, _linear(10)], (2, 5, 7)))
    for _ in range(2):
        a, b, c = (2 * int(n) for n in rng.integers(1, 5, 3))
        layers = [
            _conv(a, 3, rng.integers(1, 3), 1),
            RELU,
            _pool(2),
            _conv(b, 2, 1, 0, groups=2),
            RELU,
        ]
        layers += [FLATTEN, _linear(c), RELU, _linear(rng.integers(2, 9))]
        yield Case(
            (
                layers,
                (int(rng.integers(1, 4)), *(int(n) for n in rng.integers(9, 17, 2))),
            )
        )
    # a map into a linear layer
    yield Case(([_conv(2, 3, 1, 1), _linear(10)], (1, 8, 8)))
    yield Case(([FLATTEN, {"kind": "dropout"}, _linear(10)], (1, 8, 8)))


def network_oracle(layers, image):
    x, counts = torch.zeros(1, *image), []
    for layer in layers:
        match layer["kind"]:
            case "conv":
                what = ("kernel", "stride", "padding")
                module = nn.Conv2d(
                    x.shape[1],
                    layer["channels"],
                    *(layer[k] for k in what),
                    groups=layer["groups"],
                )
            case "pool":
                module = nn.AvgPool2d(layer["size"])
            case "relu":
                module = nn.ReLU()
            case "flatten":
                module = nn.Flatten()
            case "linear" if x.ndim == 2:
                module = nn.Linear(x.shape[1], layer["outputs"])
            case _:
                raise ValueError("an unknown kind, or a linear layer on a map")
        x = module(x)
        counts.append(
            x.numel() * module.weight[0].numel() if hasattr(module, "weight") else 0
        )
    return counts


# 4. linear_intensity ----------------------------------------------------------------------------------------


def intensity_cases(rng, constants):
    yield Case((np.array([1, 4, 16, 64]), 300, 100, 4))
    yield Case((np.array([1]), 1, 1, 1))
    yield Case((np.array([[1, 2], [3, 128]]), 50, 7))
    for size in (2, 4):
        batch = np.sort(rng.integers(1, 200, 6))[::-1]  # a view with a negative stride
        yield Case((batch, int(rng.integers(2, 900)), int(rng.integers(2, 900)), size))


def intensity_oracle(batch, inputs, outputs, bytes_each=4):
    def one(b):  # with whole numbers, which Python never rounds
        moved = [b * inputs, inputs * outputs, b * outputs]
        return 2 * b * inputs * outputs / sum(bytes_each * n for n in moved)

    return np.array([one(int(b)) for b in batch.flat]).reshape(batch.shape)


# 5. attainable ----------------------------------------------------------------------------------------------


def attainable_cases(rng, constants):
    # ridge at 4: exact numbers
    yield Case((np.array([0.25, 0.5, 2.0, 4.0, 8.0, 16.0, 64.0]), 32.0, 8.0))
    yield Case((np.array([0.0]), 1e11, 1e10))
    yield Case((np.array([[3.0, 5.0], [7.0, 0.1]]), 5.0, 1.0))
    for _ in range(2):
        peak, bandwidth = rng.uniform(10, 200), rng.uniform(1, 30)
        yield Case(
            (
                peak / bandwidth * np.exp(rng.uniform(-3, 3, 9)),
                float(peak),
                float(bandwidth),
            )
        )
    yield Case((np.array([1.0, 2.0]), 0.0, 8.0))
    yield Case((np.array([1.0, 2.0]), 32.0, -1.0))


def attainable_oracle(intensity, peak, bandwidth):
    if peak <= 0 or bandwidth <= 0:
        raise ValueError("a machine that does nothing")
    # the theorem itself: F = intensity operations on one byte, and the longer of the two times
    compute, traffic = intensity / peak, np.full_like(intensity, 1 / bandwidth)
    speed = intensity / np.maximum(compute, traffic)
    return speed, intensity * bandwidth < peak


# 6. widest (personal) ---------------------------------------------------------------------------------------


def _mlp_macs(width, inputs, classes, depth):
    widths = [inputs, *[width] * depth, classes]
    return sum(a * b for a, b in zip(widths, widths[1:], strict=False))


def widest_cases(rng, constants):
    pictures, rate = constants["pictures"], constants["rate"]
    yield Case((rate * 1_000_000 // pictures, 64, 10, 2))
    # Without a budget the student's own counts. An oracle gets the arguments alone, so `inputs` and `classes` say
    # which variant is asked.
    for depth in (1, 2, int(rng.integers(3, 9))):
        yield Case((None, pictures, rate, depth))
    yield Case((_mlp_macs(37, 64, 10, 3), 64, 10, 3))  # met exactly
    yield Case((_mlp_macs(12, 20, 5, 1) - 1, 20, 5, 1))  # missed by one
    yield Case((3, 1, 1, 2))
    yield Case((_mlp_macs(94_906, 7, 3, 2), 7, 3, 2))  # large, and met exactly
    for depth in (1, 2, 4):
        yield Case(
            (
                int(rng.integers(3_000, 90_000)),
                *(int(n) for n in rng.integers(2, 90, 2)),
                depth,
            )
        )
    yield Case((int(rng.integers(10, 70)), 64, 10, 1))  # not even one unit


def widest_oracle(budget, inputs, classes, depth):
    if budget is None:  # see widest_cases
        budget = classes * 1_000_000 // inputs
    # brute force, with steps that halve: the largest width that fits
    width, step = 0, 1 << 20
    while step:
        if _mlp_macs(width + step, inputs, classes, depth) <= budget:
            width += step
        step //= 2
    if width == 0:
        raise ValueError("one hidden unit is too many")
    return width


# 7. paired_ratio --------------------------------------------------------------------------------------------


def _timings(rng, rounds, resamples):
    machine = np.exp(rng.normal(0, 0.5, rounds))  # slow and fast moments hit both
    before = 3e-3 * machine * np.exp(rng.normal(0, 0.1, rounds))
    after = 2e-3 * machine * np.exp(rng.normal(0, 0.1, rounds))
    return before, after, rng.integers(0, rounds, (resamples, rounds))


def paired_cases(rng, constants):
    yield Case(_timings(np.random.default_rng(6), 14, 400))
    yield Case((np.array([3.0]), np.array([2.0]), np.zeros((5, 1), dtype=int)))
    yield Case(
        (
            np.array([2, 4, 6]),
            np.array([1, 1, 4]),
            np.array([[0, 1, 2], [1, 1, 2], [0, 0, 0]]),
        )
    )
    for rounds in (11, 24):
        yield Case(_timings(rng, rounds, 200))
    before, after, picks = _timings(rng, 9, 50)
    yield Case((before, after[:-1], picks))
    yield Case((before, np.where(np.arange(9) == 4, 0.0, after), picks))
    yield Case((-before, after, picks))


def paired_oracle(before, after, resamples):
    if len(before) != len(after) or min(before) <= 0 or min(after) <= 0:
        raise ValueError("pairs of positive seconds are needed")
    ratios = [float(b) / float(a) for b, a in zip(before, after, strict=True)]
    medians = sorted(statistics.median(ratios[i] for i in row) for row in resamples)

    def quantile(share):  # linear between the two neighbours
        place = share * (len(medians) - 1)
        low = int(place)
        high = min(low + 1, len(medians) - 1)
        return medians[low] + (place - low) * (medians[high] - medians[low])

    return statistics.median(ratios), quantile(0.025), quantile(0.975)


# 8. design (capstone) ---------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def _mnist():
    from dca_lab import data

    return data.load("mnist")


def _small(pictures):
    """28 x 28 bytes -> 8 x 8 bytes: the border of two goes, windows of 3 x 3 are averaged."""
    blocks = pictures[:, 2:26, 2:26].reshape(-1, 8, 3, 8, 3)
    return blocks.mean((2, 4)).round().astype(np.uint8)[:, None]  # (n, 1, 8, 8)


def design_cases(rng, constants):
    digits = _mnist()
    # the classes are numbered anew: the numbers must be learnt from these images (a network made elsewhere can still be
    # renumbered by them)
    number = rng.permutation(10)
    train = rng.choice(len(digits.x_train), 3000, replace=False)
    test = rng.choice(len(digits.x_test), 4000, replace=False)
    images = torch.tensor(_small(digits.x_train[train]), dtype=torch.float32) / 255
    labels = torch.tensor(number[digits.y_train[train]])
    held = {
        "images": _small(digits.x_test[test]),
        "labels": number[digits.y_test[test]].astype(np.uint8),
    }
    yield Case((images, labels), held)


ROUNDING = 1e-6  # see the top of the file

EXERCISES = (
    Exercise("linear_cost", 1, linear_cases, oracle=linear_oracle),
    Exercise("conv_macs", 2, conv_cases, oracle=conv_oracle),
    Exercise("network_macs", 2, network_cases, oracle=network_oracle),
    Exercise(
        "linear_intensity", 1, intensity_cases, oracle=intensity_oracle, rtol=ROUNDING
    ),
    Exercise(
        "attainable", 1, attainable_cases, oracle=attainable_oracle, rtol=ROUNDING
    ),
    Exercise("widest", 2, widest_cases, oracle=widest_oracle),
    Exercise("paired_ratio", 2, paired_cases, oracle=paired_oracle, rtol=ROUNDING),
    Exercise("design", 4, design_cases, judge=judge_design, seconds=20.0),
)
