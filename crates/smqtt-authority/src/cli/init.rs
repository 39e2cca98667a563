//! `init` and `fingerprint`.

use std::path::Path;

use smqtt_authority::{Directory, InitOptions, now};
use smqtt_pki::ServerName;

use super::args::{DEFAULT_NAME, Init, parse_host};
use super::failure::Failure;
use super::keys::{ask_openly, at_terminal, warn_if_unsealed};
use super::output::print;
use super::shell::word;

pub(crate) async fn run(dir: &Path, command: Init) -> Result<(), Failure> {
    let Init {
        name,
        hosts,
        register,
        single,
        seal,
    } = command;
    // Who says how to seal knows what to ask for; everybody else at a terminal is led.
    let guided = !seal.given() && at_terminal();
    if dir.join("authority.toml").exists() {
        return Err(smqtt_authority::Error::AuthorityExists { path: dir.into() }.into());
    }
    if guided {
        eprintln!("A new authority in {}.", word(dir));
    }
    let options = InitOptions {
        name: match name {
            Some(name) => name,
            None if guided => ask_name()?,
            None => DEFAULT_NAME.into(),
        },
        hosts: if guided && hosts.is_empty() {
            ask_hosts()?
        } else {
            hosts
        },
        database: register.database,
        single,
    };
    let keeper = seal.keeper()?;
    let directory = Directory::init(dir, &options, keeper.as_deref(), now()).await?;
    let shown = word(dir);
    print(directory.fingerprint())?;
    eprintln!(
        "authority {:?} made in {shown}; above is its CA fingerprint, which devices pin",
        directory.name()
    );
    warn_if_unsealed(&directory)?;
    if let Some(intermediate) = directory.intermediate() {
        eprintln!(
            "{:?} issues for it: the root's key can go offline, see `smqtt-authority root --help`",
            intermediate.name()
        );
    }
    eprintln!("next:");
    eprintln!(
        "  smqtt-authority serve --dir {shown} --listen 127.0.0.1:8443 --broker mqtts://127.0.0.1:8883"
    );
    eprintln!(
        "  smqtt-authority broker issue --dir {shown} --host 127.0.0.1 --host localhost --out broker-tls"
    );
    eprintln!("  smqtt-authority device add NAME --dir {shown} --attributes \"role = sensor\"");
    Ok(())
}

fn ask_name() -> Result<String, Failure> {
    let name = ask_openly(&format!(
        "Its name, as its certificate shows it [{DEFAULT_NAME}]: "
    ))?;
    Ok(if name.is_empty() {
        DEFAULT_NAME.into()
    } else {
        name
    })
}

fn ask_hosts() -> Result<Vec<ServerName<'static>>, Failure> {
    loop {
        let line = ask_openly(
            "Names or addresses under which devices will reach it, beside localhost, separated by spaces [none]: ",
        )?;
        let mut hosts = Vec::new();
        let mut wrong = None;
        for word in line.split_whitespace() {
            match parse_host(word) {
                Ok(host) => hosts.push(host),
                Err(reason) => wrong = Some(format!("{word:?} is {reason}")),
            }
        }
        match wrong {
            None => return Ok(hosts),
            Some(wrong) => eprintln!("{wrong}"),
        }
    }
}

pub(crate) fn fingerprint(dir: &Path) -> Result<(), Failure> {
    print(Directory::open(dir)?.fingerprint())
}
