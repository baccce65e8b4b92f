"""Oracle: the equations of a GRU in float, applied to fake-quantized values; and nn.GRU itself."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from dca_lab.quantization.affine import affine_params, fake_quantize
from dca_lab.quantization.dynamic_gru import DynamicGRU
from dca_lab.quantization.granularity import weight_params


def fake(x):
    """Values moved to the 8-bit grid of the tensor."""
    return fake_quantize(x, *affine_params(x.min(), x.max()))


def fake_weight(weight):
    """Weights moved to the symmetric grid of their row."""
    return fake_quantize(weight, *weight_params(weight, bits=8), bits=8, symmetric=True)


def by_formula(gru, x, h0):
    """States and last states, time in front; every product of fake-quantized values, all else exact."""
    last, index = [], 0
    for layer in range(gru.num_layers):
        both = []
        for suffix in ("", "_reverse")[: 1 + gru.bidirectional]:
            W, U = (fake_weight(getattr(gru, f"weight_{k}_l{layer}{suffix}").detach()) for k in ("ih", "hh"))
            b, c = (getattr(gru, f"bias_{k}_l{layer}{suffix}", torch.zeros(len(W))) for k in ("ih", "hh"))
            gates, h, states = fake(x) @ W.T + b, h0[index], {}
            for t in range(len(x)) if not suffix else range(len(x) - 1, -1, -1):
                (xr, xz, xn), (hr, hz, hn) = gates[t].chunk(3, -1), (fake(h) @ U.T + c).chunk(3, -1)
                r, z = torch.sigmoid(xr + hr), torch.sigmoid(xz + hz)
                n = torch.tanh(xn + r * hn)
                h = states[t] = (1 - z) * n + z * h
            both.append(torch.stack([states[t] for t in range(len(x))]))
            last.append(h)
            index += 1
        x = torch.cat(both, -1)
    return x.detach(), torch.stack(last).detach()


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 2), st.booleans(), st.booleans(), st.booleans(), st.booleans(), st.integers(0, 99))
def test_it_is_the_formula(layers, both, batch_first, bias, first, seed):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        gru = nn.GRU(
            5, 7, layers, bidirectional=both, batch_first=batch_first, bias=bias, dropout=(layers - 1) * 0.5
        ).eval()
        x, h0 = torch.randn(6, 3, 5), torch.randn(layers * (1 + both), 3, 7)
    if not first:
        h0 = torch.zeros_like(h0)
    given_x, given_h = (x.transpose(0, 1) if batch_first else x), (h0 if first else None)
    states, last = DynamicGRU(gru)(given_x, given_h)
    want_states, want_last = by_formula(gru, x, h0)
    # a value that lies between two levels may fall to either side: one level of the state, and it fades
    torch.testing.assert_close(
        states.transpose(0, 1) if batch_first else states, want_states, rtol=0, atol=5e-3
    )
    torch.testing.assert_close(last, want_last, rtol=0, atol=5e-3)
    exact, exact_last = gru(given_x, given_h)
    assert states.shape == exact.shape and last.shape == exact_last.shape
    assert (states - exact).norm() < 0.05 * exact.norm() and (
        last - exact_last
    ).norm() < 0.05 * exact_last.norm()


def test_rows_of_their_own_scale_do_not_see_each_other():
    gru = nn.GRU(4, 6, batch_first=True)
    dynamic = DynamicGRU(gru, activations="row")
    x = torch.randn(3, 8, 4) * torch.tensor([0.01, 1.0, 100.0])[:, None, None]
    torch.testing.assert_close(dynamic(x)[0][:1], dynamic(x[:1])[0])


def test_weights_are_bytes():
    state = DynamicGRU(nn.GRU(4, 6, 2)).state_dict()
    assert state["inputs.1.weight"].shape == (18, 6) and state["states.0.weight"].dtype == torch.int8


def test_bad_input():
    dynamic = DynamicGRU(nn.GRU(4, 6))
    with pytest.raises(ValueError, match=r"three axes is needed, not \(5, 4\)"):
        dynamic(torch.zeros(5, 4))
    with pytest.raises(ValueError, match="not PackedSequence: pad"):
        dynamic(nn.utils.rnn.pack_sequence([torch.zeros(5, 4)]))
    with pytest.raises(ValueError, match=r"first states have shape \(1, 2, 6\)"):
        dynamic(torch.zeros(5, 2, 4), torch.zeros(1, 3, 6))
    with pytest.raises(ValueError, match="must hold 4 values"):
        dynamic(torch.zeros(5, 2, 3))
