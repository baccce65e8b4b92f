"""Hostile files instead of hostile code: names, links, pipes, archives, and notebooks that are bombs.

`hostile` writes them into a folder and says what each must earn. A strange name is no offence: behind most of them
stands honest work, which keeps its points.
"""

from __future__ import annotations

import json
import os
import stat
import zipfile
from pathlib import Path

NAMES = (
    "=cmd()", "+1+1", "@SUM(A1)", "-rf", "--out", "a\nb", "tab\there", "semi;colon", "<script>alert(1)<", "{{7*7}}",
    "\u202egnp.exe", "\ufeffbom", "zero\u200bwidth", "Ｆull", "con", "NUL", "student", "run.json",
    "x" * 240, "é" * 100, "a'b\"c`d", "$(id)", "%2e%2e%2f", "~root", "\x1b[2J", "report", "grades.csv", "records", "ann.ipynb",
)  # fmt: skip
TWINS = ("Twin", "twin", "TWIN", "t-w-i-n", "twin!", "twin?", "ｔwin", "twin-a4f1d8e2")  # some become one id


def hostile(folder: Path, honest: bytes, outside: Path) -> dict[str, float]:
    """Write all the files; returns how many points each may earn at most, in the order of their names.

    Parameters
    ----------
    folder : Path
        The submissions.
    honest : bytes
        A notebook that earns all 6 points.
    outside : Path
        A file of the grader that is a solved notebook, for links to it.
    """
    outside.write_bytes(honest)
    points: dict[str, float] = {}

    def put(name: str, data: bytes, most: float) -> None:
        try:
            (folder / name).write_bytes(data)
        except OSError:
            return  # a name that this file system does not take
        points[name.rsplit(".", 1)[0]] = most

    for name in (*NAMES, *TWINS):
        put(f"{name}.ipynb", honest, 6)
    os.mkfifo(folder / "pipe.ipynb")
    os.symlink(outside, folder / "link.ipynb")
    os.symlink("/dev/zero", folder / "endless.ipynb")
    os.symlink("nowhere", folder / "dangling.ipynb")
    os.symlink("loop.ipynb", folder / "loop.ipynb")
    os.symlink(outside.parent, folder / "linked folder")  # nobody's: it is not entered
    os.link(outside, folder / "hard link.ipynb")
    for name in ("pipe", "link", "endless", "dangling", "loop"):
        points[name] = 0
    points["hard link"] = 6  # only who may write to the folder can make one
    for name, make in (("stamped", os.mkfifo), ("stamped zero", lambda path: os.symlink("/dev/zero", path))):
        (folder / name).mkdir()
        (folder / name / "tiny_lab.ipynb").write_bytes(honest)
        make(folder / name / "timestamp.txt")
        points[name] = 6
    for name, data in bombs().items():
        put(f"{name}.ipynb", data, 0)
    for name, (members, most) in archives(honest).items():
        with zipfile.ZipFile(folder / f"{name}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for member, data, mode in members:
                info = zipfile.ZipInfo(member)
                info.compress_type, info.external_attr = zipfile.ZIP_DEFLATED, mode << 16
                archive.writestr(info, data)
        points[name] = most
    put("broken.zip", b"PK\x03\x04" + bytes(100) + b"PK\x05\x06" + b"\xff" * 18, 0)
    return points


def bombs() -> dict[str, bytes]:
    """Notebooks that want to hurt their reader."""
    cell = {"cell_type": "code", "source": "x = 1"}
    output = [{"output_type": "stream", "text": "x" * (50 << 20)}]
    claim = {
        "dca_lab": {"lab": "tiny_lab", "points": 6, "score": 6},
        "grade": 6,
        "student": "honest",
        "nbgrader": {"points": 6},
    }
    trees = {
        "claims points": {"cells": [cell], "metadata": claim, "score": 6, "student": "honest"},
        "claims in outputs": {"cells": [cell | {"outputs": [{"text": '{"score": 6}'}], "metadata": claim}]},
        "fifty megabytes": {"cells": [cell | {"outputs": output}]},
        "cells are numbers": {"cells": [1, None, "x", [cell], {"cell_type": 3}, {"cell_type": "code", "source": {"a": 1}}]},
        "cells are text": {"cells": "cells"},
        "metadata is a list": {"cells": [cell], "metadata": [1], "nbformat": "4"},
        "version 99": {"cells": [cell], "nbformat": 99, "nbformat_minor": -1},
        "version 3": {"worksheets": [{"cells": [{"cell_type": "code", "input": "x = 1"}]}, 3], "nbformat": 3},
        "many cells": {"cells": [cell] * 20_000},
    }  # fmt: skip
    found = {name: json.dumps(tree).encode() for name, tree in trees.items()}
    found |= {
        "deep": b'{"cells": ' + b"[" * 10**6,
        "deep outputs": b'{"cells": [{"cell_type": "code", "source": "", "outputs": ' + b"[" * 10**6 + b"]" * 10**6 + b"}]}",
        "NaN": b'{"cells": [NaN, Infinity, {"cell_type": "code", "source": NaN}], "nbformat": 1e999}',
        "long number": b'{"cells": [], "nbformat": ' + b"9" * 10**6 + b"}",
        "twice": b'{"cells": [], "cells": 1, "cells": [{"cell_type": "code", "source": "x", "source": 3}]}',
        "half a character": b'{"cells": [{"cell_type": "code", "source": "x = \'\\ud800\'"}]}',
        "NUL in the code": b'{"cells": [{"cell_type": "code", "source": "x\\u0000 = 1"}]}',
        "empty": b"",
        "spaces": b" " * 10**6,
        "a pickle": b"\x80\x04cos\nsystem\n(S'touch /tmp/pickled'\ntR.",
        "a program": b"#!/bin/sh\ntouch /tmp/pickled\n",
        "quotes": b'{"outputs": ["' + b'\\"' * 10**6,
    }  # fmt: skip
    return found


def archives(honest: bytes) -> dict[str, tuple[list[tuple[str, bytes, int]], float]]:
    """Name of the ZIP -> its members as (name, bytes, mode), and the points."""
    link = stat.S_IFLNK | 0o777
    return {
        "climbing": ([(name, honest, 0) for name in ("../climbed.ipynb", "/tmp/climbed.ipynb", "a/../../climbed.ipynb")], 0),
        "climbing the other way": ([("..\\climbed.ipynb", honest, 0), ("C:\\climbed.ipynb", honest, 0)], 0),
        "link inside": ([("lab.ipynb", b"/etc/passwd", link)], 0),
        "bomb": ([("lab.ipynb", bytes(150 << 20), 0)], 0),
        "many members": ([(f"{number}.txt", b"", 0) for number in range(5000)], 0),
        "zip in a zip": ([("inner.zip", b"PK\x05\x06" + bytes(18), 0)], 0),
        "two of one name": ([("lab.ipynb", b"{}", 0), ("lab.ipynb", honest, 0)], 6),
        "honest zip": ([("some/folder/tiny_lab.ipynb", honest, 0), ("__MACOSX/._lab.ipynb", b"\x00", 0)], 6),
        "hidden": ([(".lab.ipynb", honest, 0), (".git/lab.ipynb", honest, 0)], 0),
    }  # fmt: skip
