//! The connections of each address, the rate at which it opens new ones, and its wrong guesses.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::event_rates::draw;
use super::guesses::{GuessLimit, GuessThrottle};
use crate::words::policy::{Network, PeerLimits, networks, subnet_key};
use crate::words::time::Micros;

/// Number of addresses and networks from which expired ones are searched for.
const RESTING_MAX: usize = 1_024;

/// The addresses that have connections to a shard or had them recently.
#[derive(Debug, Default)]
pub struct PeerTable {
    peers: BTreeMap<IpAddr, Peer>,
    /// Networks whose addresses have guessed wrong, with the guesses of each network.
    guessers: BTreeMap<Network, GuessThrottle>,
    /// Number of addresses and networks at which expired ones are removed next.
    full: usize,
}

/// The state of one address.
#[derive(Debug, Default)]
struct Peer {
    connections: u32,
    /// Time at which the bucket of new connections is full again.
    full_at: Micros,
    guesses: GuessThrottle,
}

impl Peer {
    /// Whether the address has no connection, a full bucket, and no wrong guess that still counts.
    fn is_rested(&self, now: Micros) -> bool {
        self.connections == 0 && self.full_at <= now && !self.guesses.any(now)
    }
}

/// The reason for which a connection of an address is rejected.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PeerRejection {
    /// The address has the maximum number of connections.
    Connections,
    /// The address opens connections too fast. It may open another one after this time.
    TooFast(Micros),
}

impl PeerRejection {
    /// Returns the reason in words, for the log.
    pub fn why(self, limits: &PeerLimits) -> String {
        match self {
            Self::Connections => {
                format!("more than {} connections of its address", limits.connections_max)
            }
            Self::TooFast(_) => {
                let rate = limits.connections_per_second;
                format!("more than {rate} connections per second from its address")
            }
        }
    }
}

impl PeerTable {
    /// Counts a new connection of an address. A rejected one is counted too, since it exists until
    /// it is closed.
    ///
    /// # Errors
    /// If the address has too many connections or opens them too fast.
    pub fn admit(
        &mut self,
        address: IpAddr,
        now: Micros,
        limits: &PeerLimits,
    ) -> Result<(), PeerRejection> {
        self.forget_rested(now);
        let peer = self.peers.entry(subnet_key(address)).or_default();
        peer.connections += 1;
        if limits.spares_loopback && address.to_canonical().is_loopback() {
            return Ok(());
        }
        if limits.connections_max > 0 && peer.connections > limits.connections_max {
            return Err(PeerRejection::Connections);
        }
        peer.full_at = draw(now, peer.full_at, limits.connections_per_second)
            .map_err(PeerRejection::TooFast)?;
        Ok(())
    }

    /// Counts a connection that another shard admitted and handed over.
    pub fn adopt(&mut self, address: IpAddr) {
        self.peers.entry(subnet_key(address)).or_default().connections += 1;
    }

    /// Stops counting a connection of an address.
    pub fn release(&mut self, address: IpAddr, now: Micros) {
        let Some(peer) = self.peers.get_mut(&subnet_key(address)) else { return };
        debug_assert!(peer.connections > 0, "only a counted connection is released");
        peer.connections = peer.connections.saturating_sub(1);
        if peer.is_rested(now) {
            self.peers.remove(&subnet_key(address));
        }
    }

    /// Returns the wrong guesses of an address.
    pub fn guesses(&self, address: IpAddr) -> GuessThrottle {
        self.peers.get(&subnet_key(address)).map(|peer| peer.guesses).unwrap_or_default()
    }

    /// Whether the networks around an address still allow it a first guess that does not count in
    /// the session.
    pub fn spares(&self, address: IpAddr, now: Micros) -> bool {
        let guesses = |network| self.guessers.get(&network).copied().unwrap_or_default();
        around(address).all(|(network, of)| guesses(network).may(now, of).is_ok())
    }

    /// Counts a wrong guess of an address, in its networks too.
    pub fn guessed_wrong(&mut self, address: IpAddr, now: Micros) {
        self.forget_rested(now);
        self.peers
            .entry(subnet_key(address))
            .or_default()
            .guesses
            .wrong(now, GuessLimit::OF_ADDRESS);
        for (network, of) in around(address) {
            self.guessers.entry(network).or_default().wrong(now, of);
        }
    }

    /// Returns the number of counted connections.
    pub fn connections(&self) -> u64 {
        self.peers.values().map(|peer| u64::from(peer.connections)).sum()
    }

