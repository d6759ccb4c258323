//! A new event of clients takes one entry in the table of events, one arm in the session's
//! dispatch with the command that it matches, and one method. This adds `rewind` to a copy of the
//! tree and has the copy's own tests use it.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::process::Command;

use bandsync_tools::sim::planted;

/// The entry: from it come the names, the reader, the rate and the description.
const ENTRY: Edit = Edit {
    file: "shards/engine/src/wire/events.rs",
    before: "    Stop = \"stop\" [Other, once, timed],",
    text: r#"    Rewind = "rewind" [Other, once],
        "Goes back to the beginning, and plays on from there if the song plays.",
        in_session { at = "atServerMs": optional(SERVER_MS), } => SessionCommand::Rewind { at },
        CHANGED, LEADER;
"#,
};

/// The arm, and the command that it matches.
const COMMAND: Edit = Edit {
    file: "shards/engine/src/speech/command.rs",
    before: "    /// `stop`: pause and back to the beginning.",
    text: "    /// `rewind`.\n    Rewind {\n        /// The time of the change; at once if `None`.\n        \
           at: Option<Micros>,\n    },\n",
};
const ARM: Edit = Edit {
    file: "shards/engine/src/session/mod.rs",
    before: "            SessionCommand::Stop => ",
    text: "            SessionCommand::Rewind { at } => {\n                \
           self.playback.rewind(&mut self.state, now, member, at, out)\n            }\n",
};

/// The method.
const METHOD: Edit = Edit {
    file: "shards/engine/src/session/playback.rs",
    before: "    /// Handles `stop`: pauses at the beginning.",
    text: r"    /// Handles `rewind`: seeks to the beginning; the music plays on.
    pub fn rewind(
        &mut self,
        state: &mut State,
        now: Moment,
        member: MemberId,
        at: Option<Micros>,
        out: &mut Vec<Effect>,
    ) -> Result<Ack, Reject> {
        let start = Target::Position(crate::words::music::Position::START);
        self.seek(state, now, member, (start, at.map_or(When::Now, When::At)), out)
    }

",
};

/// A test in the copy: what follows from the four edits, from the table to the other members.
const TEST: Edit = Edit {
    file: "shards/testkit/src/harness.rs",
    before: "    #[test]\n    fn time_passes_in_turns() {",
    text: r##"    #[test]
    fn the_new_event_works() {
        use bandsync_engine::wire::events::{ClientEvent, EVENTS};
        let event = ClientEvent::from_name("rewind").unwrap();
        let info = EVENTS.iter().find(|info| info.event == event).unwrap();
        let names: Vec<_> = info.fields.iter().map(|field| field.name).collect();
        assert_eq!((event.name(), names), ("rewind", vec!["sessionId", "atServerMs"]));
        assert!(event.is_applied_once() && event.is_command());

        let mut harness = Harness::new(&Settings::default(), |_| Sent::default());
        let handshake = frames::handshake("band", false);
        let [leader, member] = [0, 0].map(|shard| harness.connect(shard, &handshake));
        for client in [leader, member] {
            harness.say(client, r#"42["join_session",{"sessionId":"s"}]"#);
        }
        harness.say(leader, r#"42["seek",{"sessionId":"s","position":5000}]"#);
        harness.pass(Micros::from_secs(1));
        for (client, packet, answer) in [
            (leader, r#"421["rewind",{"sessionId":"s"}]"#, r#"431[{"ok":true,"epoch":"#),
            (leader, r#"422["rewind",{"sessionId":"s","atServerMs":"now"}]"#, r#""field":"atServerMs""#),
            (member, r#"423["rewind",{"sessionId":"s"}]"#, r#""code":"not_leader""#),
        ] {
            harness.say(client, packet);
            harness.turn();
            let (shard, conn) = harness.place(client);
            let sent = String::from_utf8_lossy(&harness.tap(shard).0[&conn]).into_owned();
            assert!(sent.contains(answer), "{answer} is not in {sent}");
        }
        harness.pass(Micros::from_secs(1));
        let (shard, conn) = harness.place(member);
        let sent = String::from_utf8_lossy(&harness.tap(shard).0[&conn]).into_owned();
        assert!(sent.rfind(r#""position":0"#) > sent.rfind(r#""position":5000"#), "{sent}");
    }

"##,
};

/// A text that goes in front of another one, which must be there once.
struct Edit {
    file: &'static str,
    before: &'static str,
    text: &'static str,
}

impl Edit {
    fn apply(&self, tree: &Path) {
        let path = tree.join(self.file);
        let old = fs::read_to_string(&path).unwrap();
        assert_eq!(old.matches(self.before).count(), 1, "{:?} in {}", self.before, self.file);
        fs::write(&path, old.replacen(self.before, &[self.text, self.before].concat(), 1)).unwrap();
    }
}

#[test]
fn a_new_event_is_one_entry_one_arm_and_one_method() {
    let top = planted::top();
    let copy = Path::new(env!("CARGO_TARGET_TMPDIR")).join("new-event");
    let _ = fs::remove_dir_all(&copy);
    planted::copy_tree(&top, &copy).unwrap();
    for edit in [ENTRY, COMMAND, ARM, METHOD, TEST] {
        edit.apply(&copy);
    }
    let output = Command::new(env!("CARGO"))
        .args(["test", "--quiet", "-p", "bandsync-testkit", "--lib", "the_new_event_works"])
        .env("CARGO_TARGET_DIR", planted::target(&top))
        .current_dir(&copy)
        .output()
        .unwrap();
    let printed = [output.stdout, output.stderr].concat();
    let printed = String::from_utf8_lossy(&printed);
    assert!(output.status.success() && printed.contains("1 passed"), "{printed}");
    fs::remove_dir_all(&copy).unwrap();
}
