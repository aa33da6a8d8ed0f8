//! The runtime as `freshet`, with crash points and planted bugs compiled in: what the scenarios start and kill.

use std::process::ExitCode;

fn main() -> ExitCode {
    freshet::cli::main()
}
