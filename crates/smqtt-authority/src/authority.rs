//! The register, without any secret key.

use smqtt_pki::DeviceId;

use crate::directory::REGISTER;
use crate::register::audit::{self, AuditEntry};
use crate::register::{self, Register};
use crate::{DeviceRecord, Directory, Error};

/// An authority whose register is open.
pub struct Authority {
    directory: Directory,
    register: Register,
}

impl Authority {
    /// Opens the register of an authority.
    ///
    /// # Errors
    /// [`Error::Register`], [`Error::Migration`], or [`smqtt_pki::Error::Missing`] if it is gone.
    pub async fn open(directory: Directory) -> Result<Self, Error> {
        let register = directory.register().await?;
        Ok(Self {
            directory,
            register,
        })
    }

    /// The authority's directory.
    #[must_use]
    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    pub(crate) fn register(&self) -> &Register {
        &self.register
    }

    /// Has the database check itself.
    ///
    /// # Errors
    /// [`Error::Damaged`] if it finds something, [`Error::Register`].
    pub async fn check_register(&self) -> Result<(), Error> {
        match self.register.integrity().await? {
            None => Ok(()),
            Some(reason) => Err(Error::Damaged {
                path: self.directory.path().join(REGISTER),
                reason,
            }),
        }
    }

    /// Closes the register.
    pub async fn close(&self) {
        self.register.close().await;
    }

    /// All devices, by name.
    ///
    /// # Errors
    /// [`Error::Register`].
    pub async fn devices(&self) -> Result<Vec<DeviceRecord>, Error> {
        register::devices(self.register.reader()).await
    }

    /// One device.
    ///
    /// # Errors
    /// [`Error::NoSuchDevice`], [`Error::Register`].
    pub async fn device(&self, name: &DeviceId) -> Result<DeviceRecord, Error> {
        register::device(self.register.reader(), name).await
    }

    /// Shows every row of the audit log and its chain value to `visit`, oldest first, and verifies the chain on the way. Returns how many
    /// there are and the last chain value: noted elsewhere, it proves later that none of them was changed.
    ///
    /// # Errors
    /// [`Error::AuditBroken`] at the first row that does not fit, [`Error::Register`].
    pub async fn audit(
        &self,
        visit: impl FnMut(&AuditEntry, &[u8; 32]),
    ) -> Result<(u64, [u8; 32]), Error> {
        audit::walk(self.register.reader(), visit).await
    }

    /// Replaces the brokers that get the authority's state.
    ///
    /// # Errors
    /// [`Error::Register`].
    pub async fn set_brokers(&self, urls: &[String]) -> Result<(), Error> {
        let mut transaction = self.register.write().await?;
        register::set_brokers(&mut transaction, urls).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// The URL at which devices reach the authority, if its service has run.
    ///
    /// # Errors
    /// [`Error::Register`].
    pub async fn url(&self) -> Result<Option<String>, Error> {
        Ok(self.register.addresses().await?.url)
    }
}
