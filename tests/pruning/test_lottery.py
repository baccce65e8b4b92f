"""The ticket: rewound to the bit, pruned by the trained weights, and the dense model left alone."""

import copy

import pytest
import torch
from torch import nn

from dca_lab.pruning import Masker, global_masks, lottery_ticket, magnitude, mask_sparsity
from dca_lab.training import fit

OPTIONS = {"batch_size": 20, "lr": 0.01, "seed": 7, "progress": False}


def network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3))


def data():
    g = torch.Generator().manual_seed(0)
    y = torch.arange(120) % 3
    return torch.randn(3, 8, generator=g)[y] + torch.randn(120, 8, generator=g), y


def same(a, b):
    return all(torch.equal(a[name], b[name]) for name in a)


def test_one_round_by_hand():
    model, (x, y) = network(), data()
    initial = copy.deepcopy(model.state_dict())
    ticket = lottery_ticket(model, x, y, sparsity=0.6, rounds=1, epochs=2, **OPTIONS)
    assert same(initial, model.state_dict()) and same(initial, ticket.state)

    dense = copy.deepcopy(model)
    dense_history = fit(dense, x, y, epochs=2, **OPTIONS)
    masks = global_masks(magnitude(dense), 0.6)
    assert same(masks, ticket.masks) and ticket.histories[0].losses == dense_history.losses

    again = copy.deepcopy(model)
    with Masker(again, masks) as masker:
        history = fit(again, x, y, epochs=2, on_step=masker, **OPTIONS)
    assert ticket.histories[1].losses == pytest.approx(history.losses)
    assert all(torch.allclose(ticket.trained[name], value) for name, value in again.state_dict().items())


def test_each_round_removes_the_same_share_and_never_revives():
    ticket = lottery_ticket(network(), *data(), sparsity=0.784, rounds=3, epochs=1, **OPTIONS)
    assert ticket.sparsities == pytest.approx([0.0, 0.4, 0.64, 0.784], abs=0.004)
    assert [mask_sparsity(masks) for masks in ticket.rounds] == ticket.sparsities
    for before, after in zip(ticket.rounds, ticket.rounds[1:], strict=False):
        assert all(not (after[name] & ~before[name]).any() for name in before)
    assert len(ticket.histories) == 4 and ticket.masks is ticket.rounds[-1]


@pytest.mark.parametrize("step", [1, 4])
def test_rewinding_to_a_later_step_is_the_dense_state_there(step):
    model, (x, y) = network(), data()
    ticket = lottery_ticket(model, x, y, sparsity=0.5, rounds=2, epochs=1, rewind_step=step, **OPTIONS)
    states, dense = {}, copy.deepcopy(model)

    def remember(at, m):
        states[at] = copy.deepcopy(m.state_dict())

    fit(dense, x, y, epochs=1, on_step=remember, **OPTIONS)
    assert same(states[step], ticket.state)


def test_put_into_gives_the_masked_initial_weights():
    model, (x, y) = network(), data()
    ticket = lottery_ticket(model, x, y, sparsity=0.5, rounds=1, epochs=1, **OPTIONS)
    other = copy.deepcopy(model)
    fit(other, x, y, epochs=1, **OPTIONS)
    ticket.put_into(other)
    for name, value in model.state_dict().items():
        want = value * ticket.masks[name] if name in ticket.masks else value
        assert torch.equal(other.state_dict()[name], want)


def test_validation_accuracies_of_every_round():
    x, y = data()
    ticket = lottery_ticket(network(), x, y, sparsity=0.5, rounds=2, epochs=2, validation=(x, y), **OPTIONS)
    assert [len(history.accuracies) for history in ticket.histories] == [2, 2, 2]


def test_bad_inputs_are_refused(tmp_path):
    model, (x, y) = network(), data()
    good = {"sparsity": 0.5, "rounds": 1, "epochs": 1, **OPTIONS}
    for bad, says in [
        ({"sparsity": 1.0}, "sparsity"),
        ({"rounds": 0}, "rounds"),
        ({"epochs": 0}, "epochs"),
        ({"rewind_step": -1}, "rewind_step"),
        ({"rewind_step": 100}, "only 6 steps"),
        ({"checkpoint": tmp_path / "c"}, "checkpoint"),
    ]:
        with pytest.raises(ValueError, match=says):
            lottery_ticket(model, x, y, **{**good, **bad})
