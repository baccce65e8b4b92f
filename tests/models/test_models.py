"""The networks against closed forms and torch's own modules."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from dca_lab.models import (
    NAMES,
    DigitCNN,
    Discriminator,
    Generator,
    GRUClassifier,
    LeNet5,
    LeNet300,
    ResNet18,
    SmallCNN,
    TransformerLM,
    build,
    example_input,
)
from dca_lab.models.resnet18 import BasicBlock
from dca_lab.models.transformer import CausalSelfAttention

SMALL = {
    "resnet-18": {"width": 8},
    "generator": {"channels": 8},
    "discriminator": {"channels": 8},
}  # the others are small already


def small(name: str, seed: int = 0) -> nn.Module:
    return build(name, seed=seed, **SMALL.get(name, {}))


def count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def resnet18_parameters(width: int, inputs: int, classes: int) -> int:
    """The closed form: nine weights a pair of channels, two numbers a batch-norm channel."""
    total = 9 * inputs * width + 2 * width  # the stem
    total += 4 * 9 * width**2 + 4 * 2 * width  # the first stage
    for w in (2 * width, 4 * width, 8 * width):
        total += 9 * (w // 2) * w + 3 * 9 * w**2 + (w // 2) * w + 5 * 2 * w
    return total + 8 * width * classes + classes


def test_parameter_counts_of_the_pruning_literature():
    assert count(LeNet300()) == 266_610
    assert count(LeNet5()) == 431_080


@given(inputs=st.integers(1, 50), a=st.integers(1, 40), b=st.integers(1, 40), classes=st.integers(1, 12))
@settings(deadline=None, max_examples=20)
def test_lenet300_parameters_follow_the_formula(inputs, a, b, classes):
    model = LeNet300(inputs=inputs, hidden=(a, b), classes=classes)
    assert count(model) == (inputs + 1) * a + (a + 1) * b + (b + 1) * classes


@pytest.mark.parametrize(("width", "inputs", "classes"), [(64, 1, 10), (64, 3, 10), (16, 1, 5), (8, 3, 43)])
def test_resnet18_parameters_follow_the_formula(width, inputs, classes):
    model = ResNet18(width=width, in_channels=inputs, classes=classes)
    assert count(model) == resnet18_parameters(width, inputs, classes)


def test_resnet18_has_about_eleven_million_parameters_and_eighteen_weighted_layers():
    model = ResNet18()
    assert 11.1e6 < count(model) < 11.3e6
    layers = [name for name, m in model.named_modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    assert len([name for name in layers if "downsample" not in name]) == 18


def test_transformer_parameters_follow_the_formula():
    v, w, layers, context = 50, 24, 3, 16
    block = 4 * (w * w + w) + (4 * w * w + 4 * w) + (4 * w * w + w) + 2 * 2 * w
    model = TransformerLM(vocabulary=v, width=w, heads=3, layers=layers, context=context)
    assert count(model) == v * w + context * w + layers * block + 2 * w + w * v


@pytest.mark.parametrize("pixels", [28, 32])
@pytest.mark.parametrize("make", [SmallCNN, lambda **k: ResNet18(width=8, **k)])
def test_picture_models_take_both_sizes(make, pixels):
    assert make(in_channels=3, classes=7)(torch.zeros(2, 3, pixels, pixels)).shape == (2, 7)


def test_a_strided_stem_quarters_the_work_and_keeps_the_parameters():
    one, two = ResNet18(width=8), ResNet18(width=8, stem_stride=2)
    assert count(one) == count(two)
    assert two.layer1(two.conv1(torch.zeros(1, 1, 28, 28))).shape == (1, 8, 14, 14)


def test_digit_cnn_has_the_parameters_of_the_document():
    assert count(DigitCNN()) == (9 + 1) * 32 + (13 * 13 * 32 + 1) * 10  # 54,410


def test_lenet300_takes_pictures_and_rows_alike():
    model, x = LeNet300(), torch.randn(3, 1, 28, 28)
    assert torch.equal(model(x), model(x.view(3, 784)))


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("lenet-300-100", (3, 10)),
        ("lenet-5", (3, 10)),
        ("digit-cnn", (3, 10)),
        ("small-cnn", (3, 10)),
        ("resnet-18", (3, 10)),
        ("gru", (3, 10)),
        ("transformer-lm", (3, 64, 128)),
        ("generator", (3, 1, 28, 28)),
        ("discriminator", (3,)),
    ],
)
def test_build_and_example_input_fit_together(name, shape):
    assert name in NAMES
    assert small(name)(example_input(name, 3)).shape == shape


def test_every_name_is_tested_above_and_unknown_names_are_refused():
    assert len(NAMES) == 9
    for function in (build, example_input):
        with pytest.raises(ValueError, match="lenet-5"):
            function("lenet")


@pytest.mark.parametrize("name", NAMES)
def test_a_gradient_reaches_every_parameter(name):
    model = small(name)
    output = model(example_input(name, 4))
    (output * torch.randn(output.shape, generator=torch.Generator().manual_seed(1))).sum().backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, parameter_name


@pytest.mark.parametrize("name", NAMES)
def test_traceable_for_any_batch_size(name):
    model = small(name).eval()
    traced = torch.fx.symbolic_trace(model)
    for batch in (1, 3):
        x = example_input(name, batch)
        assert torch.equal(traced(x), model(x))


@pytest.mark.parametrize("name", NAMES)
def test_examples_in_a_batch_do_not_see_each_other(name):
    model, x = small(name).eval(), example_input(name, 3)
    alone = torch.cat([model(row[None]) for row in x])
    torch.testing.assert_close(model(x), alone, rtol=1e-4, atol=1e-5)


def test_build_with_a_seed_repeats_and_leaves_the_global_generator():
    before = torch.get_rng_state()
    a, b, c = build("gru", seed=3), build("gru", seed=3), build("gru", seed=4)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(a.fc.weight, b.fc.weight) and not torch.equal(a.fc.weight, c.fc.weight)


def test_build_without_a_seed_draws_from_the_global_generator():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = build("gru")
    assert torch.equal(model.fc.weight, build("gru", seed=3).fc.weight)


def test_small_cnn_adaptive_pool_equals_max_pool_for_28_pixels():
    x = torch.randn(2, 5, 14, 14)
    assert torch.equal(SmallCNN().pool2(x), F.max_pool2d(x, 2))


@pytest.mark.parametrize(("inputs", "outputs", "stride"), [(6, 6, 1), (6, 12, 2), (6, 9, 1)])
def test_residual_block_equals_torch_modules_with_its_weights(inputs, outputs, stride):
    block = BasicBlock(inputs, outputs, stride=stride)
    assert isinstance(block.downsample, nn.Identity) == (stride == 1 and inputs == outputs)
    branch = nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
        nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
        nn.BatchNorm2d(outputs),
    )
    for ours, theirs in ((block.conv1, 0), (block.bn1, 1), (block.conv2, 3), (block.bn2, 4)):
        branch[theirs].load_state_dict(ours.state_dict())
    x = torch.randn(4, inputs, 9, 9)
    shortcut = x
    if not isinstance(block.downsample, nn.Identity):
        kernel = block.downsample[0].weight[:, :, 0, 0]  # 1x1: a matrix product at every pixel
        shortcut = torch.einsum("oc,bchw->bohw", kernel, x[:, :, ::stride, ::stride])
        variance, mean = torch.var_mean(shortcut, (0, 2, 3), keepdim=True, correction=0)
        shortcut = (shortcut - mean) / torch.sqrt(variance + 1e-5)
    torch.testing.assert_close(block(x), torch.relu(branch(x) + shortcut), rtol=1e-4, atol=1e-5)


def test_attention_equals_torch_multihead_attention():
    ours = CausalSelfAttention(width=24, heads=4)
    theirs = nn.MultiheadAttention(24, 4, batch_first=True)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([ours.q.weight, ours.k.weight, ours.v.weight]))
        theirs.in_proj_bias.copy_(torch.cat([ours.q.bias, ours.k.bias, ours.v.bias]))
        theirs.out_proj.load_state_dict(ours.out.state_dict())
    x = torch.randn(3, 11, 24)
    future = torch.ones(11, 11, dtype=torch.bool).triu(1)
    torch.testing.assert_close(ours(x), theirs(x, x, x, attn_mask=future)[0], rtol=1e-4, atol=1e-5)


def test_a_head_can_be_removed_from_the_layers_alone():
    attention, x = CausalSelfAttention(width=24, heads=4), torch.randn(3, 11, 24)
    with torch.no_grad():
        attention.out.weight[:, 6:12] = 0  # silences head 1 of 0..3
        expected = attention(x)
        kept = torch.cat([torch.arange(6), torch.arange(12, 24)])
        for layer in (attention.q, attention.k, attention.v):
            layer.weight, layer.bias = nn.Parameter(layer.weight[kept]), nn.Parameter(layer.bias[kept])
        attention.out.weight = nn.Parameter(attention.out.weight[:, kept])
        torch.testing.assert_close(attention(x), expected, rtol=1e-4, atol=1e-6)


@given(position=st.integers(1, 15), seed=st.integers(0, 1000))
@settings(deadline=None, max_examples=20)
def test_a_future_token_never_changes_past_logits(position, seed):
    model = TransformerLM(vocabulary=20, width=16, heads=2, context=16).eval()
    tokens = torch.randint(20, (2, 16), generator=torch.Generator().manual_seed(seed))
    changed = tokens.clone()
    changed[:, position] = (changed[:, position] + 1) % 20
    before, after = model(tokens), model(changed)
    torch.testing.assert_close(before[:, :position], after[:, :position], rtol=0, atol=1e-6)
    assert (before[:, position] - after[:, position]).abs().max() > 1e-4


def test_transformer_knows_positions_and_its_limits():
    model = TransformerLM(vocabulary=20, width=16, heads=2, context=8).eval()
    same = model(torch.full((1, 8), 3))
    assert (same[0, 0] - same[0, 7]).abs().max() > 1e-4  # without positions, all would be equal
    with pytest.raises(AssertionError, match="at most 8 tokens"):
        model(torch.zeros(1, 9, dtype=torch.int64))


def test_gru_follows_the_equations_and_reads_the_last_state():
    model, x = GRUClassifier(inputs=3, hidden=5, classes=4), torch.randn(2, 7, 3)
    w, u = model.gru.weight_ih_l0.chunk(3), model.gru.weight_hh_l0.chunk(3)
    b, c = model.gru.bias_ih_l0.chunk(3), model.gru.bias_hh_l0.chunk(3)
    h = torch.zeros(2, 5)
    for t in range(7):
        r, z = (torch.sigmoid(x[:, t] @ w[i].T + b[i] + h @ u[i].T + c[i]) for i in (0, 1))
        n = torch.tanh(x[:, t] @ w[2].T + b[2] + r * (h @ u[2].T + c[2]))
        h = (1 - z) * n + z * h
    torch.testing.assert_close(model(x), model.fc(h), rtol=1e-4, atol=1e-6)


def test_generator_stays_in_range_and_discriminator_gives_logits():
    generator = Generator(latent=9, channels=8)
    with torch.no_grad():
        generator.deconv3.weight *= 1000  # so that the range is put to the test
    pictures = generator(torch.randn(4, 9))
    assert pictures.shape == (4, 1, 28, 28) and 0.99 < pictures.abs().max() <= 1
    assert Discriminator(channels=8)(pictures).shape == (4,)


def test_bad_shapes_are_refused_at_the_door():
    with pytest.raises(ValueError, match="hidden=\\(3,\\)"):
        LeNet300(hidden=(3,))
    with pytest.raises(ValueError, match="channels=\\(1, 2, 3\\)"):
        SmallCNN(channels=(1, 2, 3))
    with pytest.raises(ValueError, match="heads=5"):
        TransformerLM(width=16, heads=5)
