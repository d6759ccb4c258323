//! Playback commands, and the position that follows from them.

use super::*;

#[test]
fn play_while_playing_changes_nothing() {
    check(
        "a joins
         a play
         +1000
         a play
         a play in=500 bar
         +1000
         a pause",
        "a joins: Leader v1 | a <- snapshot | all <- joined a Leader 1 | stats
         a play: v2 | all <- play 0 120 at 0 | all <- snapshot
         a play: v2 | only a <- play 1000 120 at 1000 | only a <- snapshot
         a play in=500 bar: v2 | only a <- play 1000 120 at 1000 | only a <- snapshot
         a pause: v3 | all <- pause 2000 | all <- snapshot",
    );
}

#[test]
fn a_seek_continues_from_its_position() {
    check(
        "a joins
         a play
         +1000
         a seek 60000
         +500
         a seek 30000 in=1000
         a sync
         +1000
         a sync
         a pause
         a seek 1000
         a seek 1000",
        "a joins: Leader v1 | a <- snapshot | all <- joined a Leader 1 | stats
         a play: v2 | all <- play 0 120 at 0 | all <- snapshot
         a seek 60000: v3 | all <- seek 60000 at 1000 | all <- snapshot
         a seek 30000 in=1000: v4 | all <- seek 30000 at 2500 | all <- snapshot
         a sync: 60500 | a <- sync 60500
         +2500: all <- snapshot | stats
         a sync: 30000 | a <- sync 30000
         a pause: v5 | all <- pause 30000 | all <- snapshot
         a seek 1000: v6 | all <- seek 1000 at 2500 | all <- snapshot
         a seek 1000: v6 | only a <- seek 1000 at 2500 | only a <- snapshot",
    );
}

#[test]
fn a_start_is_scheduled_and_counted_in() {
    check(
        "a joins metronome
         b joins
         a play in=500 bars=1
         a play in=500 bars=1
         +3000
         a pause",
        "a joins metronome: Leader v1 | a <- snapshot | all <- joined a Leader 1 | stats
         b joins: Follower v1 | b <- snapshot | all <- joined b Follower 2 | stats
         a play in=500 bars=1: v2 | all <- play -2000 120 at 500 | all <- snapshot
         a play in=500 bars=1: v2 | only a <- play -2000 120 at 500 | only a <- snapshot
         +300: listeners <- beat 0.1 at 500
         +500: all <- snapshot | stats
         +800: listeners <- beat 0.2 at 1000
         +1300: listeners <- beat 0.3 at 1500
         +1800: listeners <- beat 0.4 at 2000
         +2300: listeners <- beat 1.1 at 2500
         +2800: listeners <- beat 1.2 at 3000
         a pause: v3 | all <- pause 500 | all <- snapshot",
    );
}

#[test]
fn a_scheduled_start_is_adjusted_to_a_new_tempo_and_position() {
    check(
        "a joins
         a play in=2000 bars=1
         a set_tempo 60
         a seek 8000
         +2000
         a sync
         +4000
         a sync",
        "a joins: Leader v1 | a <- snapshot | all <- joined a Leader 1 | stats
         a play in=2000 bars=1: v2 | all <- play -2000 120 at 2000 | all <- snapshot
         a set_tempo 60: v3 | all <- tempo 120 to 60 in 0 | all <- snapshot
         a seek 8000: v4 | all <- seek 8000 at 0 | all <- snapshot
         +2000: all <- snapshot | stats
         a sync: 4000 | a <- sync 4000
         a sync: 8000 | a <- sync 8000",
    );
}

#[test]
fn a_start_can_be_cancelled_or_brought_forward() {
    check(
        "a joins
         a play in=5000
         a pause
         a play in=5000
         a play
         +1000
         a stop
         a play in=99999
         +29999
         +1",
        "a joins: Leader v1 | a <- snapshot | all <- joined a Leader 1 | stats
         a play in=5000: v2 | all <- play 0 120 at 5000 | all <- snapshot
         a pause: v3 | all <- pause 0 | all <- snapshot
         a play in=5000: v4 | all <- play 0 120 at 5000 | all <- snapshot
         a play: v5 | all <- play 0 120 at 0 | all <- snapshot
         a stop: v6 | all <- stop | all <- snapshot
         a play in=99999: v7 | all <- play 0 120 at 31000 | all <- snapshot
         +31000: all <- snapshot | stats",
    );
}

