//! The command line: what was typed, and what becomes of it.

mod admin;
mod args;
mod audit;
mod backup;
mod broker;
mod crl;
mod device;
mod duration;
mod epoch;
mod failure;
mod import;
mod init;
mod keys;
mod log;
mod output;
mod policy;
mod profile;
mod revoke;
mod root;
mod schema;
mod seal;
mod serve;
mod shares;
mod shell;
mod table;

use std::process::ExitCode;

use clap::Parser;

use args::{
    AdminCommand, Args, AuditCommand, BrokerCommand, Command, DeviceCommand, EpochCommand,
    PolicyCommand, ProfileCommand, SchemaCommand, SharesCommand,
};
use failure::Failure;

/// Runs the program.
pub(crate) fn main() -> ExitCode {
    let args = Args::parse();
    log::start(args.log_format);
    let _locked = smqtt_authority::protect_memory();
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
        Command::Seal(command) => seal::run(&dir, command).await,
        Command::Serve(command) => serve::run(&dir, command).await,
        Command::Fingerprint => init::fingerprint(&dir),
        Command::Device(command) => match command {
            DeviceCommand::Add(command) => device::add(&dir, command).await,
            DeviceCommand::List(command) => device::list(&dir, command).await,
            DeviceCommand::Show(command) => device::show(&dir, command).await,
            DeviceCommand::Token(command) => device::token(&dir, command).await,
            DeviceCommand::Import(command) => import::run(&dir, command).await,
            DeviceCommand::Set(command) => device::set(&dir, command).await,
            DeviceCommand::Revoke(command) => revoke::revoke(&dir, command).await,
            DeviceCommand::Suspend(command) => revoke::suspend(&dir, command).await,
            DeviceCommand::Reinstate(command) => revoke::reinstate(&dir, command).await,
            DeviceCommand::Remove(command) => revoke::remove(&dir, command).await,
        },
        Command::Profile(command) => match command {
            ProfileCommand::Set(command) => profile::set(&dir, command).await,
            ProfileCommand::List(command) => profile::list(&dir, command).await,
            ProfileCommand::Remove(command) => profile::remove(&dir, command).await,
        },
        Command::Schema(command) => match command {
            SchemaCommand::Show(command) => schema::show(&dir, command).await,
            SchemaCommand::Edit(command) => schema::edit(&dir, command).await,
            SchemaCommand::Check(command) => schema::check(&dir, command).await,
        },
        Command::Policy(command) => match command {
            PolicyCommand::Who(command) => policy::who(&dir, command).await,
            PolicyCommand::Diff(command) => policy::diff(&dir, command).await,
        },
        Command::Crl(command) => crl::issue(&dir, command).await,
        Command::Epoch(command) => match command {
            EpochCommand::Show(command) => epoch::show(&dir, command).await,
            EpochCommand::Advance(command) => epoch::advance(&dir, command).await,
            EpochCommand::Status(command) => epoch::status(&dir, command).await,
            EpochCommand::Schedule(command) => epoch::schedule(&dir, command).await,
        },
        Command::Admin(command) => match command {
            AdminCommand::Add(command) => admin::add(&dir, command).await,
            AdminCommand::List(command) => admin::list(&dir, command).await,
            AdminCommand::Remove(command) => admin::remove(&dir, command).await,
        },
        Command::Openapi => output::print(smqtt_authority::openapi()),
        Command::Broker(BrokerCommand::Issue(command)) => broker::issue(&dir, command).await,
        Command::Audit(command) => match command {
            AuditCommand::List(command) => audit::list(&dir, command).await,
            AuditCommand::Verify(command) => audit::verify(&dir, command).await,
            AuditCommand::Checkpoint(command) => audit::checkpoint(&dir, command).await,
            AuditCommand::Export(command) => audit::export(&dir, command).await,
        },
        Command::Root(command) => root::run(&dir, command).await,
        Command::Backup(command) => backup::backup(&dir, command).await,
        Command::Restore(command) => backup::restore_from(&dir, command).await,
        Command::Shares(command) => match command {
            SharesCommand::Make(command) => shares::make(&dir, command).await,
            SharesCommand::Check(command) => shares::check(command),
        },
    }
}
