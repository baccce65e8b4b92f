"""`evaluate` and `predict` against scikit-learn and plain calls."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score
from torch import nn

from dca_lab.training import evaluate, predict


@given(n=st.integers(1, 40), classes=st.integers(1, 5), batch=st.integers(1, 50), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=50)
def test_accuracy_equals_scikit_learn(n, classes, batch, seed):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(n, classes, generator=generator)
    y = torch.randint(classes, (n,), generator=generator)
    expected = accuracy_score(y.numpy(), logits.argmax(1).numpy())
    assert evaluate(nn.Identity(), logits, y, batch_size=batch) == pytest.approx(expected, abs=1e-12)


def test_accuracy_of_a_language_model_counts_every_position():
    logits, y = torch.randn(6, 5, 4), torch.randint(4, (6, 5))
    expected = accuracy_score(y.flatten().numpy(), logits.argmax(-1).flatten().numpy())
    assert evaluate(nn.Identity(), logits, y, batch_size=4) == pytest.approx(expected, abs=1e-12)


@given(n=st.integers(1, 30), batch=st.integers(1, 40))
@settings(deadline=None, max_examples=30)
def test_prediction_does_not_depend_on_the_batch_size(n, batch):
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Dropout(0.9))
    x = torch.randn(n, 4)
    torch.testing.assert_close(predict(model, x, batch_size=batch), model.eval()(x))


def test_modes_are_put_back_even_after_an_error_and_no_gradient_is_kept():
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Dropout(0.5))
    model[1].eval()
    x, y = torch.randn(8, 4), torch.randint(3, (8,))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    assert not predict(model, x).requires_grad
    evaluate(model, x, y)
    with pytest.raises(RuntimeError):
        predict(model, torch.randn(8, 5))
    assert [m.training for m in model] == [True, False, True]
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (torch.zeros(3, 2), torch.zeros(4, dtype=torch.int64), "3 examples and y has 4"),
        (torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64), "no example"),
        (torch.zeros(3, 2), torch.zeros(3, 2), "integer class labels"),
    ],
)
def test_bad_input_is_refused(x, y, message):
    with pytest.raises(ValueError, match=message):
        evaluate(nn.Identity(), x, y)


def test_an_empty_or_batchless_prediction_is_refused():
    with pytest.raises(ValueError, match="no example"):
        predict(nn.Identity(), torch.zeros(0, 2))
    for function, arguments in ((predict, ()), (evaluate, (torch.zeros(3, dtype=torch.int64),))):
        with pytest.raises(ValueError, match="batch_size"):
            function(nn.Identity(), torch.zeros(3, 2), *arguments, batch_size=0)
