//! What the program prints, to the letter: help, and errors that need no network.
//!
//! `TRYCMD=overwrite cargo test -p smqtt-cli --test golden` writes what is printed now into the files;
//! read the difference before you keep it.

#[test]
fn help_and_errors_are_as_recorded() {
    let cases = trycmd::TestCases::new();
    for variable in [
        "SMQTT_IDENTITY",
        "SMQTT_BROKER",
        "SMQTT_POLICY",
        "SMQTT_TAGS",
        "SMQTT_AUTHORITY",
        "SMQTT_CA_FINGERPRINT",
        "SMQTT_TOKEN",
        "SMQTT_MQTT",
        "SMQTT_LOG",
        "SMQTT_PROFILE",
    ] {
        // An empty variable would count as given.
        assert!(std::env::var_os(variable).is_none(), "{variable} is set");
    }
    cases
        .env("COLUMNS", "100")
        .env("XDG_CONFIG_HOME", "/nonexistent")
        .case("tests/cmd/*.trycmd");
}
