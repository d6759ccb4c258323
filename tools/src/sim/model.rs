//! The model of a session: a second, slow, obvious session that receives the acknowledged commands
//! in their order. It knows no bytes, batches or timers; after every step, the real session must be
//! in the same state.

use bandsync_engine::record::{self, Record};
use bandsync_engine::session::Session;
use bandsync_engine::speech::{LeaderRule, OnLeaderLoss, Role};
use bandsync_engine::words::time::{Micros, Moment, UnixMillis};

use super::music::{BEAT, Music};
use super::plan::{Edit, Join, Say};
use super::screens::Screens;
use super::songs::Program;
use super::wire::Tokens;

/// A member of the model.
#[derive(Clone, Debug, PartialEq)]
pub struct Person {
    /// The socket id.
    pub id: String,
    pub connected: bool,
    /// Whether the member wants every tick.
    pub wants_ticks: bool,
    pub metronome: bool,
    knows_pin: bool,
    token: Option<String>,
    may_edit: bool,
    name: String,
    /// The time of the join by the server's wall clock, in milliseconds. A returning member keeps
    /// it.
    joined_at: i64,
}

/// A member whose connection is lost and that may return.
#[derive(Clone, Debug, PartialEq)]
struct Absent {
    person: Person,
    led: bool,
    /// The PIN with which the member joined.
    pin: Option<u8>,
    since: u64,
}

/// Members that are gone and may return.
#[derive(Clone, Debug, Default, PartialEq)]
struct Gone {
    /// Those that may recover their seats.
    lost: Vec<Absent>,
    /// Those with tokens in order of loss, and whether the lead is still their own if it is free.
    remembered: Vec<(Person, bool)>,
}

/// The expected state of a session.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    pub version: u64,
    pub music: Music,
    pub people: Vec<Person>,
    screens: Screens,
    pub leader: Option<String>,
    /// The end of the grace period, while the leader has no connection.
    pub kept_until: Option<u64>,
    /// The time since which no member has a connection.
    pub empty_since: Option<u64>,
    /// The time at which a member last left, or the conditions of a join changed.
    pub door_changed_at: u64,
    gone: Gone,
    requests: Vec<String>,
    message: String,
    /// Whether a member has set it.
    message_is_set: bool,
    members_cap: u32,
    rules: Rules,
    pub program: Program,
    /// The last command number and the member of each client. The client of the last command comes
    /// last.
    applied: Vec<((u16, u16), u64, String)>,
}

/// The settings of a session, which its leader may change.
#[derive(Clone, Debug, PartialEq)]
struct Rules {
    max_members: u32,
    pause_on_loss: bool,
    rule: LeaderRule,
    cues: bool,
    edits: bool,
    passcode: Option<u8>,
    pin: Option<u8>,
}

/// The effect of a command.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Done {
    /// The state changed, and has this version.
    Version(u64),
    /// The state did not change.
    Nothing,
}

/// The reason why the server should have rejected a command.
pub type Wrong = String;

impl Model {
    pub fn new(now: u64, members_cap: u32) -> Self {
        Self {
            version: 0,
            music: Music::new(now),
            people: Vec::new(),
            screens: Screens::default(),
            leader: None,
            kept_until: None,
            empty_since: Some(now),
            door_changed_at: now,
            gone: Gone::default(),
            requests: Vec::new(),
            message: "Waiting for members…".into(),
            message_is_set: false,
            members_cap,
            rules: Rules {
                max_members: members_cap,
                pause_on_loss: false,
                rule: LeaderRule::Open,
                cues: false,
                edits: false,
                passcode: None,
                pin: None,
            },
            program: Program::default(),
            applied: Vec::new(),
        }
    }

    pub fn is_member(&self, id: &str) -> bool {
        self.people.iter().any(|person| person.id == id)
    }

    pub fn leads(&self, id: &str) -> bool {
        self.leader.as_deref() == Some(id)
    }

    /// Whether a member with a connection wants every tick.
    pub fn has_tick_listeners(&self) -> bool {
        self.people.iter().any(|person| person.connected && person.wants_ticks)
            || self.screens.any_wants_ticks()
    }

    /// Applies an acknowledged join. `unix` is the time on the server's wall clock. Returns the
    /// member whose seat the join's token brought back, if another member had it.
    pub fn join(
        &mut self,
        unix: i64,
        id: &str,
        name: &str,
        (join, tokens): (&Join, &Tokens),
    ) -> Result<(Done, Option<String>), Wrong> {
        let holder = self.holder(id, tokens);
        let done = match &holder {
            Some(holder) => self.return_to(holder, id, join)?,
            None => self.enter(unix, id, name, join)?,
        };
        self.set_token(id, tokens);
        Ok((done, holder))
    }

