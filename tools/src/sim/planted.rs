//! Bugs that were put in on purpose, to see whether the world finds them.
//!
//! The engine itself knows nothing of them but marks. A line that a bug spoils ends with
//! `// mark: some_name`; if it has no room for that, or opens a block, the mark stands on the line
//! above. A copy of the tree is made in which marked lines can go wrong, chosen by a number at run
//! time, so that all bugs take one build. Moving a function costs nothing, and a renamed identifier
//! fails a test.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fs, io};

/// A wrong version of a marked line.
pub struct Bug {
    /// Name in the mark.
    pub mark: &'static str,
    pub name: &'static str,
    /// Part of the line that is replaced; stands there once. Empty for the whole line.
    right: &'static str,
    /// Replacement, without effect where `BUG` is false. `LINE` is the whole line.
    wrong: &'static str,
}

macro_rules! bugs {
    ($($mark:ident $name:literal: $right:literal => $wrong:literal;)*) => {
        &[$(Bug { mark: stringify!($mark), name: $name, right: $right, wrong: $wrong },)*]
    };
}

/// All of them; the first has number 1. `BUG` is true for whoever sees the bug.
pub const BUGS: &[Bug] = bugs! {
    version_stays "version does not rise with a decision":
        "+= 1" => "+= u64::from(!BUG)";
    follower_may_seek "a follower may seek":
        "?;" => ".or_else(|no| if BUG { Ok(()) } else { Err(no) })?;";
    follower_may_set_tempo "anybody may set the tempo":
        "?;" => ".or_else(|no| if BUG { Ok(()) } else { Err(no) })?;";
    leaver_keeps_the_lead "the lead is kept by who left":
        ";" => " && !(BUG && on_purpose);";
    two_leaders "two members lead after a handover":
        "else {" => "else if BUG { seat.member.role } else {";
    heir_without_pin "the lead goes to a follower without the PIN":
        "self.may_lead" => "BUG || self.may_lead";
    tempo_recounts_beats "a tempo change counts the beats anew":
        "..present" => "b0: if BUG { 0 } else { present.b0 }, ..present";
    fade_jumps "a tempo fade jumps to its end":
        "if " => "if BUG || ";
    count_in_forgotten "a count-in is forgotten when planned again":
        "* BEAT" => "* if BUG { 0 } else { BEAT }";
    pause_keeps_the_plan "pause keeps what is scheduled":
        "|| " => "|| !BUG && ";
    grace_never_ends "the grace period never ends":
        ";" => ".filter(|_| !BUG);";
    grace_ends_at_once "the grace period ends at once":
        "|held| " => "|held| BUG || ";
    one_member_too_many "a full session takes one more":
        " {" => " + u32::from(BUG) {";
    any_passcode_opens "any passcode opens":
        " {" => " && !(BUG && join.passcode.is_some()) {";
    wrong_pin_from_a_seat "a wrong PIN is taken from a seat":
        " {" => " && !(BUG && is_seated) {";
    old_pin_still_good "a new PIN leaves those in who knew the old one":
        "seat.member.id == member" => "(BUG && seat.knows_pin || seat.member.id == member)";
    request_outlives_member "a request outlives its requester":
        "| requester" => "| BUG || requester";
    stale_checksum "the checksum is of the version before":
        "" => "if !(BUG && self.version() % 5 == 0) { LINE }";
    tick_after_a_late_one "the next tick is counted from a late one":
        "" =>
            "LINE\n\
             if BUG && self.tick.at().is_some() {\n\
                 let late = cx.now.at + cx.settings.tick_interval + Micros::from_micros(1);\n\
                 self.tick.set(cx.wheel, Some(late), Timer::Tick(key));\n\
             }";
    ticks_queue "ticks queue like anything else":
        "true" => "!BUG";
    position_of_before "a position is computed from the turn before":
        "now.at" => "if BUG { Micros::from_micros(now.at.as_micros() - 1) } else { now.at }";
    window_open_during_join "the window stays open while somebody joins":
        "" => "if !BUG { LINE }";
    window_loses_its_timer "the window forgets its timer":
        " {" => " && !(BUG && cx.now.at.as_micros() % 7 == 0) {";
    update_waits_like_chat "an update waits as long as chat":
        "!matches" => "!BUG && !matches";
    leaver_stays_seated "who leaves stays seated":
        "|subscriber| " => "|subscriber| BUG || ";
    empty_session_expires_early "an empty session is forgotten early":
        "if " => "if BUG || ";
    refused_joiner_has_left "who is refused has left its session":
        "" => "if BUG && let Some(held) = seat.take() { self.leave(held, member, LeaveReason::Left, cx); }\n        LINE";
    waiting_joiner_has_left "who knocks elsewhere has left its session":
        "" => "LINE\n        if BUG { self.leave_session(said.conn, LeaveReason::Left, cx); }";
    epoch_follows_wall_clock "an epoch goes back with the wall clock":
        "self.last_epoch + 1" => "if BUG { 0 } else { self.last_epoch + 1 }";
    slow_reader_stays "a slow reader is never closed":
        "" => "if !BUG { LINE }";
    silent_peer_stays "a silent peer is kept for ever":
        "if " => "if !BUG && ";
    engine_pings_too_often "pings come twice as often":
        "settings.ping_interval" =>
            "Micros::from_micros(settings.ping_interval.as_micros() / if BUG { 2 } else { 1 })";
    bytes_behind_hand_over_lost "bytes behind a hand-over are lost":
        "rest.to_vec()" => "if BUG { Vec::new() } else { rest.to_vec() }";
    acknowledged_unchecked "a command is acknowledged before it is checked":
        "" => "Err(_) if BUG => self.acknowledge(said, &Ack::Done, cx),\n            LINE";
    wheel_forgets_the_earliest "the wheel forgets the earliest when one is cancelled":
        "Earliest::Unknown" => "if BUG { Earliest::Known(None) } else { Earliest::Unknown }";
    timers_in_another_order "timers of one instant fire in another order":
        "((deadline," =>
            "((if BUG { Micros::from_micros(deadline.as_micros() + 900) } else { deadline },";
    stop_stays_there "stop stays where it was":
        "Segment { p0: 0, b0: 0, ..self.onward(self.now) }" =>
            "if BUG { self.onward(self.now) } else \
             { Segment { p0: 0, b0: 0, ..self.onward(self.now) } }";
    window_of_the_gone_kept "what was compressed is kept of who is gone":
        "" => "if !BUG { LINE }";
    one_event_too_few "who comes back is told one event too few":
        "(number)" => "(number + u64::from(BUG))";
    two_leaders_after_recovery "who comes back leads beside another":
        "self.state.leader().is_none()" => "(BUG || self.state.leader().is_none())";
    pin_known_without_showing "who comes back knows a PIN that it has not shown":
        "&= " => "&= BUG || ";
    refused_record_counts "a record that was refused counts as kept":
        "{}" => "if BUG { room.persisted.stored = Some(which) },";
    storage_return_ignored "a storage that comes back is offered nothing again":
        "" => "if !BUG { LINE }";
    stored_epoch_kept "a stored session comes back under its old epoch":
        "epoch.max(state.epoch() + 1)" =>
            "if BUG { state.epoch() } else { epoch.max(state.epoch() + 1) }";
    stored_music_stands "stored music does not go on":
        "(1_000)" => "(if BUG { 0 } else { 1_000 })";
    poll_answered_with_nothing "who polls is answered with nothing":
        "!queue.packets.is_empty()" => "(BUG || !queue.packets.is_empty())";
    report_moves_the_band "a follower's report moves the band":
        "if " => "if !BUG && ";
    clock_answers_ahead "the clock answers with a time that is still to come":
        "t2: span(at)" => "t2: span(if BUG { at + Micros::from_millis(30) } else { at })";
    arrival_after_the_end "who comes from another shard at the end is let in":
        "" => "if !BUG { LINE }";
    poller_without_goodbye "who polls is not told of the end":
        " {" => " && !BUG {";
    end_waits_for_old_record "the end waits for a record that is older":
        "if self.draining" => "if self.draining && !BUG";
    every_ping_answered "every ping of a flood is answered":
        "if " => "if BUG || ";
    report_with_every_pong "a report goes out with every pong":
        "self.pongs." => "BUG || self.pongs.";
    heartbeat_too_often "the application pings twice as often":
        "settings.heartbeat_interval" =>
            "Micros::from_micros(settings.heartbeat_interval.as_micros() / if BUG { 2 } else { 1 \
             })";
    rates_without_end "who exceeds its rates is never sent away":
        "" => "!BUG && LINE";
    log_tells_passcode "the log tells a wrong passcode":
        "?;" =>
            ".inspect_err(|_| if BUG {\n\
                 let why = format!(\"{:?}\", join.passcode.as_ref().map(|secret| &secret.0)).into();\n\
                 let manner = crate::io::report::Manner::Expelled;\n\
                 let conn = line.conn;\n\
                 cx.report.disconnects.add(crate::io::report::Disconnect { conn, peer, session: None, why, manner });\n\
             })?;";
    query_token_uncovered "a token in a query is not covered in a recording":
        "= SECRET_KEYS" => "= !BUG && SECRET_KEYS";
    passcode_uncovered "a passcode is not covered in a recording":
        "if is_key" => "if is_key && !BUG";
    nothing_told_to_all "what changes nothing is told to all":
        "if changed" => "if changed || BUG";
    nothing_unanswered "what changes nothing is not answered":
        "" => "if changed || !BUG { LINE }";
    older_value_wins "of two values that wait the older one wins":
        "if " => "if BUG || ";
    later_command_overtakes "a later command overtakes what waits":
        "" => "if !BUG { LINE }";
    late_report_undated "a report that waits is of when it is read":
        "&& " => "&& !BUG && ";
    session_opened_anywhere "a session is opened where its member arrived":
        " {" => " && !BUG {";
    unstored_session_shed "scarce memory takes what is not stored":
        "if " => "if BUG || ";
    low_memory_counts_as_out "little memory counts as none":
        "if " => "if BUG || ";
    admitted_without_memory "members are let in without memory for them":
        "if " => "if !BUG && ";
    dropped_events_unmissed "what was forgotten of a log is missed by nobody":
        "behind <= self.dropped.len()" => "(BUG || behind <= self.dropped.len())";
    repeated_command_applied "a command that is sent again is applied again":
        "if " => "if !BUG && ";
    clients_displace_others "a member's clients displace those of others":
        "oldest" => "if BUG { 0 } else { oldest }";
    only_last_command_known "of a command only the very last is known":
        "id.number <= last.number" =>
            "if BUG { id.number == last.number } else { id.number <= last.number }";
    unsent_left_behind "what is unsent does not move with a connection":
        "conn.unsent" => "if BUG { Default::default() } else { conn.unsent }";
    cut_tick_unfinished "a tick of which a part was sent is not finished":
        "self.skip == 0" => "(BUG || self.skip == 0)";
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

/// A line with a mark: the name, and the index of the line that it is about.
type Mark<'t> = (&'t str, usize);

