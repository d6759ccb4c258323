//! What the project needs around the server: the house rules as a test.

#[cfg(test)]
mod tidy;
