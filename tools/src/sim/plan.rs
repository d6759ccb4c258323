//! A run as data: the shape of the world, and the acts of its members and faults with their times.
//! A plan is drawn from a seed, kept as JSON, run again, and shrunk until only the cause is left.

use serde::{Deserialize, Serialize};

use super::rng::SimRng;

/// The complete input of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Seed of the random numbers of network, driver and engine.
    pub seed: u64,
    /// Sizes, settings and the faults that are always there.
    pub shape: WorldShape,
    /// Steps in the order of their times.
    pub steps: Vec<Step>,
    /// The mark of the planted bug that a kept plan shows; empty in others.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub mark: String,
}

/// The world that the steps happen in. All times are in microseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorldShape {
    pub shards: u16,
    pub sessions: u16,
    pub members: u16,
    /// Number of members that use long-polling, in sessions of their own.
    #[serde(default)]
    pub pollers: u16,
    /// Duration of the faults.
    pub length: u64,
    /// Whether a calm follows in which every member must recover.
    pub calm: bool,
    pub tick: u64,
    pub batch: u64,
    pub ping: u64,
    pub ping_timeout: u64,
    pub heartbeat: u64,
    pub grace: u64,
    pub empty_ttl: u64,
    pub members_max: u32,
    /// Maximum number of members of a session in which all members are listed.
    #[serde(default = "everybody")]
    pub members_listed: u32,
    pub sessions_max: u32,
    pub connections_max: u32,
    pub message_max: u32,
    pub fragments_max: u32,
    pub backlog_max: u32,
    /// Time in which a lost member may recover its seat. 0 means never.
    #[serde(default = "two_minutes")]
    pub recovery: u64,
    /// Maximum bytes of events that a session keeps for lost members.
    #[serde(default = "quarter_mebibyte")]
    pub memory_max: u32,
    /// Whether the server's other time limits and bounds are small.
    #[serde(default)]
    pub hurry: bool,
    /// Compression for clients that offer it: `Some(true)` if messages refer to earlier ones.
    #[serde(default)]
    pub deflate: Option<bool>,
    /// The storage, if sessions outlive the server.
    #[serde(default)]
    pub storage: Option<Storage>,
    pub net: Net,
    pub driver: Driver,
}

/// The permanent behaviour of the storage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Storage {
    /// Time for which a join waits for the storage.
    pub wait: u64,
    /// Maximum delay of an answer.
    pub delay: u64,
    /// One answer in this many comes much later. 0 means none.
    pub late: u64,
    /// One record in this many is rejected. 0 means none.
    pub refuse: u64,
    /// One record in this many is damaged when it is read. 0 means none.
    pub damage: u64,
}

/// The permanent behaviour of the network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Net {
    pub delay: u64,
    pub jitter: u64,
    /// Maximum size of the pieces that segments are cut into, in bytes. 0 means no cuts.
    pub chop: u32,
    /// Maximum bytes that are under way or unread in one direction.
    pub window: u32,
    /// Additional delay of one of the two directions.
    #[serde(default)]
    pub detour: u64,
}

/// The permanent behaviour of the driver.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Driver {
    /// Maximum delay of a turn.
    pub late: u64,
    /// One turn in this many comes without a reason. 0 means none.
    pub spurious: u64,
    /// Maximum bytes that a write accepts. 0 means as many as there is room for.
    pub short_write: u32,
    /// Maximum bytes that a read returns. 0 means all.
    pub short_read: u32,
    /// Maximum delay of a hand-over.
    pub mail: u64,
    /// Step of unsent bytes at which the machine receives their number.
    pub mark: u32,
}

/// An act at a time: of a member, or of the world upon a member or a shard.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    pub at: u64,
    /// A member, or a shard.
    pub who: u16,
    pub act: Act,
}

