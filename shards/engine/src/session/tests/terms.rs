//! Terms of commands: the id under which a command is applied once, and the time limit.

use super::*;

#[test]
fn a_command_whose_time_is_over_changes_nothing() {
    check(
        "a joins
         a play by=-1
         a set_tempo 120 by=-1
         a play by=0
         +1000
         a pause by=200
         a sync",
        "a joins: Leader v1 | a <- snapshot | all <- joined a Leader 1 | stats
         a play by=-1: TooLate notAfterServerMs!
         a set_tempo 120 by=-1: TooLate notAfterServerMs!
         a play by=0: v2 | all <- play 0 120 at 0 | all <- snapshot
         a pause by=200: v3 | all <- pause 1000 | all <- snapshot
         a sync: 1000 | a <- sync 1000",
    );
}

#[test]
fn membership_and_role_are_judged_before_the_time_and_the_state_after_it() {
    check(
        "a joins
         b joins
         c play by=-1
         b play by=-1
         b at_beat 1 by=-1
         b at 60000 by=-1
         b at 60000 by=0
         a song +1 by=-1
         a song +1 by=0",
        "a joins: Leader v1 | a <- snapshot | all <- joined a Leader 1 | stats
         b joins: Follower v1 | b <- snapshot | all <- joined b Follower 2 | stats
         c play by=-1: NotMember!
         b play by=-1: NotLeader!
         b at_beat 1 by=-1: NotLeader!
         b at 60000 by=-1: TooLate notAfterServerMs!
         b at 60000 by=0: done | b <- correct 0 not 60000
         a song +1 by=-1: TooLate notAfterServerMs!
         a song +1 by=0: NotAllowed!",
    );
}

#[test]
fn an_applied_command_is_repeated_after_its_time() {
    check(
        "a joins
         a play id=1 by=5
         +1000
         a play id=1 by=-995
         a pause id=2 by=-1
         a pause id=2",
        "a joins: Leader v1 | a <- snapshot | all <- joined a Leader 1 | stats
         a play id=1 by=5: v2 | all <- play 0 120 at 0 | all <- snapshot
         a play id=1 by=-995: repeated { epoch: 1, version: 2 }
         a pause id=2 by=-1: TooLate notAfterServerMs!
         a pause id=2: v3 | all <- pause 1000 | all <- snapshot",
    );
}
