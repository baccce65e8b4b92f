"""The class report: its numbers against counting by hand, its text against a parser, both pages in a browser."""

import importlib.util
import os
import re
import statistics
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree

import matplotlib as mpl
import pytest
from bs4 import BeautifulSoup
from pretend_class import EVIL, SKELETON, alone, class_of, entry, hostile, lab, record, renamed

from dca_lab.grading import pictures, report
from dca_lab.grading.feedback import feedback_page
from dca_lab.grading.report import class_report
from dca_lab.grading.view import page_name

BROWSER = Path(__file__).resolve().parents[1] / "pages" / "browser.py"
UNWIDENED = {"message": "long ago", "mistake": "not_widened"}


def _class() -> list[dict]:
    people = [record(f"student_{i:03d}", entry(2, 2), entry(3, 3), entry(i / 2, 5)) for i in range(7)]
    people += [
        record(f"slow_{i}", entry(0, 2, **UNWIDENED), entry(0, 3, outcome="timeout"), entry(5, 5))
        for i in range(3)
    ]
    people += [
        record("other", entry(0, 2), entry(0, 3, outcome="not written yet"), entry(0, 5), level="landlock")
    ]
    reason = "the file is a picture: hand in the .ipynb file"
    lost = [entry(0, n, message=reason, outcome="unreadable", public={}) for n in (2, 3, 5)]
    return [*people, record("picture", *lost, outcome="unreadable", notes=[reason], level="")]


@pytest.fixture
def results(tmp_path, monkeypatch):
    """A graded class with its pages; returns a function that writes the report and gives its soup."""
    monkeypatch.setattr(report, "_handed_out", lambda lab: SKELETON)
    (tmp_path / "feedback").mkdir()

    def write(records, sources=None):
        for one in records:
            page = tmp_path / "feedback" / page_name(str(one["student"]))
            page.write_text(feedback_page(one, lab(tmp_path)), encoding="utf-8")
        path = class_report(records, lab(tmp_path), tmp_path, sources)
        assert path == tmp_path / "report.html"
        return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")

    return write


def _text(tag) -> str:
    return " ".join(tag.get_text(" ").split())


def test_the_numbers_are_those_of_the_class(results):
    people = _class()
    soup = results(people)
    scores = [one["score"] for one in people]
    tiles = dict(_text(tile).rsplit(" ", 1) for tile in soup.select(".tile"))
    assert tiles == {
        "Submissions": "12",
        "Mean points": f"{statistics.mean(scores):.2f}".rstrip("0").rstrip("."),
        "Median points": f"{statistics.median(scores):g}",
        "All 10 points": "0",
        "To open by hand": "4",
    }
    table = [
        [_text(cell) for cell in row.find_all(["th", "td"])] for row in soup.select("#numbers ~ div tbody tr")
    ]
    assert table == [
        ["affine_params", "7", "0", "5"],
        ["quantize", "7", "0", "5"],
        ["smallest_file", "3", "6", "3"],
    ]


def test_what_to_teach_again_counts_the_mistakes(results):
    soup = results(_class())
    blocks = {block.h3.code.get_text(): block for block in soup.select(".again")}
    assert list(blocks) == ["smallest_file", "quantize", "affine_params"]  # by the points that they cost
    first = _text(blocks["affine_params"].li)
    assert (
        first.startswith("3× Not widened") and "try x_min = 3" in first
    )  # the lab's message, not the record's
    assert "4 of 11 not there yet, 8 points lost" in _text(blocks["affine_params"].h3)
    assert [_text(item.strong) for item in blocks["quantize"].find_all("li")] == [
        "Took too long",
        "Not written yet",
    ]


def test_what_stopped_is_listed_with_its_reason(results):
    rows = {_text(row.th): _text(row.td) for row in results(_class()).select("#by-hand ~ div tbody tr")}
    assert set(rows) == {"slow_0", "slow_1", "slow_2", "picture"}
    assert rows["slow_0"] == "quantize: took too long"
    assert "could not be read" in rows["picture"] and "hand in the .ipynb file" in rows["picture"]


