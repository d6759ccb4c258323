//! The time of the cluster: simulated clocks, and nodes on a real Redis whose machines' clocks
//! differ and drift.
#![allow(clippy::print_stdout)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use bandsync_engine::clock::Course;
use bandsync_engine::io::NodeId;
use bandsync_redis::Topology;
use parking_lot::Mutex;
use proptest::prelude::*;

use super::nodes::{Node, plan, plan_at};
use super::proxy::{Mode, Proxy};
use super::server::{PATIENCE, Server, until};
use crate::clock::{Choice, Exchange, Keeper, Message, Reference, Timepiece, choose};

/// A machine's clock: the true time, shifted, and faster or slower. It remembers the course.
pub struct Machine {
    /// The true time in nanoseconds, if it is simulated.
    simulated: Option<Arc<AtomicI64>>,
    began: Instant,
    offset: i64,
    /// Parts per million by which it is fast.
    ppm: f64,
    is_quiet: AtomicBool,
    course: Mutex<Course>,
}

impl Machine {
    /// Creates the clock of a real machine.
    pub fn new(offset: Duration, ppm: f64) -> Arc<Self> {
        Self::make(None, offset.as_nanos() as i64, ppm)
    }

    fn simulated(time: &Arc<AtomicI64>, offset: i64, ppm: f64) -> Arc<Self> {
        Self::make(Some(Arc::clone(time)), offset, ppm)
    }

    fn make(simulated: Option<Arc<AtomicI64>>, offset: i64, ppm: f64) -> Arc<Self> {
        let (began, course) = (Instant::now(), Mutex::default());
        let is_quiet = AtomicBool::new(false);
        Arc::new(Self { simulated, began, offset, ppm, is_quiet, course })
    }

    /// The time that members see.
    fn shown(&self) -> i64 {
        let course = self.course.lock();
        course.read(self.machine())
    }
}

impl Timepiece for Machine {
    fn machine(&self) -> i64 {
        let time = match &self.simulated {
            Some(time) => time.load(Ordering::Relaxed),
            None => self.began.elapsed().as_nanos() as i64,
        };
        self.offset + time + (time as f64 * self.ppm / 1e6) as i64
    }

    fn steer(&self, course: Course) {
        *self.course.lock() = course;
    }

    fn is_quiet(&self) -> bool {
        self.is_quiet.load(Ordering::Relaxed)
    }
}

fn node(number: u16) -> NodeId {
    NodeId { number, incarnation: u64::from(number) * 1_000 }
}

/// Some simulated nodes. The first is the reference.
struct World {
    time: Arc<AtomicI64>,
    machines: Vec<Arc<Machine>>,
    keepers: Vec<Keeper>,
    /// The last reading of each node: true time and time shown.
    last: Vec<(i64, i64)>,
    delays: Vec<i64>,
    drawn: usize,
}

impl World {
    fn new(clocks: &[(i64, f64)], delays: Vec<i64>) -> Self {
        let time = Arc::new(AtomicI64::new(1_000_000_000));
        let machines: Vec<Arc<Machine>> =
            clocks.iter().map(|(offset, ppm)| Machine::simulated(&time, *offset, *ppm)).collect();
        let keepers: Vec<Keeper> =
            machines.iter().map(|machine| Keeper::new(Arc::clone(machine) as _)).collect();
        for (index, keeper) in keepers.iter().enumerate() {
            // As the table implies it: some milliseconds off.
            let rough = index as i64 * 70_000_000;
            keeper.set(5, keeper.machine(), 3_600_000_000_000 + rough);
        }
        keepers[0].follow(Reference::Own);
        let last = vec![(0, 0); clocks.len()];
        Self { time, machines, keepers, last, delays, drawn: 0 }
    }

    fn delay(&mut self) -> i64 {
        self.drawn += 1;
        self.delays[self.drawn % self.delays.len()]
    }

    fn pass(&self, nanos: i64) {
        self.time.fetch_add(nanos, Ordering::Relaxed);
    }

    /// Lets a node ask its reference, which is `to`.
    fn exchange(&mut self, from: usize, to: usize) {
        let Some((asked, c0)) = self.keepers[from].take_probe() else { return };
        assert_eq!(usize::from(asked.number), to);
        let up = self.delay();
        self.pass(up);
        let s1 = self.keepers[to].shown(self.keepers[to].machine());
        self.pass(30_000);
        let s2 = self.keepers[to].shown(self.keepers[to].machine());
        let down = self.delay();
        self.pass(down);
        let c3 = self.keepers[from].machine();
        self.keepers[from].answered(node(to as u16), Exchange { c0, s1, s2, c3 });
    }

