//! A redis-server of a test.

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bandsync_redis::{Endpoint, Topology};
use redis::{Client, Connection, FromRedisValue};

use crate::line::Line;

/// Limit of everything that a test awaits. Reached only if something is broken.
pub const PATIENCE: Duration = Duration::from_secs(40);

/// A server that ends with its owner.
pub struct Server {
    child: Option<Child>,
    /// Its port.
    pub port: u16,
    /// Its port for other servers of a Redis Cluster.
    pub bus_port: u16,
    folder: PathBuf,
    options: Vec<String>,
}

impl Server {
    /// Starts a server with options beside those for its port and files.
    pub fn start(options: &[&str]) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("bandsync-cluster-{}-{count}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).unwrap();
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        let mut server = Self { child: None, port: 0, bus_port: 0, folder, options };
        // Another program may take a port between its choice and its use.
        for _ in 0..5 {
            (server.port, server.bus_port) = (free_port(), free_port());
            if server.run() {
                return server;
            }
        }
        panic!("redis-server does not start: is it installed?");
    }

    /// Starts a server of a Redis Cluster.
    pub fn start_clustered() -> Self {
        Self::start(&["--cluster-enabled", "yes", "--cluster-node-timeout", "2000"])
    }

    /// Starts a Sentinel of the primary at a port. Two of them decide.
    pub fn start_sentinel(primary: u16) -> Self {
        let rules = [
            format!("sentinel monitor band 127.0.0.1 {primary} 2"),
            "sentinel down-after-milliseconds band 500".to_owned(),
            "sentinel failover-timeout band 3000".to_owned(),
        ];
        Self::start(&["--sentinel", &rules.join("\n")])
    }

    /// Starts the process, and waits until it answers.
    fn run(&mut self) -> bool {
        let port = self.port.to_string();
        let mut command = redis_server();
        command.args(["--bind", "127.0.0.1", "--port", &port, "--save", "", "--appendonly", "no"]);
        command.arg("--dir").arg(&self.folder);
        if let [kind, rules] = &self.options[..]
            && kind == "--sentinel"
        {
            // A Sentinel keeps what it learns in its file.
            let file = self.folder.join("sentinel.conf");
            let text = format!("port {port}\nbind 127.0.0.1\n{rules}\n");
            fs::write(&file, text).unwrap();
            command = redis_server();
            command.arg(file).arg("--sentinel").current_dir(&self.folder);
        } else {
            command.args(&self.options);
        }
        if self.options.iter().any(|option| option == "--cluster-enabled") {
            command.arg("--cluster-port").arg(self.bus_port.to_string());
        }
        self.child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok();
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            if self.child.as_mut().is_none_or(|child| child.try_wait().unwrap().is_some()) {
                return false;
            }
            if self
                .try_connect()
                .is_some_and(|mut open| redis::cmd("PING").query::<String>(&mut open).is_ok())
            {
                return true;
            }
            thread::sleep(Duration::from_millis(5));
        }
        false
    }

    fn try_connect(&self) -> Option<Connection> {
        Client::open(self.url()).ok()?.get_connection_with_timeout(Duration::from_secs(1)).ok()
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Its address as a setting.
    pub fn topology(&self) -> Topology {
        Topology::parse(&self.url()).unwrap()
    }

    /// A line to it.
    pub fn line(&self) -> Line {
        let topology = self.topology();
        Line::new(Endpoint { topology, replicas: 0, timeout: Duration::from_secs(2) })
    }

    /// A plain connection to it.
    pub fn connect(&self) -> Connection {
        self.try_connect().unwrap()
    }

    /// Runs a command, given in words.
    pub fn ask<T: FromRedisValue>(&self, words: &str) -> T {
        let mut words = words.split(' ');
        let mut command = redis::cmd(words.next().unwrap());
        words.for_each(|word| {
            command.arg(word);
        });
        command.query(&mut self.connect()).unwrap()
    }

    /// Founds a cluster, which otherwise takes 3 s.
    pub fn found(&self, buckets: u16) {
        let _: i64 = self.ask(&format!(
            "HSET bandsync:{{nodes}}:table origin 1700000000000000 buckets {buckets}"
        ));
    }

    /// Kills the process.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Starts it again on its port, without its data.
    pub fn restart(&mut self) {
        self.kill();
        assert!(self.run(), "redis-server does not start again");
    }

    /// Stops or continues the process.
    pub fn signal(&self, name: &str) {
        let id = self.child.as_ref().unwrap().id().to_string();
        let line = format!("kill {name} {id}");
        assert!(Command::new("sh").args(["-c", &line]).status().unwrap().success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Returns a command that the kernel ends with the thread of the test, also after a time limit. The
/// process id is that of the server in both cases.
fn redis_server() -> Command {
    let leash = ["--pdeathsig", "KILL"];
    let has_leash = Command::new("setpriv").args(leash).arg("true").status();
    if !has_leash.is_ok_and(|status| status.success()) {
        return Command::new("redis-server");
    }
    let mut command = Command::new("setpriv");
    command.args(leash).arg("redis-server");
    command
}

/// Returns a port that nobody listens on.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Waits until a condition holds.
#[track_caller]
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}
