"""AWQ: the function stays, the exponent is the best of its grid, and the control is the same procedure."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from language_networks import language_model
from torch import nn
from torch.nn import functional as F

from dca_lab.quantization._folding import attention_pairs, checked_pairs, fold, norm_pairs
from dca_lab.quantization.awq import awq_scales, quantize_awq, scale_awq
from dca_lab.quantization.gptq import quantize_gptq
from dca_lab.quantization.nearest import quantize_groupwise
from dca_lab.quantization.packed_linear import PackedLinear
from dca_lab.quantization.salient import keep_channels
from dca_lab.quantization.smoothquant import plant_outliers
from dca_lab.quantization.weight_only import quantize_weights


def output_error(weight, scale, x, **options):
    """The error of the layer's output itself, no Hessian: x / s through the rounded W s."""
    rounded = quantize_groupwise(weight.double() * scale, **options).dequantize().double()
    return float((x @ weight.double().T - (x / scale) @ rounded.T).square().sum())


@settings(deadline=None, max_examples=20)
@given(st.integers(2, 12), st.integers(2, 4), st.integers(1, 3), st.integers(0, 99))
def test_the_exponent_is_the_best_of_its_grid_for_the_output_of_all_readers(inputs, bits, count, seed):
    g = torch.Generator().manual_seed(seed)
    x = (torch.randn(40, inputs, generator=g) * torch.rand(inputs, generator=g).exp()).double()
    weights = [torch.randn(3, inputs, generator=g) for _ in range(count)]
    salience = x.abs().mean(0)
    options = dict(bits=bits, group_size=4)
    scale, alpha = awq_scales(weights, x.T @ x, salience, steps=5, **options)
    errors = {}
    for tried in (0.0, 0.2, 0.4, 0.6, 0.8):
        s = salience**tried
        s = s / (s.max() * s.min()).sqrt()
        errors[tried] = sum(output_error(w, s, x, **options) for w in weights)
    ours = sum(output_error(w, scale, x, **options) for w in weights)
    assert ours == pytest.approx(min(errors.values()), rel=1e-6)
    assert errors[alpha] == pytest.approx(min(errors.values()), rel=1e-6)
    assert scale.max() * scale.min() == pytest.approx(1) and (scale > 0).all()


def test_a_loud_channel_is_protected():
    g = torch.Generator().manual_seed(0)
    weight, loud = torch.randn(16, 32, generator=g), torch.ones(32)
    loud[5] = 50
    x = (torch.randn(300, 32, generator=g) * loud).double()
    options = dict(bits=3, group_size=32)
    scale, alpha = awq_scales([weight], x.T @ x, x.abs().mean(0), **options)
    assert alpha > 0 and int(scale.argmax()) == 5
    nearest = output_error(weight, torch.ones(32).double(), x, **options)
    assert output_error(weight, scale, x, **options) < nearest / 2
    # the control: the same numbers, given to other channels
    wrong = x.abs().mean(0).roll(7)
    control, _ = awq_scales([weight], x.T @ x, wrong, **options)
    assert output_error(weight, control, x, **options) > 2 * output_error(weight, scale, x, **options)


def test_equal_salience_is_round_to_nearest_and_silence_is_no_accident():
    x = torch.eye(6)
    scale, alpha = awq_scales([torch.randn(2, 6)], x, torch.ones(6), group_size=6)
    assert alpha == 0 and torch.equal(scale, torch.ones(6).double())
    silent = torch.tensor([0.0, 1, 2, 3, 4, 5])
    assert torch.isfinite(awq_scales([torch.randn(2, 6)], x, silent, group_size=6)[0]).all()
    assert torch.isfinite(awq_scales([torch.randn(2, 6)], x, torch.zeros(6), group_size=6)[0]).all()


@pytest.mark.parametrize("shuffled", [False, True])
def test_the_float_function_stays(shuffled):
    model, tokens = language_model()
    shuffle = torch.Generator().manual_seed(3) if shuffled else None
    scaled = scale_awq(model, tokens, bits=2, group_size=16, shuffle=shuffle)
    with torch.no_grad():
        assert torch.allclose(scaled(tokens), model(tokens), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(scaled.blocks[0].norm1.weight, model.blocks[0].norm1.weight)


def test_all_the_exact_pairs_of_a_transformer_are_found():
    model, _ = language_model()
    expected = {"norm": ["head"]}
    for b in ("blocks.0.", "blocks.1."):
        expected[f"{b}norm1"] = [f"{b}attention.{each}" for each in "qkv"]
        expected[f"{b}norm2"] = [f"{b}fc1"]
    assert norm_pairs(model) == expected
    assert attention_pairs(model) == {
        f"blocks.{b}.attention.v": [f"blocks.{b}.attention.out"] for b in (0, 1)
    }


class Odd(nn.Module):
    """A norm read by a linear layer and by an addition, a plain one, and a head tied to the embedding."""

    def __init__(self):
        super().__init__()
        self.token = nn.Embedding(7, 4)
        self.residual, self.plain, self.last = nn.LayerNorm(4), nn.LayerNorm(4), nn.LayerNorm(4)
        self.bare = nn.LayerNorm(4, elementwise_affine=False)
        self.a, self.b, self.c, self.head = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 7)
        self.head.weight = self.token.weight

    def forward(self, tokens):
        x = self.residual(self.token(tokens))
        x = x + self.a(x)
        x = self.c(self.bare(self.b(self.plain(x))))
        return self.head(self.last(x))