/// The habits of members and the faults of the world.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Act {
    /// The member wants to be in a session from now on, with as many connections as that takes.
    Join(Join),
    /// The member sends an event to its session.
    Say(Say),
    /// The member leaves its session and stays away.
    Leave,
    /// The member ends its connection and returns.
    Bye(Bye),
    /// The connection breaks at both ends at once.
    Cut,
    /// No bytes get through from now on, and neither end learns of it.
    HalfOpen { up: bool, down: bool },
    /// No bytes get through for a while, then all.
    Stall { up: bool, down: bool, time: u64 },
    /// The member reads at most this many bytes per second for a while.
    Slow { rate: u64, time: u64 },
    /// The member does not answer pings of either kind for a while.
    Mute { time: u64 },
    /// The member repeats one event.
    Flood { event: u8, count: u16 },
    /// The member sends bytes that break the protocol, or too many that keep it.
    Rubbish { kind: u8, luck: u64 },
    /// The member's clock steps, in milliseconds.
    ClockStep { by: i64 },
    /// The shard does not run for a while, as when its machine sleeps.
    Freeze { time: u64 },
    /// The wall clock steps, in milliseconds.
    WallStep { by: i64 },
    /// The storage is unavailable for a while.
    Away { time: u64 },
    /// Memory is scarce for a while, or there is none left.
    #[serde(rename = "Scarce")] // kept plans have this name
    LowMemory { out: bool, time: u64 },
    /// The server dies and restarts at once.
    Restart,
}

/// The join of a member.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Join {
    pub session: u16,
    /// `Some(true)` asks to lead, `Some(false)` to follow.
    pub lead: Option<bool>,
    pub tick_hz: Option<u8>,
    pub metronome: bool,
    pub passcode: Option<u8>,
    pub pin: Option<u8>,
    /// Whether it only shows the session.
    #[serde(default)]
    pub screen: bool,
}

/// An event of a member. Members, songs and secrets are named by numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Say {
    Play {
        ahead: Option<i64>,
        bars: u8,
        quantize: Option<bool>,
    },
    Pause,
    Stop,
    Seek {
        to: u64,
        ahead: Option<i64>,
    },
    Tempo {
        milli: u32,
    },
    Fade {
        milli: u32,
        time: u64,
        real: bool,
    },
    Signature {
        numerator: u8,
        denominator: u8,
    },
    /// A pause that was pressed this many microseconds ago.
    PauseAt {
        ago: u64,
    },
    /// A loop of whole beats. A plan counts them from the beat of the time of sending.
    Loop {
        from: i64,
        to: i64,
    },
    Release,
    /// A jump that is armed at a beat. A plan counts both from the beat of the time of sending.
    Jump {
        to: i64,
        at: i64,
    },
    /// A tempo that is armed at a beat. A plan counts that from the beat of the time of sending.
    ArmTempo {
        milli: u32,
        time: u64,
        real: bool,
        at: i64,
    },
    Cancel,
    Nudge {
        beats: i8,
    },
    /// A bar line that was pressed this many microseconds ago.
    One {
        ago: u64,
    },
    Message {
        text: u8,
    },
    Claim,
    StepDown,
    HandTo {
        member: u16,
    },
    Ask,
    Approve {
        member: u16,
    },
    Deny {
        member: u16,
    },
    Settings {
        max_members: Option<u32>,
        pause_on_loss: Option<bool>,
        rule: Option<u8>,
        cues: Option<bool>,
    },
    Passcode {
        code: Option<u8>,
    },
    Pin {
        pin: Option<u8>,
    },
    Setlist {
        songs: u8,
        variant: u8,
        body: u16,
    },
    Edit(Edit),
    /// Lets a member edit the set list, or not.
    Allow {
        member: u16,
        may_edit: bool,
    },
    /// Lets all members edit the set list, or not.
    AllowAll {
        may_edit: bool,
    },
    GetSetlist,
    GetSongs,
    Select {
        song: u8,
    },
    Step {
        forward: bool,
    },
    GetSong {
        song: u8,
    },
    Sync {
        stale: bool,
    },
    Chat,
    Cue,
    BeatSync,
    /// A report of the position that the member expects, plus an error in microseconds.
    PositionSync {
        off: i64,
    },
    ClockSync,
    Probe,
    Heartbeat,
    Quality,
}

/// An edit of the set list: one operation.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Edit {
    /// 0 adds the song, 1 replaces, 2 moves, 3 removes it; 4 changes the title.
    pub kind: u8,
    pub song: u8,
    /// The song before which it is put. The song itself means the end.
    pub other: u8,
    pub variant: u8,
    /// Whether the member has not seen the song's last change.
    pub stale: bool,
    /// Beats by which the place moves if it replaces the song that is on.
    #[serde(default)]
    pub shift: i8,
    /// The revision of the song that the member saw, set when it sends the edit.
    #[serde(default)]
    pub was: u64,
}

