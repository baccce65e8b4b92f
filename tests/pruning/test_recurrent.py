"""Oracle: torch's own layers with the rows of a unit set to zero in every gate."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from dca_lab.pruning.channels import PruningError, prune_channels
from dca_lab.pruning.recurrent import prune_hidden


class Reader(nn.Module):
    """A recurrent layer and a linear layer that reads its states in one of four ways."""

    def __init__(self, kind, layers, both, batch_first, read, bias=True, hidden=8):
        super().__init__()
        self.rnn = kind(3, hidden, layers, bidirectional=both, batch_first=batch_first, bias=bias)
        self.read, self.time = read, 1 if batch_first else 0
        self.fc = nn.Linear(hidden * (1 + both if read != "final" else 1), 2)

    def forward(self, x):
        states, final = self.rnn(x)
        if isinstance(final, tuple):
            final = final[0]
        if self.read == "last":
            return self.fc(states.select(self.time, -1))
        if self.read == "mean":
            return self.fc(torch.tanh(states).mean(self.time))
        return self.fc(torch.cat([final[-2], final[-1]], 1) if self.read == "both" else final[-1])


def tensors(rnn):
    """(unit axis is 0) every gate-stacked tensor of each layer and direction."""
    for layer, suffix in itertools.product(range(rnn.num_layers), ["", "_reverse"][: 1 + rnn.bidirectional]):
        names = [f"{kind}_l{layer}{suffix}" for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
        yield [getattr(rnn, name) for name in names if hasattr(rnn, name)]


@settings(deadline=None, max_examples=40)
@given(
    st.sampled_from([nn.GRU, nn.LSTM, nn.RNN]),
    st.integers(1, 2),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.sampled_from(["last", "mean", "final", "both"]),
    st.integers(2, 9),
    st.sampled_from([0.0, 0.25, 0.5, 0.9]),
    st.integers(0, 99),
)
def test_zero_units_go_exactly(kind, layers, both, first, bias, read, hidden, ratio, seed):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net, x = (
            Reader(kind, layers, both, first, read if both else read.replace("both", "final"), bias, hidden),
            torch.randn(2, 5, 3),
        )
        gone = min(round(ratio * hidden), hidden - 1)
        with torch.no_grad():
            for stacked in tensors(net.rnn):
                dead = torch.randperm(hidden)[:gone]
                for tensor in stacked:
                    tensor.view(-1, hidden, *tensor.shape[1:])[:, dead] = 0
    state = {k: v.clone() for k, v in net.state_dict().items()}
    small = prune_hidden(net, x, ratio)
    assert type(small) is Reader and small.rnn.hidden_size == hidden - gone == small.rnn.weight_hh_l0.shape[1]
    torch.testing.assert_close(small(x), net(x), rtol=0, atol=1e-5)
    assert all(torch.equal(v, state[k]) for k, v in net.state_dict().items())


def test_the_course_classifier_trains_on_and_reloads():
    from dca_lab.models import GRUClassifier

    net, x = GRUClassifier(inputs=3, hidden=12), torch.randn(4, 7, 3)
    small = prune_hidden(net, x, 0.5)
    twin = GRUClassifier(inputs=3, hidden=6)
    twin.load_state_dict(small.state_dict())
    torch.testing.assert_close(twin(x), small(x))
    small(x).sum().backward()
    torch.optim.SGD(small.parameters(), lr=0.1).step()
    assert not torch.equal(small(x), twin(x))
    assert prune_hidden(small, x, 0.5).gru.hidden_size == 3


def test_the_smallest_unit_over_all_gates_goes():
    net = Reader(nn.LSTM, 1, False, True, "last", hidden=3)
    with torch.no_grad():
        for (tensor, *_), scale in zip(tensors(net.rnn), [1.0], strict=True):
            tensor.fill_(scale)
        net.rnn.weight_hh_l0.fill_(1.0)
        net.rnn.weight_ih_l0.view(4, 3, 3)[2, 0] = 9.0  # unit 0 has one large gate ...
        net.rnn.weight_ih_l0.view(4, 3, 3)[[0, 1, 3], 0] = 0.1  # ... and three small ones
        net.rnn.weight_ih_l0.view(4, 3, 3)[:, 1] = 0.5  # unit 1 is the smallest in total
    small = prune_hidden(net, torch.randn(1, 4, 3), 0.34)
    assert torch.equal(small.rnn.weight_ih_l0, net.rnn.weight_ih_l0.view(4, 3, 3)[:, [0, 2]].reshape(8, 3))
    assert torch.equal(small.fc.weight, net.fc.weight[:, [0, 2]])
    other = prune_hidden(
        net, torch.randn(1, 4, 3), 0.34, importance=lambda group: torch.tensor([1.0, 2.0, 0.0])
    )
    assert torch.equal(other.fc.weight, net.fc.weight[:, [0, 1]])


def test_errors():
    x = torch.randn(2, 5, 3)
    net = Reader(nn.GRU, 1, False, True, "last")
    for ratio in (-1, 1, None):
        with pytest.raises(ValueError, match="share of channels"):
            prune_hidden(net, x, ratio)
    with pytest.raises(ValueError, match=r"rnn='gru'.*\['rnn'\]"):
        prune_hidden(net, x, rnn="gru")
    with pytest.raises(ValueError, match="recurrent layers are none"):
        prune_hidden(nn.Linear(3, 2), x)
    with pytest.raises(PruningError, match="bare recurrent layer"):
        prune_hidden(net.rnn, x)
    with pytest.raises(ValueError, match="'big' is not known"):
        prune_hidden(net, x, importance="big")
    net.rnn = nn.LSTM(3, 9, proj_size=8, batch_first=True)
    with pytest.raises(PruningError, match="proj_size"):
        prune_hidden(net, x)
    net.rnn, net.fc = nn.GRU(3, 8, batch_first=True), nn.Identity()
    with pytest.raises(PruningError, match="'rnn' cannot be removed: its states are outputs"):
        prune_hidden(net, x)


def test_channels_in_front_of_a_recurrent_layer():
    net = nn.Sequential(nn.Linear(3, 10), nn.ReLU(), nn.GRU(10, 4, batch_first=True))
    small = prune_channels(net, torch.randn(2, 5, 3), 0.5)
    assert small[2].input_size == 5 and small[2].weight_ih_l0.shape == (12, 5)
