"""The pictures of class report and feedback on the instructors' page: run by hand when their look has changed.

    python book/screenshots.py

Executes ``chapters/labs/instructors.ipynb``, so that the pictures show the class of that page, and opens what its
grading wrote in headless Chromium. The pictures go to ``chapters/labs/images`` and are committed. What this is *not*: a
part of the build, which must not need a browser.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from playwright.sync_api import Browser, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
LABS = ROOT / "chapters" / "labs"
WIDTH, SCALE = 980, 1.5
COLORS = 128  # a palette: half the bytes, and no difference to be seen on pages of text

sys.path.insert(0, str(ROOT / "tests" / "pages"))
import browser  # noqa: E402  finds the Chromium that the page tests drive


def graded_class(folder: Path) -> Path:
    """Execute the instructors' page; returns the results that it wrote, copied into `folder`."""
    notebook = nbformat.read(LABS / "instructors.ipynb", as_version=4)
    keep = f"import shutil; shutil.copytree(room / 'results', {str(folder / 'results')!r})"
    notebook.cells.append(nbformat.v4.new_code_cell(keep))
    NotebookClient(notebook, timeout=180, resources={"metadata": {"path": str(LABS)}}).execute()
    return folder / "results"


def shoot(chromium: Browser, page: Path, name: str, *, first: str = "body", height: int) -> None:
    """Write ``images/<name>.png``: `height` pixels of a page, from the element `first` on."""
    tab = chromium.new_page(
        viewport={"width": WIDTH, "height": 900}, device_scale_factor=SCALE, color_scheme="light"
    )
    tab.goto(page.as_uri())
    top = max(0, tab.locator(first).first.bounding_box()["y"] - 12)
    end = tab.evaluate("document.documentElement.scrollHeight")
    clip = {"x": 0, "y": top, "width": WIDTH, "height": min(height, end - top)}
    path = LABS / "images" / f"{name}.png"
    tab.screenshot(path=path, full_page=True, clip=clip)
    tab.close()
    from PIL import Image

    with Image.open(path) as image:
        small = image.convert("RGB").quantize(COLORS, dither=Image.Dither.NONE)
    small.save(path, optimize=True)
    print(path.relative_to(ROOT), f"{path.stat().st_size:,} bytes")


def main() -> int:
    found = browser.find()
    if found is None:
        print("no Chromium: python tests/pages/browser.py --install", file=sys.stderr)
        return 1
    flags = ["--no-sandbox"] if browser.is_root() else []
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        results = graded_class(Path(folder))
        chromium = driver.chromium.launch(executable_path=found, args=flags)
        shoot(chromium, results / "report.html", "report", height=720)
        shoot(chromium, results / "report.html", "pairs", first="[aria-labelledby=pairs]", height=620)
        shoot(chromium, results / "feedback" / "bela.html", "feedback", height=760)
        chromium.close()
    return 0


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
