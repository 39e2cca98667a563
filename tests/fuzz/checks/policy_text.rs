//! Policy and attribute-set texts: no panic, and the canonical form is a fixed point with the same
//! formula.

use smqtt_policy::{AttributeSet, Formula, Policy};

pub fn check(text: &str) {
    if let Ok(policy) = text.parse::<Policy>() {
        let again: Policy = policy.as_str().parse().expect("a canonical text parses");
        assert_eq!(again.as_str(), policy.as_str());
        assert_eq!(again.formula(), policy.formula());
        let bytes = policy.formula().encode();
        assert_eq!(Formula::decode(&bytes).as_ref(), Ok(policy.formula()));
    }
    if let Ok(set) = text.parse::<AttributeSet>() {
        let again: AttributeSet = set.to_string().parse().expect("a displayed set parses");
        assert_eq!(again, set);
        assert_eq!(AttributeSet::decode(&set.encode()), Ok(set));
    }
}
