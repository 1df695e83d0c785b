//! Signals reach the workload as they do natively, also inside trapped calls.

use crate::support::{Workload, directory, fifo, fixture};

#[test]
fn a_handler_interrupts_a_trapped_call() {
    let (_held, path) = directory();
    let pipe = path.join("fifo");
    fifo(&pipe);
    let program = fixture("signals");
    let words = [program.as_os_str(), "interrupt".as_ref(), pipe.as_os_str()];
    let native = Workload::new(words).natively();
    let capture = Workload::new(words).capture();
    assert_eq!(capture.code(), 0);
    assert_eq!(native.stdout(), "EINTR, handled 1\n");
    assert_eq!(capture.finished.stdout(), native.stdout());
    if crate::engine() == "notify" && capture.opens(&pipe).is_empty() {
        // It was interrupted before a worker had received it.
        return;
    }
    let open = capture.open(&pipe);
    assert_eq!(open.pid(), Some(capture.root()));
    // The kernel restarts the call or not after the stop at its end, where its result still is ERESTARTSYS.
    assert!([Some(-4), Some(-512)].contains(&open.result()), "{open:?}");
}

#[test]
fn a_trapped_call_is_restarted_after_a_handler() {
    let (_held, path) = directory();
    let pipe = path.join("fifo");
    fifo(&pipe);
    let program = fixture("signals");
    let words = [program.as_os_str(), "restart".as_ref(), pipe.as_os_str()];
    let native = Workload::new(words).natively();
    let capture = Workload::new(words).capture();
    assert_eq!(capture.code(), 0);
    assert_eq!(native.stdout(), "opened, handled 1\n");
    assert_eq!(capture.finished.stdout(), native.stdout());
    let root = Some(capture.root());
    let results: Vec<_> = capture
        .opens(&pipe)
        .into_iter()
        .filter(|open| open.pid() == root)
        .map(|open| open.result())
        .collect();
    let (last, before) = results.split_last().unwrap();
    assert!(*last >= Some(0), "{results:?}");
    assert!(before.iter().all(|result| *result == Some(-512)), "{results:?}");
}

#[test]
fn queued_signals_arrive_in_order_and_with_their_values() {
    let program = fixture("signals");
    let words = [program.as_os_str(), "queue".as_ref()];
    let native = Workload::new(words).natively();
    let capture = Workload::new(words).capture();
    assert_eq!(capture.code(), 0);
    assert_eq!(native.stdout().split_whitespace().count(), 24);
    assert_eq!(capture.finished.stdout(), native.stdout());
}
