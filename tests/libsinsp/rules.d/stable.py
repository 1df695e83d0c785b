"""The provocations of Falco's stable rules, and the plain workload that no rule may match."""

import os
import shutil
import socket
import struct
import subprocess
import tempfile
import threading

from machine import (
    FOREIGN_ADDRESS, IS_X86, LIBC, TIMEOUT_S, Skipped, allowed, checked, connection, copied, idle_child, on_terminal,
    overlay_root, own_network, plain_root, provokes, run, run_as, shell_as, written,
)  # fmt: skip

# proc.duration of the rule that asks for a program that has run for a while: more than 5 s.
SETTLED_S = 5.5
# What the name of the Kubernetes API server stands for where the events are judged: see the script `rules`.
API_SERVER_ADDRESS = "127.53.0.1"
# linux/ptrace.h; the system calls by their own tables.
PTRACE_TRACEME, PTRACE_POKETEXT, PTRACE_ATTACH, PTRACE_SEIZE = 0, 4, 16, 0x4206
SYS_OPEN, SYS_SYMLINK, SYS_OPENAT2 = 2, 88, 437
SYS_INIT_MODULE, SYS_FINIT_MODULE = (175, 313) if IS_X86 else (105, 273)


def x86_only():
    if not IS_X86:
        raise Skipped("this machine has the *at call only")


def from_here(path):
    """An absolute path by way of this directory."""
    here = os.getcwd()
    return here + "/.." * here.count("/") + path


@provokes("Directory traversal monitored file read")
def traversal():
    """`cat` of /etc/passwd by way of `../..`"""
    run("cat", from_here("/etc/passwd"))


@provokes("Directory traversal monitored file read")
def traversal_that_fails():
    """`cat` of a file below /etc that is not there, by way of `../..`"""
    run("cat", from_here("/etc/no-such-file"))


@provokes("Read sensitive file trusted after startup")
def server_reads_secrets_late():
    """a program named nginx that opens /etc/shadow more than 5 s after its start"""
    script = f"read -rt {SETTLED_S}; : </etc/shadow"
    with subprocess.Popen([copied("bash", "nginx"), "-c", script], stdin=subprocess.PIPE) as server:
        # The pipe says nothing, so that the wait ends by its timeout.
        server.wait(TIMEOUT_S)


@provokes("Read sensitive file untrusted")
def secrets():
    """`cat /etc/shadow`"""
    run("cat", "/etc/shadow")


@provokes("Read sensitive file untrusted")
def secrets_by_open():
    """open(2) itself of /etc/shadow"""
    x86_only()
    checked(LIBC.syscall(SYS_OPEN, b"/etc/shadow", os.O_RDONLY))


@provokes("Read sensitive file untrusted")
def secrets_by_openat2():
    """openat2(2) itself of /etc/shadow"""
    how = struct.pack("<QQQ", os.O_RDONLY, 0, 0)
    checked(LIBC.syscall(SYS_OPENAT2, os.open("/etc", os.O_PATH), b"shadow", how, len(how)))


@provokes("Read sensitive file untrusted")
def secrets_by_a_thread():
    """openat(2) of /etc/shadow in a thread that is not the first of its process"""
    reader = threading.Thread(target=lambda: os.close(os.open("/etc/shadow", os.O_RDONLY)))
    reader.start()
    reader.join()


@provokes("Read sensitive file untrusted")
def secrets_from_their_directory():
    """openat(2) of `shadow` in the current directory /etc"""
    os.chdir("/etc")
    os.close(os.open("shadow", os.O_RDONLY))


@provokes("Read sensitive file untrusted")
def secrets_of_an_orphan():
    """openat(2) of /etc/shadow in a process whose parent has ended"""
    reader, writer = os.pipe()
    if os.fork() == 0:
        parent = os.getpid()
        if os.fork() != 0:
            os._exit(0)
        while os.getppid() == parent:
            os.sched_yield()
        os.close(os.open("/etc/shadow", os.O_RDONLY))
        os._exit(0)
    os.close(writer)
    # The end of the pipe: the last process that held it has ended.
    os.read(reader, 1)
    os.wait()


@provokes("Run shell untrusted")
def server_runs_a_shell():
    """a program named nginx that runs `sh -c id`"""
    shell_as("nginx", "sh -c id")


@provokes("System user interactive")
def system_user_logs_in():
    """`id` as www-data below a program named sshd"""
    shell_as("sshd", "setpriv --reuid=www-data --clear-groups id")


