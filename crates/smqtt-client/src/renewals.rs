//! Renewal in the background: certificate and attribute key are replaced in time, under everything that uses them.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rand::RngExt as _;
use smqtt_format::AuthorityState;
use smqtt_pki::{Identity, Revocations, Validity};
use smqtt_policy::Epoch;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::connection::sleep_until;
use crate::credentials::root_list;
use crate::distress::{Answer, Help};
use crate::{AuthorityStates, Client, Error, Renewed, authority_revocations, clock, renew};

/// After how long a renewal that failed is tried again: doubled each time, up to the second.
const FIRST_WAIT: Duration = Duration::from_secs(3);
const LONGEST_WAIT: Duration = Duration::from_secs(300);
/// The most that a renewal waits for its turn, where a new epoch is not in use yet.
const LONGEST_TURN: Duration = Duration::from_secs(3600);
/// How often to look whether somebody else has renewed the identity in its directory. The clock may be set, too, and a machine may
/// sleep itself.
const LOOK: Duration = Duration::from_secs(5);
/// Outcomes that nobody has asked for yet; older ones are dropped.
const KEPT: usize = 16;

/// How a client is kept renewed.
#[derive(Clone, Copy, Debug)]
pub struct Renewal {
    ask: bool,
    timeout: Duration,
}

impl Default for Renewal {
    fn default() -> Self {
        Self {
            ask: true,
            timeout: Duration::from_secs(20),
        }
    }
}

impl Renewal {
    /// Whether to ask the authority. If not, something else does, such as `smqtt renew` from a timer: what it puts into the
    /// identity's directory is taken over. Default: yes.
    #[must_use]
    pub fn ask(mut self, ask: bool) -> Self {
        self.ask = ask;
        self
    }

    /// How long the authority may take to answer. Default: 20 s.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }
}

/// A client that is kept renewed, until this is dropped.
#[must_use = "renewal ends when this is dropped"]
pub struct Renewals {
    outcomes: mpsc::Receiver<Result<Renewed, Error>>,
    task: JoinHandle<()>,
}

impl Renewals {
    /// The next renewal, or why one failed: it is tried again by itself. Pending for ever once the connection has ended for
    /// good. Nothing is lost if the returned future is dropped, and nobody has to ask.
    pub async fn next(&mut self) -> Result<Renewed, Error> {
        match self.outcomes.recv().await {
            Some(outcome) => outcome,
            None => std::future::pending().await,
        }
    }
}

impl Drop for Renewals {
    fn drop(&mut self) {
        // A renewal that is under way is broken off between two of its steps; what it leaves is an identity that works.
        self.task.abort();
    }
}

impl Client {
    /// Renews the identity in its directory when it is time, and takes over what has come: at two thirds of the certificate's
    /// life, when the authority's state tells of a new epoch, and when a subscriber meets a message of one. Publishers sign
    /// and seal with the new identity from their next message on, subscribers open what waited for it, and the connection is
    /// made anew with the new certificate (MQTT 5; with 3.1.1, which keeps no session, the next time that it is made).
    ///
    /// A broker that refuses this device is not the end where the root has taken back the issuer of its certificate: the authority
    /// tells, and gives another one. What the root has taken back is believed no more, from the renewal on that tells of it.
    ///
    /// The authority's state is followed through the broker, where that allows subscribing to
    /// [`STATE_TOPIC`](smqtt_format::STATE_TOPIC). One of these for a client: the connection lives as long.
    pub fn keep_renewed(&self, renewal: Renewal) -> Renewals {
        let (told, outcomes) = mpsc::channel(KEPT);
        let keeper = Keeper {
            wanted: self.epoch(),
            spread: rand::rng().random(),
            due: None,
            wait: FIRST_WAIT,
            seen: self.identity().renewed_at(),
            calls: renewal.ask.then(|| self.distress_calls()),
            client: self.clone(),
            renewal,
            told,
        };
        Renewals {
            outcomes,
            task: tokio::spawn(keeper.run()),
        }
    }
}

struct Keeper {
    client: Client,
    renewal: Renewal,
    told: mpsc::Sender<Result<Renewed, Error>>,
    /// The newest epoch that there is, as far as is known.
    wanted: Epoch,
    /// This device's place among those of its age, from 0 to 1: they do not all come in one second.
    spread: f64,
    /// When to try.
    due: Option<Instant>,
    /// How long to wait after the next failure.
    wait: Duration,
    /// When the identity in the directory was last renewed, as of the last look.
    seen: Option<SystemTime>,
    /// The connection task calls when the broker refuses this device; not where somebody else renews.
    calls: Option<mpsc::Receiver<Answer>>,
}

