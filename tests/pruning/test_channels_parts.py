"""The parts of prune_channels one by one, each against brute force or torch's own layer."""

from __future__ import annotations

import copy

import pytest
import torch
from channel_networks import build
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from dca_lab.pruning.graph.attention import HeadAttention, close_attention, gradients_of, open_attention
from dca_lab.pruning.graph.flow import RULES, Flow
from dca_lab.pruning.graph.fold import fold_constants, silent_channels
from dca_lab.pruning.graph.groups import Group, Member, choose, find_groups
from dca_lab.pruning.graph.importance import scores_of
from dca_lab.pruning.graph.labels import Names, PruningError
from dca_lab.pruning.graph.prepare import (
    check_importance,
    check_ratio,
    follow,
    opened,
    ratios_of,
    restored,
    run,
    small_inputs,
    working_copy,
)
from dca_lab.pruning.graph.rewrite import checked, rewritten
from dca_lab.pruning.graph.rulebook import Axis, Call, Named, Size, rule
from dca_lab.pruning.graph.rules_layers import along, leave_whole, spread, stored_weights
from dca_lab.pruning.graph.rules_move import aligned, elementwise, functions
from dca_lab.pruning.graph.rules_product import product
from dca_lab.pruning.graph.surgery import blind, difference, left_of, pick, same, shrink, survivors, values_of
from dca_lab.pruning.graph.trace import Tracer, describe, unused_nodes


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), max_size=15))
def test_names_are_a_union_find(pairs):
    names = Names()
    assert names.fresh(12).tolist() == list(range(1, 13))
    sets = [{i} for i in range(13)]
    for a, b in pairs:
        names.merge(torch.tensor([a]), torch.tensor([b]))
        joined = next(s for s in sets if a in s) | next(s for s in sets if b in s)
        sets = [s for s in sets if not s & joined] + [joined]
    assert names.find(torch.arange(13)).tolist() == [min(next(s for s in sets if i in s)) for i in range(13)]
    all_at_once = Names()
    all_at_once.fresh(12)
    if pairs:
        all_at_once.merge(*torch.tensor(pairs).T)
    assert torch.equal(all_at_once.root, names.root)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4), st.booleans())
def test_settled_labels_leave_rectangles(a, b, c, repeat):
    names = Names()
    labels = names.fresh((a, b, c))
    if repeat:
        names.merge(labels, labels.flip(2))
    settled = names.settle(labels)
    assert len(names.varying(settled)) <= 1
    assert torch.equal(settled, names.find(labels))
    for name in settled.unique():
        kept = settled != name
        lines = [kept.any(dim=[d for d in range(3) if d != axis]).sum() for axis in range(3)]
        assert kept.sum() == lines[0] * lines[1] * lines[2]


def test_tie_fix_and_broadcasting_names():
    names = Names()
    labels = names.fresh((2, 3))
    assert names.tie(labels, 1).tolist() == [[1, 2, 3]]
    assert names.find(labels).tolist() == [[1, 2, 3], [1, 2, 3]] and names.varying(labels) == [1]
    names.fix(labels[:, :1])
    assert names.find(labels).tolist() == [[0, 2, 3], [0, 2, 3]]
    assert names.is_fixed(labels[:, 0]) and not names.is_fixed(labels)
    assert spread(torch.tensor([4, 5]), 1, torch.Size((1, 2, 2))).tolist() == [[[4, 4], [5, 5]]]


def test_product_ties_whole_heads_and_fixes_what_is_summed_over():
    net, x = build("mlp")
    flow = Flow(net, (x,))
    q, k = (
        flow.names.fresh((1, 2, 1, 3)).expand(1, 2, 4, 3),
        flow.names.fresh((1, 2, 3, 1)).expand(1, 2, 3, 4),
    )
    scores = product(flow, q, k, torch.Size((1, 2, 4, 4)))
    heads = flow.names.find(q)
    assert len(heads.unique()) == 2 == len(flow.names.find(scores).unique())
    assert torch.equal(heads[0, :, 0, 0], flow.names.find(k)[0, :, 0, 0])
    single = flow.names.fresh((1, 1, 3)).expand(1, 4, 3)
    product(flow, single, single.mT, torch.Size((1, 4, 4)))
    assert flow.names.is_fixed(single)
    one, wide = flow.names.fresh((1, 1)), flow.names.fresh((1, 5))
    assert aligned(flow, one, [wide], torch.Size((2, 5))) is None and flow.names.is_fixed(one)
    assert along(flow, wide.expand(2, 5), 1).tolist() == wide[0].tolist()


