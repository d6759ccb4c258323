//! The courier: the thread that carries orders to one primary and brings the answers back.
//!
//! It takes orders in turn, sends up to [`BATCH_MAX`] at a time in one pipeline, and reads their
//! answers in order. Orders of one session are sent one after the other: while one waits, those
//! behind it wait too. A commit without an answer is sent again on the next connection, because
//! Redis may have it: the script lets that do no harm.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bandsync_engine::io::node::{ClaimOutcome, CommitOutcome};
use bandsync_engine::io::{NodeId, NodeNews};
use bandsync_engine::record::Record;
use bandsync_engine::words::ids::{SessionId, ShardId};
use bandsync_redis::{Answer, fields};
use crossbeam_channel::{Receiver, RecvTimeoutError};
use log::{error, info, warn};
use redis::{Cmd, Value, cmd};

use crate::epoch;
use crate::frame::{self, Target};
use crate::line::{Fresh, Line, Open, ask_at};
use crate::meters::add;
use crate::order::{Commit, Job, Task};
use crate::reply::{self, Claimed, Owned, Published, Trouble};
use crate::scripts::Script;
use crate::shared::Shared;

/// Maximum orders of one pipeline. Guessed: their answers fit the kernel's buffers.
const BATCH_MAX: usize = 64;

/// Time after which a commit or a message is given up. Specified (R2).
const COMMIT_WAIT: Duration = Duration::from_secs(2);

/// Time after which a claim is given up. Specified.
const CLAIM_WAIT: Duration = Duration::from_secs(3);

/// Time that a takeover waits for seniority. Specified.
const TAKEOVER_WAIT: Duration = Duration::from_secs(1);

/// Pause before a command that Redis could not carry out is sent again.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// Maximum bytes of messages that are published together.
const TOGETHER_BYTES_MAX: usize = 256 * 1024;

/// Maximum size of a message.
const MESSAGE_BYTES_MAX: usize = frame::BYTES_MAX - frame::FRONT_BYTES - frame::SEAL_BYTES;

/// Maximum size of a stored record with its branches: as in the storage.
const STORED_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Time that data set aside is kept.
const ASIDE_TTL: Duration = Duration::from_secs(7 * 24 * 3_600);

/// Jobs that are sent together: one, or several messages that become one frame.
struct Unit {
    jobs: Vec<Job>,
    commands: usize,
}

/// The result of a job's commands.
enum After {
    /// The job is finished.
    Done,
    /// The job is sent again, not before this.
    Again(Instant),
}

/// The thread's state.
pub struct Worker {
    shared: Arc<Shared>,
    lane: usize,
    orders: Receiver<Job>,
    line: Line,
    /// Jobs in order.
    waiting: VecDeque<Job>,
    /// The time of the next test of the own subscription.
    echo_at: Instant,
    /// Frames of commits that were carried out elsewhere.
    republished: Vec<Cmd>,
    /// Whether the connection is closed after this round.
    must_close: bool,
    /// The last trouble that was logged.
    logged: String,
}

impl Worker {
    /// Creates the courier of a primary.
    pub fn new(shared: Arc<Shared>, lane: usize, orders: Receiver<Job>) -> Self {
        let line = shared.line(lane);
        Self {
            shared,
            lane,
            orders,
            line,
            waiting: VecDeque::new(),
            echo_at: Instant::now(),
            republished: Vec::new(),
            must_close: false,
            logged: String::new(),
        }
    }

    /// Works until the end of the node, and then as long as orders wait, at most 2 s.
    pub fn run(mut self) {
        let mut ends: Option<Instant> = None;
        loop {
            let wake = self.turn();
            if self.shared.has_ended() {
                let ends = *ends.get_or_insert_with(|| Instant::now() + COMMIT_WAIT);
                if self.waiting.is_empty() && self.orders.is_empty() || Instant::now() >= ends {
                    break;
                }
            }
            self.take(wake);
        }
        // The inbox waits for a message: this one ends it.
        if let Ok((open, _)) = self.line.open() {
            let _ = open.ask(&[echo(&self.shared, self.lane, open.publish())]);
        }
        let now = Instant::now() + CLAIM_WAIT;
        self.expire(now);
    }

