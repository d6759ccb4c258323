//! Wrong guesses of secrets, counted per address, per network and per session.

use std::net::IpAddr;

use crate::words::policy::subnet_key;
use crate::words::time::Micros;

/// The number of wrong passcodes and PINs allowed at once, and the time for which each counts.
#[derive(Clone, Copy, Debug)]
pub struct GuessLimit {
    burst: u64,
    interval: Micros,
}

impl GuessLimit {
    /// Per address, across all sessions. At this rate a four-digit PIN survives months of guessing.
    pub const OF_ADDRESS: Self = Self { burst: 10, interval: Micros::from_secs(60) };
    /// Per session, across all addresses.
    pub const IN_SESSION: Self = Self { burst: 30, interval: Micros::from_secs(10) };
    /// Per network, before its other addresses lose their free first guess. Guessed: far more than
    /// a band and its neighbours mistype, and a small part of the 65 536 subnets that one customer
    /// may hold.
    pub(super) const OF_NETWORK: Self = Self { burst: 1_024, interval: Micros::from_secs(10) };
    /// Per provider network: larger, so that one customer's guesses do not affect its neighbours.
    pub(super) const OF_PROVIDER: Self = Self { burst: 16_384, interval: Micros::from_secs(10) };
    /// Per session, before addresses that have never shown its secret lose their free first guess.
    /// At this rate eight digits survive years of guessing.
    const OF_STRANGERS: Self = Self { burst: 65_536, interval: Micros::from_secs(1) };
}

/// The recent wrong guesses, as the time at which none of them counts any longer.
#[derive(Clone, Copy, Debug, Default)]
pub struct GuessThrottle {
    forgotten_at: Micros,
}

impl GuessThrottle {
    /// Checks whether another guess is allowed.
    ///
    /// # Errors
    /// The time to wait.
    pub fn may(self, now: Micros, of: GuessLimit) -> Result<(), Micros> {
        let most = Micros::from_micros(of.interval.as_micros() * (of.burst - 1));
        match self.forgotten_at.since(now).since(most) {
            Micros::ZERO => Ok(()),
            wait => Err(wait),
        }
    }

    /// Whether any wrong guess still counts.
    pub fn any(self, now: Micros) -> bool {
        self.forgotten_at > now
    }

    /// Counts a wrong guess. Guesses beyond the burst are not counted, so that guessing is possible
    /// again soon after an attack has ended.
    pub fn wrong(&mut self, now: Micros, of: GuessLimit) {
        let full = now + Micros::from_micros(of.interval.as_micros() * of.burst);
        self.forgotten_at = (self.forgotten_at.max(now) + of.interval).min(full);
    }
}

/// Maximum number of addresses that a session remembers for having shown its secrets. Guessed.
const INSIDERS_MAX: usize = 64;

/// The secrets that a join shows, of those that the session has.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Shown {
    /// True if a passcode is shown and the session has one.
    pub passcode: bool,
    /// True if a PIN is shown and the session has one.
    pub pin: bool,
}

/// The guesses at a session's secrets. Most sessions see none, so the state is boxed.
#[derive(Debug, Default)]
pub struct Guard(Option<Box<Guarded>>);

/// The state of a session at whose secrets members or strangers have guessed.
#[derive(Debug, Default)]
struct Guarded {
    wrong: GuessThrottle,
    by_strangers: GuessThrottle,
    /// Addresses that have shown a right secret, the latest at the end.
    insiders: Vec<(IpAddr, Shown)>,
}

impl Guard {
    /// Checks whether the session allows another guess by any address.
    ///
    /// # Errors
    /// The time to wait.
    pub fn may(&self, now: Micros) -> Result<(), Micros> {
        self.0.as_ref().map_or(Ok(()), |guarded| guarded.wrong.may(now, GuessLimit::IN_SESSION))
    }

    /// Whether the session allows a first guess of an unknown address.
    pub fn may_stranger(&self, now: Micros) -> bool {
        self.0
            .as_ref()
            .is_none_or(|guarded| guarded.by_strangers.may(now, GuessLimit::OF_STRANGERS).is_ok())
    }

    /// Counts a wrong guess.
    pub fn wrong(&mut self, now: Micros) {
        let guarded = self.0.get_or_insert_default();
        guarded.wrong.wrong(now, GuessLimit::IN_SESSION);
        guarded.by_strangers.wrong(now, GuessLimit::OF_STRANGERS);
    }

    /// Whether an address has shown all of these secrets before.
    pub fn knows(&self, address: IpAddr, shown: Shown) -> bool {
        let home = subnet_key(address);
        let insider =
            self.0.as_ref().and_then(|guarded| guarded.insiders.iter().find(|(of, _)| *of == home));
        insider.is_some_and(|(_, known)| known.passcode >= shown.passcode && known.pin >= shown.pin)
    }

    /// Remembers that an address has shown these secrets and that they were right.
    pub fn right(&mut self, address: IpAddr, shown: Shown) {
        if shown == Shown::default() {
            return;
        }
        let home = subnet_key(address);
        let insiders = &mut self.0.get_or_insert_default().insiders;
        let index = insiders.iter().position(|(of, _)| *of == home);
        let before = index.map(|index| insiders.remove(index).1).unwrap_or_default();
        if insiders.len() == INSIDERS_MAX {
            insiders.remove(0);
        }
        let known =
            Shown { passcode: before.passcode || shown.passcode, pin: before.pin || shown.pin };
        insiders.push((home, known));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::net::Ipv4Addr;

    const NOW: Micros = Micros::from_secs(1);

    fn ip(last: u32) -> IpAddr {
        Ipv4Addr::from(0xCB00_7100 + last).into()
    }

    #[test]
    fn wrong_guesses_count_for_a_while() {
        let mut guesses = GuessThrottle::default();
        for n in 0..10 {
            assert_eq!(guesses.may(NOW, GuessLimit::OF_ADDRESS), Ok(()), "{n}");
            guesses.wrong(NOW, GuessLimit::OF_ADDRESS);
        }
        let wait = guesses.may(NOW, GuessLimit::OF_ADDRESS).unwrap_err();
        assert_eq!(wait, Micros::from_secs(60));
        assert_eq!(guesses.may(NOW + wait, GuessLimit::OF_ADDRESS), Ok(()));
        assert!(guesses.any(NOW + wait) && !guesses.any(NOW + Micros::from_secs(600)));
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
    fn guesses_beyond_the_burst_do_not_prolong_the_wait() {
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
}
