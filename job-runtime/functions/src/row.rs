//! What the functions share: a function is a name, the types that it takes and gives, and what it does with a batch.

use arrow::array::{Array, ArrayRef};
use arrow_schema::DataType;
use datafusion_common::{Result, exec_err, plan_err};
use datafusion_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};

/// The type that a function gives for its arguments' types, or what is wrong with them.
pub(crate) type Typing = fn(&[DataType]) -> Result<DataType>;
/// The values for a batch: every argument is an array of as many rows.
pub(crate) type Compute = fn(&[ArrayRef]) -> Result<ArrayRef>;

/// A function over arrays of rows.
#[derive(Debug)]
pub(crate) struct Function {
    name: &'static str,
    aliases: Vec<String>,
    signature: Signature,
    typing: Typing,
    compute: Compute,
}

impl Function {
    /// A function that takes exactly one of `lists` of types; others are cast to them where nothing is lost.
    pub(crate) fn typed(name: &'static str, lists: &[&[DataType]], typing: Typing, compute: Compute) -> ScalarUDF {
        let lists = lists.iter().map(|list| datafusion_expr::TypeSignature::Exact(list.to_vec())).collect();
        Self::of(name, Signature::one_of(lists, Volatility::Immutable), typing, compute)
    }

    /// A function that judges its arguments' types itself.
    pub(crate) fn any(name: &'static str, typing: Typing, compute: Compute) -> ScalarUDF {
        Self::of(name, Signature::variadic_any(Volatility::Immutable), typing, compute)
    }

    fn of(name: &'static str, signature: Signature, typing: Typing, compute: Compute) -> ScalarUDF {
        ScalarUDF::from(Self { name, aliases: Vec::new(), signature, typing, compute })
    }
}

// There is one function of a name.
impl PartialEq for Function {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Function {}

impl std::hash::Hash for Function {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for Function {
    fn name(&self) -> &str {
        self.name
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        (self.typing)(arguments)
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = arguments.number_rows;
        let arrays = arguments.args.into_iter().map(|argument| argument.into_array(rows));
        let given = (self.compute)(&arrays.collect::<Result<Vec<_>>>()?)?;
        if given.len() != rows {
            return exec_err!("{} gave {} values for {rows} rows", self.name, given.len());
        }
        Ok(ColumnarValue::Array(given))
    }
}

/// The items' type of an ARRAY argument.
pub(crate) fn items<'t>(function: &str, data_type: &'t DataType) -> Result<&'t DataType> {
    match data_type {
        DataType::List(field) => Ok(field.data_type()),
        other => plan_err!("{} needs an ARRAY; this is {other}", function.to_uppercase()),
    }
}

/// Whether any of `arrays` is null at `row`.
pub(crate) fn any_null(arrays: &[ArrayRef], row: usize) -> bool {
    arrays.iter().any(|array| array.is_null(row))
}
