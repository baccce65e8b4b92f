"""Copies are found through every disguise, and people who worked alone are left alone."""

import tokenize

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pretend_class import EXERCISES, SKELETON, alone, class_of, renamed

from dca_lab.grading import similarity
from dca_lab.grading.similarity import closest_functions, similar_pairs, tokens


def _pairs(sources):
    return {(a, b): share for a, b, share in similar_pairs(sources, SKELETON)}


def _commented(cell: str) -> str:
    """Other comments, blank lines and quotes, and a docstring of one's own."""
    lines = [
        f"{line}  # my idea" if line.startswith(" ") and '"' not in line else f"{line}\n"
        for line in cell.splitlines()
    ]
    return "\n".join(lines).replace('"""', "'''").replace("'uint8'", '"uint8"')


def _reordered(cells):
    exercises = [cell for cell in cells if cell.startswith("def ")]
    return [cells[0], "\n\n\n".join(reversed(exercises))]  # all functions in one cell, the last one first


def _broken(cells):
    """A line that is no Python in every function: the fallback tokenizer reads these."""
    return [f"{cell}\n    x = ((1,\n" if cell.startswith("def ") else cell for cell in cells]


def _padded(cells):
    """A third of code of one's own around what was copied."""
    return [*cells, *(cell for cell in alone(4242) if cell.startswith("def "))][: len(cells) + 4]


DISGUISES = {
    "identical": list,
    "renamed": lambda cells: [renamed(cell, "_mine") for cell in cells],
    "commented": lambda cells: [_commented(cell) for cell in cells],
    "reordered": _reordered,
    "broken": _broken,
    "padded": _padded,
    "everything": lambda cells: _reordered([_commented(renamed(cell, "_zz")) for cell in cells]),
}


@pytest.mark.parametrize("start", range(0, 3000, 600))
@pytest.mark.parametrize("size", [2, 3, 8, 60])
def test_people_who_worked_alone_are_left_alone(size, start):
    assert not _pairs(class_of(size, start))


@pytest.mark.parametrize("disguise", DISGUISES)
@pytest.mark.parametrize("size", [2, 30])
def test_a_copy_is_found_and_nobody_else(size, disguise):
    sources = class_of(size)
    sources["copy"] = DISGUISES[disguise](sources["student_001"])
    found = _pairs(sources)
    assert list(found) == [("copy", "student_001")]
    assert found["copy", "student_001"] >= 0.9


def test_the_share_is_how_much_was_copied():
    """The oracle: of the shorter one's fingerprints, those the other has, counted with sets and without an index."""
    sources = {"a": alone(1), "b": [*alone(1)[:9], *alone(2)[9:]]}
    given = {run for cell in SKELETON for run in similarity._hashes(cell).tolist()}
    a, b = (set(similarity._prints(similarity._units(cells)).tolist()) - given for cells in sources.values())
    ((_, _, share),) = similar_pairs(sources, SKELETON, threshold=0.0)
    assert share == pytest.approx(len(a & b) / min(len(a), len(b)))
    assert 0.3 < share < 1


def test_what_was_handed_out_is_nobodys():
    assert not _pairs({name: list(SKELETON) for name in "abcd"})
    # the same notebook counts once nothing was handed out
    assert len(similar_pairs({"a": alone(5), "b": alone(5)}, [])) == 1


def test_what_everybody_writes_is_no_sign_of_a_copy():
    """Half of the class takes the first way of each step, as the lecture did."""
    from pretend_class import notebook

    lecture = notebook(lambda steps: "\n".join(ways[0] for ways in steps))
    sources = class_of(20) | {
        f"listener_{i:02d}": [renamed(cell, f"_{i}") for cell in lecture] for i in range(20)
    }
    assert not _pairs(sources)


def test_short_work_says_nothing():
    line = "def relu(x):\n    return np.maximum(x, 0)\n"
    assert not similar_pairs({"a": [line], "b": [line]}, [])


