//! `init` and `fingerprint`.

use std::path::Path;

use smqtt_authority::{Directory, InitOptions, now};

use super::args::Init;
use super::failure::Failure;
use super::output::print;
use super::shell::word;

pub(crate) async fn run(dir: &Path, command: Init) -> Result<(), Failure> {
    let options = InitOptions {
        name: command.name,
        hosts: command.hosts,
    };
    let directory = Directory::init(dir, &options, now()).await?;
    let shown = word(dir);
    print(directory.fingerprint())?;
    eprintln!(
        "authority {:?} made in {shown}; above is its CA fingerprint, which devices pin",
        directory.name()
    );
    eprintln!("back {shown} up in a safe place: whoever has it can read everything");
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

pub(crate) fn fingerprint(dir: &Path) -> Result<(), Failure> {
    print(Directory::open(dir)?.fingerprint())
}
