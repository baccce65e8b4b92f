"""The pictures that a solved notebook draws: shown to students as the target to reach.

The solved notebook is executed once by nbclient, in a folder of its own with the visible checks beside it, so that
`check` passes and the cells tagged `target` draw. Their PNGs are kept under the build folder, named by a digest of
all that they depend on. What this is *not*: an execution of strangers' code. The notebook is the course's own.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dca_lab import __version__
from dca_lab.files import replacing
from dca_lab.grading import checks_file, source
from dca_lab.grading.exercise import Lab, LabError
from dca_lab.hardware import build_folder

SECONDS = 120  # for one cell of a solved notebook; the labs need a few


def target_pictures(
    lab: Lab, constants: Mapping[str, Any] | None = None, *, cache: Path | None = None
) -> dict[int, bytes]:
    """The PNG that each cell tagged `target` draws, by the number of the cell.

    Parameters
    ----------
    lab : Lab
    constants : mapping, optional
        Of a variant.
    cache : Path, optional
        Folder of the kept pictures; `build_folder() / "labs"` by default.

    Raises
    ------
    LabError
        The solved notebook stops with an error, or a target draws nothing.
    """
    values = {**lab.constants, **(constants or {})}
    notebook = source.build(lab, solution=True, constants=values)
    wanted = [index for index, cell in enumerate(notebook["cells"]) if "target" in source.tags(cell)]
    if not wanted:
        return {}
    what = json.dumps([__version__, lab.digest, sorted(values.items())], default=repr)
    cache = cache or build_folder() / "labs"
    kept = cache / f"{lab.name}-{hashlib.sha256(what.encode()).hexdigest()[:24]}.json"
    if kept.is_file():
        pictures = json.loads(kept.read_text(encoding="utf-8"))
    else:
        pictures = _draw(lab, notebook, wanted, values)
        cache.mkdir(parents=True, exist_ok=True)
        with replacing(kept) as beside:
            beside.write_text(json.dumps(pictures), encoding="utf-8")
    return {int(index): base64.b64decode(png) for index, png in pictures.items()}


def _draw(lab: Lab, notebook: dict[str, Any], wanted: list[int], values: dict[str, Any]) -> dict[str, str]:
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError

    node = nbformat.from_dict(notebook)
    with tempfile.TemporaryDirectory() as folder:
        checks_file.write(lab, Path(folder) / f"{lab.name}.checks", values)
        for file in lab.files:
            shutil.copy(file, folder)
        client = NotebookClient(
            node, timeout=SECONDS, kernel_name="python3", resources={"metadata": {"path": folder}}
        )
        try:
            # Where plots go to a file by default, as in tests, the notebook still shows them in its cells.
            client.execute(env={**os.environ, "MPLBACKEND": "module://matplotlib_inline.backend_inline"})
        except (CellExecutionError, CellTimeoutError) as error:
            raise LabError(f"the solved notebook of {lab.name} stops: {error}") from error
    pictures = {}
    for index in wanted:
        found = [
            output["data"]["image/png"]
            for output in node.cells[index].outputs
            if "image/png" in output.get("data", {})
        ]
        if not found:
            printed = "".join(output.get("text", "") for output in node.cells[index].outputs)
            raise LabError(
                f"cell {index} of {lab.name} is tagged `target` but draws no picture: {printed[:500]}"
            )
        pictures[str(index)] = found[-1].replace("\n", "")
    return pictures
