//! The servers that accept writes, and what they say about themselves.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use redis::{Cmd, ConnectionInfo, FromRedisValue, RedisResult, cmd};

use crate::connect::{Connect, info_field, lost, open_any, open_primary};
use crate::endpoint::{Endpoint, Topology};
use crate::slots::ranges;
use crate::wire::Wire;

/// Settings that decide what a server may lose.
const SETTINGS: [&str; 4] = ["save", "appendfsync", "min-replicas-to-write", "maxmemory-policy"];

/// A server, as it describes itself.
#[derive(Clone, Debug, Default)]
pub struct About {
    /// Its address.
    pub address: String,
    /// The text of `INFO`, one field in a line.
    pub info: String,
    /// Settings that decide what it may lose; empty if `CONFIG` is not permitted.
    pub settings: BTreeMap<String, String>,
    /// Commands that this user needs and may not use, with their keys.
    pub denied: Vec<String>,
    /// Milliseconds by which its clock is ahead of this machine's.
    pub ahead_ms: i64,
}

/// Asks each server that accepts writes about itself: one, or each primary of a Cluster.
///
/// # Errors
/// If there is no connection, or a server does not permit `INFO`.
pub fn about(endpoint: &Endpoint) -> RedisResult<Vec<About>> {
    let (seed, mut wire): (ConnectionInfo, Wire) = match &endpoint.topology {
        Topology::Cluster(nodes) => (nodes.first().ok_or_else(lost)?.clone(), open_any(endpoint)?),
        _ => open_primary(endpoint)?,
    };
    let one = ask(&seed, &mut wire)?;
    if info_field(&one.info, "cluster_enabled") != Some("1") {
        return Ok(vec![one]);
    }
    let mut wire: Wire = open_any(endpoint)?;
    let slots = wire.ask(cmd("CLUSTER").arg("SLOTS"))?;
    let mut primaries: BTreeMap<String, ConnectionInfo> = BTreeMap::new();
    for (_, _, info) in ranges(&slots, &seed) {
        primaries.insert(info.addr().to_string(), info);
    }
    if primaries.is_empty() {
        return Ok(vec![one]);
    }
    let primaries = primaries.values();
    primaries.map(|info| ask(info, &mut Wire::connect(info, endpoint.timeout)?)).collect()
}

fn ask(info: &ConnectionInfo, wire: &mut Wire) -> RedisResult<About> {
    let text = String::from_redis_value(wire.ask(&cmd("INFO"))?)?;
    let mut settings = BTreeMap::new();
    for name in SETTINGS {
        let found = wire.ask(cmd("CONFIG").arg("GET").arg(name));
        let found = found.ok().and_then(|found| Vec::<String>::from_redis_value(found).ok());
        if let Some([name, value]) = found.as_deref() {
            settings.insert(name.clone(), value.clone());
        }
    }
    let ahead_ms = ahead_ms(wire).unwrap_or_default();
    let address = info.addr().to_string();
    Ok(About { address, info: text, settings, denied: denied(wire), ahead_ms })
}

/// Compares the server's clock with that of this machine.
fn ahead_ms(wire: &mut Wire) -> RedisResult<i64> {
    let now = || {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        now.map_or(0, |now| now.as_millis() as i64)
    };
    let before = now();
    let (seconds, micros) = <(i64, i64)>::from_redis_value(wire.ask(&cmd("TIME"))?)?;
    let middle = before + (now() - before) / 2;
    Ok(seconds.saturating_mul(1_000).saturating_add(micros / 1_000).saturating_sub(middle))
}

/// Tries the commands that a server needs on keys that nobody uses, and returns those that the
/// user's rules (ACL) forbid. The only key that is written expires after a millisecond.
fn denied(wire: &mut Wire) -> Vec<String> {
    const SET: &str = "return redis.call('SET', KEYS[1], 1, 'PX', 1)";
    let command = |words: &[&str]| {
        let mut command = cmd(words[0]);
        command.arg(&words[1..]);
        command
    };
    let own = "bandsync:{nodes}:check";
    let probes: [(&str, Cmd); 7] = [
        ("EVAL with bandsync:*", command(&["EVAL", SET, "1", own])),
        ("GET of bandsync:*", command(&["GET", own])),
        ("HGET of session:*", command(&["HGET", "session:{nodes}:check", "epoch"])),
        ("PEXPIRE of session:*", command(&["PEXPIRE", "session:{nodes}:check", "1"])),
        ("DEL of quarantine:*", command(&["DEL", "quarantine:{nodes}:check"])),
        ("PUBLISH to bandsync:*", command(&["PUBLISH", own, ""])),
        // The last one: the connection can do nothing else afterwards.
        ("SUBSCRIBE to bandsync:*", command(&["SUBSCRIBE", own])),
    ];
    let is_denied = |probe: &Cmd, wire: &mut Wire| matches!(wire.ask(probe), Err(error) if error.code() == Some("NOPERM"));
    let denied = probes.iter().filter(|(_, probe)| is_denied(probe, wire));
    denied.map(|(what, _)| (*what).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::net::TcpListener;
    use std::process::{Child, Command, Stdio};
    use std::thread;
    use std::time::{Duration, Instant};

    use super::*;

    /// A redis-server that ends with the test.
    struct Server(Child, Endpoint);

    impl Drop for Server {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    impl Server {
        fn start() -> Self {
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let mut command = Command::new("redis-server");
            command.args(["--bind", "127.0.0.1", "--save", "", "--port", &port.to_string()]);
            let child = command.stdout(Stdio::null()).spawn().unwrap();
            let topology = Topology::parse(&format!("redis://127.0.0.1:{port}")).unwrap();
            let timeout = Duration::from_secs(5);
            let server = Self(child, Endpoint { topology, replicas: 0, timeout });
            let began = Instant::now();
            while about(&server.1).is_err() {
                assert!(began.elapsed() < Duration::from_secs(40), "redis-server does not start");
                thread::sleep(Duration::from_millis(10));
            }
            server
        }

        fn ask(&self, words: &str) {
            let mut words = words.split(' ');
            let mut command = cmd(words.next().unwrap());
            words.for_each(|word| {
                command.arg(word);
            });
            let mut wire: Wire = open_any(&self.1).unwrap();
            wire.ask(&command).unwrap();
        }
    }

    #[test]
    fn a_server_says_its_settings_and_what_this_user_may_not_do() {
        let server = Server::start();
        let one = || about(&server.1).unwrap().pop().unwrap();
        let well = one();
        assert_eq!(info_field(&well.info, "maxmemory_policy"), Some("noeviction"));
        assert_eq!(well.settings["save"], "");
        assert_eq!(well.settings["appendfsync"], "everysec");
        assert_eq!(well.settings["min-replicas-to-write"], "0");
        assert_eq!(well.denied, Vec::<String>::new());
        assert!(well.ahead_ms.abs() < 1_000, "one machine has one clock: {} ms", well.ahead_ms);
        server.ask("ACL SETUSER default -publish -config resetkeys ~bandsync:* ~quarantine:*");
        let limited = one();
        assert_eq!(limited.settings.len(), 0, "CONFIG is not permitted");
        let denied = ["HGET of session:*", "PEXPIRE of session:*", "PUBLISH to bandsync:*"];
        assert_eq!(limited.denied, denied);
    }
}
