//! Engine.IO versions 3 and 4: one packet per WebSocket message, with a type digit in front.

use std::borrow::Cow;

use super::json;

/// A packet from a client.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Packet<'a> {
    /// `0`: nothing that a client may send; ignored.
    Open,
    /// `1`: the client ends its session.
    Close,
    /// `2`: only a server pings in version 4, except for the `probe` of an upgrade.
    Ping(&'a str),
    /// `3`: the answer to our ping.
    Pong(&'a str),
    /// `4`: a Socket.IO packet.
    Message(&'a str),
    /// `b` and base64, or a binary WebSocket message: an attachment.
    Binary(Cow<'a, [u8]>),
    /// `5`: the end of an upgrade; ignored on a connection that began as a WebSocket.
    Upgrade,
    /// `6`: ignored.
    Noop,
}

/// A text message that is no packet. It closes the connection, with the reason `parse error`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct NoPacket;

/// Reads a text message. A binary message needs no reading: it is [`Packet::Binary`] as a whole.
pub fn parse(text: &str) -> Result<Packet<'_>, NoPacket> {
    let kind = text.as_bytes().first().ok_or(NoPacket)?;
    let rest = text.get(1..).unwrap_or_default();
    match kind {
        b'0' => Ok(Packet::Open),
        b'1' => Ok(Packet::Close),
        b'2' => Ok(Packet::Ping(rest)),
        b'3' => Ok(Packet::Pong(rest)),
        b'4' => Ok(Packet::Message(rest)),
        b'5' => Ok(Packet::Upgrade),
        b'6' => Ok(Packet::Noop),
        b'b' => {
            let bytes = data_encoding::BASE64.decode(rest.as_bytes()).map_err(|_| NoPacket)?;
            Ok(Packet::Binary(Cow::Owned(bytes)))
        }
        _ => Err(NoPacket),
    }
}

/// Reads a text message of version 3. It differs from version 4 in attachments, which have the
/// digit of their type behind the `b`.
pub fn parse_v3(text: &str) -> Result<Packet<'_>, NoPacket> {
    let Some(attachment) = text.strip_prefix('b') else { return parse(text) };
    let digits = attachment.strip_prefix('4').ok_or(NoPacket)?;
    let bytes = data_encoding::BASE64.decode(digits.as_bytes()).map_err(|_| NoPacket)?;
    Ok(Packet::Binary(Cow::Owned(bytes)))
}

/// The first packet of the server.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Open<'a> {
    /// The Engine.IO session id, which is not the Socket.IO one.
    pub sid: &'a str,
    /// Transports to which the client may upgrade.
    pub upgrades: &'a [&'a str],
    /// Time between two pings, in milliseconds.
    pub ping_interval_ms: u64,
    /// Maximum time until a ping is answered, in milliseconds.
    pub ping_timeout_ms: u64,
    /// Maximum bytes of a message that the server reads.
    pub max_payload: u32,
}

impl Open<'_> {
    /// Appends the packet, with exactly these five keys.
    pub fn print(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"0{\"sid\":");
        json::print_string(out, self.sid);
        out.extend_from_slice(b",\"upgrades\":[");
        for (index, upgrade) in self.upgrades.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            json::print_string(out, upgrade);
        }
        let (interval, timeout, payload) =
            (self.ping_interval_ms, self.ping_timeout_ms, self.max_payload);
        let rest = format!(
            r#"],"pingInterval":{interval},"pingTimeout":{timeout},"maxPayload":{payload}}}"#
        );
        out.extend_from_slice(rest.as_bytes());
    }
}

/// A ping of the server.
pub const PING: &[u8] = b"2";

/// The answer to a client's ping, in version 3.
pub const PONG: &[u8] = b"3";

/// The packet that ends a session in the answer to a request.
pub const CLOSE: &[u8] = b"1";

/// The packet that answers a request early, when there is nothing to send.
pub const NOOP: &[u8] = b"6";

/// The first byte of a text message that carries a Socket.IO packet.
pub const MESSAGE: u8 = b'4';

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn reads_packets() {
        let binary = |bytes: &[u8]| Packet::Binary(bytes.to_vec().into());
        for (text, packet) in [
            ("0", Packet::Open),
            ("0{}", Packet::Open),
            ("1", Packet::Close),
            ("2", Packet::Ping("")),
            ("2probe", Packet::Ping("probe")),
            ("3", Packet::Pong("")),
            ("4", Packet::Message("")),
            ("42[\"é\"]", Packet::Message("2[\"é\"]")),
            ("5", Packet::Upgrade),
            ("6", Packet::Noop),
            ("b", binary(b"")),
            ("bAQIDBA==", binary(&[1, 2, 3, 4])),
            ("b+/+/", binary(&[0xfb, 0xff, 0xbf])),
        ] {
            assert_eq!(parse(text), Ok(packet), "{text}");
        }
        for bad in ["", "7", "é", " 2", "B", "bA", "b!!!!", "b-_-_", "\u{0}"] {
            assert_eq!(parse(bad), Err(NoPacket), "{bad}");
        }
    }

    #[test]
    fn reads_attachments_of_version_3() {
        assert_eq!(parse_v3("b4AQI="), Ok(Packet::Binary(vec![1, 2].into())));
        assert_eq!(parse_v3("2probe"), Ok(Packet::Ping("probe")));
        for bad in ["bAQI=", "b2AQI=", "b4!", ""] {
            assert_eq!(parse_v3(bad), Err(NoPacket), "{bad}");
        }
    }

    #[test]
    fn opens_with_exactly_five_keys() {
        let mut out = Vec::new();
        let open = Open {
            sid: "SF2VaH9wjEKOgaL5AAAF",
            upgrades: &[],
            ping_interval_ms: 2500,
            ping_timeout_ms: 5000,
            max_payload: 1_000_000,
        };
        open.print(&mut out);
        Open { upgrades: &["websocket", "other"], ..open }.print(&mut out);
        let expected = r#"0{"sid":"SF2VaH9wjEKOgaL5AAAF","upgrades":[],"pingInterval":2500,"pingTimeout":5000,"maxPayload":1000000}"#;
        let both = [expected, &expected.replace("[]", r#"["websocket","other"]"#)].concat();
        assert_eq!(String::from_utf8(out).unwrap(), both);
    }
}
