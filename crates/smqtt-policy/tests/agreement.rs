//! What evaluates to true is what opens: text, policy and formula agree on every holder.

mod generators;

use generators::{boolean, holder, holders_of_letters, written};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use smqtt_policy::{Attribute, Epoch, Formula, Policy};

proptest! {
    #[test]
    fn the_policy_means_what_its_text_says(policy in written(), holder in holder()) {
        if let Ok(parsed) = policy.text().parse::<Policy>() {
            prop_assert_eq!(parsed.evaluate(&holder.set()), policy.evaluate(&holder), "{}", parsed);
        }
    }

    #[test]
    fn normalisation_keeps_the_meaning_for_every_holder_and_adds_no_rows(policy in boolean()) {
        let parsed: Policy = policy.text().parse().expect("a policy of flags can be satisfied");
        for holder in holders_of_letters() {
            let set = holder.set();
            prop_assert_eq!(parsed.evaluate(&set), policy.evaluate(&holder), "{}", parsed);
            prop_assert_eq!(parsed.formula().evaluate(&set), policy.evaluate(&holder));
        }
        let text = policy.text().replace("and", "").replace("or", "").replace("of", "");
        let written = text.matches(|c: char| "abcde".contains(c)).count();
        prop_assert!(parsed.formula().rows() <= written);
        prop_assert_eq!(parsed.as_str().parse::<Policy>(), Ok(parsed));
    }

    #[test]
    fn the_formula_means_what_the_policy_means(policy in written(), holder in holder()) {
        if let Ok(parsed) = policy.text().parse::<Policy>() {
            let set = holder.set();
            prop_assert_eq!(parsed.formula().evaluate(&set), parsed.evaluate(&set), "{}", parsed);
        }
    }

    #[test]
    fn a_policy_at_an_epoch_needs_that_epoch(
        policy in written(), holder in holder(), epoch in any::<u64>(), other in any::<u64>(),
    ) {
        if let Ok(parsed) = policy.text().parse::<Policy>() {
            let formula = parsed.at_epoch(Epoch::new(epoch));
            let set = holder.set();
            prop_assert!(!formula.evaluate(&set));
            let at = set.with_epoch(Epoch::new(other));
            prop_assert_eq!(formula.evaluate(&at), parsed.evaluate(&set) && epoch == other);
            prop_assert_eq!(formula.rows(), parsed.formula().rows() + 1);
            prop_assert_eq!(formula.check(), Ok(()));
        }
    }

    /// If nothing can satisfy a text then nothing does.
    #[test]
    fn a_text_that_is_refused_as_impossible_is_impossible(policy in written(), holder in holder()) {
        if let Err(error) = policy.text().parse::<Policy>() {
            prop_assert_eq!(error.message(), "nothing can satisfy this");
            let place = &policy.text()[error.span()];
            prop_assert!(!place.is_empty());
            // The impossible part may stand beside a possible one; alone, it stays impossible.
            if place == policy.text() {
                prop_assert!(!policy.evaluate(&holder));
            }
        }
    }
}

#[test]
fn the_epoch_joins_a_conjunction() {
    let epoch = Formula::Attribute(Attribute::epoch(Epoch::new(3)));
    let flag = |name| Formula::Attribute(Attribute::flag(name).expect("a name"));
    let policy: Policy = "a and b".parse().expect("parses");
    assert_eq!(
        policy.at_epoch(Epoch::new(3)),
        Formula::Threshold {
            k: 3,
            of: vec![flag("a"), flag("b"), epoch.clone()]
        }
    );
    let policy: Policy = "a or b".parse().expect("parses");
    assert_eq!(
        policy.at_epoch(Epoch::new(3)),
        Formula::Threshold {
            k: 2,
            of: vec![
                Formula::Threshold {
                    k: 1,
                    of: vec![flag("a"), flag("b")]
                },
                epoch.clone()
            ]
        }
    );
    let policy: Policy = "a".parse().expect("parses");
    assert_eq!(
        policy.at_epoch(Epoch::new(3)),
        Formula::Threshold {
            k: 2,
            of: vec![flag("a"), epoch]
        }
    );
}

/// The properties above say something: most of the policies parse, and both answers are common.
#[test]
fn the_generators_reach_both_answers() {
    let mut runner = TestRunner::deterministic();
    let (mut parsed, mut satisfied, mut gates) = (0, 0, 0);
    for _ in 0..500 {
        let policy = written().new_tree(&mut runner).expect("a policy").current();
        let holder = holder().new_tree(&mut runner).expect("a holder").current();
        if let Ok(policy) = policy.text().parse::<Policy>() {
            parsed += 1;
            satisfied += usize::from(policy.evaluate(&holder.set()));
            gates += usize::from(policy.formula().depth() > 2);
        }
    }
    assert!(parsed > 300, "{parsed} of 500 parse");
    assert!(gates > 100, "{gates} of {parsed} have gates in gates");
    assert!(
        (50..parsed - 50).contains(&satisfied),
        "{satisfied} of {parsed} are satisfied"
    );
}
