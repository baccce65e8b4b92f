"""Hostile students: nothing is read, reached, left over or made to hang, and the next student is graded as ever."""

import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from processes import running

import dca_lab
from dca_lab.grading.sandbox import Limits, Sandbox, available_levels
from dca_lab.grading.sandbox.inside import landlock, usage

LIMITS = Limits(
    cpu_seconds=2, wall_seconds=10, cell_seconds=1, memory=256 << 20, file_bytes=4 << 20, files=200
)
PACKAGE = Path(dca_lab.__file__).resolve().parent
HONEST = ["import torch\ndef double(x): return 2 * x"]


@pytest.fixture(scope="module", params=["bubblewrap", "landlock"])
def shared(request):
    reason = available_levels()[request.param]
    if reason:
        pytest.skip(f"{request.param}: {reason}")
    with Sandbox(level=request.param, limits=LIMITS) as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(shared):
    """After every attack the same sandbox must serve an honest student, in an empty folder, with nobody else there."""
    yield shared
    with shared.open([*HONEST, "import os\ndef left(): return os.listdir('.'), os.getcwd()"]) as student:
        assert student.errors == []
        assert student.call("double", 21).value == 42
        assert student.call("left").value[0] == []


def attack(sandbox, code: str, *args, seconds=5.0, **limits):
    """The reply to a function `attack` made of `code`, whose last line should return what was gained."""
    body = "".join(f"    {line}\n" for line in code.strip().splitlines())
    cell = f"import os, sys, ctypes, socket, signal, subprocess, time, resource, threading\ndef attack(*args):\n{body}"
    with sandbox.open([cell], limits=Limits(**limits) if limits else None) as student:
        assert student.errors == [], student.errors
        return student.call("attack", *args, seconds=seconds)


