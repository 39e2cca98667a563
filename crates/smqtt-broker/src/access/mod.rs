//! Who is admitted.

use std::sync::Arc;

use rustls::ServerConnection;
use smqtt_pki::UnixTime;
use smqtt_proto::ReasonCode;
use smqtt_proto::packet::Connect;

use crate::Error;
use crate::config::Config;
use crate::current::ListenerRules;
use crate::directory::Identity;

/// The rules of admission, with all that was read from their files.
#[derive(Debug)]
pub(crate) struct Access {}

/// A client that was admitted: kept with its session, to be judged again when the rules change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Admitted {
    pub(crate) identity: Identity,
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

    /// Who the sender of a CONNECT has proved to be to a listener with these rules.
    ///
    /// # Errors
    /// Nobody that may come in: the reason code for the client, and the reason for the log.
    pub(crate) fn identify(
        &self,
        rules: &ListenerRules,
        tls: Option<&ServerConnection>,
        _connect: &Connect,
    ) -> Result<Identity, (ReasonCode, String)> {
        let anonymous = || match rules.allow_anonymous {
            true => Ok(Identity::Anonymous),
            false => Err((
                ReasonCode::NotAuthorized,
                "it has shown no certificate".to_owned(),
            )),
        };
        let Some(chain) = tls.and_then(|tls| tls.peer_certificates()) else {
            return anonymous();
        };
        let Some(anchor) = rules.tls.as_ref().and_then(|tls| tls.anchor.as_ref()) else {
            return anonymous();
        };
        match anchor.verify_device(chain, UnixTime::now()) {
            Ok(device) => Ok(Identity::Device(Arc::new(device.id().clone()))),
            Err(error) => Err((
                ReasonCode::NotAuthorized,
                format!("its certificate is not a device's: {error}"),
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
