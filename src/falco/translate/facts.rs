//! What the raw `/proc` texts of an exec tell, as Falco's parameters have it (proc_pid_status(5), proc_pid_stat(5)).

use std::str;

use crate::{
    decode::unescaped_name,
    event::{CaptureKind, Record},
    falco::encode::TEXT_BYTES_MAX,
};

/// Facts of a program start. What no text tells is `None`.
#[derive(Debug, Default)]
pub(super) struct Facts {
    name: Vec<u8>,
    pub(super) parent: Option<u32>,
    /// Real, effective and saved user.
    pub(super) uid: Option<[u32; 3]>,
    /// Real, effective and saved group.
    pub(super) gid: Option<[u32; 3]>,
    /// The process in its own PID namespace, and how many namespaces deep that is below the tracer's.
    pub(super) vpid: Option<(i64, usize)>,
    pub(super) vpgid: Option<i64>,
    /// Inheritable, permitted, effective.
    pub(super) capabilities: Option<[u64; 3]>,
    /// Size, resident and swapped memory in KiB.
    memory: Option<[u32; 3]>,
    /// Major and minor page faults.
    faults: Option<[u64; 2]>,
    pub(super) pgid: Option<i64>,
    pub(super) tty: Option<u32>,
    pub(super) loginuid: Option<u32>,
    /// When the process was made, in clock ticks since the machine started: tells it from another with its number.
    pub(super) start_ticks: Option<u64>,
}

impl Facts {
    pub(super) fn of(record: &Record<'_>) -> Self {
        let text = |kind| record.capture(kind).map(|capture| capture.data).unwrap_or_default();
        let mut facts = Self::default();
        facts.read_status(text(CaptureKind::ProcStatus));
        facts.read_stat(text(CaptureKind::ProcStat));
        facts.loginuid = number(text(CaptureKind::ProcLoginuid));
        facts
    }

    /// The name of the program: `comm`.
    pub(super) fn name(&self) -> Option<&[u8]> {
        Some(self.name.as_slice()).filter(|name| !name.is_empty())
    }

    /// Page faults and memory, which go together.
    pub(super) fn usage(&self) -> Option<([u64; 2], [u32; 3])> {
        Some((self.faults?, self.memory?))
    }

    fn read_status(&mut self, text: &[u8]) {
        let mut memory = [None; 3];
        let mut capabilities = [None; 3];
        for line in text.split(|&byte| byte == b'\n') {
            let Some(colon) = line.iter().position(|&byte| byte == b':') else { continue };
            let (key, value) = line.split_at(colon);
            let value = value.get(1..).unwrap_or_default();
            match key {
                b"Name" if self.name.is_empty() => {
                    self.name = unescaped_name(value.trim_ascii_start()).into_vec();
                }
                b"PPid" => self.parent = number(value),
                b"Uid" => self.uid = first_three(value),
                b"Gid" => self.gid = first_three(value),
                b"NSpid" => self.vpid = innermost(value),
                b"NSpgid" => self.vpgid = innermost(value).map(|(id, _)| id),
                b"VmSize" => memory[0] = number(value),
                b"VmRSS" => memory[1] = number(value),
                b"VmSwap" => memory[2] = number(value),
                b"CapInh" => capabilities[0] = hexadecimal(value),
                b"CapPrm" => capabilities[1] = hexadecimal(value),
                b"CapEff" => capabilities[2] = hexadecimal(value),
                _ => {}
            }
        }
        self.memory = all(memory);
        self.capabilities = all(capabilities);
    }

    /// The fields of `stat` after the name, which may itself hold anything: state, ppid, pgrp, session, tty, ...
    fn read_stat(&mut self, text: &[u8]) {
        let Some(end) = text.iter().rposition(|&byte| byte == b')') else { return };
        let fields = text.get(end + 1..).unwrap_or_default();
        let field = |index| fields.split(|&byte| byte == b' ').filter(|field| !field.is_empty()).nth(index);
        self.parent = self.parent.or_else(|| number(field(1)?));
        self.pgid = field(2).and_then(number);
        // The kernel prints the device as a signed number.
        self.tty = field(4).and_then(number::<i32>).map(i32::cast_unsigned);
        self.start_ticks = field(19).and_then(number);
        self.faults = field(7).and_then(number).zip(field(9).and_then(number)).map(|(min, maj)| [maj, min]);
    }
}

