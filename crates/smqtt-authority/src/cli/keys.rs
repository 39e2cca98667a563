//! What opens the sealed secrets, and what they shall be sealed with: options, systemd credentials, or a question at the
//! terminal.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use smqtt_authority::{
    Authority, DataKey, Directory, Error, Issuer, Keeper, KeyFile, Method, Passphrase, Sealing,
    system_rng,
};
use smqtt_pki::files;
use zeroize::Zeroizing;

use super::failure::Failure;
use super::shell::word;

/// What opens the secrets of an authority that are sealed.
#[derive(clap::Args, Clone, Default)]
pub(crate) struct KeyOptions {
    /// The file with the passphrase that the authority's secrets are sealed with (mode 0600; its line end does not count).
    #[arg(long, env = "SMQTT_PASSPHRASE_FILE", value_name = "FILE")]
    pub(crate) passphrase_file: Option<PathBuf>,

    /// The key file that the authority's secrets are sealed with (mode 0600).
    #[arg(long, env = "SMQTT_KEY_FILE", value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,
}

/// What secrets shall be sealed with.
#[derive(clap::Args, Clone, Default)]
pub(crate) struct SealOptions {
    /// Seal the authority's secrets with the passphrase in this file (mode 0600, 12 characters or more).
    #[arg(long, env = "SMQTT_PASSPHRASE_FILE", value_name = "FILE")]
    pub(crate) passphrase_file: Option<PathBuf>,

    /// Seal the authority's secrets with this key file; it is made if it is missing.
    #[arg(long, env = "SMQTT_KEY_FILE", value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,

    /// Leave the authority's secrets unsealed: whoever can read the disk has them. For tests, and for disks that are
    /// encrypted.
    #[arg(long)]
    pub(crate) unsealed: bool,
}

/// The names under which systemd is given the passphrase or the key file (`LoadCredential=`).
const CREDENTIALS: [&str; 2] = ["smqtt-authority.passphrase", "smqtt-authority.key"];

const HINT: &str = "give a file that is there";
/// The most bytes of a file with a passphrase.
const MAX_PASSPHRASE: u64 = 4096;

impl KeyOptions {
    /// What opens the secrets in this directory; `None` if they are not sealed.
    pub(crate) fn keeper(&self, directory: &Directory) -> Result<Option<Box<dyn Keeper>>, Failure> {
        let Sealing::Sealed(method) = directory.sealing()? else {
            return Ok(None);
        };
        let [passphrase, key] = CREDENTIALS.map(credential);
        match method {
            Method::Passphrase => {
                let text = if let Some(path) = &self.passphrase_file {
                    read_passphrase(path)?
                } else if let Some(path) = passphrase {
                    text(files::read(&path, MAX_PASSPHRASE, HINT)?.into(), &path)?
                } else if at_terminal() {
                    ask("Passphrase of the authority: ")?
                } else {
                    return Err(Error::Sealed { method }.into());
                };
                Ok(Some(Box::new(Passphrase::new(text))))
            }
            Method::KeyFile => {
                let content = if let Some(path) = &self.key_file {
                    files::read_private(path, KeyFile::MAX_LEN, HINT)?
                } else if let Some(path) = key {
                    files::read(&path, KeyFile::MAX_LEN, HINT)?.into()
                } else {
                    return Err(Error::Sealed { method }.into());
                };
                Ok(Some(Box::new(KeyFile::new(content)?)))
            }
            _ => Err(Error::Sealed { method }.into()),
        }
    }
}

impl SealOptions {
    /// Whether one was given.
    pub(crate) fn given(&self) -> bool {
        self.passphrase_file.is_some() || self.key_file.is_some() || self.unsealed
    }

    /// What to seal with; `None` leaves the secrets unsealed. Where nothing was given, a person at a terminal is asked, and
    /// a program gets them unsealed.
    pub(crate) fn keeper(&self) -> Result<Option<Box<dyn Keeper>>, Failure> {
        match (&self.passphrase_file, &self.key_file, self.unsealed) {
            (Some(path), None, false) => {
                Ok(Some(Box::new(Passphrase::chosen(read_passphrase(path)?)?)))
            }
            (None, Some(path), false) => Ok(Some(Box::new(read_or_make_key(path)?))),
            (None, None, true) => Ok(None),
            (None, None, false) if at_terminal() => ask_for_new(),
            (None, None, false) => Ok(None),
            _ => Err(Failure::usage(
                "give one of --passphrase-file, --key-file and --unsealed (SMQTT_PASSPHRASE_FILE and SMQTT_KEY_FILE count too)",
            )),
        }
    }
}

