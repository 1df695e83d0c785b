//! One process as Falco has been told of it, and the program that it runs.
//!
//! Read the head of `processes.rs` before you add state here: it lives as long as the process, times
//! [`limits::PROCESSES_MAX`].

use std::sync::Arc;

use super::additions::SocketInfo;
use crate::{
    falco::{encode::Text, flags},
    limits,
};

/// A user or group, or a limit, of which nothing is known. Never 0: that is root.
pub(super) const UNKNOWN_ID: u32 = u32::MAX;

/// The texts of one program start, shared by all children that run the same program.
#[derive(Debug)]
pub(super) struct Program {
    /// The first of the arguments; `None` where no record told it.
    pub(super) exe: Option<Box<[u8]>>,
    /// The other arguments, each with its NUL.
    pub(super) args: Box<[u8]>,
    pub(super) comm: Option<Box<[u8]>>,
    /// The `cgroups` parameter.
    pub(super) cgroups: Box<[u8]>,
    /// The soft limit of open files, -1 where it is not known.
    pub(super) fd_limit: i64,
}

impl Default for Program {
    fn default() -> Self {
        Self { exe: None, args: Box::default(), comm: None, cgroups: Box::default(), fd_limit: -1 }
    }
}

impl Program {
    pub(super) fn exe(&self) -> Text<'_> {
        self.exe.as_deref().map_or(Text::MISSING, Text::bounded)
    }

    pub(super) fn comm(&self) -> Text<'_> {
        self.comm.as_deref().map_or(Text::MISSING, Text::bounded)
    }
}

/// What Falco has been told of a process.
#[derive(Debug, Clone)]
pub(super) struct Process {
    pub(super) parent: u32,
    pub(super) program: Arc<Program>,
    /// The current directory that Falco resolves relative names against.
    pub(super) cwd: Option<Arc<[u8]>>,
    /// Real, effective and saved user.
    pub(super) uid: [u32; 3],
    /// Real, effective and saved group.
    pub(super) gid: [u32; 3],
    /// Inheritable, permitted and effective capabilities.
    pub(super) capabilities: Option<[u64; 3]>,
    /// Its number in its own PID namespace.
    pub(super) vpid: Option<i64>,
    /// Whether that namespace is below the tracer's.
    pub(super) is_nested: bool,
    /// The thread whose children go to another PID namespace than its own, and to which.
    children_go: Option<(u32, ChildPlace)>,
    sockets: Vec<ToldSocket>,
    /// How many threads besides its first are known.
    pub(super) threads: u32,
    /// Tells it from later processes with the same number, and from which on it is known: a parent that Falco is told has
    /// a lower one.
    pub(super) serial: u64,
    /// That of its parent, if its parent was known.
    pub(super) parent_serial: Option<u64>,
    /// When it was made, in clock ticks since the machine started, if a record told.
    pub(super) start_ticks: Option<u64>,
    /// No record told what it runs: it has no name.
    pub(super) is_nameless: bool,
    /// What is known of it comes from a snapshot: it may have run another program when the records were made that name
    /// it now.
    pub(super) is_of_snapshot: bool,
    /// It is none of the workload's: the tracer, or one of its ancestors.
    pub(super) is_outsider: bool,
    pub(super) is_told: bool,
}

impl Process {
    /// A process of which nothing is known but who made it; 0 for nobody that is known.
    pub(super) fn new(pid: u32, parent: u32) -> Self {
        Self {
            parent,
            program: Arc::default(),
            cwd: None,
            uid: [UNKNOWN_ID; 3],
            gid: [UNKNOWN_ID; 3],
            capabilities: None,
            vpid: Some(i64::from(pid)),
            is_nested: false,
            children_go: None,
            sockets: Vec::new(),
            threads: 0,
            serial: 0,
            parent_serial: None,
            start_ticks: None,
            is_nameless: true,
            is_of_snapshot: false,
            is_outsider: false,
            is_told: false,
        }
    }

    /// A record told what it is.
    pub(super) const fn settle(&mut self) {
        (self.is_nameless, self.is_of_snapshot) = (false, false);
    }

    /// Whether a child that it made may have been another program than what is known of it.
    pub(super) const fn is_doubtful(&self) -> bool {
        self.is_nameless || self.is_of_snapshot
    }

    /// Whether a record from `/proc`, of a process made at `start_ticks`, is about another process than this one with its
    /// number. Where the time tells nothing, it is if the record of its clone was lost.
    pub(super) fn is_other(&self, start_ticks: Option<u64>, is_clone_lost: bool) -> bool {
        match (self.start_ticks, start_ticks) {
            (Some(known), Some(told)) => known != told,
            _ => is_clone_lost,
        }
    }

