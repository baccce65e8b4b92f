"""Sound at 8 kHz: Mandarin syllables by tone, and one-second cuts of telephone prompts by voice.

Each set is one Ogg Vorbis file that joins all clips, and a table that says where each clip starts. Clips are
int16, the way a telephone carries them; `as_tensors` turns them into standardised float32. What is *not*
here: spectrograms. A chapter computes its own features.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np

from dca_lab.data._split import order, unit
from dca_lab.data._store import DataError, read, restore_advice
from dca_lab.data.dataset import Dataset, take, text_array

TONES_FILES = ("speech/mandarin_tones.csv", "speech/mandarin_tones_8k.ogg")
VOICES_FILES = ("speech/prompts_6voices_1s.csv", "speech/prompts_6voices_1s_8k.ogg")
RATE = 8000


def _table(root: Path, path: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(read(root, path).decode("utf-8"))))


def _decode(root: Path, path: str, samples: int) -> np.ndarray:
    """Return the decoded track, int16 (samples,), after checking that it is mono, 8 kHz and long enough."""
    import soundfile  # loads a shared library: only the sets that need it pay

    try:
        track, rate = soundfile.read(io.BytesIO(read(root, path)), dtype="int16")
    except soundfile.LibsndfileError as error:
        raise DataError(
            f"{path} matches its checksum but is not readable sound: {error}. {restore_advice(path)}"
        ) from error
    if rate != RATE or track.ndim != 1 or len(track) < samples:
        raise DataError(
            f"{path}: expected one channel of at least {samples} samples at {RATE} Hz, decoded shape "
            f"{track.shape} at {rate} Hz. {restore_advice(path)}"
        )
    return track


def load_tones(root: Path) -> Dataset:
    """Single Mandarin syllables: x int16 (N, 5409), y int64 tone 1 to 4 (class index 0 to 3).

    A clip ends where its length says, the rest of its row is zero: ``lengths_*`` (int64, samples). Split by
    speaker, the stricter of the two possible ways: A (1,187 clips) trains, B (1,147) tests, a voice that was
    never heard. There are only these two speakers, about an octave apart, so this is also a shift of
    distribution, and hard. The easier question, known voices and unseen syllables: join both parts and test
    where ``held_out_*`` (bool) is true; it marks a fifth of the syllables (``syllable_*``, in bopomofo).
    ``speaker_*`` is A or B; their licences differ.
    """
    rows = _table(root, TONES_FILES[0])
    offsets, lengths = (np.array([int(row[k]) for row in rows], dtype=np.int64) for k in ("offset", "length"))
    track = _decode(root, TONES_FILES[1], int((offsets + lengths).max()))
    x = np.zeros((len(rows), int(lengths.max())), dtype=np.int16)
    for clip, offset, length in zip(x, offsets, lengths, strict=True):
        clip[:length] = track[offset : offset + length]
    turn = order([f"{row['speaker']} {row['syllable_bopomofo']} {row['tone']}" for row in rows])
    speaker = np.array([row["speaker"] for row in rows])[turn]
    parts = take(
        speaker == "B",
        x=x[turn],
        y=np.array([int(row["tone"]) - 1 for row in rows], dtype=np.int64)[turn],
        lengths=lengths[turn],
        speaker=speaker,
        syllable=text_array([row["syllable_bopomofo"] for row in rows])[turn],
        held_out=np.array([unit(row["syllable_bopomofo"]) < 0.2 for row in rows])[turn],
    )
    return Dataset(
        name="tones",
        **{key: parts.pop(key) for key in ("x_train", "y_train", "x_test", "y_test")},
        classes=("high (1)", "rising (2)", "dipping (3)", "falling (4)"),
        extras={**parts, "rate": np.array(RATE)},
        licence="speaker A: GPL-3 or LGPL-3 (E. Der-Hua Liu); B: CC BY 3.0 (ChionMeilin, voice Chu Lo)",
        source="gcin's recorded syllables, resampled and trimmed, from the Debian package gcin-voice",
    )


def load_voices(root: Path) -> Dataset:
    """Cuts of telephone prompts: x int16 (N, 8000), one second each; y int64, one of six voices.

    Split by prompt, as in the table: a recording, and every prompt of that name in any language, is on one
    side only. It is voice identification more than language identification: ``en-Allison`` and ``es-Allison``
    are one person in two languages and two classes; ``person_*`` and ``language_*`` let a chapter ask either.
    """
    rows = _table(root, VOICES_FILES[0])
    x = _decode(root, VOICES_FILES[1], len(rows) * RATE)[: len(rows) * RATE].reshape(len(rows), RATE)
    classes = tuple(dict.fromkeys(row["voice"] for row in rows))
    turn = order([row["index"] for row in rows])
    parts = take(
        np.array([row["split"] == "test" for row in rows])[turn],
        x=x[turn],
        y=np.array([classes.index(row["voice"]) for row in rows], dtype=np.int64)[turn],
        language=np.array([row["language"] for row in rows])[turn],
        person=np.array([row["voice"].split("-")[1] for row in rows])[turn],
        prompt=text_array([row["prompt"] for row in rows])[turn],
    )
    return Dataset(
        name="voices",
        **{key: parts.pop(key) for key in ("x_train", "y_train", "x_test", "y_test")},
        classes=classes,
        extras={**parts, "rate": np.array(RATE)},
        licence=(
            "en, es, fr: CC BY-SA 3.0 (Digium; voices Allison Smith, June Wallack); ru, it-Carlo: CC BY 3.0 "
            "(Maxim Topal, Carlo Flora); it-Menardi: CC BY-SA 3.0, credit to be shown"
        ),
        source=(
            "Asterisk's recorded prompts, from the Debian packages asterisk-core-sounds-{en,es,fr,it,ru}-wav "
            "1.6.1 and asterisk-prompt-it-menardi-wav"
        ),
    )
