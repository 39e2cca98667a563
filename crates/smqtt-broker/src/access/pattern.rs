//! Topic patterns of rules: filters in which `%c`, `%u` and `%d` stand for the client's own names.

use smqtt_proto::TopicFilter;

/// A topic filter of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pattern {
    text: Box<str>,
    substitutes: bool,
}

/// The names that stand in for `%c`, `%u` and `%d`.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Names<'a> {
    /// `%c`: the client id.
    pub(crate) client_id: &'a str,
    /// `%u`: the user name that was proved by a password.
    pub(crate) user: Option<&'a str>,
    /// `%d`: the device of the certificate.
    pub(crate) device: Option<&'a str>,
}

impl Pattern {
    /// Parses a filter.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if text.contains('\0') {
            return Err("topics have no NUL character".into());
        }
        let mut rest = text;
        while let Some(at) = rest.find('%') {
            match rest[at + 1..].chars().next() {
                Some('c' | 'u' | 'd') => rest = &rest[at + 2..],
                _ => {
                    return Err(format!(
                        "`{text}`: after % comes c (client id), u (user) or d (device)"
                    ));
                }
            }
        }
        match TopicFilter::new(text) {
            Ok(filter) if filter.is_shared() => Err(format!(
                "`{text}`: leave $share/GROUP/ out, a shared subscription is judged by its filter"
            )),
            Ok(_) => Ok(Pattern {
                text: text.into(),
                substitutes: text.contains('%'),
            }),
            Err(error) => Err(format!("`{text}`: {error}")),
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether everything that `filter` (a topic or a filter) matches is matched by this pattern.
    pub(crate) fn covers(&self, filter: &str, names: Names<'_>) -> bool {
        self.with(names, |pattern| covers(pattern, filter))
    }

    /// Whether there may be a topic that both match.
    pub(crate) fn overlaps(&self, filter: &str, names: Names<'_>) -> bool {
        self.with(names, |pattern| overlaps(pattern, filter))
    }

    /// Whether `filter` is written as this pattern is.
    pub(crate) fn is(&self, filter: &str, names: Names<'_>) -> bool {
        self.with(names, |pattern| pattern == filter)
    }

    /// A pattern with a name that the client does not have, or that would be more than a part of a
    /// level, matches nothing: a client id cannot widen a rule.
    fn with(&self, names: Names<'_>, judge: impl FnOnce(&str) -> bool) -> bool {
        if !self.substitutes {
            return judge(&self.text);
        }
        let mut text = String::with_capacity(self.text.len() + 64);
        let mut rest = &*self.text;
        while let Some((before, after)) = rest.split_once('%') {
            text.push_str(before);
            let name = match after.as_bytes().first() {
                Some(b'c') => Some(names.client_id),
                Some(b'u') => names.user,
                _ => names.device,
            };
            match name {
                Some(name) if is_part_of_a_level(name) => text.push_str(name),
                _ => return false,
            }
            rest = &after[1..];
        }
        text.push_str(rest);
        judge(&text)
    }
}

fn is_part_of_a_level(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('$') && !name.contains(['+', '#', '/', '\0'])
}

/// Whether `wide` matches every topic that `narrow` matches. Wildcards at the first level match no
/// topic that begins with `$` `[MQTT-4.7.2-1]`.
pub(crate) fn covers(wide: &str, narrow: &str) -> bool {
    if begins_with_wildcard(wide) && narrow.starts_with('$') {
        return false;
    }
    let (mut wide, mut narrow) = (wide.split('/'), narrow.split('/'));
    loop {
        match (wide.next(), narrow.next()) {
            (Some("#"), _) | (None, None) => return true,
            (_, Some("#")) | (None, Some(_)) | (Some(_), None) => return false,
            (Some("+"), Some(_)) => {}
            (Some(a), Some(b)) if a == b => {}
            _ => return false,
        }
    }
}

/// Whether some topic is matched by both.
pub(crate) fn overlaps(a: &str, b: &str) -> bool {
    if begins_with_wildcard(a) && b.starts_with('$')
        || begins_with_wildcard(b) && a.starts_with('$')
    {
        return false;
    }
    let (mut a, mut b) = (a.split('/'), b.split('/'));
    loop {
        match (a.next(), b.next()) {
            (Some("#"), _) | (_, Some("#")) | (None, None) => return true,
            (None, Some(_)) | (Some(_), None) => return false,
            (Some("+"), Some(_)) | (Some(_), Some("+")) => {}
            (Some(a), Some(b)) if a == b => {}
            _ => return false,
        }
    }
}

fn begins_with_wildcard(filter: &str) -> bool {
    filter.starts_with(['+', '#'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_covers_what_it_matches_whole() {
        for (wide, narrow) in [
            ("#", "a/b"),
            ("#", "#"),
            ("#", "+/a"),
            ("a/#", "a"),
            ("a/#", "a/+/c"),
            ("a/#", "a/#"),
            ("+/b", "a/b"),
            ("+/b", "+/b"),
            ("$SYS/#", "$SYS/broker"),
            ("/", "/"),
        ] {
            assert!(covers(wide, narrow), "{wide} covers {narrow}");
            assert!(overlaps(wide, narrow), "{wide} overlaps {narrow}");
        }
        for (wide, narrow) in [
            ("a/b", "a/+"),
            ("a/+", "a/#"),
            ("a/+", "a"),
            ("+", "a/b"),
            ("#", "$SYS/broker"),
            ("+/broker", "$SYS/broker"),
            ("a/#", "#"),
            ("a/#", "ab"),
        ] {
            assert!(!covers(wide, narrow), "{wide} does not cover {narrow}");
        }
        assert!(overlaps("a/b", "a/+") && overlaps("a/+/c", "+/b/#"));
        assert!(!overlaps("a/+", "b/+") && !overlaps("#", "$SYS/x") && !overlaps("a", "a/b"));
    }

    #[test]
    fn names_stand_for_themselves_and_never_for_more() {
        let pattern = Pattern::parse("dev/%c/x-%d/#").expect("pattern");
        let names = |client_id, device| Names {
            client_id,
            user: None,
            device,
        };
        assert!(pattern.covers("dev/c1/x-d1/t", names("c1", Some("d1"))));
        assert!(!pattern.covers("dev/c2/x-d1/t", names("c1", Some("d1"))));
        assert!(!pattern.covers("dev/c1/x-d1/t", names("c1", None)));
        for client_id in ["+", "#", "a/b", "", "$SYS", "c+"] {
            let topic = format!("dev/{client_id}/x-d1/t");
            assert!(
                !pattern.covers(&topic, names(client_id, Some("d1"))),
                "{client_id}"
            );
            assert!(!pattern.covers("dev/other/x-d1/t", names(client_id, Some("d1"))));
        }
        // What a name brings in is not looked at again.
        let twice = Pattern::parse("%c").expect("pattern");
        assert!(!twice.covers("d1", names("%d", Some("d1"))));
        assert!(twice.covers("%d", names("%d", Some("d1"))));
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for text in ["", "a/#/b", "a+", "%x", "100%", "$share/g/a"] {
            Pattern::parse(text).expect_err(text);
        }
    }
}
