//! The part of a server that the load generator uses, on uWebSockets: `server.cpp` has all of it.
//!
//! `bandsync-peer-uwebsockets PORT TICK_MS`

use std::error::Error;
use std::ffi::c_int;

unsafe extern "C" {
    /// Serves on this port of the loopback interface. Returns only if it cannot listen.
    fn serve(port: c_int, tick_ms: c_int);
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let port = arguments.next().unwrap_or_else(|| "7400".into()).parse()?;
    let tick_ms = arguments.next().unwrap_or_else(|| "16".into()).parse()?;
    // SAFETY: takes numbers only, and is called once, by the only thread.
    unsafe { serve(port, tick_ms) };
    Err("it cannot listen there".into())
}