    /// Follows until the next probe is due, and asks.
    fn step(&mut self, from: usize, to: usize) {
        let left = self.keepers[from].next_probe().unwrap() - self.keepers[from].machine();
        for _ in 0..4 {
            self.pass(left.max(0) / 4 + 1_000);
            self.check();
        }
        self.exchange(from, to);
        self.check();
    }

    /// Checks that all nodes agree within their bounds, and that no clock jumps.
    fn check(&mut self) {
        let now = self.time.load(Ordering::Relaxed);
        let known: Vec<(i64, i64)> = self
            .keepers
            .iter()
            .zip(&self.machines)
            .filter_map(|(keeper, machine)| {
                let bound = keeper.reading()?.bound_us as i64 * 1_000 + 1_000;
                assert_eq!(keeper.shown(keeper.machine()), machine.shown());
                Some((machine.shown(), bound))
            })
            .collect();
        for (one, (shown, bound)) in known.iter().enumerate() {
            for (other, also) in &known[..one] {
                let apart = (shown - other).abs();
                assert!(apart <= bound + also, "{apart} ns apart, bounds {bound} and {also}");
            }
        }
        for (index, machine) in self.machines.iter().enumerate() {
            let shown = machine.shown();
            let (then, before) = self.last[index];
            if then > 0 {
                let passed = now - then;
                let off = shown - before - passed;
                // The machine's own error comes on top.
                let most = passed / 200 + passed / 1_000 + 10;
                assert!(shown >= before && off.abs() <= most, "{off} ns within {passed} ns");
            }
        }
    }

    fn note(&mut self) {
        let now = self.time.load(Ordering::Relaxed);
        self.last = self.machines.iter().map(|machine| (now, machine.shown())).collect();
    }
}

/// Nanoseconds by which a message is later than the fastest. Some queue for long.
fn jitter() -> impl Strategy<Value = i64> {
    prop_oneof![9 => 0..200_000_i64, 1 => 0..80_000_000_i64]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_bound_is_never_broken_and_a_clock_never_jumps(
        offsets in prop::collection::vec(-1_000_000_000_000_i64..1_000_000_000_000, 3),
        skews in (-5.0..5.0, -400.0..400.0, -200.0..200.0_f64),
        floors in (20_000..2_000_000_i64, 20_000..2_000_000_i64),
        extra in prop::collection::vec(jitter(), 101),
    ) {
        let clocks = [(offsets[0], skews.0), (offsets[1], skews.1), (offsets[2], skews.2)];
        // The ways differ in both directions.
        let delays = extra
            .iter()
            .enumerate()
            .map(|(n, extra)| extra + if n % 2 == 0 { floors.0 } else { floors.1 })
            .collect();
        let mut world = World::new(&clocks, delays);
        for one in [1, 2] {
            world.keepers[one].follow(Reference::Other(node(0)));
            for _ in 0..24 {
                world.step(one, 0);
            }
            prop_assert!(world.keepers[one].reading().is_some());
        }
        world.keepers.iter().for_each(Keeper::serve);
        world.note();
        for _ in 0..60 {
            world.step(1, 0);
            world.exchange(2, 0);
            world.check();
            world.note();
        }
        // The reference dies, and the next one is followed. Nothing jumps.
        world.keepers[2].follow(Reference::Own);
        world.keepers[1].follow(Reference::Other(node(2)));
        world.machines.remove(0);
        world.keepers.remove(0);
        world.last.remove(0);
        // They are numbers 1 and 2 at the places 0 and 1 now.
        for _ in 0..60 {
            let Some(at) = world.keepers[0].next_probe() else { break };
            let left = at - world.keepers[0].machine();
            world.pass(left.max(0) + 1_000);
            world.check();
            let Some((asked, c0)) = world.keepers[0].take_probe() else { continue };
            prop_assert_eq!(asked, node(2));
            if !world.keepers[1].is_reference() {
                // It does not answer while it glides.
                continue;
            }
            let (up, down) = (world.delay(), world.delay());
            world.pass(up);
            let s1 = world.keepers[1].shown(world.keepers[1].machine());
            world.pass(down);
            let c3 = world.keepers[0].machine();
            world.keepers[0].answered(asked, Exchange { c0, s1, s2: s1, c3 });
            world.check();
            world.note();
        }
    }

    #[test]
    fn the_same_node_is_chosen_by_all(
        sinces in prop::collection::vec(prop_oneof![Just(0_u64), 1..1_000_u64], 1..8),
    ) {
        let all: Vec<(NodeId, u64)> =
            (1..).zip(&sinces).map(|(number, since)| (node(number), *since)).collect();
        let mut chosen = Vec::new();
        for (me, since) in &all {
            let others = all.iter().filter(|(other, _)| other != me).copied();
            match choose(me.number, *since, others) {
                Choice::Own | Choice::First => chosen.push(Some(*me)),
                Choice::Other(node) => chosen.push(Some(node)),
                Choice::Wait => prop_assert_eq!(*since, 0),
            }
        }
        let is_any_in_time = sinces.iter().any(|since| *since > 0);
        chosen.dedup();
        prop_assert_eq!(chosen.len(), 1);
        let rank = |(node, since): &&(NodeId, u64)| {
            (*since == 0 && is_any_in_time, *since, node.number)
        };
        let first = all.iter().min_by_key(rank);
        prop_assert_eq!(chosen[0], first.map(|(node, _)| *node));
    }

    #[test]
    fn a_message_about_clocks_is_read_as_it_was_made(c0: i64, s1: i64, s2: i64, bytes: Vec<u8>) {
        for message in [Message::Probe { c0 }, Message::Echo { c0, s1, s2 }] {
            let printed = message.print();
            prop_assert_eq!(Message::read(&printed), Some(message));
            prop_assert_eq!(Message::read(&printed[1..]), None);
        }
        let _ = Message::read(&bytes);
    }

    #[test]
    fn no_stamps_make_a_node_panic(
        stamps in prop::collection::vec((any::<i64>(), any::<i64>(), any::<i64>()), 1..30),
        is_served: bool,
    ) {
        let time = Arc::new(AtomicI64::new(1_000_000_000));
        let machine = Machine::simulated(&time, 0, 0.0);
        let keeper = Keeper::new(Arc::clone(&machine) as _);
        keeper.set(i64::MAX, keeper.machine(), 1_000_000);
        if is_served {
            keeper.serve();
        }
        keeper.follow(Reference::Other(node(2)));
        let mut before = machine.shown();
        for (s1, s2, c3) in stamps {
            time.fetch_add(60_000_000, Ordering::Relaxed);
            let Some((from, c0)) = keeper.take_probe() else { continue };
            keeper.answered(from, Exchange { c0, s1, s2, c3 });
            // An answer that was not asked for, or comes twice, says nothing.
            keeper.answered(from, Exchange { c0, s1: 0, s2: 0, c3: c0 });
            keeper.answered(node(3), Exchange { c0: 7, s1, s2, c3 });
            let _ = (keeper.reading(), keeper.now_us(), keeper.unix_ms(), keeper.since());
            let shown = machine.shown();
            prop_assert!(!is_served || shown >= before);
            before = shown;
        }
    }
}

