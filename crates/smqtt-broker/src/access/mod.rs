//! Who is admitted.

use std::sync::Arc;

use smqtt_pki::VerifiedDevice;
use smqtt_proto::ReasonCode;
use smqtt_proto::packet::Connect;

use crate::Error;
use crate::certificate::Shown;
use crate::config::Config;
use crate::current::ListenerRules;
use crate::directory::Identity;

/// The rules of admission, with all that was read from their files.
#[derive(Debug)]
pub(crate) struct Access {}

/// A client that was admitted: kept with its session, to be judged again when the rules change.
#[derive(Debug, Clone)]
pub(crate) struct Admitted {
    pub(crate) identity: Identity,
    /// What it showed, if its identity stands on that.
    pub(crate) certificate: Option<Shown>,
    /// The place of the listener that it came by.
    pub(crate) listener: usize,
}

impl Access {
    /// Reads the rules, and the files that they are in.
    ///
    /// # Errors
    /// [`Error`] when a file is missing, unreadable or wrong.
    pub(crate) fn load(_config: &Config) -> Result<Self, Error> {
        Ok(Access {})
    }

    /// Who the sender of a CONNECT has proved to be to a listener with these rules; `device` is who
    /// its certificate, which was verified, names.
    ///
    /// # Errors
    /// Nobody that may come in: the reason code for the client, and the reason for the log.
    pub(crate) fn identify(
        &self,
        rules: &ListenerRules,
        device: Option<&VerifiedDevice>,
        _connect: &Connect,
    ) -> Result<Identity, (ReasonCode, String)> {
        match device {
            Some(device) => Ok(Identity::Device(Arc::new(device.id().clone()))),
            None if rules.allow_anonymous => Ok(Identity::Anonymous),
            None => Err((
                ReasonCode::NotAuthorized,
                "it has shown no certificate".to_owned(),
            )),
        }
    }

    /// Whether a client that was admitted under earlier rules would be admitted under these. What
    /// its certificate is worth is judged elsewhere.
    ///
    /// # Errors
    /// Why not, for the log.
    pub(crate) fn still_admits(
        &self,
        rules: &ListenerRules,
        identity: &Identity,
    ) -> Result<(), &'static str> {
        match identity {
            Identity::Anonymous if !rules.allow_anonymous => {
                Err("anonymous clients are no longer admitted")
            }
            Identity::Anonymous | Identity::Device(_) => Ok(()),
        }
    }
}
