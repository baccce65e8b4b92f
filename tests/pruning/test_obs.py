"""OBS against brute force: the cheapest weight, and the least-squares refit on the support that is left."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dca_lab.pruning import obs_prune_linear


def problem(outputs=3, inputs=6, rows=40, seed=0):
    g = torch.Generator().manual_seed(seed)
    mix = torch.randn(inputs, inputs, generator=g, dtype=torch.float64)
    x = torch.randn(rows, inputs, generator=g, dtype=torch.float64) @ mix  # correlated features
    return torch.randn(outputs, inputs, generator=g, dtype=torch.float64), x


def refit(x, target, support):
    """The least squares solution on a support, and its error."""
    solution = torch.zeros(x.shape[1], dtype=x.dtype)
    solution[support] = torch.linalg.lstsq(x[:, support], target).solution
    return solution, (x @ solution - target).square().sum()


@settings(deadline=None, max_examples=25)
@given(inputs=st.integers(2, 7), kept=st.integers(1, 7), seed=st.integers(0, 999))
def test_what_is_left_is_the_least_squares_solution_on_its_support(inputs, kept, seed):
    kept = min(kept, inputs)
    weight, x = problem(2, inputs, seed=seed)
    new, mask = obs_prune_linear(weight, x, sparsity=1 - kept / inputs if kept < inputs else 0.0)
    for row, old, keep in zip(new, weight, mask, strict=True):
        assert int(keep.sum()) == kept and not row[~keep].any()
        solution, _ = refit(x, x @ old, keep)
        assert torch.allclose(row, solution, rtol=1e-6, atol=1e-7 * float(old.abs().max()))


@pytest.mark.parametrize("seed", range(5))
def test_the_first_weight_is_the_one_that_brute_force_chooses(seed):
    weight, x = problem(seed=seed)
    new, mask = obs_prune_linear(weight, x, sparsity=1 / 6)
    for row, old, keep in zip(new, weight, mask, strict=True):
        errors = []
        for q in range(6):
            support = torch.arange(6) != q
            errors.append(refit(x, x @ old, support)[1])
        assert int(torch.stack(errors).argmin()) == int((~keep).nonzero())
        # the predicted increase w_q^2 / [H^-1]_qq is the error of the brute-force refit
        q = int((~keep).nonzero())
        inverse = torch.linalg.inv(x.T @ x)
        assert torch.allclose((x @ row - x @ old).square().sum(), old[q] ** 2 / inverse[q, q], rtol=1e-8)


def test_it_beats_magnitude_with_and_without_refit_on_correlated_features():
    for seed in range(5):
        weight, x = problem(8, 12, 100, seed)
        new, mask = obs_prune_linear(weight, x, sparsity=0.5)
        by_size = torch.zeros_like(mask).scatter_(1, weight.abs().topk(6, dim=1).indices, True)
        ours = (x @ (new - weight).T).square().sum()
        refitted = sum(refit(x, x @ w, keep)[1] for w, keep in zip(weight, by_size, strict=True))
        assert ours < refitted < (x @ (weight * ~by_size).T).square().sum()


def test_uncorrelated_features_of_equal_size_give_magnitude_pruning():
    weight = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
    new, mask = obs_prune_linear(weight, torch.eye(8), sparsity=0.5)
    assert torch.equal(mask, torch.zeros_like(mask).scatter_(1, weight.abs().topk(4, dim=1).indices, True))
    assert torch.allclose(new, weight * mask) and new.dtype == weight.dtype


def test_damping_makes_dead_features_harmless_and_prunes_them_first():
    weight, x = problem(2, 6)
    x[:, 2] = 0
    with pytest.raises(ValueError, match="damping"):
        obs_prune_linear(weight, x, sparsity=0.5)
    new, mask = obs_prune_linear(weight, x, sparsity=0.2, damping=1e-4)
    assert not mask[:, 2].any() and torch.isfinite(new).all()


def test_dependent_features_and_bad_inputs_are_refused():
    weight, x = problem(2, 6)
    with pytest.raises(ValueError, match="singular"):
        obs_prune_linear(weight, torch.cat([x[:, :5], x[:, :1]], 1), sparsity=0.5)
    with pytest.raises(ValueError, match="singular"):
        obs_prune_linear(weight, x[:3], sparsity=0.5)  # fewer rows than features
    with pytest.raises(ValueError, match="are needed"):
        obs_prune_linear(weight, x[:, :5], sparsity=0.5)
    with pytest.raises(ValueError, match="sparsity"):
        obs_prune_linear(weight, x, sparsity=1.0)
    with pytest.raises(ValueError, match="damping"):
        obs_prune_linear(weight, x, sparsity=0.5, damping=-1)
    with pytest.raises(ValueError, match="finite"):
        obs_prune_linear(weight * float("nan"), x, sparsity=0.5)


def test_inputs_are_not_changed_and_tokens_are_rows():
    weight, x = problem()
    copies = weight.clone(), x.clone()
    a = obs_prune_linear(weight, x, sparsity=0.5)
    b = obs_prune_linear(weight, x.reshape(8, 5, 6), sparsity=0.5)
    assert torch.equal(weight, copies[0]) and torch.equal(x, copies[1])
    assert torch.equal(a[0], b[0]) and torch.equal(a[1], b[1])
