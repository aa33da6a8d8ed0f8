//! The contract, record by record, and round trips.

mod bad;
mod grammar;
mod roundtrip;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Float64Type, Int32Type, Int64Type, TimestampMillisecondType};
use freshet_log::{Fetched, TopicPartition};
use freshet_plan::{Column, Format};

use super::super::{BadReason, Decoded, decoder, encoder};

/// A batch of records with these values.
fn fetched<V: AsRef<[u8]>>(values: impl IntoIterator<Item = Option<V>>) -> Fetched {
    let mut batch = Fetched::empty(TopicPartition::new("t", 0), 0);
    for (offset, value) in values.into_iter().enumerate() {
        batch.push(offset as i64, -1, Some(b"key"), value.as_ref().map(AsRef::as_ref));
    }
    batch
}

/// Columns as manifests write them: `name TYPE`, with `!` at the end for a required one; split by `;`.
fn columns(text: &str) -> Vec<Column> {
    let column = |text: &str| {
        let (name, data_type) = text.trim().split_once(' ').expect("name TYPE");
        let required = data_type.ends_with('!');
        let data_type = data_type.trim_end_matches('!').parse().expect("a data type");
        Column { name: name.to_owned(), data_type, required }
    };
    text.split(';').map(column).collect()
}

fn decode_all<V: AsRef<[u8]>>(text: &str, values: impl IntoIterator<Item = V>) -> Decoded {
    decoder(Format::Json, &columns(text)).decode(&fetched(values.into_iter().map(Some)))
}

/// The rows of records that are all good.
fn good<V: AsRef<[u8]>>(text: &str, values: impl IntoIterator<Item = V>) -> RecordBatch {
    let decoded = decode_all(text, values);
    assert_eq!(decoded.bad, []);
    assert_eq!(decoded.good, None);
    decoded.rows
}

fn encode(text: &str, rows: &RecordBatch) -> Vec<String> {
    let (mut bytes, mut ends) = (Vec::new(), Vec::new());
    encoder(Format::Json, &columns(text)).encode(rows, &mut bytes, &mut ends).expect("rows of the columns");
    let mut start = 0;
    let mut texts = Vec::new();
    for end in ends {
        texts.push(String::from_utf8(bytes[start..end as usize].to_vec()).expect("JSON is UTF-8"));
        start = end as usize;
    }
    assert_eq!(start, bytes.len());
    texts
}

#[test]
fn fields_come_in_any_order_and_number() {
    let rows = good(
        "a INT; b STRING; c STRUCT<x BIGINT, y ARRAY<STRING>>",
        [
            r#"{"a":1,"b":"one","c":{"x":10,"y":["p","q"]}}"#,
            r#" { "c" : { "y" : [ ] , "x" : -10 } , "other" : [{"a":7}] , "a" : 2 } "#,
            r#"{"\u0061":3,"b\u0000":"not b","c":null}"#,
            "{}",
            r#"{"c":{"y":[null,"\u00e9\ud83d\ude00"]},"a":null,"b":""}"#,
        ],
    );
    assert_eq!(
        encode("a INT; b STRING; c STRUCT<x BIGINT, y ARRAY<STRING>>", &rows),
        [
            r#"{"a":1,"b":"one","c":{"x":10,"y":["p","q"]}}"#,
            r#"{"a":2,"b":null,"c":{"x":-10,"y":[]}}"#,
            r#"{"a":3,"b":null,"c":null}"#,
            r#"{"a":null,"b":null,"c":null}"#,
            r#"{"a":null,"b":"","c":{"x":null,"y":[null,"é😀"]}}"#,
        ]
    );
}

