//! Runs simulated worlds: `cargo run --release -p bandsync-tools -- simulate --help`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use std::{fs, io, panic, thread};

use bandsync_tools::sim::{self, Plan, Verdict, Wanted, digests, narrate, planted, shrink};
use clap::Args;

/// One run in this many is repeated and compared.
const TWICE_EVERY: u64 = 20;

/// Maximum number of differing digests that are listed.
const DIFFERING_SHOWN: usize = 10;

/// Runs simulated worlds, and reports broken invariants.
#[derive(Args, Clone)]
pub struct Options {
    /// The first seed.
    #[arg(long)]
    seed: Option<u64>,
    /// Number of seeds.
    #[arg(long)]
    count: Option<u64>,
    /// Duration in seconds, in which as many seeds as possible are run.
    #[arg(long, value_name = "SECONDS")]
    seconds: Option<f64>,
    /// Start at a new seed, drawn from the clock.
    #[arg(long)]
    new_seeds: bool,
    /// Hours that pass in each world, instead of the time drawn from its seed.
    #[arg(long)]
    hours: Option<f64>,
    /// Number of members of each world.
    #[arg(long)]
    members: Option<u16>,
    /// Number of shards of each world.
    #[arg(long)]
    shards: Option<u16>,
    /// Whether a phase without faults follows, in which every member must recover.
    #[arg(long)]
    calm: Option<bool>,
    /// Run this plan instead.
    #[arg(long, value_name = "FILE")]
    plan: Option<PathBuf>,
    /// Make a failing plan as small as possible and write it here.
    #[arg(long, value_name = "FILE")]
    shrink: Option<PathBuf>,
    /// Print the story: all messages and acts.
    #[arg(long)]
    story: bool,
    /// Print a table of rare situations, and in how many worlds each occurred.
    #[arg(long)]
    seen: bool,
    /// Compare repeated runs with a run in another process as well.
    #[arg(long)]
    processes: bool,
    /// Print only the digest of all outputs.
    #[arg(long)]
    digest: bool,
    /// Compare the digests of worlds with those in this file, or with the first `--count` of them.
    #[arg(long, value_name = "FILE")]
    digests: Option<PathBuf>,
    /// Record the digests in that file instead.
    #[arg(long, requires = "digests")]
    write: bool,
    /// Number of worlds at once; by default the number of cores.
    #[arg(long)]
    threads: Option<usize>,
    /// Plant bugs in a copy of the engine, one after the other, and say which are caught.
    #[arg(long)]
    planted: bool,
    /// Run with this planted bug; only the copied tree has planted bugs.
    #[arg(long, default_value_t = 0, hide = true)]
    bug: usize,
}

/// Runs the command.
pub fn run(options: Options) -> ExitCode {
    // A panic is reported like any other finding.
    panic::set_hook(Box::new(|_| {}));
    let done = match () {
        () if options.planted => {
            let seconds = options.seconds.unwrap_or(60.0);
            super::planted::run(options.first_seed(), seconds, options.threads())
        }
        () if options.digests.is_some() => compare_digests(&options),
        () if options.plan.is_some()
            || options.shrink.is_some()
            || options.story
            || options.digest =>
        {
            one(&options)
        }
        () => Ok(many(&options)),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("simulate: {error}");
            ExitCode::from(2)
        }
    }
}

impl Options {
    fn wanted(&self) -> Wanted {
        let length = self.hours.map(|hours| (hours * 3_600e6) as u64);
        Wanted { shards: self.shards, members: self.members, length, calm: self.calm }
    }

    fn first_seed(&self) -> u64 {
        let clock = || {
            SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
        };
        let fresh = if self.new_seeds { clock() % (1 << 40) } else { 1 };
        self.seed.unwrap_or(fresh)
    }

    fn threads(&self) -> usize {
        self.threads.or_else(|| thread::available_parallelism().ok().map(usize::from)).unwrap_or(1)
    }

    /// Returns the command that runs one of these seeds again.
    fn again(&self, seed: u64) -> String {
        let mut line = format!("cargo run --release -p bandsync-tools -- simulate --seed {seed}");
        let mut add = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                line += &format!(" --{name} {value}");
            }
        };
        add("hours", self.hours.map(|hours| hours.to_string()));
        add("members", self.members.map(|members| members.to_string()));
        add("shards", self.shards.map(|shards| shards.to_string()));
        add("calm", self.calm.map(|calm| calm.to_string()));
        line
    }
}

