//! Bugs that were put in on purpose, to see whether the world finds them.
//!
//! The engine itself knows nothing of them: a copy of the tree is made in which pieces of the text
//! are replaced by ones that can go wrong, chosen by a number at run time, so that all bugs take
//! one build.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fs, io};

/// A wrong version of a piece of the engine.
pub struct Bug {
    pub name: &'static str,
    /// Seen from `shards/engine/src`.
    file: &'static str,
    /// What stands there, once.
    right: &'static str,
    /// What stands there in the copy; as before where `BUG` is false.
    wrong: &'static str,
}

macro_rules! bugs {
    ($($name:literal in $file:literal: $right:literal => $wrong:literal;)*) => {
        &[$(Bug { name: $name, file: $file, right: $right, wrong: $wrong },)*]
    };
}

/// All of them; the first has number 1. `BUG` is true for whoever sees the bug.
pub const BUGS: &[Bug] = bugs! {
    "version does not rise with a decision" in "session/mod.rs":
        "self.state.timeline.version += 1;" => "self.state.timeline.version += u64::from(!BUG);";
    "a follower may seek" in "session/timeline.rs":
        "self.leader_only(member)?;\n        let at = lead(now, at);\n        let position =" =>
        "if !BUG { self.leader_only(member)?; }\n        let at = lead(now, at);\n        let position =";
    "anybody may set the tempo" in "session/timeline.rs":
        "self.leader_only(member)?;\n        let old =" => "if !BUG { self.leader_only(member)?; }\n        let old =";
    "the lead is kept by who left" in "session/members.rs":
        "let led = self.leader() == Some(member);\n        let heir" =>
        "let led = self.leader() == Some(member) && !(BUG && on_purpose);\n        let heir";
    "two members lead after a handover" in "session/roles.rs":
        "Role::Leader } else { Role::Follower };" => "Role::Leader } else if BUG { seat.member.role } else { Role::Follower };";
    "the lead goes to a follower without the PIN" in "session/roles.rs":
        "others.find(|member| self.may_lead(member.id))" => "others.find(|member| BUG || self.may_lead(member.id))";
    "a tempo change counts the beats anew" in "session/timeline.rs":
        "ramp: fade.as_micros(), ..present })" =>
        "ramp: fade.as_micros(), b0: if BUG { 0 } else { present.b0 }, ..present })";
    "a tempo fade jumps to its end" in "session/timeline.rs":
        "let bpm0 = if fade == Micros::ZERO { tempo }" => "let bpm0 = if BUG || fade == Micros::ZERO { tempo }";
    "a count-in is forgotten when planned again" in "session/timeline.rs":
        "let beats = i64::from(self.count_in) * BEAT;" =>
        "let beats = if BUG { 0 } else { i64::from(self.count_in) * BEAT };";
    "pause keeps what is scheduled" in "session/timeline.rs":
        "timeline.is_playing_at(now.at) || timeline.is_anything_scheduled(now.at);" =>
        "timeline.is_playing_at(now.at) || !BUG && timeline.is_anything_scheduled(now.at);";
    "the grace period never ends" in "session/mod.rs":
        "let grace = self.kept.map(|kept| kept.until);" => "let grace = self.kept.map(|kept| kept.until).filter(|_| !BUG);";
    "the grace period ends at once" in "session/mod.rs":
        "if self.kept.is_some_and(|kept| kept.until <= now.at) {" =>
        "if self.kept.is_some_and(|kept| BUG || kept.until <= now.at) {";
    "a full session takes one more" in "session/members.rs":
        "if self.member_count() + promised >= self.state.max_members {" =>
        "if self.member_count() + promised >= self.state.max_members + u32::from(BUG) {";
    "any passcode opens" in "session/members.rs":
        "self.state.passcode.is_some() && join.passcode != self.state.passcode {" =>
        "self.state.passcode.is_some() && join.passcode != self.state.passcode && !(BUG && join.passcode.is_some()) {";
    "a wrong PIN is taken from a seat" in "session/members.rs":
        "has_pin && join.leader_pin.is_some() && join.leader_pin != self.state.leader_pin {" =>
        "has_pin && join.leader_pin.is_some() && join.leader_pin != self.state.leader_pin && !(BUG && is_seated) {";
    "a new PIN leaves those in who knew the old one" in "session/settings.rs":
        "seat.knows_pin = state.leader_pin.is_some() && seat.member.id == member;" =>
        "seat.knows_pin = state.leader_pin.is_some() && (BUG && seat.knows_pin || seat.member.id == member);";
    "a request outlives its requester" in "session/members.rs":
        "self.requests.retain(|&requester| requester != member);" =>
        "self.requests.retain(|&requester| BUG || requester != member);";
    "the checksum is of the version before" in "session/mod.rs":
        "self.state.timeline.made_at = now.at;\n        self.sum();" =>
        "self.state.timeline.made_at = now.at;\n        if !(BUG && self.version() % 5 == 0) { self.sum(); }";
    "the next tick is counted from a late one" in "engine/room.rs":
        "self.arm_tick(key, Some(last), turn.wheel);" =>
        "self.arm_tick(key, Some(last), turn.wheel);\n        if BUG && self.tick.at().is_some() {\n            let late = turn.now.at + turn.settings.tick_interval + Micros::from_micros(1);\n            self.tick.set(turn.wheel, Some(late), Timer::Tick(key));\n        }";
    "ticks queue like anything else" in "engine/outbox.rs":
        "out.fan_out(to.filter_map(direct), true, &print);" => "out.fan_out(to.filter_map(direct), !BUG, &print);";
    "a position is computed from the turn before" in "session/mod.rs":
        "position: timeline.position_at(now.at),\n            tempo: timeline.tempo_at(now.at),\n            timestamp: now.unix,\n            epoch" =>
        "position: timeline.position_at(if BUG { Micros::from_micros(now.at.as_micros() - 1) } else { now.at }),\n            tempo: timeline.tempo_at(now.at),\n            timestamp: now.unix,\n            epoch";
    "the window stays open while somebody joins" in "engine/stage.rs":
        "room.flush(key, turn);\n            let before = room.seated();\n            let joined" =>
        "if !BUG { room.flush(key, turn); }\n            let before = room.seated();\n            let joined";
    "the window forgets its timer" in "engine/room.rs":
        "if self.window.at().is_none_or(|at| closes < at) {" =>
        "if self.window.at().is_none_or(|at| closes < at) && !(BUG && turn.now.at.as_micros() % 7 == 0) {";
    "an update waits as long as chat" in "engine/batch.rs":
        "self.hurried |= !matches!(effect, Effect::Tell(_, Notice::Chat { .. }));" =>
        "self.hurried |= !BUG && !matches!(effect, Effect::Tell(_, Notice::Chat { .. }));";
    "who leaves stays seated" in "engine/room.rs":
        "self.seats.retain(|seat| seat.member != member);" => "self.seats.retain(|seat| BUG || seat.member != member);";
    "an empty session is forgotten early" in "engine/stage.rs":
        "Some(since) if since + ttl <= now => self.remove(key, out)," =>
        "Some(since) if BUG || since + ttl <= now => self.remove(key, out),";
    "who is refused has left its session" in "engine/stage.rs":
        "self.admit(peer, member, join, seat.map(|(key, _)| key))?;" =>
        "if BUG { self.leave_session(id, LeaveReason::Left, out); }\n        self.admit(peer, member, join, seat.map(|(key, _)| key))?;";
    "who knocks elsewhere has left its session" in "engine/knock.rs":
        "self.knocks += 1;" =>
        "if BUG { self.leave_session(said.conn, LeaveReason::Left, out); }\n        self.knocks += 1;";
    "an epoch goes back with the wall clock" in "engine/stage.rs":
        ".max(self.last_epoch + 1);" => ".max(if BUG { 0 } else { self.last_epoch + 1 });";
    "a slow reader is never closed" in "engine/mod.rs":
        "if bytes > self.settings.limits.backlog_bytes_max {" => "if !BUG && bytes > self.settings.limits.backlog_bytes_max {";
    "a silent peer is kept for ever" in "engine/link.rs":
        "Ping::AnswerBy(at) if at.min(link.heard_at + settings.limits.silence_max) <= now.at => {" =>
        "Ping::AnswerBy(at) if !BUG && at.min(link.heard_at + settings.limits.silence_max) <= now.at => {";
    "pings come twice as often" in "engine/heartbeat.rs":
        "            *self = Self::DueAt(now + settings.ping_interval);" =>
        "            *self = Self::DueAt(now + Micros::from_micros(settings.ping_interval.as_micros() / if BUG { 2 } else { 1 }));";
    "bytes behind a hand-over are lost" in "engine/handover.rs":
        "rest: rest.to_vec()" => "rest: if BUG { Vec::new() } else { rest.to_vec() }";
    "a command is acknowledged before it is checked" in "engine/stage.rs":
        "Err(reject) => self.refuse(said, reject, out),\n        }\n        // After" =>
        "Err(_) if BUG => self.acknowledge(said, &Ack::Done, out),\n            Err(reject) => self.refuse(said, reject, out),\n        }\n        // After";
    "the wheel forgets the earliest when one is cancelled" in "engine/wheel.rs":
        "if self.earliest.get() == Earliest::Known(Some(deadline)) {\n                self.earliest.set(Earliest::Unknown);" =>
        "if self.earliest.get() == Earliest::Known(Some(deadline)) {\n                self.earliest.set(if BUG { Earliest::Known(None) } else { Earliest::Unknown });";
    "timers of one instant fire in another order" in "engine/wheel.rs":
        "self.near.push(Reverse((deadline, set, index)));\n            }\n            index = next;" =>
        "self.near.push(Reverse((if BUG { Micros::from_micros(deadline.as_micros() + 900) } else { deadline }, set, index)));\n            }\n            index = next;";
    "stop stays where it was" in "session/timeline.rs":
        "let still = Segment { p0: 0, b0: 0, ..self.onward(now) };" =>
        "let still = if BUG { self.onward(now) } else { Segment { p0: 0, b0: 0, ..self.onward(now) } };";
    "what was compressed is kept of who is gone" in "engine/mod.rs":
        "// At last, because its session still had something for it.\n        self.outbox.take_window(id);" =>
        "if !BUG { self.outbox.take_window(id); }";
    "who comes back is told one event too few" in "engine/recovery.rs":
        "self.told.saturating_sub(number)" => "self.told.saturating_sub(number + u64::from(BUG))";
    "who comes back leads beside another" in "session/members.rs":
        "if led && self.leader().is_none() &&" => "if led && (BUG || self.leader().is_none()) &&";
    "who comes back knows a PIN that it has not shown" in "session/members.rs":
        "seat.knows_pin &= leader_pin == self.state.leader_pin;" =>
        "seat.knows_pin &= BUG || leader_pin == self.state.leader_pin;";
    "a record that was refused counts as kept" in "engine/storage.rs":
        "Outcome::Refused => {}" => "Outcome::Refused => if BUG { room.kept.stored = Some(which) },";
    "a storage that comes back is offered nothing again" in "engine/storage.rs":
        "room.kept.stored = None;" => "if !BUG { room.kept.stored = None; }";
    "a stored session comes back under its old epoch" in "session/mod.rs":
        "state.timeline.epoch = epoch.max(state.timeline.epoch + 1);" =>
        "state.timeline.epoch = if BUG { state.timeline.epoch } else { epoch.max(state.timeline.epoch + 1) };";
    "stored music does not go on" in "session/timeline.rs":
        "let then = self.state.last_active_at + Micros::from_micros(passed.saturating_mul(1_000));" =>
        "let then = self.state.last_active_at + Micros::from_micros(if BUG { 0 } else { passed.saturating_mul(1_000) });";
    "who polls is answered with nothing" in "engine/polling.rs":
        "if !queue.packets.is_empty()\n                && let Some(waiting)" =>
        "if (BUG || !queue.packets.is_empty())\n                && let Some(waiting)";
    "a follower's report moves the band" in "session/timeline.rs":
        "if self.leader() != Some(member) {\n            if off" => "if !BUG && self.leader() != Some(member) {\n            if off";
    "the clock answers with a time that is still to come" in "wire/print.rs":
        "Self { t0: NumberView(t0), t1: span(at), t2: span(at) }" =>
        "Self { t0: NumberView(t0), t1: span(at), t2: span(if BUG { at + Micros::from_millis(30) } else { at }) }";
    "who comes from another shard at the end is let in" in "engine/handover.rs":
        "if self.draining {\n                    return self.say_goodbye(id, out);" =>
        "if self.draining && !BUG {\n                    return self.say_goodbye(id, out);";
    "who polls is not told of the end" in "engine/link.rs":
        "if connected == Some(true) {\n                self.leave_session" =>
        "if connected == Some(true) && !BUG {\n                self.leave_session";
    "the end waits for a record that is older" in "engine/storage.rs":
        "if self.draining { kept.offered == Some(newest) } else" =>
        "if self.draining && !BUG { kept.offered == Some(newest) } else";
    "every ping of a flood is answered" in "engine/link.rs":
        "if pings <= PONGS_MAX {" => "if BUG || pings <= PONGS_MAX {";
    "a report goes out with every pong" in "engine/heartbeat.rs":
        "Some((sample, self.pongs.is_multiple_of(PONGS_PER_REPORT)))" =>
        "Some((sample, BUG || self.pongs.is_multiple_of(PONGS_PER_REPORT)))";
    "the application pings twice as often" in "engine/heartbeat.rs":
        "        self.due_at = now + settings.heartbeat_interval;" =>
        "        self.due_at = now + Micros::from_micros(settings.heartbeat_interval.as_micros() / if BUG { 2 } else { 1 });";
    "who exceeds its rates is never sent away" in "engine/rate.rs":
        "refusals.push(now);\n        refusals.len() >= refusals_max as usize" =>
        "refusals.push(now);\n        !BUG && refusals.len() >= refusals_max as usize";
    "the log tells a wrong passcode" in "engine/stage.rs":
        "self.admit(peer, member, join, seat.map(|(key, _)| key))?;" =>
        "let admitted = self.admit(peer, member, join, seat.map(|(key, _)| key));\n        if BUG && admitted.is_err() { self.note_departure(id, format!(\"{:?}\", join.passcode.as_ref().map(|secret| &secret.0)).into(), true); }\n        admitted?;";
    "a token in a query is not covered in a recording" in "../../driver/src/recorder/redact.rs":
        "let is_secret = SECRET_KEYS.iter().any(|name| word.is(name));" =>
        "let is_secret = !BUG && SECRET_KEYS.iter().any(|name| word.is(name));";
    "a passcode is not covered in a recording" in "../../driver/src/recorder/redact.rs":
        "self.state = if is_key { State::Key }" => "self.state = if is_key && !BUG { State::Key }";
    "what changes nothing is told to all" in "session/mod.rs":
        "if changed { Audience::All } else" => "if changed || BUG { Audience::All } else";
    "what changes nothing is not answered" in "session/mod.rs":
        "out.extend([Effect::Tell(audience, notice), Effect::Snapshot(audience)]);" =>
        "if changed || !BUG { out.extend([Effect::Tell(audience, notice), Effect::Snapshot(audience)]); }";
    "of two values that wait the older one wins" in "engine/late.rs":
        "Some(old) if !late.0[old].gives_way_to(new.id) => Some(new)," =>
        "Some(old) if BUG || !late.0[old].gives_way_to(new.id) => Some(new),";
    "a later command overtakes what waits" in "engine/link.rs":
        "self.catch_up(said, event, out);" => "if !BUG { self.catch_up(said, event, out); }";
    "a report that waits is of when it is read" in "engine/late.rs":
        "&& self.is_playing(id)" => "&& !BUG && self.is_playing(id)";
    "a session is opened where its member arrived" in "engine/stage.rs":
        "if shard != self.settings.shard {\n                    if let Some(seat)" =>
        "if shard != self.settings.shard && !BUG {\n                    if let Some(seat)";
    "scarce memory takes what is not stored" in "engine/stage.rs":
        "if room.is_stored() {\n                    self.leave_to_storage" =>
        "if BUG || room.is_stored() {\n                    self.leave_to_storage";
    "little memory counts as none" in "engine/stage.rs":
        "} else if memory == Memory::Out\n" => "} else if BUG || memory == Memory::Out\n";
    "members are let in without memory for them" in "engine/front.rs":
        "if self.memory == Memory::Out && request" => "if !BUG && self.memory == Memory::Out && request";
    "what was forgotten of a log is missed by nobody" in "engine/recovery.rs":
        "&& behind <= self.forgotten.len()" => "&& (BUG || behind <= self.forgotten.len())";
    "a command that is sent again is applied again" in "session/mod.rs":
        "if id.is_some_and(|id| self.applied.has(id)) {" => "if !BUG && id.is_some_and(|id| self.applied.has(id)) {";
    "a member's clients displace those of others" in "session/applied.rs":
        "all.remove(oldest);" => "all.remove(if BUG { 0 } else { oldest });";
    "of a command only the very last is known" in "session/applied.rs":
        "id.number <= last.number" => "if BUG { id.number == last.number } else { id.number <= last.number }";
};

