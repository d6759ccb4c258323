//! The rejection of a command. Its member stays connected.

use std::borrow::Cow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Song;
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
    /// The song as it is now, if another member changed it meanwhile.
    pub conflict: Option<Box<Conflict>>,
}

/// The song that two members edited, as it is now.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Conflict {
    /// The revision of the set list.
    pub revision: u64,
    /// The song's id.
    pub id: String,
    /// The song. `None`: it is gone.
    pub song: Option<Arc<Song>>,
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
        Self {
            code,
            message: message.into(),
            field: None,
            retry_after: None,
            excess: None,
            conflict: None,
        }
    }

    /// Creates a `too_large`: a size in bytes is above its limit.
    pub fn too_large(message: impl Into<Cow<'static, str>>, bytes: usize, max: usize) -> Self {
        Self { excess: Some(Excess { bytes, max }), ..Self::new(Code::TooLarge, message) }
    }

    /// Creates a `conflict`: another member changed or removed a song meanwhile.
    pub fn conflict(revision: u64, id: String, song: Option<Arc<Song>>) -> Self {
        let message = match song {
            Some(_) => "another member changed this song meanwhile: choose one of the two versions",
            None => "another member removed this song meanwhile: add it again if you still want it",
        };
        let conflict = Some(Box::new(Conflict { revision, id, song }));
        Self { conflict, ..Self::new(Code::Conflict, message) }
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
    Conflict,
    Unavailable,
    Draining,
    Internal,
}

impl Code {
    /// All codes, in order.
    pub const ALL: [Self; 17] = [
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
        Self::Conflict,
        Self::Unavailable,
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
            Self::Conflict => "conflict",
            Self::Unavailable => "unavailable",
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
