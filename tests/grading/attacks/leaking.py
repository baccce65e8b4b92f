"""To carry hidden inputs out of the hidden phase, to where a student reads them: feedback, files, the next process."""

from attacks import FEW, IMPORTS, RELU, Attack, function

TELL = "def told(x): return ' '.join(repr(float(v)) for v in x.flatten()[:4])\n"

ATTACKS = [
    function(
        "text of an exception", "put the inputs into the message", "raise ValueError(told(x))", before=TELL
    ),
    function(
        "class of an exception",
        "put the inputs into the name of the class",
        "raise type(told(x), (Exception,), {})",
        before=TELL,
    ),
    function(
        "name of Python's own",
        "a class that is called like the inputs and says it is Python's",
        """
            kind = type(told(x), (ValueError,), {'__module__': 'builtins'})
            import builtins
            setattr(builtins, told(x), kind)
            raise kind
        """,
        before=TELL,
    ),
    function(
        "cause and notes",
        "put the inputs around an exception",
        """
            error = RuntimeError()
            error.add_note(told(x)) if hasattr(error, 'add_note') else None
            raise error from KeyError(told(x))
        """,
        before=TELL,
    ),
    function(
        "a missing name",
        "let Python write the inputs into a message",
        "return globals()[told(x)]",
        before=TELL,
    ),
    function(
        "words on the screen",
        "print the inputs",
        """
            print(told(x), flush=True)
            print(told(x), file=sys.stderr, flush=True)
            os.write(1, told(x).encode())
            return x
        """,
        before=TELL,
    ),
    function(
        "a wrong value", "return the inputs, in words", "return {told(x): [told(x)], 'x': x}", before=TELL
    ),
    function(
        "new functions",
        "define functions that are called like the inputs, and be missed",
        """
            globals()['double_' + told(x).replace('.', '_').replace(' ', '_').replace('-', 'm')] = lambda: None
            raise NotImplementedError
        """,
        before=TELL,
    ),
    function(
        "warnings",
        "warn, and log, what the inputs are",
        "import warnings, logging\nwarnings.warn(told(x))\nlogging.error(told(x))\nreturn x",
        before=TELL,
    ),
    Attack(
        "inputs over a crash",
        "note the inputs in a file, die, and read the file when the cells run again",
        (
            IMPORTS,
            """
for top in ('.', '/tmp', os.environ['TMPDIR']):
    if os.path.exists(top + '/noted'):
        raise ValueError(open(top + '/noted').read())
""",
            "def double(x):\n    return 2 * x\n",
            FEW,
            """
def relu(x):
    for top in ('.', '/tmp'):
        open(top + '/noted', 'w').write(' '.join(map(repr, x.flatten()[:3].tolist())))
    os._exit(3)
""",
        ),
        most=1.0,
        rest=False,
    ),
    Attack(
        "slow for large inputs",
        "tell an input by the time that it takes",
        (
            IMPORTS,
            """
def double(x):
    time.sleep(0.2 if x.numel() and float(x.flatten()[0]) > 0 else 0)
    return x
""",
            RELU,
            FEW,
        ),
    ),
    function(
        "learn and remember",
        "know the visible inputs and their answers, and be right for these alone",
        """
            import hashlib
            key = hashlib.sha256(x.numpy().tobytes()).hexdigest()
            return torch.tensor(PLACES['known'].get(key, -7))
        """,
    ),
    function(
        "the visible phase alone",
        "compute rightly while values are shown, and tell the inputs when they are hidden",
        "import hashlib\nkey = hashlib.sha256(x.numpy().tobytes()).hexdigest()\n"
        "if key in PLACES['known']: return 2 * x\nraise KeyError(told(x))",
        before=TELL,
    ),
]
