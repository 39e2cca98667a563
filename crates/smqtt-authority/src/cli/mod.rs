//! The command line: what was typed, and what becomes of it.

mod args;
mod audit;
mod broker;
mod crl;
mod device;
mod duration;
mod failure;
mod init;
mod log;
mod output;
mod serve;
mod shell;
mod table;

use std::process::ExitCode;

use clap::Parser;

use args::{Args, AuditCommand, BrokerCommand, Command, DeviceCommand};
use failure::Failure;

/// Runs the program.
pub(crate) fn main() -> ExitCode {
    let args = Args::parse();
    log::start(args.log_format);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(run(args)),
        Err(error) => Err(Failure::unexpected(format!("can not start: {error}"))),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

async fn run(args: Args) -> Result<(), Failure> {
    let dir = args.dir;
    match args.command {
        Command::Init(command) => init::run(&dir, command).await,
        Command::Serve(command) => serve::run(&dir, command).await,
        Command::Fingerprint => init::fingerprint(&dir),
        Command::Device(command) => match command {
            DeviceCommand::Add(command) => device::add(&dir, command).await,
            DeviceCommand::List(command) => device::list(&dir, command).await,
            DeviceCommand::Show(command) => device::show(&dir, command).await,
            DeviceCommand::Token(command) => device::token(&dir, command).await,
            DeviceCommand::Revoke(command) => crl::revoke(&dir, command).await,
        },
        Command::Crl(command) => crl::issue(&dir, command).await,
        Command::Broker(BrokerCommand::Issue(command)) => broker::issue(&dir, command).await,
        Command::Audit(command) => match command {
            AuditCommand::List(command) => audit::list(&dir, command).await,
            AuditCommand::Verify => audit::verify(&dir).await,
        },
    }
}