#[test]
fn a_quantized_start_moves_back_to_its_bar_or_beat() {
    check(
        "a joins
         a seek 7300
         a play bar
         a stop
         a seek 7300
         a play beat in=100",
        "a joins: Leader v1 | a <- snapshot | all <- joined a Leader 1 | stats
         a seek 7300: v2 | all <- seek 7300 at 0 | all <- snapshot
         a play bar: v3 | all <- play 6000 120 at 0 | all <- snapshot
         a stop: v4 | all <- stop | all <- snapshot
         a seek 7300: v5 | all <- seek 7300 at 0 | all <- snapshot
         a play beat in=100: v6 | all <- play 7000 120 at 100 | all <- snapshot",
    );
}

#[test]
fn a_tempo_change_continues_from_the_current_beat() {
    check(
        "a joins
         a set_tempo 100
         a set_tempo 100
         a play
         +1000
         a tempo 200 fade=2000
         +1000
         a set_tempo 150
         a tempo 90
         a pause
         a tempo 120 fade=5000",
        "a joins: Leader v1 | a <- snapshot | all <- joined a Leader 1 | stats
         a set_tempo 100: v2 | all <- tempo 120 to 100 in 0 | all <- snapshot
         a set_tempo 100: v2 | only a <- tempo 100 to 100 in 0 | only a <- snapshot
         a play: v3 | all <- play 0 100 at 0 | all <- snapshot
         a tempo 200 fade=2000: v4 | all <- tempo 100 to 200 in 2000 | all <- snapshot
         a set_tempo 150: v5 | all <- tempo 150 to 150 in 0 | all <- snapshot
         a tempo 90: v6 | all <- tempo 150 to 90 in 0 | all <- snapshot
         a pause: v7 | all <- pause 2000 | all <- snapshot
         a tempo 120 fade=5000: v8 | all <- tempo 90 to 120 in 0 | all <- snapshot",
    );
}

#[test]
fn a_signature_applies_from_the_next_bar() {
    check(
        "a joins metronome
         a play
         +600
         a signature 3/4
         +2600
         a stop
         a signature 3/4
         a signature 3/4",
        "a joins metronome: Leader v1 | a <- snapshot | all <- joined a Leader 1 | stats
         a play: v2 | all <- play 0 120 at 0 | all <- snapshot
         +0: listeners <- beat 1.1 at 0
         +300: listeners <- beat 1.2 at 500
         a signature 3/4: v3 | all <- signature 3/4
         +800: listeners <- beat 1.3 at 1000
         +1300: listeners <- beat 1.4 at 1500
         +1800: listeners <- beat 2.1 at 2000
         +2300: listeners <- beat 2.2 at 2500
         +2800: listeners <- beat 2.3 at 3000
         a stop: v4 | all <- stop | all <- snapshot
         a signature 3/4: v5 | all <- signature 3/4
         a signature 3/4: v5 | only a <- signature 3/4",
    );
}

#[test]
fn a_leader_s_report_moves_the_music_only_beyond_the_tolerance() {
    check(
        "a joins
         b joins
         a play
         +1000
         a at 1025
         a at 1026
         b at 1051
         b at 1052
         a at_beat 2.5
         b at_beat 2.5",
        "a joins: Leader v1 | a <- snapshot | all <- joined a Leader 1 | stats
         b joins: Follower v1 | b <- snapshot | all <- joined b Follower 2 | stats
         a play: v2 | all <- play 0 120 at 0 | all <- snapshot
         a at 1025: v2 | all <- at 1000
         a at 1026: v3 | all <- at 1026 | all <- snapshot
         b at 1051: done
         b at 1052: done | b <- correct 1026 not 1052
         a at_beat 2.5: done | all <- beat off by 500000
         b at_beat 2.5: NotLeader!",
    );
}