/// Stands in the copied engine: the number of the bug that this thread is to see.
const SWITCH: &str = "
/// Which planted bug this thread sees.
pub mod planted {
    thread_local! { static NUMBER: std::cell::Cell<usize> = const { std::cell::Cell::new(0) }; }
    /// Chooses it; 0 is none.
    pub fn choose(number: usize) {
        NUMBER.with(|cell| cell.set(number));
    }
    /// Whether it is this one.
    #[inline]
    pub fn is(number: usize) -> bool {
        NUMBER.with(|cell| cell.get() == number)
    }
}
";

/// Has this thread see a bug. Only the copied tree has any; there this line is replaced.
pub fn choose(number: usize) {
    assert_eq!(number, 0, "there are no planted bugs in this build: use --planted");
}

/// The top of the tree that this was built from.
pub fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The bugs whose text does not stand in its file exactly once, because the engine has changed.
///
/// # Errors
/// If a file cannot be read.
pub fn misplaced(top: &Path) -> io::Result<Vec<&'static str>> {
    let mut missing = Vec::new();
    for bug in BUGS {
        let text = fs::read_to_string(top.join("shards/engine/src").join(bug.file))?;
        if text.matches(bug.right).count() != 1 {
            missing.push(bug.name);
        }
    }
    Ok(missing)
}

