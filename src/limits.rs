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

/// Bytes read of a `/proc/TID/stat`: 52 fields, of which a name has 64 bytes and the numbers up to 20 digits.
pub const PROC_STAT_BYTES_MAX: usize = 2048;

/// Control groups above that of this process whose quotas are looked at.
pub const CGROUP_DEPTH_MAX: usize = 64;

/// Longest record, header and captures together. An exec with every text at its bound fits.
pub const RECORD_BYTES_MAX: usize = 64 * 1024;

/// Default size of the ring.
pub const RING_BYTES_DEFAULT: usize = 4 * 1024 * 1024;

/// Largest ring.
pub const RING_BYTES_MAX: usize = 1 << 30;

/// Smallest ring that takes every record: one may have half of a ring.
pub const RING_BYTES_MIN: usize = 2 * RECORD_BYTES_MAX;

/// Whether a ring may have this size.
#[must_use]
pub const fn is_ring_bytes(bytes: usize) -> bool {
    bytes.is_power_of_two() && RING_BYTES_MIN <= bytes && bytes <= RING_BYTES_MAX
}

/// How long one stop may be held because the ring is full, before its record is dropped and counted.
pub const FULL_RING_HOLD_MS_MAX: u64 = 2_000;

/// How long the consumer sleeps at most before it looks again.
pub const CONSUMER_SLEEP_MS_MAX: u64 = 100;

/// How long it sleeps first, not to be woken, where records come again and again.
pub const CONSUMER_NAP_US: u64 = 1_000;

/// Threads that the engine has room for without allocating.
pub const TRACEES_RESERVED: usize = 128;

/// Processes that the decoder remembers. While it knows as many, new ones are counted and not remembered: their events
/// tell no process.
pub const PROCESSES_MAX: usize = 262_144;

/// Longest stop that the histogram tells apart, in nanoseconds: one minute.
pub const HISTOGRAM_NS_MAX: u64 = 60_000_000_000;

/// How long a child waits to be seized before it gives up.
pub const LAUNCH_MS_MAX: u64 = 10_000;

/// How long the child may take that finds out what the machine permits. It takes some milliseconds.
pub const PROBE_MS_MAX: u64 = 2_000;

/// Threads of the notify engine that receive calls. More than there are CPUs gain nothing but that some may wait.
pub const WORKERS_MAX: u16 = 256;

/// Bytes of captures that one trapped call can have: two paths, two directories and their headers.
pub const CALL_CAPTURE_BYTES: usize = 4 * (PATH_BYTES_MAX + 64);

/// Buffers for the captures of calls in flight that are there from the start; more are made when more threads
/// stand inside trapped calls at once.
pub const CALL_BUFFERS_RESERVED: usize = 16;

/// How long a new thread is held until its creator has told of it, if nobody is known who could have made it.
pub const NEW_TRACEE_HOLD_MS_MAX: u64 = 20;

/// How long the engine sleeps between two looks meanwhile.
pub const NEW_TRACEE_POLL_US: u64 = 20;

/// How long a new thread is held, if the process that it is of, or its parent, is known. Only a thread that another one of
/// its process ends by an exec, in the middle of making it, never tells of it then.
pub const UNTOLD_TRACEE_HOLD_MS_MAX: u64 = 2_000;

/// How long the engine sleeps between two looks then, once nobody unknown would be held any more.
pub const UNTOLD_TRACEE_POLL_US: u64 = 1_000;

/// Calls that block and are followed to their results at the same time by the notify engine: each keeps one of its
/// threads.
pub const BLOCKED_CALLS_MAX: usize = 256;

/// One of so many calls that triage drops is compared with what it has used, where it can have been deceived.
pub const VERIFY_SHARE: u32 = 64;

/// So many dropped calls are looked at twice for each one that is followed.
pub const SECOND_LOOKS: u32 = 32;

/// Lines of `/proc/PID/maps` that are looked at: more maps than Linux allows without being told to.
pub const MAPS_MAX: usize = 65_536;

