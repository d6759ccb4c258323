//! Limits on frequency: events of a client, connections of an address, guesses of a secret.

pub mod event_rates;
pub mod guesses;
pub mod peers;
