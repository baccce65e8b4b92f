"""A class that never was: a toy lab, notebooks of people who worked alone, and records as the grader writes them."""

import random
import re
import textwrap
from pathlib import Path

from dca_lab.grading.answers import Answer
from dca_lab.grading.exercise import Case, Exercise, Lab

SETUP = "import math\nimport numpy as np\nimport torch\nfrom dca_lab.grading import lab_checks\ncheck = lab_checks('toy')"
# Each exercise: its signature, then the ways to write each of its steps, as a class of people would.
EXERCISES = {
    "affine_params(x_min, x_max, bits)": (
        (
            "lo = min(x_min, 0.0)\nhi = max(x_max, 0.0)",
            "x_min, x_max = min(0.0, x_min), max(0.0, x_max)\nlo, hi = x_min, x_max",
            "lo = x_min if x_min < 0 else 0.0\nhi = x_max if x_max > 0 else 0.0",
            "if x_min > 0:\n    x_min = 0.0\nif x_max < 0:\n    x_max = 0.0\nlo, hi = x_min, x_max",
        ),
        (
            "levels = 2**bits - 1",
            "levels = (1 << bits) - 1",
            "levels = math.pow(2, bits) - 1",
            "top = 2**bits\nlevels = top - 1",
        ),
        (
            "scale = (hi - lo) / levels",
            "span = hi - lo\nscale = span / levels",
            "scale = hi / levels - lo / levels",
        ),
        (
            "if scale == 0:\n    return 1.0, 0",
            "scale = scale or 1.0",
            "if hi == lo:\n    scale = 1.0",
            "scale = scale if scale > 0 else 1.0",
        ),
        (
            "return scale, int(round(-lo / scale))",
            "zero = round(-lo / scale)\nreturn float(scale), int(zero)",
            "zero = int(np.rint(0 - lo / scale))\nreturn scale, max(0, min(levels, zero))",
            "z = np.clip(np.round(-lo / scale), 0, levels)\nreturn scale, int(z)",
        ),
    ),
    "quantize(x, scale, zero_point, bits)": (
        (
            "q = np.round(x / scale) + zero_point",
            "q = np.rint(np.asarray(x) / scale + zero_point)",
            "q = torch.round(torch.as_tensor(x) / scale).numpy() + zero_point",
            "q = [round(float(v) / scale) + zero_point for v in x]\nq = np.array(q)",
        ),
        (
            "return np.clip(q, 0, 2**bits - 1).astype(np.uint8)",
            "q = np.minimum(np.maximum(q, 0), 2**bits - 1)\nreturn q.astype('uint8')",
            "q[q < 0] = 0\nq[q > 2**bits - 1] = 2**bits - 1\nreturn np.uint8(q)",
            "top = (1 << bits) - 1\nreturn np.array([min(max(v, 0), top) for v in q], dtype=np.uint8)",
        ),
    ),
    "dequantize(q, scale, zero_point)": (
        (
            "return scale * (q.astype(np.float32) - zero_point)",
            "return (np.asarray(q, dtype=np.float32) - zero_point) * scale",
            "shifted = q.astype(int) - zero_point\nreturn (scale * shifted).astype(np.float32)",
            "return np.array([(float(v) - zero_point) * scale for v in q])",
        ),
    ),
    "sqnr_db(x, y)": (
        (
            "noise = x - y",
            "noise = np.subtract(x, y)",
            "noise = np.asarray(x) - np.asarray(y)",
            "noise = torch.tensor(x) - torch.tensor(y)",
        ),
        (
            "signal_power = np.mean(x**2)\nnoise_power = np.mean(noise**2)",
            "signal_power = (x * x).sum()\nnoise_power = (noise * noise).sum()",
            "signal_power = np.linalg.norm(x) ** 2\nnoise_power = np.linalg.norm(noise) ** 2",
            "signal_power = float(np.dot(x, x))\nnoise_power = float(np.dot(noise, noise))",
        ),
        (
            "if noise_power == 0:\n    return math.inf",
            "if not noise_power > 0:\n    return float('inf')",
            "if np.isclose(noise_power, 0):\n    return np.inf",
        ),
        (
            "return 10 * np.log10(signal_power / noise_power)",
            "ratio = signal_power / noise_power\nreturn float(10.0 * math.log10(ratio))",
            "return 10 * (math.log10(signal_power) - math.log10(noise_power))",
            "return 10 * math.log(signal_power / noise_power, 10)",
        ),
    ),
    "pack_int4(values)": (
        (
            "values = np.asarray(values, dtype=np.uint8)",
            "values = np.array(values).astype('uint8')",
            "values = list(int(v) for v in values)",
        ),
        (
            "if len(values) % 2:\n    values = np.append(values, 0)",
            "values = np.pad(values, (0, len(values) & 1))",
            "if len(values) % 2 == 1:\n    values = np.concatenate([values, [0]])",
            "odd = len(values) % 2\nvalues = list(values) + [0] * odd",
        ),
        (
            "low, high = values[0::2], values[1::2]\nreturn np.asarray(low | (high << 4), dtype=np.uint8)",
            "out = []\nfor i in range(0, len(values), 2):\n    out.append(values[i] + 16 * values[i + 1])\n"
            "return np.array(out, dtype=np.uint8)",
            "pairs = np.reshape(values, (-1, 2))\nreturn (pairs[:, 0] + pairs[:, 1] * 16).astype(np.uint8)",
            "n = len(values) // 2\nout = np.zeros(n, dtype=np.uint8)\nfor i in range(n):\n"
            "    out[i] = (values[2 * i + 1] << 4) | values[2 * i]\nreturn out",
        ),
    ),
    "per_channel(w, bits)": (
        (
            "top = 2 ** (bits - 1) - 1",
            "top = (1 << (bits - 1)) - 1",
            "levels = 2**bits\ntop = levels // 2 - 1",
        ),
        (
            "peak = np.abs(w).max(axis=1)",
            "peak = np.max(np.abs(w), axis=1)",
            "peak = np.array([max(abs(row.min()), abs(row.max())) for row in w])",
            "peak = np.maximum(w.max(axis=1), -w.min(axis=1))",
        ),
        (
            "peak[peak == 0] = top\nscale = peak / top",
            "scale = np.where(peak > 0, peak / top, 1.0)",
            "scale = peak / top\nfor i in range(len(scale)):\n    if scale[i] == 0:\n        scale[i] = 1.0",
            "scale = peak / top\nscale = np.maximum(scale, np.finfo(float).tiny)",
        ),
        (
            "q = np.round(w / scale[:, None]).astype(np.int8)\nreturn q, scale",
            "q = np.empty(w.shape, dtype=np.int8)\nfor i, row in enumerate(w):\n"
            "    q[i] = np.rint(row / scale[i])\nreturn q, scale",
            "w = w.T / scale\nreturn np.rint(w).T.astype('int8'), scale",
            "q = np.clip(np.rint(w / scale.reshape(-1, 1)), -top, top)\nreturn q.astype(np.int8), scale",
        ),
    ),
}


