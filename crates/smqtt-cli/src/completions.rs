//! `smqtt completions` and `smqtt man`: what shells and `man` know of the command line, from its one
//! definition.

use std::io::Write as _;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use clap_complete::Shell as Generator;

use crate::exit::Exit;
use crate::failure::{Failure, without_number};

const COMPLETIONS: &str = "\
Examples:
  smqtt completions bash > ~/.local/share/bash-completion/completions/smqtt
  smqtt completions zsh > ~/.zfunc/_smqtt          # with fpath+=~/.zfunc before compinit
  smqtt completions fish > ~/.config/fish/completions/smqtt.fish";

const MAN: &str = "\
Examples:
  smqtt man --out ~/.local/share/man/man1 && man smqtt-pub
  smqtt man | man -l -";

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

#[derive(Debug, Args)]
#[command(after_help = COMPLETIONS)]
pub(crate) struct Completions {
    /// The shell
    shell: Shell,
}

#[derive(Debug, Args)]
#[command(after_help = MAN)]
pub(crate) struct Man {
    /// Write a page for every command into this directory, instead of the first one to standard output
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Prints the completions of `command`.
pub(crate) fn completions(options: &Completions, mut command: clap::Command) -> Exit {
    let shell = match options.shell {
        Shell::Bash => Generator::Bash,
        Shell::Zsh => Generator::Zsh,
        Shell::Fish => Generator::Fish,
    };
    // Collected first: the generator knows no reader that goes away.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, "smqtt", &mut script);
    let _ = std::io::stdout().lock().write_all(&script);
    Exit::Done
}

/// Prints or writes the man pages of `command`.
pub(crate) fn man(options: &Man, command: clap::Command) -> Result<Exit, Failure> {
    match &options.out {
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(command)
                .render(&mut page)
                .map_err(|error| Failure::unexpected(error.to_string()))?;
            let _ = std::io::stdout().lock().write_all(&page);
        }
        Some(directory) => std::fs::create_dir_all(directory)
            .and_then(|()| {
                clap_mangen::generate_to(command.disable_help_subcommand(true), directory)
            })
            .map_err(|error| {
                Failure::input(format!(
                    "cannot write into {}: {}",
                    directory.display(),
                    without_number(&error)
                ))
            })?,
    }
    Ok(Exit::Done)
}
