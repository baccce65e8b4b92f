"""What each set promises: shapes, types, every class on both sides, and nothing else that is on both."""

import dataclasses
import io
import re
import zipfile

import numpy as np
import pytest
import soundfile
from PIL import Image

from dca_lab import data
from dca_lab.data import _store, driving, medical, sound, text, vision
from dca_lab.data._split import letters
from dca_lab.data.dataset import text_array

LOADERS = {
    "mnist": vision.load_mnist,
    "fashion": vision.load_fashion,
    "spam": text.load_spam,
    "sentiment": text.load_sentiment,
    "translation": text.load_translation,
    "austen": text.load_austen,
    "tones": sound.load_tones,
    "voices": sound.load_voices,
    "rehab": medical.load_rehab,
    "cells": medical.load_cells,
    "signs": driving.load_signs,
}
CLASSIFIED = [n for n in data.names() if n not in ("translation", "austen")]


def overlap(a, b):
    return set(np.asarray(a).tolist()) & set(np.asarray(b).tolist())


@pytest.mark.parametrize("name", data.names())
def test_every_set_is_whole_read_only_and_the_same_each_time(name):
    first = data.load(name)
    assert first.name == name and first.licence and first.source
    assert not any(host in first.source for host in ("://", ".org", ".com", ".io"))
    arrays = [first.x_train, first.y_train, first.x_test, first.y_test, *first.extras.values()]
    assert all(isinstance(a, np.ndarray) and a.dtype != object and not a.flags.writeable for a in arrays)
    with pytest.raises(ValueError, match="read-only"):
        first.x_train[0] = first.x_train[1]
    with pytest.raises(dataclasses.FrozenInstanceError):
        first.x_train = None
    first.extras["mine"] = np.zeros(1)
    second = data.load(name)
    assert "mine" not in second.extras and second.x_train is first.x_train
    third = LOADERS[name](_store.find_root())
    assert third.x_train is not first.x_train and set(third.extras) == set(second.extras)
    for part in ("x_train", "y_train", "x_test", "y_test"):
        assert np.array_equal(getattr(first, part), getattr(third, part)), part


@pytest.mark.parametrize("name", CLASSIFIED)
def test_every_class_is_on_both_sides_and_early(name):
    found = data.load(name)
    labels = set(range(len(found.classes)))
    assert found.y_train.dtype == np.int64 and found.y_test.dtype == np.int64
    assert set(found.y_train.tolist()) == set(found.y_test.tolist()) == labels
    # "The first n" is how chapters take a part: it must not be one class only.
    assert set(found.y_train[:100].tolist()) == labels


def test_repr_shows_what_one_wants_to_know():
    assert repr(data.load("rehab")).startswith(
        "Dataset('rehab', train (98, 2618, 6), test (42, 2618, 6), float32"
    )


def test_dataset_refuses_parts_of_different_length():
    two, three = np.zeros(2), np.zeros(3)
    with pytest.raises(ValueError, match="train arrays differ"):
        data.Dataset("x", two, three, two, two, ())
    with pytest.raises(ValueError, match="test arrays differ.*subject_test"):
        data.Dataset("x", two, two, two, two, (), extras={"subject_test": three})


def test_text_array_is_variable_width():
    texts = ["short", "路径" * 5000, ""]
    array = text_array(texts)
    assert array.tolist() == texts and isinstance(array[0], str) and array.nbytes < 1000


@pytest.mark.parametrize("name", ["spam", "sentiment", "translation"])
def test_text_is_text_and_no_near_copy_is_on_both_sides(name):
    found = data.load(name)
    assert found.x_train.dtype == np.dtypes.StringDType() and all(t.strip() for t in found.x_train)
    start = (lambda t: letters(t.split("\n", 1)[1])[:200]) if name == "spam" else letters
    train, test = {start(t) for t in found.x_train}, {start(t) for t in found.x_test}
    assert not train & test
    assert 0.15 < len(found.x_test) / (len(found.x_train) + len(found.x_test)) < 0.25


