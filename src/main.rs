//! The program `roadstead`.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    roadstead::cli::run(std::env::args_os()).await
}
