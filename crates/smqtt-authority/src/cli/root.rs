//! `root …`: the root's key goes offline, and signs intermediates there.

use std::path::Path;
use std::time::Duration;

use serde_json::json;
use smqtt_authority::{
    Actor, Authority, Directory, INTERMEDIATE_LIFETIME, Issuer, Keeper, Method, OfflineRoot,
    Passphrase, Request, RootAnswer, RootRequest, now,
};
use smqtt_pki::files;

use super::args;
use super::args::{
    ExportKey, RootCommand, RootExport, RootInstall, RootRemove, RootRenew, RootShow, RootSign,
};
use super::epoch::tell;
use super::failure::Failure;
use super::keys::{ask, ask_openly, at_terminal, read_key, read_or_make_key, read_passphrase};
use super::output::print;
use super::shell::word;
use super::table::rfc3339;

/// How long a broker may take to acknowledge the state before the command goes on; the service tries again.
const PATIENCE: Duration = Duration::from_secs(5);

impl ExportKey {
    /// What a new export is sealed with.
    fn for_new(&self) -> Result<Box<dyn Keeper>, Failure> {
        match (&self.export_passphrase_file, &self.export_key_file) {
            (Some(path), _) => Ok(Box::new(Passphrase::chosen(read_passphrase(path)?)?)),
            (None, Some(path)) => Ok(Box::new(read_or_make_key(path)?)),
            (None, None) if at_terminal() => loop {
                let first = ask("New passphrase for the root's key, 12 characters or more: ")?;
                let passphrase = match Passphrase::chosen(first.clone()) {
                    Ok(passphrase) => passphrase,
                    Err(error) => {
                        eprintln!("{error}");
                        continue;
                    }
                };
                if *ask("The same passphrase again: ")? == *first {
                    return Ok(Box::new(passphrase));
                }
                eprintln!("The two differ.");
            },
            (None, None) => Err(Failure::usage(
                "give --export-passphrase-file or --export-key-file, or run this at a terminal",
            )),
        }
    }

    /// The root in an export.
    fn open(&self, file: &Path) -> Result<OfflineRoot, Failure> {
        let method = OfflineRoot::method(file)?;
        let keeper: Box<dyn Keeper> = match method {
            Method::Passphrase => match &self.export_passphrase_file {
                Some(path) => Box::new(Passphrase::new(read_passphrase(path)?)),
                None if at_terminal() => {
                    Box::new(Passphrase::new(ask("Passphrase of the root's key: ")?))
                }
                None => return Err(Failure::usage("give --export-passphrase-file FILE")),
            },
            _ => match &self.export_key_file {
                Some(path) => Box::new(read_key(path)?),
                None => return Err(Failure::usage("give --export-key-file FILE")),
            },
        };
        Ok(OfflineRoot::open(file, &*keeper)?)
    }
}

pub(crate) async fn run(dir: &Path, command: RootCommand) -> Result<(), Failure> {
    match command {
        RootCommand::Show(command) => show(dir, command).await,
        RootCommand::Export(command) => export(dir, command).await,
        RootCommand::Remove(command) => remove(dir, command).await,
        RootCommand::Request(command) => request(dir, command).await,
        RootCommand::Sign(command) => sign(&command),
        RootCommand::Install(command) => install(dir, command).await,
        RootCommand::Renew(command) => renew(dir, command).await,
    }
}

