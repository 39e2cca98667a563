//! `schema show`, `edit` and `check`.

use std::io::{Read, Write};
use std::path::Path;
use std::process::Command;

use serde_json::json;
use smqtt_authority::{Actor, Authority, Directory, now};

use super::args::{SchemaCheck, SchemaEdit, SchemaShow};
use super::failure::Failure;
use super::output::print;

/// The longest schema that is read, in bytes.
const MAX_SCHEMA: u64 = 1024 * 1024;

const BEGINNING: &str = "\
# Which attributes there are. Devices and policies are checked against this.
# Adding a name or a value never invalidates a key.
#
# [attributes.role]
# type = \"text\"
# values = [\"sensor\", \"operator\"]
";

pub(crate) async fn show(dir: &Path, command: SchemaShow) -> Result<(), Failure> {
    let authority = Authority::open(Directory::open(dir)?).await?;
    let schema = authority.schema().await?;
    authority.close().await;
    if command.json {
        return print(match schema {
            Some((version, text)) => json!({ "version": version, "text": text }),
            None => serde_json::Value::Null,
        });
    }
    match schema {
        Some((_, text)) => print(text.trim_end()),
        None => {
            eprintln!(
                "there is no schema: every attribute is allowed; set one with `smqtt-authority schema edit`"
            );
            Ok(())
        }
    }
}

pub(crate) async fn edit(dir: &Path, command: SchemaEdit) -> Result<(), Failure> {
    let authority = Authority::open(Directory::open(dir)?).await?;
    let before = authority.schema().await?.map(|(_, text)| text);
    let text = match &command.file {
        Some(file) => read(file)?,
        None => in_editor(before.as_deref().unwrap_or(BEGINNING))?,
    };
    if before.as_ref() == Some(&text) {
        authority.close().await;
        eprintln!("the schema is as it was");
        return Ok(());
    }
    let set = authority.set_schema(&text, &Actor::operator(), now()).await;
    authority.close().await;
    eprintln!("version {} of the schema holds", set?);
    Ok(())
}

pub(crate) async fn check(dir: &Path, command: SchemaCheck) -> Result<(), Failure> {
    let authority = Authority::open(Directory::open(dir)?).await?;
    let schema = authority.check_schema(&read(&command.file)?).await;
    authority.close().await;
    eprintln!(
        "{} attributes; every device and profile fits",
        schema?.iter().count()
    );
    Ok(())
}

fn read(file: &Path) -> Result<String, Failure> {
    let failed = |error: std::io::Error| {
        Failure::input(format!("{} can not be read: {error}", file.display()))
    };
    let mut text = String::new();
    let length = if file == Path::new("-") {
        std::io::stdin()
            .lock()
            .take(MAX_SCHEMA + 1)
            .read_to_string(&mut text)
    } else {
        std::fs::File::open(file)
            .and_then(|file| file.take(MAX_SCHEMA + 1).read_to_string(&mut text))
    };
    if length.map_err(failed)? as u64 > MAX_SCHEMA {
        return Err(Failure::input(format!(
            "{} is longer than a schema can be: 1 MiB",
            file.display()
        )));
    }
    Ok(text)
}

/// Opens a text in the user's editor and returns what became of it.
fn in_editor(text: &str) -> Result<String, Failure> {
    let editor = std::env::var("VISUAL")
        .or_else(|_| std::env::var("EDITOR"))
        .map_err(|_| Failure::input("no editor: set $EDITOR, or give --file"))?;
    let failed = |error: std::io::Error| Failure::unexpected(format!("the editor: {error}"));
    let path = std::env::temp_dir().join(format!("smqtt-schema-{}.toml", std::process::id()));
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&path)
        .map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)?;
    drop(file);
    // As git does: $EDITOR may hold arguments.
    let status = Command::new("sh")
        .arg("-c")
        .arg(format!("{editor} \"$1\""))
        .arg("sh")
        .arg(&path)
        .status();
    let edited = match status {
        Ok(status) if status.success() => read(&path),
        Ok(status) => Err(Failure::input(format!(
            "the editor ended with {status}: nothing is changed"
        ))),
        Err(error) => Err(failed(error)),
    };
    let _ = std::fs::remove_file(&path);
    edited
}
