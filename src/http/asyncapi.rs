//! What clients and server say to each other, for machines: an AsyncAPI 3 document, made from one
//! table.
//!
//! A client event that the engine knows and this table does not will not compile; that the server
//! says what stands here and nothing else is tested on real traffic.

use bandsync_engine::speech::Code;
use bandsync_engine::wire::events::ClientEvent;
use bandsync_engine::words::ids::CommandId;
use bandsync_engine::words::limits::{Limits, RateLimits};
use serde_json::{Map, Value, json};

/// An event as it is described.
struct Described {
    what: &'static str,
    /// `name:Type`, separated by spaces; `name?:Type` may be left out, `Type~` may be null.
    fields: &'static str,
    /// The fields of its acknowledgement after `ok`.
    ack: &'static str,
    /// How it can be refused, besides what every event can.
    refusals: &'static [Code],
}

const MEMBER: &[Code] = &[Code::InvalidSessionId, Code::NotMember];
const LEADER: &[Code] = &[Code::InvalidSessionId, Code::NotMember, Code::NotLeader];
const CHANGED: &str = "epoch:Count version:Count";
const SYNC: &str = "sessionId:Session positionMs:Place tempoBpm:Tempo isPlaying:Bool serverTime:Unix serverTimestamp:Unix \
                    epoch:Count version:Count checksum:Checksum timeline:Timeline";
const QUALITY: &str = "socketId:SocketId latency:Millis packetLoss:Percent connectionDuration:Millis pingCount:Count \
                       pongCount:Count timeouts:Count quality:Quality";
const HEARTBEAT: &str =
    "timestamp:Number~ clientTimestamp:Number~ serverTimestamp:Unix rtt:Millis~";
const LATENCY: &str = "clientTimestamp:Number serverTimestamp:Unix t1:ServerMs t2:ServerMs";

