//! People, auctions and bids as records for topics.

use chrono::DateTime;
use freshet_plan::key::partition_of;
use nexmark::EventGenerator;
use nexmark::config::NexmarkConfig;
use nexmark::event::Event;
use serde::{Deserialize, Serialize};

use super::{DISORDER_MS, PARTITIONS};
use crate::LabError;

/// Event time of the first record: 2026-01-01, ms since the Unix epoch.
const START_MS: u64 = 1_767_225_600_000;
/// Event numbers of one seed; a multiple of the 50 that Nexmark's proportions repeat in.
const NUMBERS_PER_SEED: usize = 1_000_000_000;

/// What is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::Args)]
pub struct Settings {
    /// The same seed gives the same records.
    #[arg(long, default_value_t = 1)]
    pub seed: u32,
    /// How many records: of 50, one is a person, three are auctions and 46 are bids.
    #[arg(long, default_value_t = 100_000)]
    pub events: u64,
    /// Records in one second of event time.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub per_second: u32,
    /// Records are shuffled in groups of so many; 1 keeps them in order. A group must be shorter than four seconds.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub shuffled: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { seed: 1, events: 100_000, per_second: 1_000, shuffled: 1_000 }
    }
}

/// What a record is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Somebody who sells or bids.
    Person,
    /// Something that is sold.
    Auction,
    /// A bid on an auction.
    Bid,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Person, Self::Auction, Self::Bid];

    /// The table's name.
    #[must_use]
    pub const fn table(self) -> &'static str {
        match self {
            Self::Person => "person",
            Self::Auction => "auction",
            Self::Bid => "bid",
        }
    }

    /// The topic that examples/nexmark keeps it in.
    #[must_use]
    pub const fn topic(self) -> &'static str {
        match self {
            Self::Person => "nexmark.person",
            Self::Auction => "nexmark.auction",
            Self::Bid => "nexmark.bid",
        }
    }
}

/// A record for a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Of which table.
    pub kind: Kind,
    /// Its event time, ms since the Unix epoch.
    pub at_ms: i64,
    /// The record's key: the person's or auction's id; of a bid, the auction's.
    pub key: String,
    /// The partition of that key.
    pub partition: u32,
    /// A JSON object.
    pub value: String,
}

/// A person as JSON has it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Person {
    id: usize,
    name: String,
    email_address: String,
    credit_card: String,
    city: String,
    state: String,
    date_time: String,
    extra: String,
}

/// An auction as JSON has it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Auction {
    id: usize,
    item_name: String,
    description: String,
    initial_bid: usize,
    reserve: usize,
    date_time: String,
    expires: String,
    seller: usize,
    category: usize,
    extra: String,
}

/// A bid as JSON has it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bid {
    auction: usize,
    bidder: usize,
    price: usize,
    channel: String,
    url: String,
    date_time: String,
    extra: String,
}

/// The records of some settings, in the order in which they are written.
#[derive(Debug)]
pub struct Records {
    events: std::iter::Take<EventGenerator>,
}

impl Records {
    /// From the first one on.
    ///
    /// # Errors
    /// [`LabError::Wrong`] when records would come later than the manifests allow.
    pub fn new(settings: &Settings) -> Result<Self, LabError> {
        let group_ms = i64::from(settings.shuffled) * 1_000 / i64::from(settings.per_second);
        if group_ms >= DISORDER_MS {
            return Err(LabError::Wrong(format!(
                "--shuffled {}: at {} records a second of event time that is {group_ms} ms, and the Topics allow less than \
                 {DISORDER_MS}; shuffle fewer, or raise --per-second",
                settings.shuffled, settings.per_second
            )));
        }
        let rate = settings.per_second as usize;
        let config = NexmarkConfig {
            base_time: START_MS,
            first_event_id: settings.seed as usize * NUMBERS_PER_SEED,
            out_of_order_group_size: settings.shuffled as usize,
            first_rate: rate,
            next_rate: rate,
            ..NexmarkConfig::default()
        };
        let events = usize::try_from(settings.events).unwrap_or(usize::MAX);
        Ok(Self { events: EventGenerator::new(config).take(events) })
    }
}

