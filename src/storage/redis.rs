//! Sessions in Redis: alone, behind Sentinel, or as a Cluster.
//!
//! A session is the hash `session:<id>` with a time to live. Its field `record` is what the server reads back; the
//! others are for other programs to read. One script writes it, and leaves what looks newer in place. Measurements
//! are the sorted sets `history:<metric>`, scored by Unix milliseconds.
//!
//! The thread has one connection for all of this. Every answer is waited for half a second at most.

use std::time::{Duration, Instant};

use bandsync_engine::record::Record;
use bandsync_engine::words::ids::SessionId;
use redis::cluster::{ClusterClient, ClusterConnection};
use redis::{
    Client, Cmd, Connection, ConnectionAddr, ConnectionInfo, ConnectionLike, ErrorKind, IntoConnectionInfo,
    RedisConnectionInfo, RedisError, RedisResult, Script, ServerErrorKind, Value, cmd,
};

use super::{Applied, Backend, Change, Failure, Point};

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_millis(500);

/// How long all answers of a batch may take: a server that sends a byte now and then is as good as none.
const BATCH_TIMEOUT: Duration = Duration::from_millis(1_500);

/// How long a record that was set aside is kept.
const ASIDE_TTL: Duration = Duration::from_secs(7 * 24 * 3_600);

/// Points that a metric may have.
const POINTS_MAX: i64 = 8_640;

/// Where Redis is.
#[derive(Clone, Debug)]
pub struct RedisPlace {
    /// What is there.
    pub topology: Topology,
    /// Replicas that must confirm a write; 0 = none is waited for. Not with a Cluster.
    pub replicas: u32,
}

/// How Redis is set up.
#[derive(Clone, Debug)]
pub enum Topology {
    /// One server.
    Single(ConnectionInfo),
    /// A primary that these know, under this name. The information is for connecting to the primary; its address
    /// is replaced by what they say.
    Sentinel { sentinels: Vec<ConnectionInfo>, service: String, primary: Box<ConnectionInfo> },
    /// A Cluster that has these nodes among others.
    Cluster(Vec<ConnectionInfo>),
}

impl Topology {
    /// One server, as the variables of the Node.js server name it; `None` if there can be none of that name.
    pub fn on_host(host: &str, port: u16, password: Option<&str>, db: i64) -> Option<Self> {
        let mut settings = RedisConnectionInfo::default().set_db(db);
        if let Some(password) = password {
            settings = settings.set_password(password);
        }
        let info = (host, port).into_connection_info().ok()?;
        Some(Self::Single(info.set_redis_settings(settings)))
    }

    /// Reads a URL: `redis://[user:password@]host[:port][/db]`, `redis+cluster://host,host…`,
    /// `redis+sentinel://[user:password@]host[:port],…/service[/db]`; with `rediss` for TLS.
    ///
    /// # Errors
    /// What is wrong with it, without its password.
    pub fn parse(url: &str) -> Result<Self, String> {
        let (scheme, rest) = url.split_once("://").ok_or("it has no scheme such as redis://")?;
        let (tls, form) = match scheme.split_once('+') {
            None => (scheme, ""),
            Some((tls, form)) => (tls, form),
        };
        if !["redis", "rediss"].contains(&tls) {
            return Err("its scheme is not redis:// or rediss://, with +sentinel or +cluster".into());
        }
        let (login, rest) = rest.rsplit_once('@').map_or(("", rest), |(login, rest)| (login, rest));
        let at = if login.is_empty() { String::new() } else { format!("{login}@") };
        let (hosts, path) = rest.split_once('/').unwrap_or((rest, ""));
        let node = |host: &str, default_port: u16, path: &str, login: &str| {
            let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
            let port = if has_port { String::new() } else { format!(":{default_port}") };
            let whole = format!("{tls}://{login}{host}{port}/{path}");
            whole.into_connection_info().map_err(|error| error.category().to_owned())
        };
        let nodes = |port, login: &str| {
            hosts.split(',').map(|host| node(host.trim(), port, "", login)).collect::<Result<Vec<_>, _>>()
        };
        match form {
            "" => Ok(Self::Single(node(hosts, 6_379, path, &at)?)),
            "cluster" => Ok(Self::Cluster(nodes(6_379, &at)?)),
            "sentinel" => {
                let (service, db) = path.split_once('/').unwrap_or((path, ""));
                if service.is_empty() {
                    return Err("it names no service, as in redis+sentinel://host:26379/mymaster".into());
                }
                let first = hosts.split(',').next().unwrap_or_default();
                let primary = Box::new(node(first.trim(), 26_379, db, &at)?);
                Ok(Self::Sentinel { sentinels: nodes(26_379, "")?, service: service.into(), primary })
            }
            _ => Err("its scheme is not redis:// or rediss://, with +sentinel or +cluster".into()),
        }
    }
}