#[test]
fn a_machine_that_slept_catches_up_at_once_only_if_nothing_plays() {
    for is_quiet in [false, true] {
        let mut world = World::new(&[(0, 0.0), (5_000, 20.0)], vec![100_000]);
        world.keepers[1].follow(Reference::Other(node(0)));
        (0..24).for_each(|_| world.step(1, 0));
        world.keepers[1].serve();
        // Its clock stands for 10 s.
        world.machines[0].is_quiet.store(true, Ordering::Relaxed);
        world.machines[1].is_quiet.store(is_quiet, Ordering::Relaxed);
        let slept = 10_000_000_000;
        let course = *world.machines[0].course.lock();
        let machine = world.machines[0].machine();
        world.keepers[0].set(5, machine, course.read(machine) + slept);
        let before = world.machines[1].shown();
        // The bound is that of an estimate that is about to be found wrong.
        for _ in 0..12 {
            world.keepers[1].refresh();
            world.exchange(1, 0);
            world.pass(50_000_000);
        }
        let (shown, right) = (world.machines[1].shown(), world.machines[0].shown());
        assert!(shown > before);
        if is_quiet {
            assert!((shown - right).abs() < 1_000_000, "{shown} of {right}");
        } else {
            assert!(right - shown > slept * 9 / 10, "{shown} of {right}");
        }
        let bound = world.keepers[1].reading().unwrap().bound_us as i64 * 1_000;
        assert!((shown - right).abs() <= bound, "{bound}");
    }
}

/// A node with the clock of its machine.
struct Timed {
    node: Node,
    machine: Arc<Machine>,
}

impl Timed {
    fn start(plan: crate::shared::Plan, offset: Duration, ppm: f64) -> Self {
        let machine = Machine::new(offset, ppm);
        Self { node: Node::start_with(plan, Arc::clone(&machine) as _), machine }
    }

    /// The maximum error in nanoseconds.
    fn bound(&self) -> Option<i64> {
        Some(self.node.courier.status().clock()?.bound_us as i64 * 1_000)
    }
}

/// Compares two nodes: the difference in nanoseconds, as far as it is certain, and the sum of their
/// bounds.
fn compare(one: &Timed, other: &Timed) -> Option<(i64, i64)> {
    // Both bounds were read before, and grow until the clocks are read. So they are read after too.
    let before = one.bound()? + other.bound()?;
    let first = one.machine.shown();
    let middle = other.machine.shown();
    let last = one.machine.shown();
    let after = one.bound()? + other.bound()?;
    let apart = (first - middle).max(middle - last).max(0);
    Some((apart, before.max(after)))
}

