"""Every page of the book as its reader meets it: from the disk, offline, in both colour schemes."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import yaml
from axe_playwright_python.sync_playwright import Axe
from bs4 import BeautifulSoup

ROOT = Path(__file__).resolve().parents[2]


def _chapters() -> list[str]:
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    return [toc["root"], *(chapter["file"] for part in toc["parts"] for chapter in part["chapters"])]


PAGES = [f"{name}.html" for name in _chapters()]


@pytest.fixture(scope="module")
def soups(html):
    paths = [path for path in html.rglob("*.html") if "_static" not in path.parts]
    return {path: BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser") for path in paths}


@pytest.mark.parametrize("page", PAGES)
def test_the_page_is_there_and_has_text(html, page):
    soup = BeautifulSoup((html / page).read_text(encoding="utf-8"), "html.parser")
    article = soup.find("article")
    assert article.find("h1"), "a page starts with its title"
    assert len(article.get_text().split()) > 100


def test_no_internal_link_is_broken(soups):
    broken = []
    ids = {path: {tag["id"] for tag in soup.find_all(id=True)} for path, soup in soups.items()}
    for path, soup in soups.items():
        for tag, attribute in (("a", "href"), ("img", "src"), ("script", "src"), ("link", "href")):
            for node in soup.find_all(tag, attrs={attribute: True}):
                url = urlsplit(node[attribute])
                if url.scheme or url.netloc:
                    continue
                target = (path.parent / unquote(url.path)).resolve() if url.path else path
                if target.is_dir():
                    target /= "index.html"
                if not target.is_file():
                    broken.append(f"{path.name}: {node[attribute]}")
                elif (
                    url.fragment and target in ids and unquote(url.fragment) not in ids[target] | {"", "top"}
                ):
                    broken.append(f"{path.name}: {node[attribute]} (no such anchor)")
    assert not broken


def test_every_figure_has_alternative_text(soups):
    bare = []
    for path, soup in soups.items():
        article = soup.find("article")
        for image in article.find_all("img") if article else []:
            alt = image.get("alt", "").strip()
            # Sphinx and myst-nb fall back to the file's name, which tells a blind reader nothing
            if len(alt.split()) < 3 or "_images" in alt:
                bare.append(f"{path.name}: {image.get('src', '')[:60]} alt={alt!r}")
    assert not bare


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("page", PAGES)
def test_the_page_in_a_browser(chromium, html, page, scheme):
    """No request leaves the machine, the console is silent, and axe has no serious finding."""
    tab = chromium.new_page(color_scheme=scheme, viewport={"width": 1200, "height": 900})
    outside, said = [], []
    tab.on(
        "request",
        lambda request: request.url.startswith(("file:", "data:", "blob:")) or outside.append(request.url),
    )
    tab.on("console", lambda message: message.type == "error" and said.append(message.text))
    tab.on("pageerror", lambda error: said.append(str(error)))
    try:
        tab.goto((html / page).as_uri(), wait_until="load")
        tab.wait_for_timeout(300)
        if tab.locator(".math").count():
            tab.evaluate("() => MathJax.startup.promise.then(() => true)")
            assert tab.locator("mjx-container").count()
        assert tab.evaluate("document.documentElement.dataset.theme") == scheme
        cut = tab.evaluate(
            "[...document.querySelectorAll('mjx-container[display=true]')]"
            ".filter(e => e.scrollWidth > e.clientWidth + 1).map(e => e.textContent.slice(0, 60))"
        )
        # preload would fetch the style sheets by script, which a browser forbids for files
        findings = Axe().run(tab, options={"preload": False}).response["violations"]
    finally:
        tab.close()
    serious = [
        f"{finding['id']}: {node['target']} {node['failureSummary']}"
        for finding in findings
        if finding["impact"] in ("serious", "critical")
        for node in finding["nodes"][:3]
    ]
    assert not outside
    assert not said
    assert not cut, f"display formulas wider than the column, to be broken into lines: {cut}"
    assert not serious, "\n".join(serious)


@pytest.mark.browser
@pytest.mark.parametrize("page", PAGES)
def test_the_page_fits_a_phone(chromium, html, page):
    tab = chromium.new_page(viewport={"width": 375, "height": 800})
    try:
        tab.goto((html / page).as_uri(), wait_until="load")
        tab.wait_for_timeout(300)
        width = tab.evaluate("document.documentElement.scrollWidth")
        wide = tab.evaluate(
            "[...document.querySelectorAll('article *')].filter(e => e.getBoundingClientRect().right > 376 &&"
            " !e.closest('pre, table, .math, figure, mjx-container')).slice(0, 5).map(e => e.outerHTML.slice(0, 120))"
        )
    finally:
        tab.close()
    assert width <= 376, wide