def test_spam_keeps_threads_together():
    found = data.load("spam")
    assert len(found.x_train) + len(found.x_test) == 5815
    assert found.y_train.sum() + found.y_test.sum() == 1718

    def thread(text):
        subject = re.sub(r"(?i)\[[^\]]*\]|\b(re|fwd?|aw)\s*:", " ", text.split("\n", 1)[0])
        return " ".join(re.findall(r"[^\W\d_]+", subject.lower()))

    train, test = ({thread(t) for t in part} - {""} for part in (found.x_train, found.x_test))
    assert not train & test
    for part in ("train", "test"):
        group, y = found.extras[f"group_{part}"], getattr(found, f"y_{part}")
        np.testing.assert_array_equal(np.array([g.startswith("spam") for g in group]), y == 1)


def test_sentiment_labels_are_the_signs_of_the_ratings():
    found = data.load("sentiment")
    for part in ("train", "test"):
        rating, y = found.extras[f"rating_{part}"], getattr(found, f"y_{part}")
        np.testing.assert_array_equal(np.sign(rating), 2 * y - 1)
        assert np.abs(rating).min() >= 0.5 and np.abs(rating).max() <= 4
    neutral = found.extras["rating_neutral"]
    assert np.abs(neutral).max() < 0.5 and len(neutral) == len(found.extras["x_neutral"])
    assert len(found.x_train) + len(found.x_test) + len(neutral) == 10605


def test_translation_pairs():
    found = data.load("translation")
    assert len(found.x_train) + len(found.x_test) == 3050 and found.classes == ()
    assert not {letters(t) for t in found.y_train} & {letters(t) for t in found.y_test}
    chinese = [bool(re.search("[\u4e00-\u9fff]", t)) for t in found.y_train]
    assert np.mean(chinese) > 0.99
    assert not any(re.search("[\u4e00-\u9fff]", t) for t in found.x_train)


def test_austen_reads_as_the_novels():
    found = data.load("austen")
    decode = lambda x: bytes(found.extras["code_points"][x]).decode("ascii")  # noqa: E731
    root = _store.find_root()
    pride, emma = (_store.unpack(root, path).decode("ascii") for path in data.files("austen"))
    train, test = decode(found.x_train), decode(found.x_test)
    assert train.startswith("PRIDE AND PREJUDICE") and test.startswith("CHAPTER XIV\n")
    # Each part lacks its last character, which is only a target.
    assert train + decode(found.y_train[-1:]) + test + decode(found.y_test[-1:]) == pride + emma
    for part in ("train", "test"):
        x, y = getattr(found, f"x_{part}"), getattr(found, f"y_{part}")
        np.testing.assert_array_equal(y[:-1], x[1:])
        assert x.dtype == np.uint8 and x.max() < len(found.classes) <= 128
    assert "".join(found.classes[i] for i in found.x_train[:19]) == "PRIDE AND PREJUDICE"
    assert not {s for s in train.split("\n\n") if len(s) > 40} & {
        s for s in test.split("\n\n") if len(s) > 40
    }


def test_tones_are_the_clips_of_the_table():
    found = data.load("tones")
    assert found.x_train.shape == (1187, 5409) and found.x_test.shape == (1147, 5409)
    assert found.x_train.dtype == np.int16
    assert not overlap(found.extras["speaker_train"], found.extras["speaker_test"])
    rows = sound._table(_store.find_root(), sound.TONES_FILES[0])
    track, rate = soundfile.read(_store.find_root() / sound.TONES_FILES[1], dtype="int16")
    assert rate == int(found.extras["rate"]) == 8000
    wanted = {(r["speaker"], r["syllable_bopomofo"], int(r["tone"]) - 1): r for r in rows}
    seen = 0
    for part in ("train", "test"):
        x, y = getattr(found, f"x_{part}"), getattr(found, f"y_{part}")
        speaker, syllable, lengths = (found.extras[f"{k}_{part}"] for k in ("speaker", "syllable", "lengths"))
        for clip, label, length, *key in zip(x, y, lengths, speaker, syllable, strict=True):
            row = wanted[*map(str, key), int(label)]
            assert int(row["length"]) == length and not clip[length:].any()
            np.testing.assert_array_equal(clip[:length], track[int(row["offset"]) :][:length])
            seen += 1
    assert seen == len(rows) == len(wanted)


