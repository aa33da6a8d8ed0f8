//! Every kind of expression, against expected values, nulls included; and what must fail or must not.

use std::sync::Arc;

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use freshet_log::{Fetched, TopicPartition};
use freshet_plan::{BinaryOp, Column, DataType, Expr, Format, Literal};
use proptest::prelude::*;

use super::*;
use crate::format::{decoder, encoder};

fn data_type(text: &str) -> DataType {
    text.parse().expect(text)
}

/// Rows of these columns, from JSON.
fn rows(columns: &[(&str, &str)], json: &[&str]) -> RecordBatch {
    let columns: Vec<_> = columns.iter().map(|(name, text)| Column::new(*name, data_type(text))).collect();
    let mut batch = Fetched::empty(TopicPartition::new("t", 0), 0);
    for (offset, value) in json.iter().enumerate() {
        batch.push(offset as i64, -1, None, Some(value.as_bytes()));
    }
    let decoded = decoder(Format::Json, &columns).decode(&batch);
    assert_eq!(decoded.bad, []);
    decoded.rows
}

fn sample() -> RecordBatch {
    rows(
        &[
            ("a", "BIGINT"),
            ("b", "BIGINT"),
            ("i", "INT"),
            ("x", "DOUBLE"),
            ("p", "DECIMAL(10,2)"),
            ("s", "STRING"),
            ("ok", "BOOLEAN"),
            ("t", "TIMESTAMP(3)"),
            ("d", "DATE"),
            ("m", "STRUCT<id STRING, inner STRUCT<n INT>>"),
            ("raw", "BYTES"),
        ],
        &[
            r#"{"a":7,"b":2,"i":3,"x":1.5,"p":10.25,"s":"Apple","ok":true,"t":"2026-01-02T03:04:05.678","d":"2026-01-31","m":{"id":"k","inner":{"n":4}},"raw":"AP8="}"#,
            r#"{"a":-7,"b":0,"i":-3,"x":-0.0,"p":-0.01,"s":"b%_","ok":false,"t":0,"d":"1970-01-01","m":{"id":null,"inner":null},"raw":""}"#,
            "{}",
        ],
    )
}

/// The column of the sample that is called so.
fn col(name: &str) -> Expr {
    Expr::column(sample().schema().index_of(name).expect(name), name)
}

fn int(value: i64) -> Expr {
    constant(Literal::Int(value), "BIGINT")
}

fn text(value: &str) -> Expr {
    constant(Literal::String(value.to_owned()), "STRING")
}

fn constant(value: Literal, text: &str) -> Expr {
    Expr::Literal { value, data_type: data_type(text) }
}

fn binary(left: Expr, op: BinaryOp, right: Expr) -> Expr {
    Expr::Binary { op, left: Box::new(left), right: Box::new(right) }
}

fn cast(expr: Expr, text: &str, safe: bool) -> Expr {
    Expr::Cast { expr: Box::new(expr), data_type: data_type(text), safe }
}

fn call(function: &str, args: Vec<Expr>) -> Expr {
    Expr::Call { function: function.to_owned(), args }
}

fn is_null(expr: Expr, negated: bool) -> Expr {
    Expr::IsNull { expr: Box::new(expr), negated }
}

fn in_list(expr: Expr, list: Vec<Expr>, negated: bool) -> Expr {
    Expr::InList { expr: Box::new(expr), list, negated }
}

fn case(when: Vec<(Expr, Expr)>, otherwise: Option<Expr>) -> Expr {
    Expr::Case { base: None, when, otherwise: otherwise.map(Box::new) }
}

fn like(expr: Expr, pattern: &str, negated: bool, case_insensitive: bool) -> Expr {
    Expr::Like { expr: Box::new(expr), pattern: Box::new(text(pattern)), negated, case_insensitive, escape: None }
}

