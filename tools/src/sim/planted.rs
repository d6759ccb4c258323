//! Planted bugs: mistakes that are made on purpose, to see whether the worlds find them.
//!
//! The code itself has only marks. A line that a bug spoils ends with `// mark: some_name`; if it
//! has no room for that, or opens a block, the mark is on the line above. The bugs are planted in a
//! copy of the tree, in which a number chooses one of them at run time, so that all bugs take one
//! build. A function can be moved freely; an identifier that a bug needs cannot be renamed without
//! failing a test.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fs, io};

use super::plan::Plan;

/// A wrong version of a marked line.
pub struct Bug {
    /// The name in the mark.
    pub mark: &'static str,
    pub name: &'static str,
    /// The part of the line that is replaced, and that occurs once in it. Empty for the whole line.
    right: &'static str,
    /// The replacement, which has no effect if `BUG` is false. `LINE` is the whole line.
    wrong: &'static str,
}

macro_rules! bugs {
    ($($mark:ident $name:literal: $right:literal => $wrong:literal;)*) => {
        &[$(Bug { mark: stringify!($mark), name: $name, right: $right, wrong: $wrong },)*]
    };
}

/// All bugs. The first has number 1. `BUG` is true on a thread that has chosen the bug.
pub const BUGS: &[Bug] = bugs! {
    version_stays "version does not rise with a decision":
        "+= 1" => "+= u64::from(!BUG)";
    follower_may_seek "a follower may seek":
        "?;" => ".or_else(|no| if BUG { Ok(()) } else { Err(no) })?;";
    follower_may_set_tempo "a follower may set the tempo":
        "?;" => ".or_else(|no| if BUG { Ok(()) } else { Err(no) })?;";
    leaver_keeps_the_lead "a member that left keeps the lead":
        ";" => " && !(BUG && on_purpose);";
    two_leaders "two members lead after a handover":
        "else {" => "else if BUG { seat.member.role } else {";
    heir_without_pin "the lead goes to a follower without the PIN":
        "self.may_lead" => "BUG || self.may_lead";
    tempo_recounts_beats "a tempo change restarts the beat count":
        "..present" => "b0: if BUG { 0 } else { present.b0 }, ..present";
    fade_jumps "a tempo fade jumps to its end":
        "if " => "if BUG || ";
    count_in_forgotten "a count-in is dropped when a start is planned again":
        "start - segment.b0" => "if BUG { 0 } else { start - segment.b0 }";
    pause_keeps_the_plan "pause keeps the schedule":
        "|| " => "|| !BUG && ";
    grace_never_ends "the grace period never ends":
        ";" => ".filter(|_| !BUG);";
    grace_ends_at_once "the grace period ends at once":
        "|held| " => "|held| BUG || ";
    one_member_too_many "a full session admits one more member":
        " {" => " + u32::from(BUG) {";
    any_passcode_opens "any passcode is accepted":
        " {" => " && !(BUG && join.passcode.is_some()) {";
    wrong_pin_from_a_seat "a seated member shows a wrong PIN and is accepted":
        " {" => " && !(BUG && !is_asked) {";
    old_pin_still_good "the old PIN still counts after a new one is set":
        "seat.member.id == member" => "(BUG && seat.knows_pin || seat.member.id == member)";
    request_outlives_member "a request outlives its requester":
        "| requester" => "| BUG || requester";
    stale_checksum "the checksum is that of the previous version":
        "" => "if !(BUG && self.version() % 5 == 0) { LINE }";
    tick_after_a_late_one "the next tick is counted from a late one":
        "" =>
            "LINE\n\
             if BUG && self.tick.at().is_some() {\n\
                 let late = cx.now.at + cx.settings.tick_interval + Micros::from_micros(1);\n\
                 self.tick.set(cx.wheel, Some(late), Timer::Tick(key));\n\
             }";
    ticks_queue "ticks queue like other events":
        "true" => "!BUG";
    position_of_before "a position is computed 1 µs early":
        "now.at" => "if BUG { Micros::from_micros(now.at.as_micros() - 1) } else { now.at }";
    window_open_during_join "the window stays open during a join":
        "" => "if !BUG { LINE }";
    window_loses_its_timer "the window loses its timer":
        " {" => " && !(BUG && cx.now.at.as_micros() % 7 == 0) {";
    update_waits_like_chat "an update waits as long as chat":
        "!matches" => "!BUG && !matches";
    leaver_stays_seated "a member that leaves keeps its subscription":
        "|subscriber| " => "|subscriber| BUG || ";
    empty_session_expires_early "an empty session expires early":
        "if " => "if BUG || ";
    refused_joiner_has_left "a rejected joiner has left its session":
        "" => "if BUG && let Some(held) = seat.take() { self.leave(held, member, LeaveReason::Left, cx); }\n        LINE";
    waiting_joiner_has_left "a joiner that awaits admission has left its session":
        "" => "LINE\n        if BUG { self.leave_session(to.client, LeaveReason::Left, cx); }";
    epoch_follows_wall_clock "an epoch goes back with the wall clock":
        "self.last_epoch + 1" => "if BUG { 0 } else { self.last_epoch + 1 }";
    crowd_left_behind "a connection that leaves loses what waits for its slice":
        "" => "if !BUG { LINE }";
    crowd_follows_the_slot "a message to a crowd waits for the next connection of a slot":
        "" => "if !BUG { LINE }";
    crowd_overtaken "a message overtakes those that wait for their slice":
        "" => "if !BUG { LINE }";
    crowd_misses_its_last "a message to a crowd is dropped before its last slice":
        "> 0" => "> usize::from(BUG)";
    slow_reader_stays "a slow reader is never closed":
        "" => "if !BUG { LINE }";
    silent_peer_stays "a silent peer is never closed":
        "if " => "if !BUG && ";
    engine_pings_too_often "Engine.IO pings are sent twice as often":
        "settings.ping_interval" =>
            "Micros::from_micros(settings.ping_interval.as_micros() / if BUG { 2 } else { 1 })";
    bytes_behind_hand_over_lost "unread bytes are lost in a hand-over":
        "rest.to_vec()" => "if BUG { Vec::new() } else { rest.to_vec() }";
    acknowledged_unchecked "a command is acknowledged before it is checked":
        "" => "Err(_) if BUG => self.acknowledge(to, &Ack::Done, session, cx),\n            LINE";
    wheel_forgets_the_earliest "a cancelled timer takes the earliest one with it":
        "Earliest::Unknown" => "if BUG { Earliest::Known(None) } else { Earliest::Unknown }";
    timers_in_another_order "timers with equal deadlines fire in another order":
        "((deadline," =>
            "((if BUG { Micros::from_micros(deadline.as_micros() + 900) } else { deadline },";
    stop_stays_there "stop keeps the position":
        "(0, 0, None)" => "if BUG { (still.p0, still.b0, None) } else { (0, 0, None) }";
    window_of_the_gone_kept "the window of a closed connection is kept":
        "" => "if !BUG { LINE }";
    one_event_too_few "a returning member misses one event":
        "(number)" => "(number + u64::from(BUG))";
    two_leaders_after_recovery "a returning leader leads beside another":
        "self.state.leader().is_none()" => "(BUG || self.state.leader().is_none())";
    pin_known_without_showing "a returning member knows a PIN that it has not shown":
        "&= " => "&= BUG || ";
    refused_record_counts "a rejected record counts as stored":
        "{}" => "if BUG { room.persisted.stored = Some(which); room.persisted.token_changes = room.session.state().tokens.changes() },";
    storage_return_ignored "nothing is stored again after the storage returns":
        "" => "if !BUG { LINE }";
    stored_epoch_kept "a loaded session keeps its old epoch":
        "epoch.max(state.epoch() + 1)" =>
            "if BUG { state.epoch() } else { epoch.max(state.epoch() + 1) }";
    stored_music_stands "loaded music does not continue":
        "(1_000)" => "(if BUG { 0 } else { 1_000 })";
    poll_answered_with_nothing "a poll is answered without packets":
        "!queue.packets.is_empty()" => "(BUG || !queue.packets.is_empty())";
    report_moves_the_band "a follower's report moves the band":
        "if " => "if !BUG && ";
    clock_answers_ahead "the clock answers with a future time":
        "t1: span(at)" => "t1: span(if BUG { at + Micros::from_millis(30) } else { at })";
    arrival_after_the_end "a connection handed over in a drain is admitted":
        "" => "if !BUG { LINE }";
    poller_without_goodbye "a polling client receives no goodbye":
        " {" => " && !BUG {";
    end_waits_for_old_record "the drain waits for an outdated record":
        "if self.draining" => "if self.draining && !BUG";
    every_ping_answered "every ping of a flood is answered":
        "if " => "if BUG || ";
    report_with_every_pong "a report is sent for every pong":
        "self.pongs." => "BUG || self.pongs.";
    heartbeat_too_often "heartbeat events are sent twice as often":
        "settings.heartbeat_interval" =>
            "Micros::from_micros(settings.heartbeat_interval.as_micros() / if BUG { 2 } else { 1 \
             })";
    rates_without_end "a client that exceeds its rates is never closed":
        "" => "!BUG && LINE";
    log_tells_passcode "the log reveals a wrong passcode":
        "?;" =>
            ".inspect_err(|_| if BUG && let Way::Here(route) = way {\n\
                 let why = format!(\"{:?}\", join.passcode.as_ref().map(|secret| &secret.0)).into();\n\
                 let manner = crate::io::report::Manner::ByServer;\n\
                 let conn = route.conn;\n\
                 cx.report.disconnects.add(crate::io::report::Disconnect { conn, peer, session: None, why, manner });\n\
             })?;";
    query_token_uncovered "a token in a query is not covered in a recording":
        "= SECRET_KEYS" => "= !BUG && SECRET_KEYS";
    passcode_uncovered "a passcode is not covered in a recording":
        "if is_key" => "if is_key && !BUG";
    nothing_told_to_all "a command without effect is sent to all members":
        "if changed" => "if changed || BUG";
    nothing_unanswered "a command without effect is not answered":
        "" => "if changed || !BUG { LINE }";
    older_value_wins "of two waiting values the older one wins":
        "if " => "if BUG || ";
    later_command_overtakes "a later command overtakes a waiting value":
        "" => "if !BUG { LINE }";
    late_report_undated "a waiting report counts from when it is applied":
        "&& " => "&& !BUG && ";
    session_opened_anywhere "a session is opened on its member's shard":
        " {" => " && !BUG {";
    unstored_session_shed "scarce memory drops sessions that are not stored":
        "if " => "if BUG || ";
    low_memory_counts_as_out "little memory counts as none":
        "if " => "if BUG || ";
    admitted_without_memory "members are admitted without memory":
        "if " => "if !BUG && ";
    dropped_events_unmissed "dropped events of a log count as delivered":
        "behind <= self.dropped.len()" => "(BUG || behind <= self.dropped.len())";
    repeated_command_applied "a repeated command is applied again":
        "if " => "if !BUG && ";
    late_command_applied "a command is applied after its time":
        " {" => ".filter(|_| !BUG) {";
    late_before_role "a late command of a follower is rejected as late":
        "?;" => ".or_else(|no| if BUG { Ok(()) } else { Err(no) })?;";
    token_survives_passcode_change "a token survives a new passcode":
        "" => "if !BUG { LINE }";
    token_asks_passcode "a member with its token is asked for the passcode":
        "holder.is_none()" => "(BUG || holder.is_none())";
    free_lead_untaken "a member that comes back does not take a free lead":
        "if " => "if !BUG && ";
    left_member_comes_back "a token is not forgotten when its member leaves":
        "self.record.tokens.forget(member)" => "if BUG { self.record.tokens.remember(seat, now.unix) } else { self.record.tokens.forget(member) }";
    pid_outlives_its_seat "a recovery token outlives its seat":
        "" => "if !BUG { LINE }";
    replaced_client_keeps_its_seat "a replaced client keeps its seat":
        "" => "if !BUG { LINE }";
    clients_displace_others "a member's clients displace those of others":
        "oldest" => "if BUG { 0 } else { oldest }";
    only_last_command_known "only the last command of a client is known":
        "id.number <= last.number" =>
            "if BUG { id.number == last.number } else { id.number <= last.number }";
    edit_overwrites_another "an edit overwrites that of another member":
        "if " => "if !BUG && ";
    revision_stays "an edit does not raise the revision":
        "+ 1" => "+ u64::from(!BUG || self.base.is_none())";
    shift_leaves_loop "an edited chart moves the place, but not the loop":
        "present.looped.map(moved_loop)" =>
            "if BUG { present.looped } else { present.looped.map(moved_loop) }";
    screen_takes_a_seat "a screen counts as a member":
        "reserved)" => "reserved + if BUG { (room.occupants() - room.seated()) as u32 } else { 0 })";
    screen_commands "a screen may send commands":
        "if room.is_screen" => "if !BUG && room.is_screen";
    anyone_edits "a member without the right edits the set list":
        "if is_editor" => "if is_editor || BUG";
    unsent_left_behind "unsent bytes do not move with a connection":
        "conn.unsent" => "if BUG { Default::default() } else { conn.unsent }";
    end_unread "an end that arrives with bytes is not read":
        "!hangup" => "(BUG || !hangup)";
    room_unused "a socket that takes bytes again is not used":
        "if writable" => "if !BUG && writable";
    closed_before_sent "a connection closes before all is sent":
        "if " => "if !BUG && ";
    backlog_understated "a backlog is understated":
        "as u32" => "as u32 / if BUG { 8 } else { 1 }";
    stored_epoch_unnoted "a new session gets an epoch below that of a loaded one":
        "" => "if !BUG { LINE }";
    samples_before_a_step_kept "a member's clock keeps answers from before a step":
        "" => "if !BUG { LINE }";
    bound_trusts_the_line "the bound of a member's clock trusts the fitted line":
        "self.limits.max_skew" => "if BUG { line.slope_sd } else { self.limits.max_skew }";
    cut_tick_unfinished "a partly sent tick is not finished":
        "self.skip == 0" => "(BUG || self.skip == 0)";
    jump_forgotten_at_loop_end "a jump armed behind the end of a loop is not moved to it":
        ".min(looped.to)" => ".min(if BUG { i64::MAX } else { looped.to })";
    released_loop_counts_on "a released loop is not folded":
        "= beat" => "= if BUG { count } else { beat }";
    armed_begins_unnamed "an armed change begins without its event":
        ";" => ".filter(|_| !BUG);";
    seek_keeps_the_jump "a seek keeps an armed jump":
        "false" => "BUG";
};