#[test]
fn too_many_changes_cannot_be_scheduled() {
    check(
        "a joins
         a seek 1 in=1000
         a seek 2 in=2000
         a seek 3 in=3000
         a seek 4 in=4000
         a seek 5 in=5000
         a seek 6 in=6000
         a seek 7 in=7000
         a seek 8 in=8000
         a seek 9 in=7000
         +1000
         a seek 8 in=8000",
        "a joins: Leader v1 | a <- snapshot | all <- joined a Leader 1 | stats
         a seek 1 in=1000: v2 | all <- seek 1 at 1000 | all <- snapshot
         a seek 2 in=2000: v3 | all <- seek 2 at 2000 | all <- snapshot
         a seek 3 in=3000: v4 | all <- seek 3 at 3000 | all <- snapshot
         a seek 4 in=4000: v5 | all <- seek 4 at 4000 | all <- snapshot
         a seek 5 in=5000: v6 | all <- seek 5 at 5000 | all <- snapshot
         a seek 6 in=6000: v7 | all <- seek 6 at 6000 | all <- snapshot
         a seek 7 in=7000: v8 | all <- seek 7 at 7000 | all <- snapshot
         a seek 8 in=8000: NotAllowed!
         a seek 9 in=7000: v9 | all <- seek 9 at 7000 | all <- snapshot
         +1000: all <- snapshot | stats
         a seek 8 in=8000: v10 | all <- seek 8 at 9000 | all <- snapshot",
    );
}

#[test]
fn selecting_a_song_sets_its_tempo_and_stops_the_music() {
    check(
        "a joins
         b joins
         a song x
         a songs x:90:3 y z:140
         b song y
         a song q
         a song +1
         a song -1
         a play
         +1000
         a song +1
         a sync
         a song z
         a song z
         a song +1
         b gets z
         b gets q
         a songs z:140
         a song -1
         a songs y
         a song -1",
        "a joins: Leader v1 | a <- snapshot | all <- joined a Leader 1 | stats
         b joins: Follower v1 | b <- snapshot | all <- joined b Follower 2 | stats
         a song x: NotAllowed!
         a songs x:90:3 y z:140: v2 | all <- 3 songs | all <- snapshot
         b song y: NotLeader!
         a song q: InvalidPayload songId!
         a song +1: v3 | all <- song 0 x | all <- snapshot
         a song -1: NotAllowed!
         a play: v4 | all <- play 0 90 at 0 | all <- snapshot
         a song +1: v5 | all <- song 1 y | all <- snapshot
         a sync: 0 | a <- sync 0
         a song z: v6 | all <- song 2 z | all <- snapshot
         a song z: v6 | only a <- song 2 z | only a <- snapshot
         a song +1: NotAllowed!
         b gets z: la
         b gets q: InvalidPayload songId!
         a songs z:140: v7 | all <- 1 songs | all <- snapshot
         a song -1: NotAllowed!
         a songs y: v8 | all <- 1 songs | all <- snapshot
         a song -1: v9 | all <- song 0 y | all <- snapshot",
    );
}

#[test]
fn settings_are_applied_as_a_whole_or_not_at_all() {
    check(
        "a joins
         b joins
         b settings max=3
         a settings rule=pin
         a settings rule=pin pin=1
         a settings pin=none
         a settings pin=none rule=open
         a settings max=3 loss=pause
         a settings max=3",
        "a joins: Leader v1 | a <- snapshot | all <- joined a Leader 1 | stats
         b joins: Follower v1 | b <- snapshot | all <- joined b Follower 2 | stats
         b settings max=3: NotLeader!
         a settings rule=pin: InvalidPayload leaderPin!
         a settings rule=pin pin=1: v2 | all <- settings
         a settings pin=none: InvalidPayload leaderPin!
         a settings pin=none rule=open: v3 | all <- settings
         a settings max=3 loss=pause: v4 | all <- settings
         a settings max=3: v4 | only a <- settings",
    );
}

