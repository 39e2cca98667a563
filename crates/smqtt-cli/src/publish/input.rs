//! Where the messages come from: the command line, a file, or the lines of standard input.

use std::io::{BufRead, Read as _};
use std::path::Path;

use tokio::sync::mpsc;

use super::MessageSource;
use crate::exit::Exit;
use crate::failure::{Failure, without_number};

/// The longest message that is read, in bytes: what MQTT can carry is not much more (268,435,455).
const MAX_MESSAGE: u64 = 256 * 1024 * 1024 - 1024 * 1024;
/// Lines that are read ahead.
const READ_AHEAD: usize = 1_024;

/// A source of messages.
pub(super) enum Input {
    /// The same message so many times more.
    Same(Vec<u8>, u64),
    Lines(mpsc::Receiver<Result<Vec<u8>, Failure>>),
}

impl Input {
    /// Opens the source; a single message is read whole here, before anything is connected.
    pub(super) fn open(source: &MessageSource, times: u64) -> Result<Self, Failure> {
        if source.null {
            return Ok(Self::Same(Vec::new(), times));
        }
        if let Some(text) = &source.message {
            return Ok(Self::Same(text.clone().into_bytes(), times));
        }
        if let Some(path) = &source.file {
            return Ok(Self::Same(read_whole(path)?, times));
        }
        let (sender, receiver) = mpsc::channel(READ_AHEAD);
        // Standard input blocks, and can not be interrupted: it gets a thread, which ends with the
        // input, with the receiver, or with the program.
        std::thread::Builder::new()
            .name("stdin".to_owned())
            .spawn(move || {
                let mut input = std::io::stdin().lock();
                let mut number = 0u64;
                loop {
                    number += 1;
                    let line = match read_line(&mut input, number) {
                        Ok(Some(line)) => Ok(line),
                        Ok(None) => return,
                        Err(failure) => Err(failure),
                    };
                    let last = line.is_err();
                    if sender.blocking_send(line).is_err() || last {
                        return;
                    }
                }
            })
            .map_err(|error| Failure::unexpected(format!("cannot start a thread: {error}")))?;
        Ok(Self::Lines(receiver))
    }

    /// The next message; `None` when there are no more.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        match self {
            Self::Same(_, 0) => Ok(None),
            // The last one needs no copy.
            Self::Same(message, left @ 1) => {
                *left = 0;
                Ok(Some(std::mem::take(message)))
            }
            Self::Same(message, left) => {
                *left -= 1;
                Ok(Some(message.clone()))
            }
            Self::Lines(lines) => lines.recv().await.transpose(),
        }
    }
}

fn read_whole(path: &Path) -> Result<Vec<u8>, Failure> {
    let mut content = Vec::new();
    let read = if path == Path::new("-") {
        std::io::stdin()
            .lock()
            .take(MAX_MESSAGE + 1)
            .read_to_end(&mut content)
    } else {
        std::fs::File::open(path)
            .and_then(|file| file.take(MAX_MESSAGE + 1).read_to_end(&mut content))
    };
    read.map_err(|error| Failure::file(path, &error))?;
    if content.len() as u64 > MAX_MESSAGE {
        return Err(Failure::input(format!(
            "{} is longer than the {MAX_MESSAGE} bytes that a message may have: split it",
            path.display()
        )));
    }
    Ok(content)
}

/// The next line without its line feed, byte for byte; `None` at the end.
fn read_line(input: &mut impl BufRead, number: u64) -> Result<Option<Vec<u8>>, Failure> {
    let mut line = Vec::new();
    let count = input
        .take(MAX_MESSAGE + 2)
        .read_until(b'\n', &mut line)
        .map_err(|error| {
            Failure::new(
                Exit::Input,
                format!("cannot read standard input: {}", without_number(&error)),
            )
        })?;
    if count == 0 {
        return Ok(None);
    }
    if line.last() == Some(&b'\n') {
        line.pop();
    }
    if line.len() as u64 > MAX_MESSAGE {
        return Err(Failure::input(format!(
            "line {number} is longer than the {MAX_MESSAGE} bytes that a message may have: split it"
        )));
    }
    Ok(Some(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_kept_byte_for_byte_but_for_the_line_feed() {
        let mut input: &[u8] = b"a\r\n\n\xff\x00 b \nlast";
        let mut lines = Vec::new();
        while let Some(line) = read_line(&mut input, 1).unwrap() {
            lines.push(line);
        }
        assert_eq!(lines, [&b"a\r"[..], b"", b"\xff\x00 b ", b"last"]);
    }
}
