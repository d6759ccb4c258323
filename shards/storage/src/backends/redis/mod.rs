//! Sessions in Redis: a single server, behind Sentinel, or a Cluster.
//!
//! A session is the hash `session:<id>` with a time to live. The server reads its field `record`;
//! the other fields are for other programs. One script writes the hash, and keeps a newer state in
//! place.
//!
//! Operations use one [`Link`]; publishing and subscribing have connections of their own, in
//! [`pubsub`].

mod link;
mod pubsub;
mod series;

use std::io;
use std::time::Duration;

use bandsync_engine::words::ids::SessionId;
use bandsync_redis::{Answer, fields, is_unreadable, redirection};
pub use bandsync_redis::{ConnectionAddr, Endpoint, Topology, TopologyError};
use log::debug;
use redis::{Cmd, ConnectionInfo, ErrorKind, RedisError, Script, ServerErrorKind, Value, cmd};

use super::{Applied, Aside, Backend, Change, Failure, Foreign};
use crate::backoff::chance;
use crate::series::Point;
use link::{Link, Request};
use pubsub::{Announcer, Event};
use series::Kind;

/// Time that a record stays set aside.
const ASIDE_TTL: Duration = Duration::from_secs(7 * 24 * 3_600);

/// Time to live of the server's own key, which shows that the stored data is still there.
const MARKER_TTL: Duration = Duration::from_secs(60);

/// The backend for Redis.
pub struct Store {
    endpoint: Endpoint,
    ttl: Duration,
    link: Option<Link>,
    announcer: Option<Announcer>,
    /// A number by which servers recognize their own messages.
    server: String,
    /// Keys of this server, one on each node. If one is missing, its node has lost its data.
    markers: Vec<String>,
    /// The nodes of a Cluster that was found from a single named server.
    found: Vec<ConnectionInfo>,
    history: Kind,
    scripts: Scripts,
}

/// The scripts with their texts.
#[derive(Clone)]
struct Scripts {
    load: (Script, String),
    write: (Script, String),
    delete: (Script, String),
    aside: (Script, String),
}

/// Error codes that affect all operations. Any other affects a single session.
const OF_ALL: [&str; 14] = [
    "OOM",
    "READONLY",
    "NOAUTH",
    "WRONGPASS",
    "NOPERM",
    "LOADING",
    "BUSY",
    "MISCONF",
    "CLUSTERDOWN",
    "MASTERDOWN",
    "NOREPLICAS",
    "TRYAGAIN",
    "UNKILLABLE",
    "DENIED",
];

/// Maximum size of a stored record. Guessed: a hundred times the largest set list seen. A larger
/// record is from another program, and would take longer to load than Redis may take to answer.
const RECORD_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The common part of the scripts: epoch and version of a session, or `nil` if its data makes no
/// sense. Both must be whole numbers that Lua represents exactly. A hash with many more fields than
/// ours is not ours.
const SENSE: &str = r"
local function whole(text)
  local number = text and #text <= 16 and string.find(text, '^%d+$') and tonumber(text)
  return number and number < 9007199254740992 and number or nil
end
local function there()
  if redis.call('TYPE', KEYS[1]).ok ~= 'hash' or redis.call('HLEN', KEYS[1]) > 64 then
    return nil
  end
  local fields = redis.call('HMGET', KEYS[1], 'epoch', 'version')
  local epoch, version = whole(fields[1]), whole(fields[2])
  if epoch and version then
    return {epoch, version}
  end
end
";

/// KEYS: the session. ARGV: the maximum size of a record. Returns the record, nothing, or 1 if the
/// data makes no sense.
const LOAD: &str = r"
if redis.call('EXISTS', KEYS[1]) == 0 then
  return false
end
local there = there()
if not there or there[1] >= 4503599627370496 then
  return 1
end
local size = redis.call('HSTRLEN', KEYS[1], 'record')
if size == 0 or size > tonumber(ARGV[1]) then
  return 1
end
return redis.call('HGET', KEYS[1], 'record')
";

/// KEYS: the session, and the key to move its data to. ARGV: time to live there in milliseconds,
/// and whether to move or copy. The data does not cross the network, however large it is.
const ASIDE: &str = r"
if redis.call('EXISTS', KEYS[1]) == 0 then
  return 'done'
end
if ARGV[2] == 'move' then
  redis.call('RENAME', KEYS[1], KEYS[2])
  redis.call('PEXPIRE', KEYS[2], ARGV[1])
else
  redis.call('RESTORE', KEYS[2], ARGV[1], redis.call('DUMP', KEYS[1]), 'REPLACE')