/// Redis.
pub struct Store {
    place: RedisPlace,
    ttl: Duration,
    link: Option<Link>,
    write: Script,
    delete: Script,
}

/// An open connection.
enum Link {
    One(Box<Connection>),
    Cluster(Box<ClusterConnection>),
}

/// KEYS: the session. ARGV: epoch, version, time to live in milliseconds, then fields and values.
///
/// What was left of an older form of the record goes with the old hash. A key of another type is nobody's session.
const WRITE: &str = r"
local kind = redis.call('TYPE', KEYS[1]).ok
if kind == 'hash' then
  local there = redis.call('HMGET', KEYS[1], 'epoch', 'version')
  local epoch, version = tonumber(there[1] or '') or 0, tonumber(there[2] or '') or 0
  if epoch > tonumber(ARGV[1]) or (epoch == tonumber(ARGV[1]) and version > tonumber(ARGV[2])) then
    return string.format('%.0f', epoch)
  end
end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'epoch', ARGV[1], 'version', ARGV[2], unpack(ARGV, 4))
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 'done'
";

/// KEYS: the session. ARGV: epoch.
const DELETE: &str = r"
if redis.call('TYPE', KEYS[1]).ok == 'hash' then
  local epoch = tonumber(redis.call('HGET', KEYS[1], 'epoch') or '') or 0
  if epoch > tonumber(ARGV[1]) then
    return string.format('%.0f', epoch)
  end
end
redis.call('DEL', KEYS[1])
return 'done'
";

impl Store {
    pub(super) fn new(place: RedisPlace, ttl: Duration) -> Self {
        Self { place, ttl, link: None, write: Script::new(WRITE), delete: Script::new(DELETE) }
    }

    /// Sends commands and takes their answers, of which each may be an error of the server. After any other
    /// failure the connection is closed: an answer that comes late must not be taken for that of another command.
    fn ask(&mut self, commands: &[Cmd]) -> Result<Vec<RedisResult<Value>>, Failure> {
        let mut link =
            self.link.take().ok_or_else(|| Failure::Unavailable("there is no connection".into()))?;
        let answers = match &mut link {
            Link::One(connection) => in_a_row(connection, commands),
            Link::Cluster(connection) => {
                commands.iter().map(|one| tell_apart(connection.req_command(one))).collect()
            }
        };
        let answers = answers.map_err(|error| failure(&error))?;
        self.link = Some(link);
        Ok(answers)
    }

    /// Sends commands whose answers may not be errors.
    fn demand(&mut self, commands: &[Cmd]) -> Result<Vec<Value>, Failure> {
        self.ask(commands)?.into_iter().map(|answer| answer.map_err(|error| failure(&error))).collect()
    }

