"""Oracle: the torch model that was exported."""

import warnings

import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from dca_lab.deploy import Session, export_onnx, save_onnx
from dca_lab.measure import size_on_disk
from dca_lab.models import build, example_input


@pytest.fixture(scope="module")
def linear(tmp_path_factory):
    """A session and its model: three inputs, two outputs."""
    model = nn.Linear(3, 2).eval()
    return export_onnx(model, torch.zeros(1, 3), tmp_path_factory.mktemp("linear") / "linear.onnx"), model


@pytest.mark.parametrize("name", ["small-cnn", "transformer-lm", "gru"])
def test_the_file_computes_what_the_model_computes(name, tmp_path, capfd):
    model = build(name, seed=0)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # quiet: no warning reaches the caller
        session = export_onnx(model, example_input(name), tmp_path / "model.onnx")
    assert capfd.readouterr() == ("", "")
    assert model.training and all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    for batch in (1, 2, 5):  # the batch is open
        x = example_input(name, batch)
        with torch.no_grad():
            torch.testing.assert_close(session(x), model.eval()(x), rtol=1e-4, atol=1e-4)
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]  # no weights beside it
    onnx.checker.check_model(str(tmp_path / "model.onnx"))
    assert session.bytes == (tmp_path / "model.onnx").stat().st_size < 1.02 * size_on_disk(model) + 40_000


def test_several_inputs_and_outputs(tmp_path):
    class Both(nn.Module):
        def forward(self, a, b):
            return a + b, a * b

    a, b = torch.randn(3, 4), torch.randn(3, 4)
    session = export_onnx(Both(), (a, b), tmp_path / "both.onnx")
    total, product = session(a, b)
    torch.testing.assert_close(total, a + b)
    torch.testing.assert_close(product, a * b)
    with pytest.raises(ValueError, match="takes 2 inputs.*not 1"):
        session(a)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 9), st.booleans(), st.integers(0, 99))
def test_any_batch_and_any_layout(linear, batch, transposed, seed):
    session, model = linear
    generator = torch.Generator().manual_seed(seed)
    x = (
        torch.randn(3, batch, generator=generator).T
        if transposed
        else torch.randn(batch, 3, generator=generator)
    )
    torch.testing.assert_close(session(x), model(x).detach())


def test_a_failed_export_leaves_what_was_there(tmp_path, capfd):
    class Branching(nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x

    class Mixes(nn.Module):  # multiplies over the batch, so it takes batches of two only
        def forward(self, x):
            return nn.functional.linear(x.T, torch.ones(2, 2))

    path = tmp_path / "model.onnx"
    path.write_bytes(b"older")
    for model in (Branching(), Mixes()):
        with pytest.raises(ValueError, match="cannot be exported with inputs of shape"):
            export_onnx(model, torch.zeros(2, 3), path)
    assert capfd.readouterr() == ("", "")
    with pytest.raises(ValueError, match="no valid ONNX model"):
        save_onnx(onnx.ModelProto(), path)
    assert path.read_bytes() == b"older" and len(list(tmp_path.iterdir())) == 1


def test_a_full_disk_leaves_what_was_there(tmp_path, monkeypatch, linear):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"older")

    def full(*_):
        raise OSError("no space left")

    monkeypatch.setattr("dca_lab.files.os.replace", full)
    with pytest.raises(OSError, match="no space"):
        save_onnx(onnx.load(linear[0].path), path)
    assert path.read_bytes() == b"older" and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("model", "x", "path", "message"),
    [
        (len, torch.zeros(1, 3), "m.onnx", "expected a torch.nn.Module"),
        (nn.Linear(3, 2), [[0.0]], "m.onnx", "batch dimension"),
        (nn.Linear(3, 2), torch.zeros(0, 3), "m.onnx", "batch dimension"),
        (nn.Linear(3, 2), (), "m.onnx", "batch dimension"),
        (nn.Linear(3, 2), torch.zeros(1, 3), "absent/m.onnx", "absent does not exist"),
        (nn.Linear(3, 2), torch.zeros(1, 3), "", "is a folder"),
    ],
)
def test_bad_input(model, x, path, message, tmp_path):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        export_onnx(model, x, tmp_path / path)
    assert list(tmp_path.iterdir()) == []


def test_the_session_is_the_file_itself(linear):
    session, model = linear
    twin = Session(session.path, threads=2)
    assert twin.threads == 2 and torch.equal(twin(torch.ones(1, 3)), session(torch.ones(1, 3)))
