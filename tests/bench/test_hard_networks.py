"""The hard networks: planting changes no logit, and it does make the ranges unequal."""

import pytest
import torch

from bench.quantization.hard_networks import HARD, powers, train_hard
from dca_lab.quantization.graph import prepare


def logits(name, x, planted):
    model = train_hard(name, x, torch.arange(len(x)) % 10, epochs=0, planted=planted)
    with torch.no_grad():
        return model, model(x)


@pytest.mark.parametrize("name", sorted(HARD))
def test_planting_changes_no_logit_and_spreads_the_ranges(name):
    x = torch.randn(8, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    (natural, before), (planted, after) = (logits(name, x, planted) for planted in (False, True))
    assert torch.equal(before, after)

    def spread(model):
        sizes = [
            p.detach().abs().flatten(1).amax(1)
            for n, p in prepare(model, x).named_parameters()
            if p.dim() == 4
        ]
        return max(float(size.max() / size.min()) for size in sizes)

    factor = 32 if name != "branches" else 1  # there a whole branch is larger
    assert spread(planted) > factor and spread(planted) >= spread(natural)
    largest = [
        max(float(p.detach().abs().max()) for p in prepare(m, x).parameters()) for m in (natural, planted)
    ]
    assert largest[1] > 16 * largest[0]


def test_factors_are_powers_of_two_up_to_128():
    factors = powers(1000, seed=0)
    assert sorted(factors.unique().tolist()) == [2.0**k for k in range(8)]
