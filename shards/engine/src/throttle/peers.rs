//! How many connections each address has, how fast it opens new ones, and how often it guessed a
//! secret wrong.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::rate::draw;
use crate::words::manners::{Network, PeerLimits, household, networks, plain};
use crate::words::time::Micros;

/// Addresses that are remembered for their haste alone before those that have rested are looked
/// for.
const RESTING_MAX: usize = 1_024;

/// How many wrong passcodes and PINs are let pass at once, and how long each counts.
#[derive(Clone, Copy, Debug)]
pub struct Guessing {
    burst: u64,
    interval: Micros,
}

impl Guessing {
    /// Of an address, in all sessions. At this rate a four-digit PIN survives months of guessing.
    pub const OF_ADDRESS: Self = Self { burst: 10, interval: Micros::from_secs(60) };
    /// In a session, by whatever addresses.
    pub const IN_SESSION: Self = Self { burst: 30, interval: Micros::from_secs(10) };
    /// By addresses of one network before its others lose their free first guess. Guessed: far more
    /// than a band and its neighbours mistype, and a small part of the 65 536 addresses of /64 that
    /// one customer may hold.
    const OF_NETWORK: Self = Self { burst: 1_024, interval: Micros::from_secs(10) };
    /// The same for the network of a provider, so that one customer's guesses cost its neighbours
    /// nothing.
    const OF_PROVIDER: Self = Self { burst: 16_384, interval: Micros::from_secs(10) };
    /// In a session before addresses that have never shown its secret lose their free first guess.
    /// At this rate eight digits last for years.
    const OF_STRANGERS: Self = Self { burst: 65_536, interval: Micros::from_secs(1) };
}

/// Wrong guesses of late: the time at which none of them counts any more.
#[derive(Clone, Copy, Debug, Default)]
pub struct Guesses {
    forgotten_at: Micros,
}

impl Guesses {
    /// Whether another guess is let through.
    ///
    /// # Errors
    /// How long to wait if not.
    pub fn may(self, now: Micros, of: Guessing) -> Result<(), Micros> {
        let most = Micros::from_micros(of.interval.as_micros() * (of.burst - 1));
        match self.forgotten_at.since(now).since(most) {
            Micros::ZERO => Ok(()),
            wait => Err(wait),
        }
    }

    /// Whether there are any.
    pub fn any(self, now: Micros) -> bool {
        self.forgotten_at > now
    }

    /// Notes a wrong guess. Beyond the burst none is remembered, so that guessing is possible again
    /// soon after others have stopped.
    pub fn wrong(&mut self, now: Micros, of: Guessing) {
        let full = now + Micros::from_micros(of.interval.as_micros() * of.burst);
        self.forgotten_at = (self.forgotten_at.max(now) + of.interval).min(full);
    }
}

/// Addresses that a session remembers for having shown its secrets.
const INSIDERS_MAX: usize = 64;

/// The secrets of a session that somebody shows.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Shown {
    /// A passcode, where the session has one.
    pub passcode: bool,
    /// A PIN, where the session has one.
    pub pin: bool,
}

/// The guesses at a session's secrets. Most sessions see none, so it is boxed.
#[derive(Debug, Default)]
pub struct Guard(Option<Box<Guarded>>);

#[derive(Debug, Default)]
struct Guarded {
    wrong: Guesses,
    by_strangers: Guesses,
    /// Addresses that have shown the right secret, the one that did so last at the end.
    insiders: Vec<(IpAddr, Shown)>,
}

impl Guard {
    /// Whether the session takes another guess by anybody.
    ///
    /// # Errors
    /// How long to wait if not.
    pub fn may(&self, now: Micros) -> Result<(), Micros> {
        self.0.as_ref().map_or(Ok(()), |guarded| guarded.wrong.may(now, Guessing::IN_SESSION))
    }

    /// Whether the session takes a first guess of an address that it knows nothing of.
    pub fn may_stranger(&self, now: Micros) -> bool {
        self.0
            .as_ref()
            .is_none_or(|guarded| guarded.by_strangers.may(now, Guessing::OF_STRANGERS).is_ok())
    }

