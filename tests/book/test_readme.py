"""The README's first screen says what the stored case study says."""

import sys
from pathlib import Path

from dca_lab.studies import load

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "book"))
import headline  # noqa: E402


def test_the_headline_is_what_was_measured():
    text = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    assert headline.sentence(load("case-study")["results"]) in text


def test_the_picture_shows_every_step_of_the_way():
    bars = headline.numbers(load("case-study")["results"])
    figure = headline.draw(bars)
    assert len(figure.axes[0].patches) == len(bars) == 5
    assert headline.PICTURE.is_file()