    /// Waits for orders until `wake`, and takes all that are there.
    fn take(&mut self, wake: Instant) {
        let wait = wake.saturating_duration_since(Instant::now());
        match self.orders.recv_timeout(wait) {
            Ok(job) => self.accept(job),
            Err(RecvTimeoutError::Timeout) => return,
            Err(RecvTimeoutError::Disconnected) => {
                return std::thread::sleep(wait.min(RETRY_PAUSE));
            }
        }
        while let Ok(job) = self.orders.try_recv() {
            self.accept(job);
        }
    }

    fn accept(&mut self, job: Job) {
        if let Task::Noted { revision } = job.task {
            if self.shared.roster.lock().note(job.shard.0, revision) {
                self.shared.read_table();
            }
            return;
        }
        if matches!(job.task, Task::Publish { .. } | Task::Announce { .. })
            && body_bytes(&job.task) > MESSAGE_BYTES_MAX
        {
            error!("a message of {} bytes is not sent: too long", body_bytes(&job.task));
            return self.give_up(job);
        }
        self.waiting.push_back(job);
    }

    /// Sends what can be sent. Returns the time at which there may be more to do.
    fn turn(&mut self) -> Instant {
        self.shared.look();
        let now = Instant::now();
        self.expire(now);
        self.drop_old();
        let lease = self.shared.plan.lease_ttl;
        self.line.renew(self.shared.endpoint(self.lane));
        let has_buckets = self.shared.buckets_of(self.lane).next().is_some();
        if !has_buckets && self.waiting.is_empty() {
            return now + lease / 4;
        }
        let must_echo = has_buckets && self.echo_at <= now;
        if self.waiting.is_empty() && !must_echo {
            return self.echo_at;
        }
        let units = self.pick(now);
        if units.is_empty() && !must_echo {
            return self.echo_at.min(now + Duration::from_millis(5));
        }
        let fresh = match self.line.open() {
            Ok((_, fresh)) => fresh,
            Err(retry) => {
                self.put_back(units.into_iter().flat_map(|unit| unit.jobs).collect());
                return retry.min(now + RETRY_PAUSE);
            }
        };
        if fresh == Fresh::Again {
            add(&self.shared.meters().reconnects, 1);
        }
        if must_echo {
            self.echo_at = now + lease / 4;
        }
        self.round(units, must_echo, now);
        // More orders may have arrived meanwhile.
        Instant::now()
    }

    /// Takes the jobs that can be sent now out of the queue.
    fn pick(&mut self, now: Instant) -> Vec<Unit> {
        let mut units: Vec<Unit> = Vec::new();
        let mut blocked: BTreeSet<SessionId> = BTreeSet::new();
        // The last unit of messages, by bucket, that another message may join.
        let mut open: BTreeMap<u16, usize> = BTreeMap::new();
        let mut left = VecDeque::new();
        for job in std::mem::take(&mut self.waiting) {
            let session = job.task.session().cloned();
            let bucket = self.bucket(&job.task);
            if self.shared.routes.lane(bucket) != self.lane {
                self.shared.routes.forward(bucket, job);
                continue;
            }
            let is_blocked = session.as_ref().is_some_and(|session| blocked.contains(session));
            if units.len() >= BATCH_MAX || is_blocked || !self.may_go(&job, now) {
                blocked.extend(session);
                left.push_back(job);
                continue;
            }
            match &job.task {
                Task::Publish { to, body, .. } => {
                    let joined = open.get(&bucket).copied().filter(|at| {
                        let jobs = &units[*at].jobs;
                        let size: usize = jobs.iter().map(|job| body_bytes(&job.task)).sum();
                        let same =
                            matches!(&jobs[0].task, Task::Publish { to: other, .. } if other == to);
                        same && size + body.len() <= TOGETHER_BYTES_MAX
                    });
                    if let Some(at) = joined {
                        units[at].jobs.push(job);
                        continue;
                    }
                    open.insert(bucket, units.len());
                }
                // A later message must not overtake this one.
                Task::Commit(_) | Task::Announce { .. } => {
                    open.remove(&bucket);
                }
                _ => {}
            }
            units.push(Unit { jobs: vec![job], commands: 0 });
        }
        self.waiting = left;
        units
    }

