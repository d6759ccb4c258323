//! The shared vectors, and what holds for any timeline.

#![allow(clippy::unwrap_used)]
use proptest::prelude::*;
use serde_json::Value;

use super::vectors::list;
use super::*;

/// Every program that computes the music must match these vectors.
#[test]
fn the_shared_vectors_hold() {
    let vectors = vectors::plain();
    let mut checked = 0;
    for case in list(&vectors["timelines"]) {
        let timeline = vectors::timeline(&case["timeline"]);
        let what = |point: &Value| format!("{}: {point}", case["name"]);
        for point in list(&case["at"]) {
            let t = int(&point["t"]);
            let index = index_at(&timeline, t);
            let found = [
                index as i128,
                timeline.position(index, t),
                timeline.count(index, t),
                timeline.segments[index].tempo(t).milli_bpm().into(),
            ];
            let expected = ["segment", "position", "beat", "tempo"].map(|name| int(&point[name]));
            assert_eq!(found, expected, "{}", what(point));
            if let Ok(t) = u64::try_from(t).map(Micros::from_micros) {
                let tempo = timeline.tempo_at(t).milli_bpm().into();
                let found = [timeline.position_at(t), timeline.beat_at(t), tempo];
                assert_eq!(found.map(i128::from), expected[1..], "{}", what(point));
            }
            checked += 1;
        }
        for point in list(&case["beats"]) {
            let time = timeline.first_time_of(int(&point["beat"]), int(&point["from"]));
            assert_eq!(time, point["t"].as_i64().map(i128::from), "{}", what(point));
            checked += 1;
        }
        for point in list(&case["bars"]) {
            let bar = Bar::at(&timeline.meter, point["beat"].as_i64().unwrap());
            let expected = ["bar", "inBar", "num", "den"].map(|name| int(&point[name]));
            assert_eq!(numbers(bar), expected, "{}", what(point));
            checked += 1;
        }
        for point in list(&case["boundaries"]) {
            let [beat, quantum, next] =
                ["beat", "quantum", "next"].map(|name| point[name].as_i64().unwrap());
            assert_eq!(timeline.next_boundary(beat, quantum), next, "{}", what(point));
            checked += 1;
        }
    }
    let mut numbered = steady();
    for pair in list(&vectors["newer"]) {
        let mut with = |name: &str| {
            numbered.epoch = pair[name][0].as_u64().unwrap();
            numbered.version = pair[name][1].as_u64().unwrap();
            numbered.clone()
        };
        assert_eq!(with("a").is_newer(&with("b")), pair["newer"].as_bool().unwrap(), "{pair}");
    }
    assert!(checked > 500, "only {checked} points");
}

/// Timelines with loops, count-ins and armed changes.
#[test]
fn the_shared_vectors_of_songs_hold() {
    let vectors = vectors::of_songs();
    let mut checked = 0;
    for case in list(&vectors["timelines"]) {
        let timeline = vectors::timeline(&case["timeline"]);
        let what = |point: &Value| format!("{}: {point}", case["name"]);
        for point in list(&case["at"]) {
            let t = int(&point["t"]);
            let index = index_at(&timeline, t);
            let count = timeline.count(index, t);
            let place = timeline.place(index, narrow(count));
            let segment = &timeline.segments[index];
            let found = [
                index as i128,
                count,
                timeline.position(index, t),
                segment.tempo(t).milli_bpm().into(),
                timeline.pass(index, t),
                place.beat.into(),
            ];
            let names = ["segment", "count", "position", "tempo", "pass", "song"];
            assert_eq!(found, names.map(|name| int(&point[name])), "{}", what(point));
            let bar = ["bar", "inBar", "num", "den"].map(|name| int(&point[name]));
            assert_eq!(numbers(place.bar), bar, "{}", what(point));
            let found = [segment.playing, place.counts_in];
            let expected = ["playing", "countIn"].map(|name| point[name].as_bool().unwrap());
            assert_eq!(found, expected, "{}", what(point));
            if let Ok(t) = u64::try_from(t).map(Micros::from_micros) {
                assert_eq!(timeline.place_at(t), place, "{}", what(point));
                assert_eq!(i128::from(timeline.count_at(t)), count, "{}", what(point));
                assert_eq!(i128::from(timeline.pass_at(t)), int(&point["pass"]));
            }
            checked += 1;
        }
        for point in list(&case["times"]) {
            let time = timeline.first_time_of(int(&point["beat"]), int(&point["from"]));
            assert_eq!(time, point["t"].as_i64().map(i128::from), "{}", what(point));
            checked += 1;
        }
        let [since, until] = ["since", "until"].map(|name| int(&case["clicks"][name]));
        let clicks = (0..timeline.segments.len()).flat_map(|index| {
            timeline.clicks_of(index, since).take_while(move |(_, time, _)| *time < until)
        });
        let found: Vec<[i128; 4]> = clicks
            .map(|(index, time, count)| {
                let place = timeline.place(index, narrow(count));
                [time, place.beat.into(), place.bar.bar.into(), place.bar.in_bar.into()]
            })
            .collect();
        let click = |click: &Value| ["t", "song", "bar", "inBar"].map(|name| int(&click[name]));
        let expected: Vec<[i128; 4]> = list(&case["clicks"]["beats"]).iter().map(click).collect();
        assert_eq!(found, expected, "clicks of {}", case["name"]);
        checked += expected.len();
    }
    assert!(checked > 4_000, "only {checked} points");
}

