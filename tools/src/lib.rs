//! What the project needs around the server: the house rules as a test, and the simulated world.

pub mod sim;
#[cfg(test)]
mod tidy;