/// The ways in which a client ends its connection.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Bye {
    /// Socket.IO's disconnect packet.
    Packet,
    /// Engine.IO's close packet.
    Engine,
    /// A close frame.
    Frame,
    /// The end of the stream.
    Stream,
}

/// Prefixes of passcodes and PINs. No other text contains them, so a secret is found anywhere.
const PASSCODE: &str = "~sesame-";
const PIN: &str = "~abracadabra-";
/// The prefix of tokens, which have no other punctuation.
const TOKEN: &str = "-seat-token-";

/// Returns the passcode of this number.
pub fn passcode(number: u8) -> String {
    format!("{PASSCODE}{number}")
}

/// The PIN of this number.
pub fn pin(number: u8) -> String {
    format!("{PIN}{number}")
}

/// The token of this number of a member.
pub fn token(member: u16, number: u32) -> String {
    format!("{TOKEN}{member:05}-{number:05}")
}

/// Whether `bytes` contain a passcode, a PIN or a token.
pub fn reveals(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|byte| matches!(byte, b'~' | b'-')) {
        rest = &rest[at..];
        if [PASSCODE, PIN, TOKEN].iter().any(|secret| rest.starts_with(secret.as_bytes())) {
            return true;
        }
        rest = &rest[1..];
    }
    false
}

/// Number of classes of faults. A run has each class or not, so that rare combinations occur.
const CLASSES: usize = 21;

const MS: u64 = 1_000;
const SECOND: u64 = 1_000_000;

/// One world in this many has a single large session, in which chat waits for more than one window.
const CROWDED: u64 = 48;

/// One world in this many has a small band and episodes.
const EPISODIC: u64 = 6;

/// One world in this many has loops, armed changes and corrections.
const ARRANGED: u64 = 4;

/// Number of commands of each member after which those of another one must still be known. Two come
/// from each page, so there are more pages than a session remembers of a member.
const REPEATS: u64 = 14;

/// Start of the first episode, and time from one to the next.
const EPISODE_FIRST: u64 = 1_500 * MS;
const EPISODE_APART: u64 = 4 * SECOND;

/// Demands on the worlds that are drawn.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    pub shards: Option<u16>,
    pub members: Option<u16>,
    /// Duration of the faults in microseconds.
    pub length: Option<u64>,
    pub calm: Option<bool>,
}

impl Plan {
    /// Draws the plan of a seed.
    pub fn draw(seed: u64, wanted: &Wanted) -> Self {
        let mut luck = SimRng::new(seed, 1);
        let on: [bool; CLASSES] = std::array::from_fn(|_| luck.one_in(2));
        let mut shape = draw_shape(&mut luck, &on, wanted);
        // Drawn from a generator of its own, so that the rest of a seed's plan stayed the same when
        // this was added.
        shape.members_listed = *SimRng::new(seed, 8_000).pick(&[2, 5, 9, everybody()]);
        let mut crowd = SimRng::new(seed, 8_001);
        if wanted.members.is_none() && crowd.one_in(CROWDED) {
            shape.members = crowd.between(33, 60) as u16;
            shape.sessions = 1;
            (shape.members_max, shape.sessions_max, shape.connections_max) = (256, 1_000, 1_000);
            // A client that reads 100 bytes at a time would be closed before it could receive the
            // list of so many members.
            (shape.backlog_max, shape.net.window) = (262_144, 262_144);
            (shape.driver.short_write, shape.driver.short_read) = (0, 0);
        }
        let mut episodes = SimRng::new(seed, 8_002);
        if shape.members > 32 || wanted.members.is_some() || !episodes.one_in(EPISODIC) {
            let mut steps = draw_steps(&mut luck, &on, &shape);
            arrange(seed, &mut steps);
            draw_edits(seed, &shape, &mut steps);
            draw_screens(seed, &shape, &mut steps);
            return Self { seed, shape, steps, mark: String::new() };
        }
        (shape.members, shape.sessions) = (episodes.between(2, 4) as u16, 1);
        (shape.members_max, shape.sessions_max, shape.connections_max) = (256, 1_000, 1_000);
        (shape.recovery, shape.memory_max) = (two_minutes(), quarter_mebibyte());
        shape.length = wanted.length.unwrap_or_else(|| episodes.between(6, 14) * SECOND);
        let mut steps = draw_steps(&mut luck, &on, &shape);
        // A quarter of the ordinary steps stays.
        steps.retain(|step| matches!(step.act, Act::Join(_)) || episodes.one_in(4));
        draw_episodes(&mut episodes, &shape, &mut steps);
        arrange(seed, &mut steps);
        Self { seed, shape, steps, mark: String::new() }
    }

