//! The `smqtt-authority` program: set an authority up, serve it, register devices.
#![forbid(unsafe_code)]

mod cli;

fn main() -> std::process::ExitCode {
    cli::main()
}