impl Keeper {
    async fn run(mut self) {
        let client = self.client.clone();
        let following = client.authority_states();
        tokio::pin!(following);
        let (mut asking, mut states) = (true, None);
        loop {
            if self.due.is_none() && self.certificate_is_due() {
                self.due = Some(Instant::now());
            }
            let look = Instant::now() + self.until_certificate_is_due().min(LOOK);
            let wake = self.due.map_or(look, |due| due.min(look));
            tokio::select! {
                followed = &mut following, if asking => {
                    asking = false;
                    match followed {
                        Ok(followed) => states = Some(followed),
                        Err(error) => {
                            tracing::info!(%error, "the authority's state can not be followed");
                        }
                    }
                }
                state = next(&mut states) => match state {
                    Some(state) => self.note(&state),
                    // The connection has ended for good.
                    None => return,
                },
                epoch = self.client.epoch_ahead() => {
                    self.wanted = self.wanted.max(epoch);
                    // One that waits for its turn has none any more.
                    self.due = Some(Instant::now());
                }
                call = called(&mut self.calls) => {
                    // Who called may have gone.
                    let _ = call.send(self.help().await);
                }
                () = sleep_until(Some(wake.into())) => {
                    if self.due.is_some_and(|due| due <= Instant::now()) {
                        self.attempt().await;
                    } else if self.is_renewed_by_others() {
                        self.take_over_from_others();
                    }
                }
            }
        }
    }