    fn may_go(&self, job: &Job, now: Instant) -> bool {
        if job.not_before > now {
            return false;
        }
        let Task::Claim { session, expected, .. } = &job.task else { return true };
        let bucket = self.shared.names.bucket(session);
        if !self.shared.subscribed.lock().contains(&self.lane)
            || !self.shared.roster.lock().is_admitted()
        {
            return false;
        }
        let leases = self.shared.leases.lock();
        match expected {
            // R5: a takeover is for nodes whose lease has stood long enough.
            Some(_) => leases.is_senior(bucket, now),
            None => leases.may_found(bucket, now),
        }
    }

    /// The bucket of a task. Those of no session use the first.
    fn bucket(&self, task: &Task) -> u16 {
        task.session().map_or(0, |session| self.shared.names.bucket(session))
    }

    /// Returns jobs to the front of the queue, in order.
    fn put_back(&mut self, jobs: Vec<Job>) {
        for job in jobs.into_iter().rev() {
            self.waiting.push_front(job);
        }
    }

    /// Gives up jobs that have waited too long.
    fn expire(&mut self, now: Instant) {
        let is_late = |job: &Job| {
            let wait = match &job.task {
                // It waits for seniority, which may take longer than a takeover may wait.
                Task::Claim { expected: Some(_), .. } if !job.is_sent => TAKEOVER_WAIT,
                Task::Claim { .. } => CLAIM_WAIT,
                _ => COMMIT_WAIT,
            };
            job.since + wait <= now
        };
        if !self.waiting.iter().any(is_late) {
            return;
        }
        let (late, left): (VecDeque<Job>, _) =
            std::mem::take(&mut self.waiting).into_iter().partition(is_late);
        self.waiting = left;
        late.into_iter().for_each(|job| self.give_up(job));
    }

    /// Gives up what was ordered before this process was stopped, if a lease ended meanwhile:
    /// another node may own the session, and nothing old may be said of it.
    fn drop_old(&mut self) {
        let Some(woken) = self.shared.leases.lock().woken() else { return };
        let is_old = |job: &Job| {
            let is_said =
                matches!(job.task, Task::Commit(_) | Task::Publish { .. } | Task::Announce { .. });
            is_said && job.since <= woken
        };
        if !self.waiting.iter().any(is_old) {
            return;
        }
        let (old, left): (VecDeque<Job>, _) =
            std::mem::take(&mut self.waiting).into_iter().partition(is_old);
        self.waiting = left;
        old.into_iter().for_each(|job| self.give_up(job));
    }

    /// Answers a job that was not carried out.
    fn give_up(&self, job: Job) {
        let meters = self.shared.meters();
        let news = match job.task {
            Task::Claim { session, .. } => {
                NodeNews::Claimed { session, outcome: ClaimOutcome::Unknown }
            }
            Task::Commit(commit) => {
                let Commit { session, epoch, version, .. } = *commit;
                let outcome =
                    if job.is_sent { CommitOutcome::Unknown } else { CommitOutcome::Unsent };
                add(if job.is_sent { &meters.commits_unknown } else { &meters.commits_unsent }, 1);
                NodeNews::Committed { session, epoch, version, outcome }
            }
            Task::Publish { session, to, .. } => NodeNews::Unheard { session: Some(session), to },
            Task::Announce { to, .. } => NodeNews::Unheard { session: None, to },
            // A session without an owner is found by the end of the lease, a deleted one expires.
            Task::Hint { .. } | Task::Noted { .. } | Task::Release { .. } | Task::Forget { .. } => {
                return;
            }
        };
        self.shared.tell(job.shard, news);
    }

