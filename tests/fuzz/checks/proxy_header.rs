//! The header of the PROXY protocol: no panic, bounded, and one result however its bytes are cut.

use crate::proxy::{Header, Invalid, Proxied};

/// The longest header that is read: 16 bytes and what its length may say.
const LONGEST: usize = 16 + 4096;

#[derive(Debug, PartialEq, Eq)]
enum Read {
    /// What it says, and how many bytes it has.
    Whole(Proxied, usize),
    Refused(Invalid),
    Incomplete,
}

/// Reads a header from pieces of these lengths, over and over.
fn read(data: &[u8], pieces: &[usize]) -> Read {
    let mut header = Header::default();
    let mut used = 0;
    for piece in pieces.iter().cycle() {
        let missing = match header.missing() {
            Ok(0) => match header.parse() {
                Ok(proxied) => return Read::Whole(proxied, used),
                Err(error) => return Read::Refused(error),
            },
            Ok(missing) => missing,
            Err(error) => return Read::Refused(error),
        };
        assert!(used + missing <= LONGEST);
        let rest = &data[used..];
        if rest.is_empty() {
            return Read::Incomplete;
        }
        let taken = missing.min(rest.len()).min(*piece);
        header.push(&rest[..taken]);
        used += taken;
    }
    unreachable!("there are pieces");
}

pub(crate) fn check(data: &[u8]) {
    let Some((&[first, second], data)) = data.split_first_chunk() else {
        return;
    };
    let whole = read(data, &[usize::MAX]);
    let cut = [usize::from(first) + 1, usize::from(second) + 1];
    for pieces in [&cut[..], &[1], &[512]] {
        assert_eq!(read(data, pieces), whole, "in pieces of {pieces:?}");
    }
    if let Read::Whole(_, length) = whole {
        // What follows a header is not part of it, and without its last byte it is none.
        assert_eq!(read(&data[..length], &[usize::MAX]), whole);
        assert_eq!(read(&data[..length - 1], &[1]), Read::Incomplete);
    }
}