    /// Notes a wrong guess.
    pub fn wrong(&mut self, now: Micros) {
        let guarded = self.0.get_or_insert_default();
        guarded.wrong.wrong(now, Guessing::IN_SESSION);
        guarded.by_strangers.wrong(now, Guessing::OF_STRANGERS);
    }

    /// Whether an address has shown all of these secrets before.
    pub fn knows(&self, address: IpAddr, shown: Shown) -> bool {
        let home = household(address);
        let insider =
            self.0.as_ref().and_then(|guarded| guarded.insiders.iter().find(|(of, _)| *of == home));
        insider.is_some_and(|(_, known)| known.passcode >= shown.passcode && known.pin >= shown.pin)
    }

    /// Notes that an address has shown these secrets, and that they were right.
    pub fn right(&mut self, address: IpAddr, shown: Shown) {
        if shown == Shown::default() {
            return;
        }
        let home = household(address);
        let insiders = &mut self.0.get_or_insert_default().insiders;
        let place = insiders.iter().position(|(of, _)| *of == home);
        let before = place.map(|place| insiders.remove(place).1).unwrap_or_default();
        if insiders.len() == INSIDERS_MAX {
            insiders.remove(0);
        }
        let known =
            Shown { passcode: before.passcode || shown.passcode, pin: before.pin || shown.pin };
        insiders.push((home, known));
    }
}

/// The addresses that a shard has to do with.
#[derive(Debug, Default)]
pub struct Crowd {
    peers: BTreeMap<IpAddr, Peer>,
    /// Networks whose addresses have guessed wrong.
    guessers: BTreeMap<Network, Guesses>,
    /// With so many addresses and networks it is time to forget some.
    full: usize,
}

#[derive(Debug, Default)]
struct Peer {
    connections: u32,
    /// When its bucket of new connections is full again.
    full_at: Micros,
    guesses: Guesses,
}

impl Peer {
    /// Whether there is anything to remember of it.
    fn is_rested(&self, now: Micros) -> bool {
        self.connections == 0 && self.full_at <= now && !self.guesses.any(now)
    }
}

/// Why an address gets nothing more.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Crowded {
    /// It has as many connections as it may.
    Connections,
    /// It opens them too fast; after so long it may open another.
    Haste(Micros),
}

impl Crowded {
    /// The same in words.
    pub const fn why(self) -> &'static str {
        match self {
            Self::Connections => "its address has too many connections",
            Self::Haste(_) => "its address opens connections too fast",
        }
    }
}

impl Crowd {
    /// Counts a new connection of an address. It is counted also if it is too much, since its
    /// connection exists until it is closed.
    pub fn enter(
        &mut self,
        address: IpAddr,
        now: Micros,
        limits: &PeerLimits,
    ) -> Result<(), Crowded> {
        self.forget_rested(now);
        let peer = self.peers.entry(household(address)).or_default();
        peer.connections += 1;
        if limits.spares_loopback && plain(address).is_loopback() {
            return Ok(());
        }
        if limits.connections_max > 0 && peer.connections > limits.connections_max {
            return Err(Crowded::Connections);
        }
        peer.full_at =
            draw(now, peer.full_at, limits.connections_per_second).map_err(Crowded::Haste)?;
        Ok(())
    }

    /// Counts one that came from another shard: it was let in there.
    pub fn arrive(&mut self, address: IpAddr) {
        self.peers.entry(household(address)).or_default().connections += 1;
    }

    /// A connection of an address is gone.
    pub fn leave(&mut self, address: IpAddr, now: Micros) {
        let Some(peer) = self.peers.get_mut(&household(address)) else { return };
        peer.connections = peer.connections.saturating_sub(1);
        if peer.is_rested(now) {
            self.peers.remove(&household(address));
        }
    }

    /// The wrong guesses of an address.
    pub fn guesses(&self, address: IpAddr) -> Guesses {
        self.peers.get(&household(address)).map(|peer| peer.guesses).unwrap_or_default()
    }

