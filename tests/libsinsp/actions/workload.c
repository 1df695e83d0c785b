// Does each action that `expected` describes, once and in its order, with names and numbers that tell them apart.
//
//     stage DIRECTORY     starts `actor` in an empty DIRECTORY, so that every process has a parent and a grandparent
//
// The same program goes by several names, which stand side by side: the name tells what it does. It needs root, and
// prints nothing. A call that fails where it should not ends the program. Calls are made by number where the C library
// would make another one. What a kernel or a container may refuse (bpf, init_module, ...) is not looked at: it is an
// event all the same.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <libgen.h>
#include <linux/capability.h>
#include <linux/openat2.h>
#include <linux/sched.h>
#include <net/if.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static void must(long result, int line) {
    if (result >= 0) return;
    fprintf(stderr, "workload.c:%d: %m\n", line);
    exit(1);
}

#define MUST(call) must((call), __LINE__)

// A call that must fail, and how.
#define MUST_FAIL(error, call) must((call) < 0 && errno == (error) ? 0 : -1, __LINE__)

// Where the programs lie.
static char programs[200];

static const char *program(const char *name) {
    static char path[256];
    snprintf(path, sizeof path, "%s/%s", programs, name);
    return path;
}

static int wait_for(long pid) {
    int status;
    MUST(waitpid(pid, &status, 0));
    return status;
}

// In a child, since it changes what the process is.
static void in_child(void (*act)(void)) {
    long pid = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
    MUST(pid);
    if (pid == 0) {
        act();
        _exit(0);
    }
    if (wait_for(pid) != 0) exit(1);
}

static void open_files(int dir) {
    struct open_how how = {.flags = O_RDONLY};
    int fd;

#ifdef SYS_open
    MUST(syscall(SYS_creat, "creat-made", 0640));
    MUST(syscall(SYS_open, "open-made", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0604));
    MUST(syscall(SYS_open, "open-made", O_RDONLY, 0));
    MUST(syscall(SYS_open, "open-made", O_WRONLY | O_APPEND, 0));
    MUST_FAIL(ENOENT, syscall(SYS_open, "open-missing", O_RDONLY, 0));
#endif
    MUST(fd = openat(AT_FDCWD, "openat-made", O_RDWR | O_CREAT | O_EXCL, 0600));
    MUST(close(fd));
    MUST(openat(AT_FDCWD, "./openat-made", O_RDONLY));
    MUST(openat(AT_FDCWD, "/etc/shadow", O_RDONLY));
    MUST(openat(dir, "by-dirfd", O_WRONLY | O_CREAT, 0660));
    MUST(openat(dir, "../sub/by-dirfd", O_RDONLY | O_NOFOLLOW));
    MUST(openat(AT_FDCWD, ".", O_RDONLY | O_DIRECTORY));
    MUST_FAIL(ENOENT, openat(AT_FDCWD, "openat-missing", O_RDWR));
    MUST_FAIL(ENOENT, openat(dir, "dirfd-missing", O_RDONLY));
    MUST_FAIL(EBADF, openat(999, "of-no-directory", O_RDONLY));
    MUST_FAIL(EEXIST, openat(AT_FDCWD, "openat-made", O_WRONLY | O_CREAT | O_EXCL, 0600));

    MUST(syscall(SYS_openat2, AT_FDCWD, "openat-made", &how, sizeof how));
    how = (struct open_how){.flags = O_WRONLY | O_CREAT, .mode = 0722, .resolve = RESOLVE_BENEATH};
    MUST(syscall(SYS_openat2, dir, "openat2-made", &how, sizeof how));
    how = (struct open_how){.flags = O_RDONLY, .resolve = RESOLVE_NO_SYMLINKS};
    MUST_FAIL(ENOENT, syscall(SYS_openat2, dir, "openat2-missing", &how, sizeof how));
    how.resolve = RESOLVE_BENEATH;
    MUST_FAIL(EXDEV, syscall(SYS_openat2, dir, "/etc/hostname", &how, sizeof how));
}

