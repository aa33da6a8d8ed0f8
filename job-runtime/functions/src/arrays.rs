//! Arrays: their elements, and their texts joined.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int32Array, StringBuilder, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::Int64Type;
use arrow_schema::DataType;
use datafusion_common::{Result, exec_err, plan_err};
use datafusion_expr::ScalarUDF;

use crate::row::{Function, any_null, items};

/// The functions of this file.
pub(crate) fn functions() -> Vec<ScalarUDF> {
    vec![
        Function::any("array_join", join_type, array_join),
        Function::any("cardinality", cardinality_type, cardinality),
        Function::any("element_at", element_type, element_at),
        Function::any("element", only_type, element),
        Function::any("array_contains", contains_type, array_contains),
    ]
}

fn join_type(arguments: &[DataType]) -> Result<DataType> {
    let [array, others @ ..] = arguments else {
        return plan_err!("ARRAY_JOIN is called with an ARRAY and a separator");
    };
    if *items("array_join", array)? != DataType::Utf8 {
        return plan_err!("ARRAY_JOIN needs an ARRAY<STRING>; CAST its items to STRING where they are made");
    }
    if !matches!(others.len(), 1 | 2) || others.iter().any(|other| *other != DataType::Utf8) {
        return plan_err!("ARRAY_JOIN(array, separator [, text for nulls]) takes texts behind the array");
    }
    Ok(DataType::Utf8)
}

/// The texts of an array with a separator between them. Nulls in the array are left out, or written as the third
/// argument.
fn array_join(arguments: &[ArrayRef]) -> Result<ArrayRef> {
    let lists = lists(arguments)?;
    let text = |at: usize, row: usize| arguments[at].as_string::<i32>().value(row).to_owned();
    let mut joined = StringBuilder::new();
    for row in 0..lists.len() {
        if any_null(arguments, row) {
            joined.append_null();
            continue;
        }
        let (separator, for_nulls) = (text(1, row), (arguments.len() > 2).then(|| text(2, row)));
        let (items, mut all, mut first) = (lists.value(row), String::new(), true);
        for item in items.as_string::<i32>() {
            let Some(item) = item.or(for_nulls.as_deref()) else { continue };
            if !std::mem::take(&mut first) {
                all.push_str(&separator);
            }
            all.push_str(item);
        }
        joined.append_value(all);
    }
    Ok(Arc::new(joined.finish()))
}

fn lists(arguments: &[ArrayRef]) -> Result<&arrow::array::ListArray> {
    match arguments.first().and_then(|array| array.as_list_opt::<i32>()) {
        Some(lists) => Ok(lists),
        None => exec_err!("an array was expected"),
    }
}

fn cardinality_type(arguments: &[DataType]) -> Result<DataType> {
    match arguments {
        [array] => items("cardinality", array).map(|_| DataType::Int32),
        _ => plan_err!("CARDINALITY has one argument"),
    }
}

/// How many items an array has, nulls among them.
fn cardinality(arguments: &[ArrayRef]) -> Result<ArrayRef> {
    let lists = lists(arguments)?;
    let count = |row: usize| (!lists.is_null(row)).then(|| lists.value_length(row));
    Ok(Arc::new((0..lists.len()).map(count).collect::<Int32Array>()))
}

fn element_type(arguments: &[DataType]) -> Result<DataType> {
    match arguments {
        [array, number] if number.is_integer() => items("an element", array).cloned(),
        _ => plan_err!("an element of an array is named by an integer, from 1: a[1]"),
    }
}

/// The item with this number, from 1; null where there is none. Below 1 is an error.
fn element_at(arguments: &[ArrayRef]) -> Result<ArrayRef> {
    let lists = lists(arguments)?;
    let numbers = arrow::compute::cast(&arguments[1], &DataType::Int64)?;
    let numbers = numbers.as_primitive::<Int64Type>();
    let place = |row: usize| -> Result<Option<u32>> {
        if any_null(arguments, row) {
            return Ok(None);
        }
        let number = numbers.value(row);
        if number < 1 {
            return exec_err!("elements of an array are counted from 1; there is none with the number {number}");
        }
        let there = number <= i64::from(lists.value_length(row));
        Ok(there.then(|| (i64::from(lists.value_offsets()[row]) + number - 1) as u32))
    };
    let places = (0..lists.len()).map(place).collect::<Result<UInt32Array>>()?;
    Ok(take(lists.values(), &places, None)?)
}

fn only_type(arguments: &[DataType]) -> Result<DataType> {
    match arguments {
        [array] => items("element", array).cloned(),
        _ => plan_err!("ELEMENT has one argument"),
    }
}

/// The only item of an array; null of an empty one. An array with more is an error.
fn element(arguments: &[ArrayRef]) -> Result<ArrayRef> {
    let lists = lists(arguments)?;
    let place = |row: usize| -> Result<Option<u32>> {
        match lists.value_length(row) {
            _ if lists.is_null(row) => Ok(None),
            0 => Ok(None),
            1 => Ok(Some(lists.value_offsets()[row] as u32)),
            more => exec_err!("ELEMENT is of an array with one item; this has {more}"),
        }
    };
    let places = (0..lists.len()).map(place).collect::<Result<UInt32Array>>()?;
    Ok(take(lists.values(), &places, None)?)
}

fn contains_type(arguments: &[DataType]) -> Result<DataType> {
    let [array, wanted] = arguments else { return plan_err!("ARRAY_CONTAINS has an ARRAY and a value") };
    let item = items("array_contains", array)?;
    let both = |is: fn(&DataType) -> bool| is(item) && is(wanted);
    if item == wanted || both(DataType::is_integer) || both(DataType::is_floating) {
        return Ok(DataType::Boolean);
    }
    plan_err!("ARRAY_CONTAINS looks for {wanted} in an array of {item}: write a CAST")
}

/// Whether an array has an item that equals the value; null only where the array or the value is.
fn array_contains(arguments: &[ArrayRef]) -> Result<ArrayRef> {
    let lists = lists(arguments)?;
    let wanted = arrow::compute::cast(&arguments[1], &lists.value_type())?;
    let mut found = Vec::with_capacity(lists.len());
    for row in 0..lists.len() {
        if any_null(arguments, row) {
            found.push(None);
            continue;
        }
        // A value that the items' type can't hold is none of them.
        if wanted.is_null(row) {
            found.push(Some(false));
            continue;
        }
        let wanted = arrow::array::Scalar::new(wanted.slice(row, 1));
        found.push(Some(arrow::compute::kernels::cmp::eq(&lists.value(row), &wanted)?.true_count() > 0));
    }
    Ok(Arc::new(BooleanArray::from(found)))
}