/// Code of the copied engine that holds the number of the bug that a thread has chosen.
const SWITCH: &str = "
/// The planted bug that this thread has chosen.
pub mod planted {
    thread_local! { static NUMBER: std::cell::Cell<usize> = const { std::cell::Cell::new(0) }; }
    /// Chooses a bug. 0 means none.
    pub fn choose(number: usize) {
        NUMBER.with(|cell| cell.set(number));
    }
    /// Whether this bug is chosen.
    #[inline]
    pub fn is(number: usize) -> bool {
        NUMBER.with(|cell| cell.get() == number)
    }
}
";

/// Chooses a bug for this thread. Only the copied tree has bugs; there the line below is replaced.
pub fn choose(number: usize) {
    assert_eq!(number, 0, "there are no planted bugs in this build: use --planted");
}

/// Returns the number of the bug with this mark.
pub fn number(mark: &str) -> Option<usize> {
    BUGS.iter().position(|bug| bug.mark == mark).map(|index| index + 1)
}

/// Returns the kept plans and their paths, in order of their names.
///
/// # Errors
/// If a plan cannot be read.
pub fn kept_plans(top: &Path) -> io::Result<Vec<(PathBuf, Plan)>> {
    let mut paths: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(top.join("tests/traces"))? {
        paths.push(entry?.path());
    }
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    paths.sort();
    let read = |path: PathBuf| {
        let plan = serde_json::from_str(&fs::read_to_string(&path)?)?;
        Ok((path, plan))
    };
    paths.into_iter().map(read).collect()
}

