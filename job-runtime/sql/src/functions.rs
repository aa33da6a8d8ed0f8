//! Which functions there are, and what is said about those that there are not.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use arrow_schema::{DataType as ArrowType, Field, FieldRef};
use datafusion_common::config::ConfigOptions;
use datafusion_common::{Result as DfResult, TableReference, plan_datafusion_err, plan_err};
use datafusion_expr::planner::{ContextProvider, ExprPlanner, TypePlanner};
use datafusion_expr::{AggregateUDF, HigherOrderUDF, ScalarUDF, TableSource, Volatility, WindowUDF};
use datafusion_functions::core::planner::CoreFunctionPlanner;
use datafusion_functions::datetime::planner::DatetimeFunctionPlanner;
use datafusion_functions::unicode::planner::UnicodeFunctionPlanner;
use datafusion_functions_aggregate::planner::AggregateFunctionPlanner;
use freshet_plan::{AggregateFunction, DataType};
use sqlparser::ast::{DataType as SqlType, Function};

use crate::aggregates;
use crate::arrow_types::to_arrow;
use crate::names::suggestion;

/// Functions that speak of Arrow, of files or of an aggregate's state, not of data.
const INTERNAL: [&str; 15] = [
    "percentile_of",
    "approx_percentile_of",
    "arrow_cast",
    "arrow_try_cast",
    "arrow_typeof",
    "arrow_field",
    "arrow_metadata",
    "with_metadata",
    "cast_to_type",
    "try_cast_to_type",
    "union_extract",
    "union_tag",
    "version",
    "input_file_name",
    "file_row_index",
];

static SCALARS: LazyLock<HashMap<String, Arc<ScalarUDF>>> = LazyLock::new(|| {
    let mut functions = HashMap::new();
    let all = datafusion_functions::all_default_functions().into_iter();
    for function in all.chain(freshet_functions::all().iter().cloned()) {
        if INTERNAL.contains(&function.name()) {
            continue;
        }
        for alias in function.aliases() {
            functions.insert(alias.clone(), Arc::clone(&function));
        }
        functions.insert(function.name().to_owned(), function);
    }
    functions
});

/// What a function's name stands for.
pub(crate) enum Known {
    /// A scalar function.
    Scalar(Arc<ScalarUDF>),
    /// An aggregate.
    Aggregate(AggregateFunction),
    /// Something that is not supported: why, and what to write.
    Refused(&'static str, &'static str),
    /// An aggregate that is not supported yet.
    OtherAggregate,
    /// Nothing; perhaps one with this name was meant.
    Unknown(Option<String>),
}

/// What to say about a function that can't be used.
pub(crate) struct Refusal {
    pub(crate) message: String,
    pub(crate) help: Option<String>,
}

/// A function's name, in lower case unless it is quoted.
pub(crate) fn name(function: &Function) -> String {
    let parts = function.name.0.iter().map(|part| match part.as_ident() {
        Some(ident) if ident.quote_style.is_some() => ident.value.clone(),
        _ => part.to_string().to_lowercase(),
    });
    parts.collect::<Vec<_>>().join(".")
}

/// Looks a function up by its lower-case name.
pub(crate) fn known(name: &str) -> Known {
    const REPLAY: &str = "a replay must give the same results, and this function would give others";
    match name {
        "count" => return Known::Aggregate(AggregateFunction::Count),
        "sum" => return Known::Aggregate(AggregateFunction::Sum),
        "min" => return Known::Aggregate(AggregateFunction::Min),
        "max" => return Known::Aggregate(AggregateFunction::Max),
        "avg" => return Known::Aggregate(AggregateFunction::Avg),
        "random" | "rand" | "rand_integer" | "uuid" | "gen_random_uuid" => {
            return Known::Refused(REPLAY, "put the value into the record where it is written");
        }
        "now"
        | "current_timestamp"
        | "current_date"
        | "current_time"
        | "today"
        | "localtime"
        | "localtimestamp"
        | "current_row_timestamp"
        | "unix_timestamp"
        | "proctime"
        | "current_watermark" => {
            return Known::Refused(REPLAY, "use the record's event time");
        }
        "row_number" | "rank" | "dense_rank" | "percent_rank" | "cume_dist" | "ntile" | "lag" | "lead" => {
            return Known::Refused(
                "window functions (OVER) are not supported yet",
                "group by an event-time window instead",
            );
        }
        "tumble_start" | "tumble_end" | "tumble_rowtime" | "hop_start" | "hop_end" | "session_start"
        | "session_end" => {
            return Known::Refused(
                "it belongs to an older form of windows",
                "use the columns window_start and window_end",
            );
        }
        "tumble" | "hop" | "cumulate" | "session" => {
            return Known::Refused(
                "a window stands in FROM, not in an expression",
                "write FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '10' SECOND)) … GROUP BY window_start, window_end",
            );
        }
        "unnest" | "explode" => {
            return Known::Refused(
                "turning an array into rows is not supported yet",
                "write one job that reads the array's elements as records",
            );
        }
        "grouping" | "grouping_id" => {
            return Known::Refused(
                "it belongs to GROUPING SETS, ROLLUP and CUBE in the outer SELECT of an INSERT INTO",
                "write it there, or one INSERT INTO for each grouping",
            );
        }
        "datediff" => return Known::Refused("there is no such function", "write TIMESTAMPDIFF(DAY, from, to)"),
        "date_add" | "date_sub" => {
            return Known::Refused(
                "there is no such function",
                "write ts + INTERVAL '1' HOUR, or TIMESTAMPADD(DAY, n, ts)",
            );
        }
        "convert_tz" => {
            return Known::Refused(
                "there are no time zones but UTC",
                "shift the time by an INTERVAL, or write it in the wanted zone where it is made",
            );
        }
        "get_json_object" => {
            return Known::Refused(
                "there is no such function",
                "write JSON_VALUE(text, '$.path'), or JSON_QUERY for objects",
            );
        }
        _ => {}
    }
    if let Some(function) = aggregates::named(name) {
        return Known::Aggregate(function);
    }
    if let Some(function) = SCALARS.get(name) {
        if function.signature().volatility != Volatility::Immutable {
            return Known::Refused(REPLAY, "put the value into the record where it is written");
        }
        return Known::Scalar(Arc::clone(function));
    }
    let aggregates = datafusion_functions_aggregate::all_default_aggregate_functions();
    if aggregates.iter().any(|function| function.name() == name || function.aliases().iter().any(|alias| alias == name))
    {
        return Known::OtherAggregate;
    }
    let names =
        SCALARS.keys().map(String::as_str).chain(["count", "sum", "min", "max", "avg"]).chain(aggregates::names());
    Known::Unknown(suggestion(name, names))
}