fn escaped(expr: Expr, pattern: Expr, escape: char) -> Expr {
    let (expr, pattern) = (Box::new(expr), Box::new(pattern));
    Expr::Like { expr, pattern, negated: false, case_insensitive: false, escape: Some(escape) }
}

fn truth(expr: Expr, truth: bool, negated: bool) -> Expr {
    Expr::IsTruth { expr: Box::new(expr), truth, negated }
}

fn field(expr: Expr, name: &str) -> Expr {
    Expr::Field { expr: Box::new(expr), name: name.to_owned() }
}

fn run(expr: &Expr, rows: &RecordBatch) -> Result<ArrayRef, EngineError> {
    compile(expr, &rows.schema())?.evaluate(rows)
}

/// Type and values of an expression over rows, as JSON: what a topic would get.
fn shown(expr: &Expr, rows: &RecordBatch) -> (String, String) {
    let compiled = compile(expr, &rows.schema()).unwrap_or_else(|error| panic!("{expr:?}: {error}"));
    let array = compiled.evaluate(rows).unwrap_or_else(|error| panic!("{expr:?}: {error}"));
    assert_eq!(array.len(), rows.num_rows());
    let columns = [Column::new("v", compiled.data_type().clone())];
    let values =
        RecordBatch::try_new(crate::types::arrow_schema(&columns), vec![array]).expect("of the announced type");
    let (mut bytes, mut ends) = (Vec::new(), Vec::new());
    encoder(Format::Json, &columns).encode(&values, &mut bytes, &mut ends).expect("a column");
    let json = String::from_utf8(bytes).expect("JSON is UTF-8");
    let values = json.replace("}{", "},{").replace("{\"v\":", "").replace("},", " ").replace('}', "");
    (compiled.data_type().to_string(), values)
}