/// Returns the top of the tree from which this program was built.
pub fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A mark: its name, and the index of the marked line.
type Mark<'t> = (&'t str, usize);

const MARK: &str = "// mark: ";

/// This file, whose marks are examples.
const OWN: &str = "tools/src/sim/planted.rs";

fn marks(text: &str) -> impl Iterator<Item = Mark<'_>> {
    text.lines().enumerate().filter_map(|(at, line)| {
        let (code, mark) = line.split_once(MARK)?;
        Some((mark.trim(), at + usize::from(code.trim().is_empty())))
    })
}

/// Returns the line without its mark.
fn code_of(line: &str) -> &str {
    line.split(MARK).next().unwrap_or(line).trim()
}

impl Bug {
    /// Returns the line as the bug spoils it if `switch` is true, or `None` if the line has changed
    /// too much.
    fn spoil(&self, line: &str, switch: &str) -> Option<String> {
        let code = code_of(line);
        let right = if self.right.is_empty() { code } else { self.right };
        let wrong = self.wrong.replace("BUG", switch).replace("LINE", code);
        (code.matches(right).count() == 1).then(|| code.replacen(right, &wrong, 1))
    }
}

/// Names that a wrong line may contain although no other line of its crate does.
const OF_THE_LANGUAGE: [&str; 4] = ["BUG", "LINE", "inspect_err", "or_else"];

