"""Provocations of Falco's incubating and sandbox rules, and why some rules have none."""

import ctypes
import os
import pwd
import shutil
import signal
import socket

from machine import (
    FOREIGN_ADDRESS, IS_X86, LIBC, allowed, become, checked, connection, copied, on_terminal, own_network, plain_root,
    provokes, run, run_as, shell_as, written,
)  # fmt: skip

METADATA_ADDRESS = "169.254.169.254"
# Any port that no rule expects, and one of the range of Kubernetes' node ports.
UDP_PORT, NODE_PORT = 4999, 30001
# linux/sched.h, linux/bpf.h, linux/userfaultfd.h; the system calls by their own tables.
CLONE_NEWUTS, CLONE_NEWPID, BPF_PROG_LOAD, UFFD_USER_MODE_ONLY = 0x4000000, 0x20000000, 5, 1
SYS_CLONE, SYS_BPF, SYS_USERFAULTFD = (56, 321, 323) if IS_X86 else (220, 280, 282)

# Rules that no provocation can make match here.
UNPROVOKED = {
    "Network Connection outside Local Subnet": "its list of namespaces is empty: it can never match",
    "Launch Disallowed Container": "as shipped it allows every container: it can never match",
    "Detect outbound connections to common miner pool ports": "needs the addresses of mining pools from a name server",
    "Java Process Class File Download": "looks into the data of a message, which creance does not record",
}


def read(path):
    os.close(os.open(path, os.O_RDONLY))


@provokes("Modify Shell Configuration File")
def shell_configuration():
    """a file named .bashrc that is written by a program that is no shell"""
    written(".bashrc")


@provokes("Schedule Cron Jobs")
def cron_job():
    """a file in /etc/cron.d, in a root directory of its own"""
    plain_root("etc/cron.d")
    written("/etc/cron.d/job")


@provokes("Schedule Cron Jobs")
def crontab():
    """a program named crontab"""
    run_as("crontab", "-l")


@provokes("Read ssh information")
def ssh_information():
    """a file in /root/.ssh that is read, in a root directory of its own"""
    plain_root("root/.ssh")
    read(written("/root/.ssh/config"))


@provokes("DB program spawned process")
def database_program():
    """a program named mysqld that runs `id`"""
    shell_as("mysqld", "id")


@provokes("Change thread namespace")
def other_namespace():
    """setns(2) to the namespace in which the program is already"""
    with open("/proc/self/ns/uts") as namespace, allowed("setns"):
        checked(LIBC.setns(namespace.fileno(), CLONE_NEWUTS))


@provokes("Change namespace privileges via unshare")
def unprivileged_unshare():
    """unshare(2) of the mount namespace by a program of www-data, which fails"""
    run("setpriv", "--reuid=www-data", "--clear-groups", "unshare", "--mount", "true")


def first_process():
    """Runs a program as the first one of a PID namespace that it is made in (clone(2))."""
    with allowed("a PID namespace"):
        child = checked(LIBC.syscall(SYS_CLONE, CLONE_NEWPID | signal.SIGCHLD, 0, 0, 0, 0))
    if child == 0:
        # The interpreter does not know that it was copied: nothing but the call.
        LIBC.execv(shutil.which("true").encode(), (ctypes.c_char_p * 2)(b"true", None))
        os._exit(1)
    os.waitpid(child, 0)


@provokes("Launch Privileged Container")
def privileged_container():
    """the first program of a PID namespace"""
    first_process()


@provokes("Launch Privileged Container")
def privileged_container_by_unshare():
    """the first program of a PID namespace that its parent has made by unshare(2), as runc does"""
    run("unshare", "--pid", "--fork", "true")


@provokes("Launch Excessively Capable Container")
def capable_container():
    """the first program of a PID namespace, with all capabilities"""
    first_process()


@provokes("Launch Sensitive Mount Container")
def mounting_container():
    """the first program of a PID namespace"""
    first_process()