const MARK: &str = "// mark: ";

fn marks(text: &str) -> impl Iterator<Item = Mark<'_>> {
    text.lines().enumerate().filter_map(|(at, line)| {
        let (code, mark) = line.split_once(MARK)?;
        Some((mark.trim(), at + usize::from(code.trim().is_empty())))
    })
}

/// The line without its mark.
fn code_of(line: &str) -> &str {
    line.split(MARK).next().unwrap_or(line).trim()
}

impl Bug {
    /// The line as the bug spoils it where `switch` is true, or nothing if it has changed too much.
    fn spoil(&self, line: &str, switch: &str) -> Option<String> {
        let code = code_of(line);
        let right = if self.right.is_empty() { code } else { self.right };
        let wrong = self.wrong.replace("BUG", switch).replace("LINE", code);
        (code.matches(right).count() == 1).then(|| code.replacen(right, &wrong, 1))
    }
}

/// Names that a wrong line may have although its crate has them nowhere else.
const OF_THE_LANGUAGE: [&str; 4] = ["BUG", "LINE", "inspect_err", "or_else"];

fn words(text: &str) -> BTreeSet<&str> {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').collect()
}

/// What is wrong with marks and bugs: a mark without a bug, a bug without its mark, a line that has
/// changed too much, or a name in the wrong line that its crate does not have.
///
/// `files` are paths and texts of all Rust files below `shards`.
pub fn misplaced(files: &[(String, String)]) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut seen = BTreeSet::new();
    for (path, text) in files {
        for (mark, at) in marks(text) {
            let place = format!("{path}:{}: mark {mark}", at + 1);
            let Some(bug) = BUGS.iter().find(|bug| bug.mark == mark) else {
                wrong.push(format!("{place} belongs to no bug of planted.rs"));
                continue;
            };
            if !seen.insert(mark) {
                wrong.push(format!("{place} stands twice"));
            }
            let line = text.lines().nth(at).unwrap_or_default();
            if bug.spoil(line, "BUG").is_none() {
                wrong.push(format!("{place}: the line lacks {:?}, see planted.rs", bug.right));
            }
            let krate = path.split("/src/").next().unwrap_or_default();
            let of_crate = files.iter().filter(|(path, _)| path.starts_with(krate));
            let known: BTreeSet<&str> = of_crate.flat_map(|(_, text)| words(text)).collect();
            let unknown = words(bug.wrong).into_iter().find(|word| {
                let is_name = word.starts_with(|c: char| c.is_alphabetic());
                is_name && !known.contains(word) && !OF_THE_LANGUAGE.contains(word)
            });
            if let Some(word) = unknown {
                wrong.push(format!("{place}: nothing is called {word} any more, see planted.rs"));
            }
        }
    }
    let lost = BUGS.iter().filter(|bug| !seen.contains(bug.mark));
    wrong.extend(lost.map(|bug| format!("planted.rs: no line has the mark {}", bug.mark)));
    wrong
}

