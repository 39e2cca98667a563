//! `profile set`, `list` and `remove`.

use std::path::Path;

use serde_json::{Value, json};
use smqtt_authority::{Actor, Authority, Directory, now};

use super::args::{ProfileList, ProfileRemove, ProfileSet};
use super::failure::Failure;
use super::output::print;
use super::table::table;

pub(crate) async fn set(dir: &Path, command: ProfileSet) -> Result<(), Failure> {
    let authority = Authority::open(Directory::open(dir)?).await?;
    let devices = authority
        .set_profile(
            &command.name,
            &command.attributes,
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
        let object = |(name, attributes)| json!({ "name": name, "attributes": attributes });
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
    let mut rows = vec![vec!["NAME".to_owned(), "ATTRIBUTES".to_owned()]];
    rows.extend(
        profiles
            .into_iter()
            .map(|(name, attributes)| vec![name, attributes]),
    );
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
