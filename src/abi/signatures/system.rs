//! Calls on the system as a whole: time, keys, modules, names, power.

use super::ArgumentKind::{Fd, FdPath, Flags, Hex, Path, Signed, Size, Text, Unsigned};
use super::{Argument, FlagSet, Line, Signature, signatures};

pub(super) const CALLS: &[Line] = signatures! {
    // Time.
    time (tloc: Hex);
    stime (t: Hex);
    gettimeofday (tv: Hex, tz: Hex);
    settimeofday (tv: Hex, tz: Hex);
    adjtimex (buf: Hex);
    clock_gettime | clock_gettime64 (clockid: Flags(FlagSet::Clock), tp: Hex);
    clock_settime | clock_settime64 (clockid: Flags(FlagSet::Clock), tp: Hex);
    clock_getres | clock_getres_time64 (clockid: Flags(FlagSet::Clock), res: Hex);
    clock_adjtime | clock_adjtime64 (clockid: Flags(FlagSet::Clock), buf: Hex);
    clock_nanosleep | clock_nanosleep_time64
        (clockid: Flags(FlagSet::Clock), flags: Hex, request: Hex, remain: Hex);
    nanosleep (req: Hex, rem: Hex);
    alarm (seconds: Unsigned);
    getitimer (which: Signed, curr_value: Hex);
    setitimer (which: Signed, new_value: Hex, old_value: Hex);
    timer_create (clockid: Flags(FlagSet::Clock), sevp: Hex, timerid: Hex);
    timer_settime | timer_settime64 (timerid: Signed, flags: Hex, new_value: Hex, old_value: Hex);
    timer_gettime | timer_gettime64 (timerid: Signed, curr_value: Hex);
    timer_getoverrun (timerid: Signed);
    timer_delete (timerid: Signed);

    // Kernel: programs, modules, keys, random numbers.
    bpf (cmd: Flags(FlagSet::Bpf), attr: Hex, size: Unsigned);
    init_module (img: Hex, length: Size, uargs: Text);
    finit_module (fd: FdPath, uargs: Text, flags: Flags(FlagSet::Module));
    delete_module (name: Text, flags: Hex);
    kexec_load (entry: Hex, nr_segments: Size, segments: Hex, flags: Hex);
    kexec_file_load (kernel_fd: Fd, initrd_fd: Fd, cmdline_len: Size, cmdline: Text, flags: Hex);
    add_key (type: Text, description: Text, payload: Hex, plen: Size, keyring: Signed);
    request_key (type: Text, description: Text, callout_info: Text, dest_keyring: Signed);
    keyctl (operation: Signed, arg2: Hex, arg3: Hex, arg4: Hex, arg5: Hex);
    getrandom (buf: Hex, buflen: Size, flags: Flags(FlagSet::Random));
    syslog (type: Signed, bufp: Hex, len: Signed);

    // The machine.
    uname | olduname | oldolduname (buf: Hex);
    sysinfo (info: Hex);
    // These names need not end in NUL, so they are no texts.
    sethostname (name: Hex, len: Signed);
    setdomainname (name: Hex, len: Signed);
    reboot (magic: Hex, magic2: Hex, op: Hex, arg: Hex);
    vhangup ();
    iopl (level: Unsigned);
    ioperm (from: Hex, num: Size, turn_on: Signed);
    uselib (library: Path);
    _sysctl (args: Hex);
};
