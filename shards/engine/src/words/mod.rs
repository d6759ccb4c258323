//! The vocabulary of all other rooms: time, ids, music, limits. Its types know nothing of the rest.

pub mod compression;
pub mod ids;
pub mod limits;
pub mod music;
pub mod origins;
pub mod policy;
pub mod rng;
pub mod text;
pub mod time;
