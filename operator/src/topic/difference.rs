//! Pure: what differs between what is wanted and what is there.
//!
//! What is set on a managed topic is compared entry by entry with `spec.config`, which is the whole of it: an entry
//! that only Kafka has is drift, and goes back to the default. Values are compared by what they mean to Kafka,
//! which shows them in its own way (`0.50` as `0.5`, `a, b` as `a,b`), so that nothing is written that changes
//! nothing.

use freshet_kafka::admin::ConfigChange;

use super::decide::{InWords, KafkaTopic};
use super::wanted::Wanted;

/// What is changed of a Kafka topic.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// The number of partitions that it gets.
    pub grow: Option<u32>,
    /// Entries of its configuration, in the order of their names.
    pub config: Vec<ConfigChange>,
}

impl Changes {
    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.grow.is_none() && self.config.is_empty()
    }
}

/// What has to change of `topic`, whether or not it may.
#[must_use]
pub fn changes(wanted: &Wanted, topic: &KafkaTopic) -> Changes {
    let set = wanted.config.iter().filter(|(name, value)| {
        let is = topic.set.get(*name);
        is.is_none_or(|is| !same(is, value))
    });
    let mut config: Vec<ConfigChange> =
        set.map(|(name, value)| ConfigChange::Set { name: name.clone(), value: value.clone() }).collect();
    let unset = topic.set.keys().filter(|name| !wanted.config.contains_key(*name) && !wanted.leaves(name));
    config.extend(unset.map(|name| ConfigChange::Unset { name: name.clone() }));
    let grow = (wanted.partitions > topic.partitions).then_some(wanted.partitions);
    Changes { grow, config }
}

/// What would change if `topic` were taken over, and what could not, for people.
#[must_use]
pub fn in_words(wanted: &Wanted, topic: &KafkaTopic, changes: &Changes) -> Vec<String> {
    let mut words = Vec::new();
    if wanted.partitions != topic.partitions {
        let impossible = if wanted.partitions < topic.partitions { ", which Kafka can't do" } else { "" };
        words.push(format!("partitions: {} -> {}{impossible}", topic.partitions, wanted.partitions));
    }
    if let Some(replicas) = wanted.replicas.filter(|replicas| topic.replicas != (*replicas, *replicas)) {
        words.push(format!("replicas: {} -> {replicas}, which the operator does not do", range(topic.replicas)));
    }
    words.extend(changes.config.iter().map(|change| InWords(change, topic).to_string()));
    words
}

/// How `topic`, which may not be written, differs from what is wanted: only what the Topic says counts.
#[must_use]
pub fn observed(wanted: &Wanted, topic: &KafkaTopic) -> Vec<String> {
    let mut words = Vec::new();
    if wanted.partitions != topic.partitions {
        words.push(format!("spec.partitions is {}, the topic has {}", wanted.partitions, topic.partitions));
    }
    if let Some(replicas) = wanted.replicas.filter(|replicas| topic.replicas != (*replicas, *replicas)) {
        words.push(format!("spec.replicas is {replicas}, the topic has {}", range(topic.replicas)));
    }
    for (name, value) in &wanted.config {
        match topic.effective.get(name) {
            Some(is) if same(is, value) => {}
            Some(is) => words.push(format!("spec.config has {name}: {value}, the topic has {is}")),
            None => words.push(format!("spec.config has {name}, which the broker does not know")),
        }
    }
    words
}

/// A smallest and a largest number, as one where they are equal.
#[must_use]
pub fn range((smallest, largest): (u16, u16)) -> String {
    if smallest == largest { smallest.to_string() } else { format!("{smallest} to {largest}") }
}

/// Whether two values of an entry mean the same to Kafka.
fn same(a: &str, b: &str) -> bool {
    a == b || meaning(a) == meaning(b)
}

/// Kafka trims values and the members of lists, and reads numbers and Booleans.
fn meaning(value: &str) -> Vec<Meaning> {
    value.split(',').map(|part| one(part.trim())).collect()
}

#[derive(Debug, PartialEq)]
enum Meaning {
    Whole(i64),
    Fraction(f64),
    Text(String),
}

fn one(text: &str) -> Meaning {
    if let Ok(number) = text.parse() {
        return Meaning::Whole(number);
    }
    // Kafka's decimals have digits; `inf` and `nan` are texts.
    if text.contains(|c: char| c.is_ascii_digit())
        && let Ok(number) = text.parse()
    {
        return Meaning::Fraction(number);
    }
    if text.eq_ignore_ascii_case("true") || text.eq_ignore_ascii_case("false") {
        return Meaning::Text(text.to_ascii_lowercase());
    }
    Meaning::Text(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_compared_as_kafka_reads_them() {
        for (a, b) in [
            ("604800000", "604800000"),
            ("0.50", "0.5"),
            (" 7", "7"),
            ("True", "true"),
            ("compact, delete", "compact,delete"),
            ("+5", "5"),
            ("", ""),
        ] {
            assert!(same(a, b), "{a:?} {b:?}");
        }
        for (a, b) in
            [("1", "2"), ("lz4", "LZ4"), ("compact", "compact,delete"), ("delete,compact", "compact,delete"), ("", "0")]
        {
            assert!(!same(a, b), "{a:?} {b:?}");
        }
    }
}
