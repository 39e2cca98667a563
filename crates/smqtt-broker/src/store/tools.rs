//! What can be done with a store while no broker runs on it.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::time::SystemTime;

use bytes::Bytes;
use serde_json::json;

use super::engine::{Change, Engine, Table};
use super::place::{Place, last_commit, open, read_mark};
use super::record::{
    Epoch, QueueRecord, SessionRecord, SubscriptionRecord, message_from_bytes, split_key,
};
use super::{journal, recovery};
use crate::Error;

/// Takes a line for people, or for programs.
type Print<'a> = &'a mut dyn FnMut(String);

/// Reads everything, as a start does.
///
/// # Errors
/// [`Error::Store`] with the first thing that is wrong.
pub(crate) fn check(data_dir: &Path, print: Print<'_>) -> Result<(), Error> {
    let place = Place::of(data_dir);
    if let Some(mark) = read_mark(&place)? {
        let findings = journal::check(&place.database, &mark)
            .map_err(|error| place.error(error.to_string()))?;
        print(format!("journals: {} whole commits", findings.batches));
        if let Some(torn) = findings.torn {
            print(format!(
                "an unfinished commit at byte {} of {} was cut off; nobody was told that it was safe",
                torn.offset,
                torn.file.display()
            ));
        }
        for damage in &findings.damaged {
            print(format!(
                "damaged: {} at byte {}, with {} whole commits behind that",
                damage.file.display(),
                damage.offset,
                damage.behind
            ));
        }
        if !findings.damaged.is_empty() {
            return Err(place.error(format!(
                "it is damaged; restore a backup, or give up what is behind the damage with: smqtt-broker store repair --data-dir {}",
                data_dir.display()
            )));
        }
    }
    let opened = open(data_dir)?;
    let recovered = recovery::recover(opened.engine, false).map_err(|error| {
        place.error(format!(
            "{error}; restore a backup, or give up what is damaged with: smqtt-broker store repair --data-dir {}",
            data_dir.display()
        ))
    })?;
    let state = recovered.state;
    let queued: usize = state
        .sessions
        .iter()
        .map(|session| session.queue.len())
        .sum();
    let in_flight: usize = state.sessions.iter().map(|s| s.in_flight.len()).sum();
    print(format!(
        "whole: {} sessions, {queued} messages queued, {in_flight} in flight, {} retained; last commit {}",
        state.sessions.len(),
        state.retained.len(),
        recovered.last
    ));
    Ok(())
}

/// Gives up what is damaged.
///
/// # Errors
/// [`Error::Store`]: it cannot be read or written at all.
pub(crate) fn repair(data_dir: &Path, print: Print<'_>) -> Result<(), Error> {
    let place = Place::of(data_dir);
    let system = |error: std::io::Error| place.error(error.to_string());
    let mark = read_mark(&place)?
        .ok_or_else(|| place.error("it has no format file; restore it from a backup"))?;
    let findings = journal::check(&place.database, &mark).map_err(system)?;
    if !findings.damaged.is_empty() {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let seconds = since.map_or(0, |since| since.as_secs());
        let aside = place.directory.join(format!("damaged-{seconds}"));
        fs::create_dir(&aside).map_err(system)?;
        for damage in &findings.damaged {
            if let Some(name) = damage.file.file_name() {
                fs::copy(&damage.file, aside.join(name)).map_err(system)?;
            }
            journal::cut(&damage.file, damage.offset).map_err(system)?;
            print(format!(
                "cut {} at byte {}: {} whole commits behind it are given up; a copy is in {}",
                damage.file.display(),
                damage.offset,
                damage.behind,
                aside.display()
            ));
        }
    }
    let mut engine = open(data_dir)?.engine;
    let changes = misfits(&*engine, print).map_err(system)?;
    if !changes.is_empty() {
        let last = last_commit(&*engine).map_err(system)?;
        engine.commit(last + 1, &changes, true).map_err(system)?;
    }
    print(format!("gave up {} damaged entries", changes.len()));
    drop(engine);
    check(data_dir, print)
}

