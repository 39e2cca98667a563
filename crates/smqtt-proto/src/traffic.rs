//! What went over a connection.

/// How many packets a connection has carried, each way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    /// Packets of all kinds that were received.
    pub packets_received: u64,
    /// Packets of all kinds that were written to the outbox.
    pub packets_sent: u64,
    /// PUBLISH packets among those received.
    pub publishes_received: u64,
    /// PUBLISH packets among those sent.
    pub publishes_sent: u64,
}

impl Traffic {
    pub(crate) fn publish_sent(&mut self) {
        self.packets_sent += 1;
        self.publishes_sent += 1;
    }
}
