//! The slots of a Redis Cluster.

use redis::{ConnectionInfo, Value};

use crate::connect::{elsewhere, host_of};

/// Slots of a Cluster.
pub const SLOTS: u16 = 16_384;

/// First slot, last slot, and their primary.
pub type Range = (u16, u16, ConnectionInfo);

/// Parses `CLUSTER SLOTS`: first slot, last slot, primary. A node that does not know its own name
/// is at the address that was asked.
pub fn ranges(slots: &Value, asked: &ConnectionInfo) -> Vec<Range> {
    let items =
        |value: &Value| if let Value::Array(items) = value { items.clone() } else { Vec::new() };
    let number = |value: Option<&Value>| match value {
        Some(Value::Int(number)) => u16::try_from(*number).ok(),
        _ => None,
    };
    let range = |entry: &Value| {
        let entry = items(entry);
        let primary = items(entry.get(2)?);
        let host = match primary.first() {
            Some(Value::BulkString(host)) => String::from_utf8_lossy(host).into_owned(),
            _ => String::new(),
        };
        let host = if host.is_empty() { host_of(asked) } else { host };
        let info = elsewhere(asked, (host, number(primary.get(1))?));
        Some((number(entry.first())?, number(entry.get(1))?, info))
    };
    items(slots).iter().filter_map(range).collect()
}

/// Whether every slot has a primary.
pub fn covers_all(ranges: &[Range]) -> bool {
    ranges
        .iter()
        .map(|(first, last, _)| usize::from(last.saturating_sub(*first)) + 1)
        .sum::<usize>()
        == usize::from(SLOTS)
}

/// Returns the slot of a key: that of the part in the first braces, if it is not empty.
pub fn slot_of(key: &[u8]) -> u16 {
    let tag = key.iter().position(|byte| *byte == b'{').and_then(|open| {
        let rest = &key[open + 1..];
        rest.iter()
            .position(|byte| *byte == b'}')
            .filter(|length| *length > 0)
            .map(|length| &rest[..length])
    });
    // CRC-16 with the polynomial 0x1021, as in XMODEM.
    let crc = tag.unwrap_or(key).iter().fold(0_u16, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| {
            if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 }
        })
    });
    crc % SLOTS
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use redis::Client;

    use super::*;

    #[test]
    fn keys_map_to_the_same_slots_as_in_redis() {
        // Answers of `CLUSTER KEYSLOT`.
        for (key, slot) in
            [("123456789", 12_739), ("foo", 12_182), ("a{foo}b", 12_182), ("{}foo", 9_500), ("", 0)]
        {
            assert_eq!(slot_of(key.as_bytes()), slot, "{key}");
        }
    }

    #[test]
    fn unserved_slots_are_detected() {
        let info = Client::open("redis://stage:7000").unwrap().get_connection_info().clone();
        let slots = |last: u16| {
            let text =
                format!("*1\r\n*3\r\n:0\r\n:{last}\r\n*3\r\n$0\r\n\r\n:7001\r\n$2\r\nid\r\n");
            ranges(&redis::parse_redis_value(text.as_bytes()).unwrap(), &info)
        };
        let whole = slots(16_383);
        assert_eq!(whole[0].2.addr().to_string(), "stage:7001");
        assert!(covers_all(&whole) && !covers_all(&slots(16_382)));
    }
}