    /// Sends these units, which were picked at a time, in one pipeline and handles their answers.
    fn round(&mut self, mut units: Vec<Unit>, must_echo: bool, picked: Instant) {
        let Ok((open, _)) = self.line.open() else {
            return self.put_back(units.into_iter().flat_map(|unit| unit.jobs).collect());
        };
        let mut bytes = Vec::new();
        if must_echo {
            echo(&self.shared, self.lane, open.publish()).write_packed_command(&mut bytes);
        }
        for unit in &mut units {
            let commands = commands(&self.shared, open, unit);
            unit.commands = commands.len();
            commands.iter().for_each(|command| command.write_packed_command(&mut bytes));
        }
        let has_slept = self.shared.look()
            || self.shared.leases.lock().woken().is_some_and(|woken| woken >= picked);
        if has_slept {
            // This process was stopped since the jobs were picked. If it is stopped after this, the
            // scripts refuse what it sends: by the epoch, or by the end of its lease.
            return self.put_back(units.into_iter().flat_map(|unit| unit.jobs).collect());
        }
        // A message without receivers has no command.
        let mut is_lost = !bytes.is_empty() && open.wire.send(&bytes).is_err();
        if must_echo && !is_lost {
            is_lost = open.wire.receive().is_err();
        }
        let mut again = Vec::new();
        for unit in units {
            let answers = if is_lost { Err(()) } else { self.answers(unit.commands) };
            match answers {
                Ok(answers) => self.finish(unit, answers, &mut again),
                Err(()) => {
                    is_lost = true;
                    self.unanswered(unit, &mut again);
                }
            }
        }
        let again_published = std::mem::take(&mut self.republished);
        if !again_published.is_empty() && !is_lost {
            let sent = self.line.open().map(|(open, _)| open.ask(&again_published));
            is_lost = !matches!(sent, Ok(Ok(_)));
        }
        if std::mem::take(&mut self.must_close) || is_lost {
            self.line.fail();
            self.shared.lost(self.lane);
        } else {
            self.line.works();
        }
        self.put_back(again);
    }

    /// Receives as many answers.
    fn answers(&mut self, count: usize) -> Result<Vec<Answer>, ()> {
        let Ok((open, Fresh::No)) = self.line.open() else { return Err(()) };
        (0..count).map(|_| open.wire.receive().map_err(|_| ())).collect()
    }

    /// Handles jobs that were sent, or would have been, on a connection that was lost.
    fn unanswered(&self, unit: Unit, again: &mut Vec<Job>) {
        for mut job in unit.jobs {
            match job.task {
                // Sent again, a message might arrive twice or behind later ones.
                Task::Publish { .. } | Task::Announce { .. } | Task::Hint { .. } => {
                    self.give_up(job)
                }
                _ => {
                    job.is_sent = true;
                    add(&self.shared.meters().retries, 1);
                    again.push(job);
                }
            }
        }
    }

    /// Handles the answers to a unit.
    fn finish(&mut self, unit: Unit, answers: Vec<Answer>, again: &mut Vec<Job>) {
        if let [
            Job { task: Task::Publish { .. } | Task::Announce { .. } | Task::Hint { .. }, .. },
            ..,
        ] = &unit.jobs[..]
        {
            return self.published(unit, answers, again);
        }
        let Some(mut job) = unit.jobs.into_iter().next() else { return };
        // The last answer is that of the script; those before belong to data set aside.
        let Some(answer) = answers.into_iter().next_back() else { return };
        let after = match answer.map_err(|error| Trouble::of(&error)) {
            Ok(value) => self.answered(&job, &value),
            Err(Trouble::Elsewhere { asking: true, host, port }) => {
                self.follow(&mut job, (host, port))
            }
            Err(trouble) => Err(trouble),
        };
        let after = after.unwrap_or_else(|trouble| self.react(&mut job, trouble));
        if let After::Again(at) = after {
            job.not_before = at;
            again.push(job);
        }
    }

