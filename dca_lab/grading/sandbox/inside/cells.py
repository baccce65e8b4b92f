"""Runs the cells of a notebook one after another, and goes on after an error.

Idea: one mistake in one cell must not cost the functions of the other cells. How: a cell is split into its top-level
statements; after the first error only *definitions* of that cell still run (functions, classes, imports, constants),
because those are what the exercises need. Magics and shell escapes of notebooks become calls on a stand-in that does
nothing. Lines in errors are lines of the cell.

What this is *not*: a wall. Everything here happens in the student's own process and believes nobody.
"""

from __future__ import annotations
import __future__

import ast
import builtins
import linecache
import re
import sys
import types

RUN_THEIR_BODY = (
    "time",
    "timeit",
    "capture",
    "prun",
)  # cell magics around code; the others are text, such as %%html
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom)


class Shell:
    """Stands where IPython's shell stands in a notebook, and does nothing."""

    def __init__(self, cells: Cells) -> None:
        self._cells = cells

    def run_line_magic(self, magic: str, line: str, *_, **__) -> None:
        if magic == "time":
            exec(line, self._cells.names)

    def getoutput(self, *_, **__) -> list[str]:
        return []

    def __getattr__(self, name: str):
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *_, **__: None


class Cells:
    """The names that cells have defined so far, and the errors that they made.

    Examples
    --------
    >>> cells = Cells()
    >>> cells.run(1, "%matplotlib inline\\nprint(missing)\\ndef double(x): return 2 * x")
    >>> cells.names["double"](4), cells.errors[0]["line"], cells.errors[0]["exception"]
    (8, 2, 'NameError')
    """

    def __init__(self) -> None:
        self.module = types.ModuleType("__main__")
        self.names = vars(self.module)
        self.names["__builtins__"] = builtins
        self.errors: list[dict] = []
        self._flags = 0
        shell = Shell(self)
        builtins.get_ipython = lambda: shell
        builtins.display = lambda *_, **__: None

    def run(self, number: int, source: str, *, definitions_only: bool = False) -> None:
        """Run one cell. An error is noted in `errors`; nothing is raised, not even SystemExit."""
        file = f"cell {number}"
        failed = definitions_only
        try:
            source = without_cell_magic(source)
            statements = self._parsed(source, file).body
        except BaseException as error:
            self._note(number, error)
            return
        linecache.cache[file] = (len(source), None, source.splitlines(True), file)
        for statement in statements:
            if failed and not is_definition(statement):
                continue
            try:
                if isinstance(statement, ast.ImportFrom) and statement.module == "__future__":
                    for alias in statement.names:
                        self._flags |= getattr(__future__, alias.name).compiler_flag
                tree = ast.Module([statement], [])
                exec(compile(tree, file, "exec", flags=self._flags, dont_inherit=True), self.names)
            except BaseException as error:
                if not failed:
                    self._note(number, error)
                failed = True

    def _parsed(self, source: str, file: str) -> ast.Module:
        try:
            return ast.parse(source, file)
        except SyntaxError:
            return ast.parse(without_magics(source), file)

    def _note(self, number: int, error: BaseException) -> None:
        self.errors.append({"cell": number, **described(error)})

    def functions(self) -> list[str]:
        """Names of the functions that the cells defined, in their order."""
        found = []
        for name, value in list(self.names.items()):
            if isinstance(value, types.FunctionType) and value.__module__ == "__main__":
                found.append(name)
        return found


def is_definition(statement: ast.stmt) -> bool:
    """Whether a statement only defines a name: a function, a class, an import, a literal constant."""
    if isinstance(statement, DEFINITIONS):
        return True
    if not isinstance(statement, (ast.Assign, ast.AnnAssign)) or statement.value is None:
        return False
    try:
        ast.literal_eval(statement.value)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return False
    return True


def described(error: BaseException) -> dict:
    """Class, message and line of an error: the last line of it that lies in a cell."""
    line = getattr(error, "lineno", None) if isinstance(error, SyntaxError) else None
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename.startswith("cell "):
            line = trace.tb_lineno
        trace = trace.tb_next
    try:
        text = str(error)[:2000]
    except BaseException:
        text = ""
    return {"line": line, "exception": type(error).__name__[:200], "text": text}


def without_cell_magic(source: str) -> str:
    """The code of a cell that begins with ``%%``: the lines under ``%%time`` and its like, nothing under ``%%bash``.

    Examples
    --------
    >>> without_cell_magic("%%time\\nx = 1")
    '\\nx = 1'
    >>> without_cell_magic("%%bash\\nrm -r /")
    ''
    """
    found = re.match(r"\s*%%(\w+)[^\n]*", source)
    if not found:
        return source
    return "\n" * found[0].count("\n") + source[found.end() :] if found[1] in RUN_THEIR_BODY else ""


def without_magics(source: str) -> str:
    """The cell as Python: ``%magic``, ``!command`` and ``help?`` become calls on the shell's stand-in."""
    transformer = sys.modules.get("IPython.core.inputtransformer2")
    if transformer is not None:
        return transformer.TransformerManager().transform_cell(source)
    return re.sub(r"(?m)^([ \t]*)(?:[%!?].*|[\w.]+\?+[ \t]*)$", r"\1pass", source)
