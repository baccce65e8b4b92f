"""Values on a wire: numbers, text, lists and arrays become bytes and come back, and nothing else can.

Idea: the grader must read what a student's process sends, and that process is not trusted. A pickle runs code when it
is read, so it is out of the question; this format can only describe values. How: a small JSON tree holds the structure
and the numbers, and one safetensors blob behind it holds every array:

    DCA1 | length of the tree, 8 bytes | tree, JSON | blob, safetensors (absent without arrays)

In the tree a list is a list, and everything that JSON has no word for is an object with one key, its tag:
``{"t": [...]}`` a tuple, ``{"d": [[key, value], ...]}`` a dictionary, ``{"T": "0"}``, ``{"A": "0"}``, ``{"B": "0"}``
the tensor, the numpy array or the bytes stored under that name in the blob.
`decode` is given hostile bytes: it answers with a value or with `BadValue`, and with nothing else.

What this is *not*: a store of models (a ``state_dict`` is a dictionary of tensors and travels; a ``Module`` does not).
The same file runs inside the sandbox, therefore it imports nothing of the package but `blob`.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from dca_lab.grading import blob
from dca_lab.grading.blob import BadValue

LIMIT = 64 << 20  # bytes of one encoded value, unless the caller says otherwise
TREE_LIMIT = 8 << 20  # bytes of JSON: a long notebook is one text of them
MOST_ITEMS = 50_000  # in lists, all together: each is looked at several times, in Python
MOST_LISTS = 10_000  # to compare a million lists with an array keeps the grader busy for minutes
MOST_KEYS = 1000  # of one dictionary
LARGEST_KEY = 2**31  # Python's hash of an integer is known: k * (2**61 - 1) would all fall into one place
DEPTH_LIMIT = 60  # a list in a list in a list ...
START = struct.Struct("<4sQ")
MAGIC = b"DCA1"


@dataclass(frozen=True)
class Reply:
    """What came of one call of a student's function.

    Parameters
    ----------
    kind : str
        ``value``, ``raised``, ``missing`` (no such function), ``crashed`` (the process died), ``timeout``, ``exhausted``
        (no time is left for this notebook), or ``refused`` (what came back is not a value, or is too large).
    value : object
        What the function returned.
    exception, text : str
        Class and message of what it raised; both are the student's words and therefore untrusted.
    line : int, optional
        Line of the student's cell in which it was raised.
    arguments : tuple, optional
        The arguments as they are after the call, to see whether they were changed in place.
    ended : bool
        Whether the process was ended because of this call; the grader's word, not the student's.
    """

    kind: str
    value: Any = None
    exception: str = ""
    text: str = ""
    line: int | None = None
    arguments: tuple | None = None
    ended: bool = False


def encode(value: Any) -> bytes:
    """Bytes for `value`; BadValue for what is not a number, text, bytes, array, list, tuple or dictionary.

    Examples
    --------
    >>> decode(encode({"scale": 0.5, "shape": (2, 3)}))
    {'scale': 0.5, 'shape': (2, 3)}
    >>> encode(torch.nn.Linear(1, 1))
    Traceback (most recent call last):
    dca_lab.grading.blob.BadValue: a Linear cannot be sent: return arrays, numbers or text, not Module
    """
    arrays: dict[str, dict] = {}
    try:
        tree = json.dumps(_tree(value, arrays, 0), separators=(",", ":")).encode("ascii")
        rest = blob.write(arrays)
    except BadValue:
        raise
    except Exception as error:  # a student's class may raise anything when it is looked at
        raise BadValue(f"this cannot be sent: {type(error).__name__}") from error
    if len(tree) > TREE_LIMIT:
        raise BadValue("too many numbers in lists: return an array instead")
    return START.pack(MAGIC, len(tree)) + tree + rest


def decode(data: bytes, *, limit: int = LIMIT) -> Any:
    """The value that `data` describes. Raises BadValue, and nothing else, whatever the bytes are.

    Examples
    --------
    >>> decode(b"gibberish")
    Traceback (most recent call last):
    dca_lab.grading.blob.BadValue: these bytes are not a value
    """
    try:
        if len(data) > limit:
            raise BadValue(f"{len(data):,} bytes are more than the {limit:,} that may come back")
        if len(data) < START.size:
            raise BadValue("these bytes are not a value")
        magic, length = START.unpack_from(data)
        end = START.size + length
        if magic != MAGIC or end > len(data) or length > TREE_LIMIT:
            raise BadValue("these bytes are not a value")
        tree = json.loads(str(data[START.size : end], "ascii"), object_pairs_hook=_tagged)
        return _value(tree, blob.read(data[end:]), 0, _Counted())
    except BadValue:
        raise
    except (
        Exception,
        RecursionError,
        MemoryError,
    ) as error:  # the border: hostile bytes end here, as one error
        raise BadValue(f"these bytes are not a value: {type(error).__name__}") from error


def _text(text: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:  # half a surrogate pair would break whoever writes it to a file later
        raise BadValue("this text is not valid Unicode") from error
    return text


def _tree(value: Any, arrays: dict[str, dict], depth: int) -> Any:
    if depth > DEPTH_LIMIT:
        raise BadValue(f"lists nested deeper than {DEPTH_LIMIT}, or a list that contains itself")
    if isinstance(value, np.generic) and value.dtype.kind in "biuf":
        value = value.item() if value.dtype.itemsize <= 8 else float(value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str.__str__(_text(value))
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, (list, tuple)):
        _few(len(value))
    if isinstance(value, list):
        return [_tree(item, arrays, depth + 1) for item in value]
    if isinstance(value, tuple):
        return {"t": [_tree(item, arrays, depth + 1) for item in value]}
    if isinstance(value, dict):
        _few_keys(len(value))
        return {"d": [[_key(key), _tree(item, arrays, depth + 1)] for key, item in value.items()]}
    if isinstance(value, (bytes, bytearray)):
        return _stored("B", arrays, "U8", [len(value)], bytes(value))
    if isinstance(value, (np.ndarray, np.generic)):
        return _stored("A", arrays, *blob.from_numpy(np.asarray(value)))
    if isinstance(value, torch.Tensor):
        return _stored("T", arrays, *blob.from_torch(value))
    raise BadValue(f"a {type(value).__name__} cannot be sent: return arrays, numbers or text, not Module")


def _key(key: Any) -> Any:
    if isinstance(key, np.generic):
        key = key.item()
    if isinstance(key, str):
        return str.__str__(_text(key))
    if type(key) in (int, float) and not abs(key) < LARGEST_KEY:
        raise BadValue("a number that is the key of a dictionary must lie below 2**31: use text")
    if key is None or type(key) in (bool, int, float):
        return key
    raise BadValue(
        f"a {type(key).__name__} cannot be the key of a dictionary that is sent: use text or numbers"
    )


def _few(items: int) -> None:
    if items > MOST_ITEMS:
        raise BadValue(f"more than {MOST_ITEMS:,} numbers in lists: return an array instead")


def _few_keys(keys: int) -> None:
    if keys > MOST_KEYS:
        raise BadValue(f"a dictionary of more than {MOST_KEYS:,} entries: return a list or an array instead")


def _stored(tag: str, arrays: dict[str, dict], dtype: str, shape: list[int], data: bytes) -> dict[str, str]:
    name = str(len(arrays))
    arrays[name] = {"dtype": dtype, "shape": shape, "data": data}
    return {tag: name}


def _tagged(pairs: list[tuple[str, Any]]) -> tuple[str, Any]:
    if len(pairs) != 1:
        raise BadValue("an object of the tree has exactly one key, its tag")
    return pairs[0]  # a tuple: JSON itself makes none, so this cannot be mistaken for a list


@dataclass
class _Counted:
    """How much of a tree was met so far."""

    lists: int = 0
    items: int = 0

    def add(self, node: list | tuple) -> None:
        self.lists, self.items = self.lists + 1, self.items + len(node)
        if self.lists > MOST_LISTS:
            raise BadValue(f"more than {MOST_LISTS:,} lists in lists: return an array instead")
        _few(self.items)


def _value(node: Any, arrays: dict[str, dict], depth: int, met: _Counted) -> Any:
    if depth > DEPTH_LIMIT:
        raise BadValue(f"lists nested deeper than {DEPTH_LIMIT}")
    if isinstance(node, list | tuple):
        met.add(node)
    if isinstance(node, list):
        return [_value(item, arrays, depth + 1, met) for item in node]
    if isinstance(node, str):
        return _text(node)
    if not isinstance(node, tuple):
        return node
    tag, inner = node
    if tag == "t" and isinstance(inner, list):
        met.add(inner)
        return tuple(_value(item, arrays, depth + 1, met) for item in inner)
    if tag == "d" and isinstance(inner, list):
        met.add(inner)
        _few_keys(len(inner))
        found = {}
        for key, item in inner:
            if isinstance(key, (list, tuple)) or _key(key) in found:
                raise BadValue("a dictionary with a key twice, or with a key that is none")
            found[key] = _value(item, arrays, depth + 1, met)
        return found
    if tag in ("A", "T", "B") and isinstance(inner, str):
        return blob.to_array(
            tag, arrays.pop(inner)
        )  # pop: each array is used once, so that a tree cannot multiply them
    raise BadValue("an object of the tree has an unknown tag")
