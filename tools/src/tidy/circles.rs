//! Circles in a graph of files.

use std::collections::{BTreeMap, BTreeSet};

/// Returns the groups of files that reach each other, each sorted. Two files are in one group if
/// each is reachable from the other.
pub fn circles(edges: &BTreeMap<String, BTreeSet<String>>) -> Vec<Vec<String>> {
    let reached: BTreeMap<&String, BTreeSet<&String>> =
        edges.keys().map(|file| (file, reachable(edges, file))).collect();
    let mut found: BTreeSet<Vec<String>> = BTreeSet::new();
    for (file, others) in &reached {
        let mutual =
            |other: &&&String| reached.get(**other).is_some_and(|back| back.contains(file));
        let group: Vec<String> =
            others.iter().filter(mutual).map(|other| (*other).clone()).collect();
        if group.len() > 1 {
            found.insert(group);
        }
    }
    found.into_iter().collect()
}

/// Returns the files that a file reaches in one step or more.
fn reachable<'e>(
    edges: &'e BTreeMap<String, BTreeSet<String>>,
    from: &str,
) -> BTreeSet<&'e String> {
    let mut reached = BTreeSet::new();
    let mut waiting: Vec<&String> = edges.get(from).into_iter().flatten().collect();
    while let Some(file) = waiting.pop() {
        if reached.insert(file) {
            waiting.extend(edges.get(file).into_iter().flatten());
        }
    }
    reached
}

#[test]
fn circles_are_found_and_chains_are_not_reported() {
    let edges = |pairs: &[(&str, &str)]| {
        let mut edges: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (from, to) in pairs {
            edges.entry((*from).to_owned()).or_default().insert((*to).to_owned());
        }
        edges
    };
    assert_eq!(circles(&edges(&[("a", "b"), ("b", "c"), ("a", "c")])), [[""; 0]; 0]);
    let two = edges(&[("a", "b"), ("b", "c"), ("c", "a"), ("c", "d"), ("d", "e"), ("e", "d")]);
    assert_eq!(circles(&two), [vec!["a", "b", "c"], vec!["d", "e"]]);
}