/// Processes that wait in vfork(2), each for the next, of which it is known that they share their memory.
pub const SHARING_CHAIN_MAX: usize = 16;

/// How often a guardian that is to go on is continued, a millisecond apart, before it is left to itself.
pub const URGES_MAX: u32 = 10_000;

/// How long the workload's first process, which is to go on, waits for its guardian to do so first.
pub const GUARDIAN_WAKE_MS_MAX: u64 = 100;

/// How often it is looked meanwhile.
pub const GUARDIAN_WAKE_LOOK_US: u64 = 50;

/// How often we look whether somebody has stopped the guardian, which nobody tells.
pub const GUARDIAN_LOOK_MS: u16 = 200;

/// Between two looks at whether the workload's first process is stopped, where each call that is followed gives a hint.
pub const ROOT_LOOK_MS: u64 = 5;

/// How long the processes of a workload are killed again and again because they fork meanwhile.
pub const KILL_MS_MAX: u64 = 10_000;

/// Times that a call which is followed may begin anew because a signal came before it: then it is let go unfollowed, or
/// signals that come often enough would keep it from beginning at all.
pub const FALSE_STARTS_MAX: u32 = 8;

/// Times that who follows a fork is told that it has ended without a word, before that is left to the watch over all.
pub const FORK_KICKS_MAX: u32 = 20;

/// How long the notify engine waits for the ends of the last processes, which have left the filter already.
pub const LAST_ENDS_MS_MAX: u64 = 2_000;

/// How long a thread of the notify engine may wait for a call that should not block until another one receives calls in
/// its place.
pub const STALL_MS: u64 = 20;

/// Stops after which the thread shares a CPU with the tracer, and so do the others that stop then.
pub const PLACEMENT_STOPS_MIN: u32 = 8;

/// Longest time between two such stops. Whoever stops less often gains little.
pub const PLACEMENT_GAP_US_MAX: u64 = 1_000;

/// How often it is looked whether those threads have gone quiet: they then keep their one CPU for twice as long at most.
pub const PLACEMENT_LOOK_MS: u64 = 5;

/// Of eight looks, those at which several of them ran or wanted to: with so many they are let go. When a thread makes another,
/// both want to run for a moment.
pub const PLACEMENT_CROWDED_LOOKS_MAX: u32 = 2;

/// Longest time from one stop to the next, on average, with which several that want to run may be better off together. Waking
/// another CPU adds 25 to 40 us to a stop wherever that was measured.
pub const PLACEMENT_DENSE_GAP_US_MAX: u64 = 100;

/// How long it is tried then how they go without a pack, and how long they have to have been in one before.
pub const PLACEMENT_TRIAL_MS: u64 = 20;

/// The stops of a pack in a given time, in percent of those without one, above which several that want to run are kept together.
pub const PLACEMENT_GAIN_PERCENT_MIN: u64 = 110;

/// The stops of one thread without a pack, in percent of those in it, above which nobody is kept together.
pub const PLACEMENT_LOSS_PERCENT_MAX: u64 = 200;

/// How long no pack is tried after the first one of which several wanted to run; after each further one it is twice as long, up to
/// [`PLACEMENT_PAUSE_MS`].
pub const PLACEMENT_CROWD_PAUSE_MS: u64 = 50;

/// How long what was found out by a trial stands, and how long no pack is tried after one that was refused.
pub const PLACEMENT_PAUSE_MS: u64 = 500;

/// How long it is not tried when one of them has asked for its CPUs.
pub const PLACEMENT_SHOWN_PAUSE_MS: u64 = 50;

/// Threads that share a CPU with the tracer, at most: each costs two calls of ours when they are let go, and a look at it.
pub const PLACEMENT_THREADS_MAX: usize = 128;

/// Threads that have been let go and whose children may still have that CPU, at most.
pub const PLACEMENT_PARTED_MAX: usize = 1024;