    /// Applies the acknowledged join of a screen.
    pub fn show(&mut self, id: &str, join: &Join) -> Result<Done, Wrong> {
        if self.version == 0 {
            return Err("a screen opened a session".into());
        }
        if self.shows_wrong_passcode(join) || self.shows_wrong_pin(join) {
            return Err("a screen was let in with a wrong passcode or PIN".into());
        }
        if self.screens.is_full_for(id) {
            return Err("a screen too many".into());
        }
        self.empty_since = None;
        self.screens.add(id, join.tick_hz.is_none());
        Ok(Done::Version(self.version))
    }

    /// Returns the other member, present or absent, whose seat has one of these tokens.
    fn holder(&self, id: &str, tokens: &Tokens) -> Option<String> {
        let given = [&tokens.token, &tokens.new_token];
        let holder = given.into_iter().flatten().find_map(|token| {
            let absent = self.gone.remembered.iter().map(|(person, _)| person);
            let mut people = self.people.iter().chain(absent);
            people.find(|person| person.token.as_ref() == Some(token))
        })?;
        Some(holder.id.clone()).filter(|holder| holder != id)
    }

    /// Gives a member its token. No other member has it from now on.
    fn set_token(&mut self, id: &str, tokens: &Tokens) {
        let Some(next) = tokens.next() else { return };
        let has = |person: &Person| person.token.as_ref() == Some(next);
        if self.people.iter().any(|person| person.id == id && has(person)) {
            return;
        }
        self.gone.remembered.retain(|(person, _)| !has(person) && person.id != id);
        self.people.iter_mut().filter(|person| has(person)).for_each(|person| person.token = None);
        let own = self.people.iter_mut().filter(|person| person.id == id);
        own.for_each(|person| person.token = Some(next.clone()));
    }

    /// Returns a member to the seat of which it has the token.
    fn return_to(&mut self, holder: &str, id: &str, join: &Join) -> Result<Done, Wrong> {
        if self.is_member(id) {
            return Err("a member took another seat with its token".into());
        }
        if self.shows_wrong_pin(join) {
            return Err("a wrong PIN was let in with a token".into());
        }
        self.empty_since = None;
        // The seat has another socket id, so the former one cannot recover it.
        self.forget_absent(holder);
        let pin = self.rules.pin;
        let update = |person: &mut Person| {
            person.id = id.to_owned();
            person.connected = true;
            person.wants_ticks = join.tick_hz.is_none();
            person.metronome = join.metronome;
            person.knows_pin |= pin.is_some() && join.pin == pin;
        };
        if let Some(person) = self.people.iter_mut().find(|person| person.id == holder) {
            update(person);
            if self.leads(holder) {
                self.leader = Some(id.to_owned());
                self.kept_until = None;
            }
            let requests = self.requests.iter_mut().filter(|other| *other == holder);
            requests.for_each(|request| *request = id.to_owned());
            self.version += 1;
            return Ok(Done::Version(self.version));
        }
        let index = self.gone.remembered.iter().position(|(person, _)| person.id == holder);
        let (mut person, led) =
            self.gone.remembered.remove(index.ok_or("an unknown token brought a seat back")?);
        update(&mut person);
        self.insert(person);
        let wants = led || join.lead != Some(false);
        if wants && self.leader.is_none() && self.may_lead(id) {
            self.give_lead(Some(id.to_owned()));
            self.update_automatic_message("{} is leading");
            self.version += 1;
        }
        self.update_leaderless_message();
        Ok(Done::Version(self.version))
    }

    /// Inserts a returning member in its order of joining.
    fn insert(&mut self, person: Person) {
        let index = self.people.iter().position(|other| other.joined_at > person.joined_at);
        self.people.insert(index.unwrap_or(self.people.len()), person);
    }

    /// Remembers a member that is gone, if it has a token.
    fn remember(&mut self, person: Person, led: bool) {
        if person.token.is_some() {
            let led = led && self.leader.is_none();
            self.gone.remembered.push((person, led));
        }
    }