def test_tones_can_also_be_split_by_syllable():
    e = data.load("tones").extras
    held = np.concatenate([e["held_out_train"], e["held_out_test"]])
    syllable = np.concatenate([e["syllable_train"], e["syllable_test"]])
    assert not overlap(syllable[held], syllable[~held]) and 0.15 < held.mean() < 0.25


def test_voices():
    found = data.load("voices")
    assert found.x_train.shape == (1320, 8000) and found.x_test.shape == (480, 8000)
    assert found.x_train.dtype == np.int16
    assert not overlap(found.extras["prompt_train"], found.extras["prompt_test"])
    for part in ("train", "test"):
        voice = [found.classes[i] for i in getattr(found, f"y_{part}")]
        language, person = found.extras[f"language_{part}"], found.extras[f"person_{part}"]
        assert voice == [f"{a}-{b}" for a, b in zip(language, person, strict=True)]
        loudest = np.abs(getattr(found, f"x_{part}").astype(int)).max(axis=1)
        assert loudest.min() > 1000  # no clip is silence
    assert len(set(person.tolist())) == 5 and len(found.classes) == 6


def test_rehab():
    found = data.load("rehab")
    assert found.x_train.shape == (98, 2618, 6) and found.x_test.shape == (42, 2618, 6)
    assert found.x_train.dtype == np.float32
    assert not overlap(found.extras["subject_train"], found.extras["subject_test"])
    for part in ("train", "test"):
        x, y = getattr(found, f"x_{part}"), getattr(found, f"y_{part}")
        subject, side, lengths = (found.extras[f"{k}_{part}"] for k in ("subject", "side", "lengths"))
        assert len(set(zip(subject.tolist(), y.tolist(), side.tolist(), strict=True))) == len(x)
        force = []
        for row, length in zip(x, lengths, strict=True):
            assert not row[length:].any() and row[length - 1].any()
            force.append(np.median(np.linalg.norm(row[:length, :3], axis=1)))
        # A watch that is not shaken feels gravity, which is one in these units.
        assert 0.8 < np.median(force) < 1.25


def test_cells():
    found = data.load("cells")
    assert found.x_train.shape == (1009, 56) and found.x_test.shape == (1010, 56)
    assert found.x_train.dtype == np.float64
    assert np.isfinite(found.x_train).all() and np.isfinite(found.x_test).all()
    assert not {r.tobytes() for r in found.x_train} & {r.tobytes() for r in found.x_test}
    assert found.extras["features"].shape == (56,) and "area_ch_1" in found.extras["features"]
    # A sphere's area and volume belong together: columns are under their names.
    columns = dict(zip(found.extras["features"].tolist(), found.x_train.T, strict=True))
    radius = np.sqrt(columns["eq_sphere_area_ch_1"] / (4 * np.pi))
    np.testing.assert_allclose(columns["eq_sphere_vol_ch_1"], 4 / 3 * np.pi * radius**3, rtol=0.01)


