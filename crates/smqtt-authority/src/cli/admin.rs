//! `admin`.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use smqtt_authority::{Actor, Authority, Directory, now, system_rng};
use smqtt_pki::files::{self, StagedDirectory};
use smqtt_pki::{CertificateRequest, IdentityKey, certificates_to_pem};

use super::args::{AdminAdd, AdminList, AdminRemove};
use super::epoch::tell;
use super::failure::Failure;
use super::keys;
use super::output::print;
use super::shell::word;
use super::table::{rfc3339, table};

pub(crate) async fn add(dir: &Path, command: AdminAdd) -> Result<(), Failure> {
    let key = match command.csr {
        Some(_) => None,
        None => Some(IdentityKey::generate(&mut system_rng())),
    };
    let csr = match (&command.csr, &key) {
        (Some(file), _) => read(file)?,
        // The name in a request does not matter.
        (None, Some(key)) => key.csr_pem(&"admin".parse()?)?,
        (None, None) => String::new(),
    };
    let request = CertificateRequest::from_pem(&csr)?;
    let staged = StagedDirectory::create(&command.out)?;
    let issuer = keys::issuer(dir, &command.keys).await?;
    let lifetime = Duration::from_secs(u64::from(command.days) * 86_400);
    let role = command.role.into();
    let operator = Actor::operator();
    let issued = issuer
        .add_admin(&command.name, role, &request, lifetime, &operator, now())
        .await?;
    let root = issuer.authority().directory().trust_anchor().root().clone();
    issuer.authority().close().await;
    let at = |name: &str| staged.path().join(name);
    files::write_public(&at("client.crt"), issued.chain_pem().as_bytes())?;
    if let Some(key) = &key {
        files::write_private(&at("client.key"), key.to_pem()?.as_bytes())?;
    }
    files::write_public(&at("ca.crt"), certificates_to_pem(&[root]).as_bytes())?;
    staged.commit()?;
    let out = word(&command.out);
    eprintln!("{} is an {role} from now on", command.name);
    eprintln!(
        "client.crt{} and ca.crt written to {out}; valid until {}, serial {}",
        if key.is_some() { ", client.key" } else { "" },
        rfc3339(issued.validity.not_after().as_secs()),
        issued.serial
    );
    eprintln!("next:");
    eprintln!(
        "  curl --cacert {out}/ca.crt --cert {out}/client.crt --key {} https://HOST:PORT/v1/devices",
        if key.is_some() {
            format!("{out}/client.key")
        } else {
            "KEY".into()
        }
    );
    Ok(())
}

fn read(file: &Path) -> Result<String, Failure> {
    let hint = "give a certificate request in PEM form";
    let text = files::read(file, CertificateRequest::MAX_LEN as u64, hint)?;
    String::from_utf8(text).map_err(|_| Failure::input("the certificate request is not PEM text"))
}

pub(crate) async fn list(dir: &Path, command: AdminList) -> Result<(), Failure> {
    let authority = Authority::open(Directory::open(dir)?).await?;
    let admins = authority.admins().await?;
    authority.close().await;
    if command.json {
        let object = |admin: &smqtt_authority::AdminRecord| {
            json!({
                "name": admin.name.as_str(),
                "role": admin.role,
                "serial": admin.serial,
                "created": rfc3339(admin.created),
                "certificate_expires": rfc3339(admin.expires),
            })
        };
        return print(Value::from(admins.iter().map(object).collect::<Vec<_>>()));
    }
    if admins.is_empty() {
        eprintln!(
            "nobody may use the API yet: `smqtt-authority admin add NAME --role operator --out DIR`"
        );
        return Ok(());
    }
    let mut rows = vec![
        ["NAME", "ROLE", "CERTIFICATE UNTIL", "SERIAL"]
            .map(String::from)
            .to_vec(),
    ];
    rows.extend(admins.into_iter().map(|admin| {
        vec![
            admin.name.to_string(),
            admin.role.to_string(),
            rfc3339(admin.expires),
            admin.serial,
        ]
    }));
    print(table(&rows).trim_end())
}

pub(crate) async fn remove(dir: &Path, command: AdminRemove) -> Result<(), Failure> {
    let issuer = keys::issuer(dir, &command.keys).await?;
    issuer
        .remove_admin(&command.name, &Actor::operator(), now())
        .await?;
    let delivered = issuer.deliver(Duration::from_secs(5), now()).await;
    issuer.authority().close().await;
    eprintln!("{} may do nothing any more", command.name);
    tell(&delivered?);
    Ok(())
}
