//! All targets in one program, so that it is linked once. `ROADSTEAD_FUZZ_TARGET` names the one that is fuzzed.
#![no_main]
#![expect(clippy::expect_used, reason = "without a target there is nothing to do")]

use std::env;
use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use roadstead_fuzz::Target;

static TARGET: OnceLock<Target> = OnceLock::new();

fn chosen() -> Target {
    let name = env::var("ROADSTEAD_FUZZ_TARGET").expect("ROADSTEAD_FUZZ_TARGET names a target");
    roadstead_fuzz::target(&name).expect("ROADSTEAD_FUZZ_TARGET names a folder of tests/fuzz/seeds")
}

fuzz_target!(|data: &[u8]| TARGET.get_or_init(chosen)(data));