@provokes("Container Run as Root User")
def root_container():
    """the first program of a PID namespace, as root"""
    first_process()


@provokes("System procs network activity")
def shell_connects():
    """bash that connects to an address that is not loopback, in a network of its own"""
    own_network(FOREIGN_ADDRESS)
    with socket.create_server((FOREIGN_ADDRESS, 80)):
        run("bash", "-c", f": </dev/tcp/{FOREIGN_ADDRESS}/80")


@provokes("Program run with disallowed http proxy env")
def proxy():
    """a program named curl with HTTP_PROXY in its environment"""
    run_as("curl", env={**os.environ, "HTTP_PROXY": "127.0.0.1:1"})


@provokes("Unexpected UDP Traffic")
def unexpected_udp():
    """a UDP socket that is connected to a port that is not expected, in a network of its own"""
    own_network(FOREIGN_ADDRESS)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.connect((FOREIGN_ADDRESS, UDP_PORT))


@provokes("Non sudo setuid")
def setuid_by_a_user():
    """setuid(2) by a program of the user games"""
    become("games")
    os.setuid(pwd.getpwnam("games").pw_uid)


@provokes("User mgmt binaries")
def user_management():
    """a program named useradd"""
    run_as("useradd", "someone")


@provokes("Create files below dev")
def file_below_dev():
    """a plain file in /dev, in a root directory of its own"""
    plain_root("dev")
    written("/dev/file")


def metadata_service():
    """Connects to the address of a cloud's metadata service, in a network of its own."""
    own_network(METADATA_ADDRESS)
    with connection(host=METADATA_ADDRESS, port=80):
        pass


@provokes("Contact EC2 Instance Metadata Service From Container")
def ec2_metadata():
    """a TCP connect to 169.254.169.254, in a network of its own"""
    metadata_service()


@provokes("Contact cloud metadata service from container")
def cloud_metadata():
    """a TCP connect to 169.254.169.254, in a network of its own"""
    metadata_service()


@provokes("Launch Package Management Process in Container")
def package_manager():
    """a program named apk"""
    run_as("apk", "add", "something")


@provokes("Launch Suspicious Network Tool in Container")
def network_tool():
    """a program named nmap"""
    run_as("nmap", "127.0.0.1")


@provokes("Launch Suspicious Network Tool on Host")
def network_tool_on_host():
    """a program named tcpdump"""
    run_as("tcpdump")


@provokes("Delete or rename shell history")
def removed_history():
    """a file named .bash_history that is removed"""
    os.remove(written(".bash_history"))


@provokes("Delete or rename shell history")
def renamed_history():
    """a file named .zsh_history that is renamed"""
    os.rename(written(".zsh_history"), "renamed")


@provokes("Delete or rename shell history")
def truncated_history():
    """a file named .bash_history that is opened with O_TRUNC"""
    os.truncate(os.open(written(".bash_history"), os.O_WRONLY | os.O_TRUNC), 0)


@provokes("Set Setuid or Setgid bit")
def setuid_bit():
    """chmod(2) with S_ISUID of a plain file"""
    os.chmod(written("file"), 0o4755)


@provokes("Set Setuid or Setgid bit")
def setgid_bit():
    """fchmod(2) with S_ISGID of a plain file"""
    os.fchmod(os.open(written("file"), os.O_RDONLY), 0o2755)


@provokes("Launch Remote File Copy Tools in Container")
def remote_copy():
    """a program named scp"""
    run_as("scp", "here", "there:")


@provokes("Mount Launched in Privileged Container")
def mounts():
    """a program named mount"""
    run_as("mount", "this", "there")


@provokes("Launch Ingress Remote File Copy Tools in Container")
def ingress_copy():
    """a program named wget"""
    run_as("wget", "http://127.0.0.1/")