    /// Runs scripts by their hashes; those that the server does not know, by their texts, from which it learns
    /// them.
    fn run(&mut self, calls: &[Call<'_>]) -> Result<Vec<Value>, Failure> {
        let by_hash: Vec<Cmd> =
            calls.iter().map(|call| call.command("EVALSHA", call.script.get_hash())).collect();
        let mut answers = self.ask(&by_hash)?;
        let unknown: Vec<usize> = (0..answers.len()).filter(|n| is_unknown_script(&answers[*n])).collect();
        if !unknown.is_empty() {
            let by_text: Vec<Cmd> =
                unknown.iter().map(|n| calls[*n].command("EVAL", calls[*n].text)).collect();
            for (n, answer) in unknown.into_iter().zip(self.ask(&by_text)?) {
                answers[n] = answer;
            }
        }
        answers.into_iter().map(|answer| answer.map_err(|error| failure(&error))).collect()
    }

    /// Waits until replicas have what was written, if that is wanted.
    fn wait_for_replicas(&mut self) -> Result<(), Failure> {
        let wanted = self.place.replicas;
        if wanted == 0 || matches!(self.place.topology, Topology::Cluster(_)) {
            return Ok(());
        }
        let mut wait = cmd("WAIT");
        // A little less than we wait for the answer ourselves.
        wait.arg(wanted).arg(TIMEOUT.as_millis() as u64 - 100);
        match self.demand(&[wait])?.first() {
            Some(Value::Int(count)) if *count >= i64::from(wanted) => Ok(()),
            answer => Err(Failure::Unavailable(format!(
                "only {} of {wanted} replicas have confirmed",
                if let Some(Value::Int(count)) = answer { *count } else { 0 }
            ))),
        }
    }

    fn connection(&self) -> RedisResult<Link> {
        match &self.place.topology {
            Topology::Single(info) => open(info).map(|connection| Link::One(Box::new(connection))),
            Topology::Sentinel { sentinels, service, primary } => {
                find_primary(sentinels, service, primary).map(|connection| Link::One(Box::new(connection)))
            }
            Topology::Cluster(nodes) => {
                let client = ClusterClient::builder(nodes.clone())
                    .connection_timeout(TIMEOUT)
                    .response_timeout(TIMEOUT)
                    .retries(2)
                    .build()?;
                client.get_connection().map(|connection| Link::Cluster(Box::new(connection)))
            }
        }
    }
}

impl Backend for Store {
    fn connect(&mut self) -> Result<(), Failure> {
        self.link = None;
        self.link = Some(self.connection().map_err(|error| failure(&error))?);
        // A server that is full, or a replica, accepts a connection and refuses this.
        let mut probe = cmd("SET");
        probe.arg("bandsync:probe").arg(1).arg("PX").arg(1_000);
        self.demand(&[probe]).map(|_| ())
    }

    fn load(&mut self, session: &SessionId) -> Result<Option<Box<[u8]>>, Failure> {
        let mut get = cmd("HGET");
        get.arg(key(session)).arg("record");
        match self.ask(&[get])?.pop() {
            Some(Ok(Value::BulkString(bytes))) => Ok(Some(bytes.into())),
            Some(Ok(Value::Nil)) => Ok(None),
            // Somebody else's key of this name: no record can be read from it, so it is set aside like one.
            Some(Err(error)) if error.code() == Some("WRONGTYPE") => Ok(Some(Box::default())),
            Some(Err(error)) => Err(failure(&error)),
            _ => Err(Failure::Unavailable("Redis gave an answer that makes no sense".into())),
        }
    }

    fn apply(&mut self, changes: &[(SessionId, Change)]) -> Result<Vec<Applied>, Failure> {
        let ttl = self.ttl.as_millis() as u64;
        let (write, delete) = (self.write.clone(), self.delete.clone());
        let calls: Vec<Call<'_>> = changes
            .iter()
            .map(|(session, change)| match change {
                Change::Put { epoch, version, record } => {
                    let mut arguments: Vec<Vec<u8>> = [*epoch, *version, ttl].map(text).into();
                    arguments.extend(fields(record));
                    Call { script: &write, text: WRITE, key: key(session), arguments }
                }
                Change::Delete { epoch } => {
                    Call { script: &delete, text: DELETE, key: key(session), arguments: vec![text(*epoch)] }
                }
            })
            .collect();
        let answers = self.run(&calls)?;
        let applied = answers.iter().map(applied).collect::<Result<_, _>>()?;
        self.wait_for_replicas()?;
        Ok(applied)
    }

    fn refresh(&mut self, sessions: &[SessionId]) -> Result<(), Failure> {
        let ttl = self.ttl.as_millis() as u64;
        let refresh = |session| {
            let mut refresh = cmd("PEXPIRE");
            refresh.arg(key(session)).arg(ttl);
            refresh
        };
        self.demand(&sessions.iter().map(refresh).collect::<Vec<_>>()).map(|_| ())
    }