    /// Handles the answers to a frame: the script's, or the number of receivers on each channel.
    fn published(&mut self, unit: Unit, answers: Vec<Answer>, again: &mut Vec<Job>) {
        let to = match &unit.jobs[0].task {
            Task::Publish { to, .. } | Task::Announce { to, .. } | Task::Hint { to } => to.clone(),
            _ => return,
        };
        let unheard = match is_fenced(&self.shared, &unit.jobs[0].task) {
            true => self.unheard_of_script(&to, answers),
            false => Ok(self.unheard_of_channels(&to, answers)),
        };
        let unheard = match unheard {
            Ok(unheard) => unheard,
            // Nothing was published, and no later message either: they use the same script.
            Err(Trouble::NoScript) => {
                if let Ok((open, Fresh::No)) = self.line.open() {
                    open.forget_scripts();
                }
                add(&self.shared.meters().retries, 1);
                return again.extend(unit.jobs);
            }
            Err(trouble) => {
                self.complain(&trouble);
                to
            }
        };
        if unheard.is_empty() {
            return;
        }
        add(&self.shared.meters().deaf, unheard.len() as u64);
        for job in unit.jobs {
            let session = match job.task {
                Task::Publish { session, .. } => Some(session),
                Task::Announce { .. } => None,
                _ => continue,
            };
            let news = NodeNews::Unheard { session, to: unheard.clone() };
            self.shared.tell(job.shard, news);
        }
    }

    /// Returns the receivers that the script did not reach.
    fn unheard_of_script(&self, to: &[u16], answers: Vec<Answer>) -> Result<Vec<u16>, Trouble> {
        // A message without receivers has no command.
        let Some(answer) = answers.into_iter().next() else { return Ok(Vec::new()) };
        let answer = answer.map_err(|error| Trouble::of(&error))?;
        Ok(match reply::published(&answer)? {
            Published::Done { deaf } => deaf.iter().filter_map(|at| to.get(*at)).copied().collect(),
            Published::Late => {
                add(&self.shared.meters().published_late, 1);
                to.to_vec()
            }
        })
    }

    /// Returns the receivers whose channels nobody listens to.
    fn unheard_of_channels(&mut self, to: &[u16], answers: Vec<Answer>) -> Vec<u16> {
        let mut unheard = Vec::new();
        for (number, answer) in to.iter().zip(answers) {
            match answer {
                Ok(Value::Int(1..)) => {}
                Ok(_) => unheard.push(*number),
                Err(error) => {
                    unheard.push(*number);
                    let trouble = Trouble::of(&error);
                    if let Trouble::Elsewhere { .. } = trouble {
                        self.shared.learn();
                    }
                    self.complain(&trouble);
                }
            }
        }
        unheard
    }

    /// Carries a job out at the server to which its slot is moving. A commit is published once more
    /// then: the server that the slot leaves still has the subscribers.
    fn follow(&mut self, job: &mut Job, place: (String, u16)) -> Result<After, Trouble> {
        add(&self.shared.meters().redirections, 1);
        let Ok((open, Fresh::No)) = self.line.open() else { return Ok(After::Again(job.since)) };
        let Some(call) = call(&self.shared, open.publish(), &job.task) else {
            return Ok(After::Done);
        };
        let publish = open.publish();
        let command = call.script.call(true, &call.keys, &call.arguments);
        match ask_at(self.line.endpoint(), place, &command) {
            Ok(Ok(value)) => {
                let after = self.answered(job, &value)?;
                if let (Task::Commit(commit), After::Done) = (&job.task, &after) {
                    self.republished.extend(republish(&self.shared, publish, commit));
                }
                Ok(after)
            }
            Ok(Err(error)) => Err(match Trouble::of(&error) {
                // Some of its keys are here and some there: wait for the end of the move.
                Trouble::Elsewhere { .. } => Trouble::Later(error.to_string()),
                trouble => trouble,
            }),
            Err(error) => {
                job.is_sent = true;
                Err(Trouble::Later(error.to_string()))
            }
        }
    }

    /// Handles the answer of a script.
    fn answered(&self, job: &Job, value: &Value) -> Result<After, Trouble> {
        let meters = self.shared.meters();
        match &job.task {
            Task::Claim { session, .. } => {
                let claimed = reply::claimed(value)?;
                add(&meters.claims, 1);
                return Ok(self.claimed(job.shard, session, claimed));
            }
            Task::Commit(commit) => {
                let outcome = match reply::owned(value)? {
                    Owned::Done { deaf } => {
                        meters.committed(job.since.elapsed());
                        let deaf: Vec<u16> = match receivers(commit) {
                            // It was not published.
                            [] => commit.to.clone(),
                            to => deaf.iter().filter_map(|at| to.get(*at)).copied().collect(),
                        };
                        add(&meters.deaf, deaf.len() as u64);
                        CommitOutcome::Done { deaf }
                    }
                    Owned::Lost { epoch, owner } => {
                        add(&meters.commits_lost, 1);
                        CommitOutcome::Lost { epoch, owner }
                    }
                };
                let (session, epoch, version) =
                    (commit.session.clone(), commit.epoch, commit.version);
                let news = NodeNews::Committed { session, epoch, version, outcome };
                self.shared.tell(job.shard, news);
            }
            Task::Release { .. } => {
                if let Owned::Done { .. } = reply::owned(value)? {
                    add(&meters.releases, 1);
                }
            }
            Task::Forget { .. } => {
                if let Owned::Done { .. } = reply::owned(value)? {
                    add(&meters.forgotten, 1);
                }
            }
            _ => {}
        }
        Ok(After::Done)
    }

