//! `broker issue`.

use std::path::Path;
use std::time::Duration;

use smqtt_authority::{Actor, now};

use super::args::BrokerIssue;
use super::failure::Failure;
use super::keys::{self, warn_if_unsealed};
use super::shell::word;
use super::table::rfc3339;

pub(crate) async fn issue(dir: &Path, command: BrokerIssue) -> Result<(), Failure> {
    let issuer = keys::issuer(dir, &command.keys).await?;
    let lifetime = Duration::from_secs(u64::from(command.days) * 86_400);
    let written = issuer
        .write_server_files(
            &command.out,
            &command.hosts,
            lifetime,
            &Actor::operator(),
            now(),
        )
        .await?;
    issuer.authority().close().await;
    warn_if_unsealed(issuer.authority().directory())?;
    let out = word(&command.out);
    eprintln!("server.crt, server.key and ca.crt written to {out}");
    eprintln!(
        "valid until {}, serial {}",
        rfc3339(written.validity.not_after().as_secs()),
        written.serial
    );
    eprintln!("next:");
    eprintln!(
        "  smqtt-broker --listen mqtts://0.0.0.0:8883 --tls-cert {out}/server.crt --tls-key {out}/server.key \
         --tls-client-ca {out}/ca.crt"
    );
    Ok(())
}
