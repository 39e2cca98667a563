//! What somebody may have meant: the names that come nearest to one that does not exist.

use crate::text::literal;

/// Names that are listed where none comes near.
const LISTED: usize = 8;

/// Longest name, in characters, that is compared: the distance costs the product of lengths.
const COMPARED: usize = 128;

/// A sentence that names the nearest of `known`, or what there is.
pub fn nearest<'a>(wanted: &str, known: impl Iterator<Item = &'a str> + Clone) -> String {
    let wanted: Vec<char> = wanted.to_lowercase().chars().take(COMPARED).collect();
    let tolerance = (wanted.len() / 3).max(1);
    let mut near: Vec<(usize, &str)> = known
        .clone()
        .map(|name| {
            let letters: Vec<char> = name.to_lowercase().chars().take(COMPARED).collect();
            (distance(&wanted, &letters), name)
        })
        .filter(|(distance, _)| *distance <= tolerance)
        .collect();
    near.sort_unstable();
    near.truncate(3);
    if !near.is_empty() {
        let names: Vec<String> = near
            .iter()
            .map(|(_, name)| format!("`{}`", literal(name)))
            .collect();
        return format!("did you mean {}?", names.join(" or "));
    }
    let mut known = known.peekable();
    if known.peek().is_none() {
        return "it has none".to_owned();
    }
    let mut listed: Vec<String> = Vec::new();
    for name in known {
        if listed.len() == LISTED {
            listed.push("…".to_owned());
            break;
        }
        listed.push(literal(name));
    }
    format!("there is {}", listed.join(", "))
}

/// How many letters have to be inserted, deleted, replaced or swapped with a neighbour
/// (optimal string alignment).
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for (i, &x) in a.iter().enumerate() {
        let mut row = Vec::with_capacity(b.len() + 1);
        row.push(i + 1);
        for (j, &y) in b.iter().enumerate() {
            let mut cost = (above[j] + usize::from(x != y))
                .min(above[j + 1] + 1)
                .min(row[j] + 1);
            if i > 0 && j > 0 && x == b[j - 1] && a[i - 1] == y {
                cost = cost.min(before[j - 1] + 1);
            }
            row.push(cost);
        }
        before = std::mem::replace(&mut above, row);
    }
    above.last().copied().unwrap_or(0)
}
