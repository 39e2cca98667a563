//! What `smqtt completions` prints, in the shells that it is for: each loads it from where its help says, and completes a command
//! and an option.

use std::fs;
use std::path::Path;
use std::process::Command;

use smqtt_tests::programs::{directory, program, run};
use tempfile::TempDir;

/// A home with the completions of `shell` at `path`.
fn home(shell: &str, path: &str) -> TempDir {
    let home = tempfile::tempdir().expect("a temporary directory");
    let printed = run(program("smqtt").args(["completions", shell])).success();
    let file = home.path().join(path);
    fs::create_dir_all(file.parent().expect("it has one")).expect("made");
    fs::write(file, printed.stdout).expect("written");
    home
}

/// `shell` with `arguments` in `home`, with the built program on its path; what it prints.
fn says(shell: &str, arguments: &[&str], home: &Path) -> String {
    let path = std::env::var("PATH").expect("a path");
    let mut command = Command::new(shell);
    command
        .args(arguments)
        .current_dir(home)
        .env("HOME", home)
        .env("XDG_CONFIG_HOME", home.join("config"))
        .env("XDG_DATA_HOME", home.join("data"))
        .env("PATH", format!("{}:{path}", directory().display()))
        .env("TERM", "dumb");
    let finished = run(&mut command).success();
    assert_eq!(finished.stderr, "", "{shell} complains");
    finished.text()
}

#[test]
fn commands_and_options_complete_in_bash() {
    let home = home("bash", "data/smqtt");
    let script = r#"
        source data/smqtt || exit 1
        # complete -o … -F FUNCTION smqtt
        registered=$(complete -p smqtt) && function=${registered##*-F } && function=${function% smqtt} || exit 1
        try() { # WORD...: completes the last one, as readline asks
          COMP_WORDS=(smqtt "$@") COMP_CWORD=$# COMP_LINE="smqtt $*" COMP_POINT=${#COMP_LINE} COMPREPLY=()
          "$function" smqtt "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
          echo "$*: ${COMPREPLY[*]}"
        }
        try pu
        try pub --rekey-m
        try sub --out
        try policy exp
        try completions z
    "#;
    let said = says(
        "bash",
        &["--norc", "--noprofile", "-c", script],
        home.path(),
    );
    let expected = "pu: pub publish\npub --rekey-m: --rekey-messages\nsub --out: --out-dir\npolicy exp: explain\ncompletions z: zsh\n";
    assert_eq!(said, expected);
}

#[test]
fn commands_and_options_complete_with_fish() {
    let home = home("fish", "config/fish/completions/smqtt.fish");
    let script = "for line in 'smqtt pu' 'smqtt pub --rekey-m' 'smqtt sub --out' 'smqtt policy exp'
            echo $line:
            complete -C $line | string replace --regex '\\t.*' ''
        end";
    let said = says("fish", &["-c", script], home.path());
    let expected = "smqtt pu:\npub\npublish\nsmqtt pub --rekey-m:\n--rekey-messages\nsmqtt sub --out:\n--out-dir\nsmqtt policy exp:\nexplain\n";
    assert_eq!(said, expected);
}

/// In a shell that somebody types into: a terminal, the tabulator key, and Enter.
#[test]
fn commands_and_options_complete_with_zsh() {
    let home = home("zsh", ".zfunc/_smqtt");
    let script = r#"
        zmodload zsh/zpty && zpty shell zsh -f -i || exit 1
        # Until the shell has printed that. What is typed is echoed, and is written so that it does not match.
        await() { zpty -r -m shell REPLY "*$1*" || { print -u2 "no $1"; exit 1 } }
        zpty -w shell 'fpath=(~/.zfunc $fpath); autoload -U compinit && compinit -u && print loa""ded $_comps[smqtt]'
        await 'loaded _smqtt'
        # Instead of the program.
        zpty -w shell 'smqtt() { print -r -- "typed:" "$@" }; print defi""ned'
        await defined
        for line in 'completi' 'pub --rekey-m' 'sub --out' 'policy exp' 'completions z'; do
          zpty -w -n shell "smqtt $line"$'\t\n'
          zpty -r -m shell REPLY '*typed: *'$'\n*'
          print -r -- "$line: ${${${REPLY##*typed: }%%[[:cntrl:]]*}% }"
        done
        zpty -d shell
    "#;
    let said = says("zsh", &["-f", "-c", script], home.path());
    let expected = "completi: completions\npub --rekey-m: pub --rekey-messages\nsub --out: sub --out-dir\npolicy exp: policy explain\ncompletions z: completions zsh\n";
    assert_eq!(said, expected);
}