end
return 'done'
";

/// KEYS: the session. ARGV: epoch, version, time to live in milliseconds, then fields and values.
///
/// The first write needs memory, so Redis rejects it if memory is short, and no later one. Fields
/// of older formats are removed last. Data that makes no sense stays, to be set aside.
const WRITE: &str = r"
if redis.call('EXISTS', KEYS[1]) == 1 then
  local there = there()
  if not there then
    return 'senseless'
  end
  local epoch, version = there[1], there[2]
  if epoch > tonumber(ARGV[1]) or (epoch == tonumber(ARGV[1]) and version > tonumber(ARGV[2])) then
    return string.format('%.0f', epoch)
  end
end
redis.call('HSET', KEYS[1], 'epoch', ARGV[1], 'version', ARGV[2], unpack(ARGV, 4))
redis.call('PEXPIRE', KEYS[1], ARGV[3])
if redis.call('HLEN', KEYS[1]) > (#ARGV + 1) / 2 then
  local mine = {epoch = true, version = true}
  for place = 4, #ARGV, 2 do
    mine[ARGV[place]] = true
  end
  for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
    if not mine[field] then
      redis.call('HDEL', KEYS[1], field)
    end
  end
end
return 'done'
";

/// KEYS: the session. ARGV: epoch.
const DELETE: &str = r"
if redis.call('EXISTS', KEYS[1]) == 1 then
  local there = there()
  if not there then
    return 'senseless'
  end
  if there[1] > tonumber(ARGV[1]) then
    return string.format('%.0f', there[1])
  end
  redis.call('DEL', KEYS[1])
end
return 'done'
";

impl Store {
    pub(crate) fn new(endpoint: Endpoint, ttl: Duration) -> Self {
        let script = |text: &str| {
            let text = format!("{SENSE}{text}");
            (Script::new(&text), text)
        };
        let scripts = Scripts {
            load: script(LOAD),
            write: script(WRITE),
            delete: script(DELETE),
            aside: script(ASIDE),
        };
        Self {
            endpoint,
            ttl,
            link: None,
            announcer: None,
            server: format!("{:016x}", chance()),
            markers: Vec::new(),
            found: Vec::new(),
            history: Kind::SortedSet,
            scripts,
        }
    }

    /// Sends commands and returns their answers. Waits for `replicas` confirmations.
    fn ask(&mut self, requests: &[Request], replicas: u32) -> Result<Vec<Answer>, Failure> {
        let link = self.link.as_mut();
        let link = link.ok_or_else(|| Failure::Unavailable("not connected".into()))?;
        Ok(link.ask(requests, replicas))
    }

    /// Sends commands whose answers must not be errors.
    fn demand(&mut self, requests: &[Request]) -> Result<Vec<Value>, Failure> {
        self.ask(requests, 0)?
            .into_iter()
            .map(|answer| answer.map_err(|error| self.failure(&error)))
            .collect()
    }

    /// Sends a command whose answer must not be an error.
    fn demand_one(&mut self, request: Request) -> Result<Value, Failure> {
        Ok(self.demand(&[request])?.pop().unwrap_or_default())
    }

    /// Runs scripts by their hashes. Scripts that the server does not know are sent as text, from
    /// which it learns them. Waits for `replicas` confirmations.
    fn run(&mut self, calls: &[Call<'_>], replicas: u32) -> Result<Vec<Answer>, Failure> {
        let by_hash: Vec<Request> =
            calls.iter().map(|call| call.request("EVALSHA", call.script.0.get_hash())).collect();
        let mut answers = self.ask(&by_hash, replicas)?;
        let unknown: Vec<usize> =
            (0..answers.len()).filter(|n| is_unknown_script(&answers[*n])).collect();
        if !unknown.is_empty() {
            let by_text: Vec<Request> =
                unknown.iter().map(|n| calls[*n].request("EVAL", &calls[*n].script.1)).collect();
            for (n, answer) in unknown.into_iter().zip(self.ask(&by_text, replicas)?) {
                answers[n] = answer;
            }
        }
        Ok(answers)
    }

    /// Runs one script.
    fn run_one(&mut self, call: Call<'_>, replicas: u32) -> Result<Answer, Failure> {
        self.run(&[call], replicas)?.pop().ok_or_else(senseless)
    }

    fn marker(&self) -> String {
        format!("bandsync:server:{}", self.server)
    }

    fn mark(&mut self, only_if_there: bool) -> Result<Vec<Value>, Failure> {
        let mark = |key: &String| {
            let mut set = cmd("SET");
            set.arg(key).arg(1).arg("PX").arg(MARKER_TTL.as_millis() as u64);
            if only_if_there {
                set.arg("XX");
            }
            Request::new(key, set)
        };
        self.demand(&self.markers.iter().map(mark).collect::<Vec<_>>())
    }

    fn publish(&self, changes: &[(SessionId, Change)], applied: &[Result<Applied, Failure>]) {
        let Some(announcer) = &self.announcer else { return };
        for ((session, change), applied) in changes.iter().zip(applied) {
            if *applied == Ok(Applied::Done) {
                match change {
                    Change::Put { epoch, version, .. } => {
                        announcer.announce(session, Event::Stored, *epoch, *version)
                    }
                    Change::Delete { epoch } => {
                        announcer.announce(session, Event::Deleted, *epoch, 0)
                    }
                }
            }
        }
    }

    /// Explains an error. Redis itself never returns a password.
    fn failure(&self, error: &RedisError) -> Failure {
        let reason = match error.code() {
            Some("OOM") => "Redis is out of memory (maxmemory)".to_owned(),
            Some("READONLY") => "Redis is a replica, which accepts no writes".into(),
            Some("NOAUTH") => "Redis requires a password: set it with REDIS_URL or REDIS_PASSWORD".into(),
            Some("WRONGPASS") => "Redis rejects the password or the user".into(),
            Some("NOPERM") => "Redis does not permit this user the commands that are needed (NOPERM)".into(),
            Some("LOADING") => "Redis is still loading its data".into(),
            Some("BUSY") => "Redis is busy with another program's script".into(),
            Some("MISCONF") => "Redis cannot save its data and accepts no writes (MISCONF)".into(),
            Some("CLUSTERDOWN") => "the Redis Cluster is down".into(),
            Some("MOVED") => {
                "Redis is a node of a Cluster and does not say where the other nodes are; permit CLUSTER \
                              SLOTS to this user"
                    .into()
            }
            _ if error.kind() == ErrorKind::AuthenticationFailed => {
                "Redis rejects the password or the user".into()
            }
            _ if error.is_timeout() => {
                format!("Redis does not answer within {} ms", self.endpoint.timeout.as_millis())
            }
            _ if error.is_connection_refusal() => {
                "no Redis listens there: the connection was refused".into()
            }
            _ if certificate_is_wrong(error) => format!(
                "the certificate of Redis is not trusted ({error}); name its authority in SSL_CERT_FILE"
            ),
            _ if error.is_connection_dropped() => "Redis closed the connection".into(),
            _ if error.kind() == ErrorKind::Client => {
                error.detail().unwrap_or("there is no connection").into()
            }
            _ => format!("Redis: {error}"),
        };
        let is_of_one = error.code().is_some_and(|code| !OF_ALL.contains(&code))
            && redirection(error).is_none();
        if is_of_one || is_unreadable(error) {
            Failure::Session(reason)
        } else {
            Failure::Unavailable(reason)
        }
    }
}

impl Backend for Store {
    fn connect(&mut self) -> Result<(), Failure> {
        self.link = None;
        // Any node of a Cluster knows the others, even while the named one is unavailable.
        let opened = Link::open(&self.endpoint).or_else(|error| match self.found.is_empty() {
            true => Err(error),
            false => {
                let topology = Topology::Cluster(self.found.clone());
                Link::open(&Endpoint { topology, ..self.endpoint.clone() }).map_err(|_| error)
            }
        });
        let link = opened.map_err(|error| self.failure(&error))?;
        self.markers = link.key_on_each(&self.marker());
        self.found = link.found_nodes().unwrap_or_default();
        self.link = Some(link);
        // A full server or a replica accepts connections but rejects this write.
        self.mark(false)?;
        let kind = self.ask(&[series::question()], 0)?.pop().map(|answer| series::kind(&answer));
        self.history = kind.unwrap_or(Kind::SortedSet);
        Ok(())
    }

    fn listen(&mut self, heard: Box<dyn Fn(Foreign) + Send>) -> io::Result<()> {
        self.announcer = Some(Announcer::start(&self.endpoint, &self.server, heard)?);
        Ok(())
    }

    fn announce(&mut self, served: &[Foreign]) {
        let Some(announcer) = &self.announcer else { return };
        for Foreign { session, epoch, version, .. } in served {
            announcer.announce(session, Event::Kept, *epoch, *version);
        }
    }

    fn check(&mut self) -> Result<bool, Failure> {
        let markers =
            self.link.as_ref().map(|link| link.key_on_each(&self.marker())).unwrap_or_default();
        if markers != self.markers {
            // The nodes of the Cluster may have changed.
            self.found = self.link.as_ref().and_then(Link::found_nodes).unwrap_or_default();
            self.markers = markers;
            self.mark(false)?;
        }
        let marks = self.mark(true)?;
        if marks.iter().all(|mark| *mark != Value::Nil) {
            return Ok(true);
        }
        self.mark(false)?;
        Ok(false)
    }

    fn load(&mut self, session: &SessionId) -> Result<Option<Box<[u8]>>, Failure> {
        let script = self.scripts.load.clone();
        let call = Call {
            script: &script,
            keys: vec![key(session)],
            arguments: vec![text(RECORD_BYTES_MAX)],
        };
        match self.run_one(call, 0)? {
            Ok(Value::BulkString(bytes)) => Ok(Some(bytes.into())),
            Ok(Value::Nil) => Ok(None),
            Ok(Value::Int(1)) => Ok(Some(Box::default())),
            Ok(_) => Err(senseless()),
            Err(error) => Err(self.failure(&error)),
        }
    }

    fn apply(&mut self, changes: &[(SessionId, Change)]) -> Vec<Result<Applied, Failure>> {
        let ttl = self.ttl.as_millis() as u64;
        let Scripts { write, delete, .. } = self.scripts.clone();
        let calls: Vec<Call<'_>> = changes
            .iter()
            .map(|(session, change)| match change {
                Change::Put { epoch, version, record } => {
                    let mut arguments: Vec<Vec<u8>> = [*epoch, *version, ttl].map(text).into();
                    arguments.extend(fields(record));
                    Call { script: &write, keys: vec![key(session)], arguments }
                }
                Change::Delete { epoch } => Call {
                    script: &delete,
                    keys: vec![key(session)],
                    arguments: vec![text(*epoch)],
                },
            })
            .collect();
        let applied: Vec<Result<Applied, Failure>> = match self.run(&calls, self.endpoint.replicas)
        {
            Ok(answers) => answers
                .into_iter()
                .map(|answer| {
                    answer.map_err(|error| self.failure(&error)).and_then(|answer| applied(&answer))
                })
                .collect(),
            Err(failure) => changes.iter().map(|_| Err(failure.clone())).collect(),
        };
        self.publish(changes, &applied);
        applied
    }

    fn refresh(&mut self, sessions: &[SessionId]) -> Result<bool, Failure> {
        let ttl = self.ttl.as_millis() as u64;
        let refresh = |session| {
            let mut refresh = cmd("PEXPIRE");
            refresh.arg(key(session)).arg(ttl);
            Request::new(key(session), refresh)
        };
        let mut all_there = true;
        for answer in self.ask(&sessions.iter().map(refresh).collect::<Vec<_>>(), 0)? {
            match answer.map_err(|error| self.failure(&error)) {
                Ok(answer) => all_there &= answer != Value::Int(0),
                // The session is written again soon, and fails there if it must.
                Err(Failure::Session(reason)) => {
                    debug!("cannot refresh a session: {reason}")
                }
                Err(failure) => return Err(failure),
            }
        }
        Ok(all_there)
    }

    /// Redis expires keys itself.
    fn expire(&mut self) -> Result<(), Failure> {
        Ok(())
    }

    fn set_aside(&mut self, session: &SessionId, how: Aside) -> Result<(), Failure> {
        let script = self.scripts.aside.clone();
        // A single server cannot always be asked whether it is a node of a Cluster.
        for same_slot in [false, true] {
            let link = self.link.as_ref();
            let aside =
                link.map(|link| link.key_aside(&key(session), same_slot)).unwrap_or_default();
            let how = if how == Aside::Move { "move" } else { "copy" };
            let arguments = vec![text(ASIDE_TTL.as_millis()), text(how)];
            let call = Call { script: &script, keys: vec![key(session), aside], arguments };
            match self.run_one(call, 0)? {
                Ok(answer) if applied(&answer) == Ok(Applied::Done) => return Ok(()),
                Ok(_) => return Err(senseless()),
                Err(error) if error.code() == Some("CROSSSLOT") && !same_slot => {}
                Err(error) => return Err(self.failure(&error)),
            }
        }
        Ok(())
    }

    fn add_points(&mut self, at: i64, points: &[Point], oldest: i64) -> Result<(), Failure> {
        self.demand(&series::add(self.history, at, points, oldest)).map(|_| ())
    }

    fn points(&mut self, since: i64) -> Result<Vec<(i64, Point)>, Failure> {
        let names = self.demand_one(series::metrics())?;
        let names: Vec<String> = redis::from_redis_value(names).unwrap_or_default();
        let mut points = Vec::new();
        // A server that got the module recently still has the points from before.
        let kinds = if self.history == Kind::TimeSeries { 2 } else { 1 };
        for kind in &[Kind::SortedSet, Kind::TimeSeries][..kinds] {
            let ranges: Vec<Request> =
                names.iter().map(|name| series::range(*kind, name, since)).collect();
            for (name, answer) in names.iter().zip(self.ask(&ranges, 0)?) {
                match answer {
                    Ok(answer) => points.extend(
                        series::points(answer)
                            .into_iter()
                            .map(|(at, value)| (at, (name.clone(), value))),
                    ),
                    // There is no such key, or it belongs to another program.
                    Err(error) if error.code().is_some() => {}
                    Err(error) => return Err(self.failure(&error)),
                }
            }
        }
        Ok(points)
    }
}

fn key(session: &SessionId) -> String {
    format!("session:{}", session.as_str())
}

fn text(number: impl ToString) -> Vec<u8> {
    number.to_string().into_bytes()
}

/// A script to run.
struct Call<'a> {
    script: &'a (Script, String),
    /// In a Cluster, all in one slot.
    keys: Vec<String>,
    arguments: Vec<Vec<u8>>,
}

impl Call<'_> {
    fn request(&self, name: &str, script: &str) -> Request {
        let mut command: Cmd = cmd(name);
        command.arg(script).arg(self.keys.len()).arg(&self.keys).arg(&self.arguments);
        Request::new(&self.keys[0], command)
    }
}

