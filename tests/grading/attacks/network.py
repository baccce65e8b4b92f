"""To reach another machine, another process, or another student."""

from attacks import attempts

ATTACKS = [
    attempts(
        "internet",
        "open sockets of every kind",
        "socket.socket()",
        "socket.socket(socket.AF_INET6)",
        "socket.socket(socket.AF_INET, socket.SOCK_DGRAM)",
        "socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)",
        "socket.create_connection(('127.0.0.1', 22), 1)",
        "import urllib.request; urllib.request.urlopen('http://127.0.0.1')",
        "socket.getaddrinfo('example.org', 80)",
        "assert ctypes.CDLL(None).socket(2, 1, 0) >= 0",
    ),
    attempts(
        "sockets of this machine",
        "talk to processes of this machine",
        "socket.socket(socket.AF_UNIX)",
        "socket.socketpair()",
        "socket.socket(socket.AF_UNIX).connect('\\0' + PLACES['mark'])",
        "socket.socket(16, 3, 0)",
        "import multiprocessing; multiprocessing.get_context('spawn').Queue()",
        "os.mkfifo('pipe')",
    ),
    attempts(
        "lock on a shared file",
        "whisper hidden inputs to an accomplice who is graded at the same time: a lock is seen by both",
        "import fcntl; fcntl.flock(open(torch.__file__), fcntl.LOCK_EX | fcntl.LOCK_NB)",
        "import fcntl; fcntl.fcntl(open(torch.__file__), fcntl.F_SETLEASE, fcntl.F_RDLCK)",
    ),
    attempts(
        "signal through a pipe",
        "let the kernel send SIGKILL to the grader when a pipe has data (F_SETOWN, F_SETSIG, O_ASYNC)",
        """
        import fcntl
        end, start = os.pipe()
        fcntl.fcntl(end, 8, os.getppid())
        """,
        """
        import fcntl
        end, start = os.pipe()
        fcntl.fcntl(end, 10, 9)
        """,
        """
        import fcntl, struct
        end, start = os.pipe()
        fcntl.fcntl(end, 15, struct.pack('ii', 1, os.getppid()))
        """,
        """
        import fcntl, struct
        for number in range(3, 100):
            try:
                fcntl.ioctl(number, 0x8902, struct.pack('i', os.getppid()))
                break
            except OSError: pass
        else: raise OSError
        """,
    ),
]
