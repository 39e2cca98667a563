//! The smqtt-broker daemon.

use std::process::ExitCode;

use clap::Parser;
use smqtt_broker::{Broker, Cli, Error, Reloader, logging, systemd};
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Gives memory back to the system after a crowd of clients has gone; glibc's allocator keeps it for good.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match &cli.command {
        Some(command) => command.run(),
        None => run(&cli).map(|()| ExitCode::SUCCESS),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("smqtt-broker: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

fn run(cli: &Cli) -> Result<(), Error> {
    let config = cli.configuration()?;
    let level = logging::init(&config.log)?;
    if cli.check_config {
        Broker::check(&config)?;
        println!("configuration is valid");
        return Ok(());
    }
    raise_open_files();
    let system = |what| move |source| Error::System { what, source };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(system("the main runtime"))?;
    let _context = runtime.enter();
    // Before the listeners, so that a signal which comes right after "listening" is not lost.
    let mut terminate = signal(SignalKind::terminate()).map_err(system("the SIGTERM handler"))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(system("the SIGINT handler"))?;
    let mut hangup = signal(SignalKind::hangup()).map_err(system("the SIGHUP handler"))?;
    let mut reloader = Reloader::new(cli.clone(), &config, level);
    let mut drain = signal(SignalKind::user_defined1()).map_err(system("the SIGUSR1 handler"))?;
    let workers = config.worker_count();
    let broker = Broker::start(config)?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        workers,
        config = cli.config.as_deref().map(|path| path.display().to_string()),
        "started"
    );
    for url in broker.urls() {
        eprintln!("listening on {url}");
    }
    if let Some(address) = broker.admin() {
        eprintln!("admin on http://{address}");
    }
    let mut watchdog = systemd::Watchdog::from_env();
    systemd::ready("serving");
    runtime.block_on(async {
        loop {
            let cause = tokio::select! {
                _ = terminate.recv() => return tracing::info!("stopping on SIGTERM"),
                _ = interrupt.recv() => return tracing::info!("stopping on SIGINT"),
                () = broker.worker_ended() => return,
                () = broker.drained() => return,
                _ = drain.recv() => {
                    systemd::status("draining");
                    broker.drain();
                    continue;
                }
                () = watchdog.due() => {
                    if broker.is_alive() {
                        watchdog.alive();
                    }
                    continue;
                }
                _ = hangup.recv() => "SIGHUP",
                () = reloader.changed() => "a file has changed",
            };
            systemd::reloading();
            reloader.reload(&broker, cause);
            systemd::ready("serving");
        }
    });
    systemd::stopping();
    stop(&runtime, broker, [terminate, interrupt])
}

/// Stops, at once when another signal comes.
fn stop(runtime: &Runtime, broker: Broker, signals: [Signal; 2]) -> Result<(), Error> {
    let halt = broker.halt();
    let [mut terminate, mut interrupt] = signals;
    let stopped = runtime.block_on(async {
        let mut stopping = tokio::task::spawn_blocking(move || broker.stop());
        loop {
            tokio::select! {
                stopped = &mut stopping => return stopped,
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            tracing::warn!("another signal: stopping at once");
            halt.now();
        }
    });
    stopped.map_err(|error| Error::System {
        what: "the stop",
        source: std::io::Error::other(error),
    })?
}

/// A connection is a file descriptor: uses all that the system lets this process have.
fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::debug!(%error, "cannot raise the limit of open files");
    }
}
