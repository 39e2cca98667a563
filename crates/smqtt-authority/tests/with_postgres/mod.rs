//! Each of these files is a test of its own, too, and then has SQLite below the register.

#[path = "../abuse.rs"]
mod abuse;
#[path = "../api.rs"]
mod api;
#[path = "../audit.rs"]
mod audit;
#[path = "../backup.rs"]
mod backup;
#[path = "../commands.rs"]
mod commands;
#[path = "../companions.rs"]
mod companions;
#[path = "../enrolment.rs"]
mod enrolment;
mod instances;
#[path = "../kill.rs"]
mod kill;
#[path = "../management.rs"]
mod management;
#[path = "../renewal.rs"]
mod renewal;
#[path = "../root.rs"]
mod root;
#[path = "../service.rs"]
mod service;
#[path = "../upgrade.rs"]
mod upgrade;
