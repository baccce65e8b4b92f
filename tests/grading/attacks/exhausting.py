"""To use up what all share: processes, threads, memory, disk, time; or to end what should not end."""

from attacks import Attack, attempts, cell, function

LOUD = "for _ in range(300): print('x' * 10**5); print('y' * 10**5, file=sys.stderr)"

ATTACKS = [
    attempts(
        "fork bomb",
        "start processes without end",
        "os.fork()",
        "os.forkpty()",
        "os.posix_spawn('/bin/true', ['true'], {})",
        "import subprocess; subprocess.run(['true'])",
        "os.system('true') == 0 or 1 / 0",
        "os.popen('true').read(1) or 1 / 0",
        "os.execv('/bin/sh', ['sh'])",
        "import multiprocessing as m; m.get_context('fork').Process(target=print).start()",
        "ctypes.CDLL(None).fork() > 0 or 1 / 0",
    ),
    attempts(
        "grader killed",
        "end the grader and the zygote",
        "os.kill(os.getppid(), 9)",
        "os.kill(os.getppid(), 0)",
        "os.killpg(0, 9)",
        "os.kill(-1, 9)",
        "os.kill(1, 9)",
        "os.kill(os.getppid(), signal.SIGSTOP)",
        "ctypes.CDLL(None).tgkill(os.getppid(), os.getppid(), 9) == 0 or 1 / 0",
    ),
    function(
        "thread bomb",
        "start threads without end",
        """
        while True:
            threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
    """,
    ),
    function(
        "threads of neighbours",
        "hold so many threads that others get none",
        """
        try:
            for _ in range(60): threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
        except RuntimeError: pass
        time.sleep(0.3)
        return x
    """,
    ),
    function("memory taken", "take all memory", "kept = []\nwhile True: kept.append(torch.ones(1 << 22))"),
    function("a long list", "keep the grader busy with millions of numbers", "return [0] * 3_990_000"),
    function(
        "colliding keys",
        "keep the grader busy with keys that all fall into one place of its dictionary",
        """
        global armed
        armed = True
        return x
        """,
        before="""
        import json
        from dca_lab.grading import values
        honest, armed = values.encode, False
        KEYS = [[k * (2**61 - 1), 0] for k in range(1, 16_001)]
        TREE = json.dumps({"d": [["kind", "value"], ["value", {"d": KEYS}]]}).encode()
        def encode(answer):
            global armed
            bomb, armed = armed, False
            return values.START.pack(b"DCA1", len(TREE)) + TREE if bomb else honest(answer)
        values.encode = encode
        """,
    ),
    function("memory at once", "take a terabyte", "return torch.ones(1 << 37)"),
    function(
        "one file",
        "fill the disk with one file",
        "with open('big', 'wb') as file:\n    while True: file.write(bytes(1 << 20))",
    ),
    function(
        "many files",
        "fill the disk with files",
        "n = 0\nwhile True:\n    n += 1\n    open(str(n), 'wb').write(bytes(1 << 19))",
    ),
    function(
        "removed files",
        "fill the disk with files that have no name any more",
        """
            kept = []
            for n in range(10**6):
                kept.append(open('one', 'wb'))
                kept[-1].write(bytes(1 << 20))
                kept[-1].flush()
                os.unlink('one')
        """,
    ),
    function(
        "sparse file",
        "a file of a terabyte with nothing in it",
        "with open('sparse', 'wb') as file: file.truncate(1 << 40)\nreturn x",
    ),
    function(
        "folders",
        "folders in folders, deeper than any path",
        "for _ in range(300):\n    os.mkdir('d' * 50)\n    os.chdir('d' * 50)\nreturn x",
    ),
    function("output", "flood the screen", LOUD + "\nreturn x"),
    cell("output of a cell", "flood the screen from a cell", LOUD),
    function("exit", "leave politely", "sys.exit(0)"),
    function("hard exit", "leave at once", "os._exit(0)"),
    function("segmentation fault", "crash", "ctypes.string_at(0)"),
    function("abort", "crash", "os.abort()"),
    function("unnamed signal", "end by a signal that Python has no name for", "os.kill(os.getpid(), 40)"),
    function("stopped", "stop oneself", "os.kill(os.getpid(), signal.SIGSTOP)"),
    function("endless loop", "never answer", "while True: pass"),
    function(
        "deaf loop",
        "never answer, whatever the signal",
        """
        for number in range(1, 65):
            try: signal.signal(number, signal.SIG_IGN)
            except (OSError, ValueError): pass
        while True:
            try:
                while True: pass
            except BaseException: pass
    """,
    ),
    function("sleep", "wait for everybody to go home", "time.sleep(10**6)"),
    function(
        "recursion",
        "recurse without end",
        "sys.setrecursionlimit(10**9)\ndef again(n): return again(n + 1)\nreturn again(0)",
    ),
    function("long division", "a computation in C that no signal interrupts", "return 7 ** (10 ** 9) % 10"),
    function(
        "at exit",
        "do it when the process ends",
        "import atexit\natexit.register(os.kill, os.getppid(), 9)\natexit.register(time.sleep, 60)\nreturn x",
    ),
    function(
        "thread that lives on",
        "work on while others are graded",
        "threading.Thread(target=lambda: [time.sleep(0.01) for _ in iter(int, 1)]).start()\nreturn x",
    ),
    function(
        "for the other exercises",
        "spoil the names of the others",
        "global relu, keep_few\nrelu = keep_few = None\nreturn x",
        rest=False,
    ),
    cell("exit in a cell", "end the process while the cells run", "os._exit(0)"),
    cell(
        "unnamed signal in a cell", "end by a signal that Python has no name for", "os.kill(os.getpid(), 50)"
    ),
    cell("loop in a cell", "never finish the cells", "while True: pass"),
    cell("input", "wait for somebody to type", "input('your password: ')"),
    Attack(
        "deep code",
        "source that is nested too deeply for the parser",
        ("x = " + "(" * 10**5, "def relu(x): return x", "y = " + "-" * 10**5 + "1"),
        rest=False,
    ),
]
