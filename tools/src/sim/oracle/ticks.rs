//! Checks ticks and beats: I4, I5, the half of I10 about ticks, and the ticks of I13 and I15.

use super::super::model::Model;
use super::journal::Breach;
use super::rules::LATE;
use super::session::SessionOracle;

impl SessionOracle {
    /// Checks that a tick has exactly the position of the music.
    pub fn check_place(&self, now: u64, version: (u64, u64), position: i128) -> Result<(), Breach> {
        let Some(model) = self.settled().filter(|model| !model.music.is_unknown()) else {
            return Ok(());
        };
        let should = model.music.at(now);
        if position != should.position || !should.playing {
            let what = format!("a tick says {position}, should be {should:?}");
            return Err(("I4 position", what));
        }
        if version != (self.epoch, model.version) {
            let what =
                format!("a tick of {version:?}, should be {:?}", (self.epoch, model.version));
            return Err(("I15 tick of its version", what));
        }
        Ok(())
    }

    /// Checks that a metronome tick has the time of a beat. Batch windows last `batch`
    /// microseconds.
    pub fn check_beat(&self, now: u64, at: u64, batch: u64) -> Result<(), Breach> {
        // A change may overtake a beat that was announced ahead and waits for the end of a window.
        let is_settled = now > self.owed.changed_at + batch + LATE && at >= now;
        let is_known = |model: &&Model| is_settled && !model.music.is_unknown();
        let Some(model) = self.settled().filter(is_known) else { return Ok(()) };
        let beat = model.music.at(at).beat.rem_euclid(1_000_000);
        if beat.min(1_000_000 - beat) > 100 {
            return Err(("I5 time of a beat", format!("{at} µs is {beat} microbeats into one")));
        }
        Ok(())
    }

    /// Counts a tick, and checks that it is volatile, reaches no strangers, and that there is at
    /// most one per `interval` microseconds.
    pub fn ticked(
        &mut self,
        now: u64,
        interval: u64,
        volatile: bool,
        strangers: bool,
    ) -> Result<(), Breach> {
        self.ticking.last = now;
        self.ticking.count += 1;
        let ticks = self.ticking.count;
        let most = self.ticking.since.map_or(ticks, |since| (now - since) / interval + 2);
        match () {
            () if !volatile => Err(("I10 ticks are volatile", "a tick that would queue".into())),
            () if strangers => {
                let what = "a tick to a client that is not in the session";
                Err(("I13 receivers", what.into()))
            }
            () if ticks > most => {
                Err(("I4 ticks not early", format!("{ticks} ticks where {most} are due")))
            }
            () => Ok(()),
        }
    }
}
