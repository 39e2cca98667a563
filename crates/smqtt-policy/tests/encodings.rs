//! Canonical bytes: one encoding for one thing, readable again, no prefix of another, frozen.

mod generators;

use generators::{filter, holder, number, scale, topic, written};
use proptest::prelude::*;
use smqtt_policy::{Attribute, AttributeSet, Epoch, Error, Formula, Policy, Scale, limits};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Attributes of every kind, derived ones included, with names that provoke collisions.
fn attribute() -> impl Strategy<Value = Attribute> {
    let name = prop_oneof!["[a-c]{1,3}", "[a-c]\\PC{0,3}[a-c]"];
    let stated = (name.clone(), name.clone(), 0..3u8, scale(), number()).prop_filter_map(
        "a valid attribute",
        |(name, value, kind, scale, number)| match kind {
            0 => Attribute::flag(&name).ok(),
            1 => Attribute::value(&name, &value).ok(),
            _ => Attribute::number(&name, scale, number).ok(),
        },
    );
    let derived = (name, scale(), number(), any::<prop::sample::Index>()).prop_filter_map(
        "a valid number",
        |(name, scale, number, index)| {
            let mut set = AttributeSet::new();
            set.insert(Attribute::number(&name, scale, number).ok()?)
                .ok()?;
            set.iter().nth(index.index(set.len())).cloned()
        },
    );
    let of_topic = (topic(), any::<prop::sample::Index>()).prop_map(|(topic, index)| {
        let set = AttributeSet::new().with_topic(&topic).expect("a topic");
        set.iter()
            .nth(index.index(set.len()))
            .cloned()
            .expect("an attribute")
    });
    let epoch = any::<u64>().prop_map(|epoch| Attribute::epoch(Epoch::new(epoch)));
    prop_oneof![stated, derived, of_topic, epoch]
}

fn set() -> impl Strategy<Value = AttributeSet> {
    (holder(), prop::option::of(any::<u64>())).prop_map(|(holder, epoch)| match epoch {
        Some(epoch) => holder.set().with_epoch(Epoch::new(epoch)),
        None => holder.set(),
    })
}

fn formula() -> impl Strategy<Value = Formula> {
    attribute()
        .prop_map(Formula::Attribute)
        .prop_recursive(4, 24, 4, |inner| {
            (
                prop::collection::vec(inner, 1..5),
                any::<prop::sample::Index>(),
            )
                .prop_map(|(of, k)| Formula::Threshold {
                    k: k.index(of.len()) + 1,
                    of,
                })
        })
}

fn is_prefix_free(a: &[u8], b: &[u8]) -> bool {
    a == b || !(a.starts_with(b) || b.starts_with(a))
}