static void name_files(int dir) {
#ifdef SYS_open
    MUST(syscall(SYS_mkdir, "mkdir-made", 0750));
    MUST_FAIL(EEXIST, syscall(SYS_mkdir, "mkdir-made", 0700));
    MUST(syscall(SYS_symlink, "/target/of/symlink", "symlink-made"));
    MUST(syscall(SYS_link, "openat-made", "link-made"));
    MUST_FAIL(ENOENT, syscall(SYS_link, "link-missing", "link-unmade"));
    MUST(syscall(SYS_rename, "link-made", "rename-made"));
    MUST_FAIL(ENOENT, syscall(SYS_rename, "rename-missing", "rename-unmade"));
    MUST(syscall(SYS_unlink, "rename-made"));
    MUST_FAIL(ENOENT, syscall(SYS_unlink, "unlink-missing"));
    MUST(syscall(SYS_chmod, "openat-made", 04755));
    MUST_FAIL(ENOENT, syscall(SYS_chmod, "chmod-missing", 0600));
    MUST(syscall(SYS_rmdir, "mkdir-made"));
    MUST_FAIL(ENOTEMPTY, syscall(SYS_rmdir, "sub"));
#endif
    MUST(mkdirat(dir, "mkdirat-made", 0711));
    MUST(symlinkat("relative target", dir, "symlinkat-made"));
    MUST(linkat(AT_FDCWD, "openat-made", dir, "linkat-made", 0));
    MUST(linkat(dir, "symlinkat-made", AT_FDCWD, "linkat-followed", 0));
    MUST_FAIL(ENOENT, linkat(dir, "symlinkat-made", AT_FDCWD, "linkat-unmade", AT_SYMLINK_FOLLOW));
#ifdef SYS_renameat
    MUST(syscall(SYS_renameat, dir, "linkat-made", AT_FDCWD, "renameat-made"));
#endif
    MUST(syscall(SYS_renameat2, AT_FDCWD, "linkat-followed", dir, "renameat2-made", RENAME_NOREPLACE));
    MUST_FAIL(EEXIST, syscall(SYS_renameat2, dir, "renameat2-made", dir, "symlinkat-made", RENAME_NOREPLACE));
    MUST(unlinkat(dir, "renameat2-made", 0));
    MUST(unlinkat(dir, "mkdirat-made", AT_REMOVEDIR));
    MUST_FAIL(ENOENT, unlinkat(AT_FDCWD, "unlinkat-missing", 0));
    MUST(syscall(SYS_fchmod, dir, 02755));
    MUST(syscall(SYS_fchmodat, dir, "by-dirfd", 0606));
    // Linux 6.6 and later have it.
    if (syscall(SYS_fchmodat, AT_FDCWD, "fchmodat-missing", 0600) == 0) exit(1);
    if (syscall(452, AT_FDCWD, "openat-made", 0700, AT_SYMLINK_NOFOLLOW) < 0 && errno != ENOSYS) exit(1);
}

static void change_directory(int dir) {
    MUST(chdir("sub"));
    MUST(openat(AT_FDCWD, "after-chdir", O_WRONLY | O_CREAT, 0600));
    MUST_FAIL(ENOENT, chdir("chdir-missing"));
    MUST(chdir(".."));
    MUST(openat(AT_FDCWD, "after-chdir-back", O_WRONLY | O_CREAT, 0600));
    MUST(fchdir(dir));
    MUST(openat(AT_FDCWD, "after-fchdir", O_WRONLY | O_CREAT, 0600));
    MUST(chdir("/"));
    MUST(openat(AT_FDCWD, "etc/passwd", O_RDONLY));
    MUST(fchdir(dir));
    MUST(chdir(".."));
}

