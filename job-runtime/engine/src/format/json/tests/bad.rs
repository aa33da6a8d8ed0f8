//! Every way to be bad, with its reason; and that the good records around it never notice.

use super::super::super::MAX_DETAIL_BYTES;
use super::*;

const COLUMNS: &str = "id STRING!; n INT; small TINYINT; big BIGINT; d DECIMAL(6,2); f FLOAT; g DOUBLE; ok BOOLEAN; \
                       t TIMESTAMP(3); u TIMESTAMP_LTZ(9); day DATE; raw BYTES; \
                       m STRUCT<id STRING, tags ARRAY<INT>>";

/// Record, reason, and a part of the details.
const BAD: &[(&[u8], BadReason, &str)] = &[
    (b"", BadReason::NotJson, "empty"),
    (b" \n ", BadReason::NotJson, "empty"),
    (b"hello", BadReason::NotJson, "begins no JSON value"),
    (b"nul", BadReason::NotJson, "true, false or null"),
    (b"{", BadReason::NotJson, "name is missing"),
    (b"{\"id\"", BadReason::NotJson, "`:`"),
    (b"{\"id\":", BadReason::NotJson, ""),
    (b"{\"id\":\"x\"", BadReason::NotJson, "cut off"),
    (b"{\"id\":\"x", BadReason::NotJson, "cut off"),
    (b"{\"id\":\"x\",}", BadReason::NotJson, "name is missing"),
    (b"{\"id\":\"x\" \"n\":1}", BadReason::NotJson, "`,`"),
    (b"{\"id\":\"x\"}{}", BadReason::NotJson, "follows"),
    (b"{\"id\":\"x\"}{\"id\":\"y\"}", BadReason::NotJson, "follows"),
    (b"{\"id\":\"x\"},", BadReason::NotJson, "follows"),
    (b"\xef\xbb\xbf{\"id\":\"x\"}", BadReason::NotJson, ""),
    (b"{\"id\":\"a\nb\"}", BadReason::NotJson, "control character"),
    (b"{\"id\":\"\\x\"}", BadReason::NotJson, "escape"),
    (b"{\"id\":\"\\u12g4\"}", BadReason::NotJson, "hexadecimal"),
    (b"{\"id\":\"\\u12", BadReason::NotJson, "cut off"),
    (b"{\"id\":\"x\",\"n\":01}", BadReason::NotJson, "leading zero"),
    (b"{\"id\":\"x\",\"g\":NaN}", BadReason::NotJson, ""),
    (b"{\"id\":\"x\",\"g\":-Infinity}", BadReason::NotJson, ""),
    (b"{\"id\":\"x\",\"g\":.5}", BadReason::NotJson, ""),
    (b"{\"id\":\"x\",\"ignored\":[1,2}", BadReason::NotJson, ""),
    (b"{\"id\":\"x\",\"ignored\":{\"a\":tru}}", BadReason::NotJson, ""),
    (b"{\"id\":7,\"n\":\"x\",\"ignored\":tru}", BadReason::NotJson, ""),
    (b"{'id':'x'}", BadReason::NotJson, "name is missing"),
    (b"[{\"id\":\"x\"}]", BadReason::NotAnObject, "no object"),
    (b"\"id\"", BadReason::NotAnObject, ""),
    (b"42", BadReason::NotAnObject, ""),
    (b"null", BadReason::NotAnObject, ""),
    (b"{\"id\":\"\xff\"}", BadReason::InvalidUtf8, "byte 7"),
    (b"\xff\xfe\x00", BadReason::InvalidUtf8, "byte 0"),
    (b"{\"id\":\"\\ud800\"}", BadReason::InvalidUtf8, "id: the text holds half"),
    (b"{\"id\":\"\\ud800\\u0041\"}", BadReason::InvalidUtf8, "id: "),
    (b"{\"id\":\"\\udc00\\ud800\"}", BadReason::InvalidUtf8, "id: "),
    (b"{}", BadReason::MissingColumn, "id: "),
    (b"{\"ID\":\"x\"}", BadReason::MissingColumn, "id: "),
    (b"{\"m\":{\"id\":\"x\"}}", BadReason::MissingColumn, "id: "),
    (b"{\"id\":null}", BadReason::NullColumn, "id: "),
    (b"{\"id\":7}", BadReason::WrongType, "id: expected STRING, found a number"),
    (b"{\"id\":true}", BadReason::WrongType, "id: expected STRING, found a Boolean"),
    (b"{\"id\":{}}", BadReason::WrongType, "id: expected STRING, found an object"),
    (b"{\"id\":[\"x\"]}", BadReason::WrongType, "id: expected STRING, found an array"),
    (b"{\"id\":\"x\",\"n\":\"1\"}", BadReason::WrongType, "n: expected INT, found a text"),
    (b"{\"id\":\"x\",\"n\":1.5}", BadReason::WrongType, "n: expected INT, found a number with a fraction"),
    (b"{\"id\":\"x\",\"n\":true}", BadReason::WrongType, "n: expected INT, found a Boolean"),
    (b"{\"id\":\"x\",\"n\":2147483648}", BadReason::OutOfRange, "n: expected INT"),
    (b"{\"id\":\"x\",\"small\":-129}", BadReason::OutOfRange, "small: expected TINYINT"),
    (b"{\"id\":\"x\",\"big\":9223372036854775808}", BadReason::OutOfRange, "big: expected BIGINT"),
    (b"{\"id\":\"x\",\"big\":1e99}", BadReason::OutOfRange, "big: expected BIGINT"),
    (b"{\"id\":\"x\",\"d\":10000}", BadReason::OutOfRange, "d: expected DECIMAL(6,2)"),
    (b"{\"id\":\"x\",\"d\":0.001}", BadReason::OutOfRange, "more digits after the point"),
    (b"{\"id\":\"x\",\"d\":\"1.00\"}", BadReason::WrongType, "d: expected DECIMAL(6,2), found a text"),
    (b"{\"id\":\"x\",\"f\":1e39}", BadReason::OutOfRange, "f: expected FLOAT"),
    (b"{\"id\":\"x\",\"g\":1e309}", BadReason::OutOfRange, "g: expected DOUBLE"),
    (b"{\"id\":\"x\",\"g\":\"1\"}", BadReason::WrongType, "g: expected DOUBLE, found a text"),
    (b"{\"id\":\"x\",\"ok\":1}", BadReason::WrongType, "ok: expected BOOLEAN, found a number"),
    (b"{\"id\":\"x\",\"ok\":\"true\"}", BadReason::WrongType, "ok: expected BOOLEAN, found a text"),
    (b"{\"id\":\"x\",\"t\":\"yesterday\"}", BadReason::WrongType, "t: expected TIMESTAMP(3)"),
    (b"{\"id\":\"x\",\"t\":\"2026-02-30T00:00:00\"}", BadReason::WrongType, "t: "),
    (b"{\"id\":\"x\",\"t\":[2026,1,2]}", BadReason::WrongType, "t: "),
    (b"{\"id\":\"x\",\"t\":1e30}", BadReason::OutOfRange, "t: "),
    (b"{\"id\":\"x\",\"u\":\"2500-01-01T00:00:00Z\"}", BadReason::OutOfRange, "u: expected TIMESTAMP_LTZ(9)"),
    (b"{\"id\":\"x\",\"day\":20000}", BadReason::WrongType, "day: expected DATE"),
    (b"{\"id\":\"x\",\"day\":\"2026-01-02T00:00:00\"}", BadReason::WrongType, "day: expected DATE"),
    (b"{\"id\":\"x\",\"raw\":\"A\"}", BadReason::WrongType, "raw: expected BYTES (base64)"),
    (b"{\"id\":\"x\",\"raw\":\"a b=\"}", BadReason::WrongType, "raw: "),
    (b"{\"id\":\"x\",\"m\":\"{}\"}", BadReason::WrongType, "m: expected an object (STRUCT), found a text"),
    (b"{\"id\":\"x\",\"m\":[]}", BadReason::WrongType, "m: "),
    (b"{\"id\":\"x\",\"m\":{\"id\":5}}", BadReason::WrongType, "m.id: expected STRING"),
    (b"{\"id\":\"x\",\"m\":{\"tags\":7}}", BadReason::WrongType, "m.tags: expected an array"),
    (b"{\"id\":\"x\",\"m\":{\"tags\":[1,2,\"3\"]}}", BadReason::WrongType, "m.tags[2]: expected INT"),
    (b"{\"d\":\"1\",\"n\":\"1\",\"id\":7}", BadReason::WrongType, "id: "),
];