def test_pairs_that_would_not_be_exact_are_left_out():
    model, tokens = Odd(), torch.randint(0, 7, (9, 3))
    assert norm_pairs(model) == {"plain": ["b"]}
    scaled = scale_awq(model, tokens, bits=3, group_size=4)
    assert torch.allclose(scaled(tokens), model(tokens), atol=1e-5)


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 6), st.integers(0, 99), st.booleans())
def test_folding_is_exact_for_norms_and_linear_layers(channels, seed, norm):
    g = torch.Generator().manual_seed(seed)
    first = nn.LayerNorm(channels) if norm else nn.Linear(channels, channels)
    model = nn.Sequential(first, nn.Linear(channels, 3)).double()
    scale = torch.rand(channels, generator=g, dtype=torch.float64) * 9 + 0.1
    x = torch.randn(8, channels, generator=g, dtype=torch.float64)
    with torch.no_grad():
        before, inner = model(x), model[0](x)
        fold(model, "0", ["1"], scale)
        assert torch.allclose(model(x), before) and torch.allclose(model[0](x), inner / scale)


def test_it_helps_where_channels_are_loud_and_the_control_does_not():
    model, tokens = language_model()
    loud = plant_outliers(model, channels=2, factor=50, generator=torch.Generator().manual_seed(0))

    def distance(found):
        with torch.no_grad():
            return float(F.mse_loss(found(tokens), model(tokens)))

    options = dict(bits=3, group_size=32)
    ours = distance(quantize_awq(loud, tokens, **options))
    shuffles = [torch.Generator().manual_seed(seed) for seed in range(3)]
    controls = [distance(quantize_awq(loud, tokens, shuffle=each, **options)) for each in shuffles]
    assert ours < min(controls)
    assert ours < distance(quantize_weights(loud, **options))


def test_the_result_is_packed_the_model_left_alone_and_gptq_can_follow():
    model, tokens = language_model()
    before = {name: p.clone() for name, p in model.state_dict().items()}
    found = quantize_awq(model, tokens, bits=4, group_size=16)
    assert isinstance(found.blocks[0].fc1, PackedLinear) and found.blocks[0].fc1.bits == 4
    assert all(torch.equal(p, before[name]) for name, p in model.state_dict().items())
    both = quantize_gptq(scale_awq(model, tokens, bits=4, group_size=16), tokens, bits=4, group_size=16)
    assert isinstance(both.head, PackedLinear)


def test_bad_inputs_are_refused():
    model, tokens = language_model()
    with pytest.raises(ValueError, match="empty"):
        scale_awq(model, tokens[:0])
    with pytest.raises(ValueError, match="no pair"):
        scale_awq(nn.Sequential(nn.Linear(4, 4)), torch.zeros(2, 4))
    with pytest.raises(ValueError, match="no LayerNorm with weights"):
        scale_awq(model, tokens, pairs={"token": ["head"]})
    with pytest.raises(ValueError, match="must be a list"):
        scale_awq(model, tokens, pairs={"norm": "head"})
    with pytest.raises(ValueError, match="no linear layer is called"):
        scale_awq(model, tokens, pairs={"norm": ["tail"]})
    assert checked_pairs(model, {"norm": ("head",)}) == {"norm": ["head"]}
    with pytest.raises(ValueError, match="gives 32 channels"):
        scale_awq(model, tokens, pairs={"norm": ["blocks.0.fc2"]})
    with pytest.raises(ValueError, match="matrices"):
        awq_scales([torch.zeros(2, 3)], torch.eye(4), torch.ones(4))
    with pytest.raises(ValueError, match="X\\^T X"):
        awq_scales([torch.zeros(2, 4)], torch.eye(3), torch.ones(4))
    with pytest.raises(ValueError, match="not negative"):
        awq_scales([torch.zeros(2, 4)], torch.eye(4), -torch.ones(4))
    with pytest.raises(ValueError, match="steps=0"):
        awq_scales([torch.zeros(2, 4)], torch.eye(4), torch.ones(4), steps=0)

    class Branches(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.out = nn.LayerNorm(2), nn.Linear(2, 1)

        def forward(self, x):
            return self.out(self.norm(x)) if x.sum() > 0 else x

    with pytest.raises(ValueError, match="cannot be traced.*pass pairs"):
        norm_pairs(Branches())


# which channels to keep


@pytest.mark.parametrize("by", ["activation", "weight", "random"])
def test_kept_channels_are_float16_and_the_others_rounded(by):
    layer = nn.Linear(40, 6)
    with torch.no_grad():
        layer.weight[:, 3] *= 9
    x = torch.randn(60, 40)
    x[:, 7] *= 30
    found = keep_channels(
        nn.Sequential(layer),
        x,
        by=by,
        share=0.025,
        bits=3,
        group_size=8,
        generator=torch.Generator().manual_seed(2),
    )[0].weight
    kept = (found == layer.weight.half().float()).all(0).nonzero().flatten().tolist()
    rounded = quantize_groupwise(layer.weight, bits=3, group_size=8).dequantize()
    assert len(kept) == 1 and {"activation": kept == [7], "weight": kept == [3]}.get(by, True)
    others = torch.arange(40) != kept[0]
    assert torch.equal(found[:, others], rounded[:, others])


def test_keeping_everything_is_float16_and_bad_choices_are_refused():
    model, x = nn.Sequential(nn.Linear(8, 2)), torch.randn(5, 8)
    assert torch.equal(keep_channels(model, x, share=1.0)[0].weight, model[0].weight.half().float())
    for wrong, match in (
        ({"by": "size"}, "choose one"),
        ({"share": 0}, "share=0"),
        ({"by": "random"}, "generator"),
    ):
        with pytest.raises(ValueError, match=match):
            keep_channels(model, x, **wrong)