// A network of its own, so that every port is free: all of 192.0.2.0/24 and ::1 are on the loopback interface.
static void make_network(void) {
    struct ifreq request = {.ifr_name = "lo"};
    struct sockaddr_in *address = (struct sockaddr_in *)&request.ifr_addr;
    int fd;

    MUST(syscall(SYS_unshare, CLONE_NEWNET));
    MUST(fd = socket(AF_INET, SOCK_DGRAM, 0));
    request.ifr_flags = IFF_UP | IFF_RUNNING | IFF_LOOPBACK;
    MUST(ioctl(fd, SIOCSIFFLAGS, &request));
    strcpy(request.ifr_name, "lo:1");
    memset(address, 0, sizeof *address);
    address->sin_family = AF_INET;
    address->sin_addr.s_addr = inet_addr("192.0.2.1");
    MUST(ioctl(fd, SIOCSIFADDR, &request));
    MUST(close(fd));
}

static struct sockaddr_in v4(int host, int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl((192u << 24) + (2u << 8) + host);
    return address;
}

static struct sockaddr_in6 v6(int port) {
    struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    address.sin6_addr = in6addr_loopback;
    return address;
}

static struct sockaddr_un at_path(const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strncpy(address.sun_path, path, sizeof address.sun_path - 1);
    return address;
}

#define ADDRESS(address) (struct sockaddr *)&(address), sizeof(address)

// A socket with an address of its own.
static int bound(int family, int type, struct sockaddr *address, socklen_t len) {
    int fd = socket(family, type, 0);
    MUST(fd);
    MUST(bind(fd, address, len));
    return fd;
}

static void connect_v4(void) {
    struct sockaddr_in server = v4(1, 4001), first = v4(2, 4002), second = v4(3, 4003), third = v4(4, 4004);
    struct sockaddr_in closed = v4(1, 4009), udp_peer = v4(5, 4005), far = v4(1, 4010);
    far.sin_addr.s_addr = inet_addr("198.51.100.1");
    int listening = bound(AF_INET, SOCK_STREAM, ADDRESS(server));
    MUST(listen(listening, 5));

    int client = bound(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, ADDRESS(first));
    MUST(connect(client, ADDRESS(server)));
    // Made where the kernel is not asked to wait: on its way.
    int hurried = bound(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, ADDRESS(second));
    MUST_FAIL(EINPROGRESS, connect(hurried, ADDRESS(server)));
    int refused = bound(AF_INET, SOCK_STREAM, ADDRESS(third));
    MUST_FAIL(ECONNREFUSED, connect(refused, ADDRESS(closed)));
    int lost = socket(AF_INET, SOCK_STREAM, 0);
    MUST_FAIL(ENETUNREACH, connect(lost, ADDRESS(far)));
    int udp = socket(AF_INET, SOCK_DGRAM, 0);
    MUST(connect(udp, ADDRESS(udp_peer)));
    MUST_FAIL(EBADF, connect(998, ADDRESS(server)));

    int accepted;
#ifdef SYS_accept
    MUST(accepted = syscall(SYS_accept, listening, NULL, NULL));
#else
    MUST(accepted = syscall(SYS_accept4, listening, NULL, NULL, 0));
#endif
    (void)accepted;
    MUST(fcntl(listening, F_SETFL, O_NONBLOCK));
    MUST(syscall(SYS_accept4, listening, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK));
    MUST_FAIL(EAGAIN, syscall(SYS_accept4, listening, NULL, NULL, SOCK_CLOEXEC));
}

static void connect_v6(void) {
    struct sockaddr_in6 server = v6(6001), own = v6(6002), closed = v6(6009), other = v6(6003);
    int listening = bound(AF_INET6, SOCK_STREAM, ADDRESS(server));
    MUST(listen(listening, 1));
    int client = bound(AF_INET6, SOCK_STREAM, ADDRESS(own));
    MUST(connect(client, ADDRESS(server)));
    MUST(syscall(SYS_accept4, listening, NULL, NULL, 0));
    int refused = bound(AF_INET6, SOCK_STREAM, ADDRESS(other));
    MUST_FAIL(ECONNREFUSED, connect(refused, ADDRESS(closed)));
}

