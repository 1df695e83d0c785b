//! Everything at once: children that live and end in many ways, and are stopped, continued and killed at random meanwhile.

use std::ffi::OsString;

use crate::support::{Workload, fixture};

#[test]
fn children_that_live_and_end_in_all_ways_end_as_natively_and_none_is_lost() {
    for seed in ["1", "2"] {
        // A signal whose handler has no SA_RESTART may fail a call under notify.
        for (flags, handlers) in [
            (&["--engine", "ptrace"][..], "interrupt"),
            (&["--engine", "notify"], "restart"),
            (&["--engine", "ptrace", "--no-filter"], "interrupt"),
        ] {
            let words = [OsString::from(fixture("churn")), "50".into(), seed.into(), handlers.into()];
            let native = Workload::new(&words).natively();
            assert_eq!(native.status.code(), Some(7), "{}", native.stderr);
            let capture = Workload::new(&words).flags(flags).capture();
            if capture.is_impossible() {
                continue;
            }
            assert_eq!(capture.finished.stdout(), native.stdout(), "{flags:?}: {}", capture.finished.stderr);
            assert_eq!(capture.code(), 7, "{flags:?}");
            // The first, its children, and those of them that make one of their own, if they come that far.
            assert!(capture.of("procexit").count() > 50, "{flags:?}");
        }
    }
}
