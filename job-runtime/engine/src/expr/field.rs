//! Access to a field of a struct.
//!
//! DataFusion's own hands out the field's column as it lies in memory; where the struct is null, that column
//! may hold anything. Here the field of a null struct is null.

use arrow::array::{Array, AsArray};
use arrow::compute::{is_null, nullif};
use arrow_schema::DataType as ArrowType;
use datafusion_common::{DataFusionError, Result, exec_err, plan_err};
use datafusion_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};

/// The function that takes a struct and gives one of its fields.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct FieldOf {
    field: String,
    signature: Signature,
}

impl FieldOf {
    pub(super) fn new(field: &str) -> Self {
        Self { field: field.to_owned(), signature: Signature::any(1, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for FieldOf {
    fn name(&self) -> &str {
        &self.field
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[ArrowType]) -> Result<ArrowType> {
        let [ArrowType::Struct(fields)] = arguments else {
            return plan_err!("`.{}` needs a STRUCT before it", self.field);
        };
        match fields.find(&self.field) {
            Some((_, field)) => Ok(field.data_type().clone()),
            None => {
                let known: Vec<_> = fields.iter().map(|field| field.name().as_str()).collect();
                plan_err!("the struct has no field `{}`; it has {}", self.field, known.join(", "))
            }
        }
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = arguments.number_rows;
        let Some(value) = arguments.args.into_iter().next() else {
            return exec_err!("`.{}` needs a STRUCT before it", self.field);
        };
        let array = value.into_array(rows)?;
        let Some(field) = array.as_struct_opt().and_then(|array| array.column_by_name(&self.field)) else {
            return exec_err!("the struct has no field `{}`", self.field);
        };
        if array.null_count() == 0 {
            return Ok(ColumnarValue::Array(field.clone()));
        }
        let masked = nullif(field, &is_null(&array)?).map_err(DataFusionError::from)?;
        Ok(ColumnarValue::Array(masked))
    }
}
