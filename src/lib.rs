//! creance captures the system calls of a workload from user space, for Falco.
//!
//! The crate is built in floors, and a file may use the crate's own items only from lower floors:
//!
//! | floor | modules | what it owns |
//! |---|---|---|
//! | 0 | [`limits`], [`counters`], [`abi`], `terminal` | every bound; what is counted; kernel facts without I/O; what a terminal hides |
//! | 1 | [`sys`], [`event`] | the only door to the kernel; the wire format |
//! | 2 | [`ring`], [`rules`] | the transport; Falco's rule language |
//! | 3 | [`interest`], [`container`] | what can matter; which container this is |
//! | 4 | [`filter`], [`triage`], [`link`] | interest to seccomp BPF; interest to predicates on memory; how a consumer in another process gets the ring |
//! | 5 | [`engine`], [`decode`] | calls to records; records to events |
//! | 6 | [`falco`] | records to events in Falco's own layout |
//! | 7 | [`sink`] | where events go |
//! | 8 | [`pipeline`] | the one place that knows both an engine and a sink |
//! | 9 | [`overhead`] | what tracing costs, measured from outside, and told |
//! | 10 | `cli`, `main`, `plugin` | flags and exit status; Falco's plugin |
//!
//! The engine and the decoder never import each other: they share only the wire format and the ring.
//! The picture is in `docs/architecture.md`.

#[cfg(not(target_os = "linux"))]
compile_error!("creance traces Linux system calls and builds on Linux only");

pub mod abi;
pub mod cli;
pub mod container;
pub mod counters;
pub mod decode;
pub mod engine;
pub mod event;
pub mod falco;
pub mod filter;
pub mod interest;
pub mod limits;
pub mod link;
pub mod overhead;
pub mod pipeline;
#[cfg(any(test, feature = "plugin"))]
mod plugin;
pub mod ring;
pub mod rules;
pub mod sink;
pub mod sys;
mod terminal;
pub mod triage;