async fn show(dir: &Path, command: RootShow) -> Result<(), Failure> {
    let directory = Directory::open(dir)?;
    // A look at it shall not ask for a passphrase.
    let given = command.keys.passphrase_file.is_some() || command.keys.key_file.is_some();
    let keeper = match given {
        true => command.keys.keeper(&directory)?,
        false => None,
    };
    let authority = Authority::open(directory).await?;
    let status = authority.root_status(keeper.as_deref(), now()).await;
    authority.close().await;
    let status = status?;
    let directory = authority.directory();
    let end = |validity: smqtt_pki::Validity| rfc3339(validity.not_after().as_secs());
    if command.json {
        return print(json!({
            "root": directory.fingerprint(),
            "root_expires": end(directory.trust_anchor().validity()),
            "key_here": status.key_here,
            "requested": status.requested,
            "intermediate": status.intermediate.as_ref().map(|i| json!({
                "name": i.name(),
                "serial": i.serial().to_string(),
                "key": data_encoding::HEXLOWER.encode(&i.key_digest()),
                "expires": end(i.validity()),
            })),
            "list": status.list.as_ref().map(|list| json!({
                "number": list.number().to_string(),
                "expires": end(list.validity()),
                "revoked": list.serials().map(|serial| serial.to_string()).collect::<Vec<_>>(),
            })),
            "issued_by_root": status.issued_by_root,
        }));
    }
    print(format!(
        "root          {}\n              valid until {}",
        directory.fingerprint(),
        end(directory.trust_anchor().validity())
    ))?;
    print(match status.key_here {
        Some(true) => "root key      here",
        Some(false) => "root key      not here",
        None => "root key      not known without what opens the sealed secrets",
    })?;
    match &status.intermediate {
        None => print("intermediate  none: the root itself issues")?,
        Some(i) => print(format!(
            "intermediate  {}\n              serial {}, valid until {}",
            i.name(),
            i.serial(),
            end(i.validity())
        ))?,
    }
    if status.requested == Some(true) {
        print("              a certificate for another key is requested and not installed yet")?;
    }
    if let Some(list) = &status.list {
        print(format!(
            "root's list   number {}, valid until {}, names {}",
            list.number(),
            end(list.validity()),
            list.serials().len()
        ))?;
    }
    if status.intermediate.is_some() && status.issued_by_root > 0 {
        print(format!(
            "              {} certificates of devices are of the root itself",
            status.issued_by_root
        ))?;
    }
    Ok(())
}

async fn export(dir: &Path, command: RootExport) -> Result<(), Failure> {
    let directory = Directory::open(dir)?;
    let keeper = command.keys.keeper(&directory)?;
    let with = command.with.for_new()?;
    let authority = Authority::open(directory).await?;
    let done = authority
        .export_root(
            keeper.as_deref(),
            &command.out,
            &*with,
            &Actor::operator(),
            now(),
        )
        .await;
    authority.close().await;
    done?;
    let (file, dir) = (word(&command.out), word(dir));
    eprintln!(
        "the root's key is in {file}, sealed with a {}",
        method(&*with)
    );
    eprintln!("copy it to two media that are kept apart, open each copy once, then:");
    eprintln!("  smqtt-authority root remove --dir {dir} --export {file}");
    Ok(())
}

fn method(keeper: &dyn Keeper) -> String {
    keeper.method().as_str().replace('-', " ")
}

async fn remove(dir: &Path, command: RootRemove) -> Result<(), Failure> {
    let directory = Directory::open(dir)?;
    let keeper = command.keys.keeper(&directory)?;
    let exported = command.with.open(&command.export)?;
    eprintln!(
        "{} opens, and holds the key of the root {}",
        word(&command.export),
        exported.trust_anchor().fingerprint()
    );
    confirm(
        command.yes,
        "Remove the root's key from here? Without the export there will be no other intermediate, ever.",
    )?;
    let authority = Authority::open(directory).await?;
    let done = authority
        .remove_root(keeper.as_deref(), &exported, &Actor::operator(), now())
        .await;
    authority.close().await;
    done?;
    eprintln!("the root's key is no more in {}", word(dir));
    eprintln!(
        "backups made before still hold it: make a new one, and destroy those or keep them as the export is kept"
    );
    Ok(())
}

/// Asks a person; a program has to say `--yes`.
fn confirm(yes: bool, question: &str) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    if !at_terminal() {
        return Err(Failure::usage("give --yes, or run this at a terminal"));
    }
    match ask_openly(&format!("{question} [y/N] "))?.eq_ignore_ascii_case("y") {
        true => Ok(()),
        false => Err(Failure::input("nothing was changed")),
    }
}

async fn request(dir: &Path, command: args::RootRequest) -> Result<(), Failure> {
    let directory = Directory::open(dir)?;
    let keeper = command.keys.keeper(&directory)?;
    let made = request_intermediate(directory, keeper.as_deref(), command.new_key).await?;
    files::write_public(&command.out, made.text.as_bytes())?;
    print(&made.key)?;
    let file = word(&command.out);
    eprintln!("request written to {file}; above is the key that it is for");
    eprintln!("next, where the root is:");
    eprintln!(
        "  smqtt-authority root sign --root ROOT --request {file} --key {} --out answer.pem{}",
        made.key.get(..16).unwrap_or(&made.key),
        if command.new_key {
            " --revoke-earlier"
        } else {
            ""
        },
    );
    eprintln!("and then here:");
    eprintln!(
        "  smqtt-authority root install answer.pem --dir {}",
        word(dir)
    );
    Ok(())
}

