"""Groups against brute force; sides that depend on content alone."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from dca_lab.data._split import groups, held_out, letters, order, unit

_PAIR = st.tuples(st.sampled_from("abcdef"), st.sampled_from(["", "u", "v", "w"]))
KEYS = st.lists(_PAIR, min_size=1, max_size=12)


def brute_force(*columns):
    """Merge labels until nothing changes."""
    label = list(range(len(columns[0])))
    changed = True
    while changed:
        changed = False
        for i in range(len(label)):
            for j in range(i):
                if label[i] != label[j] and any(c[i] == c[j] != "" for c in columns):
                    old, new = max(label[i], label[j]), min(label[i], label[j])
                    label = [new if x == old else x for x in label]
                    changed = True
    return label


@settings(deadline=None, max_examples=50)
@given(KEYS)
def test_groups_are_the_connected_components(pairs):
    columns = [list(c) for c in zip(*pairs, strict=True)]
    ours, expected = groups(*columns), brute_force(*columns)
    same = np.equal.outer(ours, ours)
    np.testing.assert_array_equal(same, np.equal.outer(np.array(expected), np.array(expected)))


@settings(deadline=None, max_examples=50)
@given(KEYS, st.randoms(use_true_random=False))
def test_sides_do_not_depend_on_the_order_and_never_cut_a_group(pairs, random):
    columns = [list(c) for c in zip(*pairs, strict=True)]
    side = held_out(*columns, share=0.5)
    turn = list(range(len(pairs)))
    random.shuffle(turn)
    shuffled = held_out(*[[c[i] for i in turn] for c in columns], share=0.5)
    np.testing.assert_array_equal(side[turn], shuffled)
    group = groups(*columns)
    assert all(len(set(side[group == g].tolist())) == 1 for g in set(group.tolist()))


def test_the_share_is_met_on_average_and_at_its_ends():
    keys = [f"key {i}" for i in range(4000)]
    # Independent draws would have a standard deviation of sqrt(0.2 * 0.8 / 4000) = 0.0063.
    assert abs(held_out(keys, share=0.2).mean() - 0.2) < 5 * 0.0063
    assert not held_out(keys, share=0.0).any() and held_out(keys, share=1.0).all()
    assert held_out(keys, share=0.3)[held_out(keys, share=0.1)].all()


@settings(deadline=None, max_examples=50)
@given(st.text())
def test_unit_and_letters(text):
    assert 0 <= unit(text) < 1 and unit(text) == unit(text)
    words = letters(text)
    assert letters(words) == words
    if any(c.isalpha() for c in text):
        assert letters(f"  ({text}) 12: ") == words


def test_letters_meets_near_copies():
    assert letters("Path:") == letters("path %1") == "path" and letters("路径：%1") == letters("路径")
    assert letters(" 12% ") == "12%"


def test_order_is_a_permutation_that_follows_the_keys():
    keys = [f"{i}" for i in range(50)]
    turn = order(keys)
    assert sorted(turn.tolist()) == list(range(50)) and turn.tolist() != list(range(50))
    back = order(keys[::-1])
    assert [keys[i] for i in turn] == [keys[::-1][i] for i in back]