LIBC = "libc = ctypes.CDLL(None, use_errno=True)\n"
DENIED = {
    "internet": "return socket.create_connection(('127.0.0.1', 80), 1)",
    "datagram": "return socket.socket(socket.AF_INET, socket.SOCK_DGRAM)",
    "unix socket": "return socket.socket(socket.AF_UNIX)",
    "socket pair": "return socket.socketpair()",
    "netlink": "return socket.socket(16, 3, 0)",
    "url": "import urllib.request\nreturn urllib.request.urlopen('http://127.0.0.1/')",
    "fork": "return os.fork()",
    "fork, terminal": "import pty\nreturn pty.fork()",
    "spawn": "return os.posix_spawn('/bin/true', ['true'], {})",
    "program": "return subprocess.run(['/bin/true'])",
    "become a program": "os.execv(sys.executable or '/bin/true', ['true'])",
    "workers": "import multiprocessing\nreturn multiprocessing.get_context('fork').Process(target=print).start()",
    "kill the zygote": "os.kill(os.getppid(), signal.SIGKILL)",
    "kill everyone": "os.kill(-1, signal.SIGKILL)",
    "kill the group": "os.killpg(0, signal.SIGKILL)",
    "kill the first": "os.kill(1, signal.SIGKILL)",
    "kill the grader": "os.kill(args[0]['grader'], signal.SIGKILL)",
    "signal by descriptor": "return os.pidfd_open(args[0]['grader'])",
    "repository, listed": "return os.listdir(args[0]['package'])",
    "repository, read": "return open(args[0]['package'] + '/cli.py').read()",
    "repository, written": "open(args[0]['package'] + '/new.py', 'w')",
    "secret, read": "return open(args[0]['secret']).read()",
    "secret, listed": "return os.listdir(os.path.dirname(args[0]['secret']))",
    "secret, linked": "os.link(args[0]['secret'], 'mine')\nreturn open('mine').read()",
    "secret, by symbolic link": "os.symlink(args[0]['secret'], 'mine')\nreturn open('mine').read()",
    "secret, emptied": "os.truncate(args[0]['secret'], 0)",
    "secret, emptied on opening": "return os.open(args[0]['secret'], os.O_RDONLY | os.O_TRUNC)",
    "secret, its mode": "os.chmod(args[0]['secret'], 0o777)",
    "secret, its times": "os.utime(args[0]['secret'])",
    "secret, removed": "os.remove(args[0]['secret'])",
    "secret, replaced": "open('mine', 'w').close()\nos.replace('mine', args[0]['secret'])",
    "accounts": "return open('/etc/passwd').read()",
    "passwords": "return open('/etc/shadow').read()",
    "home": "return os.listdir(os.path.expanduser('~root'))",
    "temporary folder": "return os.listdir(os.path.dirname(args[0]['secret']) + '/..')",
    "other temporary files": "open('/tmp/left-behind', 'r' if os.environ['TMPDIR'].startswith('/tmp/work') else 'w')",
    "shared memory, file": "open('/dev/shm/left', 'w')",
    "shared memory": "from multiprocessing import shared_memory\nreturn shared_memory.SharedMemory(create=True, size=9).name",
    "memory file": "return os.memfd_create('left')",
    "terminal": "return open('/dev/tty')",
    "memory of the zygote": "return open(f'/proc/{os.getppid()}/mem', 'rb')",
    "environment of the zygote": "return open(f'/proc/{os.getppid()}/environ', 'rb').read()",
    "memory of itself, to write": "return open('/proc/self/mem', 'r+b')",
    "processes": "return os.listdir(f'/proc/{os.getppid()}')",
    "kernel": "return open('/proc/sys/kernel/hostname', 'w')",
    "packages, written": "import torch\nopen(os.path.dirname(torch.__file__) + '/version.py', 'a')",
    "overlay, written": "import dca_lab\nopen(dca_lab.__file__, 'a')",
    "lock": "import fcntl\nfcntl.lockf(open(os.__file__), fcntl.LOCK_SH | fcntl.LOCK_NB, 1, 5001)",
    "lock of somebody": "import fcntl, struct\nreturn fcntl.fcntl(open(os.__file__), fcntl.F_GETLK, bytes(32))",
    "page dropped": "os.posix_fadvise(os.open(os.__file__, os.O_RDONLY), 0, 0, os.POSIX_FADV_DONTNEED)",
    "page looked for": "return os.preadv(os.open(os.__file__, 0), [bytearray(1)], 0, os.RWF_NOWAIT)",
    "free memory": "return open('/proc/meminfo').read()",
    "free disk": "return os.statvfs('.')",
    "pipe file": "os.mkfifo('pipe')",
    "device": "os.mknod('zero', 0o20666, os.makedev(1, 5))",
    "other root": "os.chroot('.')",
    "administrator": "os.setuid(0)",
    "any user": "os.setresuid(1, 1, 1)",
    "more processor time": "resource.setrlimit(resource.RLIMIT_CPU, (10**6, 10**6))",
    "limits of the zygote": "resource.prlimit(os.getppid(), resource.RLIMIT_NOFILE, (0, 0))",
    "priority": "os.setpriority(os.PRIO_PROCESS, os.getppid(), 19)",
    "processors": "os.sched_setaffinity(os.getppid(), {0})",
    "reference": "import dca_lab.pruning\nreturn dir(dca_lab.pruning)",
    "reference, by path": "sys.path.insert(0, os.path.dirname(args[0]['package']))\nimport dca_lab.cli",
    "reference, by file": """
import importlib.util
spec = importlib.util.spec_from_file_location('cli', args[0]['package'] + '/cli.py')
spec.loader.exec_module(importlib.util.module_from_spec(spec))
""",
    "judge": "import dca_lab.grading.judge",
    "editable finder": "import __editable___dca_lab_0_1_0_finder",
}
REFUSED_BY_THE_SYSTEM = {
    "PermissionError", "FileNotFoundError", "ModuleNotFoundError", "OSError", "ValueError", "ImportError", "NotADirectoryError",
    "URLError", "ProcessLookupError", "error", "BlockingIOError",
}  # fmt: skip


@pytest.fixture
def goals(tmp_path):
    """A file of the grader that every user of the system may read, and other things to attack."""
    secret = tmp_path / "hidden_checks.py"
    secret.write_text("ANSWER = 42", encoding="utf-8")
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.geteuid() and folder.is_relative_to("/tmp") and folder != Path("/tmp"):
            folder.chmod(0o755)
    yield {"secret": str(secret), "package": str(PACKAGE), "grader": os.getpid()}
    assert secret.read_text(encoding="utf-8") == "ANSWER = 42"
    assert secret.stat().st_mode & 0o777 != 0o777