static void connect_unix(const char *directory) {
    char path[108];
    snprintf(path, sizeof path, "%.80s/server.sock", directory);
    struct sockaddr_un server = at_path(path), missing = at_path("/no/such/socket");
    struct sockaddr_un hidden = {.sun_family = AF_UNIX, .sun_path = "\0hidden server"};
    socklen_t hidden_len = offsetof(struct sockaddr_un, sun_path) + sizeof "\0hidden server" - 1;

    int listening = bound(AF_UNIX, SOCK_STREAM, ADDRESS(server));
    MUST(listen(listening, 1));
    int client = socket(AF_UNIX, SOCK_STREAM, 0);
    MUST(connect(client, ADDRESS(server)));
    MUST(syscall(SYS_accept4, listening, NULL, NULL, 0));
    int failed = socket(AF_UNIX, SOCK_STREAM, 0);
    MUST_FAIL(ENOENT, connect(failed, ADDRESS(missing)));
    MUST_FAIL(ECONNREFUSED, connect(failed, (struct sockaddr *)&hidden, hidden_len));
}

static void send_messages(const char *directory) {
    char path[108];
    snprintf(path, sizeof path, "%.80s/datagrams.sock", directory);
    struct sockaddr_in own = v4(6, 4006), peer = v4(7, 4007), far = v4(1, 4011);
    struct sockaddr_in6 own6 = v6(6006), peer6 = v6(6007);
    struct sockaddr_un local = at_path(path);
    far.sin_addr.s_addr = inet_addr("198.51.100.2");

    int udp = bound(AF_INET, SOCK_DGRAM, ADDRESS(own));
    MUST(sendto(udp, "four", 4, 0, ADDRESS(peer)));
    MUST_FAIL(ENETUNREACH, sendto(udp, "lost", 4, 0, ADDRESS(far)));
    int udp6 = bound(AF_INET6, SOCK_DGRAM, ADDRESS(own6));
    MUST(sendto(udp6, "sixsix", 6, 0, ADDRESS(peer6)));
    bound(AF_UNIX, SOCK_DGRAM, ADDRESS(local));
    int sender = socket(AF_UNIX, SOCK_DGRAM, 0);
    MUST(sendto(sender, "unix", 5, 0, ADDRESS(local)));
}

static char *const environment[] = {"ACTION=environment", "PATH=/nowhere", NULL};

static void exec(const char *path, const char *name, const char *first, const char *second) {
    char *arguments[] = {(char *)name, (char *)first, (char *)second, NULL};
    syscall(SYS_execve, path, arguments, environment);
}

static int shell_socket;

static void become_shell(void) {
#ifdef SYS_dup2
    MUST(syscall(SYS_dup2, shell_socket, 0));
#endif
    MUST(syscall(SYS_dup3, shell_socket, 1, 0));
    MUST(close(2));
    MUST(syscall(SYS_dup, shell_socket));
}

// The shell that it becomes takes the connection for granted.
static void exec_connected(void) {
    MUST(syscall(SYS_dup3, shell_socket, 0, 0));
    exec(program("child"), "child", "connected", NULL);
    exit(1);
}

// What a shell does that waits for its master.
static void serve_shell(void) {
    struct sockaddr_in server = v4(10, 4010), own = v4(11, 4011);
    int listening = bound(AF_INET, SOCK_STREAM, ADDRESS(server)), accepted;
    MUST(listen(listening, 1));
    int client = bound(AF_INET, SOCK_STREAM, ADDRESS(own));
    MUST(connect(client, ADDRESS(server)));
    MUST(accepted = syscall(SYS_accept4, listening, NULL, NULL, 0));
    MUST(syscall(SYS_dup3, accepted, 0, 0));
}

static void dup_files(void) {
    int fd = openat(AT_FDCWD, "openat-made", O_RDONLY);
    MUST(fd);
    MUST(syscall(SYS_dup3, fd, 0, O_CLOEXEC));
    MUST_FAIL(EBADF, syscall(SYS_dup3, 997, 1, 0));
}