    /// Returns the classes of the steps, so that whole classes can be left out.
    pub fn classes(&self) -> Vec<std::mem::Discriminant<Act>> {
        let mut classes: Vec<_> = Vec::new();
        for step in &self.steps {
            let class = std::mem::discriminant(&step.act);
            if !classes.contains(&class) {
                classes.push(class);
            }
        }
        classes
    }
}

fn draw_shape(luck: &mut SimRng, on: &[bool; CLASSES], wanted: &Wanted) -> WorldShape {
    let tight = luck.one_in(6);
    let members = wanted.members.unwrap_or_else(|| luck.magnitude(2, 24) as u16);
    WorldShape {
        shards: wanted.shards.unwrap_or_else(|| luck.between(1, 4) as u16),
        sessions: luck.magnitude(1, 5) as u16,
        members,
        pollers: if on[18] { luck.magnitude(1, 4) as u16 } else { 0 },
        length: wanted.length.unwrap_or_else(|| luck.magnitude(3, 24) * SECOND),
        calm: wanted.calm.unwrap_or_else(|| !luck.one_in(4)),
        tick: *luck.pick(&[8 * MS, 16 * MS, 50 * MS, 100 * MS, 250 * MS]),
        batch: *luck.pick(&[0, 5 * MS, 5 * MS, 40 * MS]),
        ping: luck.magnitude(500, 8_000) * MS,
        ping_timeout: luck.magnitude(400, 4_000) * MS,
        heartbeat: luck.magnitude(500, 8_000) * MS,
        grace: luck.magnitude(100, 6_000) * MS,
        empty_ttl: if luck.one_in(8) {
            // Longer than a round of the engine's timer wheel.
            luck.between(35_000, 90_000) * MS
        } else {
            luck.magnitude(200, 12_000) * MS
        },
        members_max: *luck.pick(&[3, 8, 256, 256]),
        members_listed: everybody(),
        sessions_max: if tight { luck.between(1, 3) as u32 } else { 1_000 },
        connections_max: if tight { luck.between(2, 30) as u32 } else { 1_000 },
        message_max: *luck.pick(&[4_096, 65_536, 1_000_000]),
        fragments_max: *luck.pick(&[4, 64, 16_384]),
        backlog_max: *luck.pick(&[4_096, 65_536, 262_144]),
        recovery: if luck.one_in(8) { 0 } else { luck.magnitude(1_000, 120_000) * MS },
        memory_max: *luck.pick(&[2_048, 262_144, 262_144]),
        hurry: luck.one_in(3),
        deflate: if on[14] { Some(luck.one_in(2)) } else { None },
        storage: on[15].then(|| Storage {
            wait: luck.magnitude(20, 2_000) * MS,
            delay: luck.magnitude(100, 300_000),
            late: *luck.pick(&[0, 0, 10]),
            refuse: *luck.pick(&[0, 0, 3]),
            damage: *luck.pick(&[0, 0, 3]),
        }),
        net: Net {
            delay: luck.magnitude(100, 80_000),
            jitter: if on[0] { luck.magnitude(100, 200_000) } else { 0 },
            chop: if on[1] { luck.magnitude(1, 600) as u32 } else { 0 },
            window: if on[2] { luck.magnitude(600, 20_000) as u32 } else { 262_144 },
            detour: if on[19] { luck.magnitude(100, 60_000) } else { 0 },
        },
        driver: Driver {
            late: if on[3] { luck.magnitude(50, 30_000) } else { 0 },
            spurious: if on[4] { luck.between(4, 40) } else { 0 },
            short_write: if on[5] { luck.magnitude(8, 2_000) as u32 } else { 0 },
            short_read: if on[6] { luck.magnitude(8, 2_000) as u32 } else { 0 },
            mail: if on[7] { luck.magnitude(10, 400_000) } else { 20 },
            mark: *luck.pick(&[1_024, 65_536]),
        },
    }
}