def test_a_third_of_the_largest_class_is_compared():
    sources = class_of(300)
    sources["copy"] = DISGUISES["everything"](sources["student_123"])
    assert list(_pairs(sources)) == [("copy", "student_123")]


def test_pairs_are_ordered_and_the_threshold_is_kept():
    sources = class_of(25)
    sources["x"], sources["y"] = sources["student_003"], sources["student_003"]
    pairs = similar_pairs(sources, SKELETON, threshold=0.2)
    shares = [share for _, _, share in pairs]
    assert shares == sorted(shares, reverse=True) and min(shares) >= 0.2
    assert all(a < b for a, b, _ in pairs)
    assert [pair[:2] for pair in pairs[:3]] == [("student_003", "x"), ("student_003", "y"), ("x", "y")]


def test_nothing_to_compare():
    assert (
        similar_pairs({}, SKELETON)
        == []
        == similar_pairs({"a": []}, [])
        == similar_pairs({"a": [""], "b": ["#"]}, [""])
    )


def test_the_closest_functions_are_those_that_were_copied():
    a, b = alone(11), alone(12)
    place = next(i for i, cell in enumerate(a) if cell.startswith("def pack_int4"))
    b = [renamed(a[place], "_mine") if i == place else cell for i, cell in enumerate(b)]
    left, right = closest_functions(a, b, SKELETON)
    assert left == a[place] and right == b[place]
    assert closest_functions(SKELETON, SKELETON, SKELETON) == ("", "")


@pytest.mark.parametrize("seed", range(40))
def test_both_tokenizers_agree_where_python_can_read(seed):
    for cell in alone(seed):
        python = list(similarity._python_tokens(cell))
        found = list(similarity._found_tokens(cell))
        assert [one for one in python if one[0] != "end"] == [one for one in found if one[0] != "end"]


def test_broken_code_has_the_tokens_of_its_whole_part():
    whole = "def f(x):\n    y = np.abs(x).sum() / 3.5e-2\n    return 'a' if y >= 2 else x[1:-1]\n"
    with pytest.raises((tokenize.TokenError, SyntaxError)):
        list(similarity._python_tokens(whole + "x = (((\n"))
    assert tokens(whole + "x = (((\n") == [*tokens(whole), "v", "=", "(", "(", "("]


def test_names_and_literals_do_not_count_and_a_librarys_names_do():
    assert tokens("total = weights + 3") == tokens("s = w + 4.5e3  # added")
    assert tokens("np.clip(a, b)") != tokens("np.round(a, b)")
    assert tokens('"""what it does"""\nx = "text"') == ["v", "=", "''"] == tokens("y = f'{x} and {y!r}'")


@settings(max_examples=150, deadline=None)
@given(
    st.text(max_size=300) | st.text(alphabet="()[]{}\"'\\\n #=+-:;,.%!?$f0x1ea_ \t\x00\ud800", max_size=120)
)
def test_any_text_has_tokens(text):
    assert all(isinstance(token, str) and token for token in tokens(text))
    assert similar_pairs({"a": [text], "b": [text]}, []) in ([], [("a", "b", 1.0)])


def test_a_huge_cell_is_cut(monkeypatch):
    seen = []
    monkeypatch.setattr(similarity, "tokens", lambda unit: seen.append(len(unit)) or [])
    similar_pairs({"a": ["x = 1\n" * 1_000_000, "y = 2\n" * 10], "b": ["z = 3"]}, [])
    assert sum(seen) <= similarity.LONGEST + 10


@pytest.mark.parametrize("disguise", sorted(set(DISGUISES) - {"identical"}))
def test_a_disguise_changes_the_notebook(disguise):
    assert DISGUISES[disguise](alone(1)) != alone(1)


def test_every_exercise_has_several_ways():
    """The pretended class is worth testing with: it has far more possible notebooks than students."""
    ways = 1
    for steps in EXERCISES.values():
        for step in steps:
            ways *= len(step)
    assert ways > 1e10
    assert len({"".join(cells) for cells in class_of(60).values()}) == 60