/// CPUs, each with what was had before it, that are remembered of threads which have ended: a child that nobody tells of may
/// have inherited one.
pub const PLACEMENT_DEPARTED_MAX: usize = 16;

/// Bytes of the largest set of CPUs that a kernel has: 8,192 CPUs (`CONFIG_NR_CPUS`).
pub const AFFINITY_BYTES_MAX: usize = 1024;

/// Looks after which threads that stay busy are let go for some stops, so that the kernel can choose another CPU.
pub const PLACEMENT_LOOKS_MAX: u32 = 20;

/// Places for copies of arguments that one process has: so many of its calls can be inside the kernel with a copy at once.
pub const COPY_SLOTS: usize = 256;

/// Bytes of one such place: two paths and a text of the longest kind.
pub const COPY_SLOT_BYTES: usize = 3 * PATH_BYTES_MAX;

/// Places from which a thread comes back by itself that one process has. A thread keeps its place until it stops again, so it
/// is so many threads that make calls in this way. Others stop at the exits of their calls.
pub const WAY_BACK_SLOTS: usize = 1024;

/// Bytes of one such place: a page, so that no other thread's lies in it. What does not fit takes one of the others.
pub const WAY_BACK_SLOT_BYTES: usize = 4096;

/// Arguments of one call that are copied.
pub const COPIES_MAX: usize = 4;

/// Stops of a thread on a detour that one call takes at most.
pub const DETOUR_STOPS_MAX: u32 = 16;

/// How long a call on a detour is awaited before the thread is interrupted.
pub const DETOUR_MS_MAX: u64 = 50;

/// Times that it is interrupted before the engine sees to others again. It is set back when it stops at last.
pub const DETOUR_INTERRUPTIONS_MAX: u32 = 4;

/// Bytes of `/proc/PID/maps` in which a mapping of ours is looked for.
pub const MAPS_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Stops that are served at once, as soon as one is heard, before everybody is heard again.
pub const SERVED_AT_ONCE_MAX: u32 = 4;

/// Tracees from which on the engine waits for hints instead of walking all of them for each stop.
pub const CROWD_TRACEES_MIN: usize = 200;

/// So many times as long as a walk over all tracees takes, at least, passes between two of them.
pub const CROWD_WALK_SHARE: u32 = 32;

/// Shortest time between two such walks.
pub const CROWD_WALK_US_MIN: u64 = 100;

/// Longest time between two such walks while there are stops, and the time where only one thread stops: nobody whose hint was lost
/// waits longer to be heard.
pub const CROWD_WALK_US_MAX: u64 = 5_000;

/// Time between two such walks while there are no stops. Then none can be missing: it is a precaution.
pub const SETTLED_WALK_MS: u64 = 100;

/// Threads that stopped lately, and are asked whenever there is a hint.
pub const HOT_TRACEES_MAX: usize = 16;

/// Times that such a thread is asked in vain before it is one no more.
pub const HOT_TRACEE_MISSES_MAX: u32 = 16;

/// Threads whose end is remembered because nobody has told of their beginning.
pub const EARLY_ENDS_MAX: usize = 1024;

/// How long such an end is remembered.
pub const EARLY_END_MS_MAX: u64 = 60_000;

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
/// process and ancestors are all new to Falco.
pub const TRANSLATION_BYTES_MAX: usize = 128 * 1024;

/// Bytes of texts of the ancestors that are introduced to Falco before one process; those beyond are not introduced.
pub const LINEAGE_BYTES_MAX: usize = 32 * 1024;

/// Sockets remembered for one process, so that Falco is not told of them twice.
pub const SOCKETS_MAX: usize = 8;

/// Longest name of a container. Docker's own are at most that of a file; Kubernetes' are 63.
pub const CONTAINER_NAME_BYTES_MAX: usize = 255;

/// Longest name of an image: registry, repository, tag and digest.
pub const CONTAINER_IMAGE_BYTES_MAX: usize = 1024;

