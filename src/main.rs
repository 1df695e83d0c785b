//! The command-line program. Everything is in the library's `cli` module.

use std::process::ExitCode;

fn main() -> ExitCode {
    creance::cli::main()
}
