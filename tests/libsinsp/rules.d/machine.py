"""What provocations are made of: programs under other names, and namespaces and root directories of their own.

Nothing outside of the current directory is changed. What a machine does not permit raises `Skipped`.
"""

import contextlib
import ctypes
import dataclasses
import os
import platform
import pty
import pwd
import shutil
import socket
import struct
import subprocess

TIMEOUT_S = 60
# TEST-NET-2 (RFC 5737): an address of nobody, which is given to the loopback device of a network of its own.
FOREIGN_ADDRESS = "198.51.100.7"

LIBC = ctypes.CDLL(None, use_errno=True)
IS_X86 = platform.machine() == "x86_64"
# linux/sched.h, linux/mount.h, linux/sockios.h, linux/if.h
CLONE_NEWNS, CLONE_NEWNET = 0x20000, 0x40000000
MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 0x40000
SIOCSIFADDR, SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8916, 0x8913, 0x8914, 1

PROVOCATIONS = {}


@dataclasses.dataclass(frozen=True)
class Provocation:
    """What makes a rule match; `rule` is None for a plain workload, which no stable rule may match."""

    act: object
    rule: str | None
    # Why creance does not let it match yet: then it must not, so that nobody forgets to take this away.
    missing: str | None

    @property
    def how(self):
        return self.act.__doc__


class Skipped(Exception):
    """What this machine cannot do, and why."""


def provokes(rule, missing=None):
    """The function provokes that rule; its text tells how."""

    def register(function):
        PROVOCATIONS[function.__name__] = Provocation(function, rule, missing)
        return function

    return register


def checked(result):
    """The result of a call of libc, which is to succeed."""
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


@contextlib.contextmanager
def allowed(what):
    """A machine that does not permit `what` skips the provocation."""
    try:
        yield
    except OSError as error:
        raise Skipped(f"{what}: {error.strerror}") from error


def run(*command, **options):
    options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL} | options
    return subprocess.run(command, timeout=TIMEOUT_S, check=False, **options).returncode


def copied(program, name, directory="."):
    """A copy of a program under another name."""
    path = os.path.join(os.path.abspath(directory), name)
    shutil.copy(shutil.which(program), path)
    return path


def run_as(name, *arguments, **options):
    """Runs a program of that name, which does nothing."""
    return run(copied("true", name), *arguments, **options)


def shell_as(name, script, **options):
    """Runs a shell of that name. What the script ends with is run in a process of its own, too."""
    return run(copied("bash", name), "-c", f"{script}; :", **options)


def written(name, content=b"plain\n"):
    """A new file. The text layer of Python would look for its codecs, which another root directory does not have."""
    with open(name, "xb") as file:
        file.write(content)
    return os.path.abspath(name)


def on_terminal(program, *arguments):
    """Runs a program on a terminal of its own, to its end."""
    child, terminal = pty.fork()
    if child == 0:
        os.execv(program, [program, *arguments])
    with contextlib.suppress(OSError):
        # EIO: the last one who had the terminal open is gone (pty(7)).
        while os.read(terminal, 4096):
            pass
    os.waitpid(child, 0)


def become(user):
    """Changes all ids of this process, for good."""
    ids = pwd.getpwnam(user)
    with allowed("another user"):
        os.setgroups([])
        os.setresgid(*[ids.pw_gid] * 3)
        os.setresuid(*[ids.pw_uid] * 3)


def plain_root(*directories):
    """Enters this directory as the root, with those directories in it. No program can be run there."""
    for directory in directories:
        os.makedirs(directory)
    with allowed("chroot"):
        os.chroot(".")


def own_network(address):
    """Leaves the machine's network for an empty one whose loopback device has that address."""
    with allowed("a network namespace"):
        checked(LIBC.unshare(CLONE_NEWNET))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = struct.pack("16sHH4s8x", b"lo", socket.AF_INET, 0, socket.inet_aton(address))
        checked(LIBC.ioctl(control.fileno(), SIOCSIFADDR, request))
        flags = ctypes.create_string_buffer(struct.pack("16sH14x", b"lo", 0))
        checked(LIBC.ioctl(control.fileno(), SIOCGIFFLAGS, flags))
        struct.pack_into("H", flags, 16, struct.unpack_from("H", flags, 16)[0] | IFF_UP)
        checked(LIBC.ioctl(control.fileno(), SIOCSIFFLAGS, flags))


def own_mounts():
    with allowed("a mount namespace"):
        checked(LIBC.unshare(CLONE_NEWNS))
        checked(LIBC.mount(None, b"/", None, MS_REC | MS_PRIVATE, None))


def overlay_root(lower="lower"):
    """Enters a root directory that is an overlay mount, as a container's is, with a `program` in the lower layer."""
    own_mounts()
    os.mkdir("root")
    with allowed("an overlay mount"):
        # A file system of its own below: an overlay may not be the upper layer of another one.
        checked(LIBC.mount(b"creance", b"root", b"tmpfs", 0, None))
        os.chdir("root")
        for name in ("lower", "other", "work", "merged"):
            os.mkdir(name)
        checked(LIBC.mount(b"creance", b"other", b"tmpfs", 0, None))
        program = copied("true", "program", lower)
        # The clock that dates files is coarse: the upper layer is made again until it is later than the lower one.
        os.mkdir("upper")
        while os.stat("upper").st_ctime_ns <= os.stat(program).st_ctime_ns:
            os.rmdir("upper")
            os.mkdir("upper")
        layers = f"lowerdir={lower},upperdir=upper,workdir=work"
        checked(LIBC.mount(b"creance", b"merged", b"overlay", 0, layers.encode()))
    # What any program here needs is the machine's.
    for name in ("usr", "bin", "lib", "lib64", "dev"):
        if os.path.isdir(f"/{name}"):
            os.mkdir(f"merged/{name}")
            checked(LIBC.mount(f"/{name}".encode(), f"merged/{name}".encode(), None, MS_BIND | MS_REC, None))
    os.chroot("merged")
    os.chdir("/")


@contextlib.contextmanager
def idle_child():
    """A child that waits until it is let go."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(writer)
        os.read(reader, 1)
        os._exit(0)
    os.close(reader)
    try:
        yield child
    finally:
        os.close(writer)
        os.waitpid(child, 0)


@contextlib.contextmanager
def connection(family=socket.AF_INET, host="127.0.0.1", port=0):
    """A TCP connection to that address: the end that connected, and the end that accepted."""
    with allowed(f"a connection to {host}"):
        server = socket.create_server((host, port), family=family)
    with server, socket.create_connection(server.getsockname()[:2]) as client, server.accept()[0] as accepted:
        yield client, accepted


