"""Adaptive rounding against brute force over all roundings, and never worse than rounding to nearest."""

from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from dca_lab.quantization.adaptive_rounding import round_adaptively
from dca_lab.quantization.adaround import adaround
from dca_lab.quantization.static import quantize_static


def problem(inputs, seed, outputs=1, rows=100):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, inputs, generator=g) @ torch.randn(inputs, inputs, generator=g)  # correlated
    weight = torch.randn(outputs, inputs, generator=g)
    return weight, weight.abs().amax(1) / 3, x  # three bits: levels -3 to 3


def error(codes, weight, scale, x, f=lambda y: y):
    return float((f(x @ (codes * scale[:, None]).T) - f(x @ weight.T)).double().square().sum())


def brute_force(weight, scale, x):
    """The least error of all 2^n roundings, from the Gram matrix."""
    low = (weight / scale[:, None]).floor()
    ways = torch.tensor(list(product((0, 1), repeat=weight.shape[1])))
    away = ((low + ways).clamp(-3, 3) * scale - weight).double()  # (2^n, n)
    gram = x.double().T @ x.double()
    return float(((away @ gram) * away).sum(1).min())


def test_it_reaches_or_nears_the_best_of_all_roundings():
    found, nearest, best = [], [], []
    for seed in range(12):
        weight, scale, x = problem(8, seed)
        codes = round_adaptively(weight, scale, x, x @ weight.T, bits=3, iterations=100)
        found.append(error(codes, weight, scale, x))
        nearest.append(error((weight / scale[:, None]).round(), weight, scale, x))
        best.append(brute_force(weight, scale, x))
    found, nearest, best = (torch.tensor(e) for e in (found, nearest, best))
    assert bool((found >= best * (1 - 1e-5)).all()) and bool((found <= nearest * (1 + 1e-5)).all())
    assert int((found <= 1.05 * best).sum()) >= 9  # of 12; rounding to nearest is the best in two or three
    assert (found / best).log().mean() < (nearest / best).log().mean() / 4


@settings(deadline=None, max_examples=20)
@given(
    inputs=st.integers(1, 6),
    outputs=st.integers(1, 4),
    seed=st.integers(0, 999),
    f=st.sampled_from([None, torch.relu, nn.functional.hardswish]),
)
def test_no_output_is_worse_than_with_rounding_to_nearest(inputs, outputs, seed, f):
    weight, scale, x = problem(inputs, seed, outputs, rows=30)
    codes = round_adaptively(weight, scale, x, x @ weight.T, bits=3, activation=f, iterations=20)
    ratio = weight / scale[:, None]
    assert codes.dtype == torch.int8 and int(codes.abs().max()) <= 3
    assert bool(((codes - ratio).abs() < 1 + 1e-5).all())  # one of the two neighbours
    for row in range(outputs):
        part = (weight[[row]], scale[[row]], x, f or (lambda y: y))
        assert error(codes[[row]], *part) <= error(ratio[[row]].round(), *part) * (1 + 1e-4) + 1e-9


def test_groups_are_layers_of_their_own():
    parts = [problem(5, seed, outputs=2) for seed in (1, 2)]
    weight, scale, x = (torch.stack(each) for each in zip(*parts, strict=True))
    both = round_adaptively(weight, scale, x, x @ weight.transpose(1, 2), bits=3, iterations=100)
    for group, (w, s, rows) in zip(both, parts, strict=True):
        alone = round_adaptively(w, s, rows, rows @ w.T, bits=3, iterations=100)
        assert error(group, w, s, rows) == pytest.approx(error(alone, w, s, rows), rel=0.2)


def network():
    torch.manual_seed(0)
    body = [nn.Conv2d(1, 6, 3), nn.Hardswish(), nn.Conv2d(6, 6, 3, groups=3), nn.ReLU(), nn.Flatten()]
    return nn.Sequential(*body, nn.Linear(96, 5)).eval(), torch.rand(64, 1, 8, 8)


def test_a_network_of_three_bits_gets_better_on_data_that_were_not_seen():
    model, x = network()
    codes = adaround(model, x, weight_bits=3, iterations=60)
    new = torch.rand(200, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = model(new)
    plain, learned = (quantize_static(model, x, weight_bits=3, weight_codes=c)(new) for c in (None, codes))
    assert (learned - expected).norm() < 0.7 * (plain - expected).norm()


def test_it_is_repeatable_and_leaves_the_model_and_the_global_generator_alone():
    model, x = network()
    before, state = [p.clone() for p in model.parameters()], torch.get_rng_state()
    a, b = (adaround(model, x, weight_bits=4, iterations=5, seed=3) for _ in range(2))
    assert all(torch.equal(a[name][0], b[name][0]) for name in a) and len(a) == 3
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))
    for iterations in (0, 2.5, True):
        with pytest.raises(ValueError, match="iterations"):
            adaround(model, x, iterations=iterations)


@pytest.mark.parametrize("bad", ["weight", "scale", "x", "target"])
def test_one_layer_is_checked(bad):
    weight, scale, x = problem(4, 0)
    given = {"weight": weight, "scale": scale, "x": x, "target": x @ weight.T}
    for value in (float("nan"), float("inf")):
        broken = given | {bad: given[bad].clone().index_fill_(0, torch.tensor(0), value)}
        with pytest.raises(ValueError, match=f"^{bad} holds NaN"):
            round_adaptively(**broken, iterations=2)
    for scale in (torch.zeros(1), -given["scale"]):
        with pytest.raises(ValueError, match="scale is the distance .* above zero"):
            round_adaptively(**given | {"scale": scale}, iterations=2)
    with pytest.raises(ValueError, match="iterations=2.5"):
        round_adaptively(**given, iterations=2.5)