@provokes("System user interactive")
def system_user_in_a_login():
    """a program named login, as www-data"""
    run("setpriv", "--reuid=www-data", "--clear-groups", copied("bash", "login"), "-c", ":")


@provokes("Terminal shell in container")
def shell_on_a_terminal():
    """`sh` on a terminal of its own, below a program named runc"""
    on_terminal(copied("bash", "runc"), "-c", "sh -c :; :")


@provokes("Contact K8S API Server From Container")
def api_server():
    """a TCP connect to the loopback address that the name of the Kubernetes API server stands for here"""
    with connection(host=API_SERVER_ADDRESS):
        pass


@provokes("Netcat Remote Code Execution in Container")
def netcat():
    """a program named nc with the argument -e"""
    run_as("nc", "-e", "/bin/sh", "127.0.0.1", "1")


@provokes("Netcat Remote Code Execution in Container")
def ncat():
    """a program named ncat with the argument --sh-exec"""
    run_as("ncat", "--sh-exec", "id", "127.0.0.1", "1")


@provokes("Search Private Keys or Passwords")
def keys_by_grep():
    """`grep` for the first line of an RSA key"""
    run("grep", "-r", "BEGIN RSA PRIVATE", ".")


@provokes("Search Private Keys or Passwords")
def keys_by_find():
    """`find -name id_ed25519`"""
    run("find", ".", "-name", "id_ed25519")


@provokes("Clear Log Activities")
def cleared_log():
    """a file named auth.log that is opened with O_TRUNC"""
    written("auth.log")
    run("bash", "-c", ": >auth.log")


@provokes("Remove Bulk Data from Disk")
def bulk_removal():
    """`shred` of a small file"""
    run("shred", "-n", "1", written("victim"))


@provokes("Create Symlink Over Sensitive Files")
def symbolic_link():
    """`ln -s /etc/shadow`"""
    run("ln", "-s", "/etc/shadow", "link")


@provokes("Create Symlink Over Sensitive Files")
def symbolic_link_by_symlink():
    """symlink(2) itself to /root"""
    x86_only()
    checked(LIBC.syscall(SYS_SYMLINK, b"/root", b"link"))


@provokes("Create Hardlink Over Sensitive Files")
def hard_link():
    """link(2) of /etc/shadow in a root directory of its own, where that is a plain file"""
    plain_root("etc")
    written("/etc/shadow")
    os.link("/etc/shadow", "/link")


@provokes("Create Hardlink Over Sensitive Files")
def hard_link_by_linkat():
    """linkat(2) likewise"""
    plain_root("etc")
    written("/etc/shadow")
    os.link("/etc/shadow", "/link", follow_symlinks=False)


@provokes("Packet socket created in container")
def packet_socket():
    """a raw packet socket that is bound to no protocol"""
    with allowed("a packet socket"):
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0).close()


@provokes("Redirect STDOUT/STDIN to Network Connection in Container")
def connected_stdin():
    """dup2(2) of a TCP connection over standard input"""
    with connection() as (client, _):
        os.dup2(client.fileno(), 0)


@provokes("Redirect STDOUT/STDIN to Network Connection in Container")
def connected_stdout():
    """dup3(2) of a TCP connection over standard output"""
    with connection() as (client, _):
        os.dup2(client.fileno(), 1, inheritable=False)


@provokes("Redirect STDOUT/STDIN to Network Connection in Container")
def connected_lowest():
    """dup(2) of a TCP connection where standard input was closed"""
    with connection() as (client, _):
        os.close(0)
        checked(LIBC.dup(client.fileno()))


@provokes("Redirect STDOUT/STDIN to Network Connection in Container")
def accepted_stdin():
    """dup2(2) over standard input of a TCP connection that was accepted"""
    with connection() as (_, accepted):
        os.dup2(accepted.fileno(), 0)


@provokes("Redirect STDOUT/STDIN to Network Connection in Container")
def connected_stdin_v6():
    """dup2(2) over standard input of a TCP connection over IPv6"""
    with connection(socket.AF_INET6, "::1") as (client, _):
        os.dup2(client.fileno(), 0)


@provokes("Redirect STDOUT/STDIN to Network Connection in Container")
def shell_over_a_connection():
    """a shell whose standard streams are a TCP connection that its parent made"""
    with connection() as (client, _):
        run("sh", "-c", ":", stdin=client, stdout=client, stderr=client)