/// What clients send.
fn sent(event: ClientEvent) -> Described {
    let described = |what, fields, ack, refusals| Described { what, fields, ack, refusals };
    match event {
        ClientEvent::JoinSession => described(
            "Joins a session, and makes it if need be. Who comes first leads, sets the passcode, and with a leader PIN the rule that leading takes it. Joining another session leaves the first.",
            "sessionId:Session displayName?:LongName role?:Role instrument?:LongName passcode?:Secret leaderPin?:Secret tickHz?:TickHz metronome?:Bool",
            "sessionId:Session socketId:SocketId role:Role epoch:Count version:Count",
            &[Code::InvalidSessionId, Code::BadPasscode, Code::SessionFull],
        ),
        ClientEvent::LeaveSession => described(
            "Leaves the session. A leader hands over at once.",
            "sessionId:Session",
            "",
            MEMBER,
        ),
        ClientEvent::SetRole => described(
            "Takes the lead, gives it up, or, as the leader, hands it to a member. Under leaderRule \"ask\" a wish to lead becomes a request, under \"pin\" it takes the PIN. Of two claims in one batch window the first wins.",
            "sessionId:Session role:Role memberId?:SocketId",
            "epoch?:Count version?:Count pending?:Bool",
            &[Code::InvalidSessionId, Code::NotMember, Code::NotLeader, Code::NotAllowed],
        ),
        ClientEvent::RequestLeader => described(
            "Asks the leader for the lead; a free lead is given at once.",
            "sessionId:Session",
            "epoch?:Count version?:Count pending?:Bool",
            &[Code::InvalidSessionId, Code::NotMember, Code::NotAllowed],
        ),
        ClientEvent::ApproveLeaderRequest => described(
            "Hands the lead to a member that asked for it.",
            "sessionId:Session requesterId:SocketId",
            CHANGED,
            LEADER,
        ),
        ClientEvent::DenyLeaderRequest => described(
            "Tells a member that asked for the lead that it does not get it.",
            "sessionId:Session requesterId:SocketId",
            "",
            LEADER,
        ),
        ClientEvent::SyncRequest => described(
            "Asks where the band is. With a checksum that differs a snapshot follows. Never waits for a batch window.",
            "sessionId:Session checksum?:ShortText version?:Count",
            SYNC,
            MEMBER,
        ),
        ClientEvent::UpdateMessage => described(
            "Sets the message on everybody's screen, cut to 500 characters. The empty text brings the automatic messages back, which say who leads.",
            "sessionId:Session message:LongText",
            "epoch:Count version:Count cut?:True",
            MEMBER,
        ),
        ClientEvent::ChatMessage => described(
            "Says something to everybody, cut to 500 characters.",
            "sessionId:Session message:LongWords username?:LongName",
            "cut?:True",
            MEMBER,
        ),
        ClientEvent::UpdateSettings => described(
            "Changes the session's settings: all that are named or none. null takes a secret away.",
            "sessionId:Session maxMembers?:MaxMembers onLeaderLoss?:OnLeaderLoss leaderRule?:LeaderRule passcode?:Secret leaderPin?:Secret anyoneMayCue?:Bool",
            CHANGED,
            LEADER,
        ),
        ClientEvent::Cue => described(
            "A short stage message with its server time.",
            "sessionId:Session text:CueText target?:LongName",
            "",
            LEADER,
        ),
        ClientEvent::Play => described(
            "Starts the song: at once, at a time, after a count-in, or on the next bar or beat.",
            "sessionId:Session atServerMs?:ServerMs countInBars?:Bars quantize?:Quantize",
            CHANGED,
            LEADER,
        ),
        ClientEvent::Pause => {
            described("Stops the song where it is.", "sessionId:Session", CHANGED, LEADER)
        }
        ClientEvent::Stop => described(
            "Stops the song and goes back to its beginning.",
            "sessionId:Session",
            CHANGED,
            LEADER,
        ),
        ClientEvent::Seek => described(
            "Goes to a position, also while playing.",
            "sessionId:Session position:Position atServerMs?:ServerMs",
            CHANGED,
            LEADER,
        ),
        ClientEvent::SetTempo => {
            described("Changes the tempo.", "sessionId:Session tempo:Tempo", CHANGED, LEADER)
        }
        ClientEvent::TempoChange => described(
            "Changes the tempo, at once or as a ramp.",
            "sessionId:Session tempo:Tempo fadeTime?:Fade",
            CHANGED,
            LEADER,
        ),
        ClientEvent::TempoChanged => described(
            "As tempo_change, and told under this name.",
            "sessionId:Session tempo:Tempo fadeTime?:Fade",
            CHANGED,
            LEADER,
        ),
        ClientEvent::SetTimeSignature => described(
            "Changes the time signature from the next bar on.",
            "sessionId:Session numerator:Numerator denominator:Denominator",
            CHANGED,
            LEADER,
        ),
        ClientEvent::BeatSync => described(
            "The leader's beat, which is compared with the timeline and passed on.",
            "sessionId:Session beatPosition:Number masterTime:Number",
            "",
            LEADER,
        ),
        ClientEvent::PositionSync => described(
            "Where a member is: the leader's is passed on, a follower's is corrected if it is over 25 ms off.",
            "sessionId:Session positionMs:Position timestamp:Number",
            CHANGED,
            MEMBER,
        ),
        ClientEvent::LatencyProbe => described(
            "Answered at once, to measure the round trip.",
            "timestamp:Number",
            LATENCY,
            &[],
        ),
        ClientEvent::ClockSync => described(
            "A four-stamp probe of the server's clock, answered at once.",
            "t0:Number",
            "t0:Number t1:ServerMs t2:ServerMs",
            &[],
        ),
        ClientEvent::SetSetlist => described(
            "Sets the songs of the evening, up to 1 MiB in all.",
            "sessionId:Session setlist:NewSetlist",
            CHANGED,
            &[Code::InvalidSessionId, Code::NotMember, Code::NotLeader, Code::TooLarge],
        ),
        ClientEvent::SelectSong => described(
            "Chooses a song by its id, or the next or the one before by step. Its tempo and signature hold, at its beginning, stopped.",
            "sessionId:Session songId?:SongId step?:Step",
            CHANGED,
            LEADER,
        ),
        ClientEvent::GetSong => described(
            "Asks for a song with its body.",
            "sessionId:Session songId:SongId",
            "song:Song",
            MEMBER,
        ),
        ClientEvent::Pong => described("Answers a ping.", "timestamp?:Number", "", &[]),
        ClientEvent::Heartbeat => described(
            "Says that the client lives; always answered.",
            "timestamp?:Number",
            HEARTBEAT,
            &[],
        ),
        ClientEvent::ConnectionQuality => {
            described("Asks how good the connection is.", "", QUALITY, &[])
        }
        ClientEvent::HeartbeatResponse => {
            described("Taken and ignored: old clients answer theirs.", "", "", &[])
        }
        ClientEvent::RoleChanged => {
            described("Taken and ignored: roles change by set_role alone.", "", "", &[])
        }
        ClientEvent::Error => described(
            "Taken and ignored: what went wrong at a client is its own affair.",
            "",
            "",
            &[],
        ),
    }
}

