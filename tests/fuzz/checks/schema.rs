//! Texts read through a schema: no panic, and what passes is what the schema allows.

use std::sync::LazyLock;

use smqtt_policy::{AttributeType, Definition, Scale, Schema};

static SCHEMA: LazyLock<Schema> = LazyLock::new(|| {
    let mut schema = Schema::new();
    let values = |all: &[&str]| Some(all.iter().map(|v| (*v).to_owned()).collect());
    for (name, kind) in [
        (
            "role",
            AttributeType::Text {
                values: values(&["doctor", "nurse", "visitor"]),
                many: false,
            },
        ),
        (
            "dept",
            AttributeType::Text {
                values: values(&["icu", "er"]),
                many: true,
            },
        ),
        (
            "site",
            AttributeType::Text {
                values: None,
                many: false,
            },
        ),
        ("on-call", AttributeType::Flag),
        (
            "level",
            AttributeType::Number {
                scale: Scale::Integer,
                min: Some(0),
                max: Some(7),
            },
        ),
    ] {
        let definition = Definition {
            kind,
            description: None,
        };
        schema.define(name, definition).expect("a definition");
    }
    schema
});

pub fn check(text: &str) {
    if let Ok(policy) = SCHEMA.policy(text) {
        assert_eq!(SCHEMA.check_policy(&policy), Ok(()));
        assert_eq!(SCHEMA.policy(policy.as_str()).as_ref(), Ok(&policy));
    }
    if let Ok(set) = SCHEMA.attribute_set(text) {
        assert_eq!(SCHEMA.check_set(&set), Ok(()));
    }
}
