//! `smqtt`: enrol and renew a device, publish sealed, subscribe verified.
//!
//! A thin program around `smqtt-client`: options become options of the library, events become lines,
//! errors become one line with the next step and a documented exit code.
#![forbid(unsafe_code)]

mod arguments;
mod bench;
mod completions;
mod connection;
mod console;
mod doctor;
mod enroll;
mod exit;
mod explain;
mod failure;
mod gateway;
mod identity;
mod inspect;
mod interrupt;
mod json;
mod key;
mod options;
mod policy;
mod profile;
mod publish;
mod renew;
mod requests;
mod subscribe;

use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _};

use crate::arguments::{Arguments, Command};
use crate::exit::Exit;
use crate::failure::Failure;

/// Payloads are allocated on one thread and freed on another: with glibc's allocator that takes a sixth of the processor time
/// of a busy `pub`, `sub` or `gateway`, and a gateway would keep what it once needed.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let typed: Vec<_> = std::env::args_os().collect();
    let command = match profile::apply(Arguments::command(), &typed[1.min(typed.len())..]) {
        Ok(command) => command,
        Err(failure) => {
            failure.report();
            return failure.exit().into();
        }
    };
    let mut matches = command.get_matches_from(typed);
    let arguments = match Arguments::from_arg_matches_mut(&mut matches) {
        Ok(arguments) => arguments,
        Err(error) => error.exit(),
    };
    console::log(arguments.log_filter());
    let outcome = match arguments.command {
        Command::Enroll(options) => on_runtime(enroll::run(options)),
        Command::Renew(options) => on_runtime(renew::run(options)),
        Command::Pub(options) => on_runtime(publish::run(*options)),
        Command::Sub(options) => on_runtime(subscribe::run(options)),
        Command::Gateway(options) => on_runtime(gateway::run(options)),
        Command::Policy(command) => policy::run(&command),
        Command::Identity(command) => identity::run(&command),
        Command::Key(command) => key::run(&command),
        Command::Inspect(options) => inspect::run(&options),
        Command::Explain(options) => explain::run(&options),
        Command::Doctor(options) => on_runtime(doctor::run(options)),
        Command::Rr(options) => on_runtime(requests::run(options)),
        Command::Bench(options) => on_runtime(bench::run(options)),
        Command::Completions(options) => {
            Ok(completions::completions(&options, Arguments::command()))
        }
        Command::Man(options) => completions::man(&options, Arguments::command()),
    };
    match outcome {
        Ok(exit) => exit.into(),
        Err(failure) => {
            failure.report();
            failure.exit().into()
        }
    }
}

/// Runs a command that talks to the network. Two workers: one for the connection, one for the
/// command, which may block on its standard streams.
fn on_runtime(command: impl Future<Output = Result<Exit, Failure>>) -> Result<Exit, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::unexpected(format!("cannot start: {error}")))?;
    let outcome = runtime.block_on(command);
    // A thread that still waits for standard input must not keep the program alive.
    runtime.shutdown_background();
    outcome
}
