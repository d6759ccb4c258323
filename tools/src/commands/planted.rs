//! Plants bugs in a copy of the tree, and reports which of them the worlds find.

use std::collections::{BTreeSet, VecDeque};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};
use std::{fs, io, thread};

use bandsync_tools::sim::planted;

/// Plants all bugs in a copy of the tree and runs the kept plans, then worlds from seed `first` on
/// for the bugs without a kept plan. Returns whether every bug is found.
///
/// # Errors
/// If the tree cannot be copied, or the copy does not build.
pub fn run(first: u64, seconds: f64, threads: usize) -> io::Result<bool> {
    let top = planted::top();
    let folder = planted::target(&top).join("planted");
    let copy = folder.join("tree");
    println!("planting {} bugs in a copy of the engine and building it …", planted::BUGS.len());
    if copy.exists() {
        fs::remove_dir_all(&copy)?;
    }
    planted::plant(&top, &copy)?;
    let simulate = planted::build(&copy, &folder.join("build"))?;
    let plans = planted::kept_plans(&top)?;
    let mut shown = BTreeSet::new();
    let mut missed = 0;
    for (path, plan) in plans.iter().filter(|(_, plan)| !plan.mark.is_empty()) {
        match planted::number(&plan.mark) {
            Some(number) if shows(&simulate, path, number)? => {
                shown.insert(number);
            }
            _ => {
                missed += 1;
                println!("  {} does not show {}", path.display(), plan.mark);
            }
        }
    }
    println!("kept plans show {} bugs, worlds are to find the others", shown.len());
    let began = Instant::now();
    let until = began + Duration::from_secs_f64(seconds);
    let others = (0..planted::BUGS.len()).filter(|index| !shown.contains(&(index + 1)));
    let queue: Mutex<VecDeque<Suspect>> = Mutex::new(others.map(Suspect::new).collect());
    let done = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                // Each bug is tried for a short time, and for longer each time that it is not
                // found.
                while let Some(mut suspect) =
                    queue.lock().ok().and_then(|mut queue| queue.pop_front())
                {
                    if Instant::now() < until {
                        suspect.try_it(&simulate, first, until);
                        if !suspect.caught
                            && let Ok(mut queue) = queue.lock()
                        {
                            queue.push_back(suspect);
                            continue;
                        }
                    }
                    if let Ok(mut done) = done.lock() {
                        done.push(suspect);
                    }
                }
            });
        }
    });
    let took = began.elapsed().as_secs_f64();
    let mut rows = done.into_inner().unwrap_or_default();
    rows.sort_by_key(|suspect| suspect.index);
    println!(
        "      bug                                                   seeds      time  invariant"
    );
    for row in &rows {
        let (number, name, seconds) = (row.index + 1, row.name(), row.spent.as_secs_f64());
        let what = if row.caught || !row.what.is_empty() { &row.what } else { "not caught" };
        println!("  {number:>2}  {name:<52} {:>6} {seconds:>7.2} s  {what}", row.seeds);
    }
    let caught = rows.iter().filter(|row| row.caught).count();
    println!("{caught} of {} caught in {took:.1} s on {} threads", rows.len(), threads);
    Ok(missed == 0 && caught == rows.len())
}

/// Runs a kept plan with the bug of this number. Returns whether the plan fails.
fn shows(simulate: &Path, plan: &Path, number: usize) -> io::Result<bool> {
    let output = Command::new(simulate)
        .args(["simulate", "--bug", &number.to_string(), "--plan"])
        .arg(plan)
        .output()?;
    Ok(String::from_utf8_lossy(&output.stdout).starts_with("FAILED"))
}

/// A planted bug, with the result so far.
struct Suspect {
    index: usize,
    /// Number of seeds that were run with the bug.
    seeds: u64,
    /// Time that these runs took.
    spent: Duration,
    /// Duration of the next try.
    slice: Duration,
    caught: bool,
    what: String,
}

impl Suspect {
    fn new(index: usize) -> Self {
        let slice = Duration::from_millis(500);
        Self { index, seeds: 0, spent: Duration::ZERO, slice, caught: false, what: String::new() }
    }

    fn name(&self) -> &'static str {
        planted::BUGS[self.index].name
    }

    /// Runs worlds with the bug for a while.
    fn try_it(&mut self, simulate: &Path, first: u64, until: Instant) {
        let began = Instant::now();
        let slice = self.slice.min(until - began);
        let child = Command::new(simulate)
            .args(["simulate", "--threads", "1", "--seed", &(first + self.seeds).to_string()])
            .args([
                "--seconds",
                &slice.as_secs_f64().to_string(),
                "--bug",
                &(self.index + 1).to_string(),
            ])
            .stdout(Stdio::piped())
            .spawn();
        let Ok(mut child) = child else { return };
        // A world exceeds its time by this much only if the engine does not return.
        let patience = slice + Duration::from_secs(3);
        while began.elapsed() < patience && matches!(child.try_wait(), Ok(None)) {
            thread::sleep(Duration::from_millis(2));
        }
        if matches!(child.try_wait(), Ok(None)) {
            self.caught = child.kill().and_then(|()| child.wait()).is_ok();
            self.what = "I16 no endless loop: the engine did not come back".into();
        } else {
            let text = child.wait_with_output().map(|output| output.stdout).unwrap_or_default();
            self.read(&String::from_utf8_lossy(&text));
        }
        self.spent += began.elapsed();
        self.slice *= 2;
    }

    /// Reads the report of the worlds.
    fn read(&mut self, text: &str) {
        if let Some(line) = text.lines().find(|line| line.starts_with("FAILED")) {
            let (_, what) = line.split_once(": ").unwrap_or(("", line));
            (self.caught, self.what) = (true, what.to_owned());
        }
        let count =
            text.lines().find_map(|line| line.split_once(" seeds from ")?.0.parse::<u64>().ok());
        self.seeds += count.unwrap_or(0);
    }
}
