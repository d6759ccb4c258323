//! Counts the instructions of a replayed evening under callgrind and compares them with the
//! recorded baseline. A change of more than 3 % is reported, with the functions that grew.
//! `perf/counted` builds it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use bandsync_perf::gig;
use clap::Args;

/// Counts instructions. The exit code is 1 if they exceed the baseline by more than 3 %.
#[derive(Debug, Args)]
pub struct Options {
    /// The recorded counts: a line for each function
    #[arg(long, default_value = "perf/counted.txt")]
    baseline: PathBuf,
    /// Record the counts as the new baseline
    #[arg(long)]
    write: bool,
    /// Compare the outputs with `perf/evening.txt` instead, which needs no valgrind. With
    /// `--write`, record them
    #[arg(long)]
    digest: bool,
    /// Only replay, to be counted from outside
    #[arg(long, hide = true)]
    replay: bool,
}

/// Size of the evening: large enough that single events do not matter, small enough to be counted
/// in seconds.
const SESSIONS: u32 = 12;
const MEMBERS: u32 = 8;
const SECONDS: u32 = 12;

/// The number of outputs of the evening, and their digest.
const EVENING: &str = "perf/evening.txt";

/// A change of this many percent is reported.
const CHANGE: f64 = 3.0;

/// Maximum functions named if the sum has changed.
const NAMED: usize = 8;

/// Instructions by function.
type Counts = BTreeMap<String, u64>;

