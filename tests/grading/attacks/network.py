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
        "import fcntl; fcntl.lockf(open(torch.__file__), fcntl.LOCK_SH | fcntl.LOCK_NB, 1, 5001)",
        *(
            f"import fcntl, struct; fcntl.fcntl(open(torch.__file__), {command}, struct.pack('hhqqi', 0, 0, 5001, 1, 0))"
            for command in (5, 6, 7, 36, 37, 38)  # POSIX's, and those of the open file
        ),
        "import fcntl; fcntl.fcntl(open(torch.__file__), 1036, (2).to_bytes(8, 'little'))",
    ),
    attempts(
        "pages of a shared file",
        "whisper hidden inputs through the memory of the system: which pages of a library are there",
        "file = os.open(torch.__file__, os.O_RDONLY); os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)",
        """
        file = os.open(torch.__file__, os.O_RDONLY)
        try: os.preadv(file, [bytearray(1)], 0, os.RWF_NOWAIT)
        except BlockingIOError: pass
        """,
        "file = os.open(torch.__file__, os.O_RDONLY); ctypes.CDLL(None).readahead(file, ctypes.c_long(0), 4096) and 1 / 0",
        """
        import mmap
        page = mmap.mmap(os.open(torch.__file__, os.O_RDONLY), 4096, mmap.MAP_PRIVATE)
        start = ctypes.c_void_p(ctypes.addressof(ctypes.c_char.from_buffer(page)))
        ctypes.CDLL(None).mincore(start, 4096, ctypes.create_string_buffer(1)) and 1 / 0
        """,
        "open('/proc/meminfo').read()",
        "os.statvfs('.')",
        "ctypes.CDLL(None).sysinfo(ctypes.create_string_buffer(1024)) and 1 / 0",
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
