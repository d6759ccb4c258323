//! Which commands were applied: one that a client sends again after a reconnect changes nothing.

use std::collections::VecDeque;

use crate::words::ids::CommandId;

/// Clients whose last command is remembered. Of one too many the one that was silent longest is forgotten.
const CLIENTS_MAX: usize = 256;

/// The last command of each client. Most sessions have none, so it is boxed.
#[derive(Clone, Debug, Default)]
pub(super) struct Applied(Option<Box<Last>>);

/// The client that spoke last is the last one.
#[derive(Clone, Debug, Default)]
struct Last(VecDeque<CommandId>);

impl Applied {
    /// Whether this command or a later one of its client was applied.
    pub fn has(&self, id: CommandId) -> bool {
        let mut all = self.0.iter().flat_map(|last| &last.0);
        all.any(|last| last.client == id.client && id.number <= last.number)
    }

    /// Notes a command that is applied.
    pub fn note(&mut self, id: CommandId) {
        let Last(all) = &mut **self.0.get_or_insert_default();
        if let Some(place) = all.iter().position(|last| last.client == id.client) {
            all.remove(place);
        } else if all.len() == CLIENTS_MAX {
            all.pop_front();
        }
        all.push_back(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_that_was_silent_longest_is_forgotten_first() {
        let mut applied = Applied::default();
        let id = |client, number| CommandId { client, number };
        let clients = CLIENTS_MAX as u64;
        for client in 0..clients {
            applied.note(id(client, 7));
        }
        applied.note(id(0, 9));
        assert!(applied.has(id(0, 8)) && !applied.has(id(0, 10)));
        applied.note(id(clients, 1));
        assert!(applied.has(id(0, 9)) && !applied.has(id(1, 7)) && applied.has(id(2, 7)));
        assert_eq!(applied.0.unwrap_or_default().0.len(), CLIENTS_MAX);
    }
}
