//! Who may log in at the local listener.

use std::collections::BTreeMap;
use std::fmt;

use smqtt_proto::{Credential, MqttString};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

/// User names and passwords. Without any, nobody has to log in.
#[derive(Default)]
pub(super) struct Users(BTreeMap<String, Zeroizing<String>>);

impl Users {
    pub(super) fn new(users: BTreeMap<String, String>) -> Self {
        let users = users.into_iter();
        Self(
            users
                .map(|(name, password)| (name, Zeroizing::new(password)))
                .collect(),
        )
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether these credentials let a client in. How long it takes depends on the lengths alone.
    pub(super) fn admit(&self, name: Option<&MqttString>, password: Option<&Credential>) -> bool {
        if self.is_empty() {
            return true;
        }
        let (Some(name), Some(password)) = (name, password) else {
            return false;
        };
        let mut admitted = false;
        for (user, expected) in &self.0 {
            let same = equal(user.as_bytes(), name.as_str().as_bytes())
                & equal(expected.as_bytes(), password.expose());
            admitted |= same;
        }
        admitted
    }
}

fn equal(a: &[u8], b: &[u8]) -> bool {
    a.ct_eq(b).into()
}

impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}
