"""Oracle: nodes written by hand with onnx.helper, and the functions that take a model."""

import copy
import pickle

import pytest
import torch
from onnx import TensorProto, helper

from dca_lab.deploy import Session, save_onnx
from dca_lab.measure import latency, size_on_disk
from dca_lab.training import evaluate, predict


def twice(path, kind=TensorProto.FLOAT, last=3):
    """A file that computes x + x."""
    value = [helper.make_tensor_value_info(name, kind, ["batch", last]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "twice", value[:1], value[1:])
    model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 20)])
    return save_onnx(model, path)


@pytest.fixture
def session(tmp_path):
    return Session(twice(tmp_path / "twice.onnx"))


def test_it_fits_where_a_model_fits(session):
    x, y = torch.eye(3), torch.tensor([0, 1, 1])
    assert evaluate(session, x, y, batch_size=2) == pytest.approx(2 / 3)
    assert torch.equal(predict(session, x, batch_size=2), 2 * x)
    assert latency({"session": session}, x, repeats=2).seconds["session"].shape == (2,)
    assert session.train() is session and session.eval() is session and list(session.modules()) == []
    with pytest.raises(ValueError, match="expected a torch.nn.Module"):  # its size is .bytes, nothing else
        size_on_disk(session)


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        (TensorProto.FLOAT, torch.float32),
        (TensorProto.DOUBLE, torch.float64),
        (TensorProto.INT64, torch.int64),
        (TensorProto.INT32, torch.int32),
    ],
)
def test_dtypes(tmp_path, kind, dtype):
    session = Session(twice(tmp_path / "twice.onnx", kind))
    x = torch.ones(2, 3, dtype=dtype)
    assert torch.equal(session(x), x + x)
    wrong = torch.ones(2, 3, dtype=torch.float16)
    with pytest.raises(ValueError, match=f"'x' is {dtype}, and the tensor is torch.float16"):
        session(wrong)


def test_shapes(session):
    assert session(torch.ones(4, 3)).shape == (4, 3)
    for shape in [(4, 2), (3,), (4, 3, 1)]:
        with pytest.raises(ValueError, match=r"has shape \(batch, 3\), and the tensor has"):
            session(torch.ones(shape))
    with pytest.raises(ValueError, match="give a torch tensor, not list"):
        session([[1.0, 2.0, 3.0]])
    with pytest.raises(ValueError, match="takes 1 inputs"):
        session()


def test_files(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file .*absent.onnx"):
        Session(tmp_path / "absent.onnx")
    (tmp_path / "text.onnx").write_text("no model", encoding="utf-8")
    with pytest.raises(ValueError, match=r"text.onnx is no model"):
        Session(tmp_path / "text.onnx")
    for threads in (0, -1, 1.5, True, "2"):
        with pytest.raises(ValueError, match="threads="):
            Session(twice(tmp_path / "twice.onnx"), threads=threads)


def test_copies_reopen_the_file(session):
    x = torch.ones(2, 3)
    for twin in (copy.deepcopy(session), pickle.loads(pickle.dumps(session))):
        assert twin.path == session.path and torch.equal(twin(x), session(x))


def test_node_types_are_those_of_the_optimised_graph(tmp_path):
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 1, 6, 6]) for name in "xy"]
    weight = helper.make_tensor("w", TensorProto.FLOAT, [1, 1, 1, 1], [2.0])
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"]),
        helper.make_node("Identity", ["a"], ["b"]),  # goes
        helper.make_node("Relu", ["b"], ["y"]),  # is fused into the convolution
    ]
    graph = helper.make_graph(nodes, "relu", values[:1], values[1:], [weight])
    model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 20)])
    types = Session(save_onnx(model, tmp_path / "relu.onnx")).node_types()
    assert not {"Identity", "Relu"} & set(types)
    assert any(
        "Conv" in name for name in types
    )  # FusedConv; where the kernel is NCHWc, Conv between reorders
    assert list(tmp_path.iterdir()) == [tmp_path / "relu.onnx"]


def test_repr_names_the_file(session):
    assert repr(session) == f"Session({str(session.path)!r}, threads=1, bytes={session.bytes})"