const GOOD: &str = r#"{"id":"good","n":1,"d":1.25,"t":0,"raw":"AA==","m":{"id":"i","tags":[1,null]},"ok":true}"#;

#[test]
fn each_bad_record_has_its_reason() {
    for (record, reason, detail) in BAD {
        let decoded = decode_all(COLUMNS, [record]);
        let text = String::from_utf8_lossy(record);
        let [bad] = decoded.bad.as_slice() else { panic!("{text} is good: {:?}", decoded.rows) };
        assert_eq!((bad.index, bad.reason), (0, *reason), "{text}: {}", bad.detail);
        assert!(bad.detail.contains(detail), "{text}: {}", bad.detail);
        assert!(bad.detail.len() <= MAX_DETAIL_BYTES, "{text}");
        assert_eq!((decoded.rows.num_rows(), decoded.good), (0, Some(Vec::new())), "{text}");
    }
}

#[test]
fn good_records_do_not_notice_bad_ones() {
    let alone = good(COLUMNS, [GOOD]);
    let mut values = vec![Some(GOOD.as_bytes())];
    for (record, ..) in BAD {
        values.extend([Some(*record), Some(GOOD.as_bytes())]);
    }
    values.push(None);
    let decoded = decoder(Format::Json, &columns(COLUMNS)).decode(&fetched(values));
    let bad: Vec<_> = decoded.bad.iter().map(|bad| (bad.index, bad.reason)).collect();
    let mut wanted: Vec<_> = BAD.iter().enumerate().map(|(at, (_, reason, _))| (at * 2 + 1, *reason)).collect();
    wanted.push((BAD.len() * 2 + 1, BadReason::Tombstone));
    assert_eq!(bad, wanted);
    assert_eq!(decoded.good, Some((0..=BAD.len() as u32).map(|at| at * 2).collect()));
    for row in 0..decoded.rows.num_rows() {
        assert_eq!(decoded.rows.slice(row, 1), alone);
    }
}

