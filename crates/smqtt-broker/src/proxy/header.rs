//! The header of the PROXY protocol, version 2, with which a proxy says whom it connects for.
//!
//! <https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt>, section 2.2. Without a socket; the fuzz
//! targets include this file.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

/// What every header begins with.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// The signature, version and command, family, and length.
const FIXED: usize = 16;
/// Addresses and additional fields, of which a certificate of the client is the largest.
const MAX_LENGTH: usize = 4096;

/// What a header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Proxied {
    /// The connection is for a client at this address.
    Client(SocketAddr),
    /// The connection is the proxy's own, such as a health check, or for a client without an IP
    /// address: the socket's address counts.
    Unknown,
}

/// What is wrong with a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Invalid {
    #[error("it does not begin with a PROXY protocol version 2 header")]
    Signature,
    #[error("its PROXY header has an unknown version or command")]
    Command,
    #[error("its PROXY header is not for a stream connection")]
    Family,
    #[error("its PROXY header says {0} bytes, more than {MAX_LENGTH}")]
    TooLong(usize),
    #[error("its PROXY header is shorter than what it holds")]
    Truncated,
}

/// A header while it arrives, in any pieces.
#[derive(Debug, Default)]
pub(crate) struct Header {
    bytes: Vec<u8>,
}

impl Header {
    /// How many bytes are known to be missing; none when it is whole. Not a byte behind it is asked for.
    ///
    /// # Errors
    /// [`Invalid`], as soon as it shows.
    pub(crate) fn missing(&self) -> Result<usize, Invalid> {
        Ok(size(&self.bytes)? - self.bytes.len())
    }

    /// Takes bytes, at most those that are [`missing`](Self::missing).
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// What it says, once it is whole.
    ///
    /// # Errors
    /// [`Invalid`].
    pub(crate) fn parse(&self) -> Result<Proxied, Invalid> {
        parse(&self.bytes)
    }
}

/// How many bytes the header that begins so has, as far as these tell.
fn size(bytes: &[u8]) -> Result<usize, Invalid> {
    let known = bytes.len().min(SIGNATURE.len());
    if bytes[..known] != SIGNATURE[..known] {
        return Err(Invalid::Signature);
    }
    let Some(length) = bytes.get(14..FIXED) else {
        return Ok(FIXED);
    };
    match usize::from(u16::from_be_bytes([length[0], length[1]])) {
        length if length > MAX_LENGTH => Err(Invalid::TooLong(length)),
        length => Ok(FIXED + length),
    }
}

/// Parses one whole header.
fn parse(bytes: &[u8]) -> Result<Proxied, Invalid> {
    if size(bytes)? != bytes.len() || bytes.len() < FIXED {
        return Err(Invalid::Truncated);
    }
    let body = &bytes[FIXED..];
    let local = match bytes[12] {
        0x20 => true,
        0x21 => false,
        _ => return Err(Invalid::Command),
    };
    let (proxied, fields) = match bytes[13] {
        // Whatever stands there is to be skipped.
        0x00 => return Ok(Proxied::Unknown),
        0x11 => {
            let (b, fields) = body.split_first_chunk::<12>().ok_or(Invalid::Truncated)?;
            let ip = Ipv4Addr::new(b[0], b[1], b[2], b[3]);
            let port = u16::from_be_bytes([b[8], b[9]]);
            (Proxied::Client((ip, port).into()), fields)
        }
        0x21 => {
            let (b, fields) = body.split_first_chunk::<36>().ok_or(Invalid::Truncated)?;
            let (ip, _) = b.split_first_chunk::<16>().ok_or(Invalid::Truncated)?;
            let port = u16::from_be_bytes([b[32], b[33]]);
            (Proxied::Client((Ipv6Addr::from(*ip), port).into()), fields)
        }
        0x31 => {
            let (_, fields) = body.split_first_chunk::<216>().ok_or(Invalid::Truncated)?;
            (Proxied::Unknown, fields)
        }
        _ => return Err(Invalid::Family),
    };
    check_fields(fields)?;
    Ok(match local {
        true => Proxied::Unknown,
        false => proxied,
    })
}

