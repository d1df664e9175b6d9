//! The fuzzer: feeds one target, named by `TIDEWATER_FUZZ`, with inputs that reach new code. `scripts/fuzz`
//! builds and runs it.

#![no_main]

mod decoder;
mod slab;
mod text;

use std::sync::OnceLock;

use libfuzzer_sys::{Corpus, fuzz_target};

/// Takes any bytes; panics where the product did something wrong. False: the input is none for this target.
type Target = fn(&[u8]) -> bool;

fuzz_target!(|data: &[u8]| -> Corpus {
    static TARGET: OnceLock<Target> = OnceLock::new();
    if TARGET.get_or_init(chosen)(data) { Corpus::Keep } else { Corpus::Reject }
});

fn chosen() -> Target {
    let name = std::env::var("TIDEWATER_FUZZ").unwrap_or_default();
    match name.as_str() {
        "decoder" => decoder::records,
        "timestamp" => decoder::time,
        "job" => text::job,
        "cut" => text::cut,
        "slab" => slab::file,
        "handshake" => |data| {
            assert!(!tidewater::cluster::stranger_joins(data), "a stranger has joined");
            true
        },
        other => panic!("TIDEWATER_FUZZ={other} is no target"),
    }
}
