//! Aggregates one by one.

use std::sync::Arc;

use arrow::array::{BooleanArray, Decimal128Array, Float64Array, Int64Array, ListArray, StringArray};
use arrow::datatypes::{Float64Type, Int64Type};
use freshet_plan::{Aggregate, AggregateFunction, DataType};

use super::*;

fn spec(
    function: AggregateFunction,
    argument: &str,
    output: &str,
    distinct: bool,
    filter: Option<usize>,
) -> AggregateSpec {
    let data_type = |text: &str| text.parse::<DataType>().expect(text);
    AggregateSpec::new(&Aggregate {
        name: "x".to_owned(),
        function,
        argument: Some(0),
        argument_type: Some(data_type(argument)),
        distinct,
        filter,
        data_type: data_type(output),
    })
    .expect("an aggregate")
}

/// One group's accumulator over all rows of a batch of `columns`.
fn over(spec: &AggregateSpec, columns: Vec<ArrayRef>) -> Result<Accumulators, AccumulateError> {
    let rows: Vec<u32> = (0..columns[0].len() as u32).collect();
    let ids = vec![0; rows.len()];
    let named = columns.into_iter().enumerate().map(|(at, column)| (at.to_string(), column, true));
    let batch = RecordBatch::try_from_iter_with_nullable(named).expect("a batch");
    let mut accumulators = Accumulators::new(std::slice::from_ref(spec));
    accumulators.grow(1);
    accumulators.update(&batch, Selected { rows: &rows, ids: &ids })?;
    Ok(accumulators)
}

fn result(accumulators: &Accumulators) -> ArrayRef {
    accumulators.finish(&[0]).expect("a result").remove(0)
}

#[test]
fn nan_is_above_every_number_and_zero_has_no_sign() {
    use AggregateFunction::{Max, Min};
    let minus_nan = f64::from_bits(f64::NAN.to_bits() | 1 << 63);
    for (values, least, greatest) in [
        (vec![1.0, f64::NAN, -1.0], -1.0, f64::NAN),
        (vec![minus_nan, 5.0], 5.0, f64::NAN),
        (vec![-0.0, 0.0], 0.0, 0.0),
        (vec![f64::INFINITY, f64::NEG_INFINITY], f64::NEG_INFINITY, f64::INFINITY),
    ] {
        for (function, expected) in [(Min, least), (Max, greatest)] {
            let array: ArrayRef = Arc::new(Float64Array::from(values.clone()));
            let found = result(&over(&spec(function, "DOUBLE", "DOUBLE", false, None), vec![array]).expect("floats"));
            let found = found.as_primitive::<Float64Type>().value(0);
            assert_eq!(found.to_bits(), expected.to_bits(), "{function:?} of {values:?} is {found}");
        }
    }
}

#[test]
fn distinct_and_filter_go_together() {
    let values: ArrayRef = Arc::new(Int64Array::from(vec![Some(5), Some(5), Some(7), None, Some(9)]));
    let kept: ArrayRef = Arc::new(BooleanArray::from(vec![Some(true), Some(true), Some(true), Some(true), None]));
    for (function, distinct, expected) in [
        (AggregateFunction::Count, true, 2),
        (AggregateFunction::Count, false, 3),
        (AggregateFunction::Sum, true, 12),
        (AggregateFunction::Sum, false, 17),
    ] {
        let spec = spec(function, "BIGINT", "BIGINT", distinct, Some(1));
        let found = result(&over(&spec, vec![values.clone(), kept.clone()]).expect("integers"));
        assert_eq!(found.as_primitive::<Int64Type>().value(0), expected, "{function:?} {distinct}");
    }
}

#[test]
fn counting_takes_nested_values() {
    let lists: ArrayRef =
        Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>([Some(vec![Some(1)]), None, Some(vec![])]));
    let found = result(
        &over(&spec(AggregateFunction::Count, "ARRAY<BIGINT>", "BIGINT", false, None), vec![lists]).expect("lists"),
    );
    assert_eq!(found.as_primitive::<Int64Type>().value(0), 2);
}

#[test]
fn decimals_that_leave_their_digits_are_refused() {
    let most = 10_i128.pow(38) - 1;
    let decimals = |values: Vec<i128>| -> ArrayRef {
        Arc::new(Decimal128Array::from(values).with_precision_and_scale(38, 2).expect("digits"))
    };
    let sum = spec(AggregateFunction::Sum, "DECIMAL(38,2)", "DECIMAL(38,2)", false, None);
    assert!(over(&sum, vec![decimals(vec![most, -1, 1])]).expect("in 128 bits").finish(&[0]).is_ok());
    let error = over(&sum, vec![decimals(vec![most, 1])]).expect("in 128 bits").finish(&[0]).expect_err("39 digits");
    assert_eq!(error, sum.overflow());
    assert_eq!(over(&sum, vec![decimals(vec![most, most])]).expect_err("beyond 128 bits"), sum.overflow());
    let mean = spec(AggregateFunction::Avg, "DECIMAL(38,2)", "DECIMAL(38,6)", false, None);
    assert_eq!(
        over(&mean, vec![decimals(vec![most])]).expect("in 128 bits").finish(&[0]).expect_err("42 digits"),
        mean.overflow()
    );
}

#[test]
fn a_column_of_another_type_is_refused() {
    let texts: ArrayRef = Arc::new(StringArray::from(vec!["a"]));
    let sum = spec(AggregateFunction::Sum, "BIGINT", "BIGINT", false, None);
    assert!(matches!(over(&sum, vec![texts]), Err(AccumulateError::Column { .. })));
}

#[test]
fn an_array_of_too_many_values_is_an_error_by_name() {
    let spec = spec(AggregateFunction::ArrayAgg, "BIGINT", "ARRAY<BIGINT>", true, None);
    let numbers = |count: usize| -> ArrayRef { Arc::new(Int64Array::from_iter_values((0..count as i64).rev())) };
    let found = result(&over(&spec, vec![numbers(MAX_COLLECTED)]).expect("as many as there may be"));
    let sorted = found.as_list::<i32>().value(0);
    assert_eq!(sorted.len(), MAX_COLLECTED);
    assert!(sorted.as_primitive::<Int64Type>().values().is_sorted());
    let error = over(&spec, vec![numbers(MAX_COLLECTED + 1)]).expect_err("one more");
    assert!(error.to_string().starts_with("x: a group has more than 1000000 values"), "{error}");
}