#[test]
fn the_last_of_equal_fields_wins() {
    let text = "a INT!; s STRUCT<x INT, y STRING>; l ARRAY<INT>";
    let rows = good(
        text,
        [
            r#"{"a":1,"a":2}"#,
            r#"{"a":"wrong","s":{"x":1,"y":"first"},"a":3,"s":{"y":"second"}}"#,
            r#"{"a":null,"l":[1,2,3],"l":[1,"x"],"l":[4],"a":4}"#,
            r#"{"s":{"x":"bad","x":5,"y":7,"y":null},"\u0061":9,"a":5}"#,
        ],
    );
    assert_eq!(
        encode(text, &rows),
        [
            r#"{"a":2,"s":null,"l":null}"#,
            r#"{"a":3,"s":{"x":null,"y":"second"},"l":null}"#,
            r#"{"a":4,"s":null,"l":[4]}"#,
            r#"{"a":5,"s":{"x":5,"y":null},"l":null}"#,
        ]
    );
    let decoded = decode_all(text, [r#"{"a":1,"a":"x"}"#, r#"{"a":1,"a":null}"#]);
    let reasons: Vec<_> = decoded.bad.iter().map(|bad| bad.reason).collect();
    assert_eq!(reasons, [BadReason::WrongType, BadReason::NullColumn], "also when the last one is bad");
}

#[test]
fn rows_without_columns_are_counted() {
    let decoded = decoder(Format::Json, &[]).decode(&fetched([Some("{}"), Some("[]"), Some(r#"{"a":1}"#)]));
    assert_eq!(decoded.rows.num_rows(), 2);
    assert_eq!(decoded.good, Some(vec![0, 2]));
    assert_eq!(decoded.bad.len(), 1);
}

#[test]
fn an_empty_batch_is_no_rows() {
    let decoded = decode_all::<&str>("a INT", []);
    assert_eq!((decoded.rows.num_rows(), decoded.good, decoded.bad), (0, None, Vec::new()));
}

#[test]
fn binary_keys_do_not_matter() {
    let mut batch = Fetched::empty(TopicPartition::new("t", 0), 0);
    batch.push(0, -1, Some(&[0xff, 0xc3]), Some("{\"b\":\"é\"}".as_bytes()));
    batch.push(1, -1, Some(&[0xa9]), Some(b"{\"b\":\"\xc3\"}"));
    batch.push(2, -1, Some(&[0x80]), Some(b"{\"b\":\"x\"}"));
    let decoded = decoder(Format::Json, &columns("b STRING")).decode(&batch);
    assert_eq!(decoded.good, Some(vec![0, 2]));
    assert_eq!(decoded.bad[0].reason, BadReason::InvalidUtf8);
    let texts: Vec<_> = decoded.rows.column(0).as_string::<i32>().iter().collect();
    assert_eq!(texts, [Some("é"), Some("x")]);
}

#[test]
fn a_megabyte_is_no_trouble() {
    let long = "päß\\\" \n\u{1}😀".repeat(80_000);
    assert!(long.len() > 1_000_000);
    let json = serde_json::json!({"s": long, "t": "end"}).to_string();
    let rows = good("s STRING; t STRING", [&json]);
    assert_eq!(rows.column(0).as_string::<i32>().value(0), long);
    let again = encode("s STRING; t STRING", &rows);
    assert_eq!(good("s STRING; t STRING", &again), rows);
}

#[test]
fn timestamps_are_read_from_text_and_milliseconds() {
    let rows = good(
        "t TIMESTAMP(3)",
        [
            r#"{"t":"2026-01-02T05:04:05.678+02:00"}"#,
            r#"{"t":"2026-01-02 03:04:05.678"}"#,
            r#"{"t":"2026\u002d01-02T03:04:05.678Z"}"#,
            r#"{"t":1767323045678}"#,
            r#"{"t":1.767323045678e12}"#,
            r#"{"t":-1}"#,
            r#"{"t":-0.5}"#,
        ],
    );
    let wanted = [1_767_323_045_678; 5].into_iter().chain([-1, -1]).map(Some);
    assert!(rows.column(0).as_primitive::<TimestampMillisecondType>().iter().eq(wanted));
    for (data_type, wanted) in [
        ("TIMESTAMP(0)", r#"{"t":"2026-01-02T03:04:05"}"#),
        ("TIMESTAMP(3)", r#"{"t":"2026-01-02T03:04:05.678"}"#),
        ("TIMESTAMP_LTZ(6)", r#"{"t":"2026-01-02T03:04:05.678250Z"}"#),
        ("TIMESTAMP_LTZ(9)", r#"{"t":"2026-01-02T03:04:05.678250125Z"}"#),
    ] {
        let columns = format!("t {data_type}");
        let text = r#"{"t":"2026-01-02T02:34:05.678250125-00:30"}"#;
        assert_eq!(encode(&columns, &good(&columns, [text])), [wanted]);
    }
}

#[test]
fn values_are_written_as_documented() {
    let text = "a DOUBLE; f FLOAT; d DECIMAL(10,3); b BYTES; day DATE; ok BOOLEAN; s STRING";
    let rows = good(
        text,
        [
            r#"{"a":0.1,"f":0.1,"d":-0.05,"b":"AP8","day":"2024-02-29","ok":true,"s":"\"\\\/\b\f\n\r\t\u001f\u007f"}"#,
            r#"{"a":1e300,"f":-0.0,"d":1234567,"b":"","day":"-000001-12-31","ok":false,"s":"\u2028"}"#,
        ],
    );
    assert_eq!(
        encode(text, &rows),
        [
            r#"{"a":0.1,"f":0.1,"d":-0.050,"b":"AP8=","day":"2024-02-29","ok":true,"s":"\"\\/\b\f\n\r\t\u001f"#
                .to_owned()
                + "\u{7f}\"}",
            r#"{"a":1e300,"f":-0.0,"d":1234567.000,"b":"","day":"-000001-12-31","ok":false,"s":""#.to_owned()
                + "\u{2028}\"}",
        ]
    );
}

#[test]
fn what_is_no_number_is_written_as_null() {
    use arrow::array::Float64Array;
    let schema = crate::types::arrow_schema(&columns("a DOUBLE"));
    let values = Float64Array::from(vec![f64::NAN, f64::INFINITY, f64::NEG_INFINITY]);
    let rows = RecordBatch::try_new(schema, vec![std::sync::Arc::new(values)]).expect("one column");
    assert_eq!(encode("a DOUBLE", &rows), [r#"{"a":null}"#; 3]);
}

#[test]
fn rows_of_other_columns_are_refused() {
    let rows = good("a INT", [r#"{"a":1}"#]);
    for other in ["a BIGINT", "a INT; b INT"] {
        let outcome = encoder(Format::Json, &columns(other)).encode(&rows, &mut Vec::new(), &mut Vec::new());
        assert!(matches!(outcome, Err(crate::EngineError::Plan(_))), "{other}");
    }
}

#[test]
fn a_decoder_learns_names_and_forgets_them_again() {
    // The same decoder sees the members in other orders, under names that begin alike, and misspelt.
    let mut decoder = decoder(Format::Json, &columns("id INT; idx BIGINT; i DOUBLE"));
    for values in [
        [r#"{"id":1,"idx":2,"i":3}"#, r#"{"idx":2,"id":1,"i":3}"#, r#"{"i":3,"idx":2,"id":1}"#],
        [r#"{"i":3,"x":0,"id":1,"idx":2}"#, r#"{"x":0,"i":3,"id":1,"idx":2}"#, r#"{"i\ud800":9,"id":1,"i":3,"idx":2}"#],
    ] {
        let decoded = decoder.decode(&fetched(values.map(Some)));
        assert_eq!(decoded.bad, []);
        assert!(decoded.rows.column(0).as_primitive::<Int32Type>().iter().eq([Some(1); 3]));
        assert!(decoded.rows.column(1).as_primitive::<Int64Type>().iter().eq([Some(2); 3]));
        assert!(decoded.rows.column(2).as_primitive::<Float64Type>().iter().eq([Some(3.0); 3]));
        assert_eq!(decoded.rows.column(0).null_count(), 0);
    }
}
