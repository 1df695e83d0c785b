//! What the machine permits, as creance finds it out.

use std::sync::LazyLock;

use creance::sys::probe::{Answer, Probe, Probes};

/// Whether this machine permits it.
pub(crate) fn is_permitted(probe: Probe) -> bool {
    static PROBES: LazyLock<Probes> = LazyLock::new(Probes::run);
    PROBES.answer(probe) == Answer::Yes
}
