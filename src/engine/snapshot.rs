//! The processes that are there when a consumer comes: what it would know had it read the ring from the start.
//!
//! It is read from `/proc` by whichever thread serves the consumer, never the engine's, and sent beside the ring. So it
//! may be younger than records that are still in the ring, and must yield to them.

use std::{collections::HashMap, io, iter};

use super::{
    Population,
    process::{CAPTURE_BYTES_MAX, process_record},
};
use crate::{
    event::{self, CaptureBuffer, HEADER_BYTES, PROCESS_OUTSIDER},
    limits,
    sys::{Pid, procfs},
};

/// Gives `tell` the records of the tracer's ancestors as far as `/proc` shows them, of the tracer, and of the workload's
/// processes, parents before children. Each record is whole, of kind
/// [`RecordKind::Process`](event::RecordKind::Process), and its sequence number is 0: it is none of the ring's. At most
/// [`limits::PROCESSES_MAX`] processes are told of; one that vanishes meanwhile is left out.
///
/// # Errors
/// That of `tell`, which ends it.
pub fn processes(
    tracer: Pid,
    workload: &Population,
    tell: &mut dyn FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut captures = CaptureBuffer::with_capacity(CAPTURE_BYTES_MAX);
    let mut bytes = Vec::with_capacity(HEADER_BYTES + CAPTURE_BYTES_MAX);
    let own: Vec<_> = ancestors(tracer).into_iter().chain([tracer]).collect();
    let outsiders = own.iter().map(|&pid| (pid, PROCESS_OUTSIDER));
    // Looked for only when the others have been told of: whoever fails before that is spared the look at `/proc`.
    let workload = iter::once_with(|| {
        let parents = parents(workload);
        // Of a workload that we have not started the ancestors are others than ours.
        let others = self::outsiders(&parents, |pid| own.contains(&pid));
        let others = others.into_iter().filter(|pid| !own.contains(pid)).map(|pid| (pid, PROCESS_OUTSIDER));
        others.chain(parents_first(&parents).into_iter().map(|pid| (pid, 0))).collect::<Vec<_>>()
    });
    for (pid, bits) in outsiders.chain(workload.flatten()) {
        let Some(header) = process_record(pid, bits, &mut captures) else { continue };
        bytes.resize(HEADER_BYTES + captures.as_bytes().len(), 0);
        if event::write_record(&mut bytes, &header, &captures).is_ok() {
            tell(&bytes)?;
        }
    }
    Ok(())
}

/// Puts processes that are followed into an order in which each comes after its parent; before them come their ancestors
/// that are not followed, eldest first.
pub(crate) fn lineage(
    pids: impl Iterator<Item = Pid>,
    is_followed: impl Fn(Pid) -> bool,
) -> (Vec<Pid>, Vec<Pid>) {
    let parents: HashMap<_, _> = pids.filter_map(|pid| Some((pid, parent(pid)?))).collect();
    (outsiders(&parents, is_followed), parents_first(&parents))
}

/// The ancestors of these processes that are not followed, eldest first.
fn outsiders(parents: &HashMap<Pid, Pid>, is_followed: impl Fn(Pid) -> bool) -> Vec<Pid> {
    let mut outsiders = Vec::new();
    for (&pid, &parent) in parents {
        if !is_followed(parent) && !parents.contains_key(&parent) && !outsiders.contains(&parent) {
            let ancestors: Vec<_> =
                ancestors(pid).into_iter().filter(|pid| !outsiders.contains(pid)).collect();
            outsiders.extend(ancestors);
        }
    }
    outsiders
}

/// The ancestors of a process, eldest first.
fn ancestors(pid: Pid) -> Vec<Pid> {
    let mut ancestors = Vec::new();
    let mut next = parent(pid);
    while let Some(pid) = next.filter(|pid| pid.0 > 0 && ancestors.len() < limits::LINEAGE_MAX) {
        ancestors.push(pid);
        next = parent(pid);
    }
    ancestors.reverse();
    ancestors
}

fn parent(pid: Pid) -> Option<Pid> {
    procfs::relations(pid.leader()).ok().map(|relations| relations.parent)
}

/// The parent of each process of the workload.
fn parents(workload: &Population) -> HashMap<Pid, Pid> {
    let pids = workload.pids();
    let pids = pids.into_iter().take(limits::PROCESSES_MAX);
    pids.filter_map(|pid| Some((pid, parent(pid)?))).collect()
}

/// Puts processes into an order in which each comes after its parent, if that is one of them.
fn parents_first(parents: &HashMap<Pid, Pid>) -> Vec<Pid> {
    let mut order = Vec::with_capacity(parents.len());
    let mut left = parents.clone();
    let mut lineage = Vec::new();
    for &pid in parents.keys() {
        let mut next = pid;
        // Taking each one out ends a circle too: the parents were not read at one moment.
        while let Some(parent) = left.remove(&next) {
            lineage.push(next);
            next = parent;
        }
        order.extend(lineage.drain(..).rev());
    }
    order
}

#[cfg(test)]
mod tests {
    use std::process::{self, Command, Stdio};

    use super::*;
    use crate::event::{CaptureKind, Record, RecordKind};

    #[test]
    fn parents_come_first_even_if_they_form_a_circle() {
        let pairs = [(5, 4), (4, 3), (3, 1), (6, 3), (8, 9), (9, 8)];
        let parents = pairs.into_iter().map(|(pid, parent)| (Pid(pid), Pid(parent))).collect();
        let order = parents_first(&parents);
        assert_eq!(order.len(), pairs.len());
        let at = |pid| order.iter().position(|&found| found == Pid(pid)).unwrap();
        assert!(at(3) < at(4) && at(4) < at(5) && at(3) < at(6));
    }

    #[test]
    fn a_process_of_the_workload_comes_after_the_tracer_and_only_that_is_an_outsider() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let (own, watched) = (pid(process::id()), pid(child.id()));
        let workload = Population::default();
        workload.add(watched);
        let mut seen = Vec::new();
        processes(own, &workload, &mut |bytes| {
            let header = *Record::parse(bytes).unwrap().header();
            seen.push((pid(header.pid), header.arguments[0]));
            Ok(())
        })
        .unwrap();
        drop(child.stdin.take());
        child.wait().unwrap();
        assert_eq!(seen[seen.len() - 2..], [(own, PROCESS_OUTSIDER), (watched, 0)]);
    }

    fn pid(id: u32) -> Pid {
        Pid(i32::try_from(id).unwrap())
    }

    #[test]
    fn the_tracer_comes_after_its_ancestors() {
        let own = pid(process::id());
        let mut seen = Vec::new();
        processes(own, &Population::default(), &mut |bytes| {
            let record = Record::parse(bytes).unwrap();
            let header = record.header();
            assert_eq!((record.kind(), header.tid, header.sequence), (RecordKind::Process, header.pid, 0));
            assert!(record.capture(CaptureKind::ProcStatus).unwrap().data.starts_with(b"Name:\t"));
            seen.push(pid(header.pid));
            Ok(())
        })
        .unwrap();
        let at = seen.iter().position(|&found| found == own).unwrap();
        assert_eq!(seen[..at], ancestors(own));
    }

    #[test]
    fn whoever_cannot_be_told_is_told_no_more() {
        let mut told = 0;
        let failed = processes(pid(process::id()), &Population::default(), &mut |_| {
            told += 1;
            Err(io::ErrorKind::BrokenPipe.into())
        });
        assert_eq!((told, failed.map_err(|error| error.kind())), (1, Err(io::ErrorKind::BrokenPipe)));
    }
}
