"""The grader's end of the line to a student's process: frames out, frames in, always within a time.

Whatever the other side does (nothing, half a frame, a giant length, another request's name, death), the answer is one
of four errors, and none of them takes longer than the deadline. Lengths are checked before memory is spent.

What this is *not*: a judge of contents. The bytes of a frame go to `values.decode`.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable

from dca_lab.grading.sandbox.inside.child import HEAD

GLANCE = 0.1  # seconds between two looks at what the process uses
PIECE = 1 << 18


class Broken(Exception):  # noqa: N818 (a state of the line, of which four kinds follow)
    """The conversation cannot go on: the process must be ended. `kind` is that of the Reply."""

    kind = "crashed"


class Gone(Broken):
    """The process closed its end: it died."""


class Late(Broken):
    """The deadline passed."""

    kind = "timeout"


class Refused(Broken):
    """The process sent what is not an answer."""

    kind = "refused"


class Channel:
    """Frames over a socket.

    Parameters
    ----------
    line : socket.socket
        The grader's end.
    watch : callable
        Called about ten times a second while waiting; raises Broken when the process uses too much.
    """

    def __init__(self, line: socket.socket, watch: Callable[[], None]) -> None:
        line.setblocking(False)
        self._line, self._watch = line, watch

    def close(self) -> None:
        self._line.close()

    def send(self, name: bytes, data: bytes, deadline: float) -> None:
        """Send one frame. The process may refuse to read it: then the deadline passes."""
        view = memoryview(HEAD.pack(name, len(data)) + data)
        while view:
            self._wait(select.POLLOUT, deadline)
            try:
                view = view[self._line.send(view[:PIECE]) :]
            except BlockingIOError:
                continue
            except OSError as error:
                raise Gone("the process ended") from error

    def receive(self, name: bytes, limit: int, deadline: float) -> bytes:
        """The payload of the next frame, which must answer the request `name`."""
        answered, length = HEAD.unpack(self._exactly(HEAD.size, deadline))
        if answered != name:
            raise Refused("an answer came that nobody had asked for")
        if length > limit:
            raise Refused(f"more than {limit:,} bytes came back")
        return bytes(self._exactly(length, deadline))

    def _exactly(self, count: int, deadline: float) -> bytearray:
        data = bytearray()
        while len(data) < count:
            self._wait(select.POLLIN, deadline)
            try:
                piece = self._line.recv(min(PIECE, count - len(data)))
            except BlockingIOError:
                continue
            except OSError as error:
                raise Gone("the process ended") from error
            if not piece:
                raise Gone("the process ended")
            data += piece
        return data

    def _wait(self, event: int, deadline: float) -> None:
        ready = select.poll()
        ready.register(self._line, event)
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                raise Late("it took too long")
            if ready.poll(1000 * min(left, GLANCE)):
                return
            self._watch()
