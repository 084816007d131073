//! The version lives here alone, so that another version relinks this small program and nothing else.

use std::process::ExitCode;

const VERSION: &str = match option_env!("AOF2_ENGINE_VERSION") {
    Some(version) => version,
    None => env!("CARGO_PKG_VERSION"),
};

fn main() -> ExitCode {
    aof2_ctl::tier1_cache_util(VERSION)
}