/// Characters of a refused container id, name or image that the error shows.
pub const CONTAINER_ERROR_CHARS_MAX: usize = 80;

/// Bytes read of `/proc/self/cgroup` and of `/proc/self/mountinfo`; lines after them are not looked at.
pub const CONTAINER_TEXT_BYTES_MAX: u64 = 1024 * 1024;

/// How long the ECS metadata endpoint may take to answer.
pub const ECS_METADATA_SECONDS_MAX: u64 = 1;

/// Longest answer of the ECS metadata endpoint. Those of real containers have some 2 KiB.
pub const ECS_METADATA_BYTES_MAX: u64 = 256 * 1024;

/// Ancestors of a process that are looked at when it is told of again; those beyond are not told of.
pub const LINEAGE_MAX: usize = 64;

/// Ends of threads that are kept while records are lost, to be told once there is room. Of a process whose end is not
/// kept, readers learn only when its number is another's.
pub const LOST_EXITS_MAX: usize = 4096;

/// Programs whose start was lost that are told of as soon as there is room; others wait for their process's next record.
pub const LOST_EXECS_MAX: usize = 256;

/// How long either end of a link waits for the other to take or to send one message.
pub const LINK_WAIT_MS_MAX: u64 = 2_000;

/// How long either end takes for all messages of a connection, so that one which sends a little now and then keeps
/// nobody else waiting.
pub const LINK_HELLO_MS_MAX: u64 = 10_000;

/// How often a consumer looks for new tracers.
pub const LINK_SCAN_MS: u64 = 100;

/// How long a consumer leaves a tracer alone that it could not connect to.
pub const LINK_RETRY_MS: u64 = 1_000;

/// Files that are looked at in the directory of the link.
pub const LINK_ENTRIES_MAX: usize = 1024;

/// Bytes of records about running processes that a consumer takes at its connection; of processes beyond, it learns
/// when they are told of in the ring.
pub const LINK_PROCESSES_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Bytes of events that the plugin hands to Falco at once. More would make no call cheaper, and keep the first
/// waiting.
pub const PLUGIN_BATCH_BYTES: usize = 128 * 1024;

/// How long a consumer of several rings sleeps before it looks at them again.
pub const SEVERAL_RINGS_SLEEP_MS: u64 = 2;

/// How long the workload is held for a consumer that creance starts itself, unless another bound is given.
pub const CONSUMER_WAIT_S: u64 = 30;

/// How long creance waits before it starts a consumer again that has ended: twice as long each time, from the first to the
/// second, until one has run for the third.
pub const CONSUMER_PAUSE_MS_MIN: u64 = 1_000;
/// See above.
pub const CONSUMER_PAUSE_MS_MAX: u64 = 30_000;
/// See above.
pub const CONSUMER_STEADY_MS: u64 = 60_000;

/// How long a consumer may take to end when it is asked to.
pub const CONSUMER_END_MS_MAX: u64 = 5_000;

/// How long a workload that has ended is kept for a connected consumer to read the rest of the ring.
pub const LINK_DRAIN_MS_MAX: u64 = 5_000;

/// Bytes that one read of a table of sockets asks for. The kernel gives a page at a time (fs/seq_file.c), to which the
/// beginning of a line is added.
pub const SOCKET_TABLE_READ_BYTES: usize = 8 * 1024;

/// Bytes of a table of sockets that are looked through for one socket, while its thread stands still: some 7,000 lines.
pub const SOCKET_TABLE_BYTES_MAX: usize = 1024 * 1024;

/// Bytes of messages about sockets that one read takes: the kernel fits them to it (netlink(7)).
pub const SOCKET_MESSAGES_READ_BYTES: usize = 16 * 1024;

/// Bytes of records that were read before, from which a new consumer learns which processes there are.
pub const HISTORY_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Threads of one process whose ends are told at once: of a new program, or where their own were lost.
pub const THREADS_ENDED_MAX: usize = 512;