/// Runs the command.
pub fn run(options: Options) -> io::Result<ExitCode> {
    let mut screen = io::stdout().lock();
    if options.replay {
        let outputs = gig::replay(&gig::evening(SESSIONS, MEMBERS, SECONDS));
        writeln!(screen, "{outputs} outputs")?;
        return Ok(ExitCode::SUCCESS);
    }
    if options.digest {
        return digest(options.write, &mut screen);
    }
    let counts = count()?;
    if options.write {
        std::fs::write(&options.baseline, listed(&counts))?;
        writeln!(
            screen,
            "{} instructions, recorded in {}",
            sum(&counts),
            options.baseline.display()
        )?;
        return Ok(ExitCode::SUCCESS);
    }
    let baseline = read(&options.baseline)?;
    let (text, worse) = compared(&baseline, &counts);
    screen.write_all(text.as_bytes())?;
    Ok(if worse { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Compares the digest of the engine's outputs with the recorded one.
fn digest(write: bool, screen: &mut impl Write) -> io::Result<ExitCode> {
    let trace = gig::evening(SESSIONS, MEMBERS, SECONDS);
    let now = format!("{} outputs, digest {:08x}", gig::replay(&trace), gig::digest(&trace));
    if write {
        std::fs::write(EVENING, format!("{now}\n"))?;
    }
    let recorded = std::fs::read_to_string(EVENING)?;
    let is_same = recorded.trim_end() == now;
    writeln!(
        screen,
        "the evening: {now}, {}",
        if is_same { "as recorded" } else { "NOT AS RECORDED" }
    )?;
    Ok(if is_same { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs this program under callgrind, which counts only within the replay.
fn count() -> io::Result<Counts> {
    let file = std::env::temp_dir().join(format!("bandsync-counted-{}", std::process::id()));
    let status = Command::new("valgrind")
        .args(["--tool=callgrind", "--toggle-collect=bandsync_perf::gig::replay"])
        .arg(format!("--callgrind-out-file={}", file.display()))
        .arg(std::env::current_exe()?)
        .args(["counted", "--replay"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()?;
    let text = std::fs::read_to_string(&file);
    // If this fails, the file is removed with its folder.
    let _ = std::fs::remove_file(&file);
    let counts = parse(&text?);
    if !status.success() || counts.is_empty() {
        return Err(io::Error::other("valgrind counted nothing"));
    }
    Ok(counts)
}

/// Parses callgrind's output: each function's own instructions, without those of its callees.
fn parse(text: &str) -> Counts {
    let mut names: BTreeMap<&str, &str> = BTreeMap::new();
    let mut counts = Counts::new();
    let mut current = "";
    let mut is_call = false;
    for line in text.lines() {
        if let Some((kind, name)) =
            line.split_once('=').filter(|(kind, _)| ["fn", "cfn"].contains(kind))
        {
            let (id, name) = name.split_once(' ').unwrap_or((name, ""));
            if !name.is_empty() {
                names.insert(id, name);
            }
            if kind == "fn" {
                current = names.get(id).copied().unwrap_or(id);
            }
        } else if line.starts_with("calls=") {
            // The line after it holds the cost of the callee.
            is_call = true;
        } else if line.starts_with(|c: char| c.is_ascii_digit() || "+-*".contains(c)) {
            let cost = line.split_whitespace().nth(1).and_then(|word| word.parse::<u64>().ok());
            if let Some(cost) = cost.filter(|_| !std::mem::take(&mut is_call)) {
                *counts.entry(plain(current)).or_default() += cost;
            }
        }
    }
    counts
}

/// Returns a function's name without the number that differs between builds.
fn plain(name: &str) -> String {
    let name =
        name.split_once("::h").filter(|(_, hash)| is_hash(hash)).map_or(name, |(name, _)| name);
    name.replace(' ', "")
}

fn is_hash(text: &str) -> bool {
    text.len() == 16 && text.chars().all(|c| c.is_ascii_hexdigit())
}

fn sum(counts: &Counts) -> u64 {
    counts.values().sum()
}

/// Prints the counts, the largest first. Functions below a thousandth are added up.
fn listed(counts: &Counts) -> String {
    let all = sum(counts);
    let mut lines: Vec<_> = counts.iter().filter(|(_, count)| **count * 1_000 >= all).collect();
    lines.sort_by_key(|(name, count)| (u64::MAX - **count, *name));
    let rest = all - lines.iter().map(|(_, count)| **count).sum::<u64>();
    let mut text = String::new();
    for (name, count) in lines {
        let _ = writeln!(text, "{count} {name}");
    }
    let _ = writeln!(text, "{rest} (others)");
    text
}

fn read(path: &Path) -> io::Result<Counts> {
    let text = std::fs::read_to_string(path)?;
    let line = |line: &str| {
        let (count, name) = line.split_once(' ')?;
        Some((name.to_owned(), count.parse().ok()?))
    };
    text.lines()
        .map(|text| line(text).ok_or_else(|| io::Error::other(format!("no count: {text}"))))
        .collect()
}

/// Describes the changes, and returns whether there are too many more instructions.
fn compared(baseline: &Counts, counts: &Counts) -> (String, bool) {
    let (before, after) = (sum(baseline), sum(counts));
    let change = (after as f64 / before as f64 - 1.0) * 100.0;
    let mut text = format!("{after} instructions, {before} recorded: {change:+.2} %\n");
    if change.abs() > CHANGE {
        let listed: Counts = listed(counts)
            .lines()
            .filter_map(|line| {
                let (count, name) = line.split_once(' ')?;
                Some((name.to_owned(), count.parse().ok()?))
            })
            .collect();
        let names: std::collections::BTreeSet<_> = baseline.keys().chain(listed.keys()).collect();
        let of = |counts: &Counts, name: &str| counts.get(name).copied().unwrap_or(0) as i64;
        let mut grown: Vec<_> =
            names.iter().map(|name| (of(&listed, name) - of(baseline, name), name)).collect();
        grown.sort_by_key(|(by, _)| if change > 0.0 { -by } else { *by });
        for (by, name) in grown.iter().take(NAMED) {
            let _ = writeln!(text, "{by:+12} {name}");
        }
    }
    (text, change > CHANGE)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "events: Ir\nfn=(1) a::b::h0123456789abcdef\n10 100\n+2 5\ncfn=(2) c d\ncalls=1 7\n10 900\n\
                        fn=(2)\n7 900\nfn=(1)\n* 1\n";

    #[test]
    fn own_instructions_are_counted_per_function() {
        let expected = [("a::b".to_owned(), 106), ("cd".to_owned(), 900)];
        assert_eq!(parse(TEXT), Counts::from(expected));
    }

    #[test]
    fn growth_is_reported_with_the_function_that_grew() {
        let counts = |a, b| Counts::from([("a".to_owned(), a), ("b".to_owned(), b)]);
        let (text, worse) = compared(&counts(1_000, 1_000), &counts(1_010, 1_100));
        assert!(worse && text.lines().nth(1).is_some_and(|line| line.trim() == "+100 b"), "{text}");
        let (text, worse) = compared(&counts(1_000, 1_000), &counts(1_010, 1_020));
        assert!(!worse && text.lines().count() == 1, "{text}");
        assert!(!compared(&counts(1_000, 1_000), &counts(500, 1_000)).1);
    }
}
