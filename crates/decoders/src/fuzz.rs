//! Feeds libFuzzer's inputs to one decoder, which `CORTENSOR_FUZZ_TARGET` names; `make fuzz TARGET=…` sets it.
//!
//! One program for all of them, because linking the whole product once for each would take most of the time.

#![no_main]
#![allow(unsafe_code, reason = "libFuzzer finds its entry point by an exported name")]

use cortensor_decoders::{TARGETS, Target, target};
use libfuzzer_sys::fuzz_target;
use std::sync::OnceLock;

fn chosen() -> &'static Target {
    static CHOSEN: OnceLock<Target> = OnceLock::new();
    CHOSEN.get_or_init(|| {
        let name = std::env::var("CORTENSOR_FUZZ_TARGET").unwrap_or_default();
        let names = || TARGETS.iter().map(|target| target.name).collect::<Vec<_>>().join(", ");
        target(&name).unwrap_or_else(|| panic!("CORTENSOR_FUZZ_TARGET is {name:?}; the targets are {}", names()))
    })
}

fuzz_target!(|bytes: &[u8]| {
    (chosen().run)(bytes);
});
