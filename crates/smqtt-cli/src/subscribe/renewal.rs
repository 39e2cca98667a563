//! Renewing this device while messages come: when the authority tells of a new epoch, or a message is sealed for one.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rand::RngExt as _;
use smqtt_client::{AuthorityState, AuthorityStates, Client, Epoch, Error, Renewed};
use tokio::task::JoinHandle;

/// How long the authority may take to answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// After how long a renewal that failed is tried again: doubled each time, up to the second.
const FIRST_WAIT: Duration = Duration::from_secs(3);
const LONGEST_WAIT: Duration = Duration::from_secs(300);
/// The most that a renewal waits for its turn, where a new epoch is not in use yet.
const LONGEST_TURN: Duration = Duration::from_secs(3600);

/// What came of a renewal.
pub(super) type Outcome = Result<Renewed, Error>;

pub(super) struct Renewal {
    directory: PathBuf,
    held: Option<Epoch>,
    states: Option<AuthorityStates>,
    task: Option<JoinHandle<Outcome>>,
    wait: Duration,
    never: bool,
}

impl Renewal {
    /// Never renews.
    pub(super) fn never() -> Self {
        Self {
            directory: PathBuf::new(),
            held: None,
            states: None,
            task: None,
            wait: FIRST_WAIT,
            never: true,
        }
    }

    /// Renews the identity in `directory`, which has a key of the epoch `held`, when there is reason to.
    pub(super) async fn of(
        directory: &Path,
        held: Option<Epoch>,
        client: &Client,
        patience: Duration,
    ) -> Self {
        let following = tokio::time::timeout(patience, client.authority_states()).await;
        let states = match following {
            Ok(Ok(states)) => Some(states),
            Ok(Err(error)) => {
                tracing::info!(%error, "the authority's state can not be followed");
                None
            }
            Err(_) => None,
        };
        Self {
            directory: directory.to_owned(),
            held,
            states,
            never: false,
            ..Self::never()
        }
    }

    /// A message is sealed for an epoch whose key this device has not: renews at once.
    pub(super) fn begin(&mut self) {
        // One that waits for its turn has none any more; one that is under way is aborted only before it began to write.
        if self.task.is_none() {
            self.start(Duration::ZERO);
        }
    }

    fn start(&mut self, after: Duration) {
        if self.never {
            return;
        }
        let directory = self.directory.clone();
        self.task = Some(tokio::spawn(async move {
            tokio::time::sleep(after).await;
            smqtt_client::renew(&directory, PATIENCE).await
        }));
    }

    /// Resolves when a renewal has ended; never if there is none. Nothing is lost if the returned future is dropped.
    pub(super) async fn done(&mut self) -> Outcome {
        loop {
            let ended = match (&mut self.task, &mut self.states) {
                (Some(task), _) => task.await,
                (None, Some(states)) => {
                    match states.next().await {
                        Ok(state) => self.note(&state),
                        Err(_) => self.states = None,
                    }
                    continue;
                }
                (None, None) => std::future::pending().await,
            };
            self.task = None;
            return match ended {
                Ok(Ok(renewed)) => {
                    self.held = Some(renewed.epoch);
                    self.wait = FIRST_WAIT;
                    Ok(renewed)
                }
                Ok(Err(error)) => {
                    self.start(self.wait);
                    self.wait = (self.wait * 2).min(LONGEST_WAIT);
                    Err(error)
                }
                Err(error) => Err(Error::Option(format!(
                    "the renewal was broken off: {error}"
                ))),
            };
        }
    }

    /// A new epoch: a fleet does not renew in one second if it has an hour.
    fn note(&mut self, state: &AuthorityState) {
        let epoch = Epoch::new(state.epoch);
        if self.held.is_none_or(|held| held >= epoch) {
            return;
        }
        let from = state.sealing.last().map_or(0, |sealing| sealing.from);
        let left = Duration::from_secs(from.saturating_sub(smqtt_client::seconds_now()));
        let turn = (left / 2).min(LONGEST_TURN);
        self.start(turn.mul_f64(rand::rng().random::<f64>()));
    }
}