#[test]
fn a_pause_in_the_count_in_returns_to_where_the_music_was_to_start() {
    check(
        "a joins metronome
         a play bars=1
         a signature 3/4
         +700
         a pause
         a seek 10000
         a play bars=2
         +1500
         a pause",
        "a joins metronome: Leader v1 | a <- snapshot | all <- joined a Leader 1 | stats
         a play bars=1: v2 | all <- play -2000 120 at 0 | all <- snapshot
         a signature 3/4: v3 | all <- signature 3/4
         +0: listeners <- beat -1.3 at 0
         +300: listeners <- beat 0.1 at 500
         a pause: v4 | all <- pause 0 | all <- snapshot
         a seek 10000: v5 | all <- seek 10000 at 700 | all <- snapshot
         a play bars=2: v6 | all <- play 7000 120 at 700 | all <- snapshot
         +700: listeners <- beat -1.1 at 700
         +1000: listeners <- beat -1.2 at 1200
         +1500: listeners <- beat -1.3 at 1700
         +2000: listeners <- beat 0.1 at 2200
         a pause: v7 | all <- pause 10000 | all <- snapshot",
    );
}

#[test]
fn a_signature_during_the_count_in_applies_from_the_first_bar() {
    check(
        "a joins metronome
         a play bars=1
         a signature 3/4
         +3400",
        "a joins metronome: Leader v1 | a <- snapshot | all <- joined a Leader 1 | stats
         a play bars=1: v2 | all <- play -2000 120 at 0 | all <- snapshot
         a signature 3/4: v3 | all <- signature 3/4
         +0: listeners <- beat -1.3 at 0
         +300: listeners <- beat 0.1 at 500
         +800: listeners <- beat 0.2 at 1000
         +1300: listeners <- beat 0.3 at 1500
         +1800: listeners <- beat 1.1 at 2000
         +2300: listeners <- beat 1.2 at 2500
         +2800: listeners <- beat 1.3 at 3000
         +3300: listeners <- beat 2.1 at 3500",
    );
}

#[test]
fn a_beat_is_sent_once_across_a_tempo_change() {
    check(
        "a joins metronome
         a play
         +400
         a set_tempo 125
         a seek 50000
         +600",
        "a joins metronome: Leader v1 | a <- snapshot | all <- joined a Leader 1 | stats
         a play: v2 | all <- play 0 120 at 0 | all <- snapshot
         +0: listeners <- beat 1.1 at 0
         +300: listeners <- beat 1.2 at 500
         a set_tempo 125: v3 | all <- tempo 120 to 125 in 0 | all <- snapshot
         a seek 50000: v4 | all <- seek 50000 at 400 | all <- snapshot
         +776: listeners <- beat 27.2 at 976",
    );
}

#[test]
fn after_a_delay_only_future_beats_are_sent() {
    check(
        "a joins metronome
         b joins metronome
         a play
         late 5400
         a lost
         late 60000
         b pause
         b play in=1000
         late 4500",
        "a joins metronome: Leader v1 | a <- snapshot | all <- joined a Leader 1 | stats
         b joins metronome: Follower v1 | b <- snapshot | all <- joined b Follower 2 | stats
         a play: v2 | all <- play 0 120 at 0 | all <- snapshot
         late 5400: listeners <- beat 3.4 at 5500
         a lost: all <- snapshot | stats
         late 60000: all <- left a 1 b | all <- role b Leader leader_disconnected | all <- leader b after a | all <- snapshot | stats | listeners <- beat 33.4 at 65500
         b pause: v5 | all <- pause 65400 | all <- snapshot
         b play in=1000: v6 | all <- play 65400 120 at 66400 | all <- snapshot
         late 4500: all <- snapshot | stats | listeners <- beat 35.3 at 70000",
    );
}

#[test]
fn the_checksum_covers_every_change_but_no_secret() {
    let sum = |line: &str| {
        let mut room = Room::new(RULES);
        for line in ["a joins", "a songs x", line] {
            room.run(line, &mut String::new());
        }
        room.session.checksum()
    };
    let changes = [
        "a message m",
        "a song x",
        "a songs y",
        "a songs z",
        "a play",
        "a seek 1",
        "a set_tempo 90",
        "a signature 3/4",
        "a settings max=2",
        "a settings rule=ask",
        "a settings loss=pause",
        "a settings cues=all",
        "a settings passcode=p",
        "a settings pin=7",
        "a follower",
        "a lost",
    ];
    let sums: Vec<Checksum> = changes.map(sum).to_vec();
    for (index, change) in changes.iter().enumerate() {
        assert_eq!(sums.iter().position(|other| *other == sums[index]), Some(index), "{change}");
    }
    assert_eq!(sum("a settings pin=7"), sum("a settings pin=8"), "secrets can be tried out");
}

