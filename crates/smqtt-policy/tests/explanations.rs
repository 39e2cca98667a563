//! An explanation names what holds, what suffices, and the least that is missing.

mod generators;

use std::collections::BTreeSet;

use generators::{boolean, holder, holders_of_letters, written};
use proptest::prelude::*;
use smqtt_policy::{AttributeSet, Condition, Explanation, Policy};

fn explain(policy: &str, set: &str) -> Explanation {
    let policy: Policy = policy.parse().expect("parses");
    policy.explain(&set.parse().expect("parses"))
}

fn texts<'a>(conditions: impl IntoIterator<Item = &'a Condition>) -> Vec<String> {
    conditions.into_iter().map(Condition::to_string).collect()
}

fn missing(explanation: &Explanation) -> Vec<Vec<String>> {
    explanation
        .missing()
        .iter()
        .map(|set| texts(set.iter().map(|part| part.condition())))
        .collect()
}

#[test]
fn what_holds_is_named_with_what_makes_it_hold() {
    let explanation = explain(
        "role = doctor and (dept = icu or clearance >= 3)",
        "role = doctor, clearance = 5, dept = er",
    );
    assert!(explanation.is_satisfied());
    assert_eq!(
        explanation.to_string(),
        "satisfied\n  holds    role = doctor\n  holds    clearance >= 3 (by clearance = 5)"
    );
    assert_eq!(
        texts(explanation.sufficient()),
        ["role = doctor", "clearance >= 3"]
    );
    assert!(explanation.missing().is_empty());
}

#[test]
fn the_least_that_suffices_is_named() {
    let explanation = explain("a or (b and c)", "a, b, c");
    assert_eq!(explanation.met().len(), 3);
    assert_eq!(texts(explanation.sufficient()), ["a"]);
    assert_eq!(
        texts(explain("2 of (a, b, c)", "a, b, c").sufficient()).len(),
        2
    );
}

#[test]
fn the_smallest_missing_sets_are_named_with_what_is_held_instead() {
    let explanation = explain(
        "role = doctor and (dept = icu or (on-call and badge))",
        "role = nurse, dept = er",
    );
    assert_eq!(missing(&explanation), [["role = doctor", "dept = icu"]]);
    assert_eq!(
        explanation.to_string(),
        "not satisfied\n  \
         lacks    role = doctor (holds role = nurse) and dept = icu (holds dept = er)"
    );
    let explanation = explain(
        "role = doctor and (dept = icu or (on-call and badge))",
        "role = doctor, badge",
    );
    assert_eq!(missing(&explanation), [["dept = icu"], ["on-call"]]);
    assert_eq!(
        explanation.to_string(),
        "not satisfied\n  holds    role = doctor\n  holds    badge\n  \
         lacks    dept = icu\n  or       on-call"
    );
}

#[test]
fn thresholds_lack_what_is_left_of_them() {
    let found: BTreeSet<Vec<String>> = missing(&explain("3 of (a, b, c, d)", "a"))
        .into_iter()
        .collect();
    let expected: BTreeSet<Vec<String>> = [["b", "c"], ["b", "d"], ["c", "d"]]
        .map(|set| set.map(str::to_owned).to_vec())
        .into();
    assert_eq!(found, expected);
}

#[test]
fn numbers_cannot_take_two_values() {
    let explanation = explain("2 of (n <= 2, n >= 5, a)", "");
    assert_eq!(missing(&explanation), [["a", "n <= 2"], ["a", "n >= 5"]]);
    let explanation = explain("(n <= 2 and (n >= 5 or a)) or (b and c)", "n = 1");
    assert_eq!(missing(&explanation), [["a"]]);
    let explanation = explain("2 of (n >= 3, n >= 5, n >= 9)", "n = 4");
    assert_eq!(missing(&explanation), [["n >= 5"]]);
    let explanation = explain("2 of (n = 1, n = 2, n = 3)", "n = 1");
    assert!(explanation.missing().is_empty());
    assert!(
        explanation
            .to_string()
            .ends_with("\n  nothing that could be added satisfies it")
    );
}

#[test]
fn topics_are_explained() {
    let policy: Policy = "type = temperature and topic matches house/+/t"
        .parse()
        .expect("parses");
    let message: AttributeSet = "type = temperature".parse().expect("parses");
    let message = message.with_topic("house/kitchen/t").expect("a topic");
    let explanation = policy.explain(&message);
    assert_eq!(explanation.met()[1].by(), "topic house/kitchen/t");
    let elsewhere = message.with_topic("garden/t").expect("a topic");
    assert_eq!(
        missing(&policy.explain(&elsewhere)),
        [["topic matches house/+/t"]]
    );
}

#[test]
fn many_alternatives_are_cut_short() {
    let names: Vec<String> = (0..200).map(|i| format!("a{i}")).collect();
    let policy: Policy = format!("100 of ({})", names.join(", "))
        .parse()
        .expect("parses");
    let explanation = policy.explain(&AttributeSet::new());
    assert_eq!(explanation.missing().len(), 8);
    assert!(explanation.missing().iter().all(|set| set.len() == 100));
}

proptest! {
    #[test]
    fn an_explanation_agrees_with_the_evaluation(policy in written(), holder in holder()) {
        if let Ok(policy) = policy.text().parse::<Policy>() {
            let set = holder.set();
            let explanation = policy.explain(&set);
            prop_assert_eq!(explanation.is_satisfied(), policy.evaluate(&set));
            for condition in policy.conditions() {
                let named = explanation.met().iter().any(|met| met.condition() == condition);
                prop_assert_eq!(named, condition.is_met_by(&set));
            }
        }
    }

    /// Adding what is missing satisfies the policy, adding less of it does not, and nothing smaller
    /// does; what suffices, suffices alone.
    #[test]
    fn nothing_less_than_what_is_missing_helps(policy in boolean(), letters in 0..32usize) {
        let policy: Policy = policy.text().parse().expect("a policy of flags can be satisfied");
        let holder = holders_of_letters().nth(letters).expect("32 holders");
        let explanation = policy.explain(&holder.set());
        if explanation.is_satisfied() {
            let alone: AttributeSet = texts(explanation.sufficient()).join(", ").parse().expect("flags");
            prop_assert!(policy.evaluate(&alone));
            return Ok(());
        }
        let least = holders_of_letters()
            .filter(|other| other.flags.is_superset(&holder.flags) && policy.evaluate(&other.set()))
            .map(|other| other.flags.len() - holder.flags.len())
            .min();
        let alternatives = missing(&explanation);
        prop_assert!(!alternatives.is_empty());
        for alternative in alternatives {
            prop_assert_eq!(Some(alternative.len()), least, "{}", policy);
            let mut set = holder.set();
            for flag in &alternative {
                prop_assert!(!policy.evaluate(&set));
                set.insert(flag.parse().expect("a flag")).expect("room for it");
            }
            prop_assert!(policy.evaluate(&set));
        }
    }

    /// The same over numbers and texts: where something is missing, it can be had.
    #[test]
    fn what_is_missing_is_possible(policy in written(), holder in holder()) {
        if let Ok(policy) = policy.text().parse::<Policy>() {
            let explanation = policy.explain(&holder.set());
            for alternative in missing(&explanation) {
                let together = alternative.join(" and ");
                prop_assert!(together.parse::<Policy>().is_ok(), "{}", together);
            }
        }
    }
}
