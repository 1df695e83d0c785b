//! What is counted. Plain numbers with one writer each; whoever wants a sum merges them.

/// What one engine thread did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EngineCounters {
    /// Stops of tracees, of any kind.
    pub stops: u64,
    /// Calls of the workload that the filter trapped. Each of them is one of the unwanted, the dropped or the kept.
    pub calls_trapped: u64,
    /// Trapped calls that turned out not to be wanted, by their numbers or their registers: calls of a foreign ABI, all of
    /// which are trapped; those that are trapped for placement; and in an audit native ones.
    pub calls_unwanted: u64,
    /// The unwanted calls that are so by their numbers alone.
    pub calls_number_unwanted: u64,
    /// Wanted calls that triage dropped, or in an audit would have.
    pub calls_dropped: u64,
    /// Calls that may matter.
    pub calls_kept: u64,
    /// Threads and processes that were made.
    pub tracees_created: u64,
    /// Threads that were gone when they were asked something. Their records say so.
    pub tracees_gone: u64,
    /// Times that threads were stuck to one CPU together with the tracer.
    pub packs_stuck: u64,
    /// Requests that the kernel refused for another reason.
    pub requests_refused: u64,
    /// Arguments whose memory could not be read.
    pub reads_failed: u64,
    /// Calls whose threads could not be followed to the result. Their records say so.
    pub calls_unfollowed: u64,
    /// Calls whose arguments were replaced by copies that nobody can change.
    pub calls_replaced: u64,
    /// Those of them that took no stop at their exits for it.
    pub calls_sent_back: u64,
    /// Calls whose arguments another thread could change after they were read.
    pub calls_changeable: u64,
    /// Calls of which was compared what they used with what had been read.
    pub calls_compared: u64,
    /// Calls that used something else.
    pub calls_mismatched: u64,
}

impl EngineCounters {
    /// Adds what another thread did.
    pub const fn add(&mut self, other: &Self) {
        let Self {
            stops,
            calls_trapped,
            calls_unwanted,
            calls_number_unwanted,
            calls_dropped,
            calls_kept,
            tracees_created,
            tracees_gone,
            packs_stuck,
            requests_refused,
            reads_failed,
            calls_unfollowed,
            calls_replaced,
            calls_sent_back,
            calls_changeable,
            calls_compared,
            calls_mismatched,
        } = other;
        self.stops += *stops;
        self.calls_trapped += *calls_trapped;
        self.calls_unwanted += *calls_unwanted;
        self.calls_number_unwanted += *calls_number_unwanted;
        self.calls_dropped += *calls_dropped;
        self.calls_kept += *calls_kept;
        self.tracees_created += *tracees_created;
        self.tracees_gone += *tracees_gone;
        self.packs_stuck += *packs_stuck;
        self.requests_refused += *requests_refused;
        self.reads_failed += *reads_failed;
        self.calls_unfollowed += *calls_unfollowed;
        self.calls_replaced += *calls_replaced;
        self.calls_sent_back += *calls_sent_back;
        self.calls_changeable += *calls_changeable;
        self.calls_compared += *calls_compared;
        self.calls_mismatched += *calls_mismatched;
    }

    /// Notes whether a thread was gone when it was asked something.
    pub const fn note_gone(&mut self, is_gone: bool) {
        self.tracees_gone += is_gone as u64;
    }
}

/// What one producer put into its ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RecorderCounters {
    /// Records written.
    pub records: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Records lost because the ring stayed full.
    pub records_lost: u64,
    /// Times that a record had to wait for room while the workload ran.
    pub waits_for_room: u64,
}

/// What the consumer's side of a pipeline saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ConsumerCounters {
    /// Records that were no records: see [`crate::event::RecordError`].
    pub decode_errors: u64,
    /// Processes that were not remembered, because too many were known.
    pub processes_unremembered: u64,
    /// Events that the sink could not take.
    pub sink_errors: u64,
}