def test_tracer_has_the_real_values():
    net, x = build("unet")
    tracer = Tracer((x,))
    graph = tracer.record(net)
    output = next(n for n in graph.nodes if n.op == "output")
    assert torch.equal(tracer.values[output], net(x))
    node = next(n for n in graph.nodes if n.op == "call_module")
    assert describe(node) == "node 'd1_0' (call_module d1.0 in module 'd1.0')"

    class Shown(nn.Module):
        def forward(self, x):
            if (
                x.dim() == 2
                and len(x) > 1
                and isinstance(x.shape, tuple)
                and len(x.shape) == x.ndim == 2
                and range(x.size(1))[-1] == 2
            ):
                self.weights = x.mean(1)
                return x + torch.arange(x.size(1))
            return x.sum()

    tracer = Tracer((torch.ones(2, 3),))
    graph = tracer.record(Shown())
    assert [n.name for n in unused_nodes(graph)] == ["mean"]
    assert "arange" in [n.name for n in graph.nodes]


def prepared(name, share=0.5):
    net, x = build(name)
    work = working_copy(net)
    inputs = small_inputs(work, x)
    flow = follow(opened(work, inputs), inputs)
    groups = find_groups(flow, gradients_of(work, net))
    removed = choose(flow, groups, [scores_of(g, "magnitude", None) for g in groups], [share] * len(groups))
    return net, inputs, flow, groups, removed[flow.names.root]


def test_the_check_finds_every_kind_of_wrong_surgery():
    with torch.no_grad():
        net, inputs, flow, groups, removed = prepared("residual")
        fold_constants(flow, groups, removed, inputs)
        small = copy.deepcopy(flow.model)
        shrink(small, flow, removed)
        blind(flow, removed)
        reference = values_of(flow.model, inputs)
        assert difference(flow, removed, reference, small, inputs) is None
        assert checked(flow, small, removed, inputs) is small
        again = rewritten(copy.deepcopy(small), flow, removed)
        torch.testing.assert_close(again(*inputs), small(*inputs))

        swapped = copy.deepcopy(small)  # two channels changed places in one layer only
        swapped.blocks[0].conv1.weight.copy_(swapped.blocks[0].conv1.weight[torch.tensor([1, 0, 2, 3])])
        assert "blocks.0" in difference(flow, removed, reference, swapped, inputs)
        stale = copy.deepcopy(small)  # batch-norm statistics of other channels
        stale.stem[1].running_mean.copy_(stale.stem[1].running_mean.flip(0))
        assert "stem.1" in difference(flow, removed, reference, stale, inputs)
        with pytest.raises(PruningError, match="would not compute what is left"):
            checked(flow, stale, removed, inputs)
        other = copy.deepcopy(small)
        other.blocks = other.blocks[:2]
        assert "another sequence" in difference(flow, removed, reference, other, inputs)
        large = difference(flow, removed, reference, flow.model, inputs)
        assert "gives (2, 8, 8, 8)" in large


def test_what_is_left_of_a_tensor():
    net, x = build("flat")
    flow = Flow(net, (x,))
    removed = torch.zeros(len(flow.names.root), dtype=torch.bool)
    conv = flow.producers[0]
    removed[conv.labels[[0, 2]]] = True
    node = next(n for n in flow.graph.nodes if n.target == "3")  # after flatten: each channel is 9 features
    index = survivors(flow, flow.labels[node].labels, removed)
    expected = [c * 9 + i for c in (1, 3, 4, 5) for i in range(9)]
    assert index[1].tolist() == expected and index[0].tolist() == [0, 1]
    value = torch.arange(108).view(2, 54)
    assert torch.equal(pick(value, index), value[:, expected])
    assert torch.equal(left_of(flow, flow.labels[node], removed, value), value[:, expected])
    assert same(torch.ones(3), torch.ones(3) + 1e-6) and not same(torch.ones(3), torch.ones(3) + 1e-2)
    assert not same(torch.ones(3), torch.ones(2)) and same(
        torch.tensor([-torch.inf, 1]), torch.tensor([-torch.inf, 1])
    )