def denied(sandbox, goals):
    """One process tries everything in DENIED, each as a function of its own."""
    cell, numbers = "import os, sys, ctypes, socket, signal, subprocess, resource\n", {}
    for number, (name, code) in enumerate(DENIED.items()):
        body = "".join(f"    {line}\n" for line in code.strip().splitlines())
        cell += f"def attack{number}(*args):\n{body}    return 'gained'\n"
        numbers[name] = f"attack{number}"
    with sandbox.open([cell]) as student:
        assert student.errors == []
        for name, function in numbers.items():
            reply = student.call(function, goals)
            yield name, reply.kind == "raised" and reply.exception in REFUSED_BY_THE_SYSTEM, reply


def test_denied(sandbox, goals):
    assert [(name, reply) for name, fine, reply in denied(sandbox, goals) if not fine] == []


CALLS = {  # name -> arguments: system calls that Python has no function for
    "ptrace": "101, 16, os.getppid(), 0, 0",
    "process_vm_readv": "310, os.getppid(), 0, 0, 0, 0, 0",
    "tkill": "200, os.getppid(), 9",
    "mq_open": "240, b'x', 0o102, 0o600, 0",
    "shmget": "29, 0, 4096, 0o1600",
    "semget": "64, 0, 1, 0o1600",
    "msgget": "68, 0, 0o1600",
    "unshare": "272, 0x10000000",
    "mount": "165, 0, 0, 0, 0, 0",
    "bpf": "321, 0, 0, 0",
    "keyctl": "250, 0, 0",
    "io_uring_setup": "425, 1, 0",
    "userfaultfd": "323, 0",
    "inotify": "294, 0",
    "clone": "56, 17, 0, 0, 0, 0",
    "vfork": "58",
    "clone3": "435, ctypes.create_string_buffer(64), 64",
    "prctl": "157, 1, 0, 0, 0",
    "mincore": "27, 0, 0, 0",
    "readahead": "187, 0, 0, 0",
    "sysinfo": "99, 0",
    "call of tomorrow": "460, 0",
}


@pytest.mark.skipif(platform.machine() != "x86_64", reason="numbers of system calls of x86_64")
def test_system_calls(sandbox):
    code = LIBC + "found = {}\n"
    for name, arguments in CALLS.items():
        code += f"found[{name!r}] = (libc.syscall({arguments}), ctypes.get_errno())\n"
    reply = attack(sandbox, code + "return found")
    assert reply.kind == "value"
    assert reply.value == {name: (-1, 38 if name in ("clone3", "call of tomorrow") else 1) for name in CALLS}


@pytest.mark.skipif(platform.machine() != "x86_64", reason="machine code of x86_64")
@pytest.mark.parametrize("machine_code", ["b814000000cd80c3", "b8270000400f05c3"], ids=["i386", "x32"])
def test_another_machine_language_is_the_end(sandbox, machine_code):
    code = f"""
import mmap
page = mmap.mmap(-1, 4096, prot=7)
page.write(bytes.fromhex('{machine_code}'))
return ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()
"""
    reply = attack(sandbox, code)
    assert reply.kind == "crashed" and "SIGSYS" in reply.text, reply