    /// Handles the answer to a claim.
    fn claimed(&self, shard: ShardId, session: &SessionId, claimed: Claimed) -> After {
        let meters = self.shared.meters();
        let outcome = match claimed {
            Claimed::Lapsed => {
                // The beat will find that too, and brings the lease back.
                add(&meters.claims_lapsed, 1);
                return After::Again(Instant::now() + RETRY_PAUSE);
            }
            Claimed::Mine { former, epoch, stored } => {
                add(&meters.claims_won, 1);
                if let Some(former) = former.filter(|former| *former != self.shared.node) {
                    add(&meters.takeovers, 1);
                    let id = session.as_str();
                    info!(session = id; "session {session:?} taken over from node {former}");
                }
                ClaimOutcome::Mine { epoch, stored }
            }
            Claimed::Theirs { owner, epoch, stored } => {
                add(&meters.claims_refused, 1);
                ClaimOutcome::Theirs { owner, epoch, stored }
            }
            Claimed::Newer { format } => {
                add(&meters.claims_newer, 1);
                warn!(
                    session = session.as_str();
                    "session {session:?} is stored in format {format}, which a later version wrote: it is not served here"
                );
                ClaimOutcome::Unknown
            }
            Claimed::Limit { epoch } => {
                error!(
                    session = session.as_str();
                    "session {session:?} has epoch {epoch}, beyond any clock: delete its key in Redis"
                );
                ClaimOutcome::Unknown
            }
        };
        let news = NodeNews::Claimed { session: session.clone(), outcome };
        self.shared.tell(shard, news);
        After::Done
    }

    /// Reacts to an error of one job.
    fn react(&mut self, job: &mut Job, trouble: Trouble) -> After {
        let now = Instant::now();
        self.complain(&trouble);
        let meters = Arc::clone(&self.shared.status.meters);
        add(&meters.retries, 1);
        match trouble {
            Trouble::NoScript => {
                if let Ok((open, Fresh::No)) = self.line.open() {
                    open.forget_scripts();
                }
                After::Again(now)
            }
            Trouble::Later(_) | Trouble::Lost(_) => After::Again(now + RETRY_PAUSE),
            Trouble::Elsewhere { .. } => {
                add(&meters.redirections, 1);
                self.shared.learn();
                After::Again(now + RETRY_PAUSE)
            }
            Trouble::NotPrimary(_) => {
                self.must_close = true;
                self.shared.learn();
                After::Again(now + RETRY_PAUSE)
            }
            Trouble::Denied(_) => After::Again(now + RETRY_PAUSE * 10),
            Trouble::Session(_) if !job.has_cleared => {
                job.has_cleared = true;
                add(&meters.set_aside, 1);
                After::Again(now)
            }
            Trouble::Session(_) => {
                add(&meters.senseless, 1);
                After::Again(now + COMMIT_WAIT)
            }
        }
    }

    /// Logs an error, unless it is the last one again.
    fn complain(&mut self, trouble: &Trouble) {
        let text = match trouble {
            Trouble::Denied(text) => format!("Redis denies a command to this node: {text}"),
            Trouble::Later(text) => format!("Redis carries no command out now: {text}"),
            Trouble::Session(text) => format!("a session's data in Redis was set aside: {text}"),
            _ => return,
        };
        if self.logged != text {
            warn!("{text}");
            self.logged = text;
        }
    }
}

