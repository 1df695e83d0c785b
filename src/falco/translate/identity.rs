//! Calls on who a process is and what it may do, and on the kernel itself.

use super::{
    call::{Call, CallKind},
    files,
    process::{ChildPlace, UNKNOWN_ID},
    processes::Processes,
};
use crate::{
    abi::{self, Abi},
    falco::{
        encode::{Batch, DynValue, EncodeError},
        flags, table,
    },
};

/// Real, effective and saved ids.
type Ids = [u32; 3];

/// The setuid and setgid families. libsinsp takes the new id from the arguments, so that where one says "leave it as
/// it is" the id that is left stands in its place.
pub(super) fn ids(
    processes: &mut Processes,
    call: Call<'_, '_>,
    kind: CallKind,
    out: &mut Batch,
) -> Result<(), EncodeError> {
    let is_user = matches!(kind, CallKind::Setuid | CallKind::Setreuid | CallKind::Setresuid);
    let mut unknown = [UNKNOWN_ID; 3];
    let (ids, is_root) = match processes.get_mut(call.pid) {
        Some(process) => {
            let is_root = process.uid[1] == 0;
            (if is_user { &mut process.uid } else { &mut process.gid }, is_root)
        }
        None => (&mut unknown, false),
    };
    let old = *ids;
    let asked = [0, 1, 2].map(|index| id_argument(call, index));
    let new = match kind {
        CallKind::Setuid | CallKind::Setgid => set_one(old, asked[0], is_root),
        CallKind::Setreuid | CallKind::Setregid => set_two(old, asked[0], asked[1]),
        _ => zip(old, asked, |old, asked| asked.unwrap_or(old)),
    };
    if call.result() == 0 {
        *ids = new;
    }
    // Of a call that failed, what was asked for is told.
    let [first, second, third] = zip(old, asked, |old, asked| asked.unwrap_or(old));

    let (ts, tid, result) = (call.ts(), call.tid(), call.result());
    let event = match kind {
        CallKind::Setuid => &table::SETUID_X,
        CallKind::Setgid => &table::SETGID_X,
        CallKind::Setreuid => &table::SETREUID_X,
        CallKind::Setregid => &table::SETREGID_X,
        CallKind::Setresuid => &table::SETRESUID_X,
        _ => &table::SETRESGID_X,
    };
    let mut writer = out.event(event, ts, tid);
    writer.errno(result);
    match kind {
        CallKind::Setuid => writer.uid(first),
        CallKind::Setgid => writer.gid(first),
        // The event table has users for the groups of setregid.
        CallKind::Setreuid | CallKind::Setregid => writer.uid(first).uid(second),
        CallKind::Setresuid => writer.uid(first).uid(second).uid(third),
        _ => writer.gid(first).gid(second).gid(third),
    };
    writer.finish()
}

/// An id of an argument; `None` for -1. The oldest calls of 32-bit x86 take 16 bits.
fn id_argument(call: Call<'_, '_>, index: u8) -> Option<u32> {
    let is_short = call.abi() == Abi::I386
        && !abi::number_name(call.abi(), call.record.header().number)
            .is_some_and(|name| name.ends_with("32"));
    let (id, keep) =
        if is_short { (call.uint(index) & 0xffff, 0xffff) } else { (call.uint(index), u32::MAX) };
    Some(id).filter(|&id| id != keep)
}

/// setuid(2): root changes all three, others the effective one.
fn set_one([real, effective, saved]: Ids, asked: Option<u32>, is_root: bool) -> Ids {
    match asked {
        Some(id) if is_root => [id; 3],
        Some(id) => [real, id, saved],
        None => [real, effective, saved],
    }
}

/// setreuid(2): the saved id follows the effective one if the real one was asked for, or if the effective one is not
/// the real one.
fn set_two([real, effective, saved]: Ids, asked_real: Option<u32>, asked_effective: Option<u32>) -> Ids {
    let new = asked_effective.unwrap_or(effective);
    let follows = asked_real.is_some() || asked_effective.is_some_and(|id| id != real);
    [asked_real.unwrap_or(real), new, if follows { new } else { saved }]
}

