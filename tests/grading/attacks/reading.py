"""To read what only the grader may know: the seed, the checks, the solution, the work of others."""

from attacks import attempts, function

ATTACKS = [
    attempts(
        "results",
        "read the run's secret seed, the records and the grades",
        "open(PLACES['results'] + '/run.json').read()",
        "os.listdir(PLACES['results'] + '/records')",
        "open(PLACES['results'] + '/grades.csv').read()",
        "os.scandir(PLACES['results'] + '/feedback').__next__()",
    ),
    attempts(
        "lab",
        "read the hidden checks, the typical mistakes and the solved notebook",
        *(
            f"open(PLACES['lab'] + '/{name}').read()"
            for name in ("checks.py", "wrong.py", "right.py", "lab.ipynb")
        ),
        "sys.path.insert(0, PLACES['lab']); import checks",
        "sys.path.insert(0, PLACES['lab']); import measure",
    ),
    attempts(
        "neighbours",
        "read what others handed in",
        "os.listdir(PLACES['submissions'])",
        "[open(os.path.join(PLACES['submissions'], 'honest.ipynb')).read()]",
        "os.symlink(PLACES['submissions'], 'all'); os.listdir('all')",
        "os.link(PLACES['submissions'] + '/honest.ipynb', 'one'); open('one').read()",
        "assert __import__('glob').glob(PLACES['submissions'] + '/*')",
    ),
    attempts(
        "reference",
        "import the reference from the installed package",
        *(
            f"import dca_lab.{name}"
            for name in ("quantization", "pruning", "cost", "grading.judge", "grading.exercise")
        ),
        "from dca_lab.grading import Exercise",
        "sys.path.insert(0, os.path.dirname(PLACES['package'])); del sys.modules['dca_lab']; import dca_lab.pruning",
        """
        import importlib.util
        spec = importlib.util.spec_from_file_location('judge', PLACES['package'] + '/grading/judge.py')
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
        """,
    ),
    attempts(
        "sources",
        "read the package's sources wherever it may be installed",
        "open(PLACES['package'] + '/grading/judge.py').read()",
        "import importlib.resources; (importlib.resources.files('dca_lab') / 'pruning' / '__init__.py').read_text()",
        "import importlib.metadata; assert importlib.metadata.files('dca-lab')",
        "import pkgutil; assert pkgutil.get_data('dca_lab.grading', 'judge.py')",
        "import otter.api",  # an empty folder can be imported too: what counts is what is in it
        "import nbgrader.api",
        "import otter; assert os.listdir(otter.__path__[0])",
        """
        found = []  # two levels are enough for an installed package, all of them would take longer than a function may
        for folder in sys.path:
            for top, below, names in os.walk(folder):
                if top.count('/') - folder.count('/') >= 2:
                    below.clear()
                if 'dca_lab' in top and 'judge.py' in names or 'wrong.py' in names and 'labs' in top:
                    found.append(top)
        assert found
        """,
    ),
    function(
        "memory",
        "find the oracle, the cases or the seed in this process",
        """
        import gc
        for thing in gc.get_objects():
            if type(thing) is dict and ('oracle' in thing or 'expected' in thing and 'cases' in thing):
                return 2 * x
        if {'checks', 'wrong', 'measure', 'dca_lab.grading.exercise', 'dca_lab.grading.judge'} & set(sys.modules):
            return 2 * x
        frame = sys._getframe()
        while frame := frame.f_back:
            if {'oracle', 'expected', 'seed', 'lab', 'exercise'} & set(frame.f_locals):
                return 2 * x
        return x
        """,
    ),
    attempts(
        "proc",
        "look at other processes through /proc",
        "open('/proc/self/mem', 'r+b')",
        "open(f'/proc/{os.getppid()}/environ', 'rb').read()",
        "open(f'/proc/{os.getppid()}/cmdline', 'rb').read()",
        "open(f'/proc/{os.getppid()}/maps').read()",
        "os.listdir('/proc/self/root/root')",
        "assert any(name.isdigit() for name in os.listdir('/proc'))",
        "[open(f'/proc/{number}/stat').read() for number in range(1, 5)]",
        "os.readlink(f'/proc/{os.getppid()}/cwd')",
    ),
    attempts(
        "system calls",
        "open files past Python",
        """
        libc = ctypes.CDLL(None)
        assert libc.open((PLACES['lab'] + '/checks.py').encode(), 0) >= 0
        """,
        """
        libc = ctypes.CDLL(None)
        assert libc.syscall(257, -100, (PLACES['results'] + '/run.json').encode(), 0, 0) >= 0
        """,
        "import mmap; mmap.mmap(os.open(PLACES['lab'] + '/checks.py', os.O_RDONLY), 0)",
        "os.open(PLACES['lab'], os.O_PATH); os.listdir(os.open(PLACES['lab'], os.O_RDONLY))",
        "os.sendfile(1, os.open(PLACES['lab'] + '/checks.py', 0), 0, 10)",
        "np.fromfile(PLACES['lab'] + '/checks.py', dtype='u1')",
        "np.memmap(PLACES['lab'] + '/checks.py')",
        "torch.from_file(PLACES['lab'] + '/checks.py', size=10, dtype=torch.uint8)",
        "torch.load(PLACES['lab'] + '/checks.py')",
    ),
    attempts(
        "secrets in the environment",
        "find the seed among variables and arguments",
        "assert any('seed' in name.lower() or len(value) == 32 for name, value in os.environ.items())",
        "assert any('seed' in text.lower() for text in [*sys.argv, *sys.orig_argv])",
        "import __main__; assert hasattr(__main__, 'oracle')",
    ),
]