/// The additional fields are not used, and must be whole.
fn check_fields(mut fields: &[u8]) -> Result<(), Invalid> {
    while !fields.is_empty() {
        let (head, rest) = fields.split_first_chunk::<3>().ok_or(Invalid::Truncated)?;
        let length = usize::from(u16::from_be_bytes([head[1], head[2]]));
        fields = rest.get(length..).ok_or(Invalid::Truncated)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).expect("short");
        let mut bytes = SIGNATURE.to_vec();
        bytes.extend([command, family]);
        bytes.extend(length.to_be_bytes());
        bytes.extend(body);
        bytes
    }

    const V4: [u8; 12] = [192, 0, 2, 7, 10, 0, 0, 1, 0x1f, 0x90, 0x07, 0x5b];

    #[test]
    fn clients_are_told_by_either_family() {
        let client = |text: &str| Ok(Proxied::Client(text.parse().expect(text)));
        assert_eq!(parse(&header(0x21, 0x11, &V4)), client("192.0.2.7:8080"));
        let mut v6 = [0; 36];
        (v6[0], v6[1], v6[15], v6[33]) = (0x20, 0x01, 9, 80);
        assert_eq!(parse(&header(0x21, 0x21, &v6)), client("[2001::9]:80"));
        // With an additional field.
        let body = [&V4[..], &[4, 0, 2, 1, 2]].concat();
        assert_eq!(parse(&header(0x21, 0x11, &body)), client("192.0.2.7:8080"));
    }

    #[test]
    fn connections_of_the_proxy_itself_and_of_no_address_are_unknown() {
        for bytes in [
            header(0x20, 0x00, &[]),
            header(0x20, 0x11, &V4),
            header(0x21, 0x00, &[1, 2, 3]),
            header(0x21, 0x31, &[0; 216]),
        ] {
            assert_eq!(parse(&bytes), Ok(Proxied::Unknown));
        }
    }

    #[test]
    fn what_is_not_whole_or_not_version_2_is_refused() {
        for (bytes, error) in [
            (header(0x11, 0x11, &V4), Invalid::Command),
            (header(0x22, 0x11, &V4), Invalid::Command),
            (header(0x21, 0x12, &V4), Invalid::Family),
            (header(0x21, 0x11, &V4[..11]), Invalid::Truncated),
            (header(0x21, 0x21, &V4), Invalid::Truncated),
            (
                header(0x21, 0x11, &[&V4[..], &[4, 0, 9, 1]].concat()),
                Invalid::Truncated,
            ),
            (
                header(0x21, 0x11, &[&V4[..], &[4, 0]].concat()),
                Invalid::Truncated,
            ),
            (header(0x21, 0x11, &[0; 5000]), Invalid::TooLong(5000)),
            (b"PROXY TCP4 192.0".to_vec(), Invalid::Signature),
            (b"\x10\x0c\0\x04MQTT".to_vec(), Invalid::Signature),
            (SIGNATURE.to_vec(), Invalid::Truncated),
        ] {
            assert_eq!(parse(&bytes), Err(error), "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(start in 0usize..=16, rest in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut bytes = header(0x21, 0x11, &[])[..start].to_vec();
            bytes.extend(rest);
            let _ = parse(&bytes);
        }

        #[test]
        fn what_is_sent_is_found(ip in any::<u128>(), port in any::<u16>(), fields in proptest::collection::vec((any::<u8>(), proptest::collection::vec(any::<u8>(), 0..40)), 0..5)) {
            let mut body = ip.to_be_bytes().to_vec();
            body.extend([0; 16]);
            body.extend(port.to_be_bytes());
            body.extend([0; 2]);
            for (kind, value) in fields {
                body.push(kind);
                body.extend(u16::try_from(value.len()).expect("short").to_be_bytes());
                body.extend(value);
            }
            let client = SocketAddr::from((Ipv6Addr::from(ip), port));
            prop_assert_eq!(parse(&header(0x21, 0x21, &body)), Ok(Proxied::Client(client)));
        }
    }
}
