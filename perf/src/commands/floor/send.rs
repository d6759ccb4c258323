//! The two ways of sending one frame to many sockets.

use std::io;

use io_uring::{IoUring, opcode, squeue, types};

const FLAGS: i32 = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;

/// Maximum requests of one submit.
const BATCH: u32 = 1_024;

/// The way in which frames are sent.
pub enum Sender {
    /// One call each.
    Plain,
    /// Collected in a ring.
    Ring(Box<IoUring>),
}

impl Sender {
    /// Creates a sender with its own ring.
    pub fn ring() -> io::Result<Self> {
        let ring = IoUring::builder().setup_single_issuer().setup_coop_taskrun().build(BATCH)?;
        Ok(Self::Ring(Box::new(ring)))
    }

    /// Sends `frame` to every socket. With a ring it is sent at [`submit`](Self::submit): the frame
    /// must live until then.
    pub fn send(&mut self, sockets: &[i32], frame: &[u8]) -> io::Result<()> {
        for socket in sockets {
            match self {
                Self::Plain => {
                    // SAFETY: the frame outlives the call. A full socket misses this tick.
                    unsafe { libc::send(*socket, frame.as_ptr().cast(), frame.len(), FLAGS) };
                }
                Self::Ring(ring) => {
                    let entry =
                        opcode::Send::new(types::Fd(*socket), frame.as_ptr(), frame.len() as u32);
                    push(ring, &entry.flags(FLAGS).build())?;
                }
            }
        }
        Ok(())
    }

    /// Sends the collected frames.
    pub fn submit(&mut self) -> io::Result<()> {
        match self {
            Self::Plain => Ok(()),
            Self::Ring(ring) => submit(ring),
        }
    }
}

fn push(ring: &mut IoUring, entry: &squeue::Entry) -> io::Result<()> {
    // SAFETY: the frame that the entry points to belongs to a session. Sessions are never dropped,
    // and the frame does not change; the request is done at the next submit.
    while unsafe { ring.submission().push(entry) }.is_err() {
        submit(ring)?;
    }
    Ok(())
}

/// Submits all requests and ignores their results. `MSG_DONTWAIT` makes each finish within the
/// call.
fn submit(ring: &mut IoUring) -> io::Result<()> {
    let count = ring.submission().len();
    if count > 0 {
        ring.submit_and_wait(count)?;
        ring.completion().for_each(drop);
    }
    Ok(())
}
