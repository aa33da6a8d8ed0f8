//! The planner against tables of statements: those that it accepts, with their plans, and those that it refuses,
//! with what it says; ids over edits that change meaning and edits that don't; and statements that a mutator made.
//!
//! `accepted.txt` and `refused.txt` are meant to be read. After a change on purpose,
//! `FRESHET_GENERATE=1 cargo nextest run -p freshet-sql` writes what the planner says now; read the difference.

mod cases;
mod ids;
mod mutate;
mod query;
mod shop;
