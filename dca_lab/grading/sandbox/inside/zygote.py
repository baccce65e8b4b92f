"""The zygote: a process that has torch loaded and waits to be copied.

Idea: to import torch takes a second or more, to copy a process that has it takes milliseconds. How: this process
imports what notebooks need, and on each request forks a child that shares all of it. It runs no student code, holds no
secrets, and reads nothing that a child could write: its only partner is the grader, on the control socket.

    {"limits": {...}, "address_space": bytes} + the child's end of a new socket -> {"pid": number} or {"error": text}
    {"stop": true}                                        -> {"status": ..., "cpu": seconds, "why": what was too much}

One child at a time; it is killed, reaped, and its folder emptied before the next one. Until then the zygote looks ten
times a second at what it uses, since the grader does so only while it waits for an answer, and kills it if it is too much.
When the grader is gone, the control socket closes: the child is killed and the zygote ends.

What this is *not*: a wall. The child puts up its own (`walls.py`) before it looks at the student's work.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import socket
import sys
from contextlib import suppress

MESSAGE = 1 << 16
GLANCE = 0.1  # seconds between two looks at what the child uses


def main(control: int, settings: dict) -> None:
    """Load, report, then fork on request; returns when the grader closes the control socket."""
    os.umask(0o022)
    signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # as in a notebook; in the background it may be ignored
    os.makedirs(os.path.join(settings["private"], "work"), exist_ok=True)
    os.environ["MPLCONFIGDIR"] = os.environ["HOME"] = settings["private"]
    sys.path[:] = [*sys.path, *settings["site"]]
    sys.argv[:] = ["notebook"]
    sys.dont_write_bytecode = True
    load(settings["optimizers"])
    from dca_lab.grading.sandbox.inside import child, landlock, usage, walls
    from dca_lab.grading.sandbox.inside.wipe import wipe

    rules = None
    if settings["landlock"]:
        rules = landlock.ruleset(settings["readable"], settings["listable"], [settings["private"]])
    if settings["walls"]:
        walls.prctl(walls.PR_SET_DUMPABLE, 0)  # its memory is not for its children
    wipe(settings["private"])
    gc.collect()
    gc.freeze()  # the collector of a child leaves these objects alone, and with them the shared memory
    line = socket.socket(fileno=control)
    line.send(json.dumps({"ready": True}).encode())
    running, limits, why = 0, {}, ""
    while True:
        while running and not select.select([line], [], [], GLANCE)[0]:
            if why := why or usage.too_much(running, settings["private"], limits):
                os.kill(running, signal.SIGKILL)  # it keeps its number until it is waited for, below
        try:
            message, descriptors, _, _ = socket.recv_fds(line, MESSAGE, 1)
        except ConnectionError:
            message, descriptors = b"", []
        answer: dict = {}
        if running:
            with suppress(ProcessLookupError):
                os.kill(running, signal.SIGKILL)
            _, status, spent = os.wait4(running, 0)
            answer = {"status": os.waitstatus_to_exitcode(status), "cpu": spent.ru_utime + spent.ru_stime}
            answer["why"], running, why = why, 0, ""
            wipe(settings["private"])
        if not message:
            with suppress(OSError):  # inside bubblewrap the folder is a mount that goes with its world
                wipe(settings["private"])
                os.rmdir(settings["private"])
            return
        request = json.loads(message)
        if "limits" in request:
            try:
                limits = request["limits"]
                running = fork(descriptors[0], settings, request, rules, child)
                answer = {"pid": running}
            except OSError as error:
                answer = {"error": str(error)}
            os.close(descriptors[0])
        line.send(json.dumps(answer).encode())


def fork(end: int, settings: dict, request: dict, rules: int | None, child) -> int:
    """Start a child in a folder of its own; returns its number here."""
    work = os.path.join(settings["private"], "work")
    os.mkdir(work, 0o700)
    if settings["uid"] is not None:
        os.chown(work, settings["uid"], settings["uid"])
    zygote = os.getpid()
    pid = os.fork()
    if pid == 0:
        child.live(end, settings, request, rules, zygote)
    return pid


def load(optimizers: bool) -> None:
    """Import what notebooks use; what is not installed is left out, as it would be in the notebook."""
    import numpy as np
    import torch

    torch.set_num_threads(1)
    torch.ones(4, 4) @ torch.ones(4, 4)
    if optimizers:
        torch.optim.Adam([torch.zeros(1, requires_grad=True)])  # the first one imports for a second
    np.ones((4, 4)) @ np.ones((4, 4))
    with suppress(ImportError):
        import matplotlib

        matplotlib.use("Agg")
        import matplotlib.pyplot
    with suppress(ImportError):
        import IPython.core.inputtransformer2  # noqa: F401
    import safetensors.numpy
    import safetensors.torch  # noqa: F401
