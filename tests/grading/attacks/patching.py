"""To change what judges: libraries, the encoder, the checker, the serving loop. It is all in the wrong process."""

import textwrap

from attacks import FEW, IMPORTS, RELU, Attack

WRONG = "def double(x):\n    return x\n"


def patched(
    name: str, tries: str, source: str, *, double: str = WRONG, most: float = 0.0, rest: bool = True
) -> Attack:
    """Patches in the first cell, a wrong answer, and two honest ones."""
    return Attack(name, tries, (IMPORTS, RELU, FEW, textwrap.dedent(source), double), most, rest)


ATTACKS = [
    patched(
        "comparisons",
        "let every comparison be true",
        """
        import builtins
        yes = lambda *_, **__: True
        torch.equal = torch.allclose = np.array_equal = np.allclose = np.testing.assert_allclose = math.isclose = yes
        torch.Tensor.__eq__ = torch.Tensor.__le__ = yes
        builtins.all = builtins.any = yes
    """,
    ),
    patched(
        "libraries",
        "break json, struct, safetensors and time for the grader",
        """
        import json, struct, safetensors
        json.dumps = lambda *_, **__: '{"kind": "value", "value": true}'
        json.loads = safetensors.deserialize = lambda *_, **__: {}
        time.monotonic = time.time = lambda: 0.0
    """,
        rest=False,
    ),
    patched(
        "encoder",
        "send other bytes than the loop means to",
        """
        from dca_lab.grading import values
        from dca_lab.grading.sandbox.inside import child
        values.encode = child.values.encode = lambda answer: b'DCA1' + (2).to_bytes(8, 'little') + b'[]'
    """,
        rest=False,
    ),
    patched(
        "checker",
        "replace the check and what it asks",
        """
        import dca_lab.grading
        dca_lab.grading.lab_checks = lambda *_: lambda *_: True
        dca_lab.grading.points = dca_lab.grading.score = 6
        check = lambda *_: True
        assert check('double')
    """,
    ),
    patched(
        "grader in this process",
        "hunt for a grader beside the code, as otter and nbgrader have it",
        """
        import gc
        for thing in gc.get_objects():
            if type(thing).__name__ in ('Exercise', 'Score', 'Check', 'Notebook', 'GradingResults', 'Lab'):
                thing.points = thing.fraction = thing.score = 100
        for module in list(sys.modules.values()):
            for name in ('judge_exercise', 'difference', 'check', 'grade'):
                if name in vars(module): setattr(module, name, lambda *_, **__: None)
    """,
    ),
    patched(
        "tracer",
        "watch and change the serving loop",
        """
        def trace(frame, event, argument):
            if event == 'return' and frame.f_code.co_name == 'called':
                frame.f_locals['value'] = True
            return trace
        for frame in sys._current_frames().values():
            while frame: frame.f_trace, frame = trace, frame.f_back
        sys.settrace(trace)
        sys.setprofile(trace)
    """,
    ),
    patched(
        "names",
        "become a module that the loop uses",
        """
        sys.modules['dca_lab.grading.values'] = sys.modules['json'] = sys.modules[__name__]
        __builtins__['callable'] = lambda *_: True
        __name__ = 'dca_lab.grading.judge'
    """,
        rest=False,
    ),
]