def test_every_link_leads_to_a_page(results, tmp_path):
    soup = results([*_class(), record("Zoë O'Hara/../x"), record("ann")])
    links = {tag["href"] for tag in soup.find_all("a", href=True) if not tag["href"].startswith("#")}
    assert len(links) == 14
    assert all((tmp_path / unquote(link)).is_file() for link in links)
    (tmp_path / "feedback" / "ann.html").unlink()
    class_report(_class() + [record("ann")], lab(tmp_path), tmp_path)
    assert "feedback/ann.html" not in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_sandbox_levels_are_told_and_trusted_is_warned_of(results):
    foot = _text(results(_class()).footer)
    assert "10 graded in bubblewrap" in foot and "1 graded in landlock" in foot and "walls" not in foot
    assert "without walls" in _text(results([record("ann", level="trusted")]).footer)


def test_a_copy_is_shown_side_by_side_and_never_called_one(results):
    sources = class_of(7)
    sources["other"] = [renamed(cell, "_mine") for cell in sources["student_002"]]
    soup = results(_class(), sources)
    (pair,) = soup.select(".pair")
    assert _text(pair.h3).startswith("other and student_002") and "100 % alike" in _text(pair.h3)
    left, right = pair.find_all("pre")
    assert "_mine" in left.get_text() and "_2" in right.get_text()
    lines = [line for code in (left, right) for line in code.find_all("span")]
    assert all("same" in line.get("class", []) for line in lines if not line.get_text().startswith("def "))
    given = {line.strip() for cell in SKELETON for line in cell.splitlines()} - {""}
    assert not [
        line for line in lines if line.get_text().strip() in given and not line.get_text().startswith("def ")
    ]
    said = _text(soup).lower()
    assert "worth a look" in said
    assert not re.search(r"plagiar|cheat|fraud|guilty|stolen|suspect|accus|dishonest|caught", said)


def test_identical_files_are_told_so_and_people_alone_are_not_listed(results):
    people = [record(f"student_{i:03d}", digest=f"{i}") for i in range(9)]
    people[3]["digest"] = people[5]["digest"]
    sources = class_of(9) | {"student_003": alone(5)}
    (pair,) = results(people, sources).select(".pair")
    assert "identical" in _text(pair)
    assert not results(people, class_of(9)).select(".pair")
    assert not results(people, None).select("#pairs")


def test_hostile_records_and_sources_are_shown_and_not_run(results):
    bad = hostile()
    name = str(bad["student"])
    steps = "\n".join(f"    y = abs({' + '.join(['x'] * n)}) ** {'-' * n}x" for n in range(1, 12))
    copied = [f"def f(x):  # {EVIL}\n{steps}\n    return '{EVIL}'"]
    records = [bad, record("ann"), record("bob", level=EVIL)]
    soup = results(records, {name: copied, "ann": copied, "eve": copied})
    assert not soup.find_all({"script", "iframe", "img", "link", "object", "embed", "form", "base"})
    assert not [key for tag in soup.find_all() for key in tag.attrs if key.lower().startswith("on")]
    assert all(re.match(r"#|feedback/[\w.@%-]+\.html$", tag["href"]) for tag in soup.find_all("a", href=True))
    assert not set(soup.get_text()) & set("\x1b\x00\u202e\ud800")
    assert len(soup.select(".pair")) == 1 and len(str(soup)) < 300_000  # eve has no record: not shown
    ids = [tag["id"] for tag in soup.find_all(id=True)]
    assert len(ids) == len(set(ids))


def test_a_class_without_submissions_has_a_report(results):
    soup = results([], {})
    assert "0 submissions" in _text(soup) and "nothing was graded" in _text(soup.footer)


def test_the_same_class_gives_the_same_report(results, tmp_path):
    one = str(results(_class(), class_of(7)))
    assert str(results(list(reversed(_class())), class_of(7))) == one


