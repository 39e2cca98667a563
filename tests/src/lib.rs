//! End-to-end suites that start the real programs.
//!
//! The suites themselves are in `tests/`, one file a subject. This library is what they stand on:
//!
//! - [`programs`]: find the built programs, start them, wait for what they say, stop them by process id;
//! - [`fleet`]: an authority, a broker and enrolled devices in a directory that vanishes;
//! - [`guarded`]: a broker that believes revocation lists;
//! - [`mosquitto`]: the stock broker and its clients;
//! - [`gate`]: a way to a broker that can be shut;
//! - [`relay`]: a hostile broker operator between a broker and its clients;
//! - [`trace`]: the system calls of a program;
//! - [`walk`]: pages whose commands are run as they stand.
//!
//! Every service listens on a port of 127.0.0.1 that the system chose, and is stopped when its handle is dropped.
#![forbid(unsafe_code)]

pub mod fleet;
pub mod gate;
pub mod gateway;
pub mod guarded;
mod listening;
pub mod mosquitto;
pub mod programs;
pub mod relay;
pub mod trace;
pub mod walk;
