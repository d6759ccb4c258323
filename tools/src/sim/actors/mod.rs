//! Clients of the world. They act through a [`Cx`](super::cx::Cx), which the world lends them.

mod member;
mod poller;

pub use member::Member;
pub use poller::Poller;
