//! Scalar functions that Freshet has beside DataFusion's.
//!
//! The planner types calls of them, and the engine computes them: both ask [`all`], so a plan that was made is a plan
//! that runs. Each is *immutable*: the same arguments give the same value at any time and on any machine, since a
//! replay must give the same results. A null argument gives null unless a function says otherwise; an argument that a
//! function does not take is an error of that row, never a silent null.
//!
//! `array_join`, `percentile_of` and `approx_percentile_of` finish aggregates: LISTAGG is the join of an ARRAY_AGG,
//! and percentiles are read from all values or from a [`Histogram`] of them, so that several percentiles of one
//! column share one state.

mod arrays;
mod histogram;
mod json;
mod percentiles;
mod row;
mod strings;
mod times;

use std::sync::{Arc, LazyLock};

use datafusion_expr::ScalarUDF;

pub use histogram::Histogram;
pub use times::UNITS;

static ALL: LazyLock<Vec<Arc<ScalarUDF>>> = LazyLock::new(|| {
    let files =
        [arrays::functions(), json::functions(), percentiles::functions(), strings::functions(), times::functions()];
    files.into_iter().flatten().map(Arc::new).collect()
});

/// The functions. None of them has a name or an alias of DataFusion's.
#[must_use]
pub fn all() -> &'static [Arc<ScalarUDF>] {
    &ALL
}

/// The function that is called `name`.
#[must_use]
pub fn by_name(name: &str) -> Option<&'static Arc<ScalarUDF>> {
    ALL.iter().find(|function| function.name() == name || function.aliases().iter().any(|alias| alias == name))
}