/// Removes entries that cannot be read, or name what is not there.
fn misfits(engine: &dyn Engine, print: Print<'_>) -> std::io::Result<Vec<Change>> {
    let epoch = Epoch::now();
    let mut gone: Vec<(Table, Bytes)> = Vec::new();
    let mut messages = HashSet::new();
    let key = Bytes::copy_from_slice;
    engine.scan(Table::Messages, &mut |k, value| {
        let number = k.try_into().map(u64::from_be_bytes);
        match (number, message_from_bytes(key(value), &epoch)) {
            (Ok(number), Ok(_)) => {
                messages.insert(number);
            }
            _ => gone.push((Table::Messages, key(k))),
        }
        Ok(())
    })?;
    engine.scan(Table::Retained, &mut |k, value| {
        if message_from_bytes(key(value), &epoch).is_err() {
            print(format!(
                "lost: the retained message of {}",
                String::from_utf8_lossy(k)
            ));
            gone.push((Table::Retained, key(k)));
        }
        Ok(())
    })?;
    engine.scan(Table::Sessions, &mut |k, value| {
        if k.len() != 8 || minicbor::decode::<SessionRecord>(value).is_err() {
            gone.push((Table::Sessions, key(k)));
        }
        Ok(())
    })?;
    engine.scan(Table::Subscriptions, &mut |k, value| {
        let filter = split_key(k).map(|(_, filter)| key(filter));
        let whole = filter.is_some_and(|f| smqtt_proto::TopicFilter::from_bytes(f).is_ok())
            && minicbor::decode::<SubscriptionRecord>(value)
                .is_ok_and(|record| smqtt_proto::QoS::from_u8(record.qos).is_some());
        if !whole {
            gone.push((Table::Subscriptions, key(k)));
        }
        Ok(())
    })?;
    engine.scan(Table::Queue, &mut |k, value| {
        let whole = k.len() == 16
            && minicbor::decode::<QueueRecord>(value).is_ok_and(|record| {
                let named = match record.message {
                    0 => record.packet_id.is_some(),
                    number => messages.contains(&number),
                };
                named && record.delivery().is_some() && record.packet_id != Some(0)
            });
        if !whole {
            gone.push((Table::Queue, key(k)));
        }
        Ok(())
    })?;
    engine.scan(Table::Incoming, &mut |k, _| {
        if k.len() != 10 || k[8..] == [0, 0] {
            gone.push((Table::Incoming, key(k)));
        }
        Ok(())
    })?;
    for table in Table::ALL {
        let count = gone.iter().filter(|(of, _)| *of == table).count();
        if count > 0 {
            print(format!("lost: {count} entries of {}", table.name()));
        }
    }
    let remove = |(table, key)| Change {
        table,
        key,
        value: None,
    };
    Ok(gone.into_iter().map(remove).collect())
}

fn bad(error: impl std::fmt::Display) -> std::io::Error {
    std::io::Error::other(error.to_string())
}

/// Prints everything.
///
/// # Errors
/// [`Error::Store`], as [`check`].
pub(crate) fn export(data_dir: &Path, print: Print<'_>) -> Result<(), Error> {
    let opened = open(data_dir)?;
    let place = opened.place;
    let failed = |error: std::io::Error| place.error(error.to_string());
    let engine = opened.engine;
    let reader = engine.reader();
    let epoch = Epoch::now();
    let message = |bytes: Bytes| {
        let message = message_from_bytes(bytes, &epoch).map_err(bad)?;
        let payload: String = message
            .payload()
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        Ok::<_, std::io::Error>(json!({
            "topic": message.topic().as_str(),
            "qos": message.qos() as u8,
            "payload": payload,
        }))
    };
    engine
        .scan(Table::Retained, &mut |_, value| {
            let message = message(Bytes::copy_from_slice(value))?;
            print(json!({ "retained": message }).to_string());
            Ok(())
        })
        .map_err(failed)?;
    engine
        .scan(Table::Sessions, &mut |key, value| {
            let record: SessionRecord = minicbor::decode(value).map_err(bad)?;
            let (session, _) = split_key(key).ok_or_else(|| bad("a key is too short"))?;
            print(
                json!({ "session": session, "client_id": record.client_id, "expiry": record.expiry })
                    .to_string(),
            );
            Ok(())
        })
        .map_err(failed)?;
    engine
        .scan(Table::Subscriptions, &mut |key, value| {
            let record: SubscriptionRecord = minicbor::decode(value).map_err(bad)?;
            let (session, filter) = split_key(key).ok_or_else(|| bad("a key is too short"))?;
            let filter = String::from_utf8_lossy(filter);
            print(
                json!({ "subscription": filter, "session": session, "qos": record.qos })
                    .to_string(),
            );
            Ok(())
        })
        .map_err(failed)?;
    engine
        .scan(Table::Queue, &mut |key, value| {
            let record: QueueRecord = minicbor::decode(value).map_err(bad)?;
            let (session, _) = split_key(key).ok_or_else(|| bad("a key is too short"))?;
            let bytes = reader.get(Table::Messages, &record.message.to_be_bytes())?;
            let message = bytes.map(message).transpose()?;
            print(
                json!({ "queued": message, "session": session, "qos": record.qos, "packet_id": record.packet_id })
                    .to_string(),
            );
            Ok(())
        })
        .map_err(failed)
}
