//! What is written is read back, bit for bit; and others read the same from it.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int8Array,
    Int16Array, Int32Array, Int64Array, ListArray, StringArray, StructArray, TimestampMicrosecondArray,
    TimestampMillisecondArray, TimestampNanosecondArray, TimestampSecondArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow_schema::DataType as ArrowType;
use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::types::{UTC, arrow_schema, arrow_type};

const COLUMNS: &str = "flag BOOLEAN; tiny TINYINT; small SMALLINT; int INT; big BIGINT; float FLOAT; double DOUBLE; \
                       price DECIMAL(12,2); huge DECIMAL(38,19); text STRING; raw BYTES; day DATE; s TIMESTAMP(0); \
                       ms TIMESTAMP(3); us TIMESTAMP(6); ns TIMESTAMP_LTZ(9); tags ARRAY<STRING>; \
                       nested STRUCT<id STRING, at TIMESTAMP_LTZ(3), items ARRAY<STRUCT<n BIGINT, ok BOOLEAN>>>";

type Row = (Scalars, Times, Option<Vec<Option<String>>>, Option<Nested>);
type Scalars = (
    Option<bool>,
    Option<i8>,
    Option<i16>,
    Option<i32>,
    Option<i64>,
    Option<f32>,
    Option<f64>,
    Option<i64>,
    Option<i128>,
    Option<String>,
    Option<Vec<u8>>,
);
type Times = (Option<i32>, Option<i64>, Option<i64>, Option<i64>, Option<i64>);
type Nested = (Option<String>, Option<i64>, Option<Vec<Option<(Option<i64>, Option<bool>)>>>);

fn maybe<S: Strategy>(strategy: S) -> impl Strategy<Value = Option<S::Value>> {
    prop::option::weighted(0.8, strategy)
}

/// Texts of all scripts, control characters and what JSON must escape.
fn text() -> impl Strategy<Value = String> {
    let character =
        prop_oneof![any::<char>(), prop::sample::select(vec!['"', '\\', '\n', '\0', '\u{1f}', 'é', '😀', 'a'])];
    prop::collection::vec(character, 0..20).prop_map(|characters| characters.into_iter().collect())
}

fn float() -> impl Strategy<Value = f32> {
    any::<u32>().prop_map(f32::from_bits).prop_filter("JSON has finite numbers only", |value| value.is_finite())
}

fn double() -> impl Strategy<Value = f64> {
    let bits = any::<u64>().prop_map(f64::from_bits);
    let near = (any::<i32>(), 0..6).prop_map(|(digits, scale)| f64::from(digits) / 10_f64.powi(scale));
    prop_oneof![bits, near].prop_filter("JSON has finite numbers only", |value| value.is_finite())
}

fn row() -> impl Strategy<Value = Row> {
    let cents = -999_999_999_999_i64..=999_999_999_999;
    let huge = prop_oneof![-(10_i128.pow(38) - 1)..10_i128.pow(38), -1000_i128..1000];
    let scalars = (
        maybe(any::<bool>()),
        maybe(any::<i8>()),
        maybe(any::<i16>()),
        maybe(any::<i32>()),
        maybe(any::<i64>()),
        maybe(float()),
        maybe(double()),
        maybe(cents),
        maybe(huge),
        maybe(text()),
        maybe(prop::collection::vec(any::<u8>(), 0..12)),
    );
    let instant = || prop_oneof![any::<i64>(), -5_000_000_000_000_000_i64..5_000_000_000_000_000];
    let times = (maybe(any::<i32>()), maybe(instant()), maybe(instant()), maybe(instant()), maybe(any::<i64>()));
    let items = prop::collection::vec(maybe((maybe(any::<i64>()), maybe(any::<bool>()))), 0..4);
    let nested = (maybe(text()), maybe(instant()), maybe(items));
    (scalars, times, maybe(prop::collection::vec(maybe(text()), 0..4)), maybe(nested))
}

fn list(item: &str, lengths: Vec<Option<usize>>, items: ArrayRef) -> ArrayRef {
    let ArrowType::List(field) = arrow_type(&format!("ARRAY<{item}>").parse().expect("a type")) else {
        panic!("an ARRAY is a list")
    };
    let nulls = NullBuffer::from(lengths.iter().map(Option::is_some).collect::<Vec<_>>());
    let offsets = OffsetBuffer::from_lengths(lengths.into_iter().map(Option::unwrap_or_default));
    Arc::new(ListArray::new(field, offsets, items, Some(nulls)))
}

fn structs(data_type: &str, valid: Vec<bool>, columns: Vec<ArrayRef>) -> ArrayRef {
    let ArrowType::Struct(fields) = arrow_type(&data_type.parse().expect("a type")) else {
        panic!("a STRUCT is a struct")
    };
    Arc::new(StructArray::new(fields, columns, Some(NullBuffer::from(valid))))
}

