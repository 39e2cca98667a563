//! `device add`, `list`, `show`, `set` and `token`.

use std::path::Path;

use fast_qr::{ECL, QRBuilder};
use serde_json::{Value, json};
use smqtt_authority::{
    Actor, Authority, Change, DeviceFilter, DeviceRecord, DeviceState, Directory, Grant, NewDevice,
    TokenTerms, now,
};

use super::args::{DeviceAdd, DeviceList, DeviceSet, DeviceShow, DeviceToken, TokenOptions};
use super::failure::Failure;
use super::output::print;
use super::table::{rfc3339, table, time};

pub(crate) async fn add(dir: &Path, command: DeviceAdd) -> Result<(), Failure> {
    let authority = open(dir).await?;
    let options = command.token;
    let grant = authority
        .add_device(
            &NewDevice {
                name: command.name,
                attributes: command.attributes,
                profile: command.profile,
                key_policy: command.key_policy,
            },
            terms(&options),
            &Actor::operator(),
            now(),
        )
        .await?;
    show_grant(&authority, &grant, &options).await?;
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
            terms(&options),
            &Actor::operator(),
            now(),
        )
        .await?;
    show_grant(&authority, &grant, &options).await?;
    authority.close().await;
    Ok(())
}

fn terms(options: &TokenOptions) -> TokenTerms {
    TokenTerms {
        lifetime: options.token_expires,
        uses: options.uses,
    }
}

pub(crate) async fn set(dir: &Path, command: DeviceSet) -> Result<(), Failure> {
    let authority = open(dir).await?;
    let profile = match (command.profile, command.no_profile) {
        (None, false) => None,
        (profile, _) => Some(profile),
    };
    let key_policy = match (command.key_policy, command.no_key_policy) {
        (None, false) => None,
        (key_policy, _) => Some(key_policy),
    };
    let change = Change {
        attributes: command.attributes,
        profile,
        key_policy,
    };
    let device = authority
        .set_device(&command.name, &change, &Actor::operator(), now())
        .await?;
    authority.close().await;
    if command.json {
        return print(to_json(&device));
    }
    eprintln!(
        "{} has {} from now on",
        device.name,
        in_words(&device.attributes, device.key_policy.as_deref())
    );
    if device.state == DeviceState::Enrolled {
        eprintln!(
            "it gets a key for that at its next renewal; what it has lost it can read until `smqtt-authority epoch advance`"
        );
    }
    Ok(())
}

