//! Stands in for the ring on machines that the io_uring crate does not know: there is none to be
//! had.

use std::io;
use std::os::fd::RawFd;

use crate::net::SendRequest;

/// No such thing is ever made.
#[derive(Debug)]
pub(crate) enum Ring {}

impl Ring {
    pub(crate) fn new() -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(crate) fn send(&mut self, _: &[SendRequest<RawFd>], _: &[u8]) -> io::Result<()> {
        match *self {}
    }

    pub(crate) fn result(&self, _: usize) -> Option<io::Result<usize>> {
        match *self {}
    }
}
