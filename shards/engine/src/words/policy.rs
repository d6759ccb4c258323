//! The access policy: the addresses, host names and rates that a server accepts.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use super::limits::RateLimits;

/// The access policy of a shard.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct AccessPolicy {
    /// Rates of a client's events.
    pub rates: RateLimits,
    /// Limits of one address.
    pub peers: PeerLimits,
    /// Trusted proxies: the client that they name in `X-Forwarded-For` is believed.
    pub proxies: Vec<Network>,
    /// Host names under which web pages may reach the server.
    pub hosts: Hosts,
    /// Minimum number of characters of a new passcode or PIN; 0 accepts any that is not empty.
    pub secret_chars_min: u32,
}

/// Limits of one address on one shard. IPv6 addresses of one /64 count as one.
///
/// Each shard grants the whole limit. The kernel chooses the shard of a connection, and a hand-over
/// unites the members of a session: a share of the limit would reject a band behind one router.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct PeerLimits {
    /// Maximum number of connections; 0 means no limit.
    pub connections_max: u32,
    /// Maximum new connections per second, with a burst of twice that; 0 means no limit.
    pub connections_per_second: u32,
    /// Whether programs on this machine are exempt.
    pub spares_loopback: bool,
}

/// Host names under which web pages may reach the server.
///
/// In a DNS rebinding attack, the name of a foreign page is pointed at our address. For its
/// browser, and in `Origin`, the page then has our origin. Only its `Host` reveals it.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub enum Hosts {
    /// All names.
    #[default]
    Any,
    /// Addresses, names that no public name server resolves, and these names, in lower case and
    /// without a port.
    Local(Vec<String>),
    /// All names, but only those of [`Local`](Self::Local) prove that a request comes from this
    /// machine.
    Public(Vec<String>),
}

/// The kind of name by which a request addresses the server, by [`Hosts`].
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub enum Named {
    /// An address, a local name, or a listed name.
    Known,
    /// Another allowed name. It may be a foreign one that points here.
    Public,
    /// A name that is not allowed, or none.
    Foreign,
}

impl Hosts {
    /// Whether a page may reach the server under this name. It may have a port.
    pub fn allow(&self, host: &str) -> bool {
        self.judge(host) != Named::Foreign
    }

    /// Returns the kind of a name. It may have a port.
    pub fn judge(&self, host: &str) -> Named {
        let (listed, other) = match self {
            Self::Any => return Named::Known,
            Self::Local(listed) => (listed, Named::Foreign),
            Self::Public(listed) => (listed, Named::Public),
        };
        if is_local_or_listed(host, listed) { Named::Known } else { other }
    }
}

/// Whether a host name is an address, a name of the local network, or listed. Only such a name
/// proves that the page is not a stranger's.
fn is_local_or_listed(host: &str, listed: &[String]) -> bool {
    let bare = match host.strip_prefix('[') {
        // Only an address is written in brackets.
        Some(_) => return true,
        None => host.split(':').next().unwrap_or(host),
    };
    let name = bare.trim_end_matches('.').to_ascii_lowercase();
    let is_plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    let local = |suffix: &&str| name.strip_suffix(*suffix).is_some_and(|rest| rest.ends_with('.'));
    let is_local = !name.contains('.')
        || name.parse::<Ipv4Addr>().is_ok()
        || ["local", "localhost", "lan", "home.arpa", "internal"].iter().any(local)
        || listed.contains(&name);
    is_plain && is_local
}

/// A range of addresses.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct Network {
    address: IpAddr,
    /// Number of leading bits that count.
    bits: u8,
}

impl Network {
    /// Parses `10.0.0.0/8`, or a single address.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, bits) =
            text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address = address.parse::<IpAddr>().ok()?.to_canonical();
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits =
            bits.map_or(Some(most), |bits| bits.parse().ok().filter(|bits| *bits <= most))?;
        Some(Self { address, bits })
    }

    /// Returns the network of `bits` leading bits around an address.
    fn around(address: IpAddr, bits: u8) -> Self {
        debug_assert!(
            bits <= if address.is_ipv4() { 32 } else { 128 },
            "an address has no {bits} bits"
        );
        let address = match address {
            IpAddr::V4(four) => {
                let host = u32::MAX.checked_shr(bits.into()).unwrap_or(0);
                Ipv4Addr::from(u32::from(four) & !host).into()
            }
            IpAddr::V6(six) => {
                let host = u128::MAX.checked_shr(bits.into()).unwrap_or(0);
                Ipv6Addr::from(u128::from(six) & !host).into()
            }
        };
        Self { address, bits }
    }

    /// Whether the network contains an address.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                (u32::from(own) ^ u32::from(other))
                    .checked_shr(32 - u32::from(self.bits))
                    .unwrap_or(0)
                    == 0
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                (u128::from(own) ^ u128::from(other))
                    .checked_shr(128 - u32::from(self.bits))
                    .unwrap_or(0)
                    == 0
            }
            _ => false,
        }
    }
}