    /// Seats a newcomer, or updates a member that joins again.
    fn enter(&mut self, unix: i64, id: &str, name: &str, join: &Join) -> Result<Done, Wrong> {
        let pin = self.rules.pin;
        self.empty_since = None;
        if self.is_member(id) && join.passcode.is_some() && self.shows_wrong_passcode(join) {
            return Err("a member tried a passcode from its seat".into());
        }
        if self.version != 0 && self.shows_wrong_pin(join) {
            return Err("a wrong PIN was let in".into());
        }
        if let Some(person) = self.people.iter_mut().find(|person| person.id == id) {
            person.wants_ticks = join.tick_hz.is_none();
            person.metronome = join.metronome;
            person.knows_pin |= pin.is_some() && join.pin == pin;
            if !std::mem::replace(&mut person.connected, true) {
                // The session was loaded from the storage with a held seat for its leader, which
                // joins again.
                self.kept_until = None;
                self.version += 1;
            }
            return Ok(Done::Version(self.version));
        }
        let is_new = self.version == 0;
        if is_new {
            (self.rules.passcode, self.rules.pin) = (join.passcode, join.pin);
            if join.pin.is_some() {
                self.rules.rule = LeaderRule::Pin;
            }
        } else {
            if self.shows_wrong_passcode(join) {
                return Err("a wrong passcode was let in".into());
            }
            if self.people.len() >= self.rules.max_members as usize {
                return Err(format!("more than {} members", self.rules.max_members));
            }
        }
        let knows_pin = self.rules.pin.is_some() && join.pin == self.rules.pin;
        let may = self.rules.rule != LeaderRule::Pin || knows_pin;
        let leads = match (join.lead, &self.leader) {
            (Some(false), _) | (None, Some(_)) => false,
            (Some(true), Some(_)) => may && self.rules.rule != LeaderRule::Ask,
            (_, None) => may,
        };
        let wants_ticks = join.tick_hz.is_none();
        self.people.push(Person {
            id: id.to_owned(),
            connected: true,
            wants_ticks,
            metronome: join.metronome,
            knows_pin,
            token: None,
            may_edit: false,
            name: name.to_owned(),
            joined_at: unix,
        });
        if leads {
            self.give_lead(Some(id.to_owned()));
            self.update_automatic_message("{} is leading");
        } else if join.lead == Some(true) && self.rules.rule == LeaderRule::Ask {
            self.ask(id);
        }
        self.update_leaderless_message();
        self.version += u64::from(leads || is_new);
        Ok(Done::Version(self.version))
    }

    fn shows_wrong_passcode(&self, join: &Join) -> bool {
        self.rules.passcode.is_some() && join.passcode != self.rules.passcode
    }

    fn shows_wrong_pin(&self, join: &Join) -> bool {
        self.rules.pin.is_some() && join.pin.is_some() && join.pin != self.rules.pin
    }

