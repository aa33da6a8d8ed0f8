//! The demo: data for the fraud-detection pilot, an independent recount of it, and the live view.
//!
//! ```text
//! generator ──▶ embedded log ──▶ the pilot's job ──▶ alerts, country totals ──▶ report::compare
//!     └────────────────────────▶ recount ──────────▶ what they must be ────────────┘
//! ```
//!
//! The [`recount`] shares no code with the engine: it reads the same bytes with a few maps and whole
//! numbers, so that an error in the engine can't hide in both. [`view`] draws what `freshet run` is doing,
//! for this job or any other.

pub mod columns;
pub mod figures;
pub mod generator;
pub mod recount;
pub mod report;
pub mod rows;
pub mod screen;
pub mod view;

pub use generator::{Generator, Settings};
pub use recount::{Recount, Rules};
pub use report::{Report, compare};
pub use rows::WindowRow;
pub use screen::LiveView;
pub use view::Snapshot;