fn words(text: &str) -> BTreeSet<&str> {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').collect()
}

/// Returns errors in marks and bugs: a mark without a bug, a bug without its mark, a line that has
/// changed too much, or a name in a wrong line that its crate does not have.
///
/// `files` are paths and texts of all Rust files that may have marks.
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
                wrong.push(format!("{place} is there twice"));
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
                wrong.push(format!("{place}: no name is {word}, see planted.rs"));
            }
        }
    }
    let lost = BUGS.iter().filter(|bug| !seen.contains(bug.mark));
    wrong.extend(lost.map(|bug| format!("planted.rs: no line has the mark {}", bug.mark)));
    wrong
}

/// Paths, seen from `top`, and texts of all Rust files that may have marks.
///
/// # Errors
/// If a file cannot be read.
pub fn marked_files(top: &Path) -> io::Result<Vec<(String, String)>> {
    let mut files = Vec::new();
    let mut folders = vec!["shards".to_owned(), "tools/src/sim".to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(top.join(&folder))? {
            let entry = entry?;
            let path = format!("{folder}/{}", entry.file_name().to_string_lossy());
            if entry.file_type()?.is_dir() {
                folders.push(path);
            } else if path.ends_with(".rs") && path != OWN {
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
    let this = copy.join(OWN);
    let text = fs::read_to_string(&this)?;
    let own = "assert_eq!(number, 0, \"there are no planted bugs in this build: use --planted\");";
    fs::write(&this, text.replacen(own, "bandsync_engine::planted::choose(number);", 1))
}

/// Returns cargo's folder: `CARGO_TARGET_DIR`, or `target` at the top if it is unset or empty.
pub fn target(top: &Path) -> PathBuf {
    let folder = std::env::var_os("CARGO_TARGET_DIR").filter(|folder| !folder.is_empty());
    top.join(folder.unwrap_or_else(|| "target".into()))
}

/// Builds the copy, and returns the path of its simulator.
///
/// # Errors
/// If there is no cargo, or the copy does not build.
pub fn build(copy: &Path, target: &Path) -> io::Result<PathBuf> {
    let status = Command::new("cargo")
        .args(["build", "--release", "--quiet", "-p", "bandsync-tools", "--bin", "tools"])
        // The program runs for a minute, so fast linking matters more than fast code.
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
    fn a_mark_refers_to_its_line_or_the_next() {
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