DEADLY = {
    "quiet exit": ("os._exit(0)", {"crashed"}),
    "abort": ("os.abort()", {"crashed"}),
    "segmentation fault": ("ctypes.string_at(0)", {"crashed"}),
    "own death": ("os.kill(os.getpid(), signal.SIGKILL)", {"crashed"}),
    "own sleep": ("os.kill(os.getpid(), signal.SIGSTOP)", {"timeout"}),
    "exit": ("sys.exit(0)", {"raised"}),
    "interrupt": ("signal.raise_signal(signal.SIGINT)\ntime.sleep(1)", {"raised"}),
    "sleep": ("time.sleep(1000)", {"timeout"}),
    "loop": ("while True: pass", {"timeout"}),
    "loop that ignores signals": (
        "for number in range(1, 65):\n    try: signal.signal(number, signal.SIG_IGN)\n    except (OSError, ValueError): pass\n"
        "while True: pass",
        {"timeout"},
    ),
    "loop that catches all": (
        "while True:\n    try:\n        while True: time.sleep(1)\n    except BaseException: pass",
        {"timeout"},
    ),
    "recursion": ("def again(): return again()\nreturn again()", {"raised"}),
    "deep C stack": ("sys.setrecursionlimit(10**9)\ndef f(n): return f(n + 1)\nreturn f(0)", {"crashed", "raised", "timeout"}),
    "memory at once": ("return len(bytearray(1 << 32))", {"raised"}),
    "memory, tensor": ("import torch\nreturn torch.ones(1 << 30)[0].item()", {"raised"}),
    "memory bit by bit": ("kept = []\nwhile True: kept.append(bytearray(1 << 20))", {"raised", "crashed", "refused"}),
    "memory map": ("import mmap\nkept = []\nwhile True: kept.append(mmap.mmap(-1, 1 << 24))", {"raised", "crashed"}),
    "threads": (
        "threading.stack_size(32768)\nkept = []\nwhile True:\n"
        "    kept.append(threading.Thread(target=time.sleep, args=(100,), daemon=True))\n    kept[-1].start()",
        {"raised", "crashed"},
    ),
    "one big file": ("with open('big', 'wb') as file:\n    while True: file.write(bytes(1 << 20))", {"raised"}),
    "many big files": (
        "n = 0\nwhile True:\n    n += 1\n    with open(str(n), 'wb') as file: file.write(bytes(1 << 20))",
        {"raised", "crashed"},
    ),
    "open files": ("return [open('/dev/null') for _ in range(10**5)]", {"raised"}),
    "output": ("for _ in range(2000): print('x' * 10**4)\nprint('y' * 10**4, file=sys.stderr)\nreturn 1", {"value"}),
    "reply of a gigabyte": ("import numpy as np\nreturn np.zeros(1 << 27)", {"raised", "refused", "crashed"}),
    "reply too large": ("return bytes(80 << 20)", {"refused"}),
    "deep lists": ("deep = []\nfor _ in range(10**5): deep = [deep]\nreturn deep", {"refused", "crashed"}),
    "endless list": ("me = []\nme.append(me)\nreturn me", {"refused"}),
    "a giant number": ("return 10**5000", {"refused"}),
    "a pickle": ("import pickle\nclass Evil:\n    def __reduce__(self): return os.system, ('id',)\nreturn Evil()", {"refused"}),
    "a generator": ("return (n for n in iter(int, 1))", {"refused"}),
    "half a surrogate": ("return '\\ud800'", {"refused"}),
    "error with a lying message": (
        "class E(Exception):\n    def __str__(self): os._exit(0)\nraise E", {"crashed"},
    ),
    "error without words": ("class E(BaseException):\n    def __str__(self): raise E\nraise E", {"raised"}),
    "error with a novel": ("raise ValueError('\\ud800' + 'x' * 10**7)", {"raised", "refused"}),
    "close the line": ("os.closerange(0, 1000)\nreturn 1", {"crashed"}),
    "half a frame": ("os.write(LINE, b'0123')\ntime.sleep(100)", {"timeout"}),
    "a frame for nobody": ("os.write(LINE, bytes(16) + (8).to_bytes(8, 'little') + bytes(8))\nreturn 1", {"refused"}),
    "a giant frame": ("os.write(LINE, bytes(16) + (2**64 - 1).to_bytes(8, 'little'))\nreturn 1", {"refused"}),
    "a flood of bytes": ("while True: os.write(LINE, bytes(1 << 16))", {"refused"}),
    "descriptors through the line": (
        "line = socket.socket(fileno=LINE)\nsocket.send_fds(line, [b'x' * 24], [0, 1, 2] * 50)\nreturn 1", {"refused"},
    ),
}  # fmt: skip
SETUP = """
import os, sys, ctypes, socket, signal, subprocess, time, resource, threading, stat
def is_socket(number):
    try: return stat.S_ISSOCK(os.fstat(number).st_mode)
    except OSError: return False
LINE = next(filter(is_socket, range(3, 100)))
"""


