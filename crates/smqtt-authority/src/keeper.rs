//! What the service does by itself: epochs by the schedule, fresh lists and states, deliveries that acts have left.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use smqtt_pki::UnixTime;

use crate::clock::now;
use crate::effects::fresh;
use crate::{Error, Issuer, register};

/// How often the register is asked whether there is something to do.
const PERIOD: Duration = Duration::from_secs(1);
/// How long a broker may take to acknowledge a state.
const PATIENCE: Duration = Duration::from_secs(10);
/// After how long a broker that could not be reached is tried again: doubled each time, up to the second.
const FIRST_WAIT: Duration = Duration::from_secs(2);
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// Runs until it is dropped, or until another process has put another intermediate in place: what this one would issue then,
/// nobody would take.
pub(crate) async fn keep(issuer: Issuer) {
    let mut waiting = HashMap::new();
    let mut failed: Option<String> = None;
    // Of the list that this process has written: other instances have files of their own.
    let mut written = 0;
    let mut seen = 0;
    loop {
        match issuer.authority.directory().is_replaced() {
            Ok(false) => {}
            Ok(true) => return,
            Err(error) => tracing::error!(%error, "the intermediate's certificate can not be read"),
        }
        let looked = match superseded(&issuer, &mut seen).await {
            Ok(true) => return,
            Ok(false) => look(&issuer, &mut waiting, &mut written, now()).await,
            Err(error) => Err(error),
        };
        match looked {
            Ok(()) => failed = None,
            Err(error) => {
                let error = error.to_string();
                // Once for each new reason: this is asked every second.
                if failed.as_ref() != Some(&error) {
                    tracing::error!(%error, "what the authority does by itself failed; it tries again");
                    failed = Some(error);
                }
            }
        }
        tokio::time::sleep(PERIOD).await;
    }
}

/// Whether another instance has put another intermediate in place; asked once for each new list.
async fn superseded(issuer: &Issuer, seen: &mut u64) -> Result<bool, Error> {
    let newest = register::crl_number(issuer.authority.register().reader()).await?;
    if newest == *seen {
        return Ok(false);
    }
    let superseded = issuer.is_superseded().await?;
    *seen = newest;
    Ok(superseded)
}

async fn look(
    issuer: &Issuer,
    waiting: &mut HashMap<String, (Instant, Duration)>,
    written: &mut u64,
    now: UnixTime,
) -> Result<(), Error> {
    if let Some(advanced) = issuer.advance_if_due(now).await? {
        tracing::info!(
            epoch = advanced.epoch,
            seal_from = advanced.seal_from,
            "a new epoch has begun"
        );
    }
    let reader = issuer.authority.register().reader();
    let settings = register::settings(reader).await?;
    if settings.crl_out.is_some() {
        issuer.refresh_list(settings.crl_valid, now).await?;
        let newest = register::crl_number(reader).await?;
        if let Some((path, number)) = issuer.write_list(*written != newest).await? {
            *written = number;
            tracing::info!(number, file = %path.display(), "revocation list written");
        }
    }
    let brokers = register::brokers(reader).await?;
    if brokers.is_empty() {
        return Ok(());
    }
    let state = register::newest_state(reader).await?;
    if state
        .as_ref()
        .is_none_or(|state| !fresh(state.issued, state.next_update, now))
    {
        issuer.refresh_state(now).await?;
    }
    let newest = register::newest_state(reader)
        .await?
        .map_or(0, |state| state.sequence);
    for broker in brokers {
        let due = waiting
            .get(&broker.url)
            .is_none_or(|(at, _)| Instant::now() >= *at);
        if broker.published >= newest || !due {
            continue;
        }
        match issuer.publish_to(&broker.url, PATIENCE, now).await? {
            Ok(()) => {
                waiting.remove(&broker.url);
                tracing::info!(broker = broker.url, "the broker has the authority's state");
            }
            Err(reason) => {
                let wait = waiting
                    .get(&broker.url)
                    .map_or(FIRST_WAIT, |(_, wait)| (*wait * 2).min(LONGEST_WAIT));
                tracing::warn!(
                    broker = broker.url,
                    reason,
                    "the broker has not got the authority's state; trying again in {} s",
                    wait.as_secs()
                );
                waiting.insert(broker.url, (Instant::now() + wait, wait));
            }
        }
    }
    Ok(())
}
