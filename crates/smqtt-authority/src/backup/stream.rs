//! The encryption of backup files: chunks of 64 KiB, each sealed with its number and whether it is the last (the STREAM
//! construction), so that a file of any size is written and read in little memory and a cut is found.

use std::io::{self, Read, Write};

use zeroize::Zeroizing;

use crate::secrets::aead::{Cipher, NONCE, TAG};

/// Bytes of plaintext in a chunk; the last has fewer, or none.
pub(super) const CHUNK: usize = 64 * 1024;

fn nonce(number: u32, last: bool) -> [u8; NONCE] {
    let mut nonce = [0; NONCE];
    nonce[7..11].copy_from_slice(&number.to_be_bytes());
    nonce[11] = last.into();
    nonce
}

fn refused(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

/// Encrypts what is written to it.
pub(super) struct Sealing<W> {
    to: W,
    cipher: Cipher,
    number: u32,
    buffer: Zeroizing<Vec<u8>>,
}

impl<W: Write> Sealing<W> {
    pub(super) fn new(to: W, cipher: Cipher) -> Self {
        Self {
            to,
            cipher,
            number: 0,
            buffer: Zeroizing::new(Vec::with_capacity(CHUNK + TAG)),
        }
    }

    fn put(&mut self, last: bool) -> io::Result<()> {
        self.cipher
            .seal(&nonce(self.number, last), &[], &mut self.buffer)
            .map_err(|_| refused("a chunk can not be encrypted"))?;
        self.to.write_all(&self.buffer)?;
        self.buffer.clear();
        self.number = self
            .number
            .checked_add(1)
            .ok_or_else(|| refused("more than 256 TiB do not fit into one backup"))?;
        Ok(())
    }

    /// Writes the last chunk. Without it the file does not open.
    pub(super) fn finish(mut self) -> io::Result<W> {
        if self.buffer.len() == CHUNK {
            self.put(false)?;
        }
        self.put(true)?;
        Ok(self.to)
    }
}

impl<W: Write> Write for Sealing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.buffer.len() == CHUNK {
            self.put(false)?;
        }
        let taken = bytes.len().min(CHUNK - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Decrypts what is read through it. Nothing of a chunk is given out before the whole chunk was verified.
pub(super) struct Opening<R> {
    from: R,
    cipher: Cipher,
    number: u32,
    chunk: Zeroizing<Vec<u8>>,
    at: usize,
    last: bool,
}

impl<R: Read> Opening<R> {
    pub(super) fn new(from: R, cipher: Cipher) -> Self {
        Self {
            from,
            cipher,
            number: 0,
            chunk: Zeroizing::default(),
            at: 0,
            last: false,
        }
    }

    fn next(&mut self) -> io::Result<()> {
        let mut sealed = Vec::with_capacity(CHUNK + TAG);
        (&mut self.from)
            .take((CHUNK + TAG) as u64)
            .read_to_end(&mut sealed)?;
        // The last chunk is always shorter than a full one.
        let last = sealed.len() < CHUNK + TAG;
        self.chunk = self
            .cipher
            .open(&nonce(self.number, last), &[], &sealed)
            .map_err(|_| refused("it was changed, or it ends early"))?;
        self.number = self
            .number
            .checked_add(1)
            .ok_or_else(|| refused("it is too long"))?;
        (self.at, self.last) = (0, last);
        Ok(())
    }
}

impl<R: Read> Read for Opening<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.chunk.len() && !self.last {
            self.next()?;
        }
        let rest = &self.chunk[self.at..];
        let given = rest.len().min(buffer.len());
        buffer[..given].copy_from_slice(&rest[..given]);
        self.at += given;
        Ok(given)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed(text: &[u8]) -> Vec<u8> {
        let mut sealing = Sealing::new(Vec::new(), Cipher::new(&[7; 32]));
        sealing.write_all(text).unwrap();
        sealing.finish().unwrap()
    }

    fn opened(file: &[u8]) -> io::Result<Vec<u8>> {
        let mut text = Vec::new();
        Opening::new(file, Cipher::new(&[7; 32])).read_to_end(&mut text)?;
        Ok(text)
    }

    #[test]
    fn any_length_comes_back() {
        for length in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK] {
            let text: Vec<u8> = (0..length).map(|i| (i % 251) as u8).collect();
            assert_eq!(opened(&sealed(&text)).unwrap(), text, "{length}");
        }
    }

    #[test]
    fn chunks_can_not_be_cut_swapped_or_repeated() {
        let text: Vec<u8> = (0..2 * CHUNK + 10).map(|i| (i % 251) as u8).collect();
        let file = sealed(&text);
        let full = CHUNK + TAG;
        let (first, second, third) = (&file[..full], &file[full..2 * full], &file[2 * full..]);
        assert_eq!(opened(&[first, second, third].concat()).unwrap(), text);
        for wrong in [
            [second, first, third].concat(),
            [first, third].concat(),
            [first, second].concat(),
            [first, second, second, third].concat(),
            [first, second, third, third].concat(),
            first.to_vec(),
            Vec::new(),
        ] {
            assert!(opened(&wrong).is_err());
        }
    }
}