@pytest.mark.parametrize(
    "scores, out_of", [([], 10), ([0, 0, 10], 10), ([1.5, 2.25], 3), ([37.0] * 300, 100), ([0], 0)]
)
def test_the_histogram_counts_everyone(scores, out_of):
    svg = pictures.distribution(scores, out_of)
    ElementTree.fromstring(svg)
    label = re.search(r'aria-label="([^"]+)"', svg)[1]
    assert sum(int(n) for n in re.findall(r"(\d+) with ", label)) == len(scores)


def test_the_bars_say_their_numbers_in_words():
    svg = pictures.success([("affine_params", 3, 1, 2), ("quantize", 0, 0, 6)])
    ElementTree.fromstring(svg)
    assert "affine_params: 3 right, 1 partly, 2 not yet; quantize: 0 right" in svg
    drawn = [tag.get_text() for tag in BeautifulSoup(svg, "html.parser").find_all("text")]
    assert {"affine_params", "quantize", "3", "1", "2", "6", "right", "partly", "not yet"} <= set(drawn)


def test_pictures_take_the_pages_ink_and_leave_the_style_alone():
    before = dict(mpl.rcParams)
    svg = pictures.distribution([1, 2], 4) + pictures.success([("f", 1, 1, 1)])
    assert dict(mpl.rcParams) == before
    assert "var(--ink)" in svg and "#333333" not in svg and "#dddddd" not in svg
    ids = re.findall(r'\bid="([^"]+)"', svg)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r"(?:#|url\()#?(p\d+-[\w.]+)", svg)) <= set(ids)


@pytest.fixture(scope="module")
def chromium():
    spec = importlib.util.spec_from_file_location("browser_of_the_pages", BROWSER)
    browser = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(browser)
    path = browser.find()
    if path is None:
        if os.environ.get("CI"):
            pytest.fail("CI must have a browser")
        pytest.skip("NO BROWSER: the grading pages were not opened")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        flags = ["--disable-gpu", "--no-first-run", "--disable-background-networking"]
        running = driver.chromium.launch(
            executable_path=path, args=flags + ["--no-sandbox"] * browser.is_root()
        )
        yield running
        running.close()


@pytest.mark.browser
@pytest.mark.parametrize("scheme, width", [("light", 1200), ("dark", 1200), ("light", 375)])
def test_both_pages_in_a_browser(chromium, results, tmp_path, scheme, width):
    """Nothing is fetched, nothing runs, axe has no serious finding, and a phone need not scroll sideways."""
    from axe_playwright_python.sync_playwright import Axe

    bad = hostile()
    people = [*_class(), bad, record("ann", entry(0, 2, message="`x` < y"), entry(1.5, 3), entry(5, 5))]
    people[0]["errors"] = [
        {"cell": 1, "line": 2, "exception": "NameError", "text": "name 'x' is not defined " * 9}
    ]
    sources = class_of(7) | {"ann": alone(3)}
    results(people, sources)
    pages = [
        "report.html",
        *(f"feedback/{page_name(str(one['student']))}" for one in (people[0], people[-1], bad)),
    ]
    for page in pages:
        tab = chromium.new_page(color_scheme=scheme, viewport={"width": width, "height": 900})
        outside, said = [], []
        tab.on(
            "request",
            lambda request, seen=outside: request.url.startswith("file:") or seen.append(request.url),
        )
        tab.on("console", lambda message, seen=said: message.type == "error" and seen.append(message.text))
        tab.on("dialog", lambda dialog, seen=said: (seen.append(dialog.message), dialog.dismiss()))
        try:
            tab.goto((tmp_path / page).as_uri(), wait_until="load")
            assert tab.evaluate("document.documentElement.scrollWidth") <= width, page
            assert not outside and not said, page
            findings = Axe().run(tab, options={"preload": False}).response["violations"]
        finally:
            tab.close()
        assert not [
            f"{page}: {finding['id']}: {node['target']} {node['failureSummary']}"
            for finding in findings
            if finding["impact"] in ("serious", "critical", "moderate")
            for node in finding["nodes"][:3]
        ]