/// Paths, seen from `top`, and texts of all Rust files below `shards`.
///
/// # Errors
/// If a file cannot be read.
pub fn marked_files(top: &Path) -> io::Result<Vec<(String, String)>> {
    let mut files = Vec::new();
    let mut folders = vec!["shards".to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(top.join(&folder))? {
            let entry = entry?;
            let path = format!("{folder}/{}", entry.file_name().to_string_lossy());
            if entry.file_type()?.is_dir() {
                folders.push(path);
            } else if path.ends_with(".rs") {
                let text = fs::read_to_string(entry.path())?;
                files.push((path, text));
            }
        }
    }
    files.sort();
    Ok(files)
}

/// Copies the workspace from `top` to `copy`.
///
/// # Errors
/// If files cannot be read or written.
pub fn copy_tree(top: &Path, copy: &Path) -> io::Result<()> {
    let parts = ["Cargo.toml", "Cargo.lock", "src", "shards", "tools", "perf"];
    parts.iter().try_for_each(|name| copy_all(&top.join(name), &copy.join(name)))
}

/// Copies the tree from `top` to `copy` and plants all bugs.
///
/// # Errors
/// If files cannot be read or written, or a bug has no place.
pub fn plant(top: &Path, copy: &Path) -> io::Result<()> {
    copy_tree(top, copy)?;
    let files = marked_files(top)?;
    let wrong = misplaced(&files);
    if !wrong.is_empty() {
        return Err(io::Error::other(wrong.join("\n")));
    }
    for (path, text) in files {
        let home = if path.starts_with("shards/engine/") { "crate" } else { "bandsync_engine" };
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        for (mark, at) in marks(&text) {
            let index = BUGS.iter().position(|bug| bug.mark == mark).unwrap_or_default();
            let switch = format!("{home}::planted::is({})", index + 1);
            lines[at] = BUGS[index].spoil(&lines[at], &switch).unwrap_or_default();
        }
        fs::write(copy.join(path), lines.join("\n"))?;
    }
    append(&copy.join("shards/engine/src/lib.rs"), SWITCH)?;
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
        .args(["build", "--release", "--quiet", "-p", "bandsync-tools", "--bin", "tools"])
        // It runs for a minute: linking fast is worth more than running fast.
        .args(["--config", "profile.release.lto=false", "--config", "profile.release.debug=false"])
        .env("CARGO_TARGET_DIR", target)
        .current_dir(copy)
        .status()?;
    if status.success() {
        Ok(target.join("release/tools"))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn files(text: &str) -> Vec<(String, String)> {
        vec![("shards/x/src/a.rs".to_owned(), text.to_owned())]
    }

    #[test]
    fn a_mark_is_about_its_line_or_the_next() {
        let text = "a; // mark: one\n    // mark: two\n    if b {\n";
        assert_eq!(marks(text).collect::<Vec<_>>(), [("one", 0), ("two", 2)]);
        let bug = Bug { mark: "one", name: "", right: "", wrong: "if !BUG { LINE }" };
        assert_eq!(bug.spoil("    a; // mark: one", "f()"), Some("if !f() { a; }".to_owned()));
        let bug = Bug { mark: "two", name: "", right: "if ", wrong: "if BUG || " };
        assert_eq!(bug.spoil("    if b {", "f()"), Some("if f() || b {".to_owned()));
        assert_eq!(bug.spoil("    while b {", "f()"), None);
    }

    #[test]
    fn marks_and_bugs_are_compared_both_ways() {
        let lost = BUGS.len();
        assert_eq!(misplaced(&files("")).len(), lost);
        assert_eq!(misplaced(&files("a // mark: nobody")).len(), lost + 1);
        let mark = "a += 1; // mark: version_stays\n";
        assert_eq!(misplaced(&files(&format!("{mark}fn from(u64: u8) {{}}"))).len(), lost - 1);
        assert_eq!(misplaced(&files(mark)).len(), lost, "the crate has no `from`");
        assert_eq!(misplaced(&files(&mark.replace("1", "2"))).len(), lost + 1);
    }
}