impl AccessPolicy {
    /// Returns the client that a request comes from.
    ///
    /// `forwarded` says whether any header line names a proxy, and `lines` are the values of
    /// `X-Forwarded-For` in their order. Each proxy appends the address of its peer, so the last
    /// one that is not a trusted proxy counts; anybody may have written the ones before it. If that
    /// address cannot be read, or a trusted proxy names none, the client is [`UNKNOWN`].
    pub fn client_address<'a>(
        &self,
        peer: IpAddr,
        forwarded: bool,
        lines: impl DoubleEndedIterator<Item = &'a [u8]>,
    ) -> ClientAddress {
        let peer = peer.to_canonical();
        if !forwarded || !self.is_proxy(peer) {
            return ClientAddress { ip: peer, forwarded };
        }
        let mut ip = UNKNOWN;
        for hop in lines.rev().flat_map(|line| line.rsplit(|byte| *byte == b',')) {
            ip = forwarded_address(hop).unwrap_or(UNKNOWN);
            if !self.is_proxy(ip) {
                break;
            }
        }
        ClientAddress { ip, forwarded }
    }

    /// Whether an address belongs to a trusted proxy.
    pub fn is_proxy(&self, address: IpAddr) -> bool {
        !address.is_unspecified() && self.proxies.iter().any(|network| network.contains(address))
    }
}

/// The address of every client whose own cannot be read. Such clients share one count, are never
/// local, and are exempt from nothing. No client has this address.
pub const UNKNOWN: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

/// The client that a request comes from, as far as addresses show.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct ClientAddress {
    /// The client's address, or [`UNKNOWN`].
    pub ip: IpAddr,
    /// Whether a proxy forwarded the request. A loopback address then proves no program on this
    /// machine.
    pub forwarded: bool,
}

/// Parses an address of `X-Forwarded-For`. Some proxies append the port.
fn forwarded_address(hop: &[u8]) -> Option<IpAddr> {
    let hop = std::str::from_utf8(hop).ok()?.trim_matches([' ', '\t']);
    let bracketed =
        hop.strip_prefix('[').and_then(|rest| rest.split_once(']')).map(|(address, _)| address);
    let with_port =
        hop.rsplit_once(':').map(|(address, _)| address).filter(|address| !address.contains(':'));
    let address =
        [Some(hop), bracketed, with_port].into_iter().flatten().find_map(|text| text.parse().ok());
    address
        .map(|address: IpAddr| address.to_canonical())
        .filter(|address| !address.is_unspecified())
}

/// Returns the address under which an address is counted. The holder of one IPv6 address holds its
/// whole /64.
pub fn subnet_key(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        // It must not count as UNKNOWN.
        IpAddr::V6(six) if six.is_loopback() => six.into(),
        IpAddr::V6(six) => Ipv6Addr::from(u128::from(six) & !u128::from(u64::MAX)).into(),
        four => four,
    }
}