    /// Redis does that by itself.
    fn expire(&mut self) -> Result<(), Failure> {
        Ok(())
    }

    fn set_aside(&mut self, session: &SessionId) -> Result<(), Failure> {
        // The braces let a Cluster keep both keys on one node, where one can become the other.
        let aside = format!("quarantine:{{{}}}", key(session));
        let (mut rename, mut expire) = (cmd("RENAME"), cmd("PEXPIRE"));
        rename.arg(key(session)).arg(&aside);
        expire.arg(&aside).arg(ASIDE_TTL.as_millis() as u64);
        self.demand(&[rename, expire]).map(|_| ())
    }

    fn add_points(&mut self, at: i64, points: &[Point], oldest: i64) -> Result<(), Failure> {
        let mut commands = Vec::new();
        for (metric, value) in points {
            let key = history_key(metric);
            let (mut add, mut cut, mut cap, mut expire) =
                (cmd("ZADD"), cmd("ZREMRANGEBYSCORE"), cmd("ZREMRANGEBYRANK"), cmd("PEXPIRE"));
            add.arg(&key).arg(at).arg(format!("{at}:{value}"));
            cut.arg(&key).arg("-inf").arg(format!("({oldest}"));
            cap.arg(&key).arg(0).arg(-POINTS_MAX - 1);
            expire.arg(&key).arg(super::history::KEPT_MS);
            commands.extend([add, cut, cap, expire]);
        }
        let mut names = cmd("SADD");
        names.arg(METRICS).arg(points.iter().map(|(metric, _)| metric.as_str()).collect::<Vec<_>>());
        commands.push(names);
        self.demand(&commands).map(|_| ())
    }

    fn points(&mut self, since: i64) -> Result<Vec<(i64, Point)>, Failure> {
        let mut names = cmd("SMEMBERS");
        names.arg(METRICS);
        let names = self.demand(&[names])?.pop().unwrap_or_default();
        let names: Vec<String> = redis::from_redis_value(names).unwrap_or_default();
        let mut points = Vec::new();
        for metric in names {
            let mut range = cmd("ZRANGEBYSCORE");
            range.arg(history_key(&metric)).arg(since).arg("+inf");
            let members = self.demand(&[range])?.pop().unwrap_or_default();
            let members: Vec<String> = redis::from_redis_value(members).unwrap_or_default();
            points.extend(members.iter().filter_map(|member| {
                let (at, value) = member.split_once(':')?;
                Some((at.parse().ok()?, (metric.clone(), value.parse().ok()?)))
            }));
        }
        Ok(points)
    }
}

/// The set of the metrics that have points.
const METRICS: &str = "history:metrics";

fn history_key(metric: &str) -> String {
    format!("history:metric:{metric}")
}

fn key(session: &SessionId) -> String {
    format!("session:{}", session.as_str())
}

fn text(number: impl ToString) -> Vec<u8> {
    number.to_string().into_bytes()
}

/// A script to be run.
struct Call<'a> {
    script: &'a Script,
    text: &'static str,
    key: String,
    arguments: Vec<Vec<u8>>,
}

impl Call<'_> {
    fn command(&self, name: &str, script: &str) -> Cmd {
        let mut command = cmd(name);
        command.arg(script).arg(1).arg(&self.key).arg(&self.arguments);
        command
    }
}

fn is_unknown_script(answer: &RedisResult<Value>) -> bool {
    matches!(answer, Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript))
}

/// What the server says is an answer, even if that is an error; everything else is trouble with the connection.
fn tell_apart(answer: RedisResult<Value>) -> RedisResult<RedisResult<Value>> {
    match answer.and_then(Value::extract_error) {
        Err(error) if !matches!(error.kind(), ErrorKind::Server(_) | ErrorKind::Extension) => Err(error),
        answer => Ok(answer),
    }
}

