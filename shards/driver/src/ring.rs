//! Sends through io_uring: the frames of a whole turn with one system call.

use std::io;
use std::os::fd::RawFd;

use io_uring::{IoUring, Probe, opcode, types};

use crate::net::SendRequest;

/// Requests that the ring takes at once; a longer turn is submitted in parts.
const ENTRIES: u32 = 256;

/// As the plain calls send. `MSG_DONTWAIT` makes the kernel finish each request within the submit,
/// even if that is to say that the socket is full, so that nothing is under way when the submit
/// returns.
const FLAGS: i32 = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;

/// A ring of a shard's own.
pub(crate) struct Ring {
    ring: IoUring,
    /// What came of each request of the last submit, by place, as the kernel says it: a count, or
    /// an error negated.
    results: Vec<Option<i32>>,
}

impl Ring {
    /// A ring, if the kernel has it and lets us. Containers often forbid it.
    pub(crate) fn new() -> io::Result<Self> {
        let ring = IoUring::builder().setup_submit_all().build(ENTRIES)?;
        let mut probe = Probe::new();
        ring.submitter().register_probe(&mut probe)?;
        if !probe.is_supported(opcode::Send::CODE) {
            return Err(io::ErrorKind::Unsupported.into());
        }
        Ok(Self { ring, results: Vec::new() })
    }

    /// Sends every request, in order. Afterwards [`Ring::result`] says what came of each.
    ///
    /// # Errors
    /// If the ring fails. It is not to be used again then; requests without a result were not
    /// begun.
    pub(crate) fn send(&mut self, requests: &[SendRequest<RawFd>], bytes: &[u8]) -> io::Result<()> {
        self.results.clear();
        self.results.resize(requests.len(), None);
        for (part, requests) in requests.chunks(ENTRIES as usize).enumerate() {
            for (place, request) in requests.iter().enumerate() {
                let bytes = &bytes[request.bytes.range()];
                let entry = opcode::Send::new(
                    types::Fd(request.socket),
                    bytes.as_ptr(),
                    bytes.len() as u32,
                )
                .flags(FLAGS)
                .build()
                .user_data((part * ENTRIES as usize + place) as u64);
                // SAFETY: the bytes are borrowed until this function returns, and it returns when
                // the kernel has finished every request that it took.
                let pushed = unsafe { self.ring.submission().push(&entry) };
                assert!(pushed.is_ok(), "the part is no longer than the ring, which is empty");
            }
            self.submit(requests.len())?;
        }
        Ok(())
    }

    /// Has the kernel do `count` requests.
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

    /// What came of the request at this place: how many bytes the kernel took. None if it must be
    /// sent otherwise.
    pub(crate) fn result(&self, place: usize) -> Option<io::Result<usize>> {
        match self.results[place]? {
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
