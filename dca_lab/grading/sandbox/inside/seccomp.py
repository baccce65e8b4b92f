"""A filter on system calls: what a student's process may ask of the kernel.

Idea: whatever a program does to the world, it does through a system call, and the kernel runs a small program of ours
before each one (seccomp, mode filter). How: the filter is a list of steps for a toy processor (BPF): load the number of
the call, compare, answer. The answers here: *allow*; *EPERM*, an ordinary error, for what is forbidden; *ENOSYS*, "this
kernel has no such call", for everything newer than the calls reviewed here (the C library then takes an older way);
*kill* for calls in another machine language, whose numbers mean other things.

Forbidden are: sockets; new processes and programs (threads are allowed); looking into, tracing and signalling other
processes; shared memory and queues that outlive a process; mounts and namespaces; changes of owner, mode and times of
files (Landlock does not cover those); watching files; priorities; the calls that only an administrator needs; and what
lets two processes that read the same library talk: locks and hints on a file, the state of its pages in memory, how much
memory and disk is free.

What this is *not*: a rule about files. Which file may be opened is decided by Landlock or by the mounts. Nor is it the end
of every whisper: how long something takes depends on what others do. Therefore hidden inputs are of one file alone.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct

# architecture -> (its code in the filter, the numbers in the order of NAMES; None where it has no such call)
ARCHITECTURES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}
NEWEST = 450  # set_mempolicy_home_node, Linux 5.17: later calls have the same number on every architecture
X32 = 0x40000000  # x86_64 calls of the x32 dialect carry this bit

FORBIDDEN = {
    # network
    "socket": (41, 198), "socketpair": (53, 199), "connect": (42, 203), "accept": (43, 202), "accept4": (288, 242),
    "bind": (49, 200), "listen": (50, 201),
    # new processes and programs
    "fork": (57, None), "vfork": (58, None), "execve": (59, 221), "execveat": (322, 281),
    # other processes
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "process_madvise": (440, 440), "process_mrelease": (448, 448), "kcmp": (312, 272), "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438), "pidfd_send_signal": (424, 424), "tkill": (200, 130), "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240), "setpriority": (141, 140), "ioprio_set": (251, 30),
    "sched_setscheduler": (144, 119), "sched_setparam": (142, 118), "sched_setattr": (314, 274),
    "sched_setaffinity": (203, 122), "migrate_pages": (256, 238), "move_pages": (279, 239),
    # memory and queues that stay when the process is gone
    "memfd_create": (319, 279), "memfd_secret": (447, 447), "shmget": (29, 194), "shmat": (30, 196),
    "shmctl": (31, 195), "shmdt": (67, 197), "semget": (64, 190), "semop": (65, 193), "semctl": (66, 191),
    "semtimedop": (220, 192), "msgget": (68, 186), "msgsnd": (69, 189), "msgrcv": (70, 188), "msgctl": (71, 187),
    "mq_open": (240, 180), "mq_unlink": (241, 181), "mq_timedsend": (242, 182), "mq_timedreceive": (243, 183),
    "mq_notify": (244, 184), "mq_getsetattr": (245, 185),
    # mounts and namespaces
    "mount": (165, 40), "umount2": (166, 39), "unshare": (272, 97), "setns": (308, 268), "pivot_root": (155, 41),
    "chroot": (161, 51), "move_mount": (429, 429), "open_tree": (428, 428), "fsopen": (430, 430),
    "fsconfig": (431, 431), "fsmount": (432, 432), "fspick": (433, 433), "mount_setattr": (442, 442),
    # files: owner, mode, times, attributes, handles, watching, devices
    "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "chown": (92, None), "fchown": (93, 55),
    "lchown": (94, None), "fchownat": (260, 54), "utime": (132, None), "utimes": (235, None),
    "futimesat": (261, None), "utimensat": (280, 88), "setxattr": (188, 5), "lsetxattr": (189, 6),
    "fsetxattr": (190, 7), "removexattr": (197, 14), "lremovexattr": (198, 15), "fremovexattr": (199, 16),
    "truncate": (76, 45), "mknod": (133, None), "mknodat": (259, 33), "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265), "inotify_init": (253, None), "inotify_init1": (294, 26),
    "inotify_add_watch": (254, 27), "fanotify_init": (300, 262), "fanotify_mark": (301, 263), "sync": (162, 81),
    "syncfs": (306, 267), "flock": (73, 32), "splice": (275, 76), "vmsplice": (278, 75), "tee": (276, 77),
    # what is in memory of a file that others read, too; what is free of memory and disk
    "fadvise64": (221, 223), "mincore": (27, 232), "readahead": (187, 213), "sysinfo": (99, 179),
    "statfs": (137, 43), "fstatfs": (138, 44), "ustat": (136, None),
    # deep doors of the kernel
    "bpf": (321, 280), "perf_event_open": (298, 241), "add_key": (248, 217), "request_key": (249, 218),
    "keyctl": (250, 219), "io_uring_setup": (425, 425), "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427), "userfaultfd": (323, 282), "personality": (135, 92), "modify_ldt": (154, None),
    "iopl": (172, None), "ioperm": (173, None), "uselib": (134, None), "sysfs": (139, None), "_sysctl": (156, None),
    "lookup_dcookie": (212, 18), "nfsservctl": (180, 42), "create_module": (174, None),
    # the administrator's
    "setuid": (105, 146), "setgid": (106, 144), "setreuid": (113, 145), "setregid": (114, 143),
    "setresuid": (117, 147), "setresgid": (119, 149), "setfsuid": (122, 151), "setfsgid": (123, 152),
    "setgroups": (116, 159), "capset": (126, 91), "reboot": (169, 142), "kexec_load": (246, 104),
    "kexec_file_load": (320, 294), "init_module": (175, 105), "finit_module": (313, 273),
    "delete_module": (176, 106), "swapon": (167, 224), "swapoff": (168, 225), "settimeofday": (164, 170),
    "clock_settime": (227, 112), "adjtimex": (159, 171), "clock_adjtime": (305, 266), "sethostname": (170, 161),
    "setdomainname": (171, 162), "syslog": (103, 116), "acct": (163, 89), "quotactl": (179, 60),
    "quotactl_fd": (443, 443), "vhangup": (153, 58),
}  # fmt: skip

# "This kernel does not have it": the C library then uses clone and openat, whose arguments can be looked at
ABSENT = {"clone3": (435, 435), "openat2": (437, 437)}
# Allowed with certain arguments only; see `program`
ARGUMENTS = {"clone": (56, 220), "kill": (62, 129), "tgkill": (234, 131), "prlimit64": (302, 261),
             "prctl": (157, 167), "fcntl": (72, 25), "ioctl": (16, 29), "open": (2, None), "openat": (257, 56),
             "preadv2": (327, 286), "pwritev2": (328, 287)}  # fmt: skip

ALLOW, EPERM, ENOSYS, KILL = 0x7FFF0000, 0x00050001, 0x00050026, 0x80000000
LOAD, AND, IF_EQUAL, IF_SET, IF_AT_LEAST, IF_MORE, RETURN = 0x20, 0x54, 0x15, 0x45, 0x35, 0x25, 0x06
NUMBER, ARCHITECTURE = 0, 4  # offsets in what the filter is shown
# F_SETOWN, F_SETSIG, F_SETOWN_EX, F_SETLEASE, F_NOTIFY; FIOSETOWN, SIOCSPGRP: let the kernel signal another process.
# F_GETLK, F_SETLK, F_SETLKW, the same with OFD, and the hints F_GET_RW_HINT to F_SET_FILE_RW_HINT: others see them.
LOCKS = (5, 6, 7, 36, 37, 38, 1035, 1036, 1037, 1038)
COMMANDS = {"fcntl": (8, 10, 15, 1024, 1026, *LOCKS), "ioctl": (0x8901, 0x8902)}
CLONE_THREAD, O_TRUNC, O_ACCMODE, PR_SET_PDEATHSIG = 0x10000, 0o1000, 0o3, 1


def supported() -> bool:
    """Whether the filter is written for this processor."""
    return platform.system() == "Linux" and platform.machine() in ARCHITECTURES and struct.calcsize("P") == 8


def program(pid: int, machine: str | None = None) -> list[tuple[int, int, int, int]]:
    """The filter for the process `pid`: a list of (step, jump if true, jump if false, operand).

    Examples
    --------
    >>> program(1, "x86_64")[-1] == (RETURN, 0, 0, ALLOW)
    True
    """
    code, column = ARCHITECTURES[machine or platform.machine()]
    steps = [
        (LOAD, 0, 0, ARCHITECTURE),
        (IF_EQUAL, 1, 0, code),
        (RETURN, 0, 0, KILL),
        (LOAD, 0, 0, NUMBER),
        (IF_AT_LEAST, 0, 1, X32),
        (RETURN, 0, 0, KILL),
        (IF_MORE, 0, 1, NEWEST),
        (RETURN, 0, 0, ENOSYS),
    ]

    def argument(index: int) -> int:
        return 16 + 8 * index  # the low half; both architectures are little-endian

    # A new thread of this process, but no new process.
    _checked(steps, "clone", column, [(LOAD, 0, 0, argument(0)), (IF_SET, 1, 0, CLONE_THREAD)])
    # Signals to itself only (abort, raise); limits of itself only.
    for name, own in (("kill", pid), ("tgkill", pid), ("prlimit64", 0)):
        _checked(steps, name, column, [(LOAD, 0, 0, argument(0)), (IF_EQUAL, 1, 0, own)])
    # The signal that comes when the zygote dies cannot be taken back.
    _checked(steps, "prctl", column, [(LOAD, 0, 0, argument(0)), (IF_EQUAL, 0, 1, PR_SET_PDEATHSIG)])
    # When a descriptor has data, the kernel could send any signal to anybody of the same user. And no locks.
    for name, commands in COMMANDS.items():
        *first, last = commands
        tests = [(IF_EQUAL, len(first) - place, 0, command) for place, command in enumerate(first)]
        _checked(steps, name, column, [(LOAD, 0, 0, argument(1)), *tests, (IF_EQUAL, 0, 1, last)])
    # Reading as usual, but not "only if it is in memory".
    for name in ("preadv2", "pwritev2"):
        _checked(steps, name, column, [(LOAD, 0, 0, argument(5)), (IF_EQUAL, 1, 0, 0)])
    # Opening "to read, but empty it": old Landlock versions let that pass.
    for name, index in (("open", 1), ("openat", 2)):
        emptied = [(LOAD, 0, 0, argument(index)), (AND, 0, 0, O_TRUNC | O_ACCMODE), (IF_EQUAL, 0, 1, O_TRUNC)]
        _checked(steps, name, column, emptied)

    for table, answer in ((FORBIDDEN, EPERM), (ABSENT, ENOSYS)):
        for numbers in table.values():
            if numbers[column] is not None:
                steps += [(IF_EQUAL, 0, 1, numbers[column]), (RETURN, 0, 0, answer)]
    return [*steps, (RETURN, 0, 0, ALLOW)]


def _checked(steps: list, name: str, column: int, test: list) -> None:
    """For this call: run `test`, whose last step jumps over the refusal if the arguments are fine."""
    number = ARGUMENTS[name][column]
    if number is not None:
        body = [*test, (RETURN, 0, 0, EPERM), (RETURN, 0, 0, ALLOW)]
        steps += [(IF_EQUAL, 0, len(body), number), *body]


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("steps", ctypes.c_void_p)]


def install() -> None:
    """Put the filter on the calling thread for good; `no_new_privs` must be set before."""
    steps = b"".join(struct.pack("<HBBI", *step) for step in program(os.getpid()))
    buffer = ctypes.create_string_buffer(steps, len(steps))
    filter_ = _Program(len(steps) // 8, ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 22, 2
    if libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(filter_), 0, 0):
        raise OSError(ctypes.get_errno(), "the system call filter was refused")
