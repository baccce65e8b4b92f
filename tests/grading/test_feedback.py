"""The student's page, read back with an HTML parser: what it says, what it leaves out, what it does not run."""

import nbformat
import pytest
from bs4 import BeautifulSoup
from hypothesis import given, settings
from hypothesis import strategies as st
from pretend_class import entry, hostile, lab, record

from dca_lab.grading.feedback import feedback_page, prose, told
from dca_lab.grading.view import OUTCOMES, STOPPED, clean, page_name, view

MIXED = (
    entry(2, 2),
    entry(
        0,
        3,
        message="Clip after `+ zero_point`, not before.",
        mistake="clipped_first",
        public={"passed": False, "message": "For quantize(0.5) it is 1, and should be 2.", "mistake": None},
    ),
    entry(2.5, 5, message="Smaller earns more.", public={"passed": True, "message": "", "mistake": None}),
)
REQUESTS = {"script", "iframe", "img", "link", "object", "embed", "form", "base", "video", "audio", "source"}


def _soup(one, tmp_path, **fields):
    page = feedback_page(one, lab(tmp_path, **fields))
    page.encode("utf-8")
    return BeautifulSoup(page, "html.parser")


def _tame(soup):
    """Nothing that loads or runs, and every id once."""
    assert not soup.find_all(REQUESTS)
    assert not [name for tag in soup.find_all() for name in tag.attrs if name.lower().startswith("on")]
    assert all(tag["href"].startswith("#") for tag in soup.find_all("a", href=True))
    assert not [
        tag for tag in soup.find_all(style=True) if "url" in tag["style"] or "expression" in tag["style"]
    ]
    ids = [tag["id"] for tag in soup.find_all(id=True)]
    assert len(ids) == len(set(ids))


def test_the_page_says_what_is_right_and_what_is_not(tmp_path):
    soup = _soup(record("ann", *MIXED), tmp_path)
    text = " ".join(soup.get_text(" ").split())
    assert "4.5 of 10 points" in text and "ann" in text
    cards = soup.select("section.exercise")
    assert [card.select_one(".pill").get_text() for card in cards] == [
        "✓ Right",
        "✗ Not yet",
        "◐ Partly right",
    ]
    assert [card.select_one(".points").get_text() for card in cards] == ["2 of 2", "0 of 3", "2.5 of 5"]
    second = " ".join(cards[1].get_text(" ").split())
    assert "it is 1, and should be 2." in second and "clipped first" in second
    assert cards[1].select_one(".teach code").get_text() == "+ zero_point"
    assert "Begin with quantize" in text
    assert "bubblewrap" in soup.footer.get_text()


def test_the_bar_tells_the_points_to_ear_and_eye(tmp_path):
    bar = _soup(record("ann", *MIXED), tmp_path).select_one(".bar")
    assert bar["role"] == "img" and "quantize 0 of 3" in bar["aria-label"]
    pieces = [(span["style"], span.i["style"]) for span in bar.find_all("span")]
    assert pieces == [
        ("flex: 2.000", "width: 100.0%"),
        ("flex: 3.000", "width: 0.0%"),
        ("flex: 5.000", "width: 50.0%"),
    ]


def test_every_link_on_the_page_has_its_target(tmp_path):
    soup = _soup(record("ann", *MIXED), tmp_path)
    ids = {tag["id"] for tag in soup.find_all(id=True)}
    assert {tag["href"][1:] for tag in soup.find_all("a", href=True)} <= ids
    assert {tag["aria-labelledby"] for tag in soup.find_all(attrs={"aria-labelledby": True})} <= ids


def test_the_page_is_built_for_everyone(tmp_path):
    soup = _soup(record("ann", *MIXED, notes=["n"], errors=["e"]), tmp_path)
    assert soup.html["lang"] == "en" and soup.find("meta", attrs={"name": "viewport"})
    assert len(soup.find_all("h1")) == 1 and soup.main and soup.header and soup.footer
    levels = [int(tag.name[1]) for tag in soup.find_all(["h1", "h2", "h3", "h4"])]
    assert levels[0] == 1 and all(b - a <= 1 for a, b in zip(levels, levels[1:], strict=False))
    assert "prefers-color-scheme: dark" in soup.style.get_text()
    assert (
        "default-src 'none'" in soup.find("meta", attrs={"http-equiv": "Content-Security-Policy"})["content"]
    )


def test_all_points(tmp_path):
    text = _soup(record("ann"), tmp_path).get_text(" ")
    assert "Everything is right" in text and "Begin with" not in text


def test_a_file_that_could_not_be_read_gets_the_reason_once(tmp_path):
    reason = "the file is a PDF document: hand in the .ipynb file"
    lost = [entry(0, n, message=reason, outcome="unreadable", public={}) for n in (2, 3, 5)]
    text = _soup(record("ann", *lost, outcome="unreadable", notes=[reason]), tmp_path).get_text(" ")
    assert text.count(reason) == 1 and "could not be graded" in text