    /// Removes expired addresses once their number has doubled since the last time, so that the
    /// cost per address is constant.
    fn forget_rested(&mut self, now: Micros) {
        if self.peers.len() + self.guessers.len() < self.full.max(RESTING_MAX) {
            return;
        }
        self.peers.retain(|_, peer| !peer.is_rested(now));
        self.guessers.retain(|_, guesses| guesses.any(now));
        self.full = (self.peers.len() + self.guessers.len()) * 2;
    }
}

/// Returns the networks around an address, each with the limit of its free guesses.
fn around(address: IpAddr) -> impl Iterator<Item = (Network, GuessLimit)> {
    networks(address).zip([GuessLimit::OF_NETWORK, GuessLimit::OF_PROVIDER])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const LIMITS: PeerLimits =
        PeerLimits { connections_max: 3, connections_per_second: 10, spares_loopback: true };
    const NOW: Micros = Micros::from_secs(1);

    fn ip(last: u32) -> IpAddr {
        Ipv4Addr::from(0xCB00_7100 + last).into()
    }

    #[test]
    fn a_released_connection_makes_room_for_its_address() {
        let mut peers = PeerTable::default();
        for _ in 0..3 {
            assert_eq!(peers.admit(ip(1), NOW, &LIMITS), Ok(()));
        }
        assert_eq!(peers.admit(ip(1), NOW, &LIMITS), Err(PeerRejection::Connections));
        assert_eq!(peers.admit(ip(2), NOW, &LIMITS), Ok(()), "another address is another's");
        peers.release(ip(1), NOW);
        peers.release(ip(1), NOW);
        assert_eq!(peers.admit(ip(1), NOW, &LIMITS), Ok(()));
    }

    #[test]
    fn an_address_that_connects_too_fast_must_wait() {
        let mut peers = PeerTable::default();
        for n in 0..20 {
            assert_eq!(peers.admit(ip(1), NOW, &LIMITS), Ok(()), "{n}");
            peers.release(ip(1), NOW);
        }
        let Err(PeerRejection::TooFast(wait)) = peers.admit(ip(1), NOW, &LIMITS) else {
            panic!("no limit")
        };
        peers.release(ip(1), NOW);
        assert!(wait <= Micros::from_millis(100));
        assert_eq!(peers.admit(ip(1), NOW + wait, &LIMITS), Ok(()));
    }

    #[test]
    fn a_guessing_network_loses_its_free_guesses_without_affecting_others() {
        let six = |last: u128| IpAddr::from((0x2001_0db8_u128 << 96 | last).to_be_bytes());
        let (slash_64, slash_48, slash_32) = (1 << 64, 1 << 80, 1 << 96);
        let mut peers = PeerTable::default();
        let mut free = 0;
        for n in 0..65_536 {
            if peers.spares(six(n * slash_64), NOW) {
                free += 1;
                peers.guessed_wrong(six(n * slash_64), NOW);
            }
        }
        assert_eq!(free, 1_024, "per /48");
        assert!(
            peers.spares(six(slash_48), NOW + Micros::from_secs(10)),
            "another /48 has its own guesses"
        );
        assert!(peers.spares(six(slash_32), NOW) && peers.spares(ip(1), NOW));
        assert!(peers.spares(six(0), NOW + Micros::from_secs(10)), "one guess is forgotten");
        assert!(!peers.spares(six(0), NOW));
    }

    #[test]
    fn a_guessing_address_is_remembered_after_it_disconnects() {
        let mut peers = PeerTable::default();
        assert_eq!(peers.admit(ip(1), NOW, &LIMITS), Ok(()));
        peers.guessed_wrong(ip(1), NOW);
        peers.release(ip(1), NOW + Micros::from_secs(30));
        assert!(peers.guesses(ip(1)).any(NOW + Micros::from_secs(30)));
        assert!(!peers.guesses(ip(2)).any(NOW));
    }

    #[test]
    fn loopback_can_be_exempt_from_the_limits() {
        let mut peers = PeerTable::default();
        for _ in 0..1_000 {
            assert_eq!(peers.admit(Ipv4Addr::LOCALHOST.into(), NOW, &LIMITS), Ok(()));
        }
        let strict = PeerLimits { spares_loopback: false, ..LIMITS };
        assert!(peers.admit(Ipv4Addr::LOCALHOST.into(), NOW, &strict).is_err());
    }

    #[test]
    fn addresses_without_connections_are_evicted() {
        let mut peers = PeerTable::default();
        let mut most = 0;
        for n in 0..20_000_u32 {
            let now = NOW + Micros::from_millis(u64::from(n));
            assert_eq!(peers.admit(ip(n), now, &LIMITS), Ok(()));
            peers.release(ip(n), now);
            most = most.max(peers.peers.len());
        }
        assert!(most <= 2 * RESTING_MAX, "{most}");
    }
}
