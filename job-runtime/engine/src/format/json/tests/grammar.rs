//! The grammar, against another implementation and against noise.

use proptest::prelude::*;
use serde::de::IgnoredAny;

use super::*;

const COLUMNS: &str = "a INT; b STRING!; c DECIMAL(5,2); d STRUCT<a ARRAY<DOUBLE>, b BOOLEAN>; e TIMESTAMP(3); f BYTES";

/// Pieces of JSON, so that most sequences of them are nearly right.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"a\":",
        "\"b\":",
        "\"c\":",
        "\"d\":",
        "\"e\":",
        "\"f\":",
        "{\"b\":\"x\"",
        "\"a\"",
        "\"x\"",
        "1",
        "-1",
        "0",
        "01",
        "1.5",
        "1e5",
        "-",
        ".",
        "e",
        "null",
        "true",
        "false",
        " ",
        "\n",
        "\\",
        "\"",
        "\\u0041",
        "\\ud800",
        "é",
        "\u{1}",
        "\"AAA=\"",
        "\"2026-01-02T03:04:05\"",
    ]);
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

/// A value as JSON, of any kind, with nesting.
fn value() -> impl Strategy<Value = String> + Clone {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|value| value.to_string()),
        any::<i64>().prop_map(|value| value.to_string()),
        (-300_i32..300).prop_map(|value| format!("{}.{:02}", value / 100, value.abs() % 100)),
        any::<f64>()
            .prop_filter("JSON has finite numbers only", |value| value.is_finite())
            .prop_map(|value| format!("{value:e}")),
        "\\PC{0,12}".prop_map(|value| serde_json::Value::from(value).to_string()),
        Just("\"2026-01-02T03:04:05Z\"".to_owned()),
        Just("\"AAA=\"".to_owned()),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        let name = prop::sample::select(vec!["a", "b", "c", "d", "e", "f", "g", "\\u0061"]);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(","))),
            prop::collection::vec((name, inner), 0..5).prop_map(|members| {
                let members: Vec<_> = members.iter().map(|(name, value)| format!("\"{name}\": {value}")).collect();
                format!("{{{}}}", members.join(" , "))
            }),
        ]
    })
}

/// A record: mostly an object that begins as the contract wants it, sometimes broken or none at all.
fn record() -> impl Strategy<Value = Option<Vec<u8>>> {
    let member = (prop::sample::select(vec!["a", "b", "c", "d", "e", "f", "g"]), value());
    let object = prop::collection::vec(member, 0..6).prop_map(|members| {
        let members: Vec<_> = members.iter().map(|(name, value)| format!(",\"{name}\":{value}")).collect();
        format!("{{\"b\":\"x\"{}}}", members.concat()).into_bytes()
    });
    let broken = (object.clone(), any::<prop::sample::Index>(), any::<u8>()).prop_map(|(mut bytes, at, byte)| {
        let at = at.index(bytes.len());
        bytes[at] = byte;
        bytes
    });
    let cut = (object.clone(), any::<prop::sample::Index>()).prop_map(|(mut bytes, at)| {
        bytes.truncate(at.index(bytes.len()));
        bytes
    });
    prop_oneof![
        6 => object.prop_map(Some),
        2 => broken.prop_map(Some),
        1 => cut.prop_map(Some),
        1 => pieces().prop_map(|text| Some(text.into_bytes())),
        1 => Just(None),
    ]
}

fn is_json(text: &str) -> bool {
    serde_json::from_str::<IgnoredAny>(text).is_ok()
}

#[test]
fn what_follows_an_object_is_told_before_what_the_object_lacks() {
    let columns = columns("a INT!");
    for (text, wanted) in
        [("{}{", BadReason::NotJson), ("{} ", BadReason::MissingColumn), (r#"{"a":null}]"#, BadReason::NotJson)]
    {
        let decoded = decoder(Format::Json, &columns).decode(&fetched([Some(text)]));
        assert_eq!(decoded.bad.iter().map(|bad| bad.reason).collect::<Vec<_>>(), [wanted], "{text}");
    }
}

proptest! {
    #[test]
    fn what_is_json_is_what_another_reader_takes(text in prop_oneof![pieces(), value()]) {
        for decoded in [decoder(Format::Json, &[]).decode(&fetched([Some(&text)])), decode_all(COLUMNS, [&text])] {
            let refused = decoded.bad.first().is_some_and(|bad| bad.reason == BadReason::NotJson);
            prop_assert_eq!(refused, !is_json(&text), "{}: {:?}", text, decoded.bad);
        }
    }

    #[test]
    fn records_do_not_depend_on_their_neighbours(records in prop::collection::vec(record(), 0..12)) {
        let together = decoder(Format::Json, &columns(COLUMNS)).decode(&fetched(records.clone()));
        let mut rows = 0;
        let mut bad = together.bad.iter();
        let mut good = Vec::new();
        for (index, record) in records.iter().enumerate() {
            let alone = decoder(Format::Json, &columns(COLUMNS)).decode(&fetched([record.clone()]));
            match alone.bad.first() {
                Some(wanted) => {
                    let found = bad.next().expect("as many bad records");
                    prop_assert_eq!((found.index, found.reason, &found.detail), (index, wanted.reason, &wanted.detail));
                }
                None => {
                    prop_assert_eq!(together.rows.slice(rows, 1), alone.rows);
                    good.push(index as u32);
                    rows += 1;
                }
            }
        }
        prop_assert_eq!(bad.next(), None);
        prop_assert_eq!(together.rows.num_rows(), rows);
        prop_assert_eq!(together.good.unwrap_or_else(|| (0..records.len() as u32).collect()), good);
    }

    #[test]
    fn noise_is_never_more_than_bad(records in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..64), 0..8)) {
        let decoded = decode_all(COLUMNS, &records);
        prop_assert_eq!(decoded.rows.num_rows() + decoded.bad.len(), records.len());
    }

    #[test]
    fn fields_that_are_not_declared_change_nothing(value in value(), at in 0..3_usize) {
        let mut members = ["\"a\":1".to_owned(), "\"b\":\"x\"".to_owned()].to_vec();
        members.insert(at, format!("\"other\":{value}"));
        let rows = good("a INT; b STRING!", [format!("{{{}}}", members.join(","))]);
        prop_assert_eq!(rows, good("a INT; b STRING!", ["{\"a\":1,\"b\":\"x\"}"]));
    }
}
