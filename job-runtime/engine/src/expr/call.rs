//! Calls of scalar functions: which there are, which are refused, and the types of their arguments.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use arrow_schema::{DataType as ArrowType, Field};
use datafusion_common::config::ConfigOptions;
use datafusion_expr::type_coercion::functions::fields_with_udf;
use datafusion_expr::{ScalarUDF, Volatility};
use datafusion_physical_expr::ScalarFunctionExpr;
use datafusion_physical_expr::expressions::IsNotNullExpr;
use freshet_plan::Expr;

use super::compile::{Compiler, Physical, refused, settle};
use crate::EngineError;

/// Functions that a planner resolves into a cast: they are no functions of values.
const RESOLVED_BY_PLANNERS: &[&str] = &["arrow_cast", "arrow_try_cast", "cast_to_type", "try_cast_to_type"];

impl Compiler<'_> {
    /// A call of the scalar function that is called so.
    pub(super) fn call(&self, name: &str, args: &[Expr]) -> Result<Physical, EngineError> {
        let mut arguments = args.iter().map(|arg| self.expr(arg)).collect::<Result<Vec<_>, _>>()?;
        match (name, arguments.len()) {
            ("coalesce" | "nvl" | "ifnull", 1..) => {
                let wanted = self.common_type(&arguments)?;
                let arguments = arguments.into_iter().map(|argument| self.cast(argument, &wanted));
                let mut arguments = arguments.collect::<Result<Vec<_>, _>>()?;
                let last = arguments.pop();
                let when = arguments.into_iter().map(|value| (is_not_null(&value), value)).collect::<Vec<_>>();
                return if when.is_empty() { last.ok_or_else(|| unknown(name)) } else { self.case(None, when, last) };
            }
            ("nvl2", 3) => {
                let wanted = self.common_type(&arguments[1..])?;
                let otherwise = arguments.pop().map(|value| self.cast(value, &wanted)).transpose()?;
                let then = arguments.pop().map(|value| self.cast(value, &wanted)).transpose()?;
                let (then, test) = then.zip(arguments.pop()).ok_or_else(|| unknown(name))?;
                return self.case(None, vec![(is_not_null(&test), then)], otherwise);
            }
            _ => {}
        }
        let function = functions().get(name).ok_or_else(|| unknown(name))?;
        if RESOLVED_BY_PLANNERS.contains(&name) {
            return Err(EngineError::Plan(format!("the function `{name}` is not supported; write CAST or TRY_CAST")));
        }
        if function.signature().volatility != Volatility::Immutable {
            let why = "its value depends on the time, on chance or on where it runs, so a replay would differ";
            return Err(EngineError::Plan(format!("the function `{name}` is not supported: {why}")));
        }
        let fields = arguments
            .iter()
            .map(|argument| argument.return_field(self.input))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| refused(&error))?;
        let wanted = fields_with_udf(&fields, function.as_ref()).map_err(|error| refused(&error))?;
        for (argument, field) in arguments.iter_mut().zip(wanted) {
            *argument = self.cast(argument.clone(), field.data_type())?;
        }
        let call = self.function(Arc::clone(function), arguments)?;
        settle(call, self.input)
    }

    /// A call of `function`, whose arguments are of the types that it takes.
    pub(super) fn function(&self, function: Arc<ScalarUDF>, arguments: Vec<Physical>) -> Result<Physical, EngineError> {
        let options = Arc::new(ConfigOptions::default());
        let call = ScalarFunctionExpr::try_new(function, arguments, self.input, options);
        Ok(Arc::new(call.map_err(|error| refused(&error))?))
    }

    /// The type that all of these can be cast to, as COALESCE unifies its arguments.
    fn common_type(&self, arguments: &[Physical]) -> Result<ArrowType, EngineError> {
        let fields = arguments.iter().map(|argument| Ok(Arc::new(Field::new("", self.type_of(argument)?, true))));
        let fields = fields.collect::<Result<Vec<_>, EngineError>>()?;
        let coalesce = functions().get("coalesce").ok_or_else(|| unknown("coalesce"))?;
        let unified = fields_with_udf(&fields, coalesce.as_ref()).map_err(|error| refused(&error))?;
        unified.first().map(|field| field.data_type().clone()).ok_or_else(|| unknown("coalesce"))
    }
}

fn is_not_null(value: &Physical) -> Physical {
    Arc::new(IsNotNullExpr::new(Arc::clone(value)))
}

fn unknown(function: &str) -> EngineError {
    EngineError::Plan(format!("there is no function `{function}`"))
}

/// The scalar functions by name and alias.
fn functions() -> &'static HashMap<String, Arc<ScalarUDF>> {
    static FUNCTIONS: OnceLock<HashMap<String, Arc<ScalarUDF>>> = OnceLock::new();
    FUNCTIONS.get_or_init(|| {
        let mut functions = HashMap::new();
        let all = datafusion_functions::all_default_functions().into_iter();
        for function in all.chain(freshet_functions::all().iter().cloned()) {
            for alias in function.aliases() {
                functions.insert(alias.clone(), Arc::clone(&function));
            }
            functions.insert(function.name().to_owned(), function);
        }
        functions
    })
}
