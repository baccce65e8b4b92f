"""What the page `chapters/practice/try-it` loads: its scripts, and the networks that answer on it.

    book/try_it/*.js, *.css                  -> _build/html/try-it/
    data/studies: results.json, networks/    -> _build/html/try-it/data.js

A page that is opened from the disk may load scripts and nothing else, so networks and digits are written into a script
as base64. Each file is compared with its checksum on the way (`dca_lab.studies`), and its size with the size that the
study wrote down. The folder is none of Sphinx's: a script in ``_static`` would be loaded on every page of the book. A
book without this page is left alone.
"""

from __future__ import annotations

import base64
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dca_lab import data, studies
from dca_lab.deploy import Session

PAGE = "chapters/practice/try-it"
SOURCE = Path(__file__).resolve().parent.parent / "try_it"
NETWORKS = ("original", "pruned", "quantized")
LOOKED_AT = 500  # test images among which those that break early are looked for


def stored_network(entry: dict[str, Any]) -> bytes:
    """The ONNX file of one entry of the study: the bytes that its checksum and its size are about."""
    content = studies.network(entry["file"]).read_bytes()
    if len(content) != entry["bytes"]:
        raise ValueError(f"{entry['file']}: {len(content)} bytes, the study says {entry['bytes']}")
    return content


def answers(file: str, pixels: np.ndarray) -> np.ndarray:
    """The digits (N,) that a stored network answers to pictures (N, 28, 28), uint8."""
    x = torch.from_numpy(pixels[:, None].astype(np.float32) / 255)
    return Session(studies.network(file))(x).argmax(1).numpy()


def choose(said: np.ndarray, labels: np.ndarray) -> list[tuple[int, str]]:
    """Two test images a digit: its first one, and the one that most steps of the ladder get wrong.

    Parameters
    ----------
    said : ndarray of int, shape (S, N)
        What each step answers; step 0 is the original, and an image that it gets wrong is not chosen as hard.
    labels : ndarray of int, shape (N,)

    Returns
    -------
    list of (index, kind)
        The ten of kind "first", then the ten of kind "hard"; of equally hard images the first.

    Examples
    --------
    >>> labels = np.tile(np.arange(10), 2)
    >>> said = np.stack([labels, np.where(np.arange(20) < 12, labels, 0)])
    >>> [index for index, _ in choose(said, labels)]
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1, 12, 13, 14, 15, 16, 17, 18, 19]
    """
    wrong = np.where(said[0] == labels, (said != labels).sum(0), -1)
    first = [(int(np.flatnonzero(labels == digit)[0]), "first") for digit in range(10)]
    hard = [(int(np.where(labels == digit, wrong, -2).argmax()), "hard") for digit in range(10)]
    return first + hard


def page_data() -> dict[str, Any]:
    """All that ``data.js`` holds: networks, ladder, digits, and the digits' pixels."""
    results = studies.load("results")["results"]
    mnist = data.load("mnist")
    pixels = mnist.x_test.reshape(-1, 28, 28)

    def text(content: bytes) -> str:
        return base64.b64encode(content).decode("ascii")

    networks = [
        {key: entry[key] for key in ("name", "accuracy", "bytes", "parameters", "macs")}
        | {"onnx": text(stored_network(entry))}
        for entry in results["networks"]
        if entry["name"] in NETWORKS
    ]
    steps = [stored_network(entry) for entry in results["ladder"]]
    ladder = [
        {key: entry[key] for key in ("label", "sparsity", "bits", "accuracy", "bytes")}
        | {"packed": entry["bytes_packed"] if entry.get("emulated") else None, "onnx": text(content)}
        for entry, content in zip(results["ladder"], steps, strict=True)
    ]
    said = np.stack([answers(entry["file"], pixels[:LOOKED_AT]) for entry in results["ladder"]])
    chosen = choose(said, mnist.y_test[:LOOKED_AT])
    return {
        "networks": networks,
        "ladder": ladder,
        "digits": [{"index": i, "label": int(mnist.y_test[i]), "kind": kind} for i, kind in chosen],
        "pixels": text(pixels[[i for i, _ in chosen]].tobytes()),
    }


def write_page(app, error):
    """Put the page's folder beside the rendered book."""
    if error or app.builder.format != "html" or PAGE not in app.env.found_docs:
        return
    folder = Path(app.outdir) / "try-it"
    folder.mkdir(exist_ok=True)
    for file in sorted([*SOURCE.glob("*.js"), *SOURCE.glob("*.css")]):
        shutil.copyfile(file, folder / file.name)
    text = json.dumps(page_data(), allow_nan=False, indent=0)
    (folder / "data.js").write_text(f"globalThis.tryItData = {text};\n", encoding="utf-8")


def setup(app):
    app.connect("build-finished", write_page)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
