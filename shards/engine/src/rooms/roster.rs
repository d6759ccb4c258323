//! The roster: which members play in which session, as JSON for operators. It contains no passcode
//! or PIN.

use serde::Serialize;

use super::Rooms;
use crate::speech::{Member, Quality, Role};
use crate::words::ids::{ConnId, MemberId};
use crate::words::time::Micros;

/// Maximum number of sessions in a roster; those with the most members are listed first.
const SESSIONS_MAX: usize = 100;
/// Maximum number of members listed per session.
const MEMBERS_MAX: usize = 64;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SessionRow<'a> {
    session_id: &'a str,
    is_playing: bool,
    tempo_milli_bpm: u32,
    position_micros: i64,
    uptime_micros: u64,
    member_count: u32,
    connected_count: u32,
    epoch: u64,
    version: u64,
    members: Vec<MemberRow<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct MemberRow<'a> {
    socket_id: &'a str,
    display_name: &'a str,
    role: &'static str,
    connected: bool,
    /// The smoothed round trip time, if one was measured.
    latency_micros: Option<u64>,
    /// Number of pings that were not answered in time.
    timeouts: u32,
    quality: &'static str,
}

impl Rooms {
    /// Appends the shard's sessions that have connected members, as a JSON array of objects:
    /// `sessionId, isPlaying, tempoMilliBpm, positionMicros, uptimeMicros, memberCount,
    /// connectedCount, epoch, version, members`, each member with `socketId, displayName, role,
    /// connected, latencyMicros, timeouts, quality`.
    ///
    /// The size is bounded: of more than [`SESSIONS_MAX`] sessions the largest are listed.
    pub fn roster(
        &self,
        now: Micros,
        quality: impl Fn(ConnId, MemberId) -> Option<Quality>,
        out: &mut Vec<u8>,
    ) {
        let mut rooms: Vec<_> =
            self.rooms.iter().map(|(_, room)| room).filter(|room| room.seated() > 0).collect();
        rooms.sort_by(|a, b| {
            b.seated().cmp(&a.seated()).then_with(|| a.session.id().cmp(b.session.id()))
        });
        rooms.truncate(SESSIONS_MAX);
        let rows: Vec<SessionRow<'_>> = rooms
            .into_iter()
            .map(|room| {
                let stats = room.session.room_stats(now);
                let members = room.session.members().take(MEMBERS_MAX);
                SessionRow {
                    session_id: room.session.id().as_str(),
                    is_playing: stats.playing,
                    tempo_milli_bpm: stats.tempo.milli_bpm(),
                    position_micros: stats.position,
                    uptime_micros: stats.uptime.as_micros(),
                    member_count: stats.member_count,
                    connected_count: stats.connected_count,
                    epoch: room.session.epoch(),
                    version: room.session.version(),
                    members: members
                        .map(|member| {
                            let conn = room.conn_of(member.id);
                            member_row(member, conn.and_then(|conn| quality(conn, member.id)))
                        })
                        .collect(),
                }
            })
            .collect();
        let before = out.len();
        if serde_json::to_writer(&mut *out, &rows).is_err() {
            out.truncate(before);
            out.extend_from_slice(b"[]");
        }
    }
}

fn member_row(member: &Member, quality: Option<Quality>) -> MemberRow<'_> {
    MemberRow {
        socket_id: member.id.as_str(),
        display_name: &member.display_name,
        role: if member.role == Role::Leader { "leader" } else { "follower" },
        connected: member.connected,
        latency_micros: quality
            .and_then(|quality| quality.latency)
            .map(|latency| latency.as_micros()),
        timeouts: quality.map_or(0, |quality| quality.timeouts),
        quality: quality.map_or("unknown", |quality| quality.word()),
    }
}