#[test]
fn every_reason_has_a_record_in_the_table_and_a_name_of_its_own() {
    for reason in BadReason::ALL {
        let elsewhere = matches!(reason, BadReason::Tombstone | BadReason::TooDeep);
        assert!(elsewhere || BAD.iter().any(|(_, other, _)| *other == reason), "{reason:?}");
        assert_eq!(BadReason::ALL.iter().filter(|other| other.as_str() == reason.as_str()).count(), 1);
    }
}

#[test]
fn depth_is_bounded_without_a_stack() {
    for (open, close) in [("[", "]"), ("{\"a\":", "}"), ("[{\"a\":", "}]")] {
        let levels = open.matches(['[', '{']).count();
        let nested = |times: usize| format!("{{\"id\":\"x\",\"o\":{}1{}}}", open.repeat(times), close.repeat(times));
        assert_eq!(decode_all("id STRING", [nested(128 / levels)]).bad, []);
        for times in [128 / levels + 1, 200_000] {
            assert_eq!(decode_all("id STRING", [nested(times)]).bad[0].reason, BadReason::TooDeep, "{open} {times}");
        }
    }
    let unclosed = format!("{{\"id\":{}", "[".repeat(1_000_000));
    assert_eq!(decode_all("id STRING", [unclosed]).bad[0].reason, BadReason::TooDeep);
}

#[test]
fn details_are_short_and_hold_no_values() {
    let name = "näme".repeat(100);
    let record = serde_json::json!({ &name: {"secret": "sesame", "inner": ["sesame"]} }).to_string();
    let decoded = decode_all(&format!("{name} STRUCT<secret INT, inner ARRAY<INT>>"), [record]);
    let detail = &decoded.bad[0].detail;
    assert!(detail.len() <= MAX_DETAIL_BYTES, "{} bytes", detail.len());
    assert!(detail.starts_with("näme") && detail.ends_with("…: expected INT, found a text"), "{detail}");
    assert!(!detail.contains("sesame"));
}