def notebook(body) -> list[str]:
    """The cells of a notebook; `body` gives the lines of an exercise from its ways of writing each step."""
    cells = [SETUP]
    for signature, steps in EXERCISES.items():
        name = signature.split("(")[0]
        doc = f'"""What {name} gives.\n\nParameters and returns are told in the notebook.\n"""\n# 1. widen\n# 2. count\n'
        cells += [f"def {signature}:\n" + textwrap.indent(doc + body(steps), "    "), f'check("{name}")']
    return cells


SKELETON = notebook(lambda steps: 'raise NotImplementedError("write me")')


def alone(seed: int) -> list[str]:
    """A student who worked alone: of each step one way, with names of their own."""
    chance = random.Random(seed)
    cells = notebook(lambda steps: "\n".join(chance.choice(ways) for ways in steps))
    return [renamed(cell, f"_{seed}") for cell in cells]


def renamed(cell: str, suffix: str) -> str:
    names = "lo|hi|levels|top|scale|zero|span|noise|signal_power|noise_power|ratio|peak|out|pairs|low|high|odd|shifted"
    return re.sub(rf"(?<!\.)\b({names})(?:_\d+)?\b(?!=[^=])", rf"\1{suffix}", cell)


def class_of(size: int, start: int = 0) -> dict[str, list[str]]:
    return {f"student_{i:03d}": alone(start + i) for i in range(size)}


def lab(folder: Path, *, title: str = "A network in integers") -> Lab:
    """A lab of three exercises; only the reports' side of it is used, so its oracles are never asked."""
    points = {"affine_params": 2, "quantize": 3, "smallest_file": 5}
    exercises = tuple(
        Exercise(name, worth, cases=lambda rng, constants: [Case((1.0,))], oracle=abs)
        for name, worth in points.items()
    )
    message = "The range was not widened to contain zero: try `x_min = 3`."
    wrong = (Answer("affine_params", "not_widened", message, abs, ""),)
    return Lab("toy", folder, title, exercises, (), {"bits": (4, 3)}, wrong, (), "d" * 64)


def entry(points: float, out_of: float, **fields) -> dict:
    """One exercise of a record."""
    outcome = "right" if points == out_of else "partial" if points else "wrong"
    public = {"passed": points == out_of, "message": "", "mistake": None}
    return {
        "points": points,
        "out_of": out_of,
        "message": outcome,
        "mistake": None,
        "outcome": outcome,
        "public": public,
        **fields,
    }


def record(student: str, *entries: dict, **fields) -> dict:
    """A record; `entries` belong to the lab's exercises in their order."""
    names = ("affine_params", "quantize", "smallest_file")
    exercises = dict(zip(names, entries or (entry(2, 2), entry(3, 3), entry(5, 5)), strict=True))
    return {
        "student": student,
        "digest": "ab" * 32,
        "lab": "toy",
        "lab_digest": "d" * 64,
        "level": "bubblewrap",
        "outcome": "graded",
        "score": sum(one["points"] for one in exercises.values()),
        "out_of": 10,
        "exercises": exercises,
        "notes": [],
        "errors": [],
        "constants": {"bits": 4},
        "seconds": 1.25,
        **fields,
    }


EVIL = "<script>alert(1)</script><img src=x onerror=alert(1)>\x1b[31m\x00\u202e\ud800 {{ 7*7 }} `</code><b>x`"


def hostile() -> dict:
    """A record in which everything that a submission can influence is as bad as it can be."""
    nan, long = float("nan"), "A" * 1_000_000
    worst = entry(
        nan,
        2,
        message=EVIL + long,
        mistake=EVIL,
        outcome=EVIL,
        public={"passed": "no", "message": EVIL + long, "mistake": EVIL},
    )
    fields = {
        "score": nan,
        "notes": [EVIL, "=cmd|' /C calc'!A0", long, None, 7] * 50,
        "errors": [{"cell": 10**400, "line": -3, "exception": EVIL, "text": EVIL + long}, EVIL, None] * 50,
        "constants": {EVIL: EVIL},
        "digest": EVIL,
        "level": "=1+1",
        "seconds": float("inf"),
    }
    return record(f'=HYPERLINK("http://x"){EVIL}', worst, entry(float("inf"), 3), entry(-1e308, 5), **fields)
