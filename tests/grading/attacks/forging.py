"""To forge what goes to the grader: claims in the right form, frames for other requests, bytes that are bombs."""

import textwrap

from attacks import Attack
from attacks.patching import patched

LOOP = "from dca_lab.grading.sandbox.inside import child\nfrom dca_lab.grading import values\nhonest = child.send\n"


def forged(name: str, tries: str, answer: str, **more) -> Attack:
    """The answer to a call of `double` is replaced by `answer`, under the right name of the request."""
    source = LOOP + textwrap.dedent(f"""
        def lie(channel, name, said, limit):
            if ASKED:
                ASKED.clear()
                said = {answer}
            honest(channel, name, said, limit)
        child.send = lie
        ASKED = []
    """)
    return patched(name, tries, source, double="def double(x):\n    ASKED.append(1)\n    return x\n", **more)


RAW = LOOP + textwrap.dedent("""
    import stat, struct, gc
    def line():
        return next(number for number in range(3, 100) if is_socket(number))
    def is_socket(number):
        try: return stat.S_ISSOCK(os.fstat(number).st_mode)
        except OSError: return False
    def frame(name, data):
        os.write(line(), struct.pack('<16sQ', name, len(data)) + data)
    def request():
        frame = sys._getframe()
        while frame and 'channel' not in frame.f_locals: frame = frame.f_back
        return frame.f_locals['name']
    GOOD = values.encode({'kind': 'value', 'value': 1.0})
    OLD = []
""")


def raw(name: str, tries: str, body: str, **more) -> Attack:
    double = f"def double(x):\n{textwrap.indent(textwrap.dedent(body).strip(), '    ')}\n    return x\n"
    return patched(name, tries, RAW, double=double, **more)


ATTACKS = [
    forged(
        "claim of a score",
        "say how many points there are",
        "{'kind': 'value', 'value': 1, 'fraction': 1.0, 'points': 1e9, 'score': 1}",
    ),
    forged("claim of another kind", "be a kind that does not exist", "{'kind': 'right', 'value': True}"),
    forged(
        "array as a kind", "make the grader stumble over a comparison", "{'kind': np.zeros(2), 'value': 1}"
    ),
    forged(
        "tensor as a kind",
        "make the grader stumble over a comparison",
        "{'kind': torch.zeros(2), 'value': 1}",
    ),
    forged("no dictionary", "answer with a list", "[1, 2, 3]"),
    forged(
        "words that are arrays",
        "make the grader stumble over types",
        "{'kind': 'raised', 'exception': np.zeros(3), 'text': [[]], 'line': np.int64(3), 'arguments': {'a': torch.ones(2)}}",
    ),
    forged("missing function", "say that it is not there", "{'kind': 'missing'}"),
    forged("timeout claimed", "say that it took too long", "{'kind': 'timeout'}"),
    forged(
        "empty arguments",
        "hide that the argument was changed",
        "{'kind': 'value', 'value': 1.0, 'arguments': ()}",
    ),
    forged(
        "arguments of 60 MB",
        "keep the judge busy",
        "{'kind': 'value', 'value': 1.0, 'arguments': (torch.zeros(60 << 20, dtype=torch.float8_e5m2),)}",
    ),
    forged(
        "arguments of many lists",
        "keep the judge busy",
        "{'kind': 'value', 'value': 1.0, 'arguments': ([[] for _ in range(10**6)],)}",
    ),
    raw("wrong name", "answer a request that nobody made", "frame(bytes(16), GOOD)"),
    raw(
        "answers ahead of time",
        "answer the next requests before they come",
        """
            frame(request(), values.encode({'kind': 'value', 'value': 2 * x}))
            for _ in range(5): frame(request(), GOOD)
            return x
        """,
        rest=False,
    ),
    raw(
        "replay",
        "answer with the name of an earlier request",
        "OLD.append(request())\nframe(OLD[0], GOOD)\nframe(OLD[0], GOOD)",
        rest=False,
    ),
    raw("half a frame", "never finish an answer", "os.write(line(), b'0123456789')\ntime.sleep(60)"),
    raw(
        "giant frame",
        "claim an answer of 2 ** 64 bytes",
        "os.write(line(), struct.pack('<16sQ', request(), 2**64 - 1))",
    ),
    raw(
        "no value",
        "bytes that are no value",
        "frame(request(), b'DCA1' + bytes(8) + b'{}' * 1000)\nos._exit(0)",
    ),
    raw(
        "tree bomb",
        "JSON nested a million deep",
        "frame(request(), struct.pack('<4sQ', b'DCA1', 10**6) + b'[' * 10**6)\nos._exit(0)",
    ),
    raw(
        "blob bomb",
        "an index of arrays that overlap",
        """
        index = b'{"0":{"dtype":"F32","shape":[4611686018427387904],"data_offsets":[0,8]}}'
        tree = struct.pack('<4sQ', b'DCA1', 9) + b'{"T":"0"}'
        frame(request(), tree + struct.pack('<Q', len(index)) + index + bytes(8))
        os._exit(0)
        """,
    ),
    raw("line closed", "close the line to the grader", "os.close(line())"),
    patched(
        "report of the cells",
        "lie about cells while they run",
        LOOP
        + """
def lie(channel, name, said, limit):
    for claim in ({'cell': []}, {'cell': np.zeros(2)}, {'errors': [{'cell': 1e9}, 3], 'names': {'double': 1}}):
        honest(channel, name, claim, limit)
child.send = lie
""",
        rest=False,
    ),
]