fn draw_steps(luck: &mut SimRng, on: &[bool; CLASSES], shape: &WorldShape) -> Vec<Step> {
    let mut steps = Vec::new();
    let rush = luck.one_in(3);
    for who in 0..shape.members {
        let at = if rush { luck.below(2 * MS) } else { luck.below(3 * SECOND) };
        steps.push(Step { at, who, act: Act::Join(draw_join(luck, on, shape)) });
    }
    // Commands per second of all members together.
    let talk = luck.magnitude(1, 16);
    let mut at = 0;
    while at < shape.length {
        at += luck.below(2 * SECOND / talk);
        let who = luck.below(u64::from(shape.members)) as u16;
        let act = if luck.one_in(8) {
            draw_trouble(luck, on, shape)
        } else {
            Some(Act::Say(draw_say(luck, on, shape)))
        };
        let Some(act) = act else { continue };
        // Pairs and triples of commands within a millisecond find bugs that single ones do not.
        let again = luck.one_in(12);
        steps.push(Step { at, who, act });
        if again {
            let who = luck.below(u64::from(shape.members)) as u16;
            steps.push(Step {
                at: at + luck.below(MS),
                who,
                act: Act::Say(draw_say(luck, on, shape)),
            });
        }
    }
    steps.retain(|step| step.at < shape.length);
    steps.sort_by_key(|step| step.at);
    steps
}

/// In some worlds, replaces commands by loops, armed changes and corrections. They are drawn from a
/// generator of their own, so that the other worlds stayed the same when this was added.
fn arrange(seed: u64, steps: &mut [Step]) {
    let mut luck = SimRng::new(seed, 8_003);
    if !luck.one_in(ARRANGED) {
        return;
    }
    for step in steps {
        let Act::Say(say) = &mut step.act else { continue };
        let is_spare = matches!(
            say,
            Say::Pause
                | Say::Stop
                | Say::Seek { .. }
                | Say::Message { .. }
                | Say::GetSong { .. }
                | Say::Chat
                | Say::Cue
                | Say::BeatSync
                | Say::Sync { .. }
        );
        if is_spare && !luck.one_in(3) {
            *say = draw_arrangement(&mut luck);
        }
    }
}

fn draw_arrangement(luck: &mut SimRng) -> Say {
    let milli = |luck: &mut SimRng| luck.magnitude(60_000, 400_000) as u32;
    let ahead = |luck: &mut SimRng| luck.between(0, 12) as i64 - 1;
    match luck.below(14) {
        0..=3 => {
            let from = luck.between(0, 6) as i64 - 4;
            Say::Loop { from, to: from.max(0) + luck.between(1, 8) as i64 }
        }
        4 => Say::Release,
        5..=7 => Say::Jump { to: luck.between(0, 40) as i64 - 20, at: ahead(luck) },
        8 => {
            let (time, real) = (luck.below(4) * SECOND, luck.one_in(2));
            Say::ArmTempo { milli: milli(luck), time, real, at: ahead(luck) }
        }
        9 => Say::Cancel,
        10 => Say::Nudge { beats: luck.between(0, 16) as i8 - 8 },
        11 => Say::One { ago: luck.below(2_200 * MS) },
        12 => Say::PauseAt { ago: luck.below(700 * MS) },
        _ => Say::Play { ahead: None, bars: 0, quantize: None },
    }
}

/// Adds edits of the set list to every third world, from a generator of its own, so that the rest
/// of a seed's plan stayed the same when this was added.
fn draw_edits(seed: u64, shape: &WorldShape, steps: &mut Vec<Step>) {
    let mut luck = SimRng::new(seed, 8_004);
    if !luck.one_in(3) {
        return;
    }
    let mut at = 0;
    loop {
        at += luck.below(SECOND / 2);
        if at >= shape.length {
            break;
        }
        let (who, member) = (luck.below(shape.members.into()), luck.below(shape.members.into()));
        let shift = if luck.one_in(2) { luck.between(0, 24) as i8 - 12 } else { 0 };
        let say = match luck.below(12) {
            0..=8 => Say::Edit(Edit {
                kind: if shift == 0 { luck.below(5) as u8 } else { 1 },
                song: luck.below(6) as u8,
                other: luck.below(6) as u8,
                variant: luck.below(3) as u8,
                stale: luck.one_in(4),
                shift,
                was: 0,
            }),
            9 => Say::Allow { member: member as u16, may_edit: !luck.one_in(3) },
            10 => Say::AllowAll { may_edit: luck.one_in(2) },
            _ => luck.pick(&[Say::GetSetlist, Say::GetSongs]).clone(),
        };
        steps.push(Step { at, who: who as u16, act: Act::Say(say) });
    }
    steps.sort_by_key(|step| step.at);
}