@pytest.mark.parametrize("name", DEADLY)
def test_deadly(sandbox, name):
    code, kinds = DEADLY[name]
    body = "".join(f"    {line}\n" for line in code.splitlines())
    with sandbox.open([f"{SETUP}\ndef attack():\n{body}"]) as student:
        assert student.errors == []
        seconds = 0.5 if "timeout" in kinds else 5.0
        reply = student.call("attack", seconds=seconds)
        assert reply.kind in kinds, reply
        assert "gained" not in repr(reply)


def test_deadly_as_cells(sandbox):
    """The same in a cell, outside every function."""
    names = ["quiet exit", "segmentation fault", "a giant frame", "close the line", "own sleep"]
    for name in names:
        with sandbox.open([SETUP, DEADLY[name][0] + "\ndef f(): return 1", "def g(): return 2"]) as student:
            assert [error.cell for error in student.errors] == [2], name
            assert (student.call("f").value, student.call("g").value) == (1, 2)


def test_many_small_files(sandbox):
    code = "n = 0\nwhile True:\n    n += 1\n    os.mkdir(str(n)) if n % 2 else open(str(n), 'w').close()"
    reply = attack(sandbox, code, seconds=1.5)
    assert reply.kind in ("crashed", "timeout", "raised"), reply
    if reply.kind == "crashed":
        assert "files" in reply.text


def test_removed_files_that_are_still_open(sandbox):
    """Nobody can count them: so each is small, and there are few."""
    code = """
kept = []
for _ in range(100):
    try:
        file = os.open('one', os.O_RDWR | os.O_CREAT | os.O_EXCL)
        os.unlink('one')
        kept.append(file)
        while True: os.write(file, bytes(1 << 16))
    except OSError: pass
return sum(os.fstat(file).st_size for file in kept)
"""
    reply = attack(sandbox, code)
    assert reply.kind == "value" and 0 < reply.value <= 8 * LIMITS.file_bytes, reply


def test_files_are_watched_while_the_grader_is_busy(sandbox):
    code = """
def write():
    time.sleep(0.2)
    for number in range(10**4): open(str(number), 'wb').write(bytes(1 << 18)), time.sleep(0.003)
threading.Thread(target=write, daemon=True).start()
return 1
"""
    body = "".join(f"    {line}\n" for line in code.strip().splitlines())
    with sandbox.open([f"import threading, time\ndef attack():\n{body}"]) as student:
        assert student.call("attack").value == 1
        time.sleep(1.5)  # the grader judges
        used = [usage.usage(sandbox._keeper.folder, 10**5)[0] for _ in range(2) if time.sleep(0.5) is None]
        assert LIMITS.file_bytes < used[0] == used[1]  # it wrote too much, and writes no more
        assert student.call("attack").value == 1  # a new process: the next call is not to blame


def test_the_time_of_a_whole_notebook(sandbox):
    cell = "import time\ndef slow(): time.sleep(0.4)\ndef quick(): return 1"
    with sandbox.open([cell], limits=Limits(phase_seconds=1.0)) as student:
        replies = [student.call("slow").kind for _ in range(4)]
        assert replies[0] == "value" and replies[-1] == "exhausted", replies
        assert student.call("quick").kind == "exhausted"


def test_a_tree_deeper_than_any_path(sandbox):
    code = "for n in range(1500):\n    os.mkdir('d' * 100)\n    os.chdir('d' * 100)\nos.mkdir('locked', 0)\nreturn 1"
    reply = attack(sandbox, code, files=10**6)
    assert reply.kind == "value", reply


def test_processor_time_is_limited(sandbox):
    reply = attack(sandbox, "while True: pass", seconds=20, cpu_seconds=1)
    assert reply.kind == "timeout" and "CPU" in reply.text