fn zip(old: Ids, asked: [Option<u32>; 3], pick: impl Fn(u32, Option<u32>) -> u32) -> Ids {
    let ([a, b, c], [x, y, z]) = (old, asked);
    [pick(a, x), pick(b, y), pick(c, z)]
}

/// `_LINUX_CAPABILITY_VERSION_1` (capget(2)): capabilities of 32 bits.
const CAPABILITY_VERSION_1: u32 = 0x1998_0330;

pub(super) fn capset(
    processes: &mut Processes,
    call: Call<'_, '_>,
    out: &mut Batch,
) -> Result<(), EncodeError> {
    // struct __user_cap_data_struct: effective, permitted, inheritable, the low halves and then the high ones.
    let has_high = call.field32(0, 0) != Some(CAPABILITY_VERSION_1);
    let set = |at: usize| {
        let high = if has_high { call.field32(1, at + 12).unwrap_or(0) } else { 0 };
        Some(u64::from(call.field32(1, at)?) | u64::from(high) << 32)
    };
    let asked = set(8)
        .zip(set(4))
        .zip(set(0))
        .map(|((inheritable, permitted), effective)| [inheritable, permitted, effective]);
    let process = processes.get_mut(call.pid);
    let before = process.as_ref().and_then(|process| process.capabilities);
    let after = if call.result() == 0 { asked.or(before) } else { before };
    if let Some(process) = process {
        process.capabilities = after;
    }
    let [inheritable, permitted, effective] = after.unwrap_or_default().map(flags::capabilities);
    let mut writer = out.event(&table::CAPSET_X, call.ts(), call.tid());
    writer.errno(call.result()).uint64(inheritable).uint64(permitted).uint64(effective).finish()
}

const PR_SET_NAME: u32 = 15;
const PR_GET_NAME: u32 = 16;
const PR_GET_CHILD_SUBREAPER: u32 = 37;

pub(super) fn prctl(call: Call<'_, '_>, out: &mut Batch) -> Result<(), EncodeError> {
    let option = call.uint(0);
    // libsinsp would take the address of the answer for the answer, and no record holds that.
    if option == PR_GET_CHILD_SUBREAPER {
        return Ok(());
    }
    let is_name = matches!(option, PR_SET_NAME | PR_GET_NAME);
    let number = if is_name { 0 } else { call.word(1).cast_signed() };
    let mut writer = out.event(&table::PRCTL_X, call.ts(), call.tid());
    writer.errno(call.result()).choice32(option).empty().int64(number).finish()
}

/// Limits, sessions and process groups.
pub(super) fn process(call: Call<'_, '_>, kind: CallKind, out: &mut Batch) -> Result<(), EncodeError> {
    let (ts, tid, result) = (call.ts(), call.tid(), call.result());
    match kind {
        CallKind::Setsid => out.event(&table::SETSID_X, ts, tid).own_pid(result).finish(),
        CallKind::Setpgid => out
            .event(&table::SETPGID_X, ts, tid)
            .errno(result)
            .own_pid(call.long(0))
            .own_pid(call.long(1))
            .finish(),
        CallKind::Setrlimit => {
            let [cur, max] = limit(call, 1, call.abi() == Abi::I386);
            let mut writer = out.event(&table::SETRLIMIT_X, ts, tid);
            writer.errno(result).int64(cur).int64(max).choice8(flags::resource(call.uint(0))).finish()
        }
        _ => {
            let [cur, max] = limit(call, 2, false);
            let mut writer = out.event(&table::PRLIMIT_X, ts, tid);
            // The old limits no record tells: -1, as for a call that failed.
            writer.errno(result).int64(cur).int64(max).int64(-1).int64(-1).int64(call.long(0));
            writer.choice8(flags::resource(call.uint(1))).finish()
        }
    }
}