@provokes("Linux Kernel Module Injection Detected")
def module_from_file():
    """finit_module(2) without a file, which fails"""
    LIBC.syscall(SYS_FINIT_MODULE, -1, b"", 0)


@provokes("Linux Kernel Module Injection Detected")
def module_from_memory():
    """init_module(2) of nothing, which fails"""
    LIBC.syscall(SYS_INIT_MODULE, None, 0, b"")


@provokes("Debugfs Launched in Privileged Container")
def debugfs():
    """a program named debugfs"""
    run_as("debugfs")


@provokes("Detect release_agent File Container Escapes")
def release_agent():
    """a plain file named release_agent that is written"""
    written("release_agent")


@provokes("PTRACE attached to process")
def attaches():
    """PTRACE_ATTACH to a child (refused where the child is traced already)"""
    with idle_child() as child:
        LIBC.ptrace(PTRACE_ATTACH, child, None, None)


@provokes("PTRACE attached to process")
def seizes():
    """PTRACE_SEIZE of a child (likewise)"""
    with idle_child() as child:
        LIBC.ptrace(PTRACE_SEIZE, child, None, None)


@provokes("PTRACE attached to process")
def pokes():
    """PTRACE_POKETEXT into a child that is not attached, which fails"""
    with idle_child() as child:
        LIBC.ptrace(PTRACE_POKETEXT, child, None, None)


@provokes("PTRACE anti-debug attempt")
def hides_from_debuggers():
    """PTRACE_TRACEME (refused where the program is traced already)"""
    if os.fork() == 0:
        LIBC.ptrace(PTRACE_TRACEME, 0, None, None)
        os._exit(0)
    os.wait()


@provokes("Find AWS Credentials")
def credentials_by_grep():
    """`grep` for aws_secret_access_key"""
    run("grep", "-r", "aws_secret_access_key", ".")


@provokes("Find AWS Credentials")
def credentials_by_find():
    """`find` whose last argument is a path that ends in .aws/credentials"""
    run("find", ".", "-path", "*/.aws/credentials")


@provokes("Execution from /dev/shm")
def shared_memory_program():
    """a program in /dev/shm"""
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="creance-rules.") as directory:
        with allowed("a program in /dev/shm"):
            run(copied("true", "program", directory))


@provokes("Drop and execute new binary in container")
def dropped_program():
    """a program that came into the upper layer of the overlay that is the root directory"""
    overlay_root()
    run(copied("true", "new", "/"))


@provokes("Drop and execute new binary in container")
def dropped_program_over_another_file_system():
    """likewise, where the lower layer is on a file system of its own, as that of an image that is loaded lazily is"""
    overlay_root("other")
    run(copied("true", "new", "/"))


@provokes(None)
def program_of_the_image():
    """a program in the lower layer of such a root directory"""
    overlay_root()
    run("/program")


@provokes("Disallowed SSH Connection Non Standard Port")
def ssh_to_a_web_port():
    """a program named ssh that connects to port 443 of an address that is not private, in a network of its own"""
    own_network(FOREIGN_ADDRESS)
    with socket.create_server((FOREIGN_ADDRESS, 443)):
        shell_as("ssh", f": </dev/tcp/{FOREIGN_ADDRESS}/443")


def program_in_memory():
    memory = os.memfd_create("program", 0)
    with open(shutil.which("true"), "rb") as file:
        os.write(memory, file.read())
    return memory


@provokes("Fileless execution via memfd_create")
def memory_program():
    """execve(2) of a program in a memfd, by its path below /proc"""
    path = f"/proc/self/fd/{program_in_memory()}"
    os.execv(path, ["program"])


@provokes("Fileless execution via memfd_create")
def memory_program_by_descriptor():
    """execveat(2) of a program in a memfd, by its descriptor"""
    os.execve(program_in_memory(), ["program"], os.environ)


@provokes(None)
def neutral():
    """nothing that a rule looks for: files, programs, links and a connection of the plain kind"""
    written("plain")
    run("ls", "-l", "/", "/etc")
    run("cat", "plain", "/etc/hostname", "/no/such/file")
    run("grep", "-r", "plain", ".")
    run("find", ".", "-name", "plain")
    run("sh", "-c", "cat plain >copy; mkdir made; mv copy made; ln -s plain link; ln plain made/plain; rm -r made")
    with connection() as (client, _):
        os.dup2(os.open(os.devnull, os.O_RDWR), 0)
        client.sendall(b"plain")
    own = copied("true", "program")
    run(own)