fn applied(answer: &Value) -> Result<Applied, Failure> {
    let said = match answer {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).unwrap_or_default(),
        Value::SimpleString(text) => text,
        _ => "",
    };
    match (said, said.parse()) {
        ("done", _) => Ok(Applied::Done),
        (_, Ok(epoch)) => Ok(Applied::Outdated { epoch }),
        _ => Err(Failure::Unavailable("Redis gave an answer that makes no sense".into())),
    }
}

/// What other programs may read of a session, and the record. `position` is where the music was at `updatedAt`
/// (Unix milliseconds), from where it goes on if it `isPlaying`.
fn fields(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut fields = vec![b"record".to_vec(), bytes.to_vec()];
    let mut field = |name: &str, value: String| fields.extend([name.into(), value.into_bytes()]);
    field("checksum", format!("{:08x}", Record::checksum(bytes)));
    if let Ok(record) = Record::parse(bytes) {
        let timeline = &record.timeline;
        let at = record.last_active_at.max(timeline.made_at);
        let since = at.since(record.last_active_at).as_millis() as i64;
        field("format", record.format.to_string());
        field("sessionId", record.session.as_str().to_owned());
        field("message", record.message);
        field("isPlaying", u8::from(timeline.is_playing_at(at)).to_string());
        field("position", millis(timeline.position_at(at)));
        field("tempo", millis(i64::from(timeline.tempo_at(at).milli_bpm())));
        field("updatedAt", (record.last_active_unix.0 + since).to_string());
        field("createdAt", record.created_at.0.to_string());
        field("lastActiveAt", record.last_active_unix.0.to_string());
        field("leaderSocketId", timeline.leader.map_or_else(String::new, |id| id.as_str().to_owned()));
        field("memberCount", record.seats.len().to_string());
        let song = record.song.zip(record.setlist.as_ref());
        let song = song.and_then(|(place, setlist)| setlist.songs.get(place as usize));
        field("songId", song.map_or_else(String::new, |song| song.id.clone()));
    }
    fields
}

/// Thousandths as a decimal number.
fn millis(thousandths: i64) -> String {
    let (sign, size) = (if thousandths < 0 { "-" } else { "" }, thousandths.unsigned_abs());
    format!("{sign}{}.{:03}", size / 1_000, size % 1_000)
}

/// Sends all commands, then takes their answers, so that a batch costs one round trip.
fn in_a_row(connection: &mut Connection, commands: &[Cmd]) -> RedisResult<Vec<RedisResult<Value>>> {
    let began = Instant::now();
    let bytes: Vec<u8> = commands.iter().flat_map(Cmd::get_packed_command).collect();
    connection.send_packed_command(&bytes)?;
    let mut answers = Vec::with_capacity(commands.len());
    for _ in commands {
        if began.elapsed() > BATCH_TIMEOUT {
            return Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into());
        }
        answers.push(tell_apart(connection.recv_response())?);
    }
    Ok(answers)
}

fn open(info: &ConnectionInfo) -> RedisResult<Connection> {
    let connection = Client::open(info.clone())?.get_connection_with_timeout(TIMEOUT)?;
    connection.set_read_timeout(Some(TIMEOUT))?;
    connection.set_write_timeout(Some(TIMEOUT))?;
    Ok(connection)
}

