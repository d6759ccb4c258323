//! What the project needs around the server: fuzz targets, and the house rules as a test.

pub mod fuzz;

#[cfg(test)]
mod tidy;