#[test]
fn a_pause_clears_the_count_in() {
    let mut room = Room::new(RULES);
    let mut count_in_after = |line| {
        room.run(line, &mut String::new());
        room.session.record().timeline.count_in
    };
    let lines = ["a joins", "a play bars=2", "a pause"];
    assert_eq!(lines.map(&mut count_in_after), [0, 8, 0]);
}

#[test]
fn an_armed_jump_is_announced_when_it_begins() {
    check(
        "a joins
         b joins
         a play
         +1000
         b seek beat=32 at=bar
         a seek beat=32 at=bar
         a seek beat=32 at=bar
         +1000
         a sync
         a seek beat=8 at_beat=48
         a cancel
         a cancel
         a seek beat=8 at_beat=16
         a seek beat=8 at=beat
         +500
         a pause
         a seek beat=4 at=bar",
        "a joins: Leader v1 | a <- snapshot | all <- joined a Leader 1 | stats
         b joins: Follower v1 | b <- snapshot | all <- joined b Follower 2 | stats
         a play: v2 | all <- play 0 120 at 0 | all <- snapshot
         b seek beat=32 at=bar: NotLeader!
         a seek beat=32 at=bar: v3 | all <- timeline
         a seek beat=32 at=bar: v3 | only a <- timeline
         +2000: all <- seek 16000 at 2000 | all <- snapshot | stats
         a sync: 16000 | a <- sync 16000
         a seek beat=8 at_beat=48: v4 | all <- timeline
         a cancel: v5 | all <- timeline
         a cancel: v5 | only a <- timeline
         a seek beat=8 at_beat=16: TooLate!
         a seek beat=8 at=beat: v6 | all <- timeline
         +2500: all <- seek 4000 at 2500 | all <- snapshot | stats
         a pause: v7 | all <- pause 4000 | all <- snapshot
         a seek beat=4 at=bar: v8 | all <- seek 2000 at 2500 | all <- snapshot",
    );
}

#[test]
fn a_loop_goes_back_until_it_is_released() {
    check(
        "a joins metronome
         b joins
         a play
         +1000
         b loop from=0 to=4
         a loop from=0 to=2
         a loop from=0 to=4
         +1750
         a sync
         a loop
         a loop
         +1250
         a sync",
        "a joins metronome: Leader v1 | a <- snapshot | all <- joined a Leader 1 | stats
         b joins: Follower v1 | b <- snapshot | all <- joined b Follower 2 | stats
         a play: v2 | all <- play 0 120 at 0 | all <- snapshot
         +0: listeners <- beat 1.1 at 0
         +300: listeners <- beat 1.2 at 500
         +800: listeners <- beat 1.3 at 1000
         b loop from=0 to=4: NotLeader!
         a loop from=0 to=2: TooLate!
         a loop from=0 to=4: v3 | all <- timeline
         +1300: listeners <- beat 1.4 at 1500
         +1800: listeners <- beat 1.1 at 2000
         +2300: listeners <- beat 1.2 at 2500
         a sync: 750 | a <- sync 750
         a loop: v4 | all <- timeline
         a loop: v4 | only a <- timeline
         +2800: listeners <- beat 1.3 at 3000
         +3300: listeners <- beat 1.4 at 3500
         +3800: listeners <- beat 2.1 at 4000
         a sync: 2000 | a <- sync 2000",
    );
}

#[test]
fn a_tempo_is_armed_at_a_beat() {
    check(
        "a joins
         a play
         +1000
         a tempo 60 at_beat=1
         a tempo 60 at_beat=4
         a tempo 90 at_beat=6
         a seek beat=0 at_beat=8
         a tempo 90 at_beat=9
         +1000
         a cancel
         +1000
         a stop
         a tempo 100 at_beat=4",
        "a joins: Leader v1 | a <- snapshot | all <- joined a Leader 1 | stats
         a play: v2 | all <- play 0 120 at 0 | all <- snapshot
         a tempo 60 at_beat=1: TooLate!
         a tempo 60 at_beat=4: v3 | all <- timeline
         a tempo 90 at_beat=6: v4 | all <- timeline
         a seek beat=0 at_beat=8: v5 | all <- timeline
         a tempo 90 at_beat=9: TooLate!
         +2000: all <- tempo 120 to 60 in 0 | all <- snapshot | stats
         a cancel: v6 | all <- timeline
         a stop: v7 | all <- stop | all <- snapshot
         a tempo 100 at_beat=4: v8 | all <- tempo 60 to 100 in 0 | all <- snapshot",
    );
}

