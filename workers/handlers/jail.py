"""What a handler host is cut off from; every step is tried, and those in force are told.

The keeper calls `leave`, the host itself `enter` before it imports anything of the function. A
platform that runs as root, or may make user namespaces, has every step; `docs/security.md` says
what is left where it has fewer.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import glob
import os
import platform
import resource
import secrets
import signal
import struct
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import contract
import fusion
import workers

# linux/sched.h, linux/prctl.h, sys/mount.h, linux/capability.h
_NEWNS, _NEWIPC, _NEWUSER, _NEWPID, _NEWNET = 0x20000, 0x8000000, 0x10000000, 0x20000000, 0x40000000
_PDEATHSIG, _CAPBSET_DROP, _SUBREAPER, _NO_NEW_PRIVS = 1, 24, 36, 38
_BIND, _REC, _PRIVATE, _NOSUID, _NODEV = 0x1000, 0x4000, 0x40000, 2, 4
_CAPABILITY_VERSION = 0x20080522
# users that systemd gives to services without one of their own; nobody else should have them
_USERS = range(61184, 65520)
_NICE = 10
_OOM_FIRST = "1000"
# all that is left of /dev where that is hidden
_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
_GPUS = "/dev/nvidia*"
_NOBODY = 65534
# linux/seccomp.h, linux/filter.h, linux/audit.h: by machine, what calls itself so and its `setsid`
_SECCOMP, _FILTER, _ALLOW, _REFUSE = 22, 2, 0x7FFF0000, 0x50000
_LOAD, _IF_EQUAL, _IF_AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_NUMBER_AT, _MACHINE_AT = 0, 4
_SETSID = {"x86_64": (0xC000003E, 112), "aarch64": (0xC00000B7, 157)}
# from here on x86-64 has the same calls once more
_OTHER_CALLS = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


class Jail(NamedTuple):
    """The limits of one host."""

    scratch: str
    # address space of the host, and memory of it and all it starts
    memory_bytes: int
    # processes and threads
    processes: int
    # of one file
    file_bytes: int
    open_files: int
    # none, network or all
    reach: str
    # what it must not see, but for what Python and the function need of it
    hidden: tuple[str, ...]
    # a function that runs eagerly computes there: CUDA reserves more address space than there is
    # memory, so that its size is no limit
    has_gpu: bool = False


def leave(jail: Jail) -> list[str]:
    """Namespaces for the children of this process: processes, network, shared memory."""
    _check(_libc.prctl(_SUBREAPER, 1, 0, 0, 0))
    spaces = _NEWPID | _NEWIPC | (_NEWNET if jail.reach == "none" else 0)
    names = ["processes"] + (["network"] if jail.reach == "none" else [])
    return names if _is_done(_unshare, spaces) or _is_done(_unshare_as_user, spaces) else []


def enter(jail: Jail) -> list[str]:
    """Everything else, for this process and what it starts; names what is in force."""
    os.setsid()
    os.nice(_NICE)
    yield_as_session(True)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_OOM_FIRST)
    measures = ["files"] if jail.reach != "all" and _is_done(_hide, jail) else []
    # the scan needs the processes of the other users, so it comes before the own /proc
    user = _free_user() if jail.reach != "all" and os.geteuid() == 0 else None
    if measures and os.getpid() == 1:
        _is_done(_mount, "proc", "/proc", "proc", _NOSUID | _NODEV)
    os.umask(0o077)
    _limit(jail)
    # while this is still allowed to
    _bound_capabilities()
    if user is not None and _is_done(_become, user, jail.scratch):
        measures.append("user")
    _drop_capabilities()
    _check(_libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0))
    if _is_done(_stay_in_session):
        measures.append("sessions")
    # a change of user forgets it, so it comes last
    _check(_libc.prctl(_PDEATHSIG, signal.SIGKILL, 0, 0, 0))
    return measures


def yield_as_session(does: bool, pid: int | str = "self") -> None:
    """Let a session run after others, or no longer: within it, niceness counts for itself.

    Linux shares processors out by session first (autogroups, where they are on).
    """
    with contextlib.suppress(OSError):
        Path(f"/proc/{pid}/autogroup").write_text(str(_NICE if does else 0))


def _is_done(step: Callable[..., None], *arguments: object) -> bool:
    try:
        step(*arguments)
    except OSError:
        # not allowed or not known here: what is in force is told, so the others go on
        return False
    return True


def _check(result: int) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _unshare(spaces: int) -> None:
    _check(_libc.unshare(spaces))


def _unshare_as_user(spaces: int) -> None:
    """The same for a platform that is not root: in a user namespace of its own."""
    uid, gid = os.geteuid(), os.getegid()
    _unshare(spaces | _NEWUSER)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
    Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")


def _mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    words = [word.encode() for word in (source, target, kind)]
    _check(_libc.mount(*words, ctypes.c_ulong(flags), options.encode() or None))


def _hide(jail: Jail) -> None:
    """Empty folders over the hidden ones, and in them again what is needed."""
    _unshare(_NEWNS)
    _mount("none", "/", "", _REC | _PRIVATE)
    needed = _needed(jail.scratch, glob.glob(_GPUS) if jail.has_gpu else ())
    # outer folders first: what is needed of them may hold others
    for folder in sorted({os.path.realpath(name) for name in jail.hidden}):
        inside = [name for name in needed if name.startswith(folder + os.sep)]
        if os.path.isdir(folder) and folder not in needed:
            _cover(folder, inside)
        elif os.path.exists(folder) and not os.path.isdir(folder):
            _mount("/dev/null", folder, "", _BIND)


def _cover(folder: str, inside: Iterable[str]) -> None:
    with contextlib.ExitStack() as opened:
        kept = []
        for name in inside:
            fd = os.open(name, os.O_PATH)
            opened.callback(os.close, fd)
            kept.append((Path(name), os.path.isdir(name), fd))
        _mount("none", folder, "tmpfs", _NOSUID | _NODEV, "mode=1777,size=1m")
        for path, is_folder, fd in kept:
            (path if is_folder else path.parent).mkdir(0o755, parents=True, exist_ok=True)
            if not is_folder:
                path.touch()
            _mount(f"/proc/self/fd/{fd}", str(path), "", _BIND | _REC)
    if folder == "/dev":
        os.mkdir("/dev/shm", 0o1777)  # noqa: S108  # semaphores need it; it is this host's own


def _needed(scratch: str, devices: Iterable[str] = ()) -> list[str]:
    """What a host may see, outermost only: Python, its packages, our code, its own files."""
    root = Path(workers.__file__).parent.parent
    paths = [name for name in sys.path if Path(name).resolve() != root]
    ours = [str(Path(module.__file__ or "").parent) for module in (contract, fusion, workers)]
    names = [sys.prefix, sys.base_prefix, os.path.dirname(sys.executable), scratch, *ours, *paths]
    found = sorted(
        {os.path.realpath(name) for name in (*names, *_DEVICES, *devices) if os.path.exists(name)}
    )
    return [
        name
        for name in found
        if not any(name.startswith(other + os.sep) for other in found if other != name)
    ]


class _Program(ctypes.Structure):
    _fields_ = (("count", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def _stay_in_session() -> None:
    """No new sessions: each would be given as much of the processors as the whole worker."""
    if platform.machine() not in _SETSID:
        raise OSError(errno.ENOSYS, platform.machine())
    machine, setsid = _SETSID[platform.machine()]
    # each: what to do, how many to skip if so and if not, with what
    instructions = (
        (_LOAD, 0, 0, _MACHINE_AT),
        (_IF_EQUAL, 0, 3, machine),
        (_LOAD, 0, 0, _NUMBER_AT),
        (_IF_EQUAL, 1, 0, setsid),
        (_IF_AT_LEAST, 0, 1, _OTHER_CALLS),
        (_RETURN, 0, 0, _REFUSE | errno.EPERM),
        (_RETURN, 0, 0, _ALLOW),
    )
    code = b"".join(struct.pack("HBBI", *instruction) for instruction in instructions)
    program = _Program(len(instructions), code)
    _check(_libc.prctl(_SECCOMP, _FILTER, ctypes.byref(program), 0, 0))


def _limit(jail: Jail) -> None:
    limits = {
        resource.RLIMIT_AS: jail.memory_bytes,
        resource.RLIMIT_NPROC: jail.processes,
        resource.RLIMIT_FSIZE: jail.file_bytes,
        resource.RLIMIT_NOFILE: jail.open_files,
        resource.RLIMIT_CORE: 0,
    }
    # outside a user or process space of its own the count is of all the user's processes
    if os.getpid() != 1 and os.geteuid() != 0:
        del limits[resource.RLIMIT_NPROC]
    if jail.has_gpu:
        del limits[resource.RLIMIT_AS]
    for limit, value in limits.items():
        _, most = resource.getrlimit(limit)
        value = value if most == resource.RLIM_INFINITY else min(value, most)
        resource.setrlimit(limit, (value, value))


def _free_user() -> int:
    """A user that no process has."""
    taken = set()
    for entry in os.scandir("/proc"):
        with contextlib.suppress(OSError):
            taken.add(entry.stat().st_uid)
    start = secrets.randbelow(len(_USERS))
    users = [*_USERS[start:], *_USERS[:start]]
    return next((user for user in users if user not in taken), _NOBODY)


def _become(user: int, scratch: str) -> None:
    """Another user for good, unless Python could not be read by it."""
    if not all(map(_is_open_to_all, _needed(""))):
        raise PermissionError(sys.prefix)
    for folder, _, files in os.walk(scratch):
        for name in (folder, *(os.path.join(folder, file) for file in files)):
            os.chown(name, user, user, follow_symlinks=False)
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)


def _is_open_to_all(name: str) -> bool:
    folders = [path for path in (Path(name), *Path(name).parents) if path.is_dir()]
    return all(folder.stat().st_mode & 1 for folder in folders)


class _Capabilities(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_uint32) for name in ("effective", "permitted", "inheritable"))


def _bound_capabilities() -> None:
    for capability in range(64):
        # those the kernel does not know are refused
        _libc.prctl(_CAPBSET_DROP, capability, 0, 0, 0)


def _drop_capabilities() -> None:
    """None are left, whether this is root or a user with a namespace of its own."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
    _check(_libc.capset(header, (_Capabilities * 2)()))
