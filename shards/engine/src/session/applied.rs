//! Remembers applied commands, so that one repeated after a reconnect changes nothing.

use std::collections::VecDeque;

use crate::words::ids::{CommandId, MemberId};

/// Maximum number of clients whose last command is remembered. Beyond it, the client that was
/// silent longest is forgotten, preferably one whose member has left. Otherwise a client that joins
/// again and again would displace all others. Guessed.
const CLIENTS_MAX: usize = 256;

/// Maximum number of clients remembered per member. Otherwise a member that invents clients would
/// displace all others. A reloaded page is another client. Guessed: no member has more in use.
const CLIENTS_OF_MEMBER_MAX: usize = 4;

/// The last command of each client. Most sessions have none, so the list is boxed.
#[derive(Clone, Debug, Default)]
pub(super) struct AppliedCommands(Option<Box<Last>>);

/// Clients in order of their last command, the latest at the end.
#[derive(Clone, Debug, Default)]
struct Last(VecDeque<Client>);

/// A client of a member, as its command ids name it.
#[derive(Clone, Copy, Debug)]
struct Client {
    /// The client's last command.
    last: CommandId,
    /// The member that sent the command.
    member: MemberId,
    /// Whether that member has left since.
    has_left: bool,
}

impl AppliedCommands {
    /// Whether this command or a later one of its client was applied.
    pub fn has(&self, id: CommandId) -> bool {
        let mut all = self.0.iter().flat_map(|last| &last.0);
        // mark: only_last_command_known
        all.any(|Client { last, .. }| last.client == id.client && id.number <= last.number)
    }

    /// Records a member's command as applied.
    pub fn note(&mut self, id: CommandId, member: MemberId) {
        let Last(all) = &mut **self.0.get_or_insert_default();
        all.retain(|client| client.last.client != id.client);
        let mut of_member = all.iter().enumerate().filter(|(_, client)| client.member == member);
        let oldest_own = of_member.next().map(|(index, _)| index);
        let own = usize::from(oldest_own.is_some()) + of_member.count();
        if let Some(oldest) = oldest_own.filter(|_| own >= CLIENTS_OF_MEMBER_MAX) {
            all.remove(oldest); // mark: clients_displace_others
        } else if all.len() == CLIENTS_MAX {
            all.remove(all.iter().position(|client| client.has_left).unwrap_or(0));
        }
        all.push_back(Client { last: id, member, has_left: false });
        debug_assert!(all.len() <= CLIENTS_MAX, "{} clients are remembered", all.len());
    }

    /// Records that a member has left. Its clients may still repeat a command.
    pub fn left(&mut self, member: MemberId) {
        let clients = self.0.iter_mut().flat_map(|last| &mut last.0);
        clients.filter(|client| client.member == member).for_each(|client| client.has_left = true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(client: u64, number: u64) -> CommandId {
        CommandId { client, number }
    }

    fn member(number: u8) -> MemberId {
        MemberId::from_bytes([number; 15])
    }

    #[test]
    fn the_longest_silent_client_is_evicted_first() {
        let mut applied = AppliedCommands::default();
        let clients = CLIENTS_MAX as u64;
        for client in 0..clients {
            applied.note(id(client, 7), member(client as u8));
        }
        applied.note(id(0, 9), member(0));
        assert!(applied.has(id(0, 8)) && !applied.has(id(0, 10)));
        applied.note(id(clients, 1), member(1));
        assert!(applied.has(id(0, 9)) && !applied.has(id(1, 7)) && applied.has(id(2, 7)));
        assert_eq!(applied.0.unwrap_or_default().0.len(), CLIENTS_MAX);
    }

    #[test]
    fn a_member_cannot_evict_the_clients_of_others() {
        let mut applied = AppliedCommands::default();
        applied.note(id(0, 7), member(0));
        for client in 1..=1_000 {
            applied.note(id(client, 1), member(1));
        }
        assert!(applied.has(id(0, 7)));
        assert!(!applied.has(id(996, 1)) && (997..=1_000).all(|client| applied.has(id(client, 1))));
        assert_eq!(applied.0.as_ref().map(|last| last.0.len()), Some(1 + CLIENTS_OF_MEMBER_MAX));
    }

    #[test]
    fn repeated_joins_do_not_evict_the_clients_of_members() {
        let mut applied = AppliedCommands::default();
        applied.note(id(0, 7), member(0));
        for client in 1..=1_000 {
            let guest = member(1 + (client / 4) as u8);
            applied.note(id(client, 1), guest);
            applied.left(guest);
        }
        assert!(applied.has(id(0, 7)) && applied.has(id(1_000, 1)) && !applied.has(id(1, 1)));
        applied.left(member(0));
        assert!(applied.has(id(0, 7)), "it may come back");
        assert_eq!(applied.0.unwrap_or_default().0.len(), CLIENTS_MAX);
    }

    #[test]
    fn a_client_that_returns_as_another_member_belongs_to_it() {
        let mut applied = AppliedCommands::default();
        applied.note(id(0, 1), member(0));
        applied.note(id(0, 2), member(1));
        for client in 1..=4 {
            applied.note(id(client, 1), member(0));
        }
        assert!(applied.has(id(0, 2)) && (1..=4).all(|client| applied.has(id(client, 1))));
    }
}
