//! An announced key frame as it is kept. Without a disk; the fuzz target `kept_records` includes this file.

use bytes::{Buf, BufMut, Bytes};

/// An announced key frame as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FrameRecord {
    /// When publishers stop sealing under it, in seconds since 1970.
    pub(crate) ends: u64,
    /// Whether it came as it was published, not from the broker's store.
    pub(crate) live: bool,
    pub(crate) topic: String,
    pub(crate) frame: Bytes,
}

/// The key's end (8 bytes, big-endian), whether it came live (1), the topic's length (2) and the topic, the frame.
pub(crate) fn write_frame(record: &FrameRecord) -> Vec<u8> {
    let mut out = Vec::with_capacity(11 + record.topic.len() + record.frame.len());
    out.put_u64(record.ends);
    out.put_u8(u8::from(record.live));
    // A topic's length fits, by MQTT.
    out.put_u16(u16::try_from(record.topic.len()).unwrap_or(u16::MAX));
    out.put_slice(record.topic.as_bytes());
    out.put_slice(&record.frame);
    out
}

pub(crate) fn read_frame(mut record: Bytes) -> Option<FrameRecord> {
    let ends = record.try_get_u64().ok()?;
    let live = match record.try_get_u8().ok()? {
        0 => false,
        1 => true,
        _ => return None,
    };
    let length = usize::from(record.try_get_u16().ok()?);
    if record.len() < length {
        return None;
    }
    let topic = String::from_utf8(record.split_to(length).to_vec()).ok()?;
    Some(FrameRecord {
        ends,
        live,
        topic,
        frame: record,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame() -> FrameRecord {
        FrameRecord {
            ends: 70,
            live: true,
            topic: "smqtt/keys/plant/ü/0707070707070707".to_owned(),
            frame: Bytes::from_static(b"frame"),
        }
    }

    #[test]
    fn what_is_no_frame_record_is_damaged() {
        let whole = write_frame(&frame());
        assert_eq!(read_frame(whole.clone().into()), Some(frame()));
        let head = whole.len() - frame().frame.len();
        for length in 0..head {
            let part = Bytes::copy_from_slice(&whole[..length]);
            assert_eq!(read_frame(part), None, "{length}");
        }
        let mut flag = whole;
        flag[8] = 2;
        assert_eq!(read_frame(flag.into()), None);
    }
}