fn batch(rows: &[Row]) -> RecordBatch {
    macro_rules! column {
        ($array:ty, $($path:tt)+) => { <$array>::from_iter(rows.iter().map(|row| row.$($path)+.clone())) };
    }
    let decimal = |array: Decimal128Array, precision, scale| -> ArrayRef {
        Arc::new(array.with_precision_and_scale(precision, scale).expect("in range"))
    };
    let tags: Vec<_> = rows.iter().flat_map(|row| row.2.iter().flatten().cloned()).collect();
    let nested: Vec<Option<&Nested>> = rows.iter().map(|row| row.3.as_ref()).collect();
    let items: Vec<_> = nested.iter().flatten().flat_map(|nested| nested.2.iter().flatten().copied()).collect();
    let item = structs(
        "STRUCT<n BIGINT, ok BOOLEAN>",
        items.iter().map(Option::is_some).collect(),
        vec![
            Arc::new(items.iter().map(|item| item.and_then(|item| item.0)).collect::<Int64Array>()),
            Arc::new(items.iter().map(|item| item.and_then(|item| item.1)).collect::<BooleanArray>()),
        ],
    );
    let lengths = nested.iter().map(|nested| nested.and_then(|nested| nested.2.as_ref().map(Vec::len))).collect();
    let at = nested.iter().map(|nested| nested.and_then(|nested| nested.1)).collect::<TimestampMillisecondArray>();
    let nested = structs(
        "STRUCT<id STRING, at TIMESTAMP_LTZ(3), items ARRAY<STRUCT<n BIGINT, ok BOOLEAN>>>",
        nested.iter().map(Option::is_some).collect(),
        vec![
            Arc::new(nested.iter().map(|nested| nested.and_then(|nested| nested.0.clone())).collect::<StringArray>()),
            Arc::new(at.with_timezone(UTC)),
            list("STRUCT<n BIGINT, ok BOOLEAN>", lengths, item),
        ],
    );
    let columns: Vec<ArrayRef> = vec![
        Arc::new(column!(BooleanArray, 0.0)),
        Arc::new(column!(Int8Array, 0.1)),
        Arc::new(column!(Int16Array, 0.2)),
        Arc::new(column!(Int32Array, 0.3)),
        Arc::new(column!(Int64Array, 0.4)),
        Arc::new(column!(Float32Array, 0.5)),
        Arc::new(column!(Float64Array, 0.6)),
        decimal(rows.iter().map(|row| row.0.7.map(i128::from)).collect(), 12, 2),
        decimal(column!(Decimal128Array, 0.8), 38, 19),
        Arc::new(column!(StringArray, 0.9)),
        Arc::new(column!(BinaryArray, 0.10)),
        Arc::new(column!(Date32Array, 1.0)),
        Arc::new(column!(TimestampSecondArray, 1.1)),
        Arc::new(column!(TimestampMillisecondArray, 1.2)),
        Arc::new(column!(TimestampMicrosecondArray, 1.3)),
        Arc::new(column!(TimestampNanosecondArray, 1.4).with_timezone(UTC)),
        list(
            "STRING",
            rows.iter().map(|row| row.2.as_ref().map(Vec::len)).collect(),
            Arc::new(StringArray::from(tags)),
        ),
        nested,
    ];
    RecordBatch::try_new(arrow_schema(&columns_of_rows()), columns).expect("columns of the schema")
}

fn columns_of_rows() -> Vec<Column> {
    columns(COLUMNS)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn rows_survive_write_and_read(rows in prop::collection::vec(row(), 1..8), skip in 0..3_usize) {
        let whole = batch(&rows);
        // A slice too: operators hand on slices.
        let skip = skip.min(rows.len());
        let written = whole.slice(skip, rows.len() - skip);
        let texts = encode(COLUMNS, &written);
        let read = good(COLUMNS, &texts);
        prop_assert_eq!(&read, &written);
        prop_assert_eq!(&encode(COLUMNS, &read), &texts, "bit for bit, negative zeros too");

        for (row, text) in rows[skip..].iter().zip(&texts) {
            let value: Value = serde_json::from_str(text).expect("another reader takes it");
            let names: Vec<_> = value.as_object().expect("an object").keys().cloned().collect();
            let wanted: Vec<_> = columns_of_rows().into_iter().map(|column| column.name).collect();
            prop_assert_eq!(names, wanted);
            prop_assert_eq!(value["big"].as_i64(), row.0.4);
            prop_assert_eq!(value["text"].as_str(), row.0.9.as_deref());
            prop_assert_eq!(value["flag"].as_bool(), row.0.0);
            let tags = row.2.as_ref().map(|tags| Value::from(tags.clone()));
            prop_assert_eq!(&value["tags"], &tags.unwrap_or(Value::Null));
            let id = row.3.as_ref().and_then(|nested| nested.0.as_deref());
            prop_assert_eq!(value["nested"]["id"].as_str(), id);
        }
    }

    #[test]
    fn doubles_are_read_as_the_nearest(digits in "-?(0|[1-9][0-9]{0,24})(\\.[0-9]{1,24})?([eE][+-]?[0-9]{1,2})?") {
        let rows = good("a DOUBLE", [format!("{{\"a\":{digits}}}")]);
        let wanted: f64 = digits.parse().expect("a number");
        prop_assert_eq!(rows.column(0).as_primitive::<Float64Type>().value(0).to_bits(), wanted.to_bits());
    }

    #[test]
    fn zones_change_the_spelling_and_not_the_instant(
        millis in -62_135_596_800_000_i64..253_402_300_800_000,
        minutes in -23 * 60 - 59..=23 * 60 + 59_i32,
        separator in prop::sample::select(vec!["T", " "]),
    ) {
        let zone = chrono::FixedOffset::east_opt(minutes * 60).expect("less than a day");
        let at = chrono::DateTime::from_timestamp_millis(millis).expect("in range").with_timezone(&zone);
        // Years that chrono writes in another form are not what is tested here.
        prop_assume!((1..=9999).contains(&chrono::Datelike::year(&at)));
        let text = at.format(&format!("%Y-%m-%d{separator}%H:%M:%S%.3f%:z")).to_string();
        let rows = good("a TIMESTAMP(3); b TIMESTAMP_LTZ(3); c TIMESTAMP(3)", [
            format!("{{\"a\":\"{text}\",\"b\":\"{text}\",\"c\":{millis}}}"),
        ]);
        for column in rows.columns() {
            prop_assert_eq!(column.as_primitive::<TimestampMillisecondType>().value(0), millis, "{}", &text);
        }
    }
}
