//! A client process: `perf/clock-client.js` in Node.js, alone or with a headless browser.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use bandsync_perf::cpu;
use bandsync_perf::run::say;
use serde::Serialize;

use super::analysis::Found;

const PROGRAM: &str = "perf/clock-client.js";

/// The argument of the program.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// Address of the client's door.
    pub url: String,
    /// Session to join.
    pub session_id: &'static str,
    /// Beginning of its members' names.
    pub name: String,
    /// Seed of its clocks.
    pub seed: u64,
    /// Members that connect in turn.
    pub connects: u32,
    /// Duration of the steady measurement, in seconds.
    pub seconds: u32,
    /// Steps of the clock.
    pub steps: u32,
    /// Whether its members run in a browser.
    pub browser: bool,
}

/// A running client. It does not outlive this value.
pub struct Client {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    is_browser: bool,
}

impl Client {
    /// Starts a client and waits until it is ready. If a browser cannot be started, the client runs
    /// in Node.js.
    ///
    /// # Errors
    /// If Node.js cannot be started, or the program ends.
    pub fn start(plan: &Plan) -> io::Result<Self> {
        match Self::start_once(plan) {
            Err(error) if plan.browser => {
                say(&format!("without a browser: {error}"));
                Self::start_once(&Plan { browser: false, ..plan.clone() })
            }
            started => started,
        }
    }

    fn start_once(plan: &Plan) -> io::Result<Self> {
        // A page rounds its clock by itself.
        let stamp_ms = if plan.browser { 0.0 } else { 0.1 };
        let mut argument = serde_json::to_value(plan)?;
        argument["stampMs"] = stamp_ms.into();
        let mut command = Command::new("node");
        command.arg(PROGRAM).arg(argument.to_string()).stdin(Stdio::piped()).stdout(Stdio::piped());
        // SAFETY: between fork and exec only system calls are made, and nothing is allocated.
        unsafe {
            command.pre_exec(|| {
                // The client must not outlive this process. If the call is rejected it may, until
                // its input ends.
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                // Threads of Node.js and Chromium yield to wait for each other. In real time, they
                // can keep all cores from the threads that they wait for.
                cpu::run_in_shared_time()
            })
        };
        let mut child = command.spawn().map_err(|error| {
            io::Error::other(format!("node cannot be started ({error}): install Node.js 22"))
        })?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let output = output.ok_or_else(|| io::Error::other("the client has no output"))?;
        let mut client =
            Self { child, input, output: BufReader::new(output), is_browser: plan.browser };
        match client.line()?.trim_end() {
            "ready" => Ok(client),
            other => Err(io::Error::other(format!("{PROGRAM} printed {other:?} instead of ready"))),
        }
    }

    /// Whether its members run in a browser.
    pub fn is_browser(&self) -> bool {
        self.is_browser
    }

    /// Lets it measure.
    ///
    /// # Errors
    /// If it has ended.
    pub fn begin(&mut self) -> io::Result<()> {
        self.input.as_mut().map_or(Ok(()), |input| input.write_all(b"\n"))
    }

    /// Waits for its output.
    ///
    /// # Errors
    /// If it ends without.
    pub fn finish(mut self) -> io::Result<Found> {
        let line = self.line()?;
        serde_json::from_str(&line)
            .map_err(|error| io::Error::other(format!("{PROGRAM} printed no result: {error}")))
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.output.read_line(&mut line)? == 0 {
            let status = self.child.wait()?;
            return Err(io::Error::other(format!("{PROGRAM} ended: {status}")));
        }
        Ok(line)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