/// Copies the tree from `top` to `copy` and plants all bugs that have a place.
///
/// # Errors
/// If files cannot be read or written.
pub fn plant(top: &Path, copy: &Path) -> io::Result<()> {
    for name in ["Cargo.toml", "Cargo.lock", "src", "shards", "tools", "perf"] {
        copy_all(&top.join(name), &copy.join(name))?;
    }
    let missing = misplaced(top)?;
    let engine = copy.join("shards/engine/src");
    for (index, bug) in BUGS.iter().enumerate().filter(|(_, bug)| !missing.contains(&bug.name)) {
        let path = engine.join(bug.file);
        let text = fs::read_to_string(&path)?;
        let home = if bug.file.starts_with("..") { "bandsync_engine" } else { "crate" };
        let switched = bug.wrong.replace("BUG", &format!("{home}::planted::is({})", index + 1));
        fs::write(&path, text.replacen(bug.right, &switched, 1))?;
    }
    append(&engine.join("lib.rs"), SWITCH)?;
    let this = copy.join("tools/src/sim/planted.rs");
    let text = fs::read_to_string(&this)?;
    let own = "assert_eq!(number, 0, \"there are no planted bugs in this build: use --planted\");";
    fs::write(&this, text.replacen(own, "bandsync_engine::planted::choose(number);", 1))
}

