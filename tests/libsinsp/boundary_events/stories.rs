//! Runs of events that matter to the state which libsinsp keeps: descriptors, threads, directories, time.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};

use creance::falco::{
    EncodeError,
    encode::Text,
    flags,
    socket::{PackedAddress, PackedTuple},
    table,
};

use crate::{
    Result,
    tape::{AT_FDCWD, Birth, Tape},
};

/// The process that the stories are about; each takes some numbers from here on.
const HERO: i64 = 80_000;
/// Its parent.
const MOTHER: i64 = HERO - 1;

/// libsinsp keeps this many descriptors of a process (`MAX_FD_TABLE_SIZE`, `userspace/libsinsp/settings.h`).
const DESCRIPTORS_MAX: i64 = 4096;

/// libsinsp keeps this many threads (`m_thread_table_default_size`, `userspace/libsinsp/thread_manager.h`).
const THREADS_MAX: i64 = 131_072;

/// Longer than libsinsp keeps a thread that nothing is heard of: half an hour and a scan.
const HOURS_NS: u64 = 4 * 3_600_000_000_000;

/// Falco's `CLONE_FILES` and `CLONE_PARENT`, and its flag for a pair of events in the wrong order.
const CLONE_FILES: u32 = 1;
const CLONE_PARENT: u32 = 1 << 8;
const CLONE_INVERTED: u32 = 1 << 29;

/// Each begins with a mother and a hero.
const STORIES: [fn(&mut Tape) -> Told; 15] = [
    descriptors_are_reused_and_run_out,
    descriptors_are_copied_and_closed_that_nobody_knows,
    a_socket_is_used_before_it_is_known,
    a_socket_is_of_another_family_than_its_addresses,
    a_child_is_made_again,
    clones_are_told_by_one_side_only,
    programs_start_out_of_order,
    threads_end_out_of_order,
    descriptors_and_parents_are_shared,
    namespaces_are_nested,
    directories_make_no_sense,
    ancestors_go_in_circles,
    ancestors_go_on_for_ever,
    time_jumps,
    asynchronous_events_say_anything,
];

type Told = std::result::Result<(), EncodeError>;

pub(crate) fn every_story(tape: &mut Tape) -> Result<()> {
    for story in STORIES {
        tape.wait_for_new_threads();
        tape.born(Birth::process(MOTHER, 0))?;
        tape.born(Birth::process(HERO, MOTHER))?;
        story(tape)?;
        // What the story did to them shows in what they do next.
        for tid in [MOTHER, HERO, HERO + 1, HERO + 2] {
            tape.open(tid, 5, b"end")?;
            tape.exec(tid, tid, MOTHER, b"end")?;
        }
        for tid in [HERO + 2, HERO + 1, HERO, MOTHER] {
            tape.exit(tid, 0)?;
        }
    }
    Ok(())
}

/// What happens when the table of threads is full.
pub(crate) fn more_threads_than_libsinsp_remembers(tape: &mut Tape) -> Result<()> {
    tape.born(Birth::process(MOTHER, 0))?;
    for number in 0..THREADS_MAX + 100 {
        tape.clone(&table::CLONE_20_X, Birth::process(HERO + number, MOTHER), 0)?;
    }
    for pid in [HERO, HERO + THREADS_MAX + 50, HERO + 2 * THREADS_MAX] {
        tape.clone(&table::FORK_20_X, Birth::process(pid, MOTHER), pid + 1)?;
        tape.exec(pid, pid, MOTHER, b"late")?;
        tape.open(pid, 3, b"late")?;
        tape.socket(pid, 4, 2, 1)?;
        tape.exit(pid, HERO + 1)?;
    }
    Ok(())
}

fn descriptors_are_reused_and_run_out(tape: &mut Tape) -> Told {
    for fd in 0..DESCRIPTORS_MAX + 10 {
        tape.socket(HERO, fd, 2, 1)?;
        tape.open(HERO, fd, b"/etc/passwd")?;
    }
    for fd in [i64::from(i32::MAX), i64::from(i32::MAX) + 1, i64::MAX, -1, i64::MIN] {
        tape.socket(HERO, fd, 10, 2)?;
        tape.open(HERO, fd, b"relative")?;
        close(tape, HERO, fd)?;
    }
    for fd in (0..DESCRIPTORS_MAX + 10).rev() {
        close(tape, HERO, fd)?;
    }
    tape.socket(HERO, 3, 1, 1)
}