#[test]
fn the_place_is_corrected_without_losing_the_click() {
    check(
        "a joins metronome
         a one
         a nudge 4
         a stop
         a play
         +1100
         a nudge -4
         a nudge 4
         a sync
         a one ago=2001
         a one ago=150
         +1000
         a sync",
        "a joins metronome: Leader v1 | a <- snapshot | all <- joined a Leader 1 | stats
         a one: NotAllowed!
         a nudge 4: v2 | all <- seek 2000 at 0 | all <- snapshot
         a stop: v3 | all <- stop | all <- snapshot
         a play: v4 | all <- play 0 120 at 0 | all <- snapshot
         +0: listeners <- beat 1.1 at 0
         +300: listeners <- beat 1.2 at 500
         +800: listeners <- beat 1.3 at 1000
         a nudge -4: NotAllowed!
         a nudge 4: v5 | all <- seek 3100 at 1100 | all <- snapshot
         a sync: 3100 | a <- sync 3100
         a one ago=2001: TooLate!
         a one ago=150: v6 | all <- seek 2150 at 1100 | all <- snapshot
         +1250: listeners <- beat 2.2 at 1450
         +1750: listeners <- beat 2.3 at 1950
         a sync: 3150 | a <- sync 3150",
    );
}

#[test]
fn a_pause_counts_where_it_was_pressed() {
    check(
        "a joins
         a play
         +1000
         a pause ago=500
         a play
         +1000
         a pause ago=501",
        "a joins: Leader v1 | a <- snapshot | all <- joined a Leader 1 | stats
         a play: v2 | all <- play 0 120 at 0 | all <- snapshot
         a pause ago=500: v3 | all <- pause 500 | all <- snapshot
         a play: v4 | all <- play 500 120 at 1000 | all <- snapshot
         a pause ago=501: v5 | all <- pause 1500 | all <- snapshot",
    );
}

#[test]
fn a_song_is_armed_and_ends_by_itself() {
    check(
        "a joins
         a songs x:120:4:4 y:60:3
         a song x play
         +500
         a song y play at=bar
         +1500
         a sync
         a song +1
         a song x play
         +3999
         +1
         a play
         a songs y
         +9000",
        "a joins: Leader v1 | a <- snapshot | all <- joined a Leader 1 | stats
         a songs x:120:4:4 y:60:3: v2 | all <- 2 songs | all <- snapshot
         a song x play: v3 | all <- song 0 x | all <- snapshot
         a song y play at=bar: v4 | all <- timeline
         +2000: all <- song 1 y | all <- snapshot | stats
         a sync: 0 | a <- sync 0
         a song +1: NotAllowed!
         a song x play: v5 | all <- song 0 x | all <- snapshot
         +6000: all <- pause 4000 by end | all <- snapshot | stats
         a play: v6 | all <- play 0 120 at 6000 | all <- snapshot
         a songs y: v7 | all <- 1 songs | all <- snapshot",
    );
}

#[test]
fn an_armed_change_waits_for_the_slowest_member() {
    let begins = |latency: Option<u64>| {
        let (mut room, mut said) = (Room::new(RULES), String::new());
        for line in ["a joins", "b joins", "a play", "+1400"] {
            room.run(line, &mut said);
        }
        let latency = latency.map(Micros::from_millis);
        room.session.touch_member(member("b"), &mut 0, UnixMillis(0), latency);
        room.run("a seek beat=32 at=beat", &mut said);
        room.session.state.timeline().segments[1].t0.since(Micros::from_secs(100)).as_millis()
    };
    let latencies = [None, Some(20), Some(320), Some(60_000)];
    assert_eq!(latencies.map(begins), [2_000, 2_000, 2_500, 2_500]);
}