    /// Bytes of the texts that introduce it.
    pub(super) fn text_bytes(&self) -> usize {
        let Program { exe, args, comm, cgroups, .. } = &*self.program;
        let len = |text: Option<&[u8]>| text.map_or(0, <[u8]>::len);
        len(exe.as_deref()) + args.len() + len(comm.as_deref()) + cgroups.len() + len(self.cwd.as_deref())
    }

    /// unshare(2) and setns(2) leave a process in its PID namespace: where the children of the thread go from now on that
    /// made the call.
    pub(super) const fn send_children(&mut self, tid: u32, place: ChildPlace) {
        self.children_go = Some((tid, place));
    }

    /// A thread started a program and is the only one by now, with the number of the process.
    pub(super) fn keep_only_thread(&mut self, former_tid: u32, pid: u32) {
        self.children_go =
            self.children_go.filter(|&(tid, _)| tid == former_tid).map(|(_, place)| (pid, place));
    }

    /// Where the child goes that a thread makes just now: the first child in a namespace is its first process, and those
    /// after it are not.
    pub(super) const fn place_child(&mut self, tid: u32, clone_flags: u32) -> ChildPlace {
        if clone_flags & flags::CLONE_NEWPID != 0 {
            return ChildPlace::First;
        }
        match self.children_go {
            Some((mover, place)) if mover == tid => {
                self.children_go = Some((tid, ChildPlace::Other));
                place
            }
            _ => ChildPlace::Same,
        }
    }

    /// A child that was just made: a copy.
    pub(super) fn child(&self, pid: u32, parent: u32, place: ChildPlace) -> Self {
        let vpid = match place {
            ChildPlace::First => Some(1),
            ChildPlace::Same if !self.is_nested => Some(i64::from(pid)),
            ChildPlace::Same | ChildPlace::Other => None,
        };
        Self {
            parent,
            vpid,
            is_nested: self.is_nested || place != ChildPlace::Same,
            children_go: None,
            start_ticks: None,
            is_outsider: false,
            ..self.clone()
        }
    }

    /// The same process when it still had this parent.
    pub(super) fn with_parent(self, parent: u32) -> Self {
        Self { parent, ..self }
    }

    /// The numbers of a thread of this process in its own namespace, if both are known.
    pub(super) fn virtual_ids(&self, tid: u32, pid: u32) -> Option<(i64, i64)> {
        let vpid = self.vpid?;
        if tid == pid { Some((vpid, vpid)) } else { Some((i64::from(tid), vpid)).filter(|_| !self.is_nested) }
    }

    pub(super) fn socket(&self, fd: i32) -> Option<&ToldSocket> {
        self.sockets.iter().find(|socket| socket.fd == fd)
    }

    /// Remembers that Falco knows `fd` as this socket.
    pub(super) fn remember_socket(&mut self, fd: i32, info: SocketInfo) {
        self.forget_socket(fd);
        if self.sockets.len() == limits::SOCKETS_MAX {
            self.sockets.remove(0);
        }
        self.sockets.push(ToldSocket { fd, info, is_told: true, is_bound: false });
    }

    /// Falco was told of the address that a socket was bound to.
    pub(super) fn note_bound(&mut self, fd: i32) {
        if let Some(socket) = self.sockets.iter_mut().find(|socket| socket.fd == fd) {
            socket.is_bound = true;
        }
    }

    /// Whether Falco was told of that address since this was asked last: the number may be another socket's by then.
    pub(super) fn take_bound(&mut self, fd: i32) -> bool {
        let socket = self.sockets.iter_mut().find(|socket| socket.fd == fd);
        socket.is_some_and(|socket| std::mem::take(&mut socket.is_bound))
    }

    /// The descriptor is something else now.
    pub(super) fn forget_socket(&mut self, fd: i32) {
        self.sockets.retain(|socket| socket.fd != fd);
    }

    /// A new consumer: what sockets are is remembered, but Falco does not know it.
    pub(super) fn untell_sockets(&mut self) {
        for socket in &mut self.sockets {
            socket.is_told = false;
        }
    }
}

/// In which PID namespace a new process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ChildPlace {
    /// That of its creator.
    Same,
    /// A new one, whose first process it is.
    First,
    /// Another one, in which its number is not known.
    Other,
}

/// A socket of which Falco was told.
#[derive(Debug, Clone, Copy)]
pub(super) struct ToldSocket {
    fd: i32,
    pub(super) info: SocketInfo,
    /// Whether Falco still knows it.
    pub(super) is_told: bool,
    is_bound: bool,
}
