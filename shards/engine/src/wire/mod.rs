//! Bytes ⇄ speech: everything that lies between a socket and a command or notice, without the
//! socket.
//!
//! From the outside in: an [`http`] head asks for an upgrade or comes with a [`payload`], a
//! [`frame`] carries a message, which [`deflate`] may have made shorter, an [`engine_packet`] wraps
//! a [`socket_packet`], whose argument is read by [`json`] and becomes speech in [`events`];
//! [`print`](mod@print) turns speech into packets.
//!
//! Every reader takes bytes as they arrive, in pieces of any size, and gives the same results
//! whatever the pieces were. What a peer can make us hold is bounded, and each error says how the
//! peer is told.

pub mod deflate;
pub mod engine_packet;
pub mod events;
pub mod fields;
pub mod frame;
pub mod http;
pub mod json;
pub mod notices;
pub mod packing;
pub mod payload;
pub mod print;
mod scan;
pub mod schema;
mod setlist;
pub mod shapes;
pub mod socket_packet;
mod texts;