fn descriptors_are_copied_and_closed_that_nobody_knows(tape: &mut Tape) -> Told {
    tape.open(HERO, 3, b"/etc/passwd")?;
    for (old, new) in [(3, 3), (3, 7), (7, 3), (99, 3), (3, 99), (98, 98), (-1, 4), (3, -9), (-1, -1)] {
        tape.tell(&table::DUP_1_X, HERO, |writer| {
            writer.fd(new).fd(old);
        })?;
        tape.tell(&table::DUP2_X, HERO, |writer| {
            writer.fd(new).fd(old).fd(new);
        })?;
        tape.tell(&table::DUP3_X, HERO, |writer| {
            writer.fd(new).fd(old).fd(new).flags32(flags::O_CLOEXEC);
        })?;
        tape.tell(&table::FCNTL_X, HERO, |writer| {
            writer.fd(new).fd(old).choice8(flags::fcntl(0)).uint64(0);
        })?;
        close(tape, HERO, old)?;
        close(tape, HERO, old)?;
        close(tape, HERO + 50, new)?;
    }
    for (pid_fd, target) in [(3, 3), (99, 0), (-1, -1)] {
        tape.tell(&table::PIDFD_OPEN_X, HERO, |writer| {
            writer.fd(pid_fd).pid(MOTHER).flags32(0);
        })?;
        tape.tell(&table::PIDFD_GETFD_X, HERO, |writer| {
            writer.fd(8).fd(pid_fd).fd(target).uint32(0);
        })?;
    }
    Ok(())
}

fn a_socket_is_used_before_it_is_known(tape: &mut Tape) -> Told {
    tape.open(HERO, 3, b"/etc/passwd")?;
    for fd in [3, 40, -1] {
        for tuple in pairs() {
            connect(tape, fd, tuple)?;
            accept(tape, fd, Some(tuple))?;
            messages(tape, fd, tuple)?;
        }
        accept(tape, fd, None)?;
        bind(tape, fd, None)?;
        tape.tell(&table::LISTEN_X, HERO, |writer| {
            writer.errno(0).fd(fd).int32(-1);
        })?;
        tape.tell(&table::SHUTDOWN_X, HERO, |writer| {
            writer.errno(0).fd(fd).choice8(2);
        })?;
    }
    Ok(())
}

fn a_socket_is_of_another_family_than_its_addresses(tape: &mut Tape) -> Told {
    for (family, kind) in [(1, 1), (2, 1), (2, 2), (10, 1), (10, 2), (16, 3), (17, 3), (40, 1), (0, 0)] {
        for tuple in pairs() {
            tape.socket(HERO, 3, family, kind)?;
            connect(tape, 3, tuple)?;
            connect(tape, 3, tuple)?;
            messages(tape, 3, tuple)?;
            tape.socket(HERO, 4, family, kind)?;
            accept(tape, 4, Some(tuple))?;
            for address in [V4, V6, PackedAddress::Unix(b"/run/sock")] {
                bind(tape, 3, Some(address))?;
            }
            messages(tape, 4, tuple)?;
            tape.tell(&table::DUP2_X, HERO, |writer| {
                writer.fd(1).fd(3).fd(1);
            })?;
        }
    }
    Ok(())
}

fn a_child_is_made_again(tape: &mut Tape) -> Told {
    for event in [&table::CLONE_20_X, &table::FORK_20_X, &table::VFORK_20_X, &table::CLONE3_X] {
        for birth in [
            Birth::process(HERO + 1, HERO),
            Birth::process(HERO + 1, MOTHER),
            Birth::thread(HERO + 1, HERO, MOTHER),
            Birth::thread(HERO + 1, HERO + 2, HERO),
            Birth::process(HERO, HERO),
            Birth::process(MOTHER, HERO),
            Birth { tid: HERO + 1, ..Birth::process(HERO, MOTHER) },
        ] {
            tape.clone(event, birth, 0)?;
            tape.clone(event, Birth::process(HERO, MOTHER), birth.tid)?;
            tape.clone(event, birth, birth.tid)?;
            tape.exec(birth.tid, birth.pid, birth.parent, b"again")?;
        }
    }
    Ok(())
}

