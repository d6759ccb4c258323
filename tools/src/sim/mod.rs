//! The simulated world: several shards of the real engine, members with habits, a network and a
//! driver with faults, an oracle, and everything drawn from one seed. `tools/README.md` says what
//! is checked and how to use it.

mod actors;
mod agenda;
mod calm;
mod clock;
mod coverage;
mod cx;
mod decode;
pub mod digests;
mod frames;
mod model;
mod music;
mod net;
mod oracle;
pub mod plan;
pub mod planted;
mod record;
mod rng;
mod screens;
mod settings;
mod shell;
mod shrink;
mod songs;
mod storage;
mod turn;
mod wire;
mod world;

pub use oracle::Failure;
pub use plan::{Plan, Wanted};
pub use shrink::shrink;
pub use world::Verdict;

use std::panic::{self, AssertUnwindSafe};

use world::World;

/// Runs a plan. A panic of the engine counts as a broken invariant.
pub fn run(plan: &Plan) -> Verdict {
    run_world(&mut World::new(plan))
}

fn run_world(world: &mut World<'_>) -> Verdict {
    let outcome = panic::catch_unwind(AssertUnwindSafe(|| world.run()));
    outcome.unwrap_or_else(|cause| {
        let text = cause.downcast_ref::<String>().cloned();
        let text = text.or_else(|| cause.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        world.oracle.journal.fail(
            world.agenda.now,
            "I16 no panic",
            text.unwrap_or_else(|| "of an unknown kind".into()),
        );
        world.verdict()
    })
}

/// Runs a plan, and returns the story as well: all messages and acts, line by line.
pub fn narrate(plan: &Plan) -> (Verdict, Vec<String>) {
    let mut world = World::new(plan);
    world.oracle.journal.story = Some(Vec::new());
    let verdict = run_world(&mut world);
    (verdict, world.oracle.journal.story.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Small enough for every test run; the command runs as many as it has time for.
    const SEEDS: std::ops::Range<u64> = 0..60;

    #[test]
    fn a_fixed_set_of_seeds_violates_no_rule() {
        for seed in SEEDS {
            let plan = Plan::draw(seed, &Wanted { length: Some(5_000_000), ..Wanted::default() });
            let verdict = run(&plan);
            assert_eq!(
                verdict.failure, None,
                "cargo run --release -p bandsync-tools -- simulate --seed {seed} --hours 0.00139"
            );
        }
    }

    #[test]
    fn equal_plans_give_equal_runs() {
        for seed in 7..10 {
            let plan = Plan::draw(seed, &Wanted { length: Some(4_000_000), ..Wanted::default() });
            assert_eq!(run(&plan), run(&plan));
        }
        let digest = |seed| run(&Plan::draw(seed, &Wanted::default())).digest;
        assert_ne!(digest(7), digest(8));
    }

    #[test]
    fn a_plan_survives_serialization() {
        let plan = Plan::draw(3, &Wanted::default());
        let text = serde_json::to_string(&plan).unwrap();
        assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), plan);
    }

    /// Each kept plan is the smallest that once showed a bug. `--planted` shows that it still does,
    /// if a mark can bring the bug back.
    #[test]
    fn kept_plans_pass_and_name_their_bugs() {
        let plans = planted::kept_plans(&planted::top()).unwrap();
        assert!(!plans.is_empty(), "there are no plans to run again");
        for (path, plan) in plans {
            assert_eq!(run(&plan).failure, None, "{}", path.display());
            let known = plan.mark.is_empty() || planted::number(&plan.mark).is_some();
            assert!(known, "{}: {}", path.display(), plan.mark);
        }
    }
}