/// What the server sends: name, meaning, fields. Where one name has two forms, the second's fields
/// may be left out.
const HEARD: &[(&str, &str, &str)] = &[
    (
        "snapshot",
        "The whole session as it is: to a newcomer, and to all after every change. Of more than 256 members it names those that have been here longest and the leader; then memberCount, which is there in no other case, says how many there are.",
        "sessionId:Session message:Text tempo:Tempo tempoBpm:Tempo position:Place isPlaying:Bool leaderSocketId:SocketId~ members:Members memberCount?:Count createdAt:Unix lastActiveAt:Unix settings:Settings serverTimestamp:Unix epoch:Count version:Count checksum:Checksum timeline:Timeline timeSignature:TimeSignature song?:CurrentSong setlist?:Setlist",
    ),
    (
        "session_update",
        "Settings or the time signature have changed.",
        "sessionId:Session settings?:Settings timeSignature?:TimeSignature timeline?:Timeline epoch:Count version:Count checksum:Checksum",
    ),
    (
        "room_stats",
        "Who is here and what plays, last of a batch. In a session of more than 256 members once a second at most.",
        "sessionId:Session memberCount:Count connectedCount:Count isPlaying:Bool tempo:Tempo position:Place leader:SocketId~ uptime:Millis",
    ),
    (
        "user_joined",
        "A member came. In a session of more than 256 members only of those whom snapshots name.",
        "sessionId:Session member:Member memberCount:Count",
    ),
    (
        "user_left",
        "A member is gone. In a session of more than 256 members only of those whom snapshots name.",
        "sessionId:Session socketId:SocketId memberCount:Count newLeader:SocketId~ disconnectReason:LeaveReason timestamp:Unix",
    ),
    (
        "role_changed",
        "A member leads or follows from now on. If it did already, its sender alone is told.",
        "sessionId:Session socketId:SocketId role:Role previousRole:Role reason?:ShortText timestamp:Unix",
    ),
    (
        "leader_request_sent",
        "To who asked for the lead.",
        "sessionId:Session message:ShortText currentLeader:SocketId",
    ),
    (
        "leader_handoff_request",
        "To the leader: somebody asks for the lead.",
        "sessionId:Session requesterId:SocketId requesterInfo:MemberInfo",
    ),
    (
        "leader_request_approved",
        "To who asked and leads now.",
        "sessionId:Session message:ShortText",
    ),
    (
        "leader_request_denied",
        "To who asked and does not lead.",
        "sessionId:Session reason:ShortText",
    ),
    (
        "leader_handoff_completed",
        "To who led before.",
        "sessionId:Session newLeaderId:SocketId message:ShortText",
    ),
    (
        "leader_changed",
        "Somebody else leads. To a leader that asked to lead: it does.",
        "sessionId:Session newLeaderId:SocketId newLeaderInfo:MemberInfo previousLeader:SocketId~",
    ),
    ("sync_response", "Where the band is, to who asked.", SYNC),
    (
        "chat_message",
        "What a member says. In a session of 32 members and more it may wait for up to four batch windows, to come with others.",
        "sessionId:Session message:Words username:Name socketId:SocketId timestamp:Unix",
    ),
    (
        "cue",
        "A stage message.",
        "sessionId:Session text:CueText target?:Name from:SocketId atServerMs:ServerMs serverTimestamp:Unix",
    ),
    (
        "play",
        "The song starts; the timeline says when.",
        "sessionId:Session tempoBpm:Tempo position:Place serverTimestamp:Unix timeline:Timeline",
    ),
    (
        "pause",
        "The song stops where it is.",
        "sessionId:Session position:Place serverTimestamp:Unix timeline:Timeline",
    ),
    (
        "stop",
        "The song is at its beginning.",
        "sessionId:Session serverTimestamp:Unix timeline:Timeline",
    ),
    (
        "seek",
        "The song goes on elsewhere.",
        "sessionId:Session position:Place serverTimestamp:Unix timeline:Timeline",
    ),
    (
        "tempo_change",
        "The tempo changes.",
        "sessionId:Session oldTempo:Tempo newTempo:Tempo changeTime:Unix fadeTime:Millis serverTimestamp:Unix timeline:Timeline",
    ),
    (
        "tempo_changed",
        "The tempo changes, by set_tempo or tempo_changed.",
        "sessionId:Session oldTempo:Tempo newTempo:Tempo changeTime:Unix fadeTime:Millis isRealTime:Bool serverTimestamp:Unix timeline:Timeline",
    ),
    (
        "beat_sync",
        "The leader's beat and how far it is from the timeline's.",
        "sessionId:Session masterTime:Unix beatPosition:Number tempo:Tempo drift:Number",
    ),
    (
        "position_sync",
        "The leader's position.",
        "sessionId:Session positionMs:Place serverTime:Unix clientTimestamp:Number",
    ),
    (
        "drift_correction",
        "To a follower that is off.",
        "sessionId:Session correctPosition:Place reportedPosition:Place drift:Number timestamp:Unix",
    ),
    (
        "scroll_tick",
        "Where the band is, every tick while it plays. A client that does not read misses ticks.",
        "sessionId:Session positionMs:Place tempoBpm:Tempo serverTimestamp:Unix epoch:Count version:Count",
    ),
    (
        "metronome_tick",
        "A beat ahead of its time, to members that asked for it.",
        "sessionId:Session beat:Count bar:Integer atServerMs:ServerMs tempoBpm:Tempo isDownbeat:Bool",
    ),
    ("setlist", "The songs of the evening.", "sessionId:Session setlist:Setlist"),
    (
        "song_changed",
        "Another song is on.",
        "sessionId:Session songId:SongId index:Count serverTimestamp:Unix timeline:Timeline",
    ),
    ("latency_response", "Answers latency_probe.", LATENCY),
    (
        "clock_sync",
        "Answers clock_sync that wanted no acknowledgement.",
        "t0:Number t1:ServerMs t2:ServerMs",
    ),
    ("ping", "The application's heartbeat of old clients.", "timestamp:Unix"),
    ("heartbeat_response", "Answers heartbeat.", HEARTBEAT),
    ("connection_quality", "To who asked, and after every fifth pong.", QUALITY),
    (
        "rate_limit_exceeded",
        "The event came too fast and was dropped; after ten such in a minute the connection is closed. Of set_tempo, tempo_change, tempo_changed, position_sync and seek without a time the newest waits instead.",
        "eventType:AnyText retryAfter:Millis",
    ),
    (
        "error",
        "An event without acknowledgement was refused.",
        "message:AnyText code:ErrorCode event:AnyText field?:ShortText retryAfter?:Millis bytes?:Bytes max?:Bytes",
    ),
];