#[test]
fn the_next_click_is_the_first_one_that_has_not_sounded() {
    let mut timeline = steady();
    let click = |timeline: &Timeline, at| {
        timeline.next_click(Micros::from_millis(at)).map(|click| click.at.as_millis())
    };
    assert_eq!([0, 1, 500].map(|at| click(&timeline, at)), [Some(0), Some(500), Some(500)]);
    timeline.segments[0].playing = false;
    assert_eq!(click(&timeline, 0), None);
}

fn index_at(timeline: &Timeline, t: i128) -> usize {
    timeline.segments.iter().rposition(|segment| wide(segment.t0) <= t).unwrap_or(0)
}

fn numbers(Bar { bar, in_bar, signature }: Bar) -> [i128; 4] {
    [bar.into(), in_bar.into(), signature.numerator.into(), signature.denominator.into()]
}

fn int(value: &Value) -> i128 {
    value.as_i64().unwrap().into()
}

fn steady() -> Timeline {
    Timeline {
        epoch: 1,
        version: 0,
        leader: None,
        song: None,
        segments: vec![Segment {
            t0: Micros::ZERO,
            p0: 0,
            b0: 0,
            playing: true,
            bpm0: Tempo::DEFAULT,
            bpm1: Tempo::DEFAULT,
            ramp: 0,
            looped: None,
            start: None,
            armed: None,
        }],
        meter: vec![MeterChange::COMMON],
        end: None,
        quantum: 0,
        count_in: 0,
        made_at: Micros::ZERO,
    }
}

/// A timeline that plays from 10 s on, with up to seven tempo changes that keep the beat.
fn played() -> impl Strategy<Value = Timeline> {
    let tempo = || (1_000..=400_000_u32).prop_map(Tempo);
    let change = (1..=60_000_000_u64, tempo(), tempo(), prop_oneof![Just(0), 1..=100_000_000_u64]);
    proptest::collection::vec(change, 1..=8).prop_map(|changes| {
        let mut timeline = steady();
        timeline.segments[0].t0 = Micros::from_secs(10);
        for (index, (length, bpm0, bpm1, ramp)) in changes.into_iter().enumerate() {
            if index > 0 {
                let t0 = timeline.segments[index - 1].t0 + Micros::from_micros(length);
                let (p0, b0) = (timeline.position_at(t0), timeline.beat_at(t0));
                timeline.segments.push(Segment {
                    t0,
                    p0,
                    b0,
                    ..timeline.segments[index - 1].clone()
                });
            }
            let segment = &mut timeline.segments[index];
            (segment.bpm0, segment.bpm1, segment.ramp) = (bpm0, bpm1, ramp);
        }
        timeline
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn position_and_beat_never_decrease_while_playing(
        timeline in played(), from in 10_000_000..600_000_000_u64, step in 0..2_000_000_u64,
    ) {
        let (from, to) = (Micros::from_micros(from), Micros::from_micros(from + step));
        prop_assert_eq!(timeline.position_at(to) - timeline.position_at(from), step as i64);
        let beats = timeline.beat_at(to) - timeline.beat_at(from);
        // At most 400 BPM, and the rounding of both ends and of a seam each segment.
        prop_assert!((0..=(step * 20 / 3) as i64 + 10).contains(&beats), "{} beats in {} µs", beats, step);
    }

    #[test]
    fn beats_are_continuous_across_tempo_changes(timeline in played()) {
        for pair in timeline.segments.windows(2) {
            let seam = wide(pair[1].t0);
            prop_assert_eq!(pair[0].count(seam), pair[1].count(seam));
            prop_assert_eq!(pair[0].position(seam, 0), pair[1].position(seam, 0));
        }
    }

    #[test]
    fn the_time_of_a_beat_inverts_the_beat_at_a_time(timeline in played(), at in 10_000_000..900_000_000_u64) {
        let beat = timeline.beat_at(Micros::from_micros(at));
        let time = timeline.time_of_beat(beat, Micros::ZERO).unwrap();
        // A microsecond is 7 microbeats at 400 BPM and a sixtieth of one at 1; time and beat
        // are rounded once each.
        prop_assert!((timeline.beat_at(time) - beat).abs() <= 5, "beat {} at {:?}", beat, time);
        let micro_beat = u64::from(60_000 / timeline.tempo_at(Micros::from_micros(at)).milli_bpm());
        prop_assert!(time.as_micros().abs_diff(at) <= 3 + micro_beat, "{:?} for {}", time, at);
    }
}