/// The soft and the hard limit of a `struct rlimit`; 0 where there is none.
fn limit(call: Call<'_, '_>, index: u8, is_short: bool) -> [i64; 2] {
    if is_short {
        [0, 4].map(|at| call.field32(index, at).map_or(0, i64::from))
    } else {
        [0, 8].map(|at| call.field64(index, at).map_or(0, u64::cast_signed))
    }
}

/// Namespaces, tracing and what is loaded into the kernel.
pub(super) fn kernel(
    processes: &mut Processes,
    call: Call<'_, '_>,
    kind: CallKind,
    out: &mut Batch,
) -> Result<(), EncodeError> {
    let (ts, tid, result) = (call.ts(), call.tid(), call.result());
    match kind {
        CallKind::Unshare => {
            send_children(processes, call, call.uint(0), ChildPlace::First);
            out.event(&table::UNSHARE_X, ts, tid).errno(result).flags32(flags::clone(call.uint(0))).finish()
        }
        CallKind::Setns => {
            // A type of 0 takes a namespace of any kind, which no record tells.
            send_children(processes, call, call.uint(1), ChildPlace::Other);
            let mut writer = out.event(&table::SETNS_X, ts, tid);
            writer.errno(result).fd(call.long(0)).flags32(flags::clone(call.uint(1))).finish()
        }
        CallKind::Bpf => out.event(&table::BPF_2_X, ts, tid).fd(result).choice32(call.uint(0)).finish(),
        CallKind::InitModule => {
            let mut writer = out.event(&table::INIT_MODULE_X, ts, tid);
            // The image of the module is not recorded.
            writer.errno(result).bytes(b"").uint64(call.word(1)).string(call.text(2)).finish()
        }
        CallKind::FinitModule => {
            files::tell_descriptor(call, 0, 0, out)?;
            let mut writer = out.event(&table::FINIT_MODULE_X, ts, tid);
            let falco_flags = flags::module(call.uint(2));
            writer.errno(result).fd(call.long(0)).string(call.text(1)).flags32(falco_flags).finish()
        }
        _ => ptrace(call, out),
    }
}

/// Takes what unshare(2) or setns(2) does to the children that the thread makes from now on.
fn send_children(processes: &mut Processes, call: Call<'_, '_>, namespaces: u32, place: ChildPlace) {
    if call.result() == 0
        && flags::clone(namespaces) & flags::CLONE_NEWPID != 0
        && let Some(process) = processes.get_mut(call.pid)
    {
        process.send_children(call.record.header().tid, place);
    }
}

fn ptrace(call: Call<'_, '_>, out: &mut Batch) -> Result<(), EncodeError> {
    let request = flags::ptrace(call.abi(), call.word(0));
    // The drivers tell neither of a call that failed.
    let [addr, data] = if call.has_succeeded() { [call.word(2), call.word(3)] } else { [0; 2] };
    let data = match u8::try_from(data & 0xff) {
        Ok(signal) if call.has_succeeded() && flags::is_ptrace_signal(request) => {
            DynValue::PtraceSignal(signal)
        }
        _ => DynValue::PtraceWord(data),
    };
    let mut writer = out.event(&table::PTRACE_X, call.ts(), call.tid());
    writer.errno(call.result()).dynamic(DynValue::PtraceWord(addr)).dynamic(data);
    writer.choice16(request).own_pid(call.long(1)).finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_follow_the_rules_of_the_kernel() {
        assert_eq!(set_one([0, 0, 0], Some(5), true), [5, 5, 5]);
        assert_eq!(set_one([1, 1, 0], Some(0), false), [1, 0, 0]);
        assert_eq!(set_one([1, 2, 3], None, false), [1, 2, 3]);
        assert_eq!(set_two([1, 2, 3], None, Some(1)), [1, 1, 3]);
        assert_eq!(set_two([1, 2, 3], None, Some(2)), [1, 2, 2]);
        assert_eq!(set_two([1, 2, 3], Some(2), None), [2, 2, 2]);
    }
}