/// The document. Rates and the largest message are those that hold.
pub fn document(rates: &RateLimits, limits: &Limits) -> Value {
    let mut channels = Map::new();
    let mut operations = Map::new();
    let mut messages = Map::new();
    for &event in ClientEvent::ALL {
        let (name, told) = (event.name(), sent(event));
        let mut refusals = vec![Code::InvalidPayload, Code::RateLimited, Code::Draining];
        refusals.extend(told.refusals);
        let codes: Vec<&str> = refusals.into_iter().map(Code::as_str).collect();
        let once = event.is_applied_once();
        let fields = if once {
            format!("{} commandId?:CommandId", told.fields)
        } else {
            told.fields.to_owned()
        };
        messages.insert(
            format!("{name}.sent"),
            json!({
                "name": name, "title": name, "summary": told.what, "payload": object(&fields, true),
                "x-rate": { "perSecond": rate(event, rates), "burst": 2 * rate(event, rates) },
                "x-refusals": codes,
            }),
        );
        let mut answers = vec![object(&format!("ok:True {}", told.ack), false)];
        answers
            .extend(event.may_wait().then(|| json!({ "$ref": "#/components/schemas/Superseded" })));
        answers.extend(once.then(|| json!({ "$ref": "#/components/schemas/Repeated" })));
        answers.push(json!({ "$ref": "#/components/schemas/Refused" }));
        messages.insert(
            format!("{name}.ack"),
            json!({
                "name": name, "title": format!("acknowledgement of {name}"),
                "summary": "If the client asks for one.",
                "payload": { "anyOf": answers },
            }),
        );
        channel(&mut channels, name, "sent");
        channel(&mut channels, name, "ack");
        let at = json!({ "$ref": format!("#/channels/{name}") });
        let of = |kind| json!([{ "$ref": format!("#/channels/{name}/messages/{kind}") }]);
        let reply = json!({ "channel": at, "messages": of("ack") });
        let receive =
            json!({ "action": "receive", "channel": at, "messages": of("sent"), "reply": reply });
        operations.insert(format!("receive_{name}"), receive);
    }
    for (name, what, fields) in HEARD {
        let message = json!({ "name": name, "title": name, "summary": what, "payload": object(fields, false) });
        messages.insert(format!("{name}.heard"), message);
        channel(&mut channels, name, "heard");
        let to = json!([{ "$ref": format!("#/channels/{name}/messages/heard") }]);
        let at = json!({ "$ref": format!("#/channels/{name}") });
        operations.insert(
            format!("send_{name}"),
            json!({ "action": "send", "channel": at, "messages": to }),
        );
    }
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "BandSync",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Socket.IO v5 over Engine.IO v4, namespace /. Every event carries one JSON object. Unknown fields are ignored. With an acknowledgement a client event is answered {ok: true, …} or {ok: false, error}; without one a refusal arrives as the event error. Times named …ServerMs, t1 and t2 are milliseconds on the server's monotonic clock; others are Unix milliseconds. Positions are milliseconds into the song. Texts that others see are stripped of control characters, also of those that turn the direction of writing; characters are Unicode scalar values. A command that changes nothing is acknowledged with the present version, and its sender alone is sent what all would have been. Of set_tempo, tempo_change, tempo_changed, position_sync and seek without a time the newest that comes too fast waits until there is room for it, and is applied before any later command of the same connection; the one that it displaces is acknowledged with superseded.",
        },
        "defaultContentType": "application/json",
        "servers": { "here": { "host": "localhost:3001", "protocol": "ws", "pathname": "/socket.io/" } },
        "x-limits": {
            "messageBytes": limits.message_bytes_max,
            "eventsPerSecond": rates.total,
            "refusalsPerMinute": rates.refusals_max,
        },
        "channels": channels,
        "operations": operations,
        "components": { "messages": messages, "schemas": schemas() },
    })
}