/// Makes some members of every third world screens, from a generator of its own, so that the rest of
/// a seed's plan stayed the same when this was added.
fn draw_screens(seed: u64, shape: &WorldShape, steps: &mut [Step]) {
    let mut luck = SimRng::new(seed, 8_005);
    if !luck.one_in(3) {
        return;
    }
    let screens: Vec<bool> = (0..shape.members).map(|_| luck.one_in(4)).collect();
    for Step { who, act, .. } in steps {
        if let Act::Join(join) = act {
            join.screen = screens.get(usize::from(*who)).is_some_and(|screen| *screen);
        }
    }
}

/// Adds episodes: steps of several members that show something rare only together.
fn draw_episodes(luck: &mut SimRng, shape: &WorldShape, steps: &mut Vec<Step>) {
    // All members join before the first episode.
    steps.iter_mut().take(usize::from(shape.members)).for_each(|step| step.at %= SECOND);
    let mut begin = EPISODE_FIRST;
    while begin < shape.length {
        let leader = luck.below(u64::from(shape.members)) as u16;
        let mut add =
            |after: u64, who: u16, act: Act| steps.push(Step { at: begin + after, who, act });
        add(0, leader, Act::Say(Say::Claim));
        match luck.below(5) {
            0 => draw_new_pin(luck, shape, leader, &mut add),
            1 => draw_reports(luck, shape, leader, &mut add),
            2 => draw_missed_chat(luck, shape, leader, &mut add),
            3 => draw_repeats(shape, leader, &mut add),
            _ => draw_scarcity(luck, shape, &mut add),
        }
        begin += EPISODE_APART;
    }
    steps.retain(|step| step.at < shape.length);
    steps.sort_by_key(|step| step.at);
}

/// The PIN changes while a member that has shown the old one is there, or lost and about to return.
fn draw_new_pin(
    luck: &mut SimRng,
    shape: &WorldShape,
    leader: u16,
    add: &mut impl FnMut(u64, u16, Act),
) {
    let lost = (leader + luck.between(1, u64::from(shape.members) - 1) as u16) % shape.members;
    let old = luck.below(2) as u8;
    let rule = Say::Settings { max_members: None, pause_on_loss: None, rule: Some(2), cues: None };
    // Only one member leads, and the plan cannot know which, so all of them try.
    for who in 0..shape.members {
        add(40 * MS, who, Act::Say(Say::Pin { pin: Some(old) }));
        add(80 * MS, who, Act::Say(rule.clone()));
    }
    add(120 * MS, lost, Act::Join(Join { pin: Some(old), ..Join::default() }));
    if luck.one_in(2) {
        add(600 * MS, lost, Act::Cut);
    }
    for who in (0..shape.members).filter(|who| *who != lost) {
        add(700 * MS, who, Act::Say(Say::Pin { pin: Some(1 - old) }));
    }
    add(2_500 * MS, lost, Act::Say(Say::Claim));
    add(3_200 * MS, lost, Act::Say(Say::Claim));
}

/// The leader reports its position more often than its rate allows, so that its last report waits.
fn draw_reports(
    luck: &mut SimRng,
    shape: &WorldShape,
    leader: u16,
    add: &mut impl FnMut(u64, u16, Act),
) {
    add(40 * MS, leader, Act::Say(Say::Play { ahead: None, bars: 0, quantize: None }));
    let count = luck.between(110, 160) as u16;
    for who in 0..shape.members {
        add(250 * MS, who, Act::Flood { event: REPORTS, count });
    }
}