// What a reverse shell does: a connection becomes the standard streams.
static void dup_sockets(void) {
    struct sockaddr_in server = v4(8, 4008), own = v4(9, 4019);
    int listening = bound(AF_INET, SOCK_STREAM, ADDRESS(server));
    MUST(listen(listening, 1));
    shell_socket = bound(AF_INET, SOCK_STREAM, ADDRESS(own));
    MUST(connect(shell_socket, ADDRESS(server)));
    in_child(become_shell);
    in_child(exec_connected);
    in_child(serve_shell);
    in_child(dup_files);
}

// The users daemon (1), bin (2), sys (3) and so on are the same on every Debian.
static void set_user(void) {
    MUST(syscall(SYS_setuid, 1));
    MUST(openat(AT_FDCWD, "/etc/passwd", O_RDONLY | O_NOFOLLOW));
    MUST_FAIL(EPERM, syscall(SYS_setuid, 0));
}
static void set_group(void) {
    MUST(syscall(SYS_setgid, 2));
}
static void set_users(void) {
    MUST(syscall(SYS_setreuid, -1, 3));
    MUST(syscall(SYS_setreuid, 3, 0));
}
static void set_groups(void) {
    MUST(syscall(SYS_setregid, 7, 8));
}
static void set_all_users(void) {
    MUST(syscall(SYS_setresuid, 1, 2, 3));
    MUST(syscall(SYS_setresuid, -1, 3, -1));
}
static void set_all_groups(void) {
    MUST(syscall(SYS_setresgid, 7, -1, 9));
}
static void set_session(void) {
    MUST(setsid());
    MUST_FAIL(EPERM, setsid());
}
static void set_capabilities(void) {
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {{.effective = 1 << CAP_CHOWN | 1 << CAP_SETUID}};
    data[0].permitted = data[0].effective;
    MUST(syscall(SYS_capset, &header, data));
}
static void change_root(void) {
    MUST(chroot("sub"));
    MUST_FAIL(ENOENT, chroot("chroot-missing"));
}

static void ask_the_kernel(void) {
    char junk[64] = {0};
    int fd;
    // Whether a process may be traced that is traced already depends on who traces it.
    ptrace(PTRACE_TRACEME, 0, NULL, NULL);
    MUST_FAIL(ESRCH, syscall(SYS_ptrace, PTRACE_ATTACH, 0x3ffffffe, 0, 0));
    MUST_FAIL(ESRCH, syscall(SYS_ptrace, PTRACE_POKEDATA, 0x3ffffffe, 0x1000, 0x41));
    if (syscall(SYS_bpf, 5 /* BPF_PROG_LOAD */, junk, sizeof junk) >= 0) exit(1);
    if (syscall(SYS_init_module, junk, sizeof junk, "option=1") >= 0) exit(1);
    if (syscall(SYS_finit_module, 996, "option=2", 1 /* MODULE_INIT_IGNORE_MODVERSIONS */) >= 0) exit(1);
    MUST(fd = openat(AT_FDCWD, "/proc/self/ns/uts", O_RDONLY));
    MUST(setns(fd, CLONE_NEWUTS));
    MUST_FAIL(EBADF, setns(995, CLONE_NEWNET));
    MUST(unshare(CLONE_NEWUTS | CLONE_FS));
    MUST_FAIL(EINVAL, unshare(1));
    MUST_FAIL(ENOENT, mount("device", "mount-missing", "tmpfs", MS_NOSUID | MS_RDONLY, NULL));
    MUST_FAIL(ENOENT, umount2("umount-missing", MNT_DETACH));
    syscall(SYS_userfaultfd, O_CLOEXEC | 1 /* UFFD_USER_MODE_ONLY */);
    if (syscall(SYS_io_uring_setup, 0, calloc(1, 120)) >= 0) exit(1);
}