fn body_bytes(task: &Task) -> usize {
    match task {
        Task::Publish { body, .. } | Task::Announce { body, .. } => body.len(),
        _ => 0,
    }
}

fn arguments<const N: usize>(texts: [&dyn std::fmt::Display; N]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.to_string().into_bytes()).collect()
}

/// Returns the command that tests the own subscription.
fn echo(shared: &Shared, lane: usize, publish: &str) -> Cmd {
    let bucket = shared.buckets_of(lane).next().unwrap_or(0);
    let sender = (shared.node, shared.next_counter());
    let frame = frame::frame(&shared.seal, sender, Target::Crate, bucket, &[]);
    let mut command = cmd(publish);
    command.arg(shared.names.inbox(bucket, shared.node.number)).arg(frame);
    command
}

/// A call of a script.
struct Call<'a> {
    script: &'a Script,
    keys: Vec<String>,
    arguments: Vec<Vec<u8>>,
}

/// Returns the commands of a unit.
fn commands(shared: &Shared, open: &mut Open, unit: &Unit) -> Vec<Cmd> {
    let mut commands = Vec::new();
    let Some(job) = unit.jobs.first() else { return commands };
    if let (true, Some(session)) = (job.has_cleared, job.task.session()) {
        // One that is not there makes the first command fail, which does not matter.
        let key = session_key(shared, session);
        let aside = format!("quarantine:{key}");
        let (mut rename, mut expire) = (cmd("RENAME"), cmd("PEXPIRE"));
        rename.arg(&key).arg(&aside);
        expire.arg(&aside).arg(ASIDE_TTL.as_millis() as u64);
        commands.extend([rename, expire]);
    }
    match call(shared, open.publish(), &job.task) {
        Some(Call { script, keys, arguments }) => {
            commands.push(script.call(open.must_learn(script), &keys, &arguments));
        }
        None => commands.extend(publishes(shared, open, unit)),
    }
    commands
}

/// Returns the script that carries a task out; none for messages.
fn call<'a>(shared: &'a Shared, publish: &str, task: &Task) -> Option<Call<'a>> {
    let session = task.session()?;
    let (key, bucket) = (session_key(shared, session), shared.names.bucket(session));
    let ttl = shared.plan.session_ttl.as_millis();
    let me = shared.node;
    let scripts = &shared.scripts;
    let (script, keys, arguments) = match task {
        Task::Claim { expected, floor, .. } => {
            let k = epoch::k_of(*floor).max(shared.clock.unix_ms());
            let expected_text = expected.map_or_else(String::new, |node| node.to_string());
            let mut keys =
                vec![key, shared.names.lease(bucket, me.number), shared.names.tags(bucket)];
            keys.extend(expected.map(|node| shared.names.lease(bucket, node.number)));
            let arguments = arguments([
                &me.number,
                &me.incarnation,
                &expected_text,
                &k,
                &ttl,
                &session.tag(),
                &session.as_str(),
                &STORED_BYTES_MAX,
                &Record::FORMAT,
            ]);
            (&scripts.claim, keys, arguments)
        }
        Task::Commit(commit) => {
            (&scripts.commit, vec![key], commit_arguments(shared, publish, bucket, commit))
        }
        Task::Release { epoch, .. } => (&scripts.release, vec![key], arguments([epoch, &me, &ttl])),
        Task::Forget { epoch, .. } => {
            let keys = vec![key, shared.names.tags(bucket)];
            (&scripts.forget, keys, arguments([epoch, &me, &session.tag()]))
        }
        _ => return None,
    };
    Some(Call { script, keys, arguments })
}

/// The receivers of a commit: none if it is too long for a message. They ask for it, then.
fn receivers(commit: &Commit) -> &[u16] {
    let length = commit.head.len() + commit.record.len() + commit.tail.len();
    if length > MESSAGE_BYTES_MAX { &[] } else { &commit.to }
}

