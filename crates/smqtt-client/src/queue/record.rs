//! A queued message as bytes. Without a disk; the fuzz target `kept_records` includes this file.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use smqtt_proto::packet::Publish;
use smqtt_proto::{Decoder, Packet, PacketId, ProtocolVersion, QoS, encode};

/// A message as it lies in the queue: when it was accepted, in seconds since 1970 (8 bytes, big-endian), and an MQTT 5 PUBLISH.
pub(crate) fn record(publish: &Publish, accepted: u64) -> Option<Bytes> {
    let mut publish = publish.clone();
    if publish.qos != QoS::AtMostOnce {
        // A PUBLISH of QoS 1 and 2 has an identifier; the connection gives it another one.
        publish.packet_id = PacketId::new(1);
    }
    let mut out = BytesMut::new();
    out.put_u64(accepted);
    encode(&Packet::Publish(publish), ProtocolVersion::V5, &mut out).ok()?;
    Some(out.freeze())
}

/// The message of a record, with the expiry that is left of it at `now`.
pub(crate) enum Read {
    Message(Publish),
    Expired,
    Damaged,
}

pub(crate) fn read(mut record: Bytes, now: u64) -> Read {
    if record.len() < 8 {
        return Read::Damaged;
    }
    let accepted = record.get_u64();
    let mut decoder = Decoder::new(ProtocolVersion::V5, u32::MAX);
    let Ok(Some(Packet::Publish(mut publish))) = decoder.decode_from(&mut record) else {
        return Read::Damaged;
    };
    if !record.is_empty() {
        return Read::Damaged;
    }
    publish.packet_id = None;
    if let Some(seconds) = publish.properties.message_expiry_interval {
        let left = u64::from(seconds).saturating_sub(now.saturating_sub(accepted));
        match u32::try_from(left) {
            Ok(0) => return Read::Expired,
            Ok(left) => publish.properties.message_expiry_interval = Some(left),
            Err(_) => return Read::Damaged,
        }
    }
    Read::Message(publish)
}

#[cfg(test)]
mod tests {
    use smqtt_proto::TopicName;

    use super::*;

    fn publish(qos: QoS, expiry: Option<u32>) -> Publish {
        let mut publish = Publish::new(TopicName::new("plant/7").unwrap(), "sealed");
        publish.qos = qos;
        publish.properties.message_expiry_interval = expiry;
        publish
    }

    #[test]
    fn a_record_gives_back_its_message() {
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let message = publish(qos, None);
            let record = record(&message, 7).unwrap();
            let Read::Message(again) = read(record, 1_000) else {
                panic!("a message");
            };
            assert_eq!(again, message);
        }
    }

    #[test]
    fn expiry_goes_on_while_a_message_waits() {
        let record = record(&publish(QoS::AtLeastOnce, Some(60)), 1_000).unwrap();
        let Read::Message(left) = read(record.clone(), 1_050) else {
            panic!("a message");
        };
        assert_eq!(left.properties.message_expiry_interval, Some(10));
        assert!(matches!(read(record.clone(), 1_060), Read::Expired));
        // A clock that was set back gives no more time than there was.
        let Read::Message(left) = read(record, 900) else {
            panic!("a message");
        };
        assert_eq!(left.properties.message_expiry_interval, Some(60));
    }

    #[test]
    fn what_is_no_record_is_damaged() {
        let whole = record(&publish(QoS::AtLeastOnce, Some(60)), 1_000).unwrap();
        for length in 0..whole.len() {
            assert!(matches!(read(whole.slice(..length), 1_000), Read::Damaged));
        }
        let longer = [&whole[..], b"x"].concat();
        assert!(matches!(read(longer.into(), 1_000), Read::Damaged));
    }
}
