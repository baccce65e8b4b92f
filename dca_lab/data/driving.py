"""Driving: the official artwork of traffic signs, German and American.

Drawings, not photographs: one clean picture of each sign. A chapter renders them (pose, light, blur, noise)
and says so. Because there is *one* artwork for each German sign, telling the signs apart cannot be tested on
unseen artwork; telling the legal *category* can, and that is the split here. The task of telling them apart
is in the extras, for a chapter that renders new views of known signs and says that this is what it measures.
"""

from __future__ import annotations

import io
import re
import zipfile
from pathlib import Path

import numpy as np

from dca_lab.data._split import order, unit
from dca_lab.data._store import DataError, read, restore_advice
from dca_lab.data.dataset import Dataset, take

SIGNS_FILES = ("driving/german_sign_artwork.zip",)
SIDE = 64
GREY = 128
# German signs are numbered by category (StVO, annexes 1 to 3: 1xx, 2xx, from 301); American ones by the first
# letter (MUTCD: W warning, also CW; R regulatory; D and M guide).
CATEGORIES = ("warning", "regulatory", "guide")
_AMERICAN = {"W": 0, "C": 0, "R": 1, "D": 2, "M": 2}
# The same drawing under another number: turned arrows, and two "end of restriction" signs that are equal
# pixel by pixel (278 would carry a number, which the artwork leaves out).
_ALIKE = {"211": "209", "222": "209", "282": "278"}


def artwork_key(code: str) -> str:
    """Return the drawing behind a German sign: its number without the variant (mirrored, turned).

    Examples
    --------
    >>> artwork_key("103-10") == artwork_key("103-20")
    True
    """
    number = code.split("-")[0]
    return _ALIKE.get(number, number)


def _render(content: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Return one artwork, centred, as RGB on grey, uint8 (64, 64, 3), and its opacity, uint8 (64, 64)."""
    from PIL import Image

    with Image.open(io.BytesIO(content)) as file:
        image = file.convert("RGBA")
    scale = SIDE / max(image.size)
    size = tuple(max(1, round(extent * scale)) for extent in image.size)
    # Pillow weights colours by opacity when it resizes RGBA: no dark fringe.
    image = image.resize(size, Image.Resampling.LANCZOS)
    canvas = Image.new("RGBA", (SIDE, SIDE), (GREY, GREY, GREY, 0))
    canvas.paste(image, ((SIDE - size[0]) // 2, (SIDE - size[1]) // 2))
    opacity = np.asarray(canvas.getchannel("A"))
    on_grey = Image.alpha_composite(Image.new("RGBA", canvas.size, (GREY, GREY, GREY, 255)), canvas)
    return np.asarray(on_grey.convert("RGB")), opacity


def _category(country: str, code: str) -> int:
    return _AMERICAN[code[0]] if country == "US" else min(int(code[0]), 3) - 1


def _held_out(keys: list[str], category: np.ndarray) -> np.ndarray:
    """Return the test mask: of each category, the quarter of its drawings whose key hashes lowest."""
    mask = np.zeros(len(keys), dtype=bool)
    for number in np.unique(category):
        inside = category == number
        drawings = sorted({key for key, there in zip(keys, inside, strict=True) if there}, key=unit)
        chosen = set(drawings[: max(1, len(drawings) // 4)])
        mask |= inside & np.array([key in chosen for key in keys])
    return mask


def load_signs(root: Path) -> Dataset:
    """German traffic signs by category: x uint8 (N, 64, 64, 3) RGB on grey, y int64, one of three.

    The categories are warning, regulatory and guide. No drawing is on both sides: variants of one number
    (mirrored, turned) and look-alikes stay together.

    ``alpha_*`` uint8 (N, 64, 64) is the opacity: ``x + (1 - alpha / 255) * (background - 128)`` puts a sign
    in front of another background. ``code_*`` is the official number.

    To tell the signs apart instead: ``sign_train`` and ``sign_test`` (int64) index ``signs``, the 51 distinct
    pictures by code. Each is on one side only, so a chapter joins both parts and renders its own views. (282
    is pixel by pixel 278, and counts as 278; 277 is opaque in its corners.)

    Another country, for a shift of distribution: ``x_us``, ``alpha_us``, ``y_us``, ``code_us``, 32 American
    signs in the same three categories. Their stop sign is left out: it is the very picture of the German one.
    """
    path = SIGNS_FILES[0]
    try:
        with zipfile.ZipFile(io.BytesIO(read(root, path))) as archive:
            found = sorted(n for n in archive.namelist() if re.fullmatch(r"(DE|US)/[\w.-]+\.png", n))
            pictures = [_render(archive.read(name)) for name in found]
    except (zipfile.BadZipFile, OSError) as error:
        raise DataError(
            f"{path} matches its checksum but is not readable artwork: {error}. {restore_advice(path)}"
        ) from error
    x, alpha = (np.stack(column) for column in zip(*pictures, strict=True))
    country = np.array([name[:2] for name in found])
    code = np.array([name[3:-4] for name in found])
    y = np.array(
        [_category(*pair) for pair in zip(country.tolist(), code.tolist(), strict=True)], dtype=np.int64
    )
    turn = order(found)
    home, away = turn[country[turn] == "DE"], turn[country[turn] == "US"]
    first: dict[bytes, str] = {}
    for i in sorted(home, key=lambda i: code[i]):
        first.setdefault(x[i].tobytes(), code[i])
    signs = np.array(list(first.values()))  # sorted
    away = np.array([i for i in away if x[i].tobytes() not in first])
    parts = take(
        _held_out([artwork_key(c) for c in code[home].tolist()], y[home]),
        x=x[home],
        y=y[home],
        alpha=alpha[home],
        code=code[home],
        sign=np.searchsorted(signs, [first[x[i].tobytes()] for i in home]),
    )
    return Dataset(
        name="signs",
        **{key: parts.pop(key) for key in ("x_train", "y_train", "x_test", "y_test")},
        classes=CATEGORIES,
        extras={
            **parts,
            "signs": signs,
            "x_us": x[away],
            "alpha_us": alpha[away],
            "y_us": y[away],
            "code_us": code[away],
        },
        licence="BSD-3-Clause (Technical University of Munich)",
        source="official sign artwork, from the Python package commonroad-io 2026.1",
    )
