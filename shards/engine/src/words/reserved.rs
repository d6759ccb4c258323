//! A byte that recorded traces hold and nothing uses.

use serde::de::{Deserialize, Deserializer, Error};
use serde::ser::{Serialize, Serializer};

/// One byte of zero in place of a field that is gone, so that recorded traces keep their layout.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Reserved;

impl Serialize for Reserved {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(0)
    }
}

impl<'de> Deserialize<'de> for Reserved {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u8::deserialize(deserializer)? {
            0 => Ok(Self),
            byte => Err(D::Error::custom(format_args!("reserved byte is {byte}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn it_is_one_byte_of_zero_and_accepts_nothing_else() {
        assert_eq!(postcard::to_allocvec(&Reserved).unwrap(), [0]);
        assert_eq!(postcard::from_bytes::<Reserved>(&[0]), Ok(Reserved));
        assert!(postcard::from_bytes::<Reserved>(&[1]).is_err());
    }
}