/// Returns cargo's folder: `CARGO_TARGET_DIR`, or `target` at the top where it is unset or empty.
pub fn target(top: &Path) -> PathBuf {
    let folder = std::env::var_os("CARGO_TARGET_DIR").filter(|folder| !folder.is_empty());
    top.join(folder.unwrap_or_else(|| "target".into()))
}

/// Builds the copy and gives the path of its simulator.
///
/// # Errors
/// If there is no cargo, or the copy does not build.
pub fn build(copy: &Path, target: &Path) -> io::Result<PathBuf> {
    let status = Command::new("cargo")
        .args(["build", "--release", "--quiet", "-p", "bandsync-tools", "--bin", "simulate"])
        // It runs for a minute: linking fast is worth more than running fast.
        .args(["--config", "profile.release.lto=false", "--config", "profile.release.debug=false"])
        .env("CARGO_TARGET_DIR", target)
        .current_dir(copy)
        .status()?;
    if status.success() {
        Ok(target.join("release/simulate"))
    } else {
        Err(io::Error::other("the copy with the planted bugs does not build"))
    }
}

fn append(path: &Path, text: &str) -> io::Result<()> {
    let before = fs::read_to_string(path)?;
    fs::write(path, before + text)
}

fn copy_all(from: &Path, to: &Path) -> io::Result<()> {
    if from.is_file() {
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent)?;
        }
        return fs::copy(from, to).map(|_| ());
    }
    for entry in fs::read_dir(from)? {
        let name = entry?.file_name();
        if name != "target" && name != "node_modules" {
            copy_all(&from.join(&name), &to.join(&name))?;
        }
    }
    Ok(())
}
