"""One look for every figure, and the one figure that a reader can move.

``use_style()`` applies ``style.mplstyle``: palette, type, sizes and line weights. ``band`` draws a median with its
spread, since a curve without one hides how many seeds stand behind it. ``slider`` turns a row of figures into a
single figure with a range control that works from ``file://``, with the keyboard and in print, without any script
from elsewhere. What is *not* here: figures of one chapter, which live in that chapter.

The palette is the one of Okabe and Ito (2008), chosen to be told apart by readers with colour-blindness.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

PALETTE = {
    "blue": "#0072B2",
    "orange": "#D55E00",
    "green": "#009E73",
    "pink": "#CC79A7",
    "yellow": "#E69F00",
    "sky": "#56B4E9",
    "grey": "#444444",
}


def use_style() -> None:
    """Apply the book's figure style to matplotlib for the rest of the process."""
    plt.style.use(Path(__file__).with_name("style.mplstyle"))


def band(ax: Axes, x: Sequence[float], runs: np.ndarray, *, label: str | None = None, **line) -> None:
    """Draw the median of several runs as a line and their whole range as a band.

    Parameters
    ----------
    ax : matplotlib axes
    x : sequence of float, length P
    runs : array of float, shape (R, P)
        One row a run (a seed, a repeat).
    label : str, optional
    **line
        Passed to ``ax.plot``.

    Examples
    --------
    >>> _, ax = plt.subplots()
    >>> band(ax, [0, 1], np.array([[0.0, 1.0], [0.2, 0.8], [0.1, 0.9]]), label="three seeds")
    >>> ax.lines[0].get_ydata().shape
    (2,)
    >>> plt.close("all")
    """
    runs = np.atleast_2d(np.asarray(runs, dtype=float))
    if runs.shape[1] != len(x):
        raise ValueError(
            f"each run must have one value for each x: got runs {runs.shape} and {len(x)} x values"
        )
    (drawn,) = ax.plot(x, np.median(runs, axis=0), label=label, **line)
    ax.fill_between(x, runs.min(axis=0), runs.max(axis=0), color=drawn.get_color(), alpha=0.2, linewidth=0)


class Slider:
    """Frames with a range control below them; built by `slider`, shown by Jupyter through ``_repr_html_``."""

    # Each frame is an <img>; all but one are hidden. The handler is inline: no identifiers to collide when a page
    # has several sliders, and nothing to load. Without scripts, and in print, the frame at the start is what one sees.
    _MOVE = (
        "const f=this.closest('figure');"
        "f.querySelectorAll('img').forEach((g,i)=>g.hidden=i!=this.value);"
        "f.querySelector('output').textContent=f.querySelectorAll('img')[this.value].dataset.label;"
        "this.setAttribute('aria-valuetext',f.querySelector('output').textContent)"
    )

    def __init__(self, frames: list[bytes], labels: list[str], name: str, alt: str, start: int):
        self.frames, self.labels, self.name, self.alt, self.start = frames, labels, name, alt, start

    def _repr_html_(self) -> str:
        images = "".join(
            f'<img src="data:image/png;base64,{base64.b64encode(png).decode("ascii")}" '
            f'alt="{html.escape(self.alt)} Shown: {html.escape(label)}." '
            f'data-label="{html.escape(label)}"{"" if i == self.start else " hidden"}>'
            for i, (png, label) in enumerate(zip(self.frames, self.labels, strict=True))
        )
        name, first = html.escape(self.name), html.escape(self.labels[self.start])
        return (
            f'<figure class="dca-slider">{images}'
            f"<label>{name} <input type='range' min='0' max='{len(self.frames) - 1}' value='{self.start}' "
            f'aria-valuetext="{first}" oninput="{self._MOVE}"></label> <output>{first}</output></figure>'
        )

    def __repr__(self) -> str:
        return f"Slider({self.name!r}, {len(self.frames)} frames)"


def slider(
    figures: Sequence[Figure],
    labels: Sequence[str],
    *,
    name: str,
    alt: str,
    start: int = 0,
) -> Slider:
    """Make one figure that the reader moves out of several that were drawn.

    Parameters
    ----------
    figures : sequence of matplotlib Figure, length N
        Drawn at the same size; each is rendered to PNG and closed.
    labels : sequence of str, length N
        What the reader sees beside the control, such as ``"90 % sparse"``.
    name : str
        The control's label: the parameter that is moved.
    alt : str
        Alternative text of the figure, one sentence; the frame's label is added to it.
    start : int
        The frame that is shown first, and in print.

    Returns
    -------
    Slider
        Shows itself when it is the last expression of a cell.

    Examples
    --------
    >>> frames = [plt.figure(figsize=(1, 1)) for _ in range(3)]
    >>> slider(frames, ["a", "b", "c"], name="letter", alt="Three empty frames.")
    Slider('letter', 3 frames)
    """
    figures, labels = list(figures), [str(label) for label in labels]
    if not figures or len(figures) != len(labels):
        raise ValueError(
            f"a slider needs one label a frame and at least one frame: {len(figures)} frames, {len(labels)} labels"
        )
    if not 0 <= start < len(figures):
        raise ValueError(f"start must be one of the frames 0 to {len(figures) - 1}, got {start}")
    frames = []
    for figure in figures:
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png")
        plt.close(figure)
        frames.append(buffer.getvalue())
    return Slider(frames, labels, name, alt, start)
