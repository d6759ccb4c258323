//! A progress bar on a terminal, for work that takes longer than a second.

use std::io::{IsTerminal, stderr};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// The progress of some work.
pub struct Progress {
    total: u64,
    done: u64,
    began: Instant,
    bar: Option<ProgressBar>,
}

/// Time before the bar appears: shorter work needs none.
const PATIENCE: Duration = Duration::from_secs(1);

impl Progress {
    /// Starts at 0 of `total` bytes, inputs or tries.
    pub fn new(total: u64) -> Self {
        Self { total, done: 0, began: Instant::now(), bar: None }
    }

    /// Adds to the progress, and draws the bar if it is due.
    pub fn advance(&mut self, by: u64) {
        self.done += by;
        if self.bar.is_none() && is_wanted(self.began.elapsed(), stderr().is_terminal()) {
            let bar = ProgressBar::with_draw_target(Some(self.total), ProgressDrawTarget::stderr());
            if let Ok(style) = ProgressStyle::with_template("{bar:40} {percent:>3} %  {eta} left") {
                bar.set_style(style);
            }
            self.bar = Some(bar);
        }
        if let Some(bar) = &self.bar {
            bar.set_position(self.done);
        }
    }
}

fn is_wanted(elapsed: Duration, is_terminal: bool) -> bool {
    is_terminal && elapsed > PATIENCE
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_shown_only_after_a_second_and_on_a_terminal() {
        assert!(!is_wanted(Duration::from_secs(1), true));
        assert!(is_wanted(Duration::from_millis(1_001), true));
        assert!(!is_wanted(Duration::from_secs(100), false));
    }
}
