//! The way back to the broker: after a loss, and with another certificate.

use std::time::{Duration, Instant};

use smqtt_proto::Session;

use super::Connection;
use crate::distress::Help;
use crate::inbox::Inbound;
use crate::{Backoff, Error, Loss};

/// For how long an authority that does not answer is asked for another certificate.
const PATIENCE: Duration = Duration::from_secs(60);

impl Connection {
    /// Connects with a new certificate from now on, if there is one; whether the link is to be made anew for it. Without a
    /// session at the broker, messages would be lost in between, so that waits for the next time.
    pub(super) fn takes_new_certificate(&mut self) -> bool {
        let Some(identity) = self.certificate.lock().take() else {
            return false;
        };
        match crate::credentials::tls(&identity, &self.dialler.address) {
            Ok(tls) => {
                self.dialler.tls = tls;
                self.fresh_certificate = true;
            }
            Err(error) => {
                tracing::warn!(%error, "the renewed certificate can not be used");
                return false;
            }
        }
        self.dialler.address.is_tls()
            && self.dialler.mqtt.connect.version.is_v5()
            && self.backoff.is_some()
            && self.closing.is_none()
    }

    /// Leaves the broker and comes back to the session. What is in flight stays so. If that fails: why, and the session.
    pub(super) async fn replace_link(&mut self) -> Option<(Loss, Session)> {
        let mut session = match self.link.take() {
            Some(link) => link.leave().await,
            None => Session::new(),
        };
        match self.dialler.dial(&mut session).await {
            Ok(opened) => {
                tracing::info!("connected with the new certificate");
                self.begin(opened);
                None
            }
            Err(error) if self.passes(&error) => Some((Loss::new(error), session)),
            Err(error) => Some((Loss::of(&error), session)),
        }
    }

    /// Whether the same attempt to connect may succeed later. A renewal may have told that the issuer of the broker's certificate was
    /// taken back, too: then the broker gets another one.
    fn passes(&self, error: &Error) -> bool {
        error.is_transient() || self.fresh_certificate && matches!(error, Error::Untrusted { .. })
    }

    /// Gets another certificate, where the broker refuses this device because the issuer of the one that it has was taken back.
    /// False if there is none.
    async fn replace_certificate(&mut self, refused: &Loss, backoff: &Backoff) -> bool {
        if !refused.is_of_certificate() || self.fresh_certificate {
            return false;
        }
        let give_up = Instant::now() + PATIENCE;
        for attempt in 0u32.. {
            // Also one that came while the broker refused the one before.
            let _ = self.takes_new_certificate();
            if self.fresh_certificate {
                tracing::info!(%refused, "the certificate was replaced");
                return true;
            }
            match self.distress.call().await {
                Help::Later if Instant::now() < give_up => {
                    let wait = backoff.wait(attempt, &mut rand::rng());
                    tokio::time::sleep(wait.min(PATIENCE / 12)).await;
                }
                Help::Renewed => {}
                Help::Later | Help::None => break,
            }
        }
        let _ = self.takes_new_certificate();
        self.fresh_certificate
    }

    /// What a link that is over leaves.
    pub(super) async fn last_words(&mut self) -> Session {
        match self.link.take() {
            Some(mut link) => {
                link.say_last_words().await;
                link.mqtt.take_session()
            }
            None => Session::new(),
        }
    }

    /// Comes back, if that is wanted and possible. The error is why not.
    pub(super) async fn reconnect(&mut self, loss: Loss, mut session: Session) -> Result<(), Loss> {
        let Some(backoff) = self.backoff else {
            return Err(loss);
        };
        if loss.is_refusal() && !self.replace_certificate(&loss, &backoff).await {
            return Err(loss);
        }
        self.away = true;
        self.online.send_replace(false);
        self.subscriptions.tell(|| Inbound::Lost(loss.clone()));
        let give_up = backoff.give_up.map(|limit| Instant::now() + limit);
        for attempt in 0u32.. {
            // The very first connection is made at once.
            if self.number > 0 || attempt > 0 {
                let wait = backoff.wait(attempt, &mut rand::rng());
                tokio::time::sleep(wait).await;
            }
            let _ = self.takes_new_certificate();
            // Nobody is left: what is in flight gets its time, not for ever.
            self.subscriptions.sweep(&mut self.receipts);
            if self.commands.is_closed() && self.subscriptions.is_empty() {
                self.start_closing();
            }
            match self.dialler.dial(&mut session).await {
                Ok(opened) => {
                    self.begin(opened);
                    return Ok(());
                }
                Err(error) if !self.passes(&error) => {
                    let refused = Loss::of(&error);
                    if !self.replace_certificate(&refused, &backoff).await {
                        return Err(refused);
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, attempt, "no connection yet");
                    let limits = [give_up, self.closing].into_iter().flatten();
                    if limits.min().is_some_and(|at| Instant::now() >= at) {
                        return Err(Loss::new(format_args!("{loss}, and then {error}")));
                    }
                }
            }
        }
        Err(loss)
    }
}
