//! A debugger inside the workload works, and what creance cannot know because of it is told.

use crate::support::{Workload, fixture};

#[test]
fn a_program_that_is_debugged_runs_as_it_does_natively_and_its_calls_are_told_without_results() {
    let native = Workload::new([fixture("tracer")]).natively();
    assert_eq!(native.stdout(), "failed opens 1, status 3\n");
    if crate::engine() != "notify" {
        return;
    }
    let capture = Workload::new([fixture("tracer")]).capture();
    assert_eq!((capture.code(), capture.finished.stdout()), (0, native.stdout()));
    for (path, errno) in [("before", Some("ENOENT")), ("traced", None), ("after", Some("ENOENT"))] {
        let open = capture.open(format!("/nonexistent/{path}"));
        assert_eq!((open.errno(), open.has_flag("unfollowed")), (errno, errno.is_none()), "{open:?}");
    }
    let call = capture.one("ptrace", |call| call.argument("request") == Some("PTRACE_TRACEME"));
    assert_eq!((call.result(), call.has_flag("unfollowed")), (Some(0), true));
    let end = capture.exit(call.pid().unwrap());
    assert_eq!(end.number("/args/status"), Some(3), "{end:?}");
}
