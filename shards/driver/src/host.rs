//! Who answers the HTTP requests that the engine does not answer itself.

use bandsync_engine::io::{Answer, Question};

/// Called on the shard's thread for [`Output::Ask`](bandsync_engine::io::Output::Ask), within the same turn.
/// An answer must be ready or quick to make: as long as this takes, the shard plays no music.
pub trait Host: Send + Sync + 'static {
    /// The answer to `question`.
    fn answer(&self, question: &Question) -> Answer;

    /// Called on the shard's thread when memory has become scarce and the machine has let go what it could: gives
    /// back what this thread keeps for later use.
    fn trim(&self) {}
}
