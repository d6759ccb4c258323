//! The commands of `tools`, a module each.

pub mod docs;
pub mod examine;
pub mod flamegraph;
pub mod fuzz;
pub mod simulate;
