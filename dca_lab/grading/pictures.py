"""The report's pictures: how the scores spread, and how each exercise went, as SVG inside the page.

Drawn in the book's style with the palette of Okabe and Ito, which readers with colour-blindness can tell apart, and
with the numbers written into the bars. Unlike the book's figures, which keep a light page, these take the ink of the
page around them: the colours of text, axes and grid become CSS variables, so dark mode needs no second picture. What
this is *not*: interactive. The report's tables hold the same numbers.
"""

from __future__ import annotations

import html
import io
import re
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from dca_lab.plots import PALETTE, use_style

# colours of the style that belong to the page, and the page's names for them (templates/base.html)
PAGE = {
    "#333333": "var(--ink)",
    "#444444": "var(--muted)",
    "#888888": "var(--edge)",
    "#dddddd": "var(--line)",
}
FULL, PART, NONE = PALETTE["green"], PALETTE["yellow"], "#c3cad5"
INK = "#333333"
WIDTH = 5.6  # inches: half of the page, so that text keeps its size there
ON_COLOR = "#10151c"  # of numbers on the bars: 4.5 to 1 and better on all three


def distribution(scores: Sequence[float], out_of: float, *, height: float = 3.1) -> str:
    """How many submissions got how many points.

    Parameters
    ----------
    scores : sequence of float
        One a submission, between 0 and `out_of`.
    out_of : float
        The points that could be had.
    height : float
        Of the figure, in inches, for a picture beside another one.

    Returns
    -------
    str
        An ``<svg>`` element with a label that says the same in words.

    Examples
    --------
    >>> distribution([1.0, 2.0, 2.0], 2.0).startswith("<svg")
    True
    """
    scores = np.asarray(scores, dtype=float)
    whole = out_of == int(out_of) and 4 <= out_of <= 24
    step = 1.0 if whole else (out_of or 1.0) / 10
    middles = step * np.arange(
        round((out_of or 1.0) / step) + 1
    )  # a bar stands over the score that it counts
    edges = np.append(middles - step / 2, middles[-1] + step / 2)
    counts, _ = np.histogram(scores, bins=edges)
    with _style():
        figure = Figure(figsize=(WIDTH, height))
        ax = figure.subplots()
        bars = ax.bar(middles, counts, width=0.88 * step, color=PALETTE["blue"])
        ax.bar_label(
            bars, [str(count) if count else "" for count in counts], padding=2, color=INK, fontsize=10
        )
        if len(scores):
            middle = float(np.median(scores))
            ax.axvline(middle, color=PALETTE["orange"], linewidth=2, linestyle="--")
            right = middle > middles[-1] / 2
            ax.annotate(
                f" median {middle:.4g} ",
                (middle, 1),
                xycoords=("data", "axes fraction"),
                va="bottom",
                ha="right" if right else "left",
                color=INK,
            )
        ax.set(xlabel=f"points, of {out_of:g}", ylabel="submissions", xlim=(edges[0], edges[-1]))
        ax.yaxis.get_major_locator().set_params(integer=True)
        ax.margins(y=0.16)
        ax.grid(axis="x", visible=False)
        words = [f"{count} with {at:g}" for count, at in zip(counts, middles, strict=True) if count]
        return _svg(
            figure, f"Histogram of the scores of {len(scores)} submissions: {', '.join(words)} points."
        )


def success(rows: Sequence[tuple[str, int, int, int]]) -> str:
    """How many got each exercise right, in part, and not.

    Parameters
    ----------
    rows : sequence of (exercise, full, part, none)
        Numbers of submissions, in the order of the lab.

    Returns
    -------
    str
        An ``<svg>`` element with a label that says the same in words.
    """
    counts = np.array([row[1:] for row in rows], dtype=float).reshape(-1, 3)
    share = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    places, left = np.arange(len(rows)), np.zeros(len(rows))
    with _style():
        figure = Figure(figsize=(WIDTH, tall(len(rows))))
        ax = figure.subplots()
        kinds = (("right", FULL), ("partly", PART), ("not yet", NONE))
        for column, (kind, color) in enumerate(kinds):
            bars = ax.barh(places, share[:, column], left=left, height=0.66, color=color, label=kind)
            left = left + share[:, column]
            # a narrow piece has no room for its number; the table below the picture has it
            labels = [
                f"{n:.0f}" if wide >= 6 else ""
                for n, wide in zip(counts[:, column], share[:, column], strict=True)
            ]
            bold = "bold" if column == 0 else "normal"
            ax.bar_label(bars, labels, label_type="center", color=ON_COLOR, fontsize=10, fontweight=bold)
        ax.set_yticks(places, [row[0] if len(row[0]) <= 28 else f"{row[0][:27]}…" for row in rows])
        ax.set(xlim=(0, 100), xlabel="% of the submissions", ylim=(len(rows) - 0.5, -0.5))
        ax.grid(axis="y", visible=False)
        ax.tick_params(axis="y", length=0)
        figure.legend(loc="outside upper left", ncols=3, handlelength=1, labelcolor=INK)
        words = [f"{name}: {full} right, {part} partly, {none} not yet" for name, full, part, none in rows]
        return _svg(figure, f"Bars, one an exercise. {'; '.join(words)}.")


def tall(rows: int) -> float:
    """Height in inches of the picture of so many exercises."""
    return 0.9 + 0.44 * max(rows, 4)


@contextmanager
def _style() -> Iterator[None]:
    """The book's style for one picture; what the process had set comes back afterwards."""
    with mpl.rc_context():
        use_style()
        mpl.rcParams.update({"text.color": INK, "svg.hashsalt": "dca"})
        yield


def _svg(figure: Figure, label: str) -> str:
    """A figure as an element of a page: no prolog, no fixed size, ids of its own, the page's ink."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    body = text[text.index("<svg") : text.rindex("</svg>") + len("</svg>")]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    prefix = f"p{zlib.crc32(label.encode())}-"  # ids are the page's, and a page holds several pictures
    body = re.sub(r'\bid="', f'id="{prefix}', body)
    body = re.sub(r'(xlink:href="#|url\(#)', rf"\g<1>{prefix}", body)
    for color, name in PAGE.items():
        body = body.replace(color, name)
    box = re.search(r'viewBox="([^"]+)"', body)[1]
    start = f'<svg xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="{box}" role="img" aria-label="{html.escape(label)}">'
    return start + body[body.index(">") + 1 :]
