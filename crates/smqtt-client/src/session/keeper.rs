//! What a subscriber has to remember before it may acknowledge.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use smqtt_envelope::{Arrival, Opener, WindowRecord};
use smqtt_format::{Envelope, KeyId, announce};
use smqtt_pki::UnixTime;

use super::Store;
use super::frame::FrameRecord;
use super::store::Changes;
use crate::Error;
use crate::inbox::Receipt;
use crate::received::Deliveries;

/// Messages that may wait for their keys unacknowledged: fewer than a stock Mosquitto has in flight, or nothing would follow, the
/// keys included.
const HELD: usize = 10;

/// Stands beside a subscriber's opener.
pub(crate) struct Keeper {
    store: Arc<Store>,
    /// What has arrived, in its order, from the number `first` on.
    arrived: VecDeque<Arrived>,
    first: u64,
    /// Windows that have moved since they were kept.
    moved: HashSet<(KeyId, Arc<str>)>,
    frames: Vec<(KeyId, FrameRecord)>,
}

struct Arrived {
    receipt: Option<Receipt>,
    /// It was opened or refused, and that was handed out.
    done: bool,
}

impl Keeper {
    pub(crate) fn new(store: Arc<Store>) -> Self {
        Self {
            store,
            arrived: VecDeque::new(),
            first: 1,
            moved: HashSet::new(),
            frames: Vec::new(),
        }
    }

    /// Hands a publish to the opener, with what is remembered of its key.
    pub(crate) fn open(
        &mut self,
        opener: &mut Opener,
        (topic, payload): (&str, &Bytes),
        arrival: Arrival,
        receipt: Option<Receipt>,
        now: UnixTime,
    ) -> Result<(), Error> {
        let announced = announce::is_reserved(topic);
        if !announced {
            self.recall(opener, topic, payload, now)?;
        }
        opener.handle_arrival(topic, payload, arrival, now);
        self.arrived.push_back(Arrived {
            receipt,
            // Nothing is handed out for it.
            done: announced,
        });
        if announced {
            self.note_frame(opener, topic, payload, arrival.retained);
        }
        Ok(())
    }

    fn recall(
        &mut self,
        opener: &mut Opener,
        topic: &str,
        payload: &[u8],
        now: UnixTime,
    ) -> Result<(), Error> {
        let kid = match Envelope::parse(payload) {
            Ok(Envelope::Sealed(sealed) | Envelope::Inline { sealed, .. }) => sealed.kid(),
            Ok(Envelope::KeyFrame(_)) | Err(_) => return Ok(()),
        };
        if opener.window(&kid, topic).is_some() {
            return Ok(());
        }
        if let Some(record) = self.store.window(&kid, topic)? {
            opener.recall(kid, topic, &record);
        }
        if !opener.knows(&kid)
            && let Some(record) = self.store.frame(&kid)?
        {
            opener.handle_publish(&record.topic, &record.frame, !record.live, now);
        }
        Ok(())
    }

    fn note_frame(&mut self, opener: &Opener, topic: &str, payload: &Bytes, retained: bool) {
        let Some((_, kid)) = announce::parse(topic) else {
            return;
        };
        let Ok(Envelope::KeyFrame(frame)) = Envelope::parse(payload) else {
            return;
        };
        // The opener has looked at it: what it can not use is not kept.
        if frame.kid() != kid || !opener.knows(&kid) {
            return;
        }
        let known = self.frames.iter().any(|(other, _)| *other == kid);
        // What can not be read now is written again.
        if known || matches!(self.store.frame(&kid), Ok(Some(_))) {
            return;
        }
        let record = FrameRecord {
            ends: frame.content().ends(),
            live: !retained,
            topic: topic.to_owned(),
            frame: payload.clone(),
        };
        self.frames.push((kid, record));
    }

    /// A message was opened and handed out.
    pub(crate) fn opened(&mut self, tag: u64, kid: KeyId, topic: &Arc<str>) {
        self.moved.insert((kid, Arc::clone(topic)));
        self.done(tag);
    }

    /// A message was refused, and that was handed out.
    pub(crate) fn done(&mut self, tag: u64) {
        let index = Deliveries::number(tag).checked_sub(self.first);
        let arrived = index.and_then(|index| self.arrived.get_mut(usize::try_from(index).ok()?));
        if let Some(arrived) = arrived {
            arrived.done = true;
        }
    }

    /// Keeps what has changed, and returns what may be acknowledged.
    pub(crate) fn settle(&mut self, opener: &Opener) -> Result<Vec<Receipt>, Error> {
        let windows = self.moved.iter().map(|(kid, topic)| {
            // One that was forgotten for want of memory may not begin anew.
            let record = opener
                .window(kid, topic)
                .unwrap_or_else(|| WindowRecord::closed(u64::MAX));
            (*kid, topic.to_string(), record)
        });
        let changes = Changes {
            windows: windows.collect(),
            frames: std::mem::take(&mut self.frames),
        };
        if !changes.is_empty()
            && let Err(error) = self.store.commit(&changes)
        {
            self.frames = changes.frames;
            return Err(error);
        }
        self.moved.clear();
        let mut receipts = Vec::new();
        // In the order of arrival, as MQTT wants it.
        while let Some(arrived) = self.arrived.front() {
            if !arrived.done && self.arrived.len() <= HELD {
                break;
            }
            receipts.extend(arrived.receipt);
            self.arrived.pop_front();
            self.first += 1;
        }
        Ok(receipts)
    }
}