static void *thread_main(void *unused) {
    (void)unused;
    MUST(openat(AT_FDCWD, "by-thread", O_WRONLY | O_CREAT, 0600));
    MUST(syscall(SYS_chdir, "sub"));
    MUST(openat(AT_FDCWD, "by-thread-after-chdir", O_WRONLY | O_CREAT, 0600));
    MUST(syscall(SYS_chdir, ".."));
    return NULL;
}

static void *exec_main(void *unused) {
    (void)unused;
    exec(program("child"), "child", "by-thread", NULL);
    exit(1);
}

static void exec_by_thread(void) {
    pthread_t thread;
    MUST(-pthread_create(&thread, NULL, exec_main, NULL));
    for (;;) pause();
}
static void exec_plain(void) {
    exec(program("child"), "argument zero", "plain", "two words");
    exit(1);
}
static void exec_relative(void) {
    MUST(chdir(programs));
    exec("./child", "./child", "relative", NULL);
    exit(1);
}
static void exec_alias(void) {
    exec(program("alias"), "alias", "by-symlink", NULL);
    exit(1);
}
static void exec_script(void) {
    exec(program("script"), "lost", "argument", NULL);
    exit(1);
}
static void exec_memfd(void) {
    int memfd, fd;
    MUST(memfd = syscall(SYS_memfd_create, "hidden-program", MFD_CLOEXEC));
    MUST(fd = openat(AT_FDCWD, program("child"), O_RDONLY));
    while (sendfile(memfd, fd, NULL, 1 << 20) > 0) {
    }
    MUST(dup3(memfd, 100, O_CLOEXEC));
    exec("/proc/self/fd/100", "from-memfd", "memfd", NULL);
    exit(1);
}
static void exec_at(void) {
    char *arguments[] = {"child", "at", NULL};
    int dir = openat(AT_FDCWD, programs, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    MUST(dir);
    MUST_FAIL(ENOENT, syscall(SYS_execveat, dir, "execveat-missing", arguments, environment, 0));
    syscall(SYS_execveat, dir, "child", arguments, environment, 0);
    exit(1);
}
// Without a path: the descriptor is all there is.
static void exec_descriptor(void) {
    char *arguments[] = {"nameless", "descriptor", NULL};
    int memfd, fd;
    MUST(memfd = syscall(SYS_memfd_create, "nameless-program", MFD_CLOEXEC));
    MUST(fd = openat(AT_FDCWD, program("child"), O_RDONLY));
    while (sendfile(memfd, fd, NULL, 1 << 20) > 0) {
    }
    syscall(SYS_execveat, memfd, "", arguments, environment, AT_EMPTY_PATH);
    exit(1);
}
static void exec_by_user(void) {
    MUST(syscall(SYS_setresgid, 2, 2, 2));
    MUST(syscall(SYS_setresuid, 2, 2, 2));
    exec(program("child"), "child", "by-user", NULL);
    exit(1);
}
static void exec_in_vain(void) {
    exec("/no/such/program", "no-such", "argument", "two words");
    if (errno != ENOENT) exit(1);
    exec("openat-unexecutable", "not-permitted", NULL, NULL);
    if (errno != EACCES) exit(1);
}

static void make_processes(void) {
    struct clone_args clone3_arguments = {.exit_signal = SIGCHLD};
    pthread_t thread;
    long pid;
    int status;

#ifdef SYS_fork
    MUST(pid = syscall(SYS_fork));
    if (pid == 0) {
        openat(AT_FDCWD, "by-fork", O_WRONLY | O_CREAT, 0600);
        _exit(21);
    }
    wait_for(pid);
#endif
    MUST(pid = vfork());
    if (pid == 0) {
        syscall(SYS_execve, program("child"), (char *[]){"child", "after-vfork", NULL}, environment);
        _exit(22);
    }
    wait_for(pid);
    MUST(pid = syscall(SYS_clone, SIGCHLD | CLONE_FILES, 0, 0, 0, 0));
    if (pid == 0) {
        openat(AT_FDCWD, "by-clone", O_WRONLY | O_CREAT, 0600);
        _exit(23);
    }
    wait_for(pid);
    // Where a container refuses it, the C library makes do without.
    pid = syscall(SYS_clone3, &clone3_arguments, sizeof clone3_arguments);
    if (pid == 0) {
        openat(AT_FDCWD, "by-clone3", O_WRONLY | O_CREAT, 0600);
        _exit(24);
    }
    if (pid > 0) wait_for(pid);
    MUST(pid = syscall(SYS_clone, SIGCHLD | CLONE_NEWPID, 0, 0, 0, 0));
    if (pid == 0) {
        openat(AT_FDCWD, "by-first-of-namespace", O_WRONLY | O_CREAT, 0600);
        pid = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
        if (pid == 0) {
            openat(AT_FDCWD, "by-second-of-namespace", O_WRONLY | O_CREAT, 0600);
            _exit(26);
        }
        wait_for(pid);
        _exit(25);
    }
    wait_for(pid);
    MUST(-pthread_create(&thread, NULL, thread_main, NULL));
    MUST(-pthread_join(thread, NULL));
    MUST(openat(AT_FDCWD, "after-thread", O_WRONLY | O_CREAT, 0600));

    MUST(pid = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0));
    if (pid == 0) {
        raise(SIGKILL);
    }
    status = wait_for(pid);
    if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL) exit(1);
    MUST(pid = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0));
    if (pid == 0) {
        setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
        raise(SIGSEGV);
    }
    status = wait_for(pid);
    if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGSEGV) exit(1);
}