fn is_unknown_script(answer: &Answer) -> bool {
    matches!(answer, Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript))
}

fn certificate_is_wrong(error: &RedisError) -> bool {
    let text = error.to_string();
    ["certificate", "UnknownIssuer"].iter().any(|word| text.contains(word))
}

fn senseless() -> Failure {
    Failure::Session("Redis sent an answer that makes no sense".into())
}

fn applied(answer: &Value) -> Result<Applied, Failure> {
    let reply = match answer {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).unwrap_or_default(),
        Value::SimpleString(text) => text,
        _ => "",
    };
    match (reply, reply.parse()) {
        ("done", _) => Ok(Applied::Done),
        ("senseless", _) => Ok(Applied::Senseless),
        (_, Ok(epoch)) => Ok(Applied::Outdated { epoch }),
        _ => Err(senseless()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_invalid_answer_affects_only_its_session() {
        let reply = |text: &str| redis::parse_redis_value(text.as_bytes()).unwrap();
        assert_eq!(applied(&reply("$4\r\ndone\r\n")), Ok(Applied::Done));
        assert_eq!(applied(&reply("$9\r\nsenseless\r\n")), Ok(Applied::Senseless));
        assert_eq!(applied(&reply("$2\r\n12\r\n")), Ok(Applied::Outdated { epoch: 12 }));
        for text in [
            ":5\r\n",
            "*0\r\n",
            "*1\r\n*1\r\n$4\r\ndone\r\n",
            "$-1\r\n",
            "$3\r\ninf\r\n",
            "%0\r\n",
            ",nan\r\n",
            "$2\r\n-1\r\n",
        ] {
            assert_eq!(applied(&reply(text)), Err(senseless()), "{text:?}");
        }
        let topology = Topology::parse("redis://stage").unwrap();
        let endpoint = Endpoint { topology, replicas: 0, timeout: Duration::from_secs(1) };
        let store = Store::new(endpoint, Duration::from_secs(1));
        let failure = |text: &str| store.failure(&reply(text).extract_error().unwrap_err());
        for text in [
            "-ERR user_script:3: attempt to compare\r\n",
            "-WRONGTYPE no\r\n",
            "-ODD\r\n",
            "-MOVED nowhere\r\n",
        ] {
            assert!(matches!(failure(text), Failure::Session(_)), "{text:?}");
        }
        for text in [
            "-OOM full\r\n",
            "-READONLY no\r\n",
            "-LOADING soon\r\n",
            "-NOAUTH no\r\n",
            "-MOVED 1 a:1\r\n",
        ] {
            assert!(matches!(failure(text), Failure::Unavailable(_)), "{text:?}");
        }
        let garbage = redis::parse_redis_value(b"HTTP/1.1 400\r\n").unwrap_err();
        assert!(matches!(store.failure(&garbage), Failure::Session(_)));
    }
}
