//! The `freshet` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    freshet::cli::main()
}
