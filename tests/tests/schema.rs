//! A policy that nobody can satisfy does not leave the device: the authority's schema comes with the identity.

use std::path::Path;

use smqtt_tests::fleet::{Authority, Fleet, publish};
use smqtt_tests::programs::{Finished, program, run};

const INPUT: i32 = 3;
const UNREACHABLE: i32 = 5;

const SCHEMA: &str = "\
[attributes.role]
type = \"text\"
values = [\"sensor\", \"operator\"]
";

fn set_schema(authority: &Authority, text: &str) {
    let file = authority.root().join("schema.toml");
    std::fs::write(&file, text).expect("a file can be written");
    let file = file.to_str().expect("a path of the test's own");
    let _ = run(&mut authority.command(&["schema", "edit", "--file", file])).success();
}

fn published(identity: &Path, policy: &str, more: &[&str]) -> Finished {
    let mut arguments = vec!["-m", "x"];
    arguments.extend_from_slice(more);
    run(&mut publish(identity, "plant/1", policy, &arguments))
}

fn renew(identity: &Path) {
    let _ = run(program("smqtt").args(["renew", "-i"]).arg(identity)).success();
}

#[test]
fn a_policy_is_checked_against_the_authoritys_schema_before_anything_leaves() {
    let fleet = Fleet::start();
    let unbound = fleet.enrol("early", "role = sensor");
    set_schema(&fleet.authority, SCHEMA);
    let sensor = fleet.enrol("sensor", "role = sensor");
    let _ = published(&sensor, "not role = sensor", &[]).success();

    // Nothing can leave any more: what is refused from here on was refused on the device.
    let _ = fleet.broker.stop().success();
    let misspelt = published(&sensor, "rol = operator", &[]);
    assert_eq!(misspelt.code(), INPUT, "{}", misspelt.stderr);
    assert!(
        misspelt
            .stderr
            .contains("the schema has no attribute `rol`")
            && misspelt.stderr.contains("did you mean `role`?"),
        "{}",
        misspelt.stderr
    );
    let value = published(&sensor, "role = operators", &[]);
    assert_eq!(value.code(), INPUT, "{}", value.stderr);
    let lines = run(&mut publish(&sensor, "plant/1", "rol = operator", &["-l"]));
    assert_eq!(lines.code(), INPUT, "{}", lines.stderr);
    // A device that enrolled before there was a schema knows none until it renews.
    let unknowing = published(&unbound, "rol = operator", &[]);
    assert_eq!(unknowing.code(), UNREACHABLE, "{}", unknowing.stderr);
    renew(&unbound);
    let knowing = published(&unbound, "rol = operator", &[]);
    assert_eq!(knowing.code(), INPUT, "{}", knowing.stderr);

    // What is new at the authority comes with the next renewal, or with a file.
    let wider = format!("{SCHEMA}\n[attributes.shift]\ntype = \"text\"\n");
    set_schema(&fleet.authority, &wider);
    let unknown = published(&sensor, "shift = night", &[]);
    assert_eq!(unknown.code(), INPUT, "{}", unknown.stderr);
    let file = fleet.authority.root().join("schema.toml");
    let file = file.to_str().expect("a path of the test's own");
    let told = published(&sensor, "shift = night", &["--schema", file]);
    assert_eq!(told.code(), UNREACHABLE, "{}", told.stderr);
    renew(&sensor);
    let known = published(&sensor, "shift = night", &[]);
    assert_eq!(known.code(), UNREACHABLE, "{}", known.stderr);
}
