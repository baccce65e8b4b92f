"""One-shot and iterative: the sparsities they promise, masks that hold, and fit's own behaviour kept."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from dca_lab.pruning import finetune, global_masks, iterative, magnitude, one_shot, prunable, random_scores
from dca_lab.training import evaluate, fit


def network(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(10, 40), nn.ReLU(), nn.Linear(40, 4))


def blobs(rows=400, seed=0):
    """Four clusters in ten dimensions."""
    g = torch.Generator().manual_seed(seed)
    y = torch.arange(rows) % 4
    return torch.randn(4, 10, generator=g)[y] * 2 + torch.randn(rows, 10, generator=g), y


@pytest.fixture(scope="module")
def trained():
    model, (x, y) = network(), blobs()
    fit(model, x, y, epochs=5, lr=0.01, progress=False)
    assert evaluate(model, x, y) > 0.9
    return model


def nonzero_share(model):
    weights = list(prunable(model).values())
    return sum(int(w.count_nonzero()) for w in weights) / sum(w.numel() for w in weights)


@pytest.mark.parametrize("scope", ["global", "layer", "row"])
def test_one_shot_prunes_to_the_target_and_finetuning_recovers(trained, scope):
    model, (x, y) = copy.deepcopy(trained), blobs()
    run = one_shot(model, x, y, sparsity=0.8, epochs=0, scope=scope)
    pruned = F.cross_entropy(model(x), y)
    assert nonzero_share(model) == pytest.approx(0.2, abs=0.01) and run.histories == [] and run.steps == [0]
    model = copy.deepcopy(trained)
    run = one_shot(model, x, y, sparsity=0.8, epochs=5, lr=0.01, scope=scope, progress=False)
    assert all(not w[~run.masks[name]].any() for name, w in prunable(model).items())
    assert run.sparsities == [pytest.approx(0.8, abs=0.01)] and len(run.histories) == 1
    assert F.cross_entropy(model(x), y) < pruned


def test_one_shot_without_pruning_is_fit(trained):
    a, b, (x, y) = copy.deepcopy(trained), copy.deepcopy(trained), blobs()
    run = one_shot(a, x, y, sparsity=0.0, epochs=2, lr=0.01, seed=3, progress=False)
    history = fit(b, x, y, epochs=2, lr=0.01, seed=3, progress=False)
    assert run.histories[0].losses == history.losses
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


def test_iterative_removes_the_same_share_of_the_rest_each_round(trained):
    model, (x, y) = copy.deepcopy(trained), blobs()
    left = []
    run = iterative(
        model,
        x,
        y,
        sparsity=1 - 0.5**3,
        rounds=3,
        epochs=1,
        lr=0.01,
        batch_size=100,
        progress=False,
        on_step=lambda step, m: left.append(nonzero_share(m)),
    )
    assert run.sparsities == pytest.approx([0.5, 0.75, 0.875]) and run.steps == [0, 4, 8]
    assert left == pytest.approx([0.5] * 4 + [0.25] * 4 + [0.125] * 4)
    assert nonzero_share(model) == pytest.approx(0.125)


def test_iterative_never_revives_what_a_random_importance_has_pruned(trained):
    model, (x, y) = copy.deepcopy(trained), blobs()
    generator, seen = torch.Generator().manual_seed(0), []
    iterative(
        model,
        x,
        y,
        sparsity=0.8,
        rounds=4,
        epochs=1,
        progress=False,
        importance=lambda m: random_scores(m, generator=generator),
        on_step=lambda step, m: seen.append({n: w.detach() != 0 for n, w in prunable(m).items()}),
    )
    for before, after in zip(seen, seen[1:], strict=False):
        assert all(not (after[name] & ~before[name]).any() for name in before)


def test_one_round_is_one_shot(trained):
    a, b, (x, y) = copy.deepcopy(trained), copy.deepcopy(trained), blobs()
    options = {"sparsity": 0.7, "epochs": 2, "lr": 0.01, "progress": False}
    one_shot(a, x, y, **options)
    iterative(b, x, y, rounds=1, **options)
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


def test_finetune_takes_masks_any_optimizer_and_lets_go_of_the_model(trained):
    model, (x, y) = copy.deepcopy(trained), blobs()
    masks = global_masks(magnitude(model), 0.6)
    finetune(
        model,
        x,
        y,
        masks,
        epochs=2,
        progress=False,
        optimizer=lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=1e-3),
    )
    assert nonzero_share(model) == pytest.approx(0.4)
    assert all(not p._backward_hooks for p in model.parameters())


def test_hooks_are_gone_after_an_error(trained):
    model, (x, y) = copy.deepcopy(trained), blobs()

    def stop(step, _):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        one_shot(model, x, y, sparsity=0.5, epochs=1, on_step=stop, progress=False)
    assert all(not p._backward_hooks for p in model.parameters())


def test_layers_that_the_importance_leaves_out_stay_dense(trained):
    model, (x, y) = copy.deepcopy(trained), blobs()
    iterative(
        model,
        x,
        y,
        sparsity=0.5,
        rounds=2,
        epochs=1,
        progress=False,
        importance=lambda m: magnitude(m, layers=["0.weight"]),
    )
    assert model[0].weight.count_nonzero() == 200 and model[2].weight.count_nonzero() == 160


def test_bad_inputs_are_refused(trained, tmp_path):
    model, (x, y) = copy.deepcopy(trained), blobs()
    state = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match="sparsity"):
        one_shot(model, x, y, sparsity=1.0, epochs=1)
    with pytest.raises(ValueError, match="rounds"):
        iterative(model, x, y, sparsity=0.5, rounds=0, epochs=1)
    with pytest.raises(ValueError, match="checkpoint"):
        iterative(model, x, y, sparsity=0.5, rounds=2, epochs=1, checkpoint=tmp_path / "c")
    with pytest.raises(ValueError, match="scope"):
        one_shot(model, x, y, sparsity=0.5, epochs=1, scope="local")
    assert all(torch.equal(a, b) for a, b in zip(state.values(), model.state_dict().values(), strict=True))