def test_patched_libraries_stay_in_their_process(sandbox):
    code = """
import builtins, json, numpy, torch
from dca_lab.grading import values
class Agreeable:
    def __eq__(self, other): return True
    def __array__(self, *_, **__): return numpy.ones(3)
torch.allclose = torch.equal = numpy.allclose = builtins.all = builtins.isinstance = lambda *_, **__: True
return Agreeable()
"""
    assert attack(sandbox, code).kind != "value"
    code = """
from dca_lab.grading import values
from dca_lab.grading.sandbox.inside import child
values.encode = child.values.encode = lambda answer: b'DCA1' + bytes(1000)
return 1
"""
    assert attack(sandbox, code).kind == "refused"


@pytest.mark.parametrize(
    "claim",
    [
        "7",
        "{'kind': 'trusted', 'value': 1}",
        "{'kind': ['value']}",
        "{'kind': 'raised', 'text': 5, 'line': -1, 'arguments': 3}",
        "{'cell': 1}",
        "{'errors': 3, 'names': {'a': 1}}",
    ],
)
def test_forged_answers_are_claims(sandbox, claim):
    """The student answers in place of the serving loop, with the right name of the request."""
    cell = f"""
import sys
from dca_lab.grading.sandbox.inside import child
honest = child.send
def lie(channel, name, answer, limit):
    honest(channel, name, {claim}, limit)
child.send = lie
def attack(): return 1
"""
    with sandbox.open([cell]) as student:
        reply = student.call("attack")
    # A lie while the cells run ends the process; then only definitions are run, and the function is graded as it is.
    assert reply.kind != "value" or (reply.value == 1 and student.skipped == {1})
    assert isinstance(reply.text, str) and isinstance(reply.arguments, (tuple, type(None)))
    assert all(isinstance(name, str) for name in student.names)


def test_nothing_is_left_over(sandbox):
    """A thread, a detached process, a file: gone with the process."""
    code = "threading.Thread(target=time.sleep, args=(100,)).start()\nopen('left', 'w').write('x')\nreturn os.getcwd()"
    assert attack(sandbox, code).kind == "value"
    pid = sandbox._student._pid
    assert pid is None or not Path(f"/proc/{pid}").exists()


def test_the_grader_is_killed(tmp_path):
    """kill -9 of the grader: zygotes and children end too, and their private folders go."""
    levels = [level for level, reason in available_levels().items() if not reason]
    script = tmp_path / "grader.py"
    script.write_text(
        "import os, sys\nfrom dca_lab.grading.sandbox import Sandbox\nkept = []\n"
        "for level in sys.argv[1:]:\n"
        "    kept += [Sandbox(level=level)]\n"
        "    kept += [kept[-1].open(['def f(): return 1'])]\n"
        "    keeper = kept[-2]._keeper\n"
        "    print(keeper.pid, kept[-1]._pid, keeper._private, keeper._top, flush=True)\n"
        "os.kill(os.getpid(), 9)\n",
        encoding="utf-8",
    )
    line = [sys.executable, script, *levels]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(PACKAGE.parent), *filter(None, sys.path)]),
    }
    run = subprocess.run(line, capture_output=True, text=True, env=environment, timeout=120)
    assert run.returncode == -9, run.stderr
    for level, told in zip(levels, run.stdout.splitlines(), strict=True):
        zygote, child, private, top = told.split()
        for _ in range(200):
            if not running(zygote) and not running(child):
                break
            time.sleep(0.05)
        assert not running(zygote) and not running(child)
        assert level == "bubblewrap" or not Path(private).exists()
        for folder in (private, top):
            shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.skipif(landlock.version() == 0, reason="no Landlock here")
def test_bubblewrap_without_landlock(monkeypatch, goals):
    """Kernels without Landlock: the mounts alone must do."""
    if available_levels()["bubblewrap"]:
        pytest.skip(available_levels()["bubblewrap"])
    monkeypatch.setattr("dca_lab.grading.sandbox.keeper.landlock.version", lambda: 0)
    with Sandbox(level="bubblewrap", limits=LIMITS) as sandbox:
        assert [(name, reply) for name, fine, reply in denied(sandbox, goals) if not fine] == []
        assert attack(sandbox, "open('../left', 'w').write('x')\nreturn 1").value == 1
        assert attack(sandbox, "return os.listdir('..'), os.listdir('/')").value[0] == ["work"]