def test_groups_choice_and_scores():
    net, inputs, flow, groups, removed = prepared("squeeze", 0.25)
    assert all(isinstance(g, Group) and all(isinstance(m, Member) for m in g.members) for g in groups)
    for group in groups:
        scores = scores_of(group, "magnitude", None)
        total = torch.zeros(group.channels, dtype=torch.float64)
        for member in group.members:
            weight = dict(net.named_parameters())[member.parameter].double()
            total += weight.movedim(member.axis, 0).flatten(1).square().sum(1)
        torch.testing.assert_close(scores, total.sqrt())
        gone = removed[group.names]
        assert int(gone.sum()) == round(0.25 * group.channels)
        assert scores[gone].max() <= scores[~gone].min()
    assert not silent_channels(flow, groups[0], inputs).any()
    assert ratios_of(net, groups, 0.5, {"stem.0": 0.1}, ["head"]) == [0.1, 0.5, 0.5, 0.5, 0.5]
    check_ratio(0.0, "ratio")
    check_importance("l1")
    with pytest.raises(ValueError, match="got 2"):
        check_ratio(2, "ratio")
    assert torch.equal(run(net, inputs), net(*inputs)) and restored(copy.deepcopy(net), net).training is False


MASKS = [None, "causal", "padding"]


@pytest.mark.parametrize("masked", MASKS)
@pytest.mark.parametrize("dims", [{}, {"kdim": 6, "vdim": 5}])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("batch_first", [True, False])
def test_head_attention_equals_torch(batch_first, bias, dims, masked):
    torch.manual_seed(0)
    theirs = nn.MultiheadAttention(12, 3, bias=bias, batch_first=batch_first, **dims).eval()
    ours = HeadAttention(theirs).eval()
    q, k, v = (
        torch.randn(2, 4, 12),
        torch.randn(2, 7, dims.get("kdim", 12)),
        torch.randn(2, 7, dims.get("vdim", 12)),
    )
    if not batch_first:
        q, k, v = (t.transpose(0, 1) for t in (q, k, v))
    more = {
        "causal": {"attn_mask": torch.triu(torch.ones(4, 7, dtype=torch.bool), 2)},
        None: {},
        "padding": {"key_padding_mask": torch.arange(7).expand(2, 7) > 4},
    }[masked]
    for average in (True, False):
        for found, expected in zip(
            ours(q, k, v, average_attn_weights=average, **more),
            theirs(q, k, v, average_attn_weights=average, **more),
            strict=True,
        ):
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    assert ours(q, k, v, need_weights=False)[1] is None
    with pytest.raises(ValueError, match="mask for each head"):
        ours(q, k, v, attn_mask=torch.zeros(6, 4, 7))


def test_attention_is_opened_and_closed_and_keeps_gradients():
    net, x = build("inner")
    net(x).square().sum().backward()
    work = copy.deepcopy(net)
    open_attention(work)
    attention = work.encoder.layers[0].self_attn
    assert isinstance(attention, HeadAttention) and not work.encoder.use_nested_tensor
    torch.testing.assert_close(work(x), net(x), rtol=1e-4, atol=1e-5)
    gradient = gradients_of(work, net)
    joined = net.encoder.layers[0].self_attn.in_proj_weight.grad
    assert torch.equal(torch.cat([gradient[id(getattr(attention, n).weight)] for n in "qkv"]), joined)
    assert torch.equal(gradient[id(work.front.weight)], net.front.weight.grad)
    close_attention(work, net)
    assert type(work.encoder.layers[0].self_attn) is nn.MultiheadAttention
    assert work.state_dict().keys() == net.state_dict().keys()


def test_a_new_rule_can_be_registered():
    class Double(nn.Module):
        def forward(self, x):
            return torch.special.bessel_j0(x)

    net = nn.Sequential(nn.Linear(3, 6), Double(), nn.Linear(6, 2))
    x = torch.randn(2, 3)
    with pytest.raises(PruningError, match="node 'special_bessel_j0'.*in module '1'"):
        Flow(net, (x,))
    rule(torch.special.bessel_j0)(elementwise)
    try:
        flow = Flow(net, (x,))
    finally:
        del RULES[torch.special.bessel_j0]
    assert [type(a) for a in (*flow.axes.values(), *flow.sizes)] == [Axis] * 4 + [Size] * 4 or flow.sizes
    node = next(n for n in flow.graph.nodes if n.target == "0")
    named = flow.labels[node]
    assert isinstance(named, Named) and named.labels[0].tolist() == list(range(1, 7))
    call = Call(node, net[0], named.value, "0")
    assert torch.equal(call.run(x), net[0](x))
    assert stored_weights(flow, call, None, None) == (net[0].weight, net[0].bias, net[0])
    assert leave_whole(flow, call, named).eq(0).all() and flow.names.is_fixed(named.labels)
    assert functions("relu tanh", torch) == [torch.relu, "relu", torch.tanh, "tanh"]
