//! `smqtt-broker store`: the store of a broker that is not running.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::data_dir::DataDir;
use crate::store::tools;
use crate::{Cli, Error};

/// Looks after the store of a broker that is not running
#[derive(Debug, Clone, Subcommand)]
pub enum StoreCommand {
    /// Read everything as a start does, and say whether it is whole; an unfinished commit at the end
    /// is cut off
    Check(Where),
    /// Give up what is damaged so that the broker starts again, and say what that was; damaged journals
    /// are kept beside the store
    Repair(Where),
    /// Print sessions, queued and retained messages as JSON, one object a line, payloads in hexadecimal
    Export(Where),
}

/// Which store.
#[derive(Debug, Clone, Args)]
pub struct Where {
    /// The broker's data directory
    #[arg(long, value_name = "DIR", env = "SMQTT_BROKER_DATA_DIR")]
    data_dir: Option<PathBuf>,
    /// The broker's configuration, where data_dir is looked up
    #[arg(long, value_name = "FILE", env = "SMQTT_BROKER_CONFIG")]
    config: Option<PathBuf>,
}

impl Where {
    fn data_dir(&self) -> Result<PathBuf, Error> {
        if let Some(directory) = &self.data_dir {
            return Ok(directory.clone());
        }
        let cli = Cli {
            config: self.config.clone(),
            ..Cli::default()
        };
        let config = match self.config {
            Some(_) => cli.configuration()?,
            None => crate::Config::default(),
        };
        config
            .data_dir
            .ok_or_else(|| Error::Config("no data directory: give --data-dir DIR".to_owned()))
    }
}

impl StoreCommand {
    pub(super) fn run(&self) -> Result<ExitCode, Error> {
        let (StoreCommand::Check(place)
        | StoreCommand::Repair(place)
        | StoreCommand::Export(place)) = self;
        let data_dir = place.data_dir()?;
        if !data_dir.join("store").exists() {
            return Err(Error::DataDir {
                path: data_dir,
                reason: "there is no store in it".to_owned(),
            });
        }
        // Nobody else may change it meanwhile.
        let _lock = DataDir::open(&data_dir)?;
        let print = &mut |line: String| println!("{line}");
        match self {
            StoreCommand::Check(_) => tools::check(&data_dir, print)?,
            StoreCommand::Repair(_) => tools::repair(&data_dir, print)?,
            StoreCommand::Export(_) => tools::export(&data_dir, print)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}