/// Compares all pairs for some time, and returns the differences.
fn agree(nodes: &[Timed], time: Duration) -> Vec<i64> {
    let (began, mut all) = (Instant::now(), Vec::new());
    while began.elapsed() < time {
        for (index, one) in nodes.iter().enumerate() {
            for other in &nodes[..index] {
                let Some((apart, bounds)) = compare(one, other) else { continue };
                assert!(apart <= bounds, "{apart} ns apart, bounds {bounds}");
                all.push(apart);
            }
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    all.sort_unstable();
    assert!(!all.is_empty(), "no node knew its bound");
    all
}

fn hours(count: u64) -> Duration {
    Duration::from_secs(3_600 * count)
}

/// Three nodes whose machines started at other times, and drift.
fn three(server: &Server, second: Topology) -> Vec<Timed> {
    server.found(16);
    let nodes = vec![
        Timed::start(plan(server, "one"), hours(1), 40.0),
        Timed::start(plan_at(second, "two"), hours(70), -100.0),
        Timed::start(plan(server, "three"), Duration::ZERO, 300.0),
    ];
    nodes.iter().for_each(|timed| timed.node.await_others(2));
    until("all know their clock", || nodes.iter().all(|timed| timed.bound().is_some()));
    nodes
}

/// Prints how well nodes agree: `cargo test -p bandsync-cluster --lib nodes_agree -- --nocapture`.
#[test]
fn nodes_agree_within_their_bounds_whatever_their_clocks_say() {
    let server = Server::start(&[]);
    let nodes = three(&server, server.topology());
    let all = agree(&nodes, Duration::from_secs(8));
    let part = |percent: usize| all[(all.len() - 1) * percent / 100] as f64 / 1e6;
    println!(
        "three nodes, clocks shifted by hours, 40, -100 and 300 ppm fast: {} comparisons, ms \
         apart p50 {:.4} p99 {:.4} max {:.4}",
        all.len(),
        part(50),
        part(99),
        part(100)
    );
    let bounds: Vec<i64> = nodes.iter().filter_map(Timed::bound).collect();
    println!("bounds at the end in ns: {bounds:?}");
}

#[test]
fn a_bound_holds_on_a_slow_and_uneven_way() {
    let server = Server::start(&[]);
    let proxy = Proxy::start(server.port, 7);
    let topology = Topology::parse(&format!("redis://127.0.0.1:{}", proxy.port)).unwrap();
    let nodes = three(&server, topology);
    // Its answers are late, not its questions: half of that is an error that no probe shows.
    for mode in [Mode::Slow(Duration::from_millis(8)), Mode::Chopped, Mode::Shut, Mode::Open] {
        proxy.set(mode);
        agree(&nodes, Duration::from_millis(1_500));
    }
}

#[test]
fn the_next_node_is_followed_when_the_reference_dies() {
    let server = Server::start(&[]);
    let mut nodes = three(&server, server.topology());
    let log = |timed: &Timed| timed.node.courier.status().clock();
    agree(&nodes, Duration::from_millis(500));
    let before = nodes[1].machine.shown();
    let began = Instant::now();
    nodes[0].node.crash();
    nodes.remove(0);
    // It is nobody's any more, and the second node is the one that was in time first.
    until("the second node is gone ahead", || {
        agree(&nodes, Duration::from_millis(50));
        nodes[1].node.courier.status().view().nodes.len() == 2
            && log(&nodes[0]).is_some_and(|reading| reading.ahead_us == 0)
    });
    agree(&nodes, Duration::from_secs(1));
    let passed = nodes[0].machine.shown() - before;
    let most = began.elapsed().as_nanos() as i64;
    assert!((0..=most + most / 100).contains(&passed), "{passed} of {most}");
    assert!(began.elapsed() < PATIENCE);
}

#[test]
fn a_cluster_goes_on_where_it_was_after_all_nodes_ended() {
    let server = Server::start(&[]);
    server.found(16);
    let mut first = Timed::start(plan(&server, "one"), hours(5), 0.0);
    until("it is written", || {
        let table: Vec<String> = server.ask("HVALS bandsync:{nodes}:table");
        table.iter().any(|entry| entry.contains("\"since\":") && !entry.contains("\"since\":0,"))
    });
    let before = first.machine.shown();
    first.node.crash();
    let second = Timed::start(plan(&server, "two"), Duration::ZERO, 0.0);
    let after = second.machine.shown();
    // Zero is still the founding, which was years ago.
    assert!(after > before && after - before < 60_000_000_000, "{before} {after}");
    assert_eq!(second.bound(), Some(0), "it is the reference");
}