    /// Whether the networks around an address leave it a first guess that does not count in the
    /// session.
    pub fn spares(&self, address: IpAddr, now: Micros) -> bool {
        let guesses = |network| self.guessers.get(&network).copied().unwrap_or_default();
        around(address).all(|(network, of)| guesses(network).may(now, of).is_ok())
    }

    /// Notes a wrong guess of an address.
    pub fn guessed_wrong(&mut self, address: IpAddr, now: Micros) {
        self.forget_rested(now);
        self.peers.entry(household(address)).or_default().guesses.wrong(now, Guessing::OF_ADDRESS);
        for (network, of) in around(address) {
            self.guessers.entry(network).or_default().wrong(now, of);
        }
    }

    /// Connections that are counted.
    pub fn connections(&self) -> u64 {
        self.peers.values().map(|peer| u64::from(peer.connections)).sum()
    }

    /// Looks through all addresses when they have doubled since the last time, so that each costs
    /// little.
    fn forget_rested(&mut self, now: Micros) {
        if self.peers.len() + self.guessers.len() < self.full.max(RESTING_MAX) {
            return;
        }
        self.peers.retain(|_, peer| !peer.is_rested(now));
        self.guessers.retain(|_, guesses| guesses.any(now));
        self.full = (self.peers.len() + self.guessers.len()) * 2;
    }
}