proptest! {
    #[test]
    fn attributes_are_read_back(attribute in attribute()) {
        prop_assert_eq!(Attribute::decode(&attribute.encode()), Ok(attribute));
    }

    #[test]
    fn different_attributes_have_encodings_of_which_none_begins_another(
        a in attribute(), b in attribute(),
    ) {
        prop_assert_eq!(a == b, a.encode() == b.encode());
        prop_assert_eq!(a == b, a.cmp(&b).is_eq());
        prop_assert!(is_prefix_free(&a.encode(), &b.encode()));
    }

    #[test]
    fn sets_are_read_back(set in set()) {
        prop_assert_eq!(AttributeSet::decode(&set.encode()), Ok(set));
    }

    #[test]
    fn different_sets_have_encodings_of_which_none_begins_another(a in set(), b in set()) {
        prop_assert_eq!(a == b, a.encode() == b.encode());
        prop_assert!(is_prefix_free(&a.encode(), &b.encode()));
    }

    #[test]
    fn formulas_are_read_back(formula in formula()) {
        prop_assert_eq!(Formula::decode(&formula.encode()), Ok(formula));
    }

    #[test]
    fn formulas_of_policies_are_read_back(policy in written(), epoch in any::<u64>()) {
        if let Ok(policy) = policy.text().parse::<Policy>() {
            let formula = policy.at_epoch(Epoch::new(epoch));
            prop_assert_eq!(Formula::decode(&formula.encode()), Ok(formula));
        }
    }

    #[test]
    fn different_formulas_have_encodings_of_which_none_begins_another(
        a in formula(), b in formula(),
    ) {
        prop_assert_eq!(a == b, a.encode() == b.encode());
        prop_assert!(is_prefix_free(&a.encode(), &b.encode()));
    }

    /// What decodes is what was encoded: there is no second spelling of anything.
    #[test]
    fn a_changed_byte_is_refused_or_means_something_else(
        attribute in attribute(), set in set(), formula in formula(),
        at in any::<prop::sample::Index>(), bit in 0..8u8,
    ) {
        let flip = |mut bytes: Vec<u8>| {
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            bytes
        };
        let bytes = flip(attribute.encode());
        if let Ok(other) = Attribute::decode(&bytes) {
            prop_assert_eq!(other.encode(), bytes);
            prop_assert_ne!(other, attribute);
        }
        let bytes = flip(set.encode());
        if let Ok(other) = AttributeSet::decode(&bytes) {
            prop_assert_eq!(other.encode(), bytes);
            prop_assert_ne!(other, set);
        }
        let bytes = flip(formula.encode());
        if let Ok(other) = Formula::decode(&bytes) {
            prop_assert_eq!(other.encode(), bytes);
            prop_assert_ne!(other, formula);
        }
    }

    #[test]
    fn arbitrary_bytes_are_refused_or_canonical(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        if let Ok(attribute) = Attribute::decode(&bytes) {
            prop_assert_eq!(attribute.encode(), bytes.clone());
        }
        if let Ok(set) = AttributeSet::decode(&bytes) {
            prop_assert_eq!(set.encode(), bytes.clone());
        }
        if let Ok(formula) = Formula::decode(&bytes) {
            prop_assert_eq!(formula.encode(), bytes);
        }
    }

    #[test]
    fn cut_and_extended_encodings_are_refused(set in set(), formula in formula()) {
        for (whole, read) in [
            (set.encode(), (|bytes| AttributeSet::decode(bytes).err()) as fn(&[u8]) -> Option<Error>),
            (formula.encode(), |bytes| Formula::decode(bytes).err()),
        ] {
            for end in 0..whole.len() {
                prop_assert_eq!(read(&whole[..end]), Some(Error::Truncated));
            }
            let mut longer = whole;
            longer.push(0);
            prop_assert_eq!(read(&longer), Some(Error::TrailingBytes { bytes: 1 }));
        }
    }

    #[test]
    fn no_text_reaches_a_reserved_kind(text in "\\PC{0,40}", filter in filter()) {
        let reserved = |attribute: &Attribute| attribute.as_epoch().is_some();
        if let Ok(attribute) = text.parse::<Attribute>() {
            prop_assert!(attribute.is_stated());
            prop_assert!(attribute.encode()[0] <= 0x03);
        }
        for text in [text, format!("topic matches \"{filter}\"")] {
            if let Ok(policy) = text.parse::<Policy>() {
                prop_assert!(!policy.formula().leaves().any(reserved));
            }
        }
    }
}

