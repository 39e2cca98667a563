//! `smqtt-broker passwd`.

use std::io::Read;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use zeroize::Zeroizing;

use crate::{Error, PasswordFile, Passwords};

/// Sets the password of a user, which is asked for twice without being shown
#[derive(Debug, Clone, Args)]
pub struct Passwd {
    /// The password file; made with mode 0600 when missing
    file: PathBuf,
    /// The user
    #[arg(required_unless_present = "list")]
    user: Option<String>,
    /// Read the password from standard input: its first line
    #[arg(long, conflicts_with_all = ["delete", "list"])]
    stdin: bool,
    /// Remove the user
    #[arg(long, conflicts_with = "list")]
    delete: bool,
    /// Print the users
    #[arg(long, conflicts_with = "user")]
    list: bool,
}

/// A password is at most so long, as in MQTT.
const MAX_PASSWORD: u64 = 65_535;

impl Passwd {
    pub(super) fn run(&self) -> Result<ExitCode, Error> {
        let Some(user) = &self.user else {
            for user in Passwords::read(&self.file)?.users() {
                println!("{user}");
            }
            return Ok(ExitCode::SUCCESS);
        };
        if self.delete {
            let mut file = PasswordFile::edit(&self.file)?;
            if !file.delete(user) {
                return Err(self.refuse(format!("there is no user {}", user.escape_debug())));
            }
            file.save()?;
            println!("removed {user}");
            return Ok(ExitCode::SUCCESS);
        }
        // Asked for before the file is locked.
        let password = self.password(user)?;
        let mut file = PasswordFile::edit(&self.file)?;
        let new = file.set(user, password.as_bytes())?;
        file.save()?;
        println!("{} {user}", if new { "added" } else { "changed" });
        Ok(ExitCode::SUCCESS)
    }

    fn password(&self, user: &str) -> Result<Zeroizing<String>, Error> {
        if self.stdin {
            let mut text = Zeroizing::new(String::new());
            std::io::stdin()
                .take(MAX_PASSWORD)
                .read_to_string(&mut text)
                .map_err(|error| self.refuse(format!("cannot read the password: {error}")))?;
            let line = text.split(['\r', '\n']).next().unwrap_or_default();
            return Ok(Zeroizing::new(line.to_owned()));
        }
        let ask = |prompt: String| {
            rpassword::prompt_password(prompt)
                .map(Zeroizing::new)
                .map_err(|error| {
                    self.refuse(format!("cannot ask for the password: {error}; use --stdin"))
                })
        };
        let password = ask(format!("Password for {user}: "))?;
        if *ask("Again: ".into())? != *password {
            return Err(self.refuse("the two passwords differ; nothing was changed".into()));
        }
        Ok(password)
    }

    fn refuse(&self, reason: String) -> Error {
        Error::PasswordFile {
            path: self.file.clone(),
            reason,
        }
    }
}
