"""The look of the figures: applied, distinguishable, and a slider that carries all it needs."""

import base64

import matplotlib.pyplot as plt
import numpy as np
import pytest
from bs4 import BeautifulSoup
from matplotlib.colors import to_rgb

from dca_lab import plots


def test_use_style_sets_the_palette():
    with plt.rc_context():
        plots.use_style()
        colours = plt.rcParams["axes.prop_cycle"].by_key()["color"]
    assert [f"#{colour.lstrip('#')}".lower() for colour in colours[:2]] == [
        plots.PALETTE["blue"].lower(),
        plots.PALETTE["orange"].lower(),
    ]


def _luminance(colour: str) -> float:
    """Relative luminance of WCAG 2.2."""
    channels = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return float(np.dot([0.2126, 0.7152, 0.0722], channels))


def test_the_main_colours_stand_out_from_white():
    """WCAG asks 3:1 of graphical objects; yellow and sky are for areas and third lines only."""
    for name in ("blue", "orange", "green", "grey"):
        assert 1.05 / (_luminance(plots.PALETTE[name]) + 0.05) >= 3, name


def test_band_draws_the_median_and_the_range():
    _, ax = plt.subplots()
    runs = np.array([[1.0, 5.0], [2.0, 4.0], [9.0, 0.0]])
    plots.band(ax, [0, 1], runs, label="runs")
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), np.median(runs, axis=0))
    vertices = ax.collections[0].get_paths()[0].vertices
    assert vertices[:, 1].min() == 0.0 and vertices[:, 1].max() == 9.0
    with pytest.raises(ValueError, match="one value for each x"):
        plots.band(ax, [0, 1, 2], runs)
    plt.close("all")


def test_slider_embeds_every_frame_and_nothing_from_elsewhere():
    figures = [plt.figure(figsize=(1 + i, 1)) for i in range(3)]
    soup = BeautifulSoup(
        plots.slider(figures, ["a", "b<c", "d"], name="size", alt="Boxes.")._repr_html_(), "html.parser"
    )
    images = soup.find_all("img")
    assert [image["data-label"] for image in images] == ["a", "b<c", "d"]
    assert [image.has_attr("hidden") for image in images] == [False, True, True]
    assert all(base64.b64decode(image["src"].split(",")[1]).startswith(b"\x89PNG") for image in images)
    assert all(image["alt"].startswith("Boxes. Shown:") for image in images)
    assert (soup.input["min"], soup.input["max"]) == ("0", "2")
    assert not soup.find_all("script") and "http" not in str(soup)
    assert not plt.get_fignums(), "the frames are closed"


def test_slider_starts_where_it_is_told():
    figures = [plt.figure(figsize=(1, 1)) for _ in range(3)]
    shown = plots.slider(figures, list("abc"), name="size", alt="Boxes.", start=2)
    assert isinstance(shown, plots.Slider)
    soup = BeautifulSoup(shown._repr_html_(), "html.parser")
    assert [image.has_attr("hidden") for image in soup.find_all("img")] == [True, True, False]
    assert soup.input["value"] == "2" and soup.output.text == "c"
    with pytest.raises(ValueError, match="start must be"):
        plots.slider([plt.figure()], ["a"], name="x", alt="y", start=1)
    plt.close("all")


def test_slider_refuses_frames_without_labels():
    with pytest.raises(ValueError, match="one label a frame"):
        plots.slider([plt.figure()], [], name="x", alt="y")
    plt.close("all")