/// These bytes are hashed to the curve: they never change.
#[test]
fn attribute_encodings_are_frozen() -> Result<(), Error> {
    let number = |scale, number| Attribute::number("n", scale, number);
    for (attribute, expected) in [
        (Attribute::flag("on-call")?, "0100076f6e2d63616c6c"),
        (
            Attribute::value("dept", "icu")?,
            "02000464657074 0003696375",
        ),
        (
            Attribute::value("stadt", "Ko\u{308}ln")?,
            "0200057374616474 00054bc3b66c6e",
        ),
        (Attribute::value("n", "3")?, "0200016e 000133"),
        (
            Attribute::integer("n", 3)?,
            "0300016e 00 0000000000000003 0000000000000003",
        ),
        (
            Attribute::integer("n", -1)?,
            "0300016e 00 ffffffffffffffff ffffffffffffffff",
        ),
        (
            "n = 2025-01-31".parse()?,
            "0300016e 01 0000000000004e97 0000000000004e97",
        ),
        (
            number(Scale::TimeOfDay, 60)?,
            "0300016e 02 000000000000003c 000000000000003c",
        ),
        (
            number(Scale::Instant, 1)?,
            "0300016e 03 0000000000000001 0000000000000001",
        ),
        (Attribute::epoch(Epoch::new(7)), "04 0000000000000007"),
    ] {
        assert_eq!(
            hex(&attribute.encode()),
            expected.replace(' ', ""),
            "{attribute}"
        );
    }
    let topic = AttributeSet::new().with_topic("a//$b")?;
    let encodings: Vec<String> = topic
        .iter()
        .map(|attribute| hex(&attribute.encode()))
        .collect();
    assert_eq!(
        encodings,
        [
            "0500000161",
            "05010000",
            "05020002 2462".replace(' ', "").as_str(),
            "0603",
            "07"
        ]
    );
    let hidden = AttributeSet::new().with_topic("$SYS")?;
    let encodings: Vec<String> = hidden
        .iter()
        .map(|attribute| hex(&attribute.encode()))
        .collect();
    assert_eq!(
        encodings,
        ["05000004 24535953".replace(' ', "").as_str(), "0601"]
    );
    Ok(())
}

#[test]
fn set_encodings_are_frozen() -> Result<(), Error> {
    let set: AttributeSet = "role = doctor, n = 2, on-call".parse()?;
    let stated = "0300016e 00 0000000000000002 0000000000000002 0100076f6e2d63616c6c \
                  020004726f6c65 0006646f63746f72";
    let frozen = |count: &str, rest: &str| format!("{count}{stated}{rest}").replace(' ', "");
    assert_eq!(hex(&set.encode()), frozen("0003", ""));
    let at = set.with_epoch(Epoch::new(7));
    assert_eq!(hex(&at.encode()), frozen("0004", "04 0000000000000007"));
    let message = at.with_topic("a/b")?;
    assert_eq!(
        hex(&message.encode()),
        frozen("0005", "08 0003 612f62 04 0000000000000007")
    );
    assert_eq!(hex(&AttributeSet::new().encode()), "0000");
    Ok(())
}

#[test]
fn formula_encodings_are_frozen() -> Result<(), Error> {
    let policy: Policy = "a and 2 of (b, c, n >= 4)".parse()?;
    // From 4 up: 4..7, 8..127, 128..32767, 2^15..2^31-1, 2^31..2^63-1.
    let open_end = [
        ("0000000000000004", "0000000000000007"),
        ("0000000000000008", "000000000000007f"),
        ("0000000000000080", "0000000000007fff"),
        ("0000000000008000", "000000007fffffff"),
        ("0000000080000000", "7fffffffffffffff"),
    ];
    let range: String = open_end
        .iter()
        .map(|(lo, hi)| format!("0300016e00{lo}{hi}"))
        .collect();
    let expected = format!(
        "10 00000003 00000003 01000161 \
         10 00000002 00000003 01000162 01000163 10 00000001 00000005 {range} \
         04 0000000000000009"
    );
    assert_eq!(
        hex(&policy.at_epoch(Epoch::new(9)).encode()),
        expected.replace(' ', "")
    );
    Ok(())
}