fn clones_are_told_by_one_side_only(tape: &mut Tape) -> Told {
    let stranger = HERO + 10;
    for child in [stranger + 1, stranger, HERO, 0, -1, -11, 1, i64::MAX, i64::MIN] {
        for teller in [Birth::process(stranger, stranger - 1), Birth::thread(stranger, HERO + 20, HERO)] {
            tape.clone(&table::CLONE3_X, teller, child)?;
            tape.chdir(child, b"/tmp")?;
            tape.open(child, 3, b"x")?;
        }
    }
    tape.born(Birth::thread(HERO + 31, HERO + 30, HERO))?;
    tape.born(Birth::process(HERO + 30, HERO))?;
    tape.open(HERO + 31, 3, b"x")
}

fn programs_start_out_of_order(tape: &mut Tape) -> Told {
    tape.born(Birth::thread(HERO + 1, HERO, MOTHER))?;
    // A thread that is not the first of its process becomes it (execve(2)).
    tape.exec(HERO + 1, HERO, MOTHER, b"second")?;
    tape.exec(HERO, HERO, MOTHER, b"first")?;
    tape.exec(HERO, HERO, MOTHER, b"first again")?;
    tape.exit(HERO, MOTHER)?;
    tape.exec(HERO, HERO, MOTHER, b"dead")?;
    tape.exec(HERO + 40, HERO + 40, HERO + 39, b"stranger")?;
    tape.exec(HERO + 41, HERO + 40, HERO + 41, b"stranger's thread")?;
    for name in [&b""[..], b"/", b"/\n", &[b'x'; 4000], b"\xff"] {
        tape.exec(HERO, HERO, MOTHER, name)?;
    }
    Ok(())
}

fn threads_end_out_of_order(tape: &mut Tape) -> Told {
    for reaper in [0, -1, MOTHER, HERO, HERO + 1, HERO + 60, i64::MAX] {
        tape.wait_for_new_threads();
        tape.born(Birth::process(HERO, MOTHER))?;
        tape.born(Birth::thread(HERO + 1, HERO, MOTHER))?;
        tape.born(Birth::thread(HERO + 2, HERO, MOTHER))?;
        // Only threads with children have a reaper.
        tape.born(Birth::process(HERO + 3, HERO + 1))?;
        tape.born(Birth::process(HERO + 5, HERO))?;
        // The first thread ends before the others.
        tape.exit(HERO, reaper)?;
        tape.open(HERO + 1, 3, b"x")?;
        tape.exit(HERO, reaper)?;
        tape.exit(HERO + 1, reaper)?;
        tape.clone(&table::CLONE_20_X, Birth::thread(HERO + 2, HERO, MOTHER), HERO + 4)?;
        tape.exit(HERO + 2, reaper)?;
        tape.exit(HERO + 2, reaper)?;
        tape.open(HERO + 3, 3, b"x")?;
        tape.exit(HERO + 70, reaper)?;
        tape.open(HERO + 2, 3, b"a late one")?;
    }
    Ok(())
}

fn descriptors_and_parents_are_shared(tape: &mut Tape) -> Told {
    tape.open(HERO, 3, b"/etc/passwd")?;
    let files = Birth { flags: CLONE_FILES, ..Birth::process(HERO + 1, HERO) };
    let sibling = Birth { flags: CLONE_PARENT, ..Birth::process(HERO + 2, MOTHER) };
    let inverted = Birth { flags: CLONE_INVERTED, ..Birth::process(HERO + 3, HERO) };
    let both = Birth { flags: CLONE_FILES | CLONE_PARENT, ..Birth::thread(HERO + 4, HERO, MOTHER) };
    for birth in [files, sibling, inverted, both] {
        tape.born(birth)?;
        tape.clone(
            &table::CLONE_20_X,
            Birth { flags: birth.flags, ..Birth::process(HERO, MOTHER) },
            birth.tid,
        )?;
        tape.open(birth.tid, 9, b"x")?;
    }
    tape.exit(HERO, 0)?;
    close(tape, HERO + 1, 3)?;
    tape.open(HERO + 4, 3, b"x")
}

