"""One student's process: walls first, then the cells, then one call after another, until the grader closes the line.

The line is a socket. A frame is sixteen bytes that name a request, eight for the length, and an encoded value; the
answer carries the name of its request. The grader asks

    {"cells": [[number, source], ...], "only": [numbers whose definitions alone shall run]}
        -> {"cell": number} before each one, then {"errors": [...], "names": [...]}
    {"call": name, "arguments": (...)} -> {"kind": "value", "value": ..., "arguments": ...} and so on: see `Reply`

What this is *not*: trusted, from the first cell on. Student code in this process can send what it likes; the grader
takes every frame for a claim and judges the values.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
import tempfile
from typing import Any

from dca_lab.grading import values
from dca_lab.grading.sandbox.inside import walls
from dca_lab.grading.sandbox.inside.cells import Cells, described

HEAD = struct.Struct("<16sQ")


def live(line: int, settings: dict, request: dict, rules: int | None, zygote: int) -> None:
    """Never returns: the whole life of the process after the fork."""
    try:
        os.setsid()
        walls.silence(line, *([] if rules is None else [rules]))
        work = os.path.join(settings["private"], "work")
        os.chdir(work)
        os.environ.update(HOME=work, TMPDIR=work)
        tempfile.tempdir = None
        channel = socket.socket(fileno=line)
        walls.set_limits(request["limits"], request["address_space"], settings["count_threads"])
        if settings["walls"]:
            walls.raise_walls(settings, rules, zygote)
        channel.sendall(b"!")  # the kernel adds the number of this process for the grader to read
    except BaseException as error:
        os.write(line, b"?" + f"{type(error).__name__}: {error}".encode()[:500])
        os._exit(1)
    try:
        serve(channel, request["limits"]["reply_bytes"])
    except BaseException:
        os._exit(1)
    os._exit(0)


def serve(channel: socket.socket, limit: int) -> None:
    """Answer requests until the other side closes."""
    cells = Cells()
    sys.modules["__main__"] = cells.module
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")
    while True:
        name, length = HEAD.unpack(received(channel, HEAD.size))
        request = values.decode(received(channel, length), limit=length)
        if "cells" in request:
            for number, source in request["cells"]:
                send(channel, name, {"cell": number}, limit)
                cells.run(number, source, definitions_only=number in request["only"])
            send(channel, name, {"errors": cells.errors[:1000], "names": cells.functions()[:1000]}, limit)
        else:
            send(channel, name, called(cells.names, request["call"], request["arguments"]), limit)


def called(names: dict[str, Any], function: str, arguments: tuple) -> dict:
    """What one call gives, as the fields of a Reply."""
    if not callable(names.get(function)):
        return {"kind": "missing"}
    try:
        value = names[function](*arguments)
    except BaseException as error:
        return {"kind": "raised", **described(error), "arguments": arguments}
    return {"kind": "value", "value": value, "arguments": arguments}


def send(channel: socket.socket, name: bytes, answer: dict, limit: int) -> None:
    """Send an answer, or, if it cannot be sent, the reason."""
    try:
        data = values.encode(answer)
        if len(data) > limit:
            raise values.BadValue(f"{len(data):,} bytes came back; at most {limit:,} are accepted")
    except BaseException as error:
        text = str(error) if isinstance(error, values.BadValue) else type(error).__name__
        data = values.encode({"kind": "refused", "text": text})
    channel.sendall(HEAD.pack(name, len(data)))
    channel.sendall(data)


def received(channel: socket.socket, length: int) -> bytearray:
    """So many bytes; when the grader is gone, the process ends."""
    data = bytearray(length)
    view = memoryview(data)
    while view:
        count = channel.recv_into(view)
        if not count:
            os._exit(0)
        view = view[count:]
    return data
