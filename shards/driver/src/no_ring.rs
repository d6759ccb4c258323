//! Replaces the ring on processors that the io_uring crate does not support.

use std::io;
use std::os::fd::RawFd;

use crate::crowds::Buffers;
use crate::net::SendRequest;

/// A ring that is never created.
#[derive(Debug)]
pub(crate) enum Ring {}

impl Ring {
    pub(crate) fn new() -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(crate) fn send(&mut self, _: &[SendRequest<RawFd>], _: Buffers<'_>) -> io::Result<()> {
        match *self {}
    }

    pub(crate) fn result(&self, _: usize) -> Option<io::Result<usize>> {
        match *self {}
    }
}
