"""To return what is no answer: objects that call themselves equal, values that are too much, too deep or too odd."""

from attacks import Attack, cell, function


def returns(name: str, tries: str, expression: str, before: str = "") -> Attack:
    return function(name, tries, f"return {expression}", before=before)


AGREEABLE = """
class Agreeable:
    def __eq__(self, other): return True
    def __bool__(self): return True
    def __array__(self, *_, **__): return np.asarray(WANTED)
    def __float__(self): return 1.0
    def __len__(self): return 1
    def __getattr__(self, name): return self
    def __call__(self, *_, **__): return self
WANTED = [0.0]
"""
SUBCLASS = """
class Tensor(torch.Tensor):
    def __eq__(self, other): return torch.ones(self.shape, dtype=torch.bool)
    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None): return True
class Array(np.ndarray):
    def __eq__(self, other): return np.bool_(True)
    def __array_ufunc__(self, *_, **__): return np.bool_(True)
    def __array_function__(self, *_, **__): return True
class Number(float):
    def __eq__(self, other): return True
    def __sub__(self, other): return 0.0
    __rsub__ = __sub__
class Text(str):
    def __eq__(self, other): return True
    def __hash__(self): return 0
class Rows(list):
    def __eq__(self, other): return True
    def __iter__(self): return iter([0.0])
class Evil:
    def __reduce__(self): return os.system, ('touch ' + PLACES['mark'],)
"""

ATTACKS = [
    returns("agreeable object", "be equal to everything", "Agreeable()", AGREEABLE),
    returns("tensor subclass", "a tensor that is equal to everything", "x.as_subclass(Tensor)", SUBCLASS),
    returns("array subclass", "an array that is equal to everything", "x.numpy().view(Array)", SUBCLASS),
    returns("number subclass", "a number that is equal to everything", "Number(3)", SUBCLASS),
    returns("list subclass", "a list that is equal to everything", "Rows([1.0])", SUBCLASS),
    returns(
        "text subclass", "text as a key that is equal to everything", "{Text('a'): 1, Text('b'): 2}", SUBCLASS
    ),
    returns("pickle", "run code in the grader when it is read", "Evil()", SUBCLASS),
    returns("object array", "pickles inside an array", "np.array([Evil()], dtype=object)", SUBCLASS),
    returns(
        "memory of others",
        "a tensor over memory that is not its own",
        "torch.empty(0).set_(x.untyped_storage(), 2**20, (4,))",
    ),
    returns("stride zero", "a terabyte that is one number", "torch.zeros(1).expand(2**40)"),
    returns("NaN", "be neither equal nor different", "x * math.nan"),
    returns(
        "NaN with a message",
        "bits inside of a NaN",
        "np.full(tuple(x.shape), np.frombuffer(b'\\x01secret\\x7f', '<f8')[0])",
    ),
    returns("infinity", "swallow every difference", "x + math.inf"),
    returns("complex", "hide in the other half of a number", "x.to(torch.complex128) + 1j"),
    returns("generator", "answer for ever", "(number for number in iter(int, 1))"),
    returns("function", "answer later", "lambda *_: True"),
    returns("module", "send a network", "torch.nn.Linear(1, 1)"),
    returns("huge integer", "an integer that no text can hold", "10 ** 5000"),
    returns("large integers", "integers that no float can hold", "[10 ** 400, 0.5, 2 ** 63, -1]"),
    returns(
        "deep lists",
        "lists nested a hundred thousand deep",
        "deep",
        "deep = []\nfor _ in range(10**5): deep = [deep]",
    ),
    returns("own list", "a list that holds itself", "me", "me = []\nme.append(me)"),
    returns(
        "hostile keys", "keys that are no keys", "{(1, 2): 1, math.nan: 2, 'score': 1e9, '__class__': 'x'}"
    ),
    returns(
        "hostile text", "text that breaks pages", "'</pre><script>alert(1)</script>\\0\\x1b[2J\\u202e=cmd()'"
    ),
    returns("half a character", "text that no file can hold", "'\\ud800'"),
    returns("many empty lists", "keep the judge busy", "[[] for _ in range(2_000_000)]"),
    returns("many dictionaries", "keep the judge busy", "[{} for _ in range(1_000_000)]"),
    returns("many small arrays", "keep the judge busy", "[np.zeros(1) for _ in range(10_000)]"),
    returns(
        "fat answer",
        "let the grader widen 60 MB of 8-bit numbers",
        "torch.zeros(60 << 20, dtype=torch.float8_e5m2)",
    ),
    returns("reply of a gigabyte", "fill the grader's memory", "torch.zeros(1 << 27)"),
    returns("shape without numbers", "a shape that overflows", "np.zeros((0, 2**40))"),
    cell(
        "own arguments",
        "shrink the argument, so that less has to be right",
        """
        class Shrinking:
            def __new__(cls, *_): return torch.zeros(0)
        torch.from_numpy = torch.tensor = Shrinking
    """,
    ),
]