    /// A new epoch: a fleet does not renew in one second if it has an hour.
    fn note(&mut self, state: &AuthorityState) {
        self.client.seal_by(state.sealing.clone());
        let epoch = Epoch::new(state.epoch);
        if epoch <= self.wanted {
            return;
        }
        self.wanted = epoch;
        if epoch <= self.client.epoch() {
            return;
        }
        let from = state.sealing.last().map_or(0, |sealing| sealing.from);
        let left = Duration::from_secs(from.saturating_sub(clock::now().as_secs()));
        let turn = (left / 2).min(LONGEST_TURN);
        let at = Instant::now() + turn.mul_f64(rand::rng().random::<f64>());
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    /// Renews, or takes over what somebody else has renewed.
    async fn attempt(&mut self) {
        let before = self.client.identity();
        let outcome = self.renewed().await;
        self.due = None;
        self.doubt_what_was_wanted(&before);
        let satisfied = self.client.epoch() >= self.wanted && !self.certificate_is_due();
        if satisfied {
            self.wait = FIRST_WAIT;
        } else {
            self.due = Some(Instant::now() + self.wait);
            self.wait = (self.wait * 2).min(LONGEST_WAIT);
        }
        match &outcome {
            Ok(None) => return,
            Ok(Some(renewed)) => tracing::info!(epoch = %renewed.epoch, "renewed"),
            Err(error) => tracing::warn!(%error, "not renewed, it is tried again"),
        }
        if let Some(outcome) = outcome.transpose() {
            // Whoever does not ask does not want to know.
            let _ = self.told.try_send(outcome);
        }
    }

    /// Where the root's list is another than with the identity `before`, what was wanted until now may be what a thief said. A renewal
    /// gives the newest there is.
    fn doubt_what_was_wanted(&mut self, before: &Identity) {
        if root_list(before) != root_list(&self.client.identity()) {
            self.wanted = self.client.epoch();
        }
    }

    /// The broker refuses this device. Where the issuer of its certificate was taken back, it gets another one.
    async fn help(&mut self) -> Help {
        let refused = self.client.identity();
        let outcome = self.replaced(&refused).await;
        self.doubt_what_was_wanted(&refused);
        let help = match &outcome {
            Err(error) if error.is_transient() => Help::Later,
            // A service that is about to make way for another one.
            Err(Error::AuthorityAnswer(_)) => Help::Later,
            _ if self.client.identity().chain() != refused.chain() => Help::Renewed,
            _ => Help::None,
        };
        match &outcome {
            Ok(Some(renewed)) => {
                tracing::info!(epoch = %renewed.epoch, "renewed, for another issuer")
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "no other certificate"),
        }
        if let Ok(Some(renewed)) = outcome {
            let _ = self.told.try_send(Ok(renewed));
        }
        help
    }

    /// What somebody else has renewed, or this does, if the issuer of `refused` was taken back.
    async fn replaced(&self, refused: &Identity) -> Result<Option<Renewed>, Error> {
        let directory = refused.directory();
        let found = Identity::load(directory)?;
        if found.chain() == refused.chain() {
            if !issuer_was_taken_back(&found, self.renewal.timeout).await? {
                return Ok(None);
            }
            renew(directory, self.renewal.timeout).await?;
        }
        self.take_over(&Identity::load(directory)?)
    }

    /// Whether the directory has another identity than at the last look.
    fn is_renewed_by_others(&mut self) -> bool {
        let renewed = self.client.identity().renewed_at();
        std::mem::replace(&mut self.seen, renewed) != renewed
    }

    fn take_over_from_others(&self) {
        let directory = self.client.identity().directory().to_owned();
        let taken = Identity::load(&directory)
            .map_err(Error::Identity)
            .and_then(|identity| self.take_over(&identity));
        match taken {
            Ok(None) => {}
            Ok(Some(renewed)) => {
                tracing::info!(epoch = %renewed.epoch, "renewed by somebody else");
                let _ = self.told.try_send(Ok(renewed));
            }
            // In the middle of a renewal, maybe; the next look tells.
            Err(error) => tracing::warn!(%error, "what is in the directory can not be taken over"),
        }
    }

    /// `None` if there is nothing new.
    async fn renewed(&self) -> Result<Option<Renewed>, Error> {
        let directory = self.client.identity().directory().to_owned();
        if let Some(renewed) = self.take_over(&Identity::load(&directory)?)? {
            let enough = self.client.epoch() >= self.wanted && !self.certificate_is_due();
            if enough || !self.renewal.ask {
                return Ok(Some(renewed));
            }
        }
        if !self.renewal.ask {
            return Ok(None);
        }
        let renewed = renew(&directory, self.renewal.timeout).await?;
        self.take_over(&Identity::load(&directory)?)?;
        Ok(Some(renewed))
    }

    /// Takes over an identity if it is newer than the one that is used.
    fn take_over(&self, identity: &Identity) -> Result<Option<Renewed>, Error> {
        let before = self.client.epoch();
        let used = self.client.identity();
        let held = crate::attributes(identity)?;
        let same = used.chain() == identity.chain()
            && root_list(&used) == root_list(identity)
            && used.attribute_key() == identity.attribute_key()
            && used.policy_key() == identity.policy_key();
        if same || held.epoch() < Some(before) {
            return Ok(None);
        }
        let identity = Identity::load(identity.directory())?;
        let expires = identity.validity().not_after();
        self.client.take_over(Arc::new(identity))?;
        Ok(Some(Renewed {
            attributes: held.without_epoch(),
            key_policy: crate::key_policy(&self.client.identity())?,
            epoch: self.client.epoch(),
            before: Some(before),
            expires,
        }))
    }

    fn certificate_is_due(&self) -> bool {
        self.until_certificate_is_due().is_zero()
    }

    fn until_certificate_is_due(&self) -> Duration {
        let at = due(self.client.identity().validity(), self.spread);
        Duration::from_secs(at.saturating_sub(clock::now().as_secs()))
    }
}

/// Whether the root has taken back what has issued this identity's certificate, by the lists that the authority gives out now.
async fn issuer_was_taken_back(identity: &Identity, limit: Duration) -> Result<bool, Error> {
    let text = authority_revocations(identity, limit).await?;
    let text =
        text.ok_or_else(|| Error::AuthorityAnswer("it has no revocation list now".to_owned()))?;
    let anchor = identity.trust_anchor();
    let lists = Revocations::read(&text, anchor)?;
    let anchor = anchor.clone().with_list(lists.of_root().der().clone())?;
    let own = anchor.verify_device(identity.chain(), clock::now());
    Ok(matches!(own, Err(smqtt_pki::Error::Revoked)))
}

/// When a certificate is to be renewed: at two thirds of its life, or up to a twentieth of it later.
fn due(validity: Validity, spread: f64) -> u64 {
    let end = validity.not_after().as_secs();
    // What lies before its issue is for clocks that are slow.
    let issued = validity.not_before().as_secs() + Validity::CLOCK_SKEW.as_secs();
    let life = Duration::from_secs(end.saturating_sub(issued));
    let age = life * 2 / 3 + (life / 20).mul_f64(spread);
    issued.saturating_add(age.as_secs()).min(end)
}

/// The authority's next state; never if it can not be followed; `None` if nothing will follow.
async fn next(states: &mut Option<AuthorityStates>) -> Option<AuthorityState> {
    match states {
        Some(following) => following.next().await.ok(),
        None => std::future::pending().await,
    }
}

/// The next call; never if none is taken.
async fn called(calls: &mut Option<mpsc::Receiver<Answer>>) -> Answer {
    if let Some(calls) = calls
        && let Some(call) = calls.recv().await
    {
        return call;
    }
    std::future::pending().await
}

#[cfg(test)]
mod tests {
    use smqtt_pki::UnixTime;

    use super::*;

    #[test]
    fn a_certificate_is_due_at_two_thirds_of_its_life() {
        let at = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let day = 86_400;
        let issued = 1_790_000_000;
        let validity = Validity::starting(at(issued), Duration::from_secs(90 * day)).unwrap();
        assert_eq!(due(validity, 0.0), issued + 60 * day);
        assert_eq!(due(validity, 1.0), issued + 60 * day + 9 * day / 2);
        let short = Validity::starting(at(issued), Duration::from_secs(1)).unwrap();
        assert_eq!(due(short, 1.0), issued);
    }
}
