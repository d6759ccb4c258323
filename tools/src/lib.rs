//! Tools around the server: conformance servers, generated documents, licences and the bill of
//! materials of a release, fuzz targets, the simulated world, the sizing model, and the house rules
//! as a test.

pub mod charts;
pub mod conformance;
pub mod docs;
mod forms;
pub mod fuzz;
pub mod licences;
pub mod sbom;
pub mod shipped;
pub mod sim;
pub mod sizing;
#[cfg(test)]
mod tidy;
pub mod timelines;
mod types;