/// Writes the `cgroups` parameter into `out`: `SUBSYSTEM=PATH` for those that Falco's drivers tell, each with a NUL.
///
/// `/proc/PID/cgroup` has lines `HIERARCHY:SUBSYSTEMS:PATH`; that of the unified hierarchy has no subsystems and
/// stands for all that have no line of their own (cgroups(7)).
pub(super) fn write_cgroups(text: &[u8], out: &mut Vec<u8>) {
    /// Falco's name, and that of the text.
    const SUBSYSTEMS: [(&[u8], &[u8]); 5] = [
        (b"cpuset", b"cpuset"),
        (b"cpu", b"cpu"),
        (b"cpuacct", b"cpuacct"),
        (b"io", b"blkio"),
        (b"memory", b"memory"),
    ];
    out.clear();
    let lines = || text.split(|&byte| byte == b'\n').filter_map(cgroup_line);
    for (name, theirs) in SUBSYSTEMS {
        let own = lines().find(|(list, _)| list.split(|&byte| byte == b',').any(|one| one == theirs));
        let Some((_, path)) = own.or_else(|| lines().find(|(list, _)| list.is_empty())) else { continue };
        if out.len() + name.len() + path.len() + 2 <= TEXT_BYTES_MAX {
            out.extend_from_slice(name);
            out.push(b'=');
            out.extend_from_slice(path);
            out.push(0);
        }
    }
}

fn cgroup_line(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut parts = line.splitn(3, |&byte| byte == b':').skip(1);
    Some((parts.next()?, parts.next().filter(|path| path.starts_with(b"/") && !path.contains(&0))?))
}

fn all<T, const N: usize>(values: [Option<T>; N]) -> Option<[T; N]>
where
    T: Copy + Default,
{
    let mut all = [T::default(); N];
    for (slot, value) in all.iter_mut().zip(values) {
        *slot = value?;
    }
    Some(all)
}

/// The number that a value starts with; a unit may follow.
fn number<T: str::FromStr>(value: &[u8]) -> Option<T> {
    words(value).next()?.parse().ok()
}

fn hexadecimal(value: &[u8]) -> Option<u64> {
    u64::from_str_radix(words(value).next()?, 16).ok()
}

fn first_three(value: &[u8]) -> Option<[u32; 3]> {
    let mut words = words(value).map(str::parse);
    let mut next = || words.next()?.ok();
    Some([next()?, next()?, next()?])
}

/// The last of a list of ids, one for each namespace from the reader's inwards, and how many stand before it.
fn innermost(value: &[u8]) -> Option<(i64, usize)> {
    let depth = words(value).count().checked_sub(1)?;
    Some((words(value).last()?.parse().ok()?, depth))
}

fn words(value: &[u8]) -> impl Iterator<Item = &str> {
    value
        .split(u8::is_ascii_whitespace)
        .filter_map(|word| str::from_utf8(word).ok())
        .filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_texts_of_proc_give_falcos_facts() {
        let mut facts = Facts::default();
        facts.read_status(
            b"Name:\ta\\nb\\\\c\nPPid:\t7\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\nNSpid:\t900\t1\nNSpgid:\t800\t2\n\
              VmSize:\t  5000 kB\nVmRSS:\t 300 kB\nVmSwap:\t 0 kB\n\
              CapInh:\t0000000000000000\nCapPrm:\t000001ffffffffff\nCapEff:\t0000000000000001\n",
        );
        facts.read_stat(b"900 (a) b) c) S 7 800 800 34816 900 4194304 20 0 3 0 0 0\n");
        assert_eq!(facts.name(), Some(&b"a\nb\\c"[..]));
        assert_eq!((facts.parent, facts.uid, facts.gid), (Some(7), Some([1, 2, 3]), Some([5, 6, 7])));
        assert_eq!((facts.vpid, facts.vpgid), (Some((1, 1)), Some(2)));
        assert_eq!(facts.usage(), Some(([3, 20], [5000, 300, 0])));
        assert_eq!(facts.capabilities, Some([0, 0x1ff_ffff_ffff, 1]));
        assert_eq!((facts.pgid, facts.tty), (Some(800), Some(34816)));
    }

    #[test]
    fn texts_that_make_no_sense_give_nothing() {
        for text in [&b""[..], b"Name", b"PPid:\t-1\nUid:\t1\t2\nVmSize:\t1 kB\nCapInh:\tx", b") ", b")))"] {
            let mut facts = Facts::default();
            facts.read_status(text);
            facts.read_stat(text);
            assert_eq!((facts.name(), facts.parent, facts.uid, facts.pgid), (None, None, None, None));
            assert_eq!((facts.usage(), facts.capabilities, facts.tty), (None, None, None));
        }
    }

    #[test]
    fn the_control_groups_are_told_in_falcos_words() {
        let mut out = Vec::new();
        write_cgroups(b"0::/system.slice/x\n", &mut out);
        assert!(out.starts_with(b"cpuset=/system.slice/x\0cpu=/system.slice/x\0"));
        assert!(out.ends_with(b"\0io=/system.slice/x\0memory=/system.slice/x\0"));
        write_cgroups(b"5:cpu,cpuacct:/a\n4:blkio:/b\n0::/u\n", &mut out);
        assert_eq!(out, b"cpuset=/u\0cpu=/a\0cpuacct=/a\0io=/b\0memory=/u\0");
        write_cgroups(b"junk\n5:cpu:relative\n", &mut out);
        assert_eq!(out, b"");
    }
}
