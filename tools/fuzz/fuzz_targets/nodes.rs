//! `nodes` under cargo-fuzz.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bandsync_tools::fuzz::nodes(data));