/// Returns the commands that publish a commit without storing it.
fn republish(shared: &Shared, publish: &str, commit: &Commit) -> Vec<Cmd> {
    let bucket = shared.names.bucket(&commit.session);
    let body = [&commit.head[..], &commit.record, &commit.tail].concat();
    let sender = (shared.node, shared.next_counter());
    let target = Target::Session(commit.session.tag());
    let frame = frame::frame(&shared.seal, sender, target, bucket, &body);
    let command = |number: &u16| {
        let mut command = cmd(publish);
        command.arg(shared.names.inbox(bucket, *number)).arg(&frame);
        command
    };
    receivers(commit).iter().map(command).collect()
}

fn session_key(shared: &Shared, session: &SessionId) -> String {
    shared.names.session(session, shared.is_redis_cluster())
}

/// Whether a message is published by the script that looks at the end of this node's lease. In a
/// Redis Cluster it is not: a script has no channel, so no server would redirect it.
fn is_fenced(shared: &Shared, task: &Task) -> bool {
    matches!(task, Task::Publish { .. } | Task::Announce { .. }) && !shared.is_redis_cluster()
}

/// Returns the commands that publish a unit of messages: one script, or one for each receiver.
fn publishes(shared: &Shared, open: &mut Open, unit: &Unit) -> Vec<Cmd> {
    let task = &unit.jobs[0].task;
    let bucket = task.session().map_or(0, |session| shared.names.bucket(session));
    let (target, body, to) = match task {
        Task::Publish { session, to, body } if unit.jobs.len() == 1 => {
            (Target::Session(session.tag()), body.to_vec(), to)
        }
        Task::Publish { to, .. } => {
            let mut bodies = Vec::new();
            for job in &unit.jobs {
                if let Task::Publish { session, body, .. } = &job.task {
                    frame::append(&mut bodies, session.tag(), body);
                }
            }
            (Target::Several, bodies, to)
        }
        Task::Announce { to, body } => (Target::All, body.to_vec(), to),
        Task::Hint { to } => (Target::Crate, Vec::new(), to),
        _ => return Vec::new(),
    };
    let sender = (shared.node, shared.next_counter());
    let frame = frame::frame(&shared.seal, sender, target, bucket, &body);
    let meters = shared.meters();
    add(&meters.published, unit.jobs.len() as u64);
    add(&meters.frames_out, to.len() as u64);
    add(&meters.bytes_out, (frame.len() * to.len()) as u64);
    let publish = open.publish();
    if !is_fenced(shared, task) {
        let command = |number: &u16| {
            let mut command = cmd(publish);
            command.arg(shared.names.inbox(bucket, *number)).arg(&frame);
            command
        };
        return to.iter().map(command).collect();
    }
    if to.is_empty() {
        return Vec::new();
    }
    let end = shared.lease_end.load(Ordering::Relaxed).to_string();
    let mut arguments = vec![end.into_bytes(), publish.into(), frame];
    arguments.extend(to.iter().map(|number| shared.names.inbox(bucket, *number).into_bytes()));
    let script = &shared.scripts.publish;
    vec![script.call(open.must_learn(script), &[], &arguments)]
}

fn commit_arguments(shared: &Shared, publish: &str, bucket: u16, commit: &Commit) -> Vec<Vec<u8>> {
    let me: NodeId = shared.node;
    let Commit { session, epoch, version, record, branches, head, tail, .. } = commit;
    let to = receivers(commit);
    let front =
        frame::front(&shared.seal, me, shared.next_counter(), Target::Session(session.tag()));
    let hash = shared.seal.hash(bucket, &[&front, head, record, tail]);
    let ttl = shared.plan.session_ttl.as_millis();
    let (head, tail) = ([&front[..], head].concat(), [&tail[..], &hash].concat());
    let meters = shared.meters();
    add(&meters.published, u64::from(!to.is_empty()));
    add(&meters.frames_out, to.len() as u64);
    add(&meters.bytes_out, ((head.len() + record.len() + tail.len()) * to.len()) as u64);
    let mut arguments = arguments([epoch, version, &me, &ttl, &publish]);
    arguments.extend([head, tail, to.len().to_string().into_bytes()]);
    arguments.extend(to.iter().map(|number| shared.names.inbox(bucket, *number).into_bytes()));
    // `fields` begins with the record, which the script publishes.
    arguments.extend(fields(record));
    arguments.extend([b"branches".to_vec(), branches.to_vec()]);
    arguments
}