/// Runs one plan: that in the file, or that of the first seed.
fn one(options: &Options) -> io::Result<bool> {
    planted::choose(options.bug);
    let plan = match &options.plan {
        Some(path) => serde_json::from_str(&fs::read_to_string(path)?)?,
        None => Plan::draw(options.first_seed(), &options.wanted()),
    };
    if let Some(path) = &options.shrink {
        let Some((small, failure)) = shrink(&plan) else {
            println!("this plan breaks no invariant");
            return Ok(true);
        };
        fs::write(path, serde_json::to_string_pretty(&small)?)?;
        println!("{}: {}", failure.invariant, failure.what);
        println!(
            "{} steps of {} are left, in {}",
            small.steps.len(),
            plan.steps.len(),
            path.display()
        );
        return Ok(false);
    }
    let verdict = if options.story {
        let (verdict, story) = narrate(&plan);
        story.iter().for_each(|line| println!("{line}"));
        verdict
    } else {
        sim::run(&plan)
    };
    if options.digest {
        println!("{:016x}", verdict.digest);
        return Ok(verdict.failure.is_none());
    }
    Ok(report(&verdict, || options.again(plan.seed)))
}

fn report(verdict: &Verdict, again: impl FnOnce() -> String) -> bool {
    if let Some(failure) = &verdict.failure {
        println!("FAILED after {:.6} s: {}", failure.at as f64 / 1e6, failure.invariant);
        println!("  {}", failure.what);
        println!("  {}", again());
    }
    verdict.failure.is_none()
}

/// Compares digests with the recorded ones, or records them.
fn compare_digests(options: &Options) -> io::Result<bool> {
    let Some(file) = &options.digests else { return Ok(false) };
    if options.write {
        let worlds = digests::of(options.count.unwrap_or(digests::SEEDS), options.threads());
        fs::write(file, digests::listed(&worlds))?;
        println!("{} digests, recorded in {}", worlds.len(), file.display());
        return Ok(true);
    }
    let mut recorded = digests::read(&fs::read_to_string(file)?)?;
    recorded.truncate(options.count.map_or(usize::MAX, |count| count as usize));
    let differing = digests::differing(&recorded, options.threads());
    for (seed, digest, recorded) in differing.iter().take(DIFFERING_SHOWN) {
        println!("seed {seed}: digest {digest:08x}, recorded {recorded:08x}");
    }
    println!("{} of {} digests are as recorded", recorded.len() - differing.len(), recorded.len());
    if let Some((seed, ..)) = differing.first() {
        println!("run this here and on the commit before, and compare the two stories:");
        println!("  cargo run -p bandsync-tools -- simulate --seed {seed} --story");
    }
    Ok(differing.is_empty())
}

/// Totals over all threads.
#[derive(Default)]
struct Totals {
    next: AtomicU64,
    seeds: AtomicU64,
    twice: AtomicU64,
    failures: AtomicU64,
    micros: AtomicU64,
    turns: AtomicU64,
    messages: AtomicU64,
    handed_over: AtomicU64,
    recoveries: AtomicU64,
    /// Number of worlds and of occurrences for each situation.
    seen: Mutex<BTreeMap<String, (u64, u64)>>,
    enough: AtomicBool,
    printing: Mutex<()>,
}