/// Says that the secrets are not sealed, and how that is changed.
pub(crate) fn warn_if_unsealed(directory: &Directory) -> Result<(), Failure> {
    if directory.sealing()? == Sealing::Unsealed {
        eprintln!(
            "warning: the authority's secret keys lie unsealed on the disk; seal them with `smqtt-authority seal --dir {}`",
            word(directory.path())
        );
    }
    Ok(())
}

/// Whether a person is there to ask.
pub(crate) fn at_terminal() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// Asks for a line; what is typed is seen. Empty at the end of input.
pub(crate) fn ask_openly(question: &str) -> Result<String, Failure> {
    let failed = |e: std::io::Error| Failure::unexpected(format!("can not ask: {e}"));
    let mut stderr = std::io::stderr();
    write!(stderr, "{question}").map_err(failed)?;
    stderr.flush().map_err(failed)?;
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).map_err(failed)?;
    Ok(line.trim().to_owned())
}

/// Asks for something that nobody shall see.
pub(crate) fn ask(question: &str) -> Result<Zeroizing<String>, Failure> {
    rpassword::prompt_password(question)
        .map(Zeroizing::new)
        .map_err(|e| Failure::unexpected(format!("can not ask for a passphrase: {e}")))
}

fn ask_for_new() -> Result<Option<Box<dyn Keeper>>, Failure> {
    loop {
        let first = ask(
            "New passphrase for the secret keys, 12 characters or more (none: leave them unsealed): ",
        )?;
        if first.is_empty() {
            eprintln!("Unsealed, whoever gets hold of the disk or of a copy can read everything.");
            if ask_openly("Leave the secret keys unsealed? [y/N] ")?.eq_ignore_ascii_case("y") {
                return Ok(None);
            }
            continue;
        }
        let passphrase = match Passphrase::chosen(first.clone()) {
            Ok(passphrase) => passphrase,
            Err(error) => {
                eprintln!("{error}");
                continue;
            }
        };
        if *ask("The same passphrase again: ")? == *first {
            return Ok(Some(Box::new(passphrase)));
        }
        eprintln!("The two differ.");
    }
}

fn credential(name: &str) -> Option<PathBuf> {
    let path = Path::new(&std::env::var_os("CREDENTIALS_DIRECTORY")?).join(name);
    path.exists().then_some(path)
}

/// The passphrase in a private file.
pub(crate) fn read_passphrase(path: &Path) -> Result<Zeroizing<String>, Failure> {
    text(files::read_private(path, MAX_PASSPHRASE, HINT)?, path)
}

/// The passphrase without the line end that an editor leaves.
fn text(bytes: Zeroizing<Vec<u8>>, path: &Path) -> Result<Zeroizing<String>, Failure> {
    let text = std::str::from_utf8(&bytes)
        .map_err(|_| Failure::input(format!("{} is not UTF-8 text", path.display())))?;
    let line = text.strip_suffix('\n').unwrap_or(text);
    Ok(Zeroizing::new(
        line.strip_suffix('\r').unwrap_or(line).to_owned(),
    ))
}

/// The key in a private file.
pub(crate) fn read_key(path: &Path) -> Result<KeyFile, Failure> {
    let content = files::read_private(path, KeyFile::MAX_LEN, HINT)?;
    Ok(KeyFile::new(content)?)
}

/// The key in a private file, which is made if it is missing.
pub(crate) fn read_or_make_key(path: &Path) -> Result<KeyFile, Failure> {
    match files::read_private(path, KeyFile::MAX_LEN, HINT) {
        Ok(content) => Ok(KeyFile::new(content)?),
        Err(smqtt_pki::Error::Missing { .. }) => {
            let key = DataKey::random(&mut system_rng());
            files::write_private(path, key.as_bytes())?;
            eprintln!(
                "key file {} made: keep it apart from the authority's directory and its copies",
                word(path)
            );
            Ok(KeyFile::new(Zeroizing::new(key.as_bytes().to_vec()))?)
        }
        Err(other) => Err(other.into()),
    }
}

/// The authority in this directory with its secret keys.
pub(crate) async fn issuer(dir: &Path, options: &KeyOptions) -> Result<Issuer, Failure> {
    let directory = Directory::open(dir)?;
    let keeper = options.keeper(&directory)?;
    let authority = Authority::open(directory).await?;
    Ok(Issuer::load(authority, keeper.as_deref())?)
}