/// All events of one name share a channel.
fn channel(channels: &mut Map<String, Value>, name: &str, kind: &str) {
    let channel =
        channels.entry(name).or_insert_with(|| json!({ "address": name, "messages": {} }));
    channel["messages"][kind] = json!({ "$ref": format!("#/components/messages/{name}.{kind}") });
}

fn rate(event: ClientEvent, rates: &RateLimits) -> u32 {
    match event {
        ClientEvent::PositionSync => rates.position_sync,
        ClientEvent::SyncRequest => rates.sync_request,
        ClientEvent::ChatMessage => rates.chat_message,
        ClientEvent::LatencyProbe => rates.latency_probe,
        ClientEvent::ClockSync => rates.clock_sync,
        ClientEvent::TempoChange => rates.tempo_change,
        ClientEvent::JoinSession => rates.join_session,
        _ => rates.other,
    }
}

/// The schema of an object with these fields. Clients may send more, and null for what they may
/// leave out.
fn object(fields: &str, of_client: bool) -> Value {
    let mut properties = Map::new();
    let mut required = Vec::new();
    for field in fields.split_whitespace() {
        let Some((name, kind)) = field.split_once(':') else { continue };
        let (name, optional) = name.strip_suffix('?').map_or((name, false), |name| (name, true));
        let (kind, nullable) = kind.strip_suffix('~').map_or((kind, false), |kind| (kind, true));
        let schema = json!({ "$ref": format!("#/components/schemas/{kind}") });
        let nullable = nullable || optional && of_client;
        let schema =
            if nullable { json!({ "anyOf": [schema, { "type": "null" }] }) } else { schema };
        properties.insert(name.to_owned(), schema);
        if !optional {
            required.push(name);
        }
    }
    json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": of_client })
}

