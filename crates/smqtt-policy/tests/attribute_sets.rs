//! Attribute sets state little, expand to what keys carry, and read back as they were written.

mod generators;

use generators::holder;
use proptest::prelude::*;
use smqtt_policy::{Attribute, AttributeSet, Epoch, Error};

fn set(text: &str) -> AttributeSet {
    text.parse()
        .unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn the_text_is_unified_and_sorted() {
    for (written, expected) in [
        ("", ""),
        ("  ", ""),
        ("role=doctor,dept=icu", "dept = icu, role = doctor"),
        ("role = doctor, role = doctor", "role = doctor"),
        ("role = nurse, role = doctor", "role = doctor, role = nurse"),
        (
            "a, a = b, a = 3, a = 2025-01-01",
            "a, a = b, a = 3, a = 2025-01-01",
        ),
        (
            "\"first name\" = \"Ada \\\"L\\\"\"",
            "\"first name\" = \"Ada \\\"L\\\"\"",
        ),
        ("badge = 007, level = -3", "badge = 007, level = -3"),
    ] {
        assert_eq!(set(written).to_string(), expected, "{written}");
    }
}

#[test]
fn attributes_come_sorted_and_once() {
    let set = set("role = doctor, clearance = 5, on-call").with_epoch(Epoch::new(7));
    let all: Vec<&Attribute> = set.iter().collect();
    assert!(all.windows(2).all(|pair| pair[0] < pair[1]));
    assert_eq!(all.len(), set.len());
    assert_eq!(set.len(), 1 + 10 + 1 + 1);
    assert_eq!(set.stated().count(), 3);
    assert!(all.iter().all(|attribute| set.contains(attribute)));
    assert_eq!((&set).into_iter().count(), set.len());
}

#[test]
fn the_epoch_is_set_replaced_and_removed() {
    let plain = set("role = doctor");
    let seven = plain.with_epoch(Epoch::new(7));
    let eight = seven.with_epoch(Epoch::new(8));
    assert_eq!(eight.epoch(), Some(Epoch::new(8)));
    assert!(eight.contains(&Attribute::epoch(Epoch::new(8))));
    assert!(!eight.contains(&Attribute::epoch(Epoch::new(7))));
    assert_eq!(eight.without_epoch(), plain);
    assert_eq!(eight.to_string(), "role = doctor (epoch 8)");
    assert!(eight.to_string().parse::<AttributeSet>().is_err());
    assert_eq!(
        AttributeSet::new().with_epoch(Epoch::new(1)).to_string(),
        "(epoch 1)"
    );
}

#[test]
fn the_topic_is_set_replaced_and_removed() {
    let plain = set("type = temperature");
    let kitchen = plain.with_topic("house/kitchen").expect("a topic");
    let garden = kitchen.with_topic("garden").expect("a topic");
    assert_eq!(garden.topic(), Some("garden"));
    assert_eq!(garden.len(), 1 + 3);
    assert_eq!(garden.without_topic(), plain);
    assert_eq!(
        kitchen.to_string(),
        "type = temperature (topic house/kitchen)"
    );
    let both = garden.with_epoch(Epoch::new(2));
    assert_eq!(
        both.to_string(),
        "type = temperature (topic garden, epoch 2)"
    );
    assert_eq!(both.without_epoch(), garden);
}

#[test]
fn derived_attributes_cannot_be_stated() {
    let number = set("n = 5");
    let topic = AttributeSet::new().with_topic("a/b").expect("a topic");
    let epoch = AttributeSet::new().with_epoch(Epoch::new(1));
    let derived = number
        .iter()
        .chain(topic.iter())
        .chain(epoch.iter())
        .filter(|a| !a.is_stated());
    let mut count = 0;
    for attribute in derived {
        assert!(matches!(
            AttributeSet::new().insert(attribute.clone()),
            Err(Error::Derived { .. })
        ));
        count += 1;
    }
    assert_eq!(count, 9 + 4 + 1);
}

#[test]
fn inserting_tells_what_was_new() {
    let mut set = AttributeSet::new();
    assert!(set.is_empty());
    assert_eq!(set.insert(Attribute::flag("a").expect("a name")), Ok(true));
    assert_eq!(set.insert(Attribute::flag("a").expect("a name")), Ok(false));
    assert_eq!(set.len(), 1);
}

proptest! {
    #[test]
    fn sets_read_back_from_their_text(holder in holder()) {
        let set = holder.set().without_topic();
        prop_assert_eq!(set.to_string().parse::<AttributeSet>(), Ok(set));
    }

    #[test]
    fn order_and_repetition_do_not_matter(holder in holder(), turn in any::<prop::sample::Index>()) {
        let set = holder.set().without_topic();
        let mut stated: Vec<Attribute> = set.stated().cloned().collect();
        if !stated.is_empty() {
            let turn = turn.index(stated.len());
            stated.rotate_left(turn);
            stated.push(stated[0].clone());
        }
        let mut again = AttributeSet::new();
        for attribute in stated {
            again.insert(attribute).expect("they were together before");
        }
        prop_assert_eq!(again, set);
    }
}
