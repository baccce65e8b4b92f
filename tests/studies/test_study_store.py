"""Stored results: what is read is what was measured, and nothing that was changed by hand."""

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dca_lab.data import DataError
from dca_lab.studies import pieces, store

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@pytest.fixture
def saved(tmp_path):
    """A folder that holds a study with one network."""
    source = tmp_path / "made" / "small.onnx"
    source.parent.mkdir()
    source.write_bytes(b"a network")
    root = tmp_path / "studies"
    store.save(
        "toy", {"accuracy": [0.5, 0.75]}, command="dca study toy", seeds=[0, 1], files=[source], root=root
    )
    return root


@settings(deadline=None, max_examples=40)
@given(results=st.dictionaries(st.text(max_size=5), PLAIN, max_size=4))
def test_what_was_saved_is_loaded(tmp_path_factory, results):
    root = tmp_path_factory.mktemp("studies")
    store.save("toy", results, command="dca study toy", seeds=range(2), root=root)
    found = store.load("toy", root=root)
    assert found["results"] == results
    assert (found["study"], found["command"], found["seeds"]) == ("toy", "dca study toy", [0, 1])
    assert {"python", "torch", "numpy", "onnxruntime"} <= found["versions"].keys()
    assert found["machine"]["cpu"] and found["machine"]["threads"] == 1


def test_the_table_holds_the_checksum_of_every_file(saved):
    lines = (saved / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
    table = {path: digest for digest, path in (line.split("  ") for line in lines)}
    on_disk = {file.relative_to(saved).as_posix(): file for file in saved.rglob("[!.]*") if file.is_file()}
    assert table.keys() == on_disk.keys() - {"SHA256SUMS"} == {"toy.json", "networks/small.onnx"}
    for path, digest in table.items():
        assert hashlib.sha256(on_disk[path].read_bytes()).hexdigest() == digest


def test_a_number_changed_by_hand_is_refused(saved):
    file = saved / "toy.json"
    file.write_text(file.read_text(encoding="utf-8").replace("0.75", "0.99"), encoding="utf-8")
    assert json.loads(file.read_text(encoding="utf-8"))["results"]["accuracy"] == [
        0.5,
        0.99,
    ]  # well-formed, and refused
    with pytest.raises(DataError, match=r"changed by hand.*make toy"):
        store.load("toy", root=saved)


def test_a_damaged_network_is_refused(saved):
    assert store.network("small", root=saved).read_bytes() == b"a network"
    assert store.network("small.onnx", root=saved) == store.network("small", root=saved)
    (saved / "networks" / "small.onnx").write_bytes(b"another")
    with pytest.raises(DataError, match="changed by hand"):
        store.network("small", root=saved)


def test_what_is_missing_is_named(saved):
    with pytest.raises(FileNotFoundError, match=r"no other\.json.*make other"):
        store.load("other", root=saved)
    with pytest.raises(FileNotFoundError, match=r"'large\.onnx'; there are: small\.onnx"):
        store.network("large", root=saved)
    (saved / "networks" / "unlisted.onnx").write_bytes(b"x")
    with pytest.raises(DataError, match="not in SHA256SUMS"):
        store.network("unlisted", root=saved)


def test_networks_of_an_earlier_save_go_and_those_of_other_studies_stay(saved, tmp_path):
    for name, study in (("large", "toy"), ("foreign", "other")):
        (tmp_path / f"{name}.onnx").write_bytes(name.encode())
        files = [tmp_path / f"{name}.onnx"]
        store.save(study, {}, command="x", seeds=[0], files=files, root=saved)
    assert store.network("large", root=saved) and store.network("foreign", root=saved)
    with pytest.raises(FileNotFoundError):
        store.network("small", root=saved)
    assert "small" not in (saved / "SHA256SUMS").read_text(encoding="utf-8")


def test_studies_that_end_at_the_same_time_lose_no_line(tmp_path):
    def end(number):
        store.save(f"study-{number}", {"n": number}, command="x", seeds=[0], root=tmp_path)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(end, range(16)))
    assert [store.load(f"study-{n}", root=tmp_path)["results"]["n"] for n in range(16)] == list(range(16))


@pytest.mark.parametrize("name", ["", "../outside", "A b", ".hidden", "a/b"])
def test_names_that_are_no_file_are_refused(tmp_path, name):
    with pytest.raises(ValueError, match="small letters"):
        store.save(name, {}, command="x", seeds=[0], root=tmp_path)


def test_values_that_are_no_results_are_refused_and_leave_the_old_file(saved):
    for bad in (float("nan"), float("inf"), object()):
        with pytest.raises(ValueError, match="results"):
            store.save("toy", {"accuracy": bad}, command="x", seeds=[0], root=saved)
    with pytest.raises(FileNotFoundError, match=r"none\.onnx"):
        store.save("toy", {}, command="x", seeds=[0], files=["none.onnx"], root=saved)
    assert store.load("toy", root=saved)["results"] == {"accuracy": [0.5, 0.75]}


def test_a_piece_is_made_once_and_again_when_something_changed(tmp_path):
    made = []

    def make():
        made.append(len(made))
        (tmp_path / "network").write_bytes(b"x")
        return {"count": len(made)}

    options = {"settings": {"epochs": (1, 2)}, "files": ("network",)}
    assert pieces.piece(tmp_path, "a", make, **options) == {"count": 1}
    assert pieces.piece(tmp_path, "a", make, **options) == {"count": 1}
    assert pieces.piece(tmp_path, "a", make, **options | {"settings": {"epochs": (1, 3)}}) == {"count": 2}
    assert pieces.piece(tmp_path, "a", make, **options | {"settings": {"epochs": (1, 3)}}, fresh=True) == {
        "count": 3
    }
    (tmp_path / "network").unlink()
    assert pieces.piece(tmp_path, "a", make, **options | {"settings": {"epochs": (1, 3)}}) == {"count": 4}
    (tmp_path / "a.json").write_text('{"settings": {"epo', encoding="utf-8")  # torn
    assert pieces.piece(tmp_path, "a", make, **options | {"settings": {"epochs": (1, 3)}}) == {"count": 5}


def test_a_piece_that_fails_leaves_nothing(tmp_path):
    def fail():
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        pieces.piece(tmp_path, "a", fail, settings={})
    assert not list(tmp_path.iterdir())
