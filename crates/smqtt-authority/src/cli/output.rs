//! Writing to stdout.

use std::io::{self, BufWriter, Write};

use super::failure::Failure;

/// Stdout, buffered. A reader that goes away early (`| head`) ends the output quietly; any other failure to write is one.
pub(crate) struct Output {
    writer: BufWriter<io::Stdout>,
    failed: Option<io::Error>,
}

impl Output {
    pub(crate) fn new() -> Self {
        Self {
            writer: BufWriter::new(io::stdout()),
            failed: None,
        }
    }

    /// Writes a line.
    pub(crate) fn line(&mut self, text: impl std::fmt::Display) {
        if self.failed.is_none() {
            self.failed = writeln!(self.writer, "{text}").err();
        }
    }

    /// Completes the output.
    pub(crate) fn finish(mut self) -> Result<(), Failure> {
        let failed = self.failed.take().or_else(|| self.writer.flush().err());
        match failed {
            Some(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            Some(error) => Err(Failure::unexpected(format!(
                "can not write to stdout: {error}"
            ))),
            None => Ok(()),
        }
    }
}

/// Writes one line.
pub(crate) fn print(text: impl std::fmt::Display) -> Result<(), Failure> {
    let mut output = Output::new();
    output.line(text);
    output.finish()
}
