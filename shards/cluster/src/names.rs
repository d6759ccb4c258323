//! Names of keys and channels, and the buckets that choose them.
//!
//! A bucket is a fixed part of all sessions. Its tag puts all its keys into one slot of a Redis
//! Cluster, so that scripts over several of them are atomic there too. Tags are chosen so that
//! buckets spread evenly over the slots, and thereby over the primaries.

use bandsync_engine::words::ids::SessionId;
use bandsync_redis::{SLOTS, slot_of};

/// Maximum number of buckets.
pub const BUCKETS_MAX: u16 = 1_024;

/// The key of the table of nodes.
pub const TABLE: &str = "bandsync:{nodes}:table";

/// The names for a fixed number of buckets.
#[derive(Clone, Debug)]
pub struct Names {
    tags: Vec<String>,
}

impl Names {
    /// Computes the tags of as many buckets: 1 to [`BUCKETS_MAX`], and values outside count as the
    /// nearest.
    pub fn new(buckets: u16) -> Self {
        let buckets = buckets.clamp(1, BUCKETS_MAX);
        Self { tags: (0..buckets).map(|bucket| tag(bucket, buckets)).collect() }
    }

    /// Number of buckets.
    pub fn count(&self) -> u16 {
        self.tags.len() as u16
    }

    /// Returns the bucket of a session.
    pub fn bucket(&self, session: &SessionId) -> u16 {
        session.bucket(self.count())
    }

    /// Returns the key of a session. On a single server it is the key that other programs know; in
    /// a Cluster it has the tag of its bucket.
    pub fn session(&self, session: &SessionId, in_cluster: bool) -> String {
        let id = session.as_str();
        match in_cluster {
            false => plain(session),
            true => format!("session:{{{}}}:{id}", self.tag(self.bucket(session))),
        }
    }

    /// Returns the key of the bucket's hash of session tags.
    pub fn tags(&self, bucket: u16) -> String {
        format!("bandsync:{{{}}}:tags", self.tag(bucket))
    }

    /// Returns the key of a node's lease in a bucket.
    pub fn lease(&self, bucket: u16, node: u16) -> String {
        format!("bandsync:{{{}}}:node:{node}", self.tag(bucket))
    }

    /// Returns the channel on which a node receives messages of a bucket.
    pub fn inbox(&self, bucket: u16, node: u16) -> String {
        format!("bandsync:{{{}}}:to:{node}", self.tag(bucket))
    }

    /// Returns the bucket of a channel that this node subscribes to.
    pub fn bucket_of(&self, channel: &[u8], node: u16) -> Option<u16> {
        let text = std::str::from_utf8(channel).ok()?;
        let tag = text.strip_prefix("bandsync:{")?.strip_suffix(&format!("}}:to:{node}"))?;
        let bucket: u16 = tag.split_once('.')?.0.parse().ok()?;
        (self.tags.get(usize::from(bucket))? == tag).then_some(bucket)
    }

    /// Returns the slot of a bucket's keys.
    pub fn slot(&self, bucket: u16) -> u16 {
        slot_of(self.tag(bucket).as_bytes())
    }

    fn tag(&self, bucket: u16) -> &str {
        self.tags.get(usize::from(bucket)).map_or("", String::as_str)
    }
}

/// Returns the key of a session on a server that is not a Cluster, which is also the key that an
/// unclustered server uses everywhere.
pub fn plain(session: &SessionId) -> String {
    format!("session:{}", session.as_str())
}

/// Returns `<bucket>.<n>` with the smallest n that puts it into the bucket's part of the slots.
fn tag(bucket: u16, buckets: u16) -> String {
    let part = |slot: u16| u32::from(slot) * u32::from(buckets) / u32::from(SLOTS);
    (0_u32..)
        .map(|n| format!("{bucket}.{n}"))
        .find(|tag| part(slot_of(tag.as_bytes())) == u32::from(bucket))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn tags_are_those_of_the_design() {
        let names = Names::new(64);
        assert_eq!([names.tag(0), names.tag(1), names.tag(2)], ["0.178", "1.2", "2.303"]);
        for (primaries, least, most) in [(3, 21, 22), (6, 10, 11), (16, 4, 4)] {
            let mut counts = vec![0; primaries];
            for bucket in 0..64 {
                counts[usize::from(names.slot(bucket)) * primaries / usize::from(SLOTS)] += 1;
            }
            assert!(counts.iter().all(|count| (least..=most).contains(count)), "{counts:?}");
        }
    }

    proptest! {
        #[test]
        fn each_tag_lies_in_its_part_of_the_slots(buckets in 1..=BUCKETS_MAX) {
            let names = Names::new(buckets);
            prop_assert_eq!(names.count(), buckets);
            for bucket in [0, buckets / 3, buckets - 1] {
                let slot = u32::from(names.slot(bucket));
                prop_assert_eq!(slot * u32::from(buckets) / 16_384, u32::from(bucket));
            }
        }

        #[test]
        fn all_keys_of_a_session_share_a_slot(id in "\\PC{1,40}", buckets in 1_u16..200) {
            let Some(session) = SessionId::parse(&id) else { return Ok(()) };
            let names = Names::new(buckets);
            let bucket = names.bucket(&session);
            let keys = [
                names.session(&session, true),
                names.tags(bucket),
                names.lease(bucket, 2_047),
                names.inbox(bucket, 1),
            ];
            for key in &keys {
                prop_assert_eq!(slot_of(key.as_bytes()), names.slot(bucket), "{}", key);
            }
            prop_assert_eq!(names.bucket_of(keys[3].as_bytes(), 1), Some(bucket));
            prop_assert_eq!(names.bucket_of(keys[3].as_bytes(), 2), None);
        }

        #[test]
        fn no_channel_makes_the_reader_panic(channel in any::<Vec<u8>>()) {
            prop_assert_eq!(Names::new(64).bucket_of(&channel, 7), None);
        }
    }

    #[test]
    fn a_single_server_keeps_the_keys_that_other_programs_know() {
        let session = SessionId::parse("stage {1}").unwrap();
        assert_eq!(Names::new(64).session(&session, false), "session:stage {1}");
    }
}
