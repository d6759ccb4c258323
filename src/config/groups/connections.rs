//! Connections: where clients connect, over what, and how a connection begins, lives and ends.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use bandsync_engine::io::{Goodbye, Transports, Version3};
use bandsync_engine::words::compression::Compression;
use bandsync_engine::words::time::Micros;

use crate::config::error::ConfigError;
use crate::config::table;
use crate::config::values::Values;

/// The address to listen on, and the transports.
pub struct Connections {
    /// The address to listen on; `::` is all addresses, IPv4 included.
    pub host: IpAddr,
    /// The port asked for; 0 is any free one.
    pub port: u16,
    /// Whether the server is announced in the local network.
    pub mdns: bool,
    /// Transports and their options.
    pub transports: Transports,
    /// Time between two Engine.IO pings.
    pub ping_interval: Micros,
    /// Time that an Engine.IO ping may stay unanswered.
    pub ping_timeout: Micros,
    /// Time between two heartbeats of the application.
    pub heartbeat_interval: Micros,
    /// Time that the goodbyes may take when the server stops.
    pub drain_timeout: Duration,
    /// The goodbye that clients receive when the server stops.
    pub goodbye: Goodbye,
}

/// Reads the group. `is_internet`: whether the security profile is `internet`.
pub fn read(values: &mut Values<'_>, is_internet: bool) -> Result<Connections, ConfigError> {
    let host = values.parsed(&table::HOST, host)?;
    let is_wanted = match values.one_of(&table::MDNS)?.as_str() {
        "auto" => !is_internet,
        word => word == "on",
    };
    Ok(Connections {
        port: values.whole(&table::PORT)? as u16,
        host,
        // Other machines could not use the name.
        mdns: is_wanted && !host.is_loopback(),
        transports: transports(values, is_internet)?,
        ping_interval: values.millis(&table::SOCKET_PING_INTERVAL)?,
        ping_timeout: values.millis(&table::SOCKET_PING_TIMEOUT)?,
        heartbeat_interval: values.millis(&table::HEARTBEAT_INTERVAL)?,
        drain_timeout: values.duration(&table::DRAIN_TIMEOUT)?,
        goodbye: match values.one_of(&table::DRAIN_GOODBYE)?.as_str() {
            "reconnect" => Goodbye::Reconnect,
            _ => Goodbye::Disconnect,
        },
    })
}

fn transports(values: &mut Values<'_>, is_internet: bool) -> Result<Transports, ConfigError> {
    let polling = values.one_of(&table::TRANSPORTS)?.contains("polling");
    let version_3 = match values.one_of(&table::ENGINE_IO_3)?.as_str() {
        "off" => Version3::Off,
        "auto" if is_internet => Version3::WebSocketOnly,
        _ => Version3::On,
    };
    let compresses = values.one_of(&table::COMPRESSION)? == "on";
    let compression = Compression {
        threshold: values.count(&table::COMPRESSION_THRESHOLD)?,
        level: values.whole(&table::COMPRESSION_LEVEL)? as u8,
        context_takeover: values.one_of(&table::CONTEXT_TAKEOVER)? == "on",
    };
    let recovery = values.millis(&table::RECOVERY_WINDOW)?;
    Ok(Transports { polling, version_3, compression: compresses.then_some(compression), recovery })
}

fn host(text: &str) -> Option<IpAddr> {
    match text {
        "all" => Some(Ipv6Addr::UNSPECIFIED.into()),
        "localhost" => Some(Ipv4Addr::LOCALHOST.into()),
        address => address.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_word_or_an_address() {
        assert_eq!(host("all"), "::".parse().ok());
        assert_eq!(host("localhost"), "127.0.0.1".parse().ok());
        assert_eq!(host("::1"), "::1".parse().ok());
        assert_eq!(host("stage.local"), None);
    }
}