/// A member no longer receives anything, members chat, and only then is it lost: the first event
/// that it missed is for all.
fn draw_missed_chat(
    luck: &mut SimRng,
    shape: &WorldShape,
    leader: u16,
    add: &mut impl FnMut(u64, u16, Act),
) {
    let lost = (leader + luck.between(1, u64::from(shape.members) - 1) as u16) % shape.members;
    add(300 * MS, lost, Act::HalfOpen { up: false, down: true });
    add(400 * MS, leader, Act::Say(Say::Chat));
    add(800 * MS, lost, Act::Cut);
}

/// A member sends commands again on its return, after others have sent many from page after page.
fn draw_repeats(shape: &WorldShape, leader: u16, add: &mut impl FnMut(u64, u16, Act)) {
    add(100 * MS, leader, Act::Say(Say::Message { text: 1 }));
    add(110 * MS, leader, Act::Say(Say::Message { text: 2 }));
    for nth in 0..REPEATS {
        for who in (0..shape.members).filter(|who| *who != leader) {
            let text = 1 + (nth % 3) as u8;
            add(300 * MS + 100 * MS * nth, who, Act::Say(Say::Message { text }));
        }
    }
    add(1_800 * MS, leader, Act::Cut);
}

/// All members leave, and memory becomes scarce before the session is stored.
fn draw_scarcity(luck: &mut SimRng, shape: &WorldShape, add: &mut impl FnMut(u64, u16, Act)) {
    add(50 * MS, 0, Act::Say(Say::Message { text: 1 + luck.below(3) as u8 }));
    add(200 * MS, 0, Act::Away { time: 1_500 * MS });
    for who in 0..shape.members {
        add(150 * MS, who, Act::Say(Say::Message { text: 1 + luck.below(3) as u8 }));
        add(250 * MS, who, Act::Leave);
        add(2_000 * MS, who, Act::Join(Join::default()));
    }
    add(600 * MS, 0, Act::LowMemory { out: luck.one_in(4), time: 500 * MS });
}

fn draw_join(luck: &mut SimRng, on: &[bool; CLASSES], shape: &WorldShape) -> Join {
    // If all members have secrets, some match and some do not.
    let secret = if on[16] && on[17] { 3 } else { 12 };
    Join {
        session: luck.below(u64::from(shape.sessions)) as u16,
        lead: *luck.pick(&[None, None, None, Some(true), Some(false)]),
        tick_hz: *luck.pick(&[None, None, None, Some(0), Some(2), Some(30)]),
        metronome: luck.one_in(6),
        passcode: luck.one_in(2 * secret).then(|| luck.below(2) as u8),
        pin: luck.one_in(secret).then(|| luck.below(2) as u8),
        screen: false,
    }
}

fn draw_say(luck: &mut SimRng, on: &[bool; CLASSES], shape: &WorldShape) -> Say {
    if on[16] && on[17] && luck.one_in(4) {
        return match luck.below(3) {
            0 => Say::Pin { pin: (!luck.one_in(8)).then(|| luck.below(2) as u8) },
            1 => Say::Passcode { code: luck.one_in(3).then(|| luck.below(2) as u8) },
            _ => Say::Claim,
        };
    }
    let member = luck.below(u64::from(shape.members)) as u16;
    let ahead = |luck: &mut SimRng| match luck.below(4) {
        0 => Some(luck.between(0, 3_000) as i64 * MS as i64 - 300 * MS as i64),
        _ => None,
    };
    let tempo = |luck: &mut SimRng| luck.magnitude(1_000, 400_000) as u32;
    match luck.below(44) {
        0..=9 => {
            let bars = if luck.one_in(4) { luck.below(3) as u8 } else { 0 };
            Say::Play {
                ahead: ahead(luck),
                bars,
                quantize: *luck.pick(&[None, None, Some(true), Some(false)]),
            }
        }
        10..=12 => Say::Pause,
        13 => Say::Stop,
        14..=16 => Say::Seek { to: luck.below(600 * SECOND), ahead: ahead(luck) },
        17 => Say::Tempo { milli: tempo(luck) },
        18 => Say::Fade { milli: tempo(luck), time: luck.below(8 * SECOND), real: luck.one_in(2) },
        19 => Say::Signature {
            numerator: luck.between(1, 9) as u8,
            denominator: *luck.pick(&[1, 2, 4, 8, 16, 32]),
        },
        20 => Say::Message { text: luck.below(5) as u8 },
        21..=22 => Say::Claim,
        23 => Say::StepDown,
        24 => Say::HandTo { member },
        25 => Say::Ask,
        26 => Say::Approve { member },
        27 => Say::Deny { member },
        28 => Say::Settings {
            max_members: luck.one_in(3).then(|| luck.between(1, 20) as u32),
            pause_on_loss: luck.one_in(2).then(|| luck.one_in(2)),
            rule: luck.one_in(3).then(|| luck.below(3) as u8),
            cues: luck.one_in(4).then(|| luck.one_in(2)),
        },
        29 => Say::Passcode { code: luck.one_in(3).then(|| luck.below(2) as u8) },
        30 => Say::Pin { pin: luck.one_in(2).then(|| luck.below(2) as u8) },
        31 => Say::Setlist {
            songs: luck.below(6) as u8,
            variant: luck.below(3) as u8,
            body: luck.magnitude(1, 2_000) as u16,
        },
        32 => Say::Select { song: luck.below(6) as u8 },
        33 => Say::Step { forward: !luck.one_in(3) },
        34 => Say::GetSong { song: luck.below(6) as u8 },
        35..=36 => Say::Sync { stale: luck.one_in(2) },
        37 => Say::Chat,
        38 => Say::Cue,
        39 => Say::BeatSync,
        40 => Say::PositionSync { off: luck.below(200_000) as i64 - 100_000 },
        41 => Say::ClockSync,
        42 => Say::Probe,
        _ => luck.pick(&[Say::Heartbeat, Say::Quality]).clone(),
    }
}