fn schemas() -> Value {
    let text =
        |least: u32, most: u32| json!({ "type": "string", "minLength": least, "maxLength": most });
    let number =
        |least: f64, most: f64| json!({ "type": "number", "minimum": least, "maximum": most });
    let whole =
        |least: i64, most: i64| json!({ "type": "integer", "minimum": least, "maximum": most });
    let words = |words: &[&str]| json!({ "type": "string", "enum": words });
    let list = |of: &str| json!({ "type": "array", "items": { "$ref": format!("#/components/schemas/{of}") } });
    let song = "id:SongId title:Title artist?:Title key?:Key tempoBpm?:Tempo timeSignature?:TimeSignature \
                format:Format body?:Chart durationMs?:Position";
    let new_song = song.replace("body?", "body");
    const EXACT: i64 = (1 << 53) - 1;
    let pairs = [
        ("AnyText", json!({ "type": "string" })),
        ("Bars", whole(0, 8)),
        ("Bool", json!({ "type": "boolean" })),
        ("Bytes", whole(0, EXACT)),
        (
            "Chart",
            json!({ "type": "string", "description": "ChordPro or text, with its spaces and tabs" }),
        ),
        ("Checksum", json!({ "type": "string", "pattern": "^[0-9a-f]{8}$" })),
        (
            "CommandId",
            json!({
                "type": "string",
                "pattern": "^[A-Za-z0-9_-]+-[0-9]+$",
                "maxLength": CommandId::BYTES_MAX,
                "description": "<client>-<number>: what a client calls a command, the number rising, below 2^53. One that is not above the last that the session applied of this client changes nothing, so a command that got no answer may be sent again, also from another connection. The client part should be hard to guess. Of a session's clients the last 256 are remembered, at most four of one member; a restart of the server forgets them.",
            }),
        ),
        ("Count", whole(0, EXACT)),
        ("CueText", text(1, 200)),
        ("CurrentSong", object("id:SongId title:Title artist?:Title key?:Key index:Count", false)),
        ("Denominator", json!({ "type": "integer", "enum": [1, 2, 4, 8, 16, 32] })),
        (
            "Error",
            object(
                "code:ErrorCode message:AnyText field?:ShortText retryAfter?:Millis bytes?:Bytes max?:Bytes",
                false,
            ),
        ),
        ("ErrorCode", words(&Code::ALL.map(Code::as_str))),
        ("Fade", number(0.0, 3_600_000.0)),
        ("False", json!({ "const": false })),
        ("Format", words(&["chordpro", "text"])),
        ("Integer", json!({ "type": "integer" })),
        ("Key", text(0, 16)),
        ("LeaderRule", words(&["open", "ask", "pin"])),
        (
            "LeaveReason",
            words(&[
                "leave",
                "client namespace disconnect",
                "transport close",
                "transport error",
                "ping timeout",
                "forced close",
                "server shutting down",
            ]),
        ),
        ("LongName", json!({ "type": "string", "description": "cut to 64 characters" })),
        ("LongText", json!({ "type": "string", "description": "cut to 500 characters" })),
        (
            "LongWords",
            json!({ "type": "string", "minLength": 1, "description": "cut to 500 characters" }),
        ),
        ("MaxMembers", whole(1, 100_000)),
        (
            "Member",
            object(
                "socketId:SocketId displayName:Name role:Role joinedAt:Unix lastPingAt:Unix instrument?:Name connected:Bool",
                false,
            ),
        ),
        ("MemberInfo", object("displayName:Name joinedAt:Unix", false)),
        ("Members", list("Member")),
        ("Meter", object("beat:Integer num:Numerator den:Denominator", false)),
        ("Meters", list("Meter")),
        ("Millis", json!({ "type": "number", "minimum": 0 })),
        ("Name", text(0, 64)),
        ("NewSetlist", object("title:Title songs:NewSongs", true)),
        ("NewSong", object(&new_song, true)),
        ("NewSongs", list("NewSong")),
        ("Number", json!({ "type": "number" })),
        ("Numerator", whole(1, 32)),
        ("OnLeaderLoss", words(&["continue", "pause"])),
        ("Percent", number(0.0, 100.0)),
        (
            "Place",
            json!({ "type": "number", "description": "milliseconds into the song; below 0 in a count-in" }),
        ),
        ("Position", number(0.0, 86_400_000.0)),
        ("Quality", words(&["excellent", "good", "fair", "poor", "unknown"])),
        ("Quantize", words(&["bar", "beat"])),
        ("Refused", object("ok:False error:Error", false)),
        ("Repeated", object("ok:True epoch:Count version:Count repeated:True", false)),
        ("Role", words(&["leader", "follower"])),
        (
            "Secret",
            json!({ "type": "string", "maxLength": 128, "description": "a new one has 8 characters or more where SECURITY_PROFILE is internet" }),
        ),
        (
            "Segment",
            object(
                "t0:Count p0:Integer b0:Integer rate:Rate bpm0:Count bpm1:Count ramp:Count",
                false,
            ),
        ),
        ("Segments", list("Segment")),
        ("Rate", json!({ "type": "integer", "enum": [0, 1] })),
        ("ServerMs", json!({ "type": "number", "minimum": 0 })),
        (
            "Session",
            json!({ "type": "string", "minLength": 1, "maxLength": 128, "description": "at most 128 bytes of UTF-8 without control characters" }),
        ),
        (
            "Settings",
            object(
                "maxMembers:MaxMembers onLeaderLoss:OnLeaderLoss leaderRule:LeaderRule anyoneMayCue:Bool hasPasscode:Bool",
                false,
            ),
        ),
        ("Setlist", object("title:Title songs:Songs", false)),
        ("ShortText", text(0, 64)),
        ("SocketId", json!({ "type": "string", "pattern": "^[A-Za-z0-9_-]{20}$" })),
        ("Song", object(song, false)),
        ("SongId", text(1, 64)),
        ("Songs", list("Song")),
        ("Step", json!({ "type": "integer", "enum": [1, -1] })),
        ("Superseded", object("ok:True superseded:True epoch:Count version:Count", false)),
        ("Tempo", number(1.0, 400.0)),
        ("Text", text(0, 500)),
        ("TickHz", whole(0, 125)),
        (
            "Timeline",
            object(
                "epoch:Count version:Count leader:SocketId~ segments:Segments meter:Meters quantum:Integer countIn:Count madeAt:Count",
                false,
            ),
        ),
        ("TimeSignature", object("numerator:Numerator denominator:Denominator", false)),
        ("Title", text(0, 200)),
        ("True", json!({ "const": true })),
        ("Unix", json!({ "type": "integer", "description": "milliseconds since 1970" })),
        ("Words", text(1, 500)),
    ];
    pairs.into_iter().map(|(name, schema)| (name.to_owned(), schema)).collect::<Map<_, _>>().into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn whole() -> Value {
        document(&RateLimits::default(), &Limits::PRODUCTION)
    }

    /// Calls `see` with every reference in a value.
    fn references<'a>(value: &'a Value, see: &mut impl FnMut(&'a str)) {
        let mut rest = vec![value];
        while let Some(value) = rest.pop() {
            match value {
                Value::Object(fields) => {
                    if let Some(Value::String(to)) = fields.get("$ref") {
                        see(to);
                    }
                    rest.extend(fields.values());
                }
                Value::Array(items) => rest.extend(items),
                _ => {}
            }
        }
    }

    #[test]
    fn every_reference_leads_somewhere_and_every_schema_is_used() {
        let document = whole();
        let mut seen = Vec::new();
        references(&document, &mut |to| seen.push(to));
        for to in &seen {
            assert!(document.pointer(to.strip_prefix('#').unwrap()).is_some(), "{to}");
        }
        for name in document["components"]["schemas"].as_object().unwrap().keys() {
            assert!(
                seen.contains(&format!("#/components/schemas/{name}").as_str()),
                "{name} is not used"
            );
        }
    }

    #[test]
    fn every_event_of_the_engine_is_there_with_its_rate() {
        let document = whole();
        for event in ClientEvent::ALL {
            let message = &document["components"]["messages"][format!("{}.sent", event.name())];
            assert!(
                message["x-rate"]["perSecond"].as_u64().is_some_and(|rate| rate > 0),
                "{event:?}"
            );
            assert!(document["operations"][format!("receive_{}", event.name())].is_object());
        }
    }

    #[test]
    fn events_are_told_once() {
        for (place, (name, ..)) in HEARD.iter().enumerate() {
            assert!(HEARD[..place].iter().all(|(other, ..)| other != name), "{name}");
        }
    }
}
