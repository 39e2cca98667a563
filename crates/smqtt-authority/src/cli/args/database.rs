//! Where a new register is.

#[derive(clap::Args)]
pub(crate) struct DatabaseOption {
    /// The URL of an empty PostgreSQL database for the register, in place of a file in the directory, so that several instances
    /// can share it: postgres://USER:PASSWORD@HOST/NAME?sslmode=verify-full. It is kept in the directory, mode 0600.
    #[arg(
        long,
        env = "SMQTT_DATABASE",
        hide_env_values = true,
        value_name = "URL"
    )]
    pub(crate) database: Option<String>,
}
