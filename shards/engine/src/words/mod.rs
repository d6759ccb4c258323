//! The words everything else is written in: time, names, music, limits. They know nothing of the
//! rest.

pub mod compression;
pub mod ids;
pub mod limits;
pub mod music;
pub mod origins;
pub mod policy;
pub mod rng;
pub mod text;
pub mod time;
