//! The packets of MQTT 3.1.1 that are sent.

/// A PUBLISH to be copied and filled in.
pub(crate) struct Template {
    pub(crate) bytes: Vec<u8>,
    /// Where its packet identifier is, with QoS 1 and 2.
    pub(crate) packet_id: usize,
    /// Where its payload is.
    pub(crate) payload: usize,
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    let mut length = body.len();
    loop {
        let digit = (length % 128) as u8;
        length /= 128;
        out.push(digit | if length > 0 { 128 } else { 0 });
        if length == 0 {
            break;
        }
    }
    out.extend_from_slice(body);
    out
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&(text.len() as u16).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

pub(crate) fn connect(client_id: &str) -> Vec<u8> {
    let mut body = b"\x00\x04MQTT\x04\x02".to_vec();
    body.extend_from_slice(&600u16.to_be_bytes());
    text(&mut body, client_id);
    packet(0x10, &body)
}

pub(crate) fn subscribe(packet_id: u16, filters: &[String], qos: u8) -> Vec<u8> {
    let mut body = packet_id.to_be_bytes().to_vec();
    for filter in filters {
        text(&mut body, filter);
        body.push(qos);
    }
    packet(0x82, &body)
}

pub(crate) fn publish(topic: &str, qos: u8, size: usize) -> Template {
    let mut body = Vec::new();
    text(&mut body, topic);
    if qos > 0 {
        body.extend_from_slice(&[0, 0]);
    }
    body.extend((0..size).map(|n| (n % 251) as u8));
    let bytes = packet(0x30 | qos << 1, &body);
    let payload = bytes.len() - size;
    Template {
        packet_id: payload - 2,
        payload,
        bytes,
    }
}
