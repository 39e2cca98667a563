//! `device add`, `list`, `show` and `token`.

use std::path::Path;

use serde_json::{Value, json};
use smqtt_authority::{Actor, Authority, DeviceRecord, DeviceState, Directory, Grant, now};

use super::args::{DeviceAdd, DeviceList, DeviceShow, DeviceToken};
use super::failure::Failure;
use super::output::print;
use super::table::{rfc3339, table, time};

pub(crate) async fn add(dir: &Path, command: DeviceAdd) -> Result<(), Failure> {
    let authority = open(dir).await?;
    let options = command.token;
    let grant = authority
        .add_device(
            &command.name,
            &command.attributes,
            options.token_expires,
            &Actor::operator(),
            now(),
        )
        .await?;
    show_grant(&authority, &grant, options.json).await?;
    authority.close().await;
    Ok(())
}

pub(crate) async fn token(dir: &Path, command: DeviceToken) -> Result<(), Failure> {
    let authority = open(dir).await?;
    let options = command.token;
    let grant = authority
        .renew_token(
            &command.name,
            command.re_enrol,
            options.token_expires,
            &Actor::operator(),
            now(),
        )
        .await?;
    show_grant(&authority, &grant, options.json).await?;
    authority.close().await;
    Ok(())
}

pub(crate) async fn list(dir: &Path, command: DeviceList) -> Result<(), Failure> {
    let authority = open(dir).await?;
    let devices = authority.devices().await?;
    authority.close().await;
    if command.json {
        return print(Value::from(devices.iter().map(to_json).collect::<Vec<_>>()));
    }
    if devices.is_empty() {
        eprintln!(
            "no device is registered: add one with `smqtt-authority device add NAME --attributes \"...\"`"
        );
        return Ok(());
    }
    let heading = [
        "NAME",
        "STATE",
        "ATTRIBUTES",
        "CERTIFICATE UNTIL",
        "CREATED",
    ];
    let mut rows = vec![heading.map(String::from).to_vec()];
    rows.extend(devices.iter().map(|device| {
        vec![
            device.name.to_string(),
            device.state.as_str().into(),
            device.attributes.clone(),
            time(device.certificate_expires),
            rfc3339(device.created),
        ]
    }));
    print(table(&rows).trim_end())
}

pub(crate) async fn show(dir: &Path, command: DeviceShow) -> Result<(), Failure> {
    let authority = open(dir).await?;
    let device = authority.device(&command.name).await?;
    authority.close().await;
    if command.json {
        return print(to_json(&device));
    }
    let token = match device.token_expires {
        None if device.state == DeviceState::Enrolled => "used".into(),
        None => "none".into(),
        Some(expires) if expires < now().as_secs() => format!("expired at {}", rfc3339(expires)),
        Some(expires) => format!("can be used until {}", rfc3339(expires)),
    };
    let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".into());
    let rows = [
        ("name", device.name.to_string()),
        ("state", device.state.as_str().into()),
        ("attributes", device.attributes),
        ("created", rfc3339(device.created)),
        ("token", token),
        ("certificate serial", or_none(device.serial)),
        ("certificate fingerprint", or_none(device.fingerprint)),
        ("certificate until", time(device.certificate_expires)),
        ("certificate revoked", time(device.revoked)),
        (
            "attribute key epoch",
            or_none(device.key_epoch.map(|epoch| epoch.to_string())),
        ),
    ];
    print(table(&rows.map(|(name, value)| vec![name.to_owned(), value])).trim_end())
}

async fn open(dir: &Path) -> Result<Authority, Failure> {
    Ok(Authority::open(Directory::open(dir)?).await?)
}

/// Prints the token on stdout and what to do with it on stderr.
async fn show_grant(authority: &Authority, grant: &Grant, as_json: bool) -> Result<(), Failure> {
    let url = authority.url().await?;
    let fingerprint = authority.directory().fingerprint();
    let token = grant.token.reveal();
    let device = &grant.device;
    let expires = rfc3339(grant.expires.as_secs());
    let command = format!(
        "smqtt enroll --authority {} --ca-fingerprint {fingerprint} --token {} --out {device}",
        url.as_deref().unwrap_or("https://HOST:PORT"),
        *token,
    );
    if as_json {
        let object = json!({
            "device": device,
            "attributes": grant.attributes,
            "token": *token,
            "expires": expires,
            "authority": url,
            "ca_fingerprint": fingerprint,
            "command": command,
        });
        return print(object);
    }
    print(&*token)?;
    eprintln!("{device} is registered with {}", grant.attributes);
    eprintln!("its token, above, can be used once, until {expires}; it is not shown again");
    if url.is_none() {
        eprintln!(
            "put the authority's address for HOST:PORT (it is filled in here once the authority has served)"
        );
    }
    eprintln!("next, on the device:");
    eprintln!("  {command}");
    Ok(())
}

fn to_json(device: &DeviceRecord) -> Value {
    json!({
        "name": device.name,
        "state": device.state,
        "attributes": device.attributes,
        "created": rfc3339(device.created),
        "serial": device.serial,
        "fingerprint": device.fingerprint,
        "revoked": device.revoked.map(rfc3339),
        "certificate_expires": device.certificate_expires.map(rfc3339),
        "key_epoch": device.key_epoch,
        "token_expires": device.token_expires.map(rfc3339),
    })
}