#[test]
fn every_kind_of_expression_gives_its_values() {
    use BinaryOp::*;
    let sample = sample();
    let null = || constant(Literal::Null, "BIGINT");
    let one_month = constant(Literal::Interval { months: 1, days: 0, nanos: 0 }, "BIGINT");
    let hour = constant(Literal::Interval { months: 0, days: 0, nanos: 3_600_000_000_000 }, "BIGINT");
    let choice = Expr::Case {
        base: Some(Box::new(col("s"))),
        when: vec![(text("Apple"), int(1)), (text("b%_"), int(2))],
        otherwise: None,
    };
    for (expr, wanted_type, wanted) in [
        (col("a"), "BIGINT", "7 -7 null"),
        (int(5), "BIGINT", "5 5 5"),
        (null(), "BIGINT", "null null null"),
        (constant(Literal::Boolean(true), "BOOLEAN"), "BOOLEAN", "true true true"),
        (constant(Literal::Float(0.1_f64.to_bits()), "DOUBLE"), "DOUBLE", "0.1 0.1 0.1"),
        (constant(Literal::Float(0.5_f64.to_bits()), "FLOAT"), "FLOAT", "0.5 0.5 0.5"),
        (constant(Literal::Decimal("-105".into()), "DECIMAL(5,2)"), "DECIMAL(5,2)", "-1.05 -1.05 -1.05"),
        (constant(Literal::Bytes(vec![1]), "BYTES"), "BYTES", r#""AQ==" "AQ==" "AQ==""#),
        (constant(Literal::Int(-1), "DATE"), "DATE", r#""1969-12-31" "1969-12-31" "1969-12-31""#),
        (
            constant(Literal::Int(1), "TIMESTAMP_LTZ(0)"),
            "TIMESTAMP_LTZ(0)",
            &[r#""1970-01-01T00:00:01Z""#; 3].join(" "),
        ),
        (binary(col("a"), Plus, col("b")), "BIGINT", "9 -7 null"),
        (binary(col("a"), Minus, col("b")), "BIGINT", "5 -7 null"),
        (binary(col("a"), Multiply, col("b")), "BIGINT", "14 0 null"),
        (binary(col("a"), Divide, int(2)), "BIGINT", "3 -3 null"),
        (binary(col("a"), Modulo, int(2)), "BIGINT", "1 -1 null"),
        (binary(col("x"), Divide, col("x")), "DOUBLE", "1.0 null null"),
        (binary(col("p"), Plus, col("p")), "DECIMAL(11,2)", "20.50 -0.02 null"),
        (binary(col("p"), Multiply, col("p")), "DECIMAL(21,4)", "105.0625 0.0001 null"),
        (binary(col("a"), Eq, int(7)), "BOOLEAN", "true false null"),
        (binary(col("a"), NotEq, int(7)), "BOOLEAN", "false true null"),
        (binary(col("a"), Lt, col("b")), "BOOLEAN", "false true null"),
        (binary(col("a"), LtEq, int(-7)), "BOOLEAN", "false true null"),
        (binary(col("a"), Gt, int(0)), "BOOLEAN", "true false null"),
        (binary(col("a"), GtEq, int(7)), "BOOLEAN", "true false null"),
        (binary(col("a"), IsDistinctFrom, int(7)), "BOOLEAN", "false true true"),
        (binary(col("a"), IsNotDistinctFrom, null()), "BOOLEAN", "false false true"),
        (binary(col("ok"), And, col("ok")), "BOOLEAN", "true false null"),
        (binary(binary(col("a"), Gt, int(0)), Or, is_null(col("a"), false)), "BOOLEAN", "true false true"),
        (binary(col("s"), Concat, text("!")), "STRING", r#""Apple!" "b%_!" null"#),
        (binary(col("s"), RegexMatch, text("^A.*e$")), "BOOLEAN", "true false null"),
        (binary(col("s"), RegexNotMatch, text("p{2}")), "BOOLEAN", "false true null"),
        (binary(col("t"), Plus, hour), "TIMESTAMP(3)", r#""2026-01-02T04:04:05.678" "1970-01-01T01:00:00.000" null"#),
        (
            binary(col("t"), Minus, one_month),
            "TIMESTAMP(3)",
            r#""2025-12-02T03:04:05.678" "1969-12-01T00:00:00.000" null"#,
        ),
        (Expr::Not { expr: Box::new(col("ok")) }, "BOOLEAN", "false true null"),
        (Expr::Negative { expr: Box::new(col("a")) }, "BIGINT", "-7 7 null"),
        (Expr::Negative { expr: Box::new(col("i")) }, "INT", "-3 3 null"),
        (Expr::Negative { expr: Box::new(col("x")) }, "DOUBLE", "-1.5 0.0 null"),
        (Expr::Negative { expr: Box::new(col("p")) }, "DECIMAL(10,2)", "-10.25 0.01 null"),
        (is_null(col("s"), false), "BOOLEAN", "false false true"),
        (is_null(col("s"), true), "BOOLEAN", "true true false"),
        (truth(col("ok"), true, false), "BOOLEAN", "true false false"),
        (truth(col("ok"), true, true), "BOOLEAN", "false true true"),
        (truth(col("ok"), false, false), "BOOLEAN", "false true false"),
        (truth(col("ok"), false, true), "BOOLEAN", "true false true"),
        (like(col("s"), "A%", false, false), "BOOLEAN", "true false null"),
        (like(col("s"), "a%", false, false), "BOOLEAN", "false false null"),
        (like(col("s"), "a%", false, true), "BOOLEAN", "true false null"),
        (like(col("s"), "_\\%\\_", true, false), "BOOLEAN", "true false null"),
        (escaped(col("s"), text("b!%!_"), '!'), "BOOLEAN", "false true null"),
        (escaped(text("a\\b%c"), text("a\\b!%_"), '!'), "BOOLEAN", "true true true"),
        (escaped(text("a\\bxc"), text("a\\b!%_"), '!'), "BOOLEAN", "false false false"),
        (in_list(col("a"), vec![int(7), int(8)], false), "BOOLEAN", "true false null"),
        (in_list(col("a"), vec![int(7), null()], true), "BOOLEAN", "false null null"),
        (in_list(col("a"), vec![col("b"), binary(col("b"), Plus, int(5))], false), "BOOLEAN", "true false null"),
        (in_list(col("a"), vec![col("b"), int(-7)], true), "BOOLEAN", "true false null"),
        (
            case(vec![(binary(col("a"), Gt, int(0)), text("up"))], Some(text("other"))),
            "STRING",
            r#""up" "other" "other""#,
        ),
        (choice, "BIGINT", "1 2 null"),
        (cast(col("a"), "STRING", false), "STRING", r#""7" "-7" null"#),
        (cast(col("a"), "DECIMAL(5,1)", false), "DECIMAL(5,1)", "7.0 -7.0 null"),
        (cast(col("p"), "DOUBLE", false), "DOUBLE", "10.25 -0.01 null"),
        (cast(col("t"), "DATE", false), "DATE", r#""2026-01-02" "1970-01-01" null"#),
        (cast(col("t"), "TIMESTAMP(0)", false), "TIMESTAMP(0)", r#""2026-01-02T03:04:05" "1970-01-01T00:00:00" null"#),
        (cast(col("s"), "BIGINT", true), "BIGINT", "null null null"),
        (cast(text("12"), "BIGINT", false), "BIGINT", "12 12 12"),
        (
            cast(col("t"), "TIMESTAMP_LTZ(3)", false),
            "TIMESTAMP_LTZ(3)",
            r#""2026-01-02T03:04:05.678Z" "1970-01-01T00:00:00.000Z" null"#,
        ),
        (field(col("m"), "id"), "STRING", r#""k" null null"#),
        (field(field(col("m"), "inner"), "n"), "INT", "4 null null"),
        (call("upper", vec![col("s")]), "STRING", r#""APPLE" "B%_" null"#),
        (call("length", vec![col("s")]), "INT", "5 3 null"),
        (call("abs", vec![col("a")]), "BIGINT", "7 7 null"),
        (call("round", vec![col("x")]), "DOUBLE", "2.0 -0.0 null"),
        (call("substr", vec![col("s"), int(2), int(3)]), "STRING", r#""ppl" "%_" null"#),
        (call("concat", vec![col("s"), text("-"), col("s")]), "STRING", r#""Apple-Apple" "b%_-b%_" "-""#),
        (call("coalesce", vec![col("a"), int(0)]), "BIGINT", "7 -7 0"),
        (call("coalesce", vec![col("i"), col("a"), int(9)]), "BIGINT", "3 -3 9"),
        (call("nvl", vec![col("s"), text("?")]), "STRING", r#""Apple" "b%_" "?""#),
        (call("nvl2", vec![col("s"), col("a"), int(0)]), "BIGINT", "7 -7 0"),
        (call("nullif", vec![col("a"), int(7)]), "BIGINT", "null -7 null"),
        (call("greatest", vec![col("a"), col("b")]), "BIGINT", "7 0 null"),
        (
            call("date_trunc", vec![text("minute"), col("t")]),
            "TIMESTAMP(3)",
            r#""2026-01-02T03:04:00.000" "1970-01-01T00:00:00.000" null"#,
        ),
        (call("date_part", vec![text("year"), col("t")]), "INT", "2026 1970 null"),
        (call("to_hex", vec![call("abs", vec![col("a")])]), "STRING", r#""7" "7" null"#),
        (call("md5", vec![text("")]), "STRING", &[r#""d41d8cd98f00b204e9800998ecf8427e""#; 3].join(" ")),
        (call("encode", vec![col("raw"), text("hex")]), "STRING", r#""00ff" "" null"#),
        (call("octet_length", vec![col("s")]), "INT", "5 3 null"),
        (call("split_part", vec![text("a.b"), text("."), int(2)]), "STRING", r#""b" "b" "b""#),
    ] {
        assert_eq!(shown(&expr, &sample), (wanted_type.to_owned(), wanted.to_owned()), "{expr:?}");
    }
}

#[test]
fn numbers_never_wrap() {
    use BinaryOp::*;
    let extremes = rows(
        &[
            ("max", "BIGINT"),
            ("min", "BIGINT"),
            ("tiny", "TINYINT"),
            ("huge", "DECIMAL(38,0)"),
            ("zero", "BIGINT"),
            ("dzero", "DECIMAL(5,2)"),
        ],
        &[
            r#"{"max":9223372036854775807,"min":-9223372036854775808,"tiny":-128,"huge":99999999999999999999999999999999999999,"zero":0,"dzero":0}"#,
        ],
    );
    let col = |name: &str| Expr::column(extremes.schema().index_of(name).expect(name), name);
    for (expr, wanted) in [
        (binary(col("max"), Plus, int(1)), "verflow"),
        (binary(col("min"), Minus, int(1)), "verflow"),
        (binary(col("max"), Multiply, int(2)), "verflow"),
        (binary(col("min"), Divide, int(-1)), "verflow"),
        (binary(col("max"), Divide, col("zero")), "Divide by zero"),
        (binary(col("max"), Modulo, col("zero")), "Divide by zero"),
        (binary(col("dzero"), Divide, col("dzero")), "Divide by zero"),
        (Expr::Negative { expr: Box::new(col("min")) }, "verflow"),
        (Expr::Negative { expr: Box::new(col("tiny")) }, "verflow"),
        (binary(col("huge"), Plus, col("huge")), ""),
        (binary(col("huge"), Plus, constant(Literal::Decimal("1".into()), "DECIMAL(38,0)")), "too large"),
        (binary(col("huge"), Multiply, col("huge")), "verflow"),
        (cast(col("max"), "INT", false), "cast"),
        (cast(col("huge"), "BIGINT", false), ""),
        (cast(constant(Literal::String("seven".into()), "STRING"), "INT", false), "seven"),
        (call("abs", vec![col("min")]), "verflow"),
    ] {
        match run(&expr, &extremes) {
            Err(EngineError::Expression { operator, detail }) => {
                assert!(detail.contains(wanted), "{expr:?}: {detail}");
                assert!(operator.starts_with('`') && operator.len() > 2, "{operator}");
            }
            other => panic!("{expr:?}: {other:?}"),
        }
    }
}

#[test]
fn an_operand_that_can_fail_is_evaluated_only_for_rows_that_need_it() {
    use BinaryOp::*;
    let sample = rows(
        &[("a", "BIGINT"), ("b", "BIGINT")],
        &[r#"{"a":6,"b":0}"#, r#"{"a":6,"b":2}"#, r#"{"a":6,"b":3}"#, r#"{"a":6}"#, r#"{"a":6,"b":6}"#],
    );
    let (a, b) = (Expr::column(0, "a"), Expr::column(1, "b"));
    let quotient = || binary(a.clone(), Divide, b.clone());
    let one = || binary(quotient(), Eq, int(1));
    let safe = || binary(b.clone(), NotEq, int(0));
    for (expr, wanted) in [
        (binary(safe(), And, one()), "false false false null true"),
        (binary(binary(b.clone(), Eq, int(0)), Or, one()), "true false false null true"),
        (in_list(int(6), vec![binary(b.clone(), Plus, int(6)), quotient()], false), "true false false null false"),
        (case(vec![(safe(), quotient())], Some(int(-1))), "-1 3 2 -1 1"),
        (
            call(
                "coalesce",
                vec![
                    call("nullif", vec![binary(b.clone(), Multiply, int(1)), int(2)]),
                    binary(int(1), Divide, binary(b.clone(), Minus, int(0))),
                ],
            ),
            "0 0 3 null 6",
        ),
    ] {
        let (_, values) = shown(&expr, &sample);
        assert_eq!(values, wanted, "{expr:?}");
        // Each row by itself gives the same.
        let alone: Vec<_> = (0..sample.num_rows()).map(|row| shown(&expr, &sample.slice(row, 1)).1).collect();
        assert_eq!(alone.join(" "), wanted, "{expr:?}");
    }
    assert!(run(&one(), &sample).is_err());
    assert!(run(&binary(one(), And, safe()), &sample).is_err(), "from left to right");
    let always = binary(int(1), Divide, int(0));
    assert!(run(&always, &sample).is_err());
    assert_eq!(run(&always, &sample.slice(0, 0)).map(|array| array.len()), Ok(0), "no rows, no failure");
    let never = case(vec![(binary(a.clone(), Lt, int(0)), always)], Some(int(5)));
    assert_eq!(shown(&never, &sample).1, "5 5 5 5 5");
}

#[test]
fn what_is_no_function_of_its_input_is_refused() {
    let schema = sample().schema();
    for (expr, wanted) in [
        (call("now", vec![]), "replay"),
        (call("current_date", vec![]), "replay"),
        (call("random", vec![]), "replay"),
        (call("uuid", vec![]), "replay"),
        (call("no_such_function", vec![]), "there is no function `no_such_function`"),
        (call("arrow_cast", vec![int(1), text("Int8")]), "CAST"),
        (call("upper", vec![]), "upper"),
        (call("abs", vec![col("s")]), "abs"),
        (Expr::column(99, "ghost"), "`ghost`"),
        (binary(col("a"), BinaryOp::Plus, col("ok")), ""),
        (field(col("m"), "ghost"), "it has id, inner"),
        (field(col("a"), "id"), "STRUCT"),
        (cast(col("m"), "BIGINT", false), ""),
        (constant(Literal::Int(1), "STRING"), "no constant"),
        (constant(Literal::Int(300), "TINYINT"), "no constant"),
        (constant(Literal::Decimal("1000".into()), "DECIMAL(3,0)"), "no constant"),
        (binary(col("t"), BinaryOp::Minus, col("t")), "no column can hold"),
        (Expr::Negative { expr: Box::new(col("s")) }, "no negative"),
        (escaped(col("s"), col("s"), '!'), "constant pattern"),
        (escaped(col("s"), text("a!"), '!'), "escape character"),
    ] {
        match compile(&expr, &schema) {
            Err(EngineError::Plan(message)) => assert!(message.contains(wanted), "{expr:?}: {message}"),
            other => panic!("{expr:?}: {other:?}"),
        }
    }
    assert!(matches!(compile_predicate(&col("a"), &schema), Err(EngineError::Plan(_))));
}

#[test]
fn a_predicate_keeps_rows_for_which_it_is_true() {
    let sample = sample();
    let positive = compile_predicate(&binary(col("a"), BinaryOp::Gt, int(0)), &sample.schema()).expect("a condition");
    assert_eq!(positive.mask(&sample), Ok(BooleanArray::from(vec![true, false, false])));
    let plain = compile_predicate(&col("ok"), &sample.schema()).expect("a condition");
    assert_eq!(plain.mask(&sample), Ok(BooleanArray::from(vec![true, false, false])));
}

#[test]
fn a_column_is_not_copied_and_a_wanted_type_is_given() {
    let sample = sample();
    let column = compile(&col("s"), &sample.schema()).expect("a column").evaluate(&sample).expect("a column");
    assert!(Arc::ptr_eq(&column, sample.column_by_name("s").expect("a column")));
    let wide = compile_as(&col("i"), &DataType::BigInt, &sample.schema()).expect("a cast");
    assert_eq!(wide.data_type(), &DataType::BigInt);
    let null = constant(Literal::Null, "BOOLEAN");
    let null = compile_as(&null, &data_type("ARRAY<INT>"), &sample.schema()).expect("a null of any type");
    assert_eq!(null.evaluate(&sample).map(|array| array.null_count()), Ok(3));
}

#[test]
fn fields_of_null_structs_are_null_whatever_lies_in_memory() {
    use arrow::array::{Int32Array, StructArray};
    use arrow::buffer::NullBuffer;
    let columns = [Column::new("m", data_type("STRUCT<n INT>"))];
    let schema = crate::types::arrow_schema(&columns);
    let ArrowType::Struct(fields) = schema.field(0).data_type() else { panic!("a struct") };
    let values = Arc::new(Int32Array::from(vec![1, 2]));
    let structs = StructArray::new(fields.clone(), vec![values], Some(NullBuffer::from(vec![true, false])));
    let rows = RecordBatch::try_new(schema, vec![Arc::new(structs)]).expect("one column");
    assert_eq!(shown(&field(Expr::column(0, "m"), "n"), &rows).1, "1 null");
}

/// Expressions over two integers that can fail in several ways.
fn fallible() -> impl Strategy<Value = Expr> {
    let leaf = prop_oneof![
        Just(Expr::column(0, "a")),
        Just(Expr::column(1, "b")),
        (-2_i64..3).prop_map(int),
        Just(constant(Literal::Null, "BIGINT")),
    ];
    let number = leaf.prop_recursive(3, 12, 2, |inner| {
        let op = prop::sample::select(vec![
            BinaryOp::Plus,
            BinaryOp::Minus,
            BinaryOp::Multiply,
            BinaryOp::Divide,
            BinaryOp::Modulo,
        ]);
        (inner.clone(), op, inner).prop_map(|(left, op, right)| binary(left, op, right))
    });
    let op = prop::sample::select(vec![BinaryOp::Eq, BinaryOp::Lt, BinaryOp::IsDistinctFrom]);
    let condition = (number.clone(), op, number.clone()).prop_map(|(left, op, right)| binary(left, op, right));
    condition.prop_recursive(3, 12, 3, move |inner| {
        let op = prop::sample::select(vec![BinaryOp::And, BinaryOp::Or]);
        prop_oneof![
            (inner.clone(), op, inner.clone()).prop_map(|(left, op, right)| binary(left, op, right)),
            (inner.clone(), inner.clone(), inner.clone()).prop_map(|(a, b, c)| case(vec![(a, b)], Some(c))),
            (number.clone(), prop::collection::vec(number.clone(), 1..3), any::<bool>())
                .prop_map(|(needle, list, negated)| in_list(needle, list, negated)),
            inner.prop_map(|expr| Expr::Not { expr: Box::new(expr) }),
        ]
    })
}

proptest! {
    /// Whether a row fails, and what it gives, is the row's affair, however batches are cut.
    #[test]
    fn a_row_does_not_depend_on_its_neighbours(
        expr in fallible(),
        values in prop::collection::vec((prop::option::of(-3_i64..4), prop::option::of(-3_i64..4)), 1..12),
    ) {
        let json: Vec<_> = values.iter().map(|(a, b)| serde_json::json!({"a": a, "b": b}).to_string()).collect();
        let json: Vec<_> = json.iter().map(String::as_str).collect();
        let all = rows(&[("a", "BIGINT"), ("b", "BIGINT")], &json);
        let compiled = compile(&expr, &all.schema()).expect("well typed");
        let alone: Vec<_> = (0..all.num_rows()).map(|row| compiled.evaluate(&all.slice(row, 1))).collect();
        let together = compiled.evaluate(&all);
        prop_assert_eq!(together.is_err(), alone.iter().any(Result::is_err), "{:?}", together);
        // The rows that do not fail, together.
        let good: UInt32Array = alone.iter().zip(0..).filter(|(row, _)| row.is_ok()).map(|(_, at)| Some(at)).collect();
        let kept = take_record_batch(&all, &good).expect("rows that are there");
        let values = compiled.evaluate(&kept).expect("none of them fails");
        for (at, row) in alone.iter().flatten().enumerate() {
            prop_assert_eq!(&values.slice(at, 1), row);
        }
    }
}
