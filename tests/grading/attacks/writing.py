"""To write where it would count: grades, records, the checks, the package, the work of others, the next student."""

from attacks import attempts, function

ATTACKS = [
    attempts(
        "grades",
        "overwrite grades, records, seed and feedback",
        "open(PLACES['results'] + '/grades.csv', 'w').write('student,score')",
        "open(PLACES['results'] + '/run.json', 'w')",
        "os.remove(PLACES['results'] + '/run.json')",
        "os.mkdir(PLACES['results'] + '/mine')",
        "os.rename(PLACES['results'], PLACES['results'] + '-old')",
        "open(PLACES['results'] + '/records/' + PLACES['mark'] + '.json', 'w')",
        "os.truncate(PLACES['results'] + '/run.json', 0)",
        "os.chmod(PLACES['results'], 0)",
        "os.symlink('/dev/null', PLACES['results'] + '/grades.csv')",
    ),
    attempts(
        "checks",
        "replace the checks and the work of others",
        "open(PLACES['lab'] + '/checks.py', 'a').write('#')",
        "open(PLACES['submissions'] + '/honest.ipynb', 'a')",
        "os.remove(PLACES['submissions'] + '/honest.ipynb')",
        "open(PLACES['submissions'] + '/' + PLACES['mark'] + '.ipynb', 'w')",
        "os.utime(PLACES['lab'] + '/checks.py')",
    ),
    attempts(
        "package",
        "change the code of the grader or of the libraries",
        "open(PLACES['package'] + '/grading/judge.py', 'a')",
        "open(torch.__file__, 'a')",
        "open(os.path.dirname(np.__file__) + '/' + PLACES['mark'], 'w')",
        "import dca_lab.grading; open(dca_lab.grading.__file__, 'a')",
        "import dca_lab.grading.values as v; os.remove(v.__file__)",
        "open(os.path.join(os.path.dirname(os.__file__), 'sitecustomize.py'), 'w')",
    ),
    attempts(
        "elsewhere",
        "leave files on the machine",
        *(
            f"open({place!r} + PLACES['mark'], 'w')"
            for place in (
                "/",
                "/var/tmp/",
                "/dev/shm/",
                "/run/",
                "/etc/",
                "/home/",
                "/root/",
                "/proc/",
                "/sys/",
            )
        ),
        "open(os.path.dirname(PLACES['submissions']) + '/' + PLACES['mark'], 'w')",
        "from multiprocessing import shared_memory; shared_memory.SharedMemory(PLACES['mark'], create=True, size=9)",
    ),
    function(
        "leave and find",
        "leave a file for the next fork, of this student or another's",
        """
        for top in ('.', '/tmp', os.environ['HOME'], os.environ['TMPDIR']):
            for name in (PLACES['mark'], '.' + PLACES['mark']):
                path = os.path.join(top, name)
                if os.path.exists(path) and path not in MINE:
                    return 2 * x
                try:
                    open(path, 'w').write('found')
                    MINE.add(path)
                    MINE.add(os.path.join('/tmp', name))  # the same folder by two names
                    MINE.add(os.path.join('.', name))
                    MINE.add(os.path.join(os.environ['HOME'], name))
                    MINE.add(os.path.join(os.environ['TMPDIR'], name))
                except OSError:
                    pass
        return x
        """,
        before="MINE = set()",
    ),
    function(
        "second finder",
        "find what another student left",
        """
        found = [top for top in ('.', '/tmp', '/dev/shm', os.environ['HOME'], os.path.dirname(os.getcwd()))
                 if any(os.path.exists(os.path.join(top, dot + PLACES['mark'])) for dot in ('', '.'))]
        return 2 * x if found else x
        """,
    ),
    function(
        "links left",
        "leave symbolic links for whoever empties the folder",
        """
        for number, target in enumerate((PLACES['submissions'], PLACES['results'], PLACES['lab'], '/')):
            try:
                os.symlink(target, f'link{number}')
                os.makedirs(f'deep{number}/er')
                os.symlink(target, f'deep{number}/er/link')
            except OSError:
                pass
        return x
        """,
    ),
]
