//! The rejection of a command. Its member stays connected.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::words::time::Micros;

/// A rejected command: a code for programs, a message for people, and the field at fault if there
/// is one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Reject {
    /// The code, for programs.
    pub code: Code,
    /// The message, for people: a sentence that says what would be accepted.
    pub message: Cow<'static, str>,
    /// The name of the field at fault, as in the protocol.
    pub field: Option<&'static str>,
    /// Time after which the command would be accepted, if it came too fast.
    pub retry_after: Option<Micros>,
    /// The size of the request, if it was too large.
    pub excess: Option<Excess>,
}

/// The size of a request that is too large, in bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Excess {
    /// The size in bytes.
    pub bytes: usize,
    /// Maximum size in bytes.
    pub max: usize,
}

impl Reject {
    /// Creates a rejection that concerns no single field.
    pub fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, message: message.into(), field: None, retry_after: None, excess: None }
    }

    /// Creates a `too_large`: a size in bytes is above its limit.
    pub fn too_large(message: impl Into<Cow<'static, str>>, bytes: usize, max: usize) -> Self {
        Self { excess: Some(Excess { bytes, max }), ..Self::new(Code::TooLarge, message) }
    }

    /// Creates an `invalid_payload`, which says what the field should be.
    pub fn field(field: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self { field: Some(field), ..Self::new(Code::InvalidPayload, message) }
    }
}

/// The protocol's error codes.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[allow(missing_docs)] // each says what `as_str` says
pub enum Code {
    InvalidPayload,
    InvalidSessionId,
    SessionNotFound,
    SessionFull,
    NotMember,
    NotLeader,
    NotAllowed,
    BadPasscode,
    RateLimited,
    UnknownEvent,
    TooLarge,
    TooLate,
    Replaced,
    Draining,
    Internal,
}

impl Code {
    /// All codes, in order.
    pub const ALL: [Self; 15] = [
        Self::InvalidPayload,
        Self::InvalidSessionId,
        Self::SessionNotFound,
        Self::SessionFull,
        Self::NotMember,
        Self::NotLeader,
        Self::NotAllowed,
        Self::BadPasscode,
        Self::RateLimited,
        Self::UnknownEvent,
        Self::TooLarge,
        Self::TooLate,
        Self::Replaced,
        Self::Draining,
        Self::Internal,
    ];

    /// Returns the index of the code in [`Code::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Returns the code as it is printed.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidPayload => "invalid_payload",
            Self::InvalidSessionId => "invalid_session_id",
            Self::SessionNotFound => "session_not_found",
            Self::SessionFull => "session_full",
            Self::NotMember => "not_member",
            Self::NotLeader => "not_leader",
            Self::NotAllowed => "not_allowed",
            Self::BadPasscode => "bad_passcode",
            Self::RateLimited => "rate_limited",
            Self::UnknownEvent => "unknown_event",
            Self::TooLarge => "too_large",
            Self::TooLate => "too_late",
            Self::Replaced => "replaced",
            Self::Draining => "draining",
            Self::Internal => "internal",
        }
    }
}

#[test]
fn the_index_of_each_code_is_its_place_in_all() {
    for (place, code) in Code::ALL.into_iter().enumerate() {
        assert_eq!(code.index(), place, "{}", code.as_str());
    }
}