static int actor(const char *directory) {
    int dir, fd;
    char work[200];
    umask(0);
    snprintf(work, sizeof work, "%.150s/work", directory);
    MUST(mkdirat(AT_FDCWD, work, 0755));
    MUST(chdir(work));
    MUST(mkdirat(AT_FDCWD, "sub", 0700));
    MUST(dir = openat(AT_FDCWD, "sub", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    MUST(fd = openat(AT_FDCWD, "openat-unexecutable", O_WRONLY | O_CREAT, 0600));
    MUST(close(fd));

    open_files(dir);
    name_files(dir);
    change_directory(dir);
    make_network();
    connect_v4();
    connect_v6();
    connect_unix(directory);
    send_messages(directory);
    dup_sockets();
    void (*const changes[])(void) = {
        set_user, set_group, set_users, set_groups,
        set_all_users, set_all_groups, set_session, set_capabilities,
        change_root, ask_the_kernel, exec_in_vain, exec_plain,
        exec_relative, exec_alias, exec_script, exec_memfd,
        exec_at, exec_descriptor, exec_by_user, exec_by_thread,
    };
    for (size_t index = 0; index < sizeof changes / sizeof *changes; index++) in_child(changes[index]);
    make_processes();
    return 0;
}

// What an exec starts: it shows itself by a file.
static int child(const char *how) {
    char path[64];
    if (!strcmp(how, "connected")) MUST(syscall(SYS_dup3, 0, 2, 0));
    snprintf(path, sizeof path, "/dev/null/%.40s", how);
    openat(AT_FDCWD, path, O_RDONLY);
    return 0;
}

static int stage(const char *directory) {
    long pid = fork();
    MUST(pid);
    if (pid == 0) {
        execl(program("actor"), "actor", directory, NULL);
        _exit(1);
    }
    int status = wait_for(pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

int main(int argc, char **argv) {
    // The file itself tells where its neighbours are. A memfd has none and needs none.
    char self[200] = {0};
    if (readlink("/proc/self/exe", self, sizeof self - 1) < 0 || argc < 2) return 100;
    const char *name = basename(argv[0]);
    snprintf(programs, sizeof programs, "%s", dirname(self));
    if (!strcmp(name, "stage")) return stage(argv[1]);
    if (!strcmp(name, "actor") && argc == 2) return actor(argv[1]);
    return child(argv[1]);
}