/// Makes a request for an intermediate, and with it the key that it is for.
async fn request_intermediate(
    directory: Directory,
    keeper: Option<&dyn Keeper>,
    new_key: bool,
) -> Result<Request, Failure> {
    let authority = Authority::open(directory).await?;
    let made = authority
        .request_intermediate(keeper, new_key, &Actor::operator(), now())
        .await;
    authority.close().await;
    Ok(made?)
}

fn sign(command: &RootSign) -> Result<(), Failure> {
    let root = command.with.open(&command.root)?;
    let request = RootRequest::read_file(&command.request, root.trust_anchor())?;
    let key = request.key();
    eprintln!("root     {}", root.trust_anchor().fingerprint());
    eprintln!("request  for the key {key}");
    for earlier in request.earlier() {
        let fate = match command.revoke_earlier {
            true => "is taken back",
            false => "goes on counting",
        };
        eprintln!("earlier  {} {fate}", earlier.name());
    }
    let compared = match &command.key {
        Some(compared) => compared.clone(),
        None if at_terminal() => {
            ask_openly("The first 8 digits or more of the key that `root request` has shown: ")?
        }
        None => return Err(Failure::usage("give --key, as `root request` has shown it")),
    };
    let compared = compared.to_ascii_lowercase();
    if compared.len() < 8 || !key.starts_with(&compared) {
        return Err(Failure::input(
            "the request is for another key than that: nothing was signed",
        ));
    }
    let lifetime = command.valid.unwrap_or(INTERMEDIATE_LIFETIME);
    let answer = root.sign(&request, lifetime, command.revoke_earlier, now())?;
    files::write_public(&command.out, answer.to_pem().as_bytes())?;
    eprintln!(
        "signed: {} until {}; written to {}",
        answer.intermediate.name(),
        rfc3339(answer.intermediate.validity().not_after().as_secs()),
        word(&command.out)
    );
    Ok(())
}

async fn install(dir: &Path, command: RootInstall) -> Result<(), Failure> {
    let directory = Directory::open(dir)?;
    let answer = RootAnswer::read_file(&command.answer, directory.trust_anchor())?;
    let keeper = command.keys.keeper(&directory)?;
    put_in_place(dir, directory, keeper.as_deref(), &answer).await
}

async fn renew(dir: &Path, command: RootRenew) -> Result<(), Failure> {
    let directory = Directory::open(dir)?;
    let keeper = command.keys.keeper(&directory)?;
    let root = Issuer::root(&directory, keeper.as_deref())?;
    if command.new_key {
        confirm(
            command.yes,
            "Take back the intermediate that issues now? Every device, server and broker needs a new certificate then.",
        )?;
    }
    let anchor = directory.trust_anchor().clone();
    let requested = request_intermediate(directory, keeper.as_deref(), command.new_key).await?;
    let request = RootRequest::read(&requested.text, &anchor)?;
    let lifetime = command.valid.unwrap_or(INTERMEDIATE_LIFETIME);
    let answer = root.sign(&request, lifetime, command.new_key, now())?;
    put_in_place(dir, Directory::open(dir)?, keeper.as_deref(), &answer).await
}

async fn put_in_place(
    dir: &Path,
    directory: Directory,
    keeper: Option<&dyn Keeper>,
    answer: &RootAnswer,
) -> Result<(), Failure> {
    let operator = Actor::operator();
    let authority = Authority::open(directory).await?;
    let installed = authority
        .install_intermediate(keeper, answer, &operator, now())
        .await;
    authority.close().await;
    let installed = installed?;
    let authority = Authority::open(Directory::open(dir)?).await?;
    let issuer = Issuer::load(authority, keeper)?;
    let epoch = issuer.after_install(&installed, &operator, now()).await;
    let delivered = issuer.deliver(PATIENCE, now()).await;
    issuer.authority().close().await;
    eprintln!(
        "{} issues, until {}",
        installed.intermediate.name(),
        rfc3339(installed.intermediate.validity().not_after().as_secs())
    );
    for name in &installed.revoked {
        eprintln!("{name} is taken back: nothing that it has issued counts any more");
    }
    if let Some(epoch) = epoch? {
        eprintln!("epoch {epoch} has begun: devices renew, and get certificates of the new one");
        eprintln!("next: a new certificate for each broker, with `smqtt-authority broker issue`");
    }
    tell(&delivered?);
    match installed.new_key {
        true => eprintln!("a running service ends itself: start it again"),
        false => eprintln!("a running service issues under it once it is started again"),
    }
    Ok(())
}
