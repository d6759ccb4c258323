//! The commands of `tools`, a module each.

pub mod examine;
pub mod flamegraph;
pub mod fuzz;
pub mod simulate;
