//! A measured server: started here and pinned to its core, or already running.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::cpu::{self, CpuTime};
use crate::timer_fd::{SECOND, now};

/// Time that a server may take until it accepts connections.
const START_MAX: u64 = 20 * SECOND;

/// Time limit of connecting for a page, and of each read of it.
const PAGE_MAX: Duration = Duration::from_secs(10);

/// A process whose CPU time and memory are measured. If it was started here, dropping this value
/// ends it.
#[derive(Debug)]
pub struct Server {
    pid: u32,
    child: Option<Child>,
}

impl Server {
    /// Starts `command` (words separated by spaces; `PORT` stands for the address's port) on `core`
    /// and waits until it listens on `address`. Only its errors are shown.
    ///
    /// # Errors
    /// If it cannot be started, ends by itself, or does not listen in time.
    pub fn start(command: &str, core: usize, address: SocketAddr) -> io::Result<Self> {
        let command = command.replace("PORT", &address.port().to_string());
        let mut words = command.split_whitespace();
        let program =
            words.next().ok_or_else(|| io::Error::other("no program to start is named"))?;
        let mut command = Command::new(program);
        command.args(words).stdin(Stdio::null()).stdout(Stdio::null());
        // SAFETY: between fork and exec only system calls are made, and nothing is allocated.
        unsafe {
            command.pre_exec(move || {
                // The server must not outlive this process. If the call is rejected it may, which
                // is harmless.
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                cpu::pin(0, core)
            })
        };
        let child = command.spawn()?;
        let mut server = Self { pid: child.id(), child: Some(child) };
        let begun = now();
        while TcpStream::connect_timeout(&address, Duration::from_millis(100)).is_err() {
            if let Some(status) =
                server.child.as_mut().and_then(|child| child.try_wait().transpose())
            {
                return Err(io::Error::other(format!("{program} ended: {}", status?)));
            }
            if now() > begun + START_MAX {
                return Err(io::Error::other(format!(
                    "{program} does not listen on {address}; in its command, PORT stands for that port"
                )));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(server)
    }

    /// A server that is already running.
    pub fn running(pid: u32) -> Self {
        Self { pid, child: None }
    }

    /// Returns the process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Its CPU time so far.
    ///
    /// # Errors
    /// If the process is gone.
    pub fn cpu_time(&self) -> io::Result<CpuTime> {
        cpu::cpu_time(self.pid)
    }

    /// Asks it for a page over HTTP, and returns the body.
    ///
    /// # Errors
    /// If it does not answer in ten seconds, or not with 200.
    pub fn get(&self, address: SocketAddr, path: &str) -> io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&address, PAGE_MAX)?;
        stream.set_read_timeout(Some(PAGE_MAX))?;
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes())?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        match text.split_once("\r\n\r\n") {
            Some((head, body)) if head.starts_with("HTTP/1.1 200") => Ok(body.to_owned()),
            _ => Err(io::Error::other(format!("{path} is answered with {:.60}", text))),
        }
    }

    /// Its own memory, in bytes.
    ///
    /// # Errors
    /// If the process is gone.
    pub fn memory(&self) -> io::Result<u64> {
        cpu::anonymous_memory(self.pid)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // It may have ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