    /// Returns the error code with which a join or the recovery of a seat must be rejected, if any.
    pub fn rejects(&self, id: &str, (join, tokens): (&Join, &Tokens)) -> Option<&'static str> {
        let is_seated = self.is_member(id);
        let has_token = self.holder(id, tokens).is_some();
        match () {
            () if self.version == 0 => join.screen.then_some("session_not_found"),
            () if has_token => self.shows_wrong_pin(join).then_some("bad_passcode"),
            () if self.shows_wrong_passcode(join) && (!is_seated || join.passcode.is_some()) => {
                Some("bad_passcode")
            }
            () if self.shows_wrong_pin(join) => Some("bad_passcode"),
            () if join.screen => self.screens.is_full_for(id).then_some("session_full"),
            () if is_seated => None,
            () => (self.people.len() >= self.rules.max_members as usize).then_some("session_full"),
        }
    }

    /// Whether the session is full if `others` members join that are on their way.
    pub fn is_full_with(&self, others: usize) -> bool {
        self.people.len() + others >= self.rules.max_members as usize
    }

    /// Removes a member that left on purpose. Its token is forgotten, unless it only said goodbye to
    /// the server.
    pub fn leave(&mut self, now: u64, id: &str, forgets: bool) {
        if self.screens.remove(id) {
            return self.note_emptiness(now);
        }
        let person = self.people.iter().find(|person| person.id == id).cloned();
        if let Some(person) = person {
            let led = self.leads(id);
            self.remove(now, id, true);
            if !forgets {
                self.remember(person, led);
            }
        }
    }

    /// Removes a member without a connection that does not return in time.
    fn expire(&mut self, now: u64, id: &str) {
        let person = self.people.iter().find(|person| person.id == id).cloned();
        let led = self.leads(id);
        self.remove(now, id, false);
        if let Some(person) = person {
            self.remember(person, led);
        }
    }

    /// Handles the loss of a member's connection.
    pub fn lost(&mut self, now: u64, id: &str, grace: u64) {
        if self.screens.remove(id) {
            return self.note_emptiness(now);
        }
        if !self.people.iter().any(|person| person.id == id && person.connected) {
            return;
        }
        if let Some(person) = self.people.iter().find(|person| person.id == id) {
            self.gone.lost.push(Absent {
                person: person.clone(),
                led: self.leads(id),
                pin: self.rules.pin,
                since: now,
            });
        }
        if self.leads(id) {
            self.people
                .iter_mut()
                .filter(|person| person.id == id)
                .for_each(|person| person.connected = false);
            self.kept_until = Some(now + grace);
            self.version += 1;
        } else {
            self.expire(now, id);
        }
        self.note_emptiness(now);
    }

    /// Starts again from the stored record after the server died: all members have lost their
    /// connections.
    pub fn reopen(&mut self, now: u64, unix: i64, grace: u64, record: &Record) {
        self.applied.clear();
        const DESERTED_MS: i64 = 15 * 60 * 1_000;
        let passed = unix.saturating_sub(record.last_active_unix.0);
        let then = record.last_active_at.as_micros() + 1_000 * passed.max(0) as u64;
        self.music.move_clock(then, now);
        self.leader = self.leader.take().filter(|_| passed <= DESERTED_MS);
        let leader = self.leader.clone();
        let former = record.timeline.leader;
        let former = former.as_ref().map(|id| id.as_str());
        let (kept, lost): (Vec<Person>, Vec<Person>) = std::mem::take(&mut self.people)
            .into_iter()
            .partition(|person| Some(&person.id) == leader.as_ref());
        self.people = kept;
        for person in lost {
            let led = former == Some(person.id.as_str());
            self.remember(person, led);
        }
        let mut left = self.gone.remembered.len();
        self.gone.remembered.retain(|(person, led)| {
            left -= 1;
            let has_right = person.knows_pin || person.may_edit;
            left < record::Tokens::ABSENT_STORED || *led || has_right
        });
        self.people.iter_mut().for_each(|person| person.connected = false);
        self.screens = Screens::default();
        self.kept_until = leader.map(|_| now + grace);
        self.requests.clear();
        self.gone.lost.clear();
        self.update_leaderless_message();
        (self.version, self.empty_since, self.door_changed_at) = (1, Some(now), now);
    }

    /// Whether this command of a client, or a later one, was applied.
    pub fn has_applied(&self, (client, number): ((u16, u16), u64)) -> bool {
        self.applied.iter().any(|(other, last, _)| *other == client && number <= *last)
    }

    /// Notes the command of a client. A session remembers four clients of a member, and forgets the
    /// one that was silent longest.
    pub fn note_applied(&mut self, (client, number): ((u16, u16), u64), id: &str) {
        self.applied.retain(|(other, ..)| *other != client);
        let own = self.applied.iter().filter(|(_, _, of)| of == id).count();
        if own >= 4
            && let Some(oldest) = self.applied.iter().position(|(_, _, of)| of == id)
        {
            self.applied.remove(oldest);
        }
        self.applied.push((client, number, id.to_owned()));
    }

    /// Whether a lost member must recover its seat.
    ///
    /// The first event that it missed is kept until `kept_until`, unless its loss is noticed
    /// before.
    pub fn must_restore(&self, now: u64, id: &str, window: u64, kept_until: u64) -> bool {
        let here = self.people.iter().any(|person| person.id == id);
        let room = here || self.people.len() < self.rules.max_members as usize;
        room && self.gone.lost.iter().any(|absent| {
            absent.person.id == id && now < absent.since + window && absent.since <= kept_until
        })
    }

    /// Returns a lost member to its seat.
    ///
    /// # Errors
    /// If the server should not have done so.
    pub fn restore(&mut self, now: u64, id: &str, window: u64) -> Result<(), Wrong> {
        let index = self.gone.lost.iter().position(|absent| absent.person.id == id);
        let Absent { mut person, led, pin, since } = self
            .gone
            .lost
            .remove(index.ok_or_else(|| format!("{id} recovered without having been lost"))?);
        if now > since + window {
            return Err(format!("{id} was let in again {} µs after it was lost", now - since));
        }
        person.knows_pin &= pin == self.rules.pin;
        self.empty_since = None;
        if let Some(kept) = self.people.iter_mut().find(|person| person.id == id) {
            kept.connected = true;
            self.kept_until = None;
            self.version += 1;
            return Ok(());
        }
        if self.people.len() >= self.rules.max_members as usize {
            return Err(format!("{id} was let in again as one too many"));
        }
        let remembered = self.gone.remembered.iter().position(|(person, _)| person.id == id);
        person.token = remembered.and_then(|index| self.gone.remembered.remove(index).0.token);
        self.insert(person);
        if led && self.leader.is_none() && self.may_lead(id) {
            self.give_lead(Some(id.to_owned()));
            self.update_automatic_message("{} is leading");
            self.version += 1;
        }
        self.update_leaderless_message();
        Ok(())
    }

    /// Forgets a lost member whose recovery was rejected. It cannot try again.
    pub fn forget_absent(&mut self, id: &str) {
        self.gone.lost.retain(|absent| absent.person.id != id);
    }

    /// Ends the grace period of a lost leader, if it is over.
    pub fn end_grace(&mut self, now: u64) {
        if let Some(leader) =
            self.leader.clone().filter(|_| self.kept_until.is_some_and(|until| until <= now))
        {
            self.expire(now, &leader);
        }
    }

    /// Applies an acknowledged command. `at` is the time at which it should take effect, and
    /// `other` the member that it names.
    pub fn say(
        &mut self,
        now: u64,
        id: &str,
        say: &Say,
        at: Option<u64>,
        other: &str,
    ) -> Result<Done, Wrong> {
        let is_question =
            matches!(say, Say::GetSong { .. } | Say::GetSetlist | Say::GetSongs | Say::Sync { .. });
        if self.screens.contains(id) && is_question {
            return Ok(Done::Nothing);
        }
        if !self.people.iter().any(|person| person.id == id && person.connected) {
            return Err("obeyed somebody that is no member".into());
        }
        if needs_lead(say, self.rules.cues) && !self.leads(id) {
            return Err(format!("obeyed {id}, who does not lead: {say:?}"));
        }
        if matches!(say, Say::Edit(_)) && !self.may_edit(id) {
            return Err(format!("obeyed {id}, who may not edit: {say:?}"));
        }
        // If a member takes the lead of a lost leader, that loses its held seat.
        if matches!(
            say,
            Say::Settings { .. }
                | Say::Passcode { .. }
                | Say::Pin { .. }
                | Say::Claim
                | Say::HandTo { .. }
                | Say::Approve { .. }
        ) {
            self.door_changed_at = now;
        }
        let pressed = at.unwrap_or(now);
        let at = pressed.clamp(now, now + 30_000_000);
        let changed = match say {
            Say::Play { bars, quantize, .. } => self.music.play(now, at, *bars, *quantize),
            Say::Pause => self.music.pause(now, now),
            Say::PauseAt { .. } => self.music.pause(now, pressed),
            Say::Loop { from, to } => {
                let bounds = (i128::from(*from) * BEAT, i128::from(*to) * BEAT);
                self.music.set_loop(now, Some(bounds))?
            }
            Say::Release => self.music.set_loop(now, None)?,
            Say::Jump { to, at } => {
                self.music.jump(now, i128::from(*to) * BEAT, i128::from(*at) * BEAT)?
            }
            Say::ArmTempo { milli, time, at, .. } => {
                self.music.arm_tempo(now, *milli, *time, i128::from(*at) * BEAT)?
            }
            Say::Cancel => self.music.cancel(now),
            Say::Nudge { beats } => self.music.nudge(now, i128::from(*beats))?,
            Say::One { .. } => self.music.one(now, pressed)?,
            Say::Stop => self.music.rewind(now),
            Say::Seek { to, .. } => self.music.seek(now, at, *to),
            Say::Tempo { milli } => self.music.tempo(now, *milli, 0),
            Say::Fade { milli, time, .. } => self.music.tempo(now, *milli, *time),
            Say::Signature { numerator, denominator } => {
                self.music.signature_from_here(now, *numerator, *denominator)
            }
            Say::Message { text } => {
                let (before, was_set) = (self.message.clone(), self.message_is_set);
                self.message_is_set = *text != 0;
                if *text != 0 {
                    self.message = message(*text);
                } else if was_set {
                    self.update_automatic_message("{} is leading");
                    self.update_leaderless_message();
                }
                self.message != before
            }
            Say::Claim if self.leads(id) => {
                let before = self.message.clone();
                self.update_automatic_message("Leader connected");
                self.message != before
            }
            Say::Claim => return self.claim(id, "Leader connected"),
            Say::StepDown => {
                self.requests.retain(|other| other != id);
                let led = self.leads(id);
                if led {
                    self.give_lead(self.heir(id));
                }
                led
            }
            Say::HandTo { .. } if other == id && self.leads(id) => {
                let before = self.message.clone();
                self.update_automatic_message("Leader connected");
                self.message != before
            }
            Say::HandTo { .. } if other == id => return self.claim(id, "Leader connected"),
            Say::HandTo { .. } => {
                if !self.leads(id) {
                    return Err(format!("{id} gave away a lead that it did not have"));
                }
                if !self.people.iter().any(|person| person.id == other && person.connected) {
                    return Err("the lead went to a member that is not in the session".into());
                }
                self.give_lead(Some(other.to_owned()));
                true
            }
            Say::Ask => match &self.leader {
                None => return self.claim(id, "{} is now leading"),
                Some(leader) if leader == id => false,
                Some(_) => {
                    self.ask(id);
                    return Ok(Done::Nothing);
                }
            },
            Say::Approve { .. } => {
                self.answer(other)?;
                self.give_lead(Some(other.to_owned()));
                true
            }
            Say::Deny { .. } => {
                self.answer(other)?;
                return Ok(Done::Nothing);
            }
            Say::Settings { max_members, pause_on_loss, rule, cues } => {
                let before = (
                    self.rules.max_members,
                    self.rules.pause_on_loss,
                    self.rules.rule,
                    self.rules.cues,
                );
                self.rules.max_members = max_members.unwrap_or(self.rules.max_members);
                // Members that returned by their tokens may be more than the limits.
                let least = self.people.len().min(self.members_cap as usize) as u32;
                let is_within = (least..=self.members_cap).contains(&self.rules.max_members);
                if max_members.is_some() && !is_within {
                    return Err(format!("maxMembers {}", self.rules.max_members));
                }
                self.rules.pause_on_loss = pause_on_loss.unwrap_or(self.rules.pause_on_loss);
                self.rules.rule = rule.map_or(self.rules.rule, leader_rule);
                self.rules.cues = cues.unwrap_or(self.rules.cues);
                before
                    != (
                        self.rules.max_members,
                        self.rules.pause_on_loss,
                        self.rules.rule,
                        self.rules.cues,
                    )
            }
            Say::Passcode { code } => {
                let new = std::mem::replace(&mut self.rules.passcode, *code) != *code;
                if new {
                    self.gone.remembered.clear();
                }
                new
            }
            Say::Pin { pin } => {
                let new = std::mem::replace(&mut self.rules.pin, *pin) != *pin;
                if new {
                    self.gone.remembered.clear();
                    for person in &mut self.people {
                        person.knows_pin = pin.is_some() && person.id == id;
                    }
                }
                new
            }
            Say::Setlist { songs, variant, body } => {
                let (changed, is_gone) = self.program.set(*songs, *variant, *body);
                if is_gone {
                    self.music.fold(now);
                }
                changed
            }
            Say::Edit(edit) => {
                if self.removes_playing(now, edit) {
                    return Err(format!("removed the song that plays: {edit:?}"));
                }
                if self.program.edit(edit)? {
                    self.music.fold(now);
                }
                if edit.kind == 1 && self.program.is_on(edit.song) {
                    self.music.follow_chart(now, edit.shift.into());
                }
                true
            }
            Say::Allow { may_edit, .. } => {
                let person = self.people.iter_mut().find(|person| person.id == other);
                let person = person.ok_or("a member that is not in the session got a right")?;
                std::mem::replace(&mut person.may_edit, *may_edit) != *may_edit
            }
            Say::AllowAll { may_edit } => {
                std::mem::replace(&mut self.rules.edits, *may_edit) != *may_edit
            }
            Say::Select { song } => {
                let index = self.program.index(*song);
                self.select(now, index)?
            }
            Say::Step { forward } => self.select(now, self.program.next(*forward))?,
            Say::PositionSync { .. } => {
                return Err("position_sync is fed with what was reported".into());
            }
            Say::GetSong { .. }
            | Say::GetSetlist
            | Say::GetSongs
            | Say::Sync { .. }
            | Say::Chat
            | Say::Cue
            | Say::BeatSync
            | Say::ClockSync
            | Say::Probe
            | Say::Heartbeat
            | Say::Quality => return Ok(Done::Nothing),
        };
        if self.rules.rule == LeaderRule::Pin && self.rules.pin.is_none() {
            return Err("the rule asks for a PIN that is not there".into());
        }
        self.version += u64::from(changed);
        Ok(Done::Version(self.version))
    }

    /// Applies an acknowledged report of a position, by the leader or a follower.
    ///
    /// If the report waited for its rate, the music has continued since it `came`.
    pub fn report(&mut self, now: u64, id: &str, position: u64, came: u64) -> Done {
        if !self.leads(id) {
            return Done::Nothing;
        }
        let waited = if self.music.at(now).playing { now - came } else { 0 };
        let position = (position + waited).min(86_400_000_000);
        let off = (self.music.at(now).position.max(0) - i128::from(position)).abs() > 25_000;
        let moved = off && self.music.seek(now, now, position);
        self.version += u64::from(moved);
        Done::Version(self.version)
    }

    /// Returns the members that a snapshot lists, with whether they are connected, and the number
    /// of all members if the list is partial. Of more than `listed` members, it has an eighth and
    /// the leader.
    pub fn named(&self, listed: u32) -> (Vec<(&str, bool)>, Option<u32>) {
        fn named(person: &Person) -> (&str, bool) {
            (&person.id, person.connected)
        }
        let count = self.people.len() as u32;
        if count <= listed {
            return (self.people.iter().map(named).collect(), None);
        }
        let (first, others) = self.people.split_at(listed.div_ceil(8) as usize);
        let leader = others.iter().filter(|person| Some(&person.id) == self.leader.as_ref());
        (first.iter().chain(leader).map(named).collect(), Some(count))
    }

    /// Describes a difference to the real session, if there is any.
    pub fn differs(&self, real: &Session, now: u64) -> Option<String> {
        let at = Moment { at: Micros::from_micros(now), unix: UnixMillis(0) };
        let shown = real.snapshot(at);
        let leads: Vec<&str> =
            real.members().filter(|m| m.role == Role::Leader).map(|m| m.id.as_str()).collect();
        let leader: Vec<&str> = self.leader.iter().map(String::as_str).collect();
        let members = real.members().map(|member| (member.id.as_str(), member.connected));
        let people = self.people.iter().map(|person| (person.id.as_str(), person.connected));
        let settings = &shown.settings;
        let editors = self.people.iter().map(|person| person.may_edit);
        let stats = real.room_stats(at.at);
        let problems = [
            (
                real.version() != self.version,
                format!("version {} is {}", self.version, real.version()),
            ),
            (leads != leader, format!("{leader:?} should lead, {leads:?} do")),
            (
                shown.timeline.leader.as_ref().map(|id| id.as_str()) != self.leader.as_deref(),
                "timeline's leader".into(),
            ),
            (!members.eq(people), format!("members {:?} are {:?}", self.people, shown.members)),
            (
                shown.message != self.message,
                format!("message {:?} is {:?}", self.message, shown.message),
            ),
            (settings.max_members != self.rules.max_members, "maxMembers".into()),
            (
                (settings.on_leader_loss == OnLeaderLoss::Pause) != self.rules.pause_on_loss,
                "onLeaderLoss".into(),
            ),
            (
                settings.leader_rule != self.rules.rule,
                format!("leaderRule {:?} is {:?}", self.rules.rule, settings.leader_rule),
            ),
            (settings.anyone_may_cue != self.rules.cues, "anyoneMayCue".into()),
            (settings.anyone_may_edit != self.rules.edits, "anyoneMayEdit".into()),
            (
                !real.members().map(|member| member.may_edit).eq(editors),
                format!("rights of {:?}", self.people),
            ),
            (settings.has_passcode != self.rules.passcode.is_some(), "hasPasscode".into()),
            (
                self.program.differs(shown.setlist, shown.song.map(|(index, _)| index)),
                format!("songs {:?}, selected is {:?}", self.program, shown.song),
            ),
            (stats.member_count as usize != self.people.len(), "memberCount".into()),
        ];
        problems.into_iter().find(|(differs, _)| *differs).map(|(_, what)| what).or_else(|| {
            let times = [0, 1_000_000, 31_000_000].into_iter();
            times
                .filter(|_| !self.music.is_unknown())
                .find_map(|ahead| self.music_differs(real, now + ahead))
        })
    }

    /// Describes a difference to the real music at an instant, if there is any.
    fn music_differs(&self, real: &Session, t: u64) -> Option<String> {
        let tick = real.tick(Moment { at: Micros::from_micros(t), unix: UnixMillis(0) });
        let sync = real.sync_response(Moment { at: Micros::from_micros(t), unix: UnixMillis(0) });
        let beat = i128::from(sync.timeline.count_at(Micros::from_micros(t)));
        let model = self.music.at(t);
        let problems = [
            (model.playing != real.is_playing(Micros::from_micros(t)), "playing"),
            (model.position != i128::from(tick.position), "position"),
            (model.beat != beat, "beat"),
            (model.from != i128::from(tick.tempo.milli_bpm()), "tempo"),
            (self.music.count_in() != i128::from(sync.timeline.count_in), "count-in"),
        ];
        let (_, what) = problems.into_iter().find(|(differs, _)| *differs)?;
        let timeline = sync.timeline;
        Some(format!(
            "{what} at {t}: should be {model:?}, is {} and beat {beat} of {timeline:?}",
            tick.position
        ))
    }

    fn may_lead(&self, id: &str) -> bool {
        self.rules.rule != LeaderRule::Pin
            || self.people.iter().any(|person| person.id == id && person.knows_pin)
    }

    fn claim(&mut self, id: &str, message: &str) -> Result<Done, Wrong> {
        if !self.may_lead(id) {
            return Err(format!("{id} leads without the PIN"));
        }
        if self.leader.is_some() && self.rules.rule == LeaderRule::Ask {
            self.ask(id);
            return Ok(Done::Nothing);
        }
        self.give_lead(Some(id.to_owned()));
        self.update_automatic_message(message);
        self.version += 1;
        Ok(Done::Version(self.version))
    }

    /// Sets the automatic message about the leader, unless a member has set another message.
    fn update_automatic_message(&mut self, text: &str) {
        let leader = self.people.iter().find(|person| Some(&person.id) == self.leader.as_ref());
        if let Some(leader) = leader.filter(|_| !self.message_is_set) {
            self.message = text.replace("{}", &leader.name);
        }
    }

    /// Sets the automatic message of a session without a leader.
    fn update_leaderless_message(&mut self) {
        if self.leader.is_none() && !self.message_is_set {
            let whom = if self.people.is_empty() { "members" } else { "leader" };
            self.message = format!("Waiting for {whom}…");
        }
    }

    fn ask(&mut self, id: &str) {
        if self.leader.is_some() && !self.requests.iter().any(|other| other == id) {
            self.requests.push(id.to_owned());
        }
    }

    fn answer(&mut self, requester: &str) -> Result<(), Wrong> {
        let index = self.requests.iter().position(|other| other == requester);
        self.requests.remove(index.ok_or_else(|| format!("{requester} has not asked"))?);
        Ok(())
    }

    fn heir(&self, leader: &str) -> Option<String> {
        let mut others =
            self.people.iter().filter(|person| person.id != leader && person.connected);
        others.find(|person| self.may_lead(&person.id)).map(|person| person.id.clone())
    }

    /// Passes the lead. A lost leader also loses its held seat, and all requests for the lead end.
    fn give_lead(&mut self, to: Option<String>) {
        let previous = std::mem::replace(&mut self.leader, to);
        if self.leader.is_some() {
            self.gone.remembered.iter_mut().for_each(|(_, led)| *led = false);
        }
        if self.kept_until.take().is_some() {
            let gone = |person: &Person| Some(&person.id) == previous.as_ref();
            if let Some(index) = self.people.iter().position(gone) {
                let person = self.people.remove(index);
                self.remember(person, false);
            }
        }
        self.requests.clear();
        self.update_automatic_message("{} is now leading");
        self.update_leaderless_message();
    }

    fn remove(&mut self, now: u64, id: &str, on_purpose: bool) {
        let led = self.leads(id);
        let heir = self.heir(id);
        self.door_changed_at = now;
        self.people.retain(|person| person.id != id);
        self.requests.retain(|other| other != id);
        if led {
            self.give_lead(heir);
        }
        self.update_leaderless_message();
        let pauses = led && self.rules.pause_on_loss || on_purpose && self.people.is_empty();
        let paused = pauses && self.music.pause(now, now);
        self.version += u64::from(led || paused);
        self.note_emptiness(now);
    }

    fn note_emptiness(&mut self, now: u64) {
        let has_members = self.people.iter().any(|person| person.connected);
        if self.empty_since.is_none() && !has_members && self.screens.is_empty() {
            self.empty_since = Some(now);
        }
    }

    /// Begins the song at an index of the set list, if there is one.
    fn select(&mut self, now: u64, index: Option<usize>) -> Result<bool, Wrong> {
        let index = index.ok_or("a song that is not there was selected")?;
        let ((tempo, signature), changed) = self.program.select(index)?;
        let moved = self.music.begin(now, tempo, signature);
        Ok(changed || moved)
    }

    /// Whether a member may edit the set list.
    pub fn may_edit(&self, id: &str) -> bool {
        let mut people = self.people.iter();
        let person = people.find(|person| person.id == id);
        person.is_some_and(|person| self.rules.edits || self.leads(id) || person.may_edit)
    }

    /// Whether an edit removes the song that plays.
    pub fn removes_playing(&self, now: u64, edit: &Edit) -> bool {
        edit.kind == 3 && self.program.is_on(edit.song) && self.music.at(now).playing
    }
}

/// Whether only the leader may send this command.
pub fn needs_lead(say: &Say, anyone_may_cue: bool) -> bool {
    match say {
        Say::Cue => !anyone_may_cue,
        Say::Message { .. }
        | Say::Claim
        | Say::StepDown
        | Say::Ask
        | Say::GetSong { .. }
        | Say::GetSetlist
        | Say::GetSongs
        | Say::Edit(_)
        | Say::Sync { .. }
        | Say::Chat
        | Say::PositionSync { .. }
        | Say::ClockSync
        | Say::Probe
        | Say::Heartbeat
        | Say::Quality => false,
        Say::HandTo { .. } => false,
        _ => true,
    }
}

/// The number of the message of maximum length.
pub const LONG_MESSAGE: u8 = 4;

/// Returns the message of this number, as the session keeps it.
pub fn message(number: u8) -> String {
    match number {
        0 => String::new(),
        LONG_MESSAGE => "é".repeat(500),
        number => format!("verse {number}"),
    }
}

/// Returns the leader rule of this number.
pub fn leader_rule(number: u8) -> LeaderRule {
    match number {
        0 => LeaderRule::Open,
        1 => LeaderRule::Ask,
        _ => LeaderRule::Pin,
    }
}
