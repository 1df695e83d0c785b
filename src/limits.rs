//! Every bound of the program, in one place.
//!
//! A loop, queue or buffer elsewhere takes its bound from here. Reaching a bound is counted and degrades the
//! capture; it never grows memory, hangs or touches the workload. Before you raise one, look for the test that
//! names it.

/// Longest path that the kernel takes, with its NUL: `PATH_MAX` (limits.h).
pub const PATH_BYTES_MAX: usize = 4096;

/// Bytes of one string that the first read of a tracee's memory asks for. Most paths are far shorter, and a
/// longer one costs a second read.
pub const STRING_FIRST_READ_BYTES: usize = 256;

/// Bytes of arguments (`argv`) kept of one exec, the bound of Falco's own drivers for exe + args.
pub const ARGV_BYTES_MAX: usize = 4096;

/// Argument pointers followed for one exec that was trapped at its entry.
pub const ARGV_COUNT_MAX: usize = 1024;

/// Bytes kept of one text under `/proc` (status, cmdline, environ, ...).
pub const PROC_TEXT_BYTES_MAX: usize = 4096;

/// Longest socket address: `sizeof(struct sockaddr_storage)`.
pub const SOCKADDR_BYTES_MAX: usize = 128;

/// Bytes kept of a structure in memory that an argument points to (`open_how`, `clone_args`, ...).
pub const STRUCT_BYTES_MAX: usize = 128;

/// Captures in one record.
pub const CAPTURES_MAX: usize = 24;

/// Longest record, header and captures together. An exec with every text at its bound fits.
pub const RECORD_BYTES_MAX: usize = 64 * 1024;

/// Default size of the ring.
pub const RING_BYTES_DEFAULT: usize = 4 * 1024 * 1024;

/// Largest ring.
pub const RING_BYTES_MAX: usize = 1 << 30;

/// How long one stop may be held because the ring is full, before its record is dropped and counted.
pub const FULL_RING_HOLD_MS_MAX: u64 = 2_000;

/// How long the consumer sleeps at most before it looks again.
pub const CONSUMER_SLEEP_MS_MAX: u64 = 100;

/// Threads that the engine has room for without allocating.
pub const TRACEES_RESERVED: usize = 4096;

/// Processes that the decoder remembers. While it knows as many, new ones are counted and not remembered: their events
/// tell no process.
pub const PROCESSES_MAX: usize = 262_144;

/// Longest stop that the histogram tells apart, in nanoseconds: one minute.
pub const HISTOGRAM_NS_MAX: u64 = 60_000_000_000;

/// How long a child waits to be seized before it gives up.
pub const LAUNCH_MS_MAX: u64 = 10_000;

/// Bytes of captures that one trapped call can have: two paths, two directories and their headers.
pub const CALL_CAPTURE_BYTES: usize = 4 * (PATH_BYTES_MAX + 64);

/// Buffers for the captures of calls in flight that are there from the start; more are made when more threads
/// stand inside trapped calls at once.
pub const CALL_BUFFERS_RESERVED: usize = 16;

/// How long a new thread is held until its creator has told of it.
pub const NEW_TRACEE_HOLD_MS_MAX: u64 = 20;

/// Threads whose end is remembered because nobody has told of their beginning.
pub const EARLY_ENDS_MAX: usize = 1024;

/// How long such an end is remembered.
pub const EARLY_END_MS_MAX: u64 = 1_000;

/// One past the highest system call number that any table covers. Linux is below 600 in every ABI.
pub const SYSCALL_NUMBERS_MAX: u32 = 1024;

/// The longest filter that the kernel takes: `BPF_MAXINSNS` (linux/bpf_common.h).
pub const FILTER_INSTRUCTIONS_MAX: usize = 4096;

/// Bytes of an argument vector or environment that a line of text output shows.
pub const TEXT_STRINGS_BYTES_MAX: usize = 1024;

/// Bytes of a structure that a line of text output shows.
pub const TEXT_STRUCT_BYTES_MAX: usize = 32;

/// Bytes read of `/etc/passwd`; users after them have no name.
pub const PASSWD_BYTES_MAX: u64 = 1024 * 1024;

/// Records that one reservation makes room of at most before it looks again. Many, so that the consumer's cache line
/// is seldom touched; not all, so that no stop waits for a walk over the whole ring.
pub const RECLAIM_RECORDS_MAX: usize = 64;

/// Bytes kept of a process name: the kernel's `comm` has 15, names of kernel threads up to 63.
pub const NAME_BYTES_MAX: usize = 64;

/// Most bytes that the events of one record take in Falco's layout: an exec with every text at its bound, whose thread,
/// process and parent are all new to Falco.
pub const TRANSLATION_BYTES_MAX: usize = 64 * 1024;

/// Sockets remembered for one process, so that Falco is not told of them twice.
pub const SOCKETS_MAX: usize = 8;
