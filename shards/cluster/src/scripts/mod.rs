//! The scripts that run in Redis. Each is called by its hash, and sent as text when Redis does not
//! know it, so that two versions of the program can use one Redis.

use redis::{Cmd, cmd};

const COMMON: &str = include_str!("common.lua");

/// One script.
#[derive(Clone, Debug)]
pub struct Script {
    text: String,
    hash: String,
}

impl Script {
    fn new(text: &str) -> Self {
        let text = format!("{COMMON}{text}");
        let hash = redis::Script::new(&text).get_hash().to_owned();
        Self { text, hash }
    }

    /// The name by which Redis knows it.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// Returns a call by hash, or by text, from which Redis learns it.
    pub fn call(&self, by_text: bool, keys: &[String], arguments: &[Vec<u8>]) -> Cmd {
        let mut command = cmd(if by_text { "EVAL" } else { "EVALSHA" });
        command.arg(if by_text { &self.text } else { &self.hash });
        command.arg(keys.len()).arg(keys).arg(arguments);
        command
    }
}

/// All scripts.
#[derive(Clone, Debug)]
pub struct Scripts {
    /// Takes a session.
    pub claim: Script,
    /// Stores and publishes a decision.
    pub commit: Script,
    /// Publishes a message of a node whose lease has not ended.
    pub publish: Script,
    /// Leaves a session without an owner.
    pub release: Script,
    /// Deletes a session.
    pub forget: Script,
    /// Writes a node into the table.
    pub join: Script,
    /// Removes a lease or an entry of the table.
    pub leave: Script,
}

impl Default for Scripts {
    fn default() -> Self {
        Self {
            claim: Script::new(include_str!("claim.lua")),
            commit: Script::new(include_str!("commit.lua")),
            publish: Script::new(include_str!("publish.lua")),
            release: Script::new(include_str!("release.lua")),
            forget: Script::new(include_str!("forget.lua")),
            join: Script::new(include_str!("join.lua")),
            leave: Script::new(include_str!("leave.lua")),
        }
    }
}