/// Asks one Sentinel after the other where the primary is, and connects to it if it says so too: during a
/// failover they may be wrong.
fn find_primary(
    sentinels: &[ConnectionInfo],
    service: &str,
    primary: &ConnectionInfo,
) -> RedisResult<Connection> {
    let mut last = RedisError::from((ErrorKind::Client, "no Sentinel knows a primary of that name"));
    for sentinel in sentinels {
        let found = open(sentinel).and_then(|mut connection| {
            let mut ask = cmd("SENTINEL");
            ask.arg("GET-MASTER-ADDR-BY-NAME").arg(service).query::<Option<(String, u16)>>(&mut connection)
        });
        let address = match found {
            Ok(Some((host, port))) => (host, port),
            Ok(None) => continue,
            Err(error) => {
                last = error;
                continue;
            }
        };
        let connected = open(&elsewhere(primary, address)).and_then(|mut connection| {
            let role: Vec<Value> = cmd("ROLE").query(&mut connection)?;
            let is_primary = matches!(role.first(), Some(Value::BulkString(name)) if name == b"master");
            let not_yet = (ErrorKind::Client, "the Sentinels name a server that is no primary");
            if is_primary { Ok(connection) } else { Err(RedisError::from(not_yet)) }
        });
        match connected {
            Ok(connection) => return Ok(connection),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn elsewhere(info: &ConnectionInfo, (host, port): (String, u16)) -> ConnectionInfo {
    let addr = match info.addr() {
        ConnectionAddr::TcpTls { insecure, tls_params, .. } => {
            ConnectionAddr::TcpTls { host, port, insecure: *insecure, tls_params: tls_params.clone() }
        }
        _ => ConnectionAddr::Tcp(host, port),
    };
    info.clone().set_addr(addr)
}

/// What an error means to a person. Redis itself never tells a password.
fn failure(error: &RedisError) -> Failure {
    let reason = match error.code() {
        Some("OOM") => "Redis is out of memory (maxmemory)".to_owned(),
        Some("READONLY") => "Redis is a replica, which may not be written to".into(),
        Some("NOAUTH") => "Redis asks for a password: set it with REDIS_URL or REDIS_PASSWORD".into(),
        Some("WRONGPASS") => "Redis refuses the password or the user".into(),
        Some("LOADING") => "Redis is still loading its data".into(),
        Some("MISCONF") => "Redis cannot save its data and takes no writes (MISCONF)".into(),
        Some("CLUSTERDOWN") => "the Redis Cluster is down".into(),
        _ if error.kind() == ErrorKind::AuthenticationFailed => {
            "Redis refuses the password or the user".into()
        }
        _ if error.is_timeout() => format!("Redis does not answer within {} ms", TIMEOUT.as_millis()),
        _ if error.is_connection_refusal() => "Redis refuses the connection: nothing listens there".into(),
        _ if error.is_connection_dropped() => "Redis closed the connection".into(),
        _ => format!("Redis: {error}"),
    };
    Failure::Unavailable(reason)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[track_caller]
    fn addresses(url: &str) -> Vec<String> {
        let (list, service) = match Topology::parse(url).unwrap() {
            Topology::Single(info) => (vec![info], String::new()),
            Topology::Cluster(nodes) => (nodes, String::new()),
            Topology::Sentinel { sentinels, service, primary } => {
                (sentinels, format!(" {service} {}", primary.redis_settings().db()))
            }
        };
        list.iter().map(|info| format!("{}{service}", info.addr())).collect()
    }

    #[test]
    fn urls_say_what_is_where() {
        assert_eq!(addresses("redis://stage"), ["stage:6379"]);
        assert_eq!(addresses("redis://:p%40ss@stage:7000/3"), ["stage:7000"]);
        assert_eq!(addresses("redis+cluster://a:1,b:2, c"), ["a:1", "b:2", "c:6379"]);
        assert_eq!(addresses("redis+sentinel://u:p@a,b:5/band/2"), ["a:26379 band 2", "b:5 band 2"]);
        assert_eq!(addresses("rediss://stage"), ["stage:6379"]);
        let Topology::Single(info) = Topology::parse("redis://ann:p%40ss@stage/3").unwrap() else { panic!() };
        let settings = info.redis_settings();
        assert_eq!((settings.username(), settings.password(), settings.db()), (Some("ann"), Some("p@ss"), 3));
    }

    #[test]
    fn a_url_that_makes_no_sense_is_refused_without_its_password() {
        for url in ["", "stage:6379", "http://stage", "redis+sentinel://a", "redis+moon://a", "redis://h/x"] {
            assert!(Topology::parse(url).is_err(), "{url}");
        }
        let error = Topology::parse("redis://:hush@[::1").unwrap_err();
        assert!(!error.contains("hush"), "{error}");
    }

    #[test]
    fn thousandths_are_decimals() {
        for (thousandths, text) in [(0, "0.000"), (-1, "-0.001"), (120_500, "120.500")] {
            assert_eq!(millis(thousandths), text);
        }
    }
}
