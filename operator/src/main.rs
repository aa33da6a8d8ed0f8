//! The `freshet-operator` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    freshet_operator::main()
}
