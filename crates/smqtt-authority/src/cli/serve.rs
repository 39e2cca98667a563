//! `serve`.

use std::num::NonZeroU32;
use std::path::Path;

use smqtt_authority::{Actor, Authority, Directory, Issuer, ServeOptions};

use super::args::Serve;
use super::crl::remember;
use super::failure::Failure;

pub(crate) async fn run(dir: &Path, command: Serve) -> Result<(), Failure> {
    let stop = stop_signal()?;
    let directory = Directory::open(dir)?;
    let keeper = command.keys.keeper(&directory)?;
    let unsealed = keeper.is_none();
    let issuer = Issuer::load(Authority::open(directory).await?, keeper.as_deref())?
        .certifying(&command.certify)
        .device_lifetime(command.device_lifetime);
    if let Some(file) = &command.crl_out {
        remember(issuer.authority(), file, None, &Actor::service()).await?;
    }
    let fingerprint = issuer.authority().directory().fingerprint();
    let options = ServeOptions {
        listen: command.listen,
        hosts: command.hosts,
        url: command.url,
        brokers: command.brokers,
        requests_per_second: NonZeroU32::new(command.requests_per_second),
        admin_socket: command.admin_socket,
        admin_socket_group: command.admin_socket_group,
    };
    drop(keeper);
    smqtt_authority::serve(issuer, options, stop, |serving| {
        eprintln!("listening on https://{}", serving.address);
        if unsealed {
            tracing::warn!("the secret keys lie unsealed on the disk: see `smqtt-authority seal`");
        }
        tracing::info!(url = serving.url, ca = %fingerprint, "serving enrolment");
    })
    .await?;
    Ok(())
}

/// Completes at SIGTERM or SIGINT.
fn stop_signal() -> Result<impl Future<Output = ()> + Send + 'static, Failure> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let listen = |kind| {
            signal(kind).map_err(|e| Failure::unexpected(format!("can not wait for signals: {e}")))
        };
        let (mut terminate, mut interrupt) = (
            listen(SignalKind::terminate())?,
            listen(SignalKind::interrupt())?,
        );
        Ok(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        })
    }
    #[cfg(not(unix))]
    Ok(async {
        let _ = tokio::signal::ctrl_c().await;
    })
}