/// The networks around an address, with the wrong guesses that each may make for nothing.
fn around(address: IpAddr) -> impl Iterator<Item = (Network, Guessing)> {
    networks(address).zip([Guessing::OF_NETWORK, Guessing::OF_PROVIDER])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::net::Ipv4Addr;

    const LIMITS: PeerLimits =
        PeerLimits { connections_max: 3, connections_per_second: 10, spares_loopback: true };
    const NOW: Micros = Micros::from_secs(1);

    fn ip(last: u32) -> IpAddr {
        Ipv4Addr::from(0xCB00_7100 + last).into()
    }

    #[test]
    fn an_address_has_so_many_connections_and_gets_back_what_it_gives() {
        let mut crowd = Crowd::default();
        for _ in 0..3 {
            assert_eq!(crowd.enter(ip(1), NOW, &LIMITS), Ok(()));
        }
        assert_eq!(crowd.enter(ip(1), NOW, &LIMITS), Err(Crowded::Connections));
        assert_eq!(crowd.enter(ip(2), NOW, &LIMITS), Ok(()), "another address is another's");
        crowd.leave(ip(1), NOW);
        crowd.leave(ip(1), NOW);
        assert_eq!(crowd.enter(ip(1), NOW, &LIMITS), Ok(()));
    }

    #[test]
    fn an_address_in_haste_is_told_how_long_to_wait() {
        let mut crowd = Crowd::default();
        for n in 0..20 {
            assert_eq!(crowd.enter(ip(1), NOW, &LIMITS), Ok(()), "{n}");
            crowd.leave(ip(1), NOW);
        }
        let Err(Crowded::Haste(wait)) = crowd.enter(ip(1), NOW, &LIMITS) else {
            panic!("no limit")
        };
        crowd.leave(ip(1), NOW);
        assert!(wait <= Micros::from_millis(100));
        assert_eq!(crowd.enter(ip(1), NOW + wait, &LIMITS), Ok(()));
    }

    #[test]
    fn wrong_guesses_count_for_a_while() {
        let mut guesses = Guesses::default();
        for n in 0..10 {
            assert_eq!(guesses.may(NOW, Guessing::OF_ADDRESS), Ok(()), "{n}");
            guesses.wrong(NOW, Guessing::OF_ADDRESS);
        }
        let wait = guesses.may(NOW, Guessing::OF_ADDRESS).unwrap_err();
        assert_eq!(wait, Micros::from_secs(60));
        assert_eq!(guesses.may(NOW + wait, Guessing::OF_ADDRESS), Ok(()));
        assert!(guesses.any(NOW + wait) && !guesses.any(NOW + Micros::from_secs(600)));
    }

    #[test]
    fn a_network_whose_addresses_guess_loses_their_free_guesses_and_others_keep_theirs() {
        let six = |last: u128| IpAddr::from((0x2001_0db8_u128 << 96 | last).to_be_bytes());
        let (slash_64, slash_48, slash_32) = (1 << 64, 1 << 80, 1 << 96);
        let mut crowd = Crowd::default();
        let mut free = 0;
        for n in 0..65_536 {
            if crowd.spares(six(n * slash_64), NOW) {
                free += 1;
                crowd.guessed_wrong(six(n * slash_64), NOW);
            }
        }
        assert_eq!(free, 1_024, "of a whole /48");
        assert!(
            crowd.spares(six(slash_48), NOW + Micros::from_secs(10)),
            "its neighbour is another customer"
        );
        assert!(crowd.spares(six(slash_32), NOW) && crowd.spares(ip(1), NOW));
        assert!(crowd.spares(six(0), NOW + Micros::from_secs(10)), "one guess is forgotten");
        assert!(!crowd.spares(six(0), NOW));
    }

    #[test]
    fn a_session_remembers_the_addresses_that_showed_its_secrets() {
        let (passcode, pin) =
            (Shown { passcode: true, pin: false }, Shown { passcode: false, pin: true });
        let both = Shown { passcode: true, pin: true };
        let mut guard = Guard::default();
        guard.right(ip(1), Shown::default());
        assert!(guard.0.is_none() && !guard.knows(ip(1), passcode));
        guard.right(ip(1), passcode);
        assert!(
            guard.knows(ip(1), passcode) && !guard.knows(ip(1), both) && !guard.knows(ip(1), pin)
        );
        guard.right(ip(1), pin);
        assert!(guard.knows(ip(1), both));
        for n in 2..66 {
            guard.right(ip(n), passcode);
        }
        assert!(
            !guard.knows(ip(1), passcode)
                && guard.knows(ip(2), passcode)
                && guard.knows(ip(65), passcode)
        );
    }

    #[test]
    fn guesses_beyond_the_burst_prolong_nothing() {
        let mut guard = Guard::default();
        for _ in 0..1_000 {
            guard.wrong(NOW);
        }
        assert_eq!(guard.may(NOW), Err(Micros::from_secs(10)));
        assert!(guard.may(NOW + Micros::from_secs(10)).is_ok() && guard.may_stranger(NOW));
        for _ in 0..65_536 {
            guard.wrong(NOW);
        }
        assert!(!guard.may_stranger(NOW) && guard.may_stranger(NOW + Micros::from_secs(1)));
    }

    #[test]
    fn an_address_that_guesses_is_remembered_until_it_is_forgiven() {
        let mut crowd = Crowd::default();
        assert_eq!(crowd.enter(ip(1), NOW, &LIMITS), Ok(()));
        crowd.guessed_wrong(ip(1), NOW);
        crowd.leave(ip(1), NOW + Micros::from_secs(30));
        assert!(crowd.guesses(ip(1)).any(NOW + Micros::from_secs(30)));
        assert!(!crowd.guesses(ip(2)).any(NOW));
    }

    #[test]
    fn this_machine_is_spared() {
        let mut crowd = Crowd::default();
        for _ in 0..1_000 {
            assert_eq!(crowd.enter(Ipv4Addr::LOCALHOST.into(), NOW, &LIMITS), Ok(()));
        }
        let strict = PeerLimits { spares_loopback: false, ..LIMITS };
        assert!(crowd.enter(Ipv4Addr::LOCALHOST.into(), NOW, &strict).is_err());
    }

    #[test]
    fn addresses_that_came_once_are_forgotten() {
        let mut crowd = Crowd::default();
        let mut most = 0;
        for n in 0..20_000_u32 {
            let now = NOW + Micros::from_millis(u64::from(n));
            assert_eq!(crowd.enter(ip(n), now, &LIMITS), Ok(()));
            crowd.leave(ip(n), now);
            most = most.max(crowd.peers.len());
        }
        assert!(most <= 2 * RESTING_MAX, "{most}");
    }
}