@provokes("Read environment variable from /proc files")
def environment_of_a_process():
    """/proc/self/environ that is read"""
    read("/proc/self/environ")


@provokes("Exfiltrating Artifacts via Kubernetes Control Plane")
def archive():
    """`tar` of a plain file, below a program named runc"""
    written("plain")
    shell_as("runc", "tar -cf archive plain")


@provokes("Adding ssh keys to authorized_keys")
def authorized_keys():
    """/root/.ssh/authorized_keys that is written, in a root directory of its own"""
    plain_root("root/.ssh")
    written("/root/.ssh/authorized_keys")


@provokes("Potential Local Privilege Escalation via Environment Variables Misuse")
def tunables():
    """`true` with GLIBC_TUNABLES in its environment"""
    run("true", env={**os.environ, "GLIBC_TUNABLES": "glibc.malloc.check=0"})


@provokes("Backdoored library loaded into SSHD (CVE-2024-3094)")
def backdoored_library():
    """a program named sshd that reads a file named liblzma.so.5.6.1"""
    written("liblzma.so.5.6.1")
    shell_as("sshd", ": <liblzma.so.5.6.1")


@provokes("BPF Program Not Profiled")
def bpf_program():
    """bpf(2) with BPF_PROG_LOAD of nothing, which fails"""
    LIBC.syscall(SYS_BPF, BPF_PROG_LOAD, None, 0)


def foreign_connection(port=0):
    """A TCP connection to an address that is not loopback, in a network of its own."""
    own_network(FOREIGN_ADDRESS)
    with connection(host=FOREIGN_ADDRESS, port=port):
        pass


@provokes("Unexpected inbound connection source")
def inbound():
    """accept(2) of a TCP connection, in a network of its own"""
    foreign_connection()


@provokes("Interpreted procs inbound network activity")
def inbound_of_an_interpreter():
    """accept(2) of a TCP connection by Python, in a network of its own"""
    foreign_connection()


@provokes("Interpreted procs outbound network activity")
def outbound_of_an_interpreter():
    """a TCP connect by Python, in a network of its own"""
    foreign_connection()


@provokes("Unexpected K8s NodePort Connection")
def node_port():
    """a TCP connection to port 30001, in a network of its own"""
    foreign_connection(NODE_PORT)


@provokes("Read Shell Configuration File")
def shell_configuration_read():
    """a file named .bashrc that is read by a program that is no shell"""
    read(written(".bashrc"))


@provokes("Update Package Repository")
def package_repository():
    """a file in /etc/apt/sources.list.d, in a root directory of its own"""
    plain_root("etc/apt/sources.list.d")
    written("/etc/apt/sources.list.d/new.list")


@provokes("Write below binary dir")
def program_written():
    """a file in /usr/bin, in a root directory of its own"""
    plain_root("usr/bin")
    written("/usr/bin/new")


@provokes("Write below monitored dir")
def monitored_directory():
    """a file in /boot, in a root directory of its own"""
    plain_root("boot")
    written("/boot/new")


@provokes("Write below etc")
def below_etc():
    """a file in /etc, in a root directory of its own"""
    plain_root("etc")
    written("/etc/new")


@provokes("Write below root")
def below_root():
    """a file in /root, in a root directory of its own"""
    plain_root("root")
    written("/root/new")


@provokes("Write below rpm database")
def rpm_database():
    """a file in /var/lib/rpm, in a root directory of its own"""
    plain_root("var/lib/rpm")
    written("/var/lib/rpm/new")


@provokes("Modify binary dirs")
def program_removed():
    """a file in /usr/bin that is removed, in a root directory of its own"""
    plain_root("usr/bin")
    os.remove(written("/usr/bin/new"))


@provokes("Modify binary dirs")
def program_renamed():
    """a file in /usr/bin that is renamed, in a root directory of its own"""
    plain_root("usr/bin")
    os.rename(written("/usr/bin/new"), "/usr/bin/newer")