fn draw_trouble(luck: &mut SimRng, on: &[bool; CLASSES], shape: &WorldShape) -> Option<Act> {
    let time = |luck: &mut SimRng| luck.magnitude(20, 12_000) * MS;
    let class = luck.below(18);
    let enabled = |n: usize| on[n];
    let act = match class {
        0 | 1 => Act::Join(draw_join(luck, on, shape)),
        2 => Act::Leave,
        3 if enabled(8) => {
            Act::Bye(*luck.pick(&[Bye::Packet, Bye::Engine, Bye::Frame, Bye::Stream]))
        }
        4 if enabled(8) => Act::Cut,
        5 if enabled(9) => Act::HalfOpen { up: luck.one_in(2), down: luck.one_in(2) },
        6 if enabled(10) => {
            Act::Stall { up: luck.one_in(2), down: !luck.one_in(3), time: time(luck) }
        }
        7 if enabled(11) => match luck.below(2) {
            0 => Act::Slow { rate: luck.magnitude(100, 20_000), time: time(luck) },
            _ => Act::Mute { time: time(luck) },
        },
        8 | 15 if enabled(12) => {
            let drags = luck.one_in(3);
            let event = if drags { luck.between(DRAGS, FLOODS - 1) } else { luck.below(FLOODS) };
            Act::Flood { event: event as u8, count: luck.magnitude(2, 250) as u16 }
        }
        9 | 16 if enabled(12) => {
            Act::Rubbish { kind: luck.below(RUBBISH) as u8, luck: luck.next() }
        }
        10 if enabled(13) => {
            // From hours down to steps that are hard to see.
            let most = luck.magnitude(1, 3_600_000);
            Act::ClockStep { by: luck.below(2 * most + 1) as i64 - most as i64 }
        }
        11 if enabled(13) => match luck.below(2) {
            0 => Act::Freeze { time: luck.magnitude(5, 8_000) * MS },
            _ => Act::WallStep { by: luck.below(7_200_000) as i64 - 3_600_000 },
        },
        12 if enabled(15) => Act::Away { time: time(luck) },
        13 if enabled(16) && luck.one_in(3) => Act::Restart,
        14 | 17 if enabled(20) => Act::LowMemory { out: luck.one_in(2), time: time(luck) },
        _ => return None,
    };
    Some(act)
}

/// Defaults for plans that were written before these fields existed.
fn everybody() -> u32 {
    256
}

fn two_minutes() -> u64 {
    120 * SECOND
}

fn quarter_mebibyte() -> u32 {
    262_144
}

/// Kinds of rubbish that a member can send.
pub const RUBBISH: u64 = 21;

/// Number of events that a member can flood with. From `DRAGS` on they are dragged sliders.
pub const FLOODS: u64 = 17;
const REPORTS: u8 = 3;
const DRAGS: u64 = 13;
