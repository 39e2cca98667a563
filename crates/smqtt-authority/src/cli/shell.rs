//! Words as a shell takes them, for commands that are printed to be run.

use std::path::Path;

/// The path as one word of a POSIX shell.
pub(crate) fn word(path: &Path) -> String {
    let text = path.to_string_lossy();
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/._-+:@%,=".contains(&b);
    if !text.is_empty() && text.bytes().all(plain) {
        text.into_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_one_word() {
        assert_eq!(word(Path::new("/srv/smqtt-1.0")), "/srv/smqtt-1.0");
        assert_eq!(word(Path::new("my plant")), "'my plant'");
        assert_eq!(word(Path::new("it's $HOME")), r"'it'\''s $HOME'");
    }
}