impl Known {
    /// Why the function `name` can't be used, if it can't.
    pub(crate) fn refusal(&self, name: &str) -> Option<Refusal> {
        let upper = name.to_uppercase();
        let (message, help) = match self {
            Self::Scalar(_) | Self::Aggregate(_) => return None,
            Self::Refused(why, help) => (format!("{upper} is not supported: {why}"), Some((*help).to_owned())),
            Self::OtherAggregate => (
                format!("the aggregate {upper} is not supported yet"),
                Some("docs/sql.md lists the aggregates that there are".to_owned()),
            ),
            Self::Unknown(near) => {
                (format!("there is no function `{name}`"), near.as_ref().map(|near| format!("did you mean `{near}`?")))
            }
        };
        Some(Refusal { message, help })
    }
}

/// The data type that SQL names.
pub(crate) fn sql_type(data_type: &SqlType) -> Result<DataType, String> {
    data_type.to_string().parse::<DataType>().map_err(|error| error.to_string())
}

/// What DataFusion's planner of expressions asks for: functions and types. Tables are never asked for: FROM is
/// planned here.
#[derive(Debug)]
pub(crate) struct Functions {
    options: ConfigOptions,
    planners: Vec<Arc<dyn ExprPlanner>>,
    types: Arc<dyn TypePlanner>,
}

impl Functions {
    pub(crate) fn new() -> Self {
        Self {
            options: ConfigOptions::default(),
            planners: vec![
                Arc::new(CoreFunctionPlanner {}),
                Arc::new(DatetimeFunctionPlanner),
                Arc::new(UnicodeFunctionPlanner),
                Arc::new(AggregateFunctionPlanner),
            ],
            types: Arc::new(Types),
        }
    }
}

#[derive(Debug)]
struct Types;

impl TypePlanner for Types {
    fn plan_type_field(&self, data_type: &SqlType) -> DfResult<Option<FieldRef>> {
        let data_type = sql_type(data_type).map_err(|error| plan_datafusion_err!("{error}"))?;
        Ok(Some(Arc::new(Field::new("", to_arrow(&data_type), true))))
    }
}

impl ContextProvider for Functions {
    fn get_table_source(&self, name: TableReference) -> DfResult<Arc<dyn TableSource>> {
        plan_err!("a table in an expression: {name}")
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        &self.planners
    }

    fn get_type_planner(&self) -> Option<Arc<dyn TypePlanner>> {
        Some(Arc::clone(&self.types))
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        match known(name) {
            Known::Scalar(function) => Some(function),
            _ => None,
        }
    }

    fn get_higher_order_meta(&self, _name: &str) -> Option<Arc<HigherOrderUDF>> {
        None
    }

    fn get_aggregate_meta(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        use datafusion_functions_aggregate::{average, count, min_max, sum};
        Some(match name {
            "count" => count::count_udaf(),
            "sum" => sum::sum_udaf(),
            "min" => min_max::min_udaf(),
            "max" => min_max::max_udaf(),
            "avg" => average::avg_udaf(),
            other => return aggregates::planned(other),
        })
    }

    fn get_window_meta(&self, _name: &str) -> Option<Arc<WindowUDF>> {
        None
    }

    fn get_variable_type(&self, _variable_names: &[String]) -> Option<ArrowType> {
        None
    }

    fn options(&self) -> &ConfigOptions {
        &self.options
    }

    fn udf_names(&self) -> Vec<String> {
        SCALARS.keys().cloned().collect()
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn udaf_names(&self) -> Vec<String> {
        ["count", "sum", "min", "max", "avg"].map(str::to_owned).into()
    }

    fn udwf_names(&self) -> Vec<String> {
        Vec::new()
    }
}
