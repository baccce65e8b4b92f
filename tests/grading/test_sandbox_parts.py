"""The small parts of the sandbox on the grader's side: lists of places, overlay, channel, wiping."""

import os
import socket
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dca_lab.grading.sandbox import bubblewrap, overlay, places, watch
from dca_lab.grading.sandbox.channel import Broken, Channel, Gone, Late, Refused
from dca_lab.grading.sandbox.inside import usage
from dca_lab.grading.sandbox.inside.child import HEAD
from dca_lab.grading.sandbox.inside.wipe import wipe

NAME = bytes(range(16))


def test_nothing_hidden_is_readable():
    readable, listable = places.split(places.roots(), places.hidden())
    for path in [*readable, *listable]:
        for hidden in places.hidden():
            assert path != hidden and not path.startswith(f"{hidden}/")
    for path in readable:
        assert not any(hidden.startswith(f"{path}/") for hidden in places.hidden())
    home = str(places.PACKAGE)
    assert home in places.hidden()
    assert not any(f"{home}/cli.py".startswith(f"{path}/") for path in readable)


@settings(max_examples=30, deadline=None)
@given(st.sets(st.sampled_from(["a", "a/b", "a/b/c", "a/d", "e", "e/f"])))
def test_split_grants_all_but_the_cut(tmp_path_factory, cut):
    top = tmp_path_factory.mktemp("split")
    everything = [top / name for name in ("a/b/c", "a/d", "e/f", "g")]
    for folder in everything:
        folder.mkdir(parents=True)
    readable, _ = places.split([str(top)], [str(top / name) for name in cut])
    for folder in everything:
        hidden = any(folder.is_relative_to(top / name) for name in cut)
        assert hidden != any(folder.is_relative_to(path) for path in readable), folder


def test_overlay_holds_helpers_with_their_imports_and_nothing_else(tmp_path):
    overlay.build(
        tmp_path, ["dca_lab.pruning.masks"] if (overlay.PACKAGE / "pruning/masks.py").exists() else []
    )
    found = {str(path.relative_to(tmp_path / "dca_lab")) for path in tmp_path.rglob("*.py")}
    inside = {
        f"grading/sandbox/inside/{path.name}"
        for path in (overlay.PACKAGE / "grading/sandbox/inside").glob("*.py")
    }
    allowed = {
        "__init__.py",
        "grading/__init__.py",
        "grading/values.py",
        "grading/blob.py",
        "grading/sandbox/__init__.py",
    } | inside
    assert allowed <= found and {path.split("/")[0] for path in found - allowed} <= {"pruning"}
    assert (tmp_path / "dca_lab/__init__.py").read_text(encoding="utf-8") == ""
    assert not any("grading.judge" in path.read_text(encoding="utf-8") for path in tmp_path.rglob("*.py"))


def test_closure_follows_imports():
    found = overlay.closure(["dca_lab.measure"])
    assert "dca_lab.measure" in found and len(found) > 1
    for name in ("dca_lab.nothing", "os", "dca_lab.../etc", "dca_lab.grading"):
        with pytest.raises(ValueError):
            overlay.closure([name])


@pytest.fixture
def line():
    ours, theirs = socket.socketpair()
    yield Channel(ours, lambda: None), theirs
    ours.close()
    theirs.close()


def soon(seconds=0.3):
    return time.monotonic() + seconds


def test_frames(line):
    channel, theirs = line
    channel.send(NAME, b"question", soon())
    assert theirs.recv(100) == HEAD.pack(NAME, 8) + b"question"
    theirs.sendall(HEAD.pack(NAME, 6) + b"answer")
    assert channel.receive(NAME, 6, soon()) == b"answer"
    big = os.urandom(3 << 20)
    sender = threading.Thread(target=theirs.sendall, args=(HEAD.pack(NAME, len(big)) + big,))
    sender.start()
    assert channel.receive(NAME, len(big), soon(20)) == big
    sender.join()


@pytest.mark.parametrize(
    ("sent", "error"),
    [
        (b"", Late),
        (HEAD.pack(NAME, 5)[:-1], Late),
        (HEAD.pack(NAME, 5) + b"1234", Late),
        (HEAD.pack(NAME, 11), Refused),
        (HEAD.pack(NAME, 2**64 - 1), Refused),
        (HEAD.pack(bytes(16), 5) + b"12345", Refused),
    ],
)
def test_what_is_no_frame(line, sent, error):
    channel, theirs = line
    theirs.sendall(sent)
    with pytest.raises(error):
        channel.receive(NAME, 10, soon())


def test_death_and_deafness(line):
    channel, theirs = line
    with pytest.raises(Late):
        channel.send(NAME, bytes(50 << 20), soon())
    theirs.close()
    with pytest.raises(Gone):
        channel.send(NAME, b"x", soon())


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_end_in_bytes_or_broken(data):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(data)
        theirs.close()
        try:
            assert isinstance(Channel(ours, lambda: None).receive(NAME, 100, soon(5)), bytes)
        except Broken:
            pass


def test_watch_counts(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").write_bytes(bytes(100_000))
    os.symlink("/", tmp_path / "root")
    used, files = usage.usage(str(tmp_path), 100)
    assert files == 3 and 100_000 <= used < 200_000
    assert usage.usage(str(tmp_path), 1)[1] == 2
    assert usage.threads(os.getpid()) >= 1 and usage.threads(2**30) == 0
    assert watch.address_space(os.getpid()) > 1 << 20


def test_wipe(tmp_path):
    here = Path.cwd()
    outside = tmp_path / "outside.txt"
    outside.write_text("stays", encoding="utf-8")
    top = tmp_path / "top"
    top.mkdir()
    try:
        os.chdir(top)
        for _ in range(60):  # 60 names of 100 letters: longer than any path may be
            os.mkdir("d" * 100)
            os.chdir("d" * 100)
        os.mkdir("locked", 0)
    finally:
        os.chdir(here)
    (top / "file").touch()
    (top / ".lifted-1").touch()
    os.symlink(outside, top / "link")
    os.symlink(tmp_path, top / "folder")
    os.mkfifo(top / "pipe")
    (top / "shut" / "inner").mkdir(parents=True)
    (top / "shut" / "inner").chmod(0)
    (top / "shut").chmod(0)
    wipe(str(top))
    assert list(top.iterdir()) == [] and outside.read_text(encoding="utf-8") == "stays"


def test_bubblewrap_names_its_reason(monkeypatch):
    bubblewrap.works.cache_clear()
    try:
        monkeypatch.setattr(bubblewrap, "find", lambda: None)
        assert "not installed" in bubblewrap.works()
        bubblewrap.works.cache_clear()
        monkeypatch.setattr(bubblewrap, "find", lambda: "/bin/false")
        assert "exit status 1" in bubblewrap.works()
    finally:
        monkeypatch.undo()
        bubblewrap.works.cache_clear()
