"""Perplexity against the definition in double precision, and what a model that knows nothing or all gets."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax
from torch import nn

from dca_lab.models import TransformerLM
from dca_lab.training import perplexity


class Fixed(nn.Module):
    """Gives stored logits: x are the numbers of the windows."""

    def __init__(self, logits):
        super().__init__()
        self.logits = logits

    def forward(self, x):
        return self.logits[x[:, 0]]


@given(
    n=st.integers(1, 9),
    t=st.integers(1, 5),
    v=st.integers(1, 6),
    batch=st.integers(1, 12),
    seed=st.integers(0, 99),
)
@settings(deadline=None, max_examples=50)
def test_it_is_the_definition_whatever_the_batch_size(n, t, v, batch, seed):
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(n, t, v, generator=generator)
    y = torch.randint(v, (n, t), generator=generator)
    x = torch.arange(n)[:, None].expand(n, t)
    log_p = np.take_along_axis(log_softmax(logits.double().numpy(), axis=-1), y.numpy()[..., None], axis=-1)
    assert perplexity(Fixed(logits), x, y, batch_size=batch) == pytest.approx(np.exp(-log_p.mean()), rel=1e-5)


def test_ignorance_costs_the_size_of_the_vocabulary_and_certainty_costs_nothing():
    x, y = torch.zeros(1, 4).long(), torch.tensor([[0, 1, 2, 3]])
    assert perplexity(Fixed(torch.zeros(1, 4, 50)), x, y) == pytest.approx(50)
    assert perplexity(Fixed(100 * torch.eye(4)[None]), x, y) == pytest.approx(1)
    assert perplexity(Fixed(torch.log(torch.eye(4)[None])), x, y.flip(1)) == math.inf
    assert perplexity(Fixed(-1e6 * torch.eye(4)[None]), x, y) == math.inf


def test_marked_positions_do_not_count():
    logits = torch.randn(3, 4, 5)
    x, y = torch.arange(3)[:, None].expand(3, 4), torch.randint(5, (3, 4))
    half = perplexity(Fixed(logits[:, :2]), x, y[:, :2])
    y[:, 2:] = -100
    assert perplexity(Fixed(logits), x, y, batch_size=2) == pytest.approx(half, rel=1e-6)
    with pytest.raises(ValueError, match="no position counts"):
        perplexity(Fixed(logits), x, torch.full((3, 4), -100))


def test_a_language_model_in_evaluation_mode_without_gradients_and_its_mode_put_back():
    model = nn.Sequential(
        TransformerLM(vocabulary=9, width=16, heads=2, layers=1, context=8), nn.Dropout(0.9)
    )
    x, y = torch.randint(9, (5, 8)), torch.randint(9, (5, 8))
    found = perplexity(model, x, y)
    assert model.training and all(p.grad is None for p in model.parameters())
    with torch.no_grad():
        loss = nn.functional.cross_entropy(model.eval()(x).flatten(0, 1), y.flatten())
    assert found == pytest.approx(math.exp(float(loss)), rel=1e-5)


def test_bad_input_is_refused():
    model, x = Fixed(torch.zeros(3, 2, 4)), torch.zeros(3, 2).long()
    with pytest.raises(ValueError, match="3 windows and y has 2"):
        perplexity(model, x, x[:2])
    with pytest.raises(ValueError, match="no window"):
        perplexity(model, x[:0], x[:0])
    with pytest.raises(ValueError, match="batch_size"):
        perplexity(model, x, x, batch_size=0)
    with pytest.raises(ValueError, match="next token of each position"):
        perplexity(model, x, x[:, :1])
