"""What students are called: ids that are safe as a file name and in a spreadsheet, and finding them in a roster.

A student chooses the name of a file, and a platform adds its own numbers to it. An id keeps letters and digits of any
script; what else it holds becomes ``_``, and where two names would then be the same, in upper or lower case, both get
a few digits of their sha256. What this is *not*: proof of who somebody is. The platform that collected the files
knows that.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable

_RESERVED = re.compile(
    r"(con|prn|aux|nul|(com|lpt)\d)(\..*)?|student", re.IGNORECASE
)  # of Windows; and our own


def safe_ids(names: Iterable[str]) -> dict[str, str]:
    """For each name an id that is safe, and unlike the others in any case.

    Examples
    --------
    >>> safe_ids(["alice", "=cmd()", "Mary Ann"])
    {'alice': 'alice', '=cmd()': 'cmd', 'Mary Ann': 'Mary_Ann'}
    >>> safe_ids(["../a", "a"])
    {'../a': 'a-61b4c98b', 'a': 'a-ca978112'}
    """
    plain = {name: _plain(name) for name in names}
    ids = dict(plain)
    for digits in (8, 64):  # 64 are longer than any name that is left as it was
        count = Counter(text.casefold() for text in ids.values())
        for name, text in ids.items():
            if count[text.casefold()] > 1 or _RESERVED.fullmatch(text):
                digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()
                ids[name] = f"{plain[name]}-{digest[:digits]}"
    return ids


def _plain(name: str) -> str:
    text = re.sub(r"[^\w.@-]+", "_", unicodedata.normalize("NFKC", name[:500])).strip("_.-@")[:60]
    while len(text.encode()) > 120:  # a file name may have 255 bytes, and ours add a few
        text = text[:-1]
    return text.rstrip("_.-@") or "student"


def in_roster(names: Iterable[str], roster: Iterable[str]) -> str | None:
    """The one of the roster's names that is among `names`, what a platform calls a student; None for no or two.

    Examples
    --------
    >>> in_roster(["doejane_4711", "doejane", "4711"], ["Smith", "DoeJane"])
    'DoeJane'
    """
    names = {name.strip().casefold() for name in names}
    found = [name for name in roster if name.strip().casefold() in names]
    return found[0] if len(found) == 1 else None