def test_signs_have_no_drawing_on_both_sides():
    found = data.load("signs")
    e = found.extras
    assert found.x_train.shape[1:] == (64, 64, 3) and found.x_train.dtype == np.uint8
    assert len(found.x_train) + len(found.x_test) == 52 and e["x_us"].shape == (32, 64, 64, 3)
    keys = [{driving.artwork_key(c) for c in e[f"code_{part}"].tolist()} for part in ("train", "test")]
    assert not keys[0] & keys[1]
    pictures = [np.concatenate([found.x_train, found.x_test]).reshape(52, -1), e["x_us"].reshape(32, -1)]
    assert not {p.tobytes() for p in pictures[0]} & {p.tobytes() for p in pictures[1]}

    # An independent look: no test sign is a training sign mirrored or turned by a multiple of 45 degrees.
    def small(pictures, alpha, degrees, mirror):
        out = []
        for rgb, a in zip(pictures, alpha, strict=True):
            image = Image.fromarray(np.dstack([rgb, a]), "RGBA").rotate(degrees, Image.Resampling.BILINEAR)
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirror else image
            out.append(
                np.asarray(image.resize((16, 16)).convert("RGB"), dtype=float)[2:-2, 2:-2].ravel() / 255
            )
        return np.array(out)

    test = small(found.x_test, e["alpha_test"], 0, False)
    nearest = min(
        np.abs(test[:, None] - small(found.x_train, e["alpha_train"], degrees, mirror)[None])
        .mean(axis=2)
        .min()
        for degrees in range(0, 360, 45)
        for mirror in (False, True)
    )
    twins = small(found.x_train, e["alpha_train"], 0, False)
    code = e["code_train"].tolist()
    mirrored = small(found.x_train, e["alpha_train"], 0, True)
    variant = np.abs(mirrored[code.index("103-10")] - twins[code.index("103-20")]).mean()
    assert variant < nearest / 2  # the same measure does see that two variants are one drawing


def test_signs_can_be_told_apart():
    found = data.load("signs")
    e = found.extras
    picture, sign, code = (
        np.concatenate([a, b])
        for a, b in (
            (found.x_train, found.x_test),
            (e["sign_train"], e["sign_test"]),
            (e["code_train"], e["code_test"]),
        )
    )
    # Equal numbers exactly where the pictures are equal, and the number names one of them.
    equal = (picture[:, None] == picture[None]).all(axis=(2, 3, 4))
    np.testing.assert_array_equal(equal, sign[:, None] == sign[None])
    assert sorted(set(sign.tolist())) == list(range(len(e["signs"]))) and len(e["signs"]) == 51
    np.testing.assert_array_equal(e["signs"][sign], np.where(code == "282", "278", code))


def test_signs_are_drawn_on_grey_with_their_opacity():
    found = data.load("signs")
    root = _store.find_root()
    with zipfile.ZipFile(io.BytesIO(_store.read(root, driving.SIGNS_FILES[0]))) as archive:
        stored = {n for n in archive.namelist() if n.endswith(".png")}
    codes = {f"DE/{c}.png" for part in ("train", "test") for c in found.extras[f"code_{part}"].tolist()}
    assert stored - codes - {f"US/{c}.png" for c in found.extras["code_us"].tolist()} == {"US/R1-1.png"}
    e = found.extras
    for x, alpha in (
        (found.x_train, e["alpha_train"]),
        (found.x_test, e["alpha_test"]),
        (e["x_us"], e["alpha_us"]),
    ):
        assert (x[alpha == 0] == driving.GREY).all() and alpha.max() == 255
    code = found.extras["code_train"].tolist()
    red, green, blue = found.x_train[code.index("206")][32, 4]  # a point of the stop sign's left edge
    assert red > 120 and green < 60 and blue < 60


def test_signs_categories_follow_the_numbers():
    found = data.load("signs")
    for part in ("train", "test"):
        for code, y in zip(found.extras[f"code_{part}"], getattr(found, f"y_{part}"), strict=True):
            assert {"1": "warning", "2": "regulatory", "3": "guide"}[code[0]] == found.classes[y]
    us = dict(zip(found.extras["code_us"].tolist(), found.extras["y_us"].tolist(), strict=True))
    assert (us["W3-3"], us["CW20-1"], us["R5-1"], us["D1-2"]) == (0, 0, 1, 2)