@provokes("Mkdir binary dirs")
def directory_of_programs():
    """a directory in /usr/bin, in a root directory of its own"""
    plain_root("usr/bin")
    os.mkdir("/usr/bin/new")


@provokes("Create Hidden Files or Directories")
def hidden_file():
    """a plain file whose name begins with a dot"""
    written(".hidden")


@provokes("Create Hidden Files or Directories")
def hidden_directory():
    """a directory whose name begins with a dot"""
    os.mkdir(os.path.abspath(".hidden"))


@provokes("Detect crypto miners using the Stratum protocol")
def stratum():
    """`true` with a stratum+tcp address"""
    run("true", "stratum+tcp://127.0.0.1:1")


@provokes("Kubernetes Client Tool Launched in Container")
def kubernetes_client():
    """a program named kubectl"""
    run_as("kubectl", "get", "pods")


@provokes("Container Drift Detected (chmod)")
def drift_by_chmod():
    """chmod(2) that makes a plain file executable"""
    os.chmod(written("file"), 0o755)


@provokes("Container Drift Detected (open+create)")
def drift_by_open():
    """a file that is created executable"""
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, 0o755))


@provokes("Sudo Potential Privilege Escalation")
def sudo_escape():
    """a program named sudo with the arguments -s and a backslash"""
    run_as("sudo", "-s", "\\")


@provokes("Unprivileged Delegation of Page Faults Handling to a Userspace Process")
def page_faults():
    """userfaultfd(2) by the user games (where that is refused, it fails)"""
    become("games")
    LIBC.syscall(SYS_USERFAULTFD, os.O_CLOEXEC | UFFD_USER_MODE_ONLY)


@provokes("Polkit Local Privilege Escalation Vulnerability (CVE-2021-4034)")
def polkit():
    """a program named pkexec without arguments"""
    run_as("pkexec")


@provokes("Modify Container Entrypoint")
def entry_point():
    """a file of its own that is opened for writing by way of /proc/self/fd"""
    own = os.open(written("file"), os.O_RDONLY)
    os.close(os.open(f"/proc/self/fd/{own}", os.O_WRONLY))


@provokes("Decoding Payload in Container")
def decoding():
    """`base64 -d` of nothing"""
    run("base64", "-d")


@provokes("Basic Interactive Reconnaissance")
def reconnaissance():
    """`whoami` as the leader of its process group on a terminal"""
    on_terminal(copied("true", "whoami"))


@provokes("Netcat/Socat Remote Code Execution on Host")
def socat():
    """a program named socat with the argument EXEC"""
    run_as("socat", "TCP:127.0.0.1:1", "EXEC:sh")


@provokes("Network Tool Executed During NPM Package Install")
def network_tool_of_npm():
    """a program named npm that runs one named nc"""
    copied("true", "nc")
    shell_as("npm", "./nc")


@provokes("Known Cryptominer Process Executed")
def miner():
    """a program named xmrig"""
    run_as("xmrig")


@provokes("Web Server Spawned Shell")
def web_server_shell():
    """a program named httpd that runs `sh`"""
    shell_as("httpd", "sh -c :")


@provokes("Web Server Spawned Suspicious Child Process")
def web_server_child():
    """a program named httpd that runs `id`"""
    shell_as("httpd", "id")


@provokes("Reverse Shell from Web Server")
def web_server_reverse_shell():
    """a program named httpd that runs `true` with the arguments of a reverse shell"""
    shell_as("httpd", "env true /dev/tcp/127.0.0.1/1")


@provokes("Privileged Container Device Access")
def disk():
    """a plain file named /dev/sda that is read, in a root directory of its own"""
    plain_root("dev")
    read(written("/dev/sda"))


@provokes("Container Access to Host Sensitive Paths")
def host_path():
    """a file below /host that is read, in a root directory of its own"""
    plain_root("host")
    read(written("/host/file"))
