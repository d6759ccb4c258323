//! Shrinks a failing plan to the smallest one that still breaks the same invariant.

use super::plan::{Driver, Plan};
use super::{Failure, run};

/// Maximum number of runs to shrink one plan.
const RUNS_MAX: u32 = 4_000;

/// Shrinks a plan that fails. Returns the smaller plan and its failure.
pub fn shrink(plan: &Plan) -> Option<(Plan, Failure)> {
    let failure = run(plan).failure?;
    let mut search = Search { best: plan.clone(), failure, runs: 0 };
    search.cut_after_failure();
    search.leave_out_classes();
    loop {
        let before = search.best.clone();
        search.leave_out_steps();
        search.quieten();
        search.leave_out_people();
        search.cut_after_failure();
        if search.best == before || search.runs >= RUNS_MAX {
            return Some((search.best, search.failure));
        }
    }
}

struct Search {
    best: Plan,
    failure: Failure,
    runs: u32,
}

impl Search {
    /// Keeps a plan if it breaks the same invariant.
    fn keeps(&mut self, plan: Plan) -> bool {
        if plan == self.best || self.runs >= RUNS_MAX {
            return false;
        }
        self.runs += 1;
        match run(&plan).failure.filter(|failure| failure.invariant == self.failure.invariant) {
            Some(failure) => {
                (self.best, self.failure) = (plan, failure);
                true
            }
            None => false,
        }
    }

    /// Drops the steps after the failure, which cannot have caused it. Worlds begin at one second.
    fn cut_after_failure(&mut self) {
        let mut plan = self.best.clone();
        let end = self.failure.at.saturating_sub(1_000_000);
        plan.steps.retain(|step| step.at <= end);
        plan.shape.length = plan.shape.length.min(end + 1);
        self.keeps(plan);
    }

    fn leave_out_classes(&mut self) {
        for class in self.best.classes() {
            let mut plan = self.best.clone();
            plan.steps.retain(|step| std::mem::discriminant(&step.act) != class);
            self.keeps(plan);
        }
    }

    /// Leaves out smaller and smaller pieces of the list of steps.
    fn leave_out_steps(&mut self) {
        let mut piece = self.best.steps.len().div_ceil(2);
        while piece > 0 {
            let mut at = 0;
            while at < self.best.steps.len() {
                let mut plan = self.best.clone();
                plan.steps.drain(at..(at + piece).min(plan.steps.len()));
                if !self.keeps(plan) {
                    at += piece;
                }
            }
            if piece == 1 {
                break;
            }
            piece = piece.div_ceil(2);
        }
    }

    /// Removes permanent faults of network, driver and storage, and special settings.
    fn quieten(&mut self) {
        let changes: [fn(&mut Plan); 16] = [
            |plan| plan.shape.pollers = 0,
            |plan| plan.shape.storage = None,
            |plan| plan.shape.deflate = None,
            |plan| plan.shape.hurry = false,
            |plan| plan.shape.net.jitter = 0,
            |plan| plan.shape.net.chop = 0,
            |plan| plan.shape.net.window = 262_144,
            |plan| plan.shape.net.detour = 0,
            |plan| plan.shape.net.delay = 100,
            |plan| {
                plan.shape.driver = Driver {
                    late: 0,
                    spurious: 0,
                    short_write: 0,
                    short_read: 0,
                    mail: 20,
                    mark: 65_536,
                };
            },
            |plan| plan.shape.driver.late = 0,
            |plan| plan.shape.driver.spurious = 0,
            |plan| (plan.shape.driver.short_write, plan.shape.driver.short_read) = (0, 0),
            |plan| plan.shape.shards = 1,
            |plan| plan.shape.calm = false,
            |plan| plan.shape.tick = 250_000,
        ];
        for change in changes {
            let mut plan = self.best.clone();
            change(&mut plan);
            self.keeps(plan);
        }
    }

    /// Leaves out members and sessions that no step names.
    fn leave_out_people(&mut self) {
        for member in (0..self.best.shape.members).rev() {
            let mut plan = self.best.clone();
            plan.steps.retain(|step| step.who != member);
            self.keeps(plan);
        }
        while self.best.shape.members > 1 {
            let mut plan = self.best.clone();
            plan.shape.members -= 1;
            if plan.steps.iter().any(|step| step.who >= plan.shape.members) || !self.keeps(plan) {
                break;
            }
        }
    }
}
