//! `seal`.

use std::path::Path;

use smqtt_authority::{Actor, Directory, now};

use super::args::Seal;
use super::failure::Failure;
use super::keys::{SealOptions, at_terminal};
use super::shell::word;

pub(crate) async fn run(dir: &Path, command: Seal) -> Result<(), Failure> {
    let directory = Directory::open(dir)?;
    let with = SealOptions {
        passphrase_file: command.new_passphrase_file,
        key_file: command.new_key_file,
        unsealed: false,
    };
    if !with.given() && !at_terminal() {
        return Err(Failure::usage(
            "give --new-passphrase-file or --new-key-file, or run this at a terminal to be asked for a passphrase",
        ));
    }
    let keeper = command.keys.keeper(&directory)?;
    let Some(with) = with.keeper()? else {
        eprintln!("nothing was changed");
        return Ok(());
    };
    directory
        .seal(keeper.as_deref(), &*with, &Actor::operator(), now())
        .await?;
    eprintln!(
        "the secrets of {} are sealed with a {}; without it, only a backup brings them back",
        word(dir),
        with.method().as_str().replace('-', " ")
    );
    if keeper.is_none() {
        eprintln!(
            "the unsealed files are removed; what a disk or an earlier copy still holds of them, this can not reach"
        );
    }
    Ok(())
}
