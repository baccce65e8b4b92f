"""The filter of system calls: its numbers against libseccomp, its steps run on paper for both processors."""

import ctypes
import ctypes.util

import pytest

from dca_lab.grading.sandbox.inside import seccomp

TABLES = {**seccomp.FORBIDDEN, **seccomp.ABSENT, **seccomp.ARGUMENTS}
machines = pytest.mark.parametrize("machine", list(seccomp.ARCHITECTURES))


@machines
def test_numbers_are_those_of_libseccomp(machine):
    name = ctypes.util.find_library("seccomp")
    if name is None:
        pytest.skip("libseccomp is not installed")
    resolve = ctypes.CDLL(name).seccomp_syscall_resolve_name_arch
    resolve.argtypes = [ctypes.c_uint32, ctypes.c_char_p]
    code, column = seccomp.ARCHITECTURES[machine]
    for call, numbers in TABLES.items():
        found = resolve(code, call.encode())
        if found != -1:  # -1: this libseccomp is older than the call
            assert (found if found >= 0 else None) == numbers[column], call


def answer(steps, machine, number, *arguments):
    """What the filter says: the toy processor, as linux/filter.h describes it."""
    words = {0: number, 4: seccomp.ARCHITECTURES.get(machine, (machine,))[0]}
    words |= {16 + 8 * index: value & 0xFFFFFFFF for index, value in enumerate(arguments)}
    at, register = 0, None
    while True:
        step, true, false, operand = steps[at]
        at += 1
        if step == seccomp.LOAD:
            register = words.get(operand, 0)
        elif step == seccomp.AND:
            register &= operand
        elif step == seccomp.RETURN:
            return operand
        else:
            tests = {
                seccomp.IF_EQUAL: register == operand,
                seccomp.IF_SET: bool(register & operand),
                seccomp.IF_AT_LEAST: register >= operand,
                seccomp.IF_MORE: register > operand,
            }
            at += true if tests[step] else false


@machines
def test_every_call(machine):
    steps, column = seccomp.program(77, machine), seccomp.ARCHITECTURES[machine][1]
    assert all(0 <= true < 256 and 0 <= false < 256 for _, true, false, _ in steps) and len(steps) < 4096
    forbidden = {numbers[column] for numbers in seccomp.FORBIDDEN.values()} - {None}
    absent = {numbers[column] for numbers in seccomp.ABSENT.values()}
    looked_at = {numbers[column] for numbers in seccomp.ARGUMENTS.values()} - {None}
    assert len(forbidden) + len(absent) + len(looked_at) == len(forbidden | absent | looked_at)
    for number in range(600):
        if number in forbidden:
            assert answer(steps, machine, number) == seccomp.EPERM, number
        elif number in absent or number > seccomp.NEWEST:
            assert answer(steps, machine, number) == seccomp.ENOSYS, number
        elif number not in looked_at:
            assert answer(steps, machine, number) == seccomp.ALLOW, number
    assert answer(steps, machine, seccomp.X32 | 1) == seccomp.KILL
    assert answer(steps, 0x40000003, 1) == seccomp.KILL


@machines
def test_arguments(machine):
    steps, column = seccomp.program(77, machine), seccomp.ARCHITECTURES[machine][1]

    def call(name, *arguments):
        return answer(steps, machine, seccomp.ARGUMENTS[name][column], *arguments) == seccomp.ALLOW

    assert call("clone", 0x3D0F00) and not call("clone", 17) and not call("clone", 0x10000000 | 17)
    for name in ("kill", "tgkill"):
        assert call(name, 77) and not any(call(name, pid) for pid in (0, 1, -1, -77, 78))
    assert call("prlimit64", 0) and not call("prlimit64", 5)
    assert call("prctl", 15) and not call("prctl", 1)
    assert call("openat", 3, 0, 0) and call("openat", 3, 0, 0o1001) and not call("openat", 3, 0, 0o1000)
    assert not call("openat", 3, 0, 0o3001000)
    assert call("preadv2", 3, 0, 1, 0, 0, 0) and not call("preadv2", 3, 0, 1, 0, 0, 8)
    assert [command for command in range(1100) if not call("fcntl", 3, command)] == [
        *(5, 6, 7, 8, 10, 15, 36, 37, 38, 1024, 1026, 1035, 1036, 1037, 1038)
    ]