#[test]
fn encodings_that_we_would_not_write_are_refused() {
    let bytes = |text: &str| -> Vec<u8> {
        let text = text.replace(' ', "");
        (0..text.len())
            .step_by(2)
            .map(|i| u8::from_str_radix(&text[i..i + 2], 16).expect("hex"))
            .collect()
    };
    for (what, encoding) in [
        ("empty", ""),
        ("kind 0", "00"),
        ("kind 8 is for sets", "08000161"),
        ("kind 0x10 is for formulas", "10000000010000000101000161"),
        ("empty name", "010000"),
        ("not UTF-8", "010001ff"),
        ("overlong UTF-8", "010002c080"),
        ("surrogate", "010003eda080"),
        ("not NFC", "0100034fcc88"),
        ("edge space", "010002 2061"),
        ("invisible", "010004 61e2808b"),
        ("scale 4", "0300016e 04 0000000000000003 0000000000000003"),
        ("backwards", "0300016e 00 0000000000000004 0000000000000003"),
        (
            "no interval of the family",
            "0300016e 00 0000000000000003 0000000000000004",
        ),
        ("topic level 32", "0520000161"),
        (
            "level with a slash",
            "0500000161".replace("61", "2f").as_str(),
        ),
        ("level with a wildcard", "050000012b"),
        ("depth 0", "0600"),
        ("depth 33", "0621"),
    ] {
        assert!(Attribute::decode(&bytes(encoding)).is_err(), "{what}");
    }
    for (what, encoding) in [
        ("repeated", "0002 01000161 01000161"),
        ("out of order", "0002 01000162 01000161"),
        (
            "derived interval",
            "0001 0300016e 00 0000000000000004 0000000000000007",
        ),
        ("derived topic level", "0001 0500000161"),
        (
            "two numbers",
            "0002 0300016e 00 0000000000000001 0000000000000001 \
                         0300016e 00 0000000000000002 0000000000000002",
        ),
        (
            "a date beyond the calendar",
            "0001 0300016e 01 7000000000000000 7000000000000000",
        ),
        ("epoch before attribute", "0002 040000000000000007 01000161"),
        ("two epochs", "0002 040000000000000007 040000000000000008"),
        ("two topics", "0002 08000161 08000162"),
        ("topic after epoch", "0002 040000000000000007 08000161"),
        ("topic with a wildcard", "0001 080001 2b"),
        ("a count beyond the limit", "ffff"),
    ] {
        assert!(AttributeSet::decode(&bytes(encoding)).is_err(), "{what}");
    }
    for (what, encoding) in [
        ("no children", "10 00000000 00000000"),
        ("threshold 0", "10 00000000 00000001 01000161"),
        (
            "threshold above the children",
            "10 00000002 00000001 01000161",
        ),
        ("more children than rows", "10 00000001 ffffffff"),
        ("a whole topic", "08000161"),
    ] {
        assert!(Formula::decode(&bytes(encoding)).is_err(), "{what}");
    }
}

#[test]
fn nesting_and_size_are_bounded_before_anything_is_built() {
    let deep = [[0x10, 0, 0, 0, 1, 0, 0, 0, 1].as_slice(); 10_000].concat();
    assert_eq!(
        Formula::decode(&deep),
        Err(Error::TooDeep {
            limit: limits::MAX_FORMULA_DEPTH
        })
    );

    let leaf = Attribute::flag("a").expect("a name").encode();
    let mut wide = vec![0x10, 0, 0, 0, 1, 0, 0, 2, 1];
    wide.extend(leaf.repeat(513));
    assert_eq!(
        Formula::decode(&wide),
        Err(Error::TooManyRows {
            rows: 513,
            limit: limits::MAX_ROWS
        })
    );

    let mut frequent = vec![0x10, 0, 0, 0, 1, 0, 0, 0, 65];
    frequent.extend(leaf.repeat(65));
    assert!(matches!(
        Formula::decode(&frequent),
        Err(Error::TooManyOccurrences {
            occurrences: 65,
            ..
        })
    ));

    let long = vec![0; limits::MAX_SET_BYTES + 1];
    assert!(matches!(
        AttributeSet::decode(&long),
        Err(Error::EncodingTooLong { .. })
    ));
    assert!(matches!(
        Attribute::decode(&long),
        Err(Error::EncodingTooLong { .. })
    ));
    assert!(matches!(
        Formula::decode(&long),
        Err(Error::EncodingTooLong { .. })
    ));
}
