//! Bytes to speech and back: everything between a socket and a command or notice, without the
//! socket.
//!
//! From the outside in: an [`http`] head asks for an upgrade or comes with a [`payload`], a
//! [`frame`] carries a message, which [`deflate`] may have made shorter, an [`engine_packet`] wraps
//! a [`socket_packet`], whose argument is read by [`json`] and becomes speech in [`events`];
//! [`print`](mod@print) turns speech into packets.
//!
//! Every reader accepts bytes in pieces of any size, and its results do not depend on the pieces.
//! The memory that a peer can occupy is bounded, and each error says how the peer is answered.

pub mod deflate;
pub mod engine_packet;
pub mod envelope;
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