/// Runs many seeds on all cores.
fn many(options: &Options) -> bool {
    let totals = Totals { next: AtomicU64::new(options.first_seed()), ..Totals::default() };
    let first = options.first_seed();
    totals.next.store(first, Ordering::Relaxed);
    let began = Instant::now();
    let until = options.seconds.map(|seconds| began + Duration::from_secs_f64(seconds));
    let threads = options.threads();
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                planted::choose(options.bug);
                loop {
                    let seed = totals.next.fetch_add(1, Ordering::Relaxed);
                    let over = match until {
                        Some(until) => Instant::now() >= until,
                        None => seed >= first + options.count.unwrap_or(1),
                    };
                    if over || totals.enough.load(Ordering::Relaxed) {
                        return;
                    }
                    one_of_many(options, seed, &totals);
                }
            });
        }
    });
    let took = began.elapsed().as_secs_f64().max(1e-6);
    let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
    let hours = get(&totals.micros) as f64 / 3_600e6;
    println!(
        "{} seeds from {first} ({} of them twice), {} failed; {hours:.2} simulated hours in {took:.1} s on {threads} threads",
        get(&totals.seeds),
        get(&totals.twice),
        get(&totals.failures),
    );
    println!(
        "{} turns, {} messages, {} hand-overs, {} recoveries",
        get(&totals.turns),
        get(&totals.messages),
        get(&totals.handed_over),
        get(&totals.recoveries),
    );
    if let Some(seen) = totals.seen.lock().ok().filter(|_| options.seen) {
        println!("  worlds      times  situation");
        seen.iter().for_each(|(what, (worlds, times))| println!("{worlds:>8} {times:>10}  {what}"));
    }
    let minutes =
        |seconds: f64| (get(&totals.seeds) as f64 * 60.0 / seconds, hours * 60.0 / seconds);
    let (seeds, hours_a_minute) = minutes(took);
    println!("a minute: {seeds:.0} seeds, {hours_a_minute:.0} simulated hours");
    if let Some(cpu) = cpu_time() {
        let (seeds, hours) = minutes(cpu);
        println!(
            "a minute of one core: {seeds:.0} seeds, {hours:.0} simulated hours ({cpu:.1} s of CPU used)"
        );
    }
    get(&totals.failures) == 0
}

/// The CPU time of this process in seconds, if the system reports it. Other programs may use the
/// cores as well, so the elapsed time says less.
fn cpu_time() -> Option<f64> {
    const TICKS_A_SECOND: f64 = 100.0;
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    let ticks: Vec<f64> =
        fields.split(' ').skip(12).take(2).filter_map(|field| field.parse().ok()).collect();
    (ticks.len() == 2).then(|| ticks.iter().sum::<f64>() / TICKS_A_SECOND)
}

fn one_of_many(options: &Options, seed: u64, totals: &Totals) {
    let plan = Plan::draw(seed, &options.wanted());
    let verdict = sim::run(&plan);
    totals.seeds.fetch_add(1, Ordering::Relaxed);
    totals.micros.fetch_add(verdict.passed, Ordering::Relaxed);
    totals.turns.fetch_add(verdict.turns, Ordering::Relaxed);
    totals.messages.fetch_add(verdict.messages, Ordering::Relaxed);
    totals.handed_over.fetch_add(verdict.handed_over, Ordering::Relaxed);
    totals.recoveries.fetch_add(verdict.recoveries, Ordering::Relaxed);
    if let Ok(mut seen) = totals.seen.lock() {
        for (what, count) in verdict.seen.iter() {
            let (worlds, times) = seen.entry(what.to_owned()).or_default();
            *worlds += 1;
            *times += count;
        }
    }
    let mut failed = verdict.failure.is_some();
    let mut differs = false;
    if seed.is_multiple_of(TWICE_EVERY) && !failed {
        totals.twice.fetch_add(1, Ordering::Relaxed);
        differs = sim::run(&plan) != verdict;
        if options.processes && !differs {
            differs = elsewhere(options, seed)
                .is_none_or(|digest| digest != format!("{:016x}", verdict.digest));
        }
        failed |= differs;
    }
    if failed {
        totals.failures.fetch_add(1, Ordering::Relaxed);
        // One world that catches a planted bug is enough.
        totals.enough.fetch_or(options.bug > 0, Ordering::Relaxed);
        let _guard = totals.printing.lock();
        if differs {
            println!(
                "FAILED: I14 the second run of the plan had another digest\n  {}",
                options.again(seed)
            );
        }
        report(&verdict, || options.again(seed));
    }
}

/// Returns the digest of a seed's run in another process.
fn elsewhere(options: &Options, seed: u64) -> Option<String> {
    let line = options.again(seed);
    let (_, arguments) = line.split_once(" -- ")?;
    let program = std::env::current_exe().ok()?;
    let output = Command::new(program).args(arguments.split(' ')).arg("--digest").output().ok()?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}
