//! The commands of `tools`, one module each.

pub mod charts;
pub mod docs;
pub mod examine;
pub mod flamegraph;
pub mod fuzz;
pub mod licences;
pub mod planted;
pub mod sbom;
pub mod simulate;
pub mod size;
pub mod timelines;
