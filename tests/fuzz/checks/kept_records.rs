//! What a client reads from its disk, queued messages and announced key frames: no panic, and what is read is what would be written.

use bytes::Bytes;
use smqtt_proto::QoS;

use super::{frame, record};

pub(super) fn check(data: &[u8]) {
    let data = Bytes::copy_from_slice(data);
    queued(&data);
    if let Some(read) = frame::read_frame(data.clone()) {
        assert_eq!(frame::write_frame(&read), data);
    }
}

fn queued(data: &Bytes) {
    let accepted = data
        .first_chunk()
        .map_or(0, |bytes| u64::from_be_bytes(*bytes));
    // Before, at and long after the time at which it was accepted.
    for now in [0, accepted, accepted.saturating_add(1 << 40)] {
        let record::Read::Message(read) = record::read(data.clone(), now) else {
            continue;
        };
        assert_eq!(read.packet_id, None);
        let again = record::record(&read, now).expect("it was encoded before");
        let record::Read::Message(once_more) = record::read(again, now) else {
            panic!("it is no message any more");
        };
        assert_eq!(once_more, read);
        assert!(read.qos <= QoS::ExactlyOnce);
    }
}