def test_errors_in_cells_have_their_place(tmp_path):
    error = {"cell": 2, "line": 4, "exception": "NameError", "text": "name 'x' is not defined"}
    text = _soup(record("ann", errors=[error]), tmp_path).get_text(" ")
    assert "Code cell 3, line 4" in text and "NameError: name 'x' is not defined" in text


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_every_outcome_is_said_in_words(tmp_path, outcome):
    soup = _soup(record("ann", entry(0, 2, outcome=outcome), entry(3, 3), entry(5, 5)), tmp_path)
    said = " ".join(soup.select_one("section.exercise dl").get_text(" ").split())
    assert (OUTCOMES[outcome] if outcome not in ("right", "wrong", "partial") else "not passed") in said


def test_a_hostile_record_is_shown_and_not_run(tmp_path):
    page = feedback_page(hostile(), lab(tmp_path))
    assert len(page) < 120_000
    soup = BeautifulSoup(page, "html.parser")
    _tame(soup)
    shown = soup.get_text()
    assert "<script>alert(1)</script>" in shown  # as text
    assert "{{ 7*7 }}" in shown and "49" not in shown.replace("1049", "")
    assert not set(shown) & set("\x1b\x00\u202e\ud800")


@settings(max_examples=60, deadline=None)
@given(text=st.text(alphabet="<>&\"'`{}%#=/ \n\x00\ud800ax:()", max_size=80))
def test_no_text_becomes_markup(text, tmp_path_factory):
    folder = tmp_path_factory.getbasetemp()
    plain = feedback_page(record("ann", entry(0, 2, message="m", mistake="m"), *MIXED[1:]), lab(folder))
    fields = {"message": text + "m", "mistake": "m" + text}
    made = feedback_page(record("ann" + text, entry(0, 2, **fields), *MIXED[1:], digest=text), lab(folder))
    soup = BeautifulSoup(made, "html.parser")
    _tame(soup)
    count = {tag.name: 0 for tag in soup.find_all()}
    for one, sign in ((BeautifulSoup(plain, "html.parser"), 1), (soup, -1)):
        for tag in one.find_all():
            count[tag.name] = count.get(tag.name, 0) + sign
    count.pop("code"), count.pop("p")  # backticks make code, a digest has a paragraph of its own
    assert set(count.values()) == {0}


def test_backticks_are_code_and_nothing_else_is():
    assert prose("`<b>` and <b> and `") == "<code>&lt;b&gt;</code> and &lt;b&gt; and `"


def test_the_labs_own_words_are_found(tmp_path):
    cells = [
        nbformat.v4.new_markdown_cell(
            "# Lab: toy\n\nYou need {doc}`quantization <../../math/quantization>`."
        ),
        nbformat.v4.new_code_cell("import numpy", metadata={"tags": ["setup"]}),
        nbformat.v4.new_markdown_cell(
            "## 1. A grid for `b` bits (10 points)\n\nSee {ref}`the-grid` and [scales](s.md)."
        ),
        nbformat.v4.new_code_cell("def affine_params(x):\n    pass", metadata={"tags": ["exercise"]}),
        nbformat.v4.new_markdown_cell("Well done. [ignored](x.md)"),
        nbformat.v4.new_markdown_cell("## 2. Levels\n\n![a picture](attachment:p.png)"),
        nbformat.v4.new_code_cell("def quantize(x):\n    pass", metadata={"tags": ["exercise"]}),
    ]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "lab.ipynb")
    headings, reading = told(tmp_path)
    assert headings == {"affine_params": "1. A grid for b bits", "quantize": "2. Levels"}
    assert reading == {"affine_params": "the grid, scales", "quantize": "quantization"}
    soup = _soup(record("ann", entry(0, 2), entry(3, 3), entry(5, 5)), tmp_path)
    assert "Read again: the grid, scales" in " ".join(soup.get_text(" ").split())


def test_view_survives_any_record():
    for damaged in (
        {},
        {"exercises": {"a": None}},
        {"exercises": {"a": {"public": 3}}},
        {"notes": "x", "errors": 5},
    ):
        assert view(damaged).score == 0
    assert view({"student": None}).student == "(no name)"
    assert set(STOPPED) <= set(OUTCOMES)


@given(st.text(max_size=3000), st.integers(1, 100))
def test_clean_text_can_be_written_and_is_short(text, limit):
    made = clean(text, limit=limit, lines=False)
    made.encode("utf-8")
    assert len(made) <= limit and "\n" not in made and "\x1b" not in made
    assert clean(made, limit=limit, lines=False) == made


@given(st.text(max_size=400))
def test_any_student_has_a_page_name_that_a_disk_takes(student):
    name = page_name(student)
    assert name.endswith(".html") and 1 <= len(name.encode("utf-8", "surrogatepass")) <= 255
    assert not set(name) & set('/\\:*?"<>|\x00 ;&#%') and not name.startswith((".", "-"))


def test_page_names_tell_students_apart():
    names = [
        "ann",
        "an n",
        "an_n",
        "an/n",
        "../ann",
        "..",
        "",
        "con",
        "CON.txt",
        "a" * 300,
        "a" * 301,
        "an\ud800n",
    ]
    assert len({page_name(name) for name in names}) == len(names)
    assert page_name("con") != "con.html"