fn namespaces_are_nested(tape: &mut Tape) -> Told {
    for flags in [0, flags::CLONE_NEWPID, flags::CHILD_IN_PIDNS, u32::MAX] {
        for inner in [(1, 1), (2, 1), (0, 0), (-1, -1), (HERO, HERO), (HERO + 1, 1), (i64::MAX, i64::MIN)] {
            for parent in [HERO, 0, 1, HERO + 1] {
                let birth = Birth { inner: Some(inner), flags, ..Birth::process(HERO + 1, parent) };
                tape.born(birth)?;
                tape.clone(
                    &table::CLONE3_X,
                    Birth { inner: Some(inner), ..Birth::process(HERO, MOTHER) },
                    2,
                )?;
                tape.clone(&table::CLONE3_X, Birth { flags, ..Birth::process(HERO, MOTHER) }, HERO + 1)?;
                tape.exit(HERO + 1, 0)?;
            }
        }
    }
    Ok(())
}

fn directories_make_no_sense(tape: &mut Tape) -> Told {
    tape.born(Birth::thread(HERO + 1, HERO, MOTHER))?;
    let up = b"../".repeat(1365);
    let deep = b"/d".repeat(2047);
    for path in [&b""[..], b".", b"..", b"relative", b"/", b"//", b"\n", b"\xff", &up, &deep] {
        for tid in [HERO, HERO + 1, HERO + 80] {
            tape.chdir(tid, path)?;
            tape.open(tid, 3, path)?;
            tape.open(tid, 3, b"x")?;
            tape.tell(&table::FCHDIR_X, tid, |writer| {
                writer.errno(0).fd(3);
            })?;
            tape.tell(&table::LINKAT_2_X, tid, |writer| {
                writer
                    .errno(0)
                    .fd(3)
                    .path_at(Text::bounded(path))
                    .fd(77)
                    .path_at(Text::bounded(path))
                    .flags32(0);
            })?;
            tape.tell(&table::RENAMEAT_X, tid, |writer| {
                writer.errno(0).fd(AT_FDCWD).path_at(Text::MISSING).fd(-1).path_at(Text::bounded(path));
            })?;
        }
    }
    tape.tell(&table::CHDIR_X, HERO, |writer| {
        writer.errno(0).empty();
    })?;
    tape.open(HERO, 3, b"x")
}

fn ancestors_go_in_circles(tape: &mut Tape) -> Told {
    for length in [1_i64, 2, 3, 5, 300] {
        let member = |number| HERO + number % length;
        for round in 0..2 * length {
            let birth = Birth::process(member(round), member(round + 1));
            tape.born(birth)?;
            tape.exec(birth.tid, birth.pid, birth.parent, b"circle")?;
        }
        for number in 0..length {
            tape.open(member(number), 3, b"x")?;
            tape.exit(member(number), member(number + 1))?;
            tape.open(member(number), 3, b"x")?;
        }
    }
    Ok(())
}

fn ancestors_go_on_for_ever(tape: &mut Tape) -> Told {
    for number in 0..2000 {
        tape.clone(&table::FORK_20_X, Birth::process(HERO + number + 1, HERO + number), 0)?;
    }
    tape.exec(HERO + 2000, HERO + 2000, HERO + 1999, b"last")?;
    for number in 0..2000 {
        tape.exit(HERO + number, 0)?;
    }
    tape.open(HERO + 2000, 3, b"x")
}

fn time_jumps(tape: &mut Tape) -> Told {
    tape.born(Birth::thread(HERO + 1, HERO, MOTHER))?;
    tape.born(Birth::process(HERO + 2, HERO + 1))?;
    for ts_ns in [0, 1 << 40, u64::MAX, 7, u64::MAX - 1, 1] {
        tape.tell_at(ts_ns, &table::SETSID_X, HERO + 2, |writer| {
            writer.pid(HERO + 2);
        })?;
        tape.open(HERO + 1, 3, b"x")?;
    }
    for _ in 0..3 {
        tape.wait_ns(HOURS_NS);
        tape.open(HERO + 2, 3, b"x")?;
        tape.exec(HERO + 2, HERO + 2, HERO, b"late")?;
        tape.exit(HERO, 0)?;
    }
    Ok(())
}