pub(crate) async fn list(dir: &Path, command: DeviceList) -> Result<(), Failure> {
    let authority = open(dir).await?;
    let policy = match &command.policy {
        Some(text) => Some(authority.policy(text).await?),
        None => None,
    };
    let behind = match command.behind {
        true => Some(authority.epoch_status(now()).await?.epoch),
        false => None,
    };
    let filter = DeviceFilter {
        state: command.state.map(Into::into),
        policy,
        profile: command.profile,
        prefix: command.prefix,
        expires_by: command
            .expires_within
            .map(|within| now().as_secs().saturating_add(within.as_secs())),
        behind,
    };
    let any = !authority.devices().await?.is_empty();
    let devices = authority.devices_where(&filter).await?;
    authority.close().await;
    if command.json {
        return print(Value::from(devices.iter().map(to_json).collect::<Vec<_>>()));
    }
    if any && devices.is_empty() {
        eprintln!("none of the registered devices is like that");
        return Ok(());
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
        "KEY POLICY",
        "EPOCH",
        "CERTIFICATE UNTIL",
        "CREATED",
    ];
    // A column that would be empty for all is left out.
    let any_key_policy = devices.iter().any(|device| device.key_policy.is_some());
    let shown = |column: &usize| *column != 3 || any_key_policy;
    let row = |cells: [String; 7]| {
        let cells = cells.into_iter().enumerate();
        cells
            .filter(|(column, _)| shown(column))
            .map(|(_, cell)| cell)
            .collect::<Vec<_>>()
    };
    let mut rows = vec![row(heading.map(String::from))];
    rows.extend(devices.iter().map(|device| {
        row([
            device.name.to_string(),
            device.state.as_str().into(),
            device.attributes.clone(),
            device.key_policy.clone().unwrap_or_else(|| "-".into()),
            device
                .key_epoch
                .map_or_else(|| "-".into(), |epoch| epoch.to_string()),
            time(device.certificate_expires),
            rfc3339(device.created),
        ])
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
        Some(expires) => format!(
            "can be used {} until {}",
            times(device.token_uses.unwrap_or(1)),
            rfc3339(expires)
        ),
    };
    let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".into());
    let rows = [
        ("name", device.name.to_string()),
        ("state", device.state.as_str().into()),
        ("attributes", device.attributes),
        ("profile", or_none(device.profile)),
        ("key policy", or_none(device.key_policy)),
        ("created", rfc3339(device.created)),
        ("token", token),
        ("certificate serial", or_none(device.serial)),
        ("certificate fingerprint", or_none(device.fingerprint)),
        ("certificate until", time(device.certificate_expires)),
        ("certificate revoked", time(device.revoked)),
        ("suspended", time(device.suspended)),
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
async fn show_grant(
    authority: &Authority,
    grant: &Grant,
    options: &TokenOptions,
) -> Result<(), Failure> {
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
    if options.qr {
        eprint!("{}", qr_code(&command)?);
    }
    if options.json {
        let object = json!({
            "device": device,
            "attributes": grant.attributes,
            "key_policy": grant.key_policy,
            "token": *token,
            "expires": expires,
            "uses": grant.uses,
            "authority": url,
            "ca_fingerprint": fingerprint,
            "command": command,
        });
        return print(object);
    }
    print(&*token)?;
    eprintln!(
        "{device} is registered with {}",
        in_words(&grant.attributes, grant.key_policy.as_deref())
    );
    eprintln!(
        "its token, above, can be used {}, until {expires}; it is not shown again",
        times(grant.uses.into())
    );
    if url.is_none() {
        eprintln!(
            "put the authority's address for HOST:PORT (it is filled in here once the authority has served)"
        );
    }
    eprintln!("next, on the device:");
    eprintln!("  {command}");
    Ok(())
}

/// What a device is and may read.
fn in_words(attributes: &str, key_policy: Option<&str>) -> String {
    match (attributes, key_policy) {
        (attributes, None) => attributes.to_owned(),
        ("", Some(policy)) => format!("the key policy {policy}"),
        (attributes, Some(policy)) => format!("{attributes} and the key policy {policy}"),
    }
}

/// A count as people say it.
fn times(count: u64) -> String {
    match count {
        1 => "once".into(),
        n => format!("{n} times"),
    }
}

/// A QR code in half blocks, with the light border that scanners need.
fn qr_code(text: &str) -> Result<String, Failure> {
    let code = QRBuilder::new(text)
        .ecl(ECL::L)
        .build()
        .map_err(|e| Failure::unexpected(format!("the QR code can not be made: {e:?}")))?;
    Ok(code.to_str() + "\n")
}

pub(crate) fn to_json(device: &DeviceRecord) -> Value {
    json!({
        "name": device.name,
        "state": device.state,
        "attributes": device.attributes,
        "own_attributes": device.own,
        "profile": device.profile,
        "key_policy": device.key_policy,
        "own_key_policy": device.own_key_policy,
        "created": rfc3339(device.created),
        "serial": device.serial,
        "fingerprint": device.fingerprint,
        "revoked": device.revoked.map(rfc3339),
        "certificate_expires": device.certificate_expires.map(rfc3339),
        "key_epoch": device.key_epoch,
        "suspended": device.suspended.map(rfc3339),
        "token_expires": device.token_expires.map(rfc3339),
        "token_uses": device.token_uses,
    })
}
