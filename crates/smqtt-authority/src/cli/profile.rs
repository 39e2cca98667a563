//! `profile set`, `list` and `remove`.

use std::path::Path;

use serde_json::{Value, json};
use smqtt_authority::{Actor, Authority, Directory, ProfileRecord, now};

use super::args::{ProfileList, ProfileRemove, ProfileSet};
use super::failure::Failure;
use super::output::print;
use super::table::table;

pub(crate) async fn set(dir: &Path, command: ProfileSet) -> Result<(), Failure> {
    let authority = Authority::open(Directory::open(dir)?).await?;
    let key_policy = match (command.key_policy.as_deref(), command.no_key_policy) {
        (None, false) => None,
        (key_policy, _) => Some(key_policy),
    };
    let devices = authority
        .set_profile(
            &command.name,
            &command.attributes,
            key_policy,
            &Actor::operator(),
            now(),
        )
        .await?;
    authority.close().await;
    eprintln!("profile {} is set; {devices} devices have it", command.name);
    if devices > 0 {
        eprintln!(
            "they get keys for it at their next renewal; what they have lost they can read until `smqtt-authority epoch advance`"
        );
    }
    Ok(())
}

pub(crate) async fn list(dir: &Path, command: ProfileList) -> Result<(), Failure> {
    let authority = Authority::open(Directory::open(dir)?).await?;
    let profiles = authority.profiles().await?;
    authority.close().await;
    if command.json {
        let object = |profile: ProfileRecord| {
            json!({
                "name": profile.name,
                "attributes": profile.attributes,
                "key_policy": profile.key_policy,
            })
        };
        return print(Value::from(
            profiles.into_iter().map(object).collect::<Vec<_>>(),
        ));
    }
    if profiles.is_empty() {
        eprintln!(
            "there is no profile: add one with `smqtt-authority profile set NAME --attributes \"...\"`"
        );
        return Ok(());
    }
    let mut rows = vec![
        ["NAME", "ATTRIBUTES", "KEY POLICY"]
            .map(String::from)
            .to_vec(),
    ];
    rows.extend(profiles.into_iter().map(|profile| {
        let key_policy = profile.key_policy.unwrap_or_else(|| "-".into());
        vec![profile.name, profile.attributes, key_policy]
    }));
    print(table(&rows).trim_end())
}

pub(crate) async fn remove(dir: &Path, command: ProfileRemove) -> Result<(), Failure> {
    let authority = Authority::open(Directory::open(dir)?).await?;
    authority
        .remove_profile(&command.name, &Actor::operator(), now())
        .await?;
    authority.close().await;
    eprintln!("profile {} is removed", command.name);
    Ok(())
}