fn asynchronous_events_say_anything(tape: &mut Tape) -> Told {
    let every_byte: Vec<u8> = (0..=255).collect();
    let long = every_byte.repeat(128);
    for name in [c"", c"container", c"\xff\n%s"] {
        for data in [&b""[..], b"\0", b"{}\0", b"{\"container\":", &every_byte, &long] {
            tape.tell_async(name, data)?;
        }
    }
    Ok(())
}

const NEAR: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 40_000);
const FAR: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 7), 443);
const NEAR6: SocketAddrV6 = SocketAddrV6::new(Ipv6Addr::LOCALHOST, 40_000, 0, 0);
const FAR6: SocketAddrV6 = SocketAddrV6::new(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2), 443, 0, 0);
const V4: PackedAddress<'_> = PackedAddress::Inet(FAR);
const V6: PackedAddress<'_> = PackedAddress::Inet6(FAR6);

fn pairs() -> [PackedTuple<'static>; 6] {
    let (near, far) = (NEAR.ip().to_ipv6_mapped(), FAR.ip().to_ipv6_mapped());
    let mapped = |ip, port| SocketAddrV6::new(ip, port, 0, 0);
    [
        PackedTuple::Inet(NEAR, FAR),
        PackedTuple::Inet6(NEAR6, FAR6),
        PackedTuple::Inet6(mapped(near, 1), mapped(far, 2)),
        PackedTuple::Unix(b"/run/sock"),
        PackedTuple::Other(0),
        PackedTuple::Other(16),
    ]
}

fn close(tape: &mut Tape, tid: i64, fd: i64) -> Told {
    tape.tell(&table::CLOSE_X, tid, |writer| {
        writer.errno(0).fd(fd);
    })
}

fn bind(tape: &mut Tape, fd: i64, address: Option<PackedAddress<'_>>) -> Told {
    tape.tell(&table::BIND_X, HERO, |writer| {
        writer.errno(0).address(address).fd(fd);
    })
}

/// Connections that were made, are being made, and failed.
fn connect(tape: &mut Tape, fd: i64, tuple: PackedTuple<'_>) -> Told {
    for result in [-111, -115, 0] {
        for address in [Some(V4), Some(V6), None] {
            tape.tell(&table::CONNECT_X, HERO, |writer| {
                writer.errno(result).tuple(Some(tuple)).fd(fd).address(address);
            })?;
        }
    }
    Ok(())
}

fn accept(tape: &mut Tape, fd: i64, tuple: Option<PackedTuple<'_>>) -> Told {
    tape.tell(&table::ACCEPT_5_X, HERO, |writer| {
        writer.fd(fd).tuple(tuple).uint8(0).uint32(0).uint32(0);
    })?;
    tape.tell(&table::ACCEPT4_6_X, HERO, |writer| {
        writer.fd(fd).tuple(tuple).uint8(0).uint32(0).uint32(0).int32(0);
    })
}

fn messages(tape: &mut Tape, fd: i64, tuple: PackedTuple<'_>) -> Told {
    let tuple = Some(tuple);
    tape.tell(&table::SENDTO_X, HERO, |writer| {
        writer.errno(1).bytes(b"").fd(fd).uint32(1).tuple(tuple);
    })?;
    tape.tell(&table::SENDMSG_X, HERO, |writer| {
        writer.errno(1).bytes(b"x").fd(fd).uint32(1).tuple(tuple);
    })?;
    tape.tell(&table::RECVFROM_X, HERO, |writer| {
        writer.errno(1).bytes(b"x").tuple(tuple).fd(fd).uint32(1);
    })?;
    tape.tell(&table::RECVMSG_X, HERO, |writer| {
        writer.errno(1).uint32(1).bytes(b"").tuple(tuple).bytes(b"").fd(fd);
    })
}