/// Returns the networks around an address, the nearest first. One customer may hold all of the
/// first, which has 65 536 subnets; an IPv6 provider holds all of the second.
pub fn networks(address: IpAddr) -> impl Iterator<Item = Network> {
    let address = address.to_canonical();
    let widths: &[u8] = if address.is_ipv4() { &[16] } else { &[48, 32] };
    widths.iter().map(move |&bits| Network::around(address, bits))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_network_contains_addresses_with_its_prefix() {
        for (network, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.0"),
            ("192.168.1.7", "192.168.1.7", "192.168.1.6"),
            ("fd00::/8", "fdff::1", "fe00::"),
            ("::1", "::1", "::2"),
            ("127.0.0.1", "::ffff:127.0.0.1", "::1"),
        ] {
            let network = Network::parse(network).unwrap();
            assert!(network.contains(ip(inside)) && !network.contains(ip(outside)), "{network:?}");
        }
        assert!(Network::parse("0.0.0.0/0").unwrap().contains(ip("203.0.113.9")));
        for wrong in ["", "10.0.0.0/33", "::/129", "10.0.0/8", "proxy", "10.0.0.0/", "10.0.0.0/-1"]
        {
            assert_eq!(Network::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_client_address_is_the_last_hop_before_trusted_proxies() {
        let policy = AccessPolicy {
            proxies: ["127.0.0.1", "10.0.0.0/8"].map(|text| Network::parse(text).unwrap()).to_vec(),
            ..AccessPolicy::default()
        };
        for (peer, lines, client) in [
            ("203.0.113.9", &["198.51.100.1"][..], "203.0.113.9"),
            ("127.0.0.1", &["198.51.100.1"], "198.51.100.1"),
            ("::ffff:127.0.0.1", &["198.51.100.1:4711"], "198.51.100.1"),
            ("127.0.0.1", &["1.2.3.4, 198.51.100.1,\t10.1.1.1"], "198.51.100.1"),
            ("127.0.0.1", &["1.2.3.4", "198.51.100.1", "10.1.1.1"], "198.51.100.1"),
            ("127.0.0.1", &["\u{ff}", "198.51.100.1"], "198.51.100.1"),
            ("127.0.0.1", &["[2001:db8::1]:99"], "2001:db8::1"),
            ("127.0.0.1", &["2001:db8::1"], "2001:db8::1"),
            // A client of the proxy on the proxy's own machine, or one that claims to be there.
            ("127.0.0.1", &["127.0.0.1"], "127.0.0.1"),
            ("127.0.0.1", &["10.1.1.2, 10.1.1.1"], "10.1.1.2"),
        ] {
            let bytes = lines.iter().map(|line| line.as_bytes());
            let found = policy.client_address(ip(peer), true, bytes);
            assert_eq!(
                found,
                ClientAddress { ip: ip(client), forwarded: true },
                "{peer} for {lines:?}"
            );
        }
        let direct = policy.client_address(ip("127.0.0.1"), false, std::iter::empty());
        assert_eq!(direct, ClientAddress { ip: ip("127.0.0.1"), forwarded: false });
    }

    #[test]
    fn an_unreadable_hop_gives_the_unknown_address() {
        let proxies = ["127.0.0.1", "::/0", "0.0.0.0/0"].map(|text| Network::parse(text).unwrap());
        for trusted in [&proxies[..1], &proxies] {
            let policy = AccessPolicy { proxies: trusted.to_vec(), ..AccessPolicy::default() };
            let lines: [&[&[u8]]; 9] = [
                &[],
                &[b""],
                &[b"\xff"],
                &[b"198.51.100.1", b"\xff"],
                &[b"198.51.100.1, "],
                &[b"unknown, 127.0.0.1"],
                &[b"_hidden"],
                &[b"0.0.0.0"],
                &[b"::"],
            ];
            for lines in lines {
                let found = policy.client_address(ip("127.0.0.1"), true, lines.iter().copied());
                assert_eq!(found.ip, UNKNOWN, "{lines:?}");
            }
            assert!(!policy.is_proxy(UNKNOWN));
        }
    }

    #[test]
    fn a_public_name_is_foreign_unless_it_is_listed() {
        let hosts = Hosts::Local(vec!["band.example".into()]);
        for good in [
            "192.168.1.5:3001",
            "[fd00::1]:3001",
            "localhost:3001",
            "stage",
            "stage.local",
            "Stage.Local.:80",
            "band.example",
            "BAND.example:443",
            "pi.home.arpa",
        ] {
            assert!(hosts.allow(good), "{good}");
        }
        for bad in [
            "evil.example:3001",
            "192.168.1.5.evil.example",
            "local.example",
            "xlocal.com",
            "a.xlocal",
        ] {
            assert!(!hosts.allow(bad), "{bad}");
            assert!(Hosts::Any.allow(bad));
            assert_eq!(Hosts::Public(vec!["band.example".into()]).judge(bad), Named::Public);
        }
        assert!(!hosts.allow("evil%2eexample"), "no name has such a character");
        assert_eq!(
            Hosts::Public(vec!["band.example".into()]).judge("band.example:80"),
            Named::Known
        );
    }

    #[test]
    fn a_subnet_has_its_surrounding_networks() {
        let around = |address| networks(ip(address)).collect::<Vec<_>>();
        let named = |names: &[&str]| {
            names.iter().map(|name| Network::parse(name).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(around("2001:db8:1:2:3:4:5:6"), named(&["2001:db8:1::/48", "2001:db8::/32"]));
        assert_eq!(around("::ffff:192.0.2.1"), named(&["192.0.0.0/16"]));
    }

    #[test]
    fn a_subnet_key_is_one_address_or_one_subnet() {
        assert_eq!(subnet_key(ip("2001:db8:1:2:3:4:5:6")), ip("2001:db8:1:2::"));
        assert_eq!(subnet_key(ip("::ffff:192.0.2.1")), ip("192.0.2.1"));
        assert_ne!(subnet_key(ip("::1")), subnet_key(UNKNOWN));
    }
}
