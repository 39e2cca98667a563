//! `shares make` and `shares check`.

use std::fmt::Write as _;
use std::path::Path;

use smqtt_authority::{Actor, Authority, Directory, Share, Split, now};
use smqtt_pki::files::{self, StagedDirectory};
use zeroize::Zeroizing;

use super::args::{SharesCheck, SharesMake};
use super::backup::read_shares;
use super::failure::Failure;
use super::output::{Output, print};
use super::shell::word;
use super::table::rfc3339;

pub(crate) async fn make(dir: &Path, command: SharesMake) -> Result<(), Failure> {
    let directory = Directory::open(dir)?;
    let keeper = command.keys.keeper(&directory)?;
    let name = directory.name().to_owned();
    let authority = Authority::open(directory).await?;
    let (threshold, count) = command.split;
    let split = Split {
        threshold,
        count,
        new_key: command.new_key,
    };
    let time = now();
    let page = |share: &Share| page(share, &name, &rfc3339(time.as_secs()));
    let deliver = |shares: &[Share]| match &command.out {
        Some(out) => {
            let staged = StagedDirectory::create(out)?;
            for share in shares {
                let file = format!("share-{}-of-{}.txt", share.index(), share.count());
                files::write_private(&staged.path().join(file), page(share)?.as_bytes())?;
            }
            staged.commit()?;
            Ok(())
        }
        None => {
            let mut output = Output::new();
            for share in shares {
                output.line(page(share)?.as_str());
            }
            output.finish()
        }
    };
    let made = authority
        .make_shares(keeper.as_deref(), split, &Actor::operator(), time, deliver)
        .await;
    authority.close().await;
    made?;
    if let Some(out) = &command.out {
        eprintln!("{count} shares written to {}, a file each", word(out));
    }
    eprintln!(
        "give each to another person, keep none here; any {threshold} of them open every backup of this key"
    );
    eprintln!(
        "next:  smqtt-authority backup --dir {} --out FILE",
        word(dir)
    );
    Ok(())
}

/// A share as it is printed.
fn page(share: &Share, authority: &str, time: &str) -> Result<Zeroizing<String>, Failure> {
    let mut page = Zeroizing::new(String::with_capacity(1024));
    let (index, count, threshold) = (share.index(), share.count(), share.threshold());
    writeln!(
        page,
        "# Share {index} of {count} of the backup key of the SMQTT authority {authority:?}.\n\
         # Set {}, made {time}. Any {threshold} of the {count} open its backups; fewer tell nothing.\n\
         # Keep it apart from the other shares and from the backups.\n{}",
        share.set(),
        share.to_line().as_str(),
    )
    .map_err(|e| Failure::unexpected(e.to_string()))?;
    Ok(page)
}

pub(crate) fn check(command: SharesCheck) -> Result<(), Failure> {
    let shares = read_shares(&command.shares)?;
    for share in &shares {
        eprintln!(
            "share {} of {}, set {}, any {} open the backups of key {}",
            share.index(),
            share.count(),
            share.set(),
            share.threshold(),
            data_encoding::HEXLOWER.encode(&share.key_id()),
        );
    }
    drop(Share::combine(&shares)?);
    print("these shares give the backup key")
}