/// Ancestors that are looked through to see whether a process descends from another; with more it has no parent.
pub const ANCESTORS_MAX: usize = 1024;

/// Longest time that a user may let one stop be held: an hour.
pub const HOLD_MS_MAX: u64 = 3_600_000;

/// Records of one tracer that go out while another tracer has some, whatever their times say.
pub const TURN_RECORDS_MAX: u32 = 1024;

/// Alternatives that the register test of one call may have. More make a longer filter than they are worth: the call is
/// then trapped whatever its registers hold.
pub const REGISTER_ALTERNATIVES_MAX: usize = 32;

/// Conditions that one alternative of a register test may have. Further ones are left to triage.
pub const REGISTER_CONDITIONS_MAX: usize = 6;

/// Bytes of one rule file. Falco's own three have some 200,000 together.
pub const RULE_FILE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Rule files that are read together.
pub const RULE_FILES_MAX: usize = 1024;

/// Bytes of all rule files together; and of what the lists in them, put into conditions, make of it.
pub const RULES_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Lists and mappings inside each other in a YAML file.
pub const YAML_DEPTH_MAX: usize = 64;

/// Values in a YAML file.
pub const YAML_NODES_MAX: usize = 1_000_000;

/// Times that a YAML file is read until its indentation is made sense of.
pub const YAML_ATTEMPTS_MAX: usize = 8;

/// Bytes of a YAML file with what is added to its indentation.
pub const YAML_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Bytes of one condition with its lists put in.
pub const CONDITION_BYTES_MAX: usize = 1024 * 1024;

/// Names of lists that are replaced in one condition.
pub const SUBSTITUTIONS_MAX: usize = 100_000;

/// Lists in lists in lists, as they are put into a condition.
pub const LIST_DEPTH_MAX: usize = 64;

/// Comparisons, operators and values of one condition with its macros put in.
pub const CONDITION_NODES_MAX: usize = 200_000;

/// The same of all conditions together.
pub const RULES_NODES_MAX: usize = 4_000_000;

/// Operators inside each other in a condition with its macros put in.
pub const CONDITION_DEPTH_MAX: usize = 256;

/// Brackets that may be open at one place of a condition, those of functions included.
pub const BRACKETS_DEPTH_MAX: usize = 100;

/// Files, directories and links that `creance install` copies at most.
pub const INSTALL_ENTRIES_MAX: usize = 100_000;

/// Stops of a thread that makes a call for us until that call is given up. It takes two, and a few more if it is stopped
/// by signals meanwhile.
pub const INJECTION_STOPS_MAX: usize = 64;

/// Looks at the threads and children of a process that is being attached to, before it is left to the next stop.
pub const ATTACH_LOOKS_MAX: usize = 64;

/// Processes that are attached to at the start.
pub const ATTACHED_PROCESSES_MAX: usize = 4096;

/// How often a path is looked up again that could not be because a file was renamed at that moment.
pub const LOOKS_AGAIN_MAX: usize = 100;

/// How long the time after which creance detaches by itself does not begin because a thread that it attaches to cannot be
/// interrupted: the others shall not be slowed down for as long as that takes.
pub const ATTACH_COMPLETE_MS_MAX: u64 = 30_000;

/// Longest time after which creance detaches by itself: a year, in seconds.
pub const ATTACH_SECONDS_MAX: u64 = 366 * 24 * 3600;

/// How often the engine is asked to detach until it hears.
pub const DETACH_ASK_MS: u64 = 5;

/// How long a program that took too long in a benchmark may take to clean up before it is killed.
pub const BENCH_GRACE_MS: u64 = 2_000;

/// Bytes of standard output that a benchmark keeps of a program, from the beginning on.
pub const BENCH_OUTPUT_BYTES_MAX: u64 = 1 << 20;

/// Bytes of standard error that a benchmark keeps of a program, up to the end: the statistics are there.
pub const BENCH_STDERR_BYTES_MAX: u64 = 1 << 16;
