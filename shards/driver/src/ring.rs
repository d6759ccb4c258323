//! Sends through io_uring: the frames of a whole turn with one system call.

use std::io;
use std::os::fd::RawFd;

use io_uring::{IoUring, Probe, opcode, types};

use crate::crowds::Buffers;
use crate::net::SendRequest;

/// Maximum number of requests in one submit. The sends of a larger turn are submitted in parts.
const ENTRIES: u32 = 256;

/// Flags of each send. `MSG_NOSIGNAL` is that of the plain calls. `MSG_DONTWAIT` makes the kernel
/// finish each request within the submit, even if the socket is full, so that no request is under
/// way when the submit returns.
const FLAGS: i32 = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;

/// The ring of one shard.
pub(crate) struct Ring {
    ring: IoUring,
    /// The results of the last submit by the index of the request, as the kernel returns them: a
    /// count of bytes, or a negated error.
    results: Vec<Option<i32>>,
}

impl Ring {
    /// Creates a ring, if the kernel has io_uring and permits it. Containers often forbid it.
    pub(crate) fn new() -> io::Result<Self> {
        let ring = IoUring::builder().setup_submit_all().build(ENTRIES)?;
        let mut probe = Probe::new();
        ring.submitter().register_probe(&mut probe)?;
        if !probe.is_supported(opcode::Send::CODE) {
            return Err(io::ErrorKind::Unsupported.into());
        }
        Ok(Self { ring, results: Vec::new() })
    }

    /// Sends all requests in order. [`Ring::result`] then returns the result of each.
    ///
    /// # Errors
    /// If the ring fails. It must not be used again; requests without a result were not begun.
    pub(crate) fn send(
        &mut self,
        requests: &[SendRequest<RawFd>],
        buffers: Buffers<'_>,
    ) -> io::Result<()> {
        self.results.clear();
        self.results.resize(requests.len(), None);
        for (part, requests) in requests.chunks(ENTRIES as usize).enumerate() {
            // One view of the queue for the whole part: the kernel sees its end when it is dropped.
            let mut queue = self.ring.submission();
            for (index, request) in requests.iter().enumerate() {
                let bytes = buffers.of(request.bytes);
                let entry = opcode::Send::new(
                    types::Fd(request.socket),
                    bytes.as_ptr(),
                    bytes.len() as u32,
                )
                .flags(FLAGS)
                .build()
                .user_data((part * ENTRIES as usize + index) as u64);
                // SAFETY: the bytes are borrowed until this function returns, and it returns when
                // the kernel has finished every request that it took.
                let pushed = unsafe { queue.push(&entry) };
                assert!(pushed.is_ok(), "the part is no longer than the ring, which is empty");
            }
            drop(queue);
            self.submit(requests.len())?;
        }
        Ok(())
    }

    /// Submits `count` requests, and collects their results.
    fn submit(&mut self, count: usize) -> io::Result<()> {
        let mut done = 0;
        while done < count {
            let submitted = self.ring.submit_and_wait(count - done);
            for entry in self.ring.completion() {
                self.results[entry.user_data() as usize] = Some(entry.result());
                done += 1;
            }
            match submitted {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Returns the number of bytes that the kernel accepted of a request. `None` if the request
    /// must be sent by a plain call.
    pub(crate) fn result(&self, index: usize) -> Option<io::Result<usize>> {
        match self.results[index]? {
            error if error == -libc::EINTR => None,
            error if error == -libc::EAGAIN => Some(Ok(0)),
            error if error < 0 => Some(Err(io::Error::from_raw_os_error(-error))),
            count => Some(Ok(count as usize)),
        }
    }
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ring")
    }
}