impl Iterator for Records {
    type Item = Record;

    fn next(&mut self) -> Option<Record> {
        self.events.next().map(|event| record(&event))
    }
}

/// ISO 8601 without a zone, as TIMESTAMP(3) is written in JSON by both engines' standard.
fn time(at_ms: u64) -> String {
    let at = i64::try_from(at_ms).ok().and_then(DateTime::from_timestamp_millis);
    at.unwrap_or_default().format("%Y-%m-%dT%H:%M:%S%.3f").to_string()
}

fn record(event: &Event) -> Record {
    let (kind, key, at_ms, value) = match event {
        Event::Person(it) => {
            let row = Person {
                id: it.id,
                name: it.name.clone(),
                email_address: it.email_address.clone(),
                credit_card: it.credit_card.clone(),
                city: it.city.clone(),
                state: it.state.clone(),
                date_time: time(it.date_time),
                extra: it.extra.clone(),
            };
            (Kind::Person, it.id, it.date_time, json(&row))
        }
        Event::Auction(it) => {
            let row = Auction {
                id: it.id,
                item_name: it.item_name.clone(),
                description: it.description.clone(),
                initial_bid: it.initial_bid,
                reserve: it.reserve,
                date_time: time(it.date_time),
                expires: time(it.expires),
                seller: it.seller,
                category: it.category,
                extra: it.extra.clone(),
            };
            (Kind::Auction, it.id, it.date_time, json(&row))
        }
        Event::Bid(it) => {
            let row = Bid {
                auction: it.auction,
                bidder: it.bidder,
                price: it.price,
                channel: it.channel.clone(),
                url: it.url.clone(),
                date_time: time(it.date_time),
                extra: it.extra.clone(),
            };
            (Kind::Bid, it.auction, it.date_time, json(&row))
        }
    };
    let key = key.to_string();
    let partition = partition_of(key.as_bytes(), PARTITIONS);
    Record { kind, at_ms: i64::try_from(at_ms).unwrap_or(i64::MAX), key, partition, value }
}

fn json(row: &impl Serialize) -> String {
    serde_json::to_string(row).expect("texts and numbers have a JSON form")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn the_seed_is_all_that_counts() {
        let make =
            |seed| Records::new(&Settings { seed, events: 5_000, ..Settings::default() }).expect("a test's own data");
        assert!(make(7).eq(make(7)));
        assert!(make(7).zip(make(8)).all(|(one, other)| one.value != other.value && one.at_ms == other.at_ms));
    }

    #[test]
    fn kinds_come_in_nexmark_s_proportions_and_no_record_too_late() {
        let settings = Settings { events: 50_000, ..Settings::default() };
        let mut counts = BTreeMap::<_, u64>::new();
        let (mut newest, mut behind) = (0, 0);
        for record in Records::new(&settings).expect("a test's own data") {
            *counts.entry(record.kind).or_default() += 1;
            newest = newest.max(record.at_ms);
            behind = behind.max(newest - record.at_ms);
            let row: serde_json::Value = serde_json::from_str(&record.value).expect("a test's own data");
            assert_eq!(row[if record.kind == Kind::Bid { "auction" } else { "id" }].to_string(), record.key);
        }
        assert_eq!(counts, [(Kind::Person, 1_000), (Kind::Auction, 3_000), (Kind::Bid, 46_000)].into());
        assert!((500..DISORDER_MS).contains(&behind), "{behind} ms out of order");
        assert!(newest >= START_MS as i64 + 49_000);
    }

    #[test]
    fn a_shuffle_beyond_the_declared_disorder_is_refused() {
        let refused =
            Records::new(&Settings { shuffled: 4_000, ..Settings::default() }).expect_err("it is refused").to_string();
        assert!(refused.contains("raise --per-second"), "{refused}");
    }
}
