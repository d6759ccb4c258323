//! The fields of a stored session.

use bandsync_engine::record::Record;

/// Returns the record, and fields for other programs. `position` is the position at `updatedAt`
/// (Unix milliseconds), from which it moves on if `isPlaying`.
pub fn fields(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut fields = vec![b"record".to_vec(), bytes.to_vec()];
    let mut field = |name: &str, value: String| fields.extend([name.into(), value.into_bytes()]);
    field("checksum", format!("{:08x}", Record::checksum(bytes)));
    if let Ok(record) = Record::parse(bytes) {
        let timeline = &record.timeline;
        let at = record.last_active_at.max(timeline.made_at);
        let since = at.since(record.last_active_at).as_millis() as i64;
        field("format", record.format().to_string());
        field("sessionId", record.session.as_str().to_owned());
        field("message", record.message().to_owned());
        field("isPlaying", u8::from(timeline.is_playing_at(at)).to_string());
        field("position", millis(timeline.position_at(at)));
        field("tempo", millis(i64::from(timeline.tempo_at(at).milli_bpm())));
        field("updatedAt", (record.last_active_unix.0 + since).to_string());
        field("createdAt", record.created_at.0.to_string());
        field("lastActiveAt", record.last_active_unix.0.to_string());
        field(
            "leaderSocketId",
            timeline.leader.map_or_else(String::new, |id| id.as_str().to_owned()),
        );
        field("memberCount", record.seats.len().to_string());
        let song = record.song.zip(record.setlist.as_ref());
        let song = song.and_then(|(index, setlist)| setlist.songs.get(index as usize));
        field("songId", song.map_or_else(String::new, |song| song.id.clone()));
    }
    fields
}

/// Prints thousandths as a decimal number.
fn millis(thousandths: i64) -> String {
    let (sign, size) = (if thousandths < 0 { "-" } else { "" }, thousandths.unsigned_abs());
    format!("{sign}{}.{:03}", size / 1_000, size % 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousandths_are_printed_as_decimals() {
        for (thousandths, text) in [(0, "0.000"), (-1, "-0.001"), (120_500, "120.500")] {
            assert_eq!(millis(thousandths), text);
        }
    }

    #[test]
    fn a_record_that_makes_no_sense_has_a_checksum_alone() {
        let fields = fields(b"nonsense");
        assert_eq!(
            [&fields[0][..], &fields[1], &fields[2]],
            [&b"record"[..], b"nonsense", b"checksum"]
        );
        assert_eq!(fields.len(), 4);
    }
}
