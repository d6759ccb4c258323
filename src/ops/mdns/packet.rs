//! Packets of multicast DNS: the parts of RFC 1035 and RFC 6762 that a responder for one name
//! reads and writes.
//!
//! Everybody in the network may send anything, so reading never trusts a length: a packet that is
//! not complete is dropped.

use std::net::IpAddr;

/// Type of an IPv4 address.
pub const A: u16 = 1;
/// Type of an IPv6 address.
pub const AAAA: u16 = 28;
/// Type of the list of types that exist.
pub const NSEC: u16 = 47;
/// Asks for all types.
pub const ANY: u16 = 255;

/// The internet, the only class.
const INTERNET: u16 = 1;
/// In a question: the answer should go to the asker alone. In a record: it replaces older ones.
const TOP_BIT: u16 = 0x8000;
/// Flag of a response.
const RESPONSE: u16 = 0x8000;
/// Flag of a response from the owner of the name.
const AUTHORITATIVE: u16 = 0x0400;
/// Bits that select another operation than a query, and codes of errors.
const OTHER: u16 = 0x780f;
/// Maximum bytes of a name. Specified.
const NAME_MAX: usize = 255;

/// A question.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Question {
    /// The name, in lower case, with dots between its labels and none at the end.
    pub name: String,
    /// The type that is asked for.
    pub kind: u16,
    /// Whether the answer should go to the asker alone.
    pub wants_unicast: bool,
}

/// A record.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Record {
    /// The name, as in a question.
    pub name: String,
    /// The type.
    pub kind: u16,
    /// Seconds for which it holds; 0 takes it back.
    pub ttl: u32,
    /// The value.
    pub data: Vec<u8>,
}

/// A packet.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Packet {
    /// Number of the query, which only askers outside mDNS use.
    pub id: u16,
    /// Whether it is a response.
    pub is_response: bool,
    /// The questions.
    pub questions: Vec<Question>,
    /// The answers; in a query those that the asker knows.
    pub answers: Vec<Record>,
    /// In a query: the records that a new host wants to have.
    pub authorities: Vec<Record>,
    /// Records that go with the answers.
    pub additionals: Vec<Record>,
}

impl Record {
    /// Returns the record of an address.
    pub fn address(name: &str, address: IpAddr, ttl: u32) -> Self {
        let (kind, data) = match address {
            IpAddr::V4(address) => (A, address.octets().to_vec()),
            IpAddr::V6(address) => (AAAA, address.octets().to_vec()),
        };
        Self { name: name.to_owned(), kind, ttl, data }
    }

    /// Returns the record that says which types a name has: these and no others.
    pub fn types(name: &str, kinds: &[u16], ttl: u32) -> Self {
        let mut data = Vec::new();
        write_name(&mut data, name);
        let mut bits = [0_u8; 32];
        let mut length = 0;
        for kind in kinds.iter().filter(|kind| **kind < 256) {
            let byte = usize::from(kind / 8);
            bits[byte] |= 0x80 >> (kind % 8);
            length = length.max(byte + 1);
        }
        data.extend([0, length as u8]);
        data.extend(&bits[..length]);
        Self { name: name.to_owned(), kind: NSEC, ttl, data }
    }

    /// Returns the address in this record, if it has one.
    pub fn to_address(&self) -> Option<IpAddr> {
        match self.kind {
            A => <[u8; 4]>::try_from(self.data.as_slice()).ok().map(IpAddr::from),
            AAAA => <[u8; 16]>::try_from(self.data.as_slice()).ok().map(IpAddr::from),
            _ => None,
        }
    }
}

/// Reads a packet; `None` if it is not a complete query or response of DNS.
pub fn read(bytes: &[u8]) -> Option<Packet> {
    let mut reader = Reader { bytes, at: 0 };
    let id = reader.number()?;
    let flags = reader.number()?;
    if flags & OTHER != 0 {
        return None;
    }
    let counts = [reader.number()?, reader.number()?, reader.number()?, reader.number()?];
    let mut packet = Packet { id, is_response: flags & RESPONSE != 0, ..Packet::default() };
    for _ in 0..counts[0] {
        packet.questions.extend(reader.question()?);
    }
    let lists = [&mut packet.answers, &mut packet.authorities, &mut packet.additionals];
    for (list, count) in lists.into_iter().zip(&counts[1..]) {
        for _ in 0..*count {
            list.extend(reader.record()?);
        }
    }
    Some(packet)
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(count)?)?;
        self.at += count;
        Some(taken)
    }

    fn number(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    /// Reads a question. The outer `None` is the end of the packet, the inner one a question of
    /// another class.
    fn question(&mut self) -> Option<Option<Question>> {
        let name = self.name()?;
        let (kind, class) = (self.number()?, self.number()?);
        let fits = [INTERNET, ANY].contains(&(class & !TOP_BIT));
        let wants_unicast = class & TOP_BIT != 0;
        Some(fits.then_some(Question { name, kind, wants_unicast }))
    }

    /// Reads a record, as above.
    fn record(&mut self) -> Option<Option<Record>> {
        let name = self.name()?;
        let (kind, class) = (self.number()?, self.number()?);
        let ttl = u32::from_be_bytes(self.take(4)?.try_into().ok()?);
        let length = self.number()?;
        let data = self.take(usize::from(length))?.to_vec();
        let fits = class & !TOP_BIT == INTERNET;
        Some(fits.then_some(Record { name, kind, ttl, data }))
    }

    /// Reads a name. A name may end with the place of an earlier name; since each such place must
    /// be before the last one, the reading ends.
    fn name(&mut self) -> Option<String> {
        let mut name = String::new();
        let (mut at, mut limit) = (self.at, self.at);
        let mut end = None;
        loop {
            let length = usize::from(*self.bytes.get(at)?);
            match length >> 6 {
                0 if length == 0 => {
                    self.at = end.unwrap_or(at + 1);
                    return Some(name);
                }
                0 => {
                    let label = self.bytes.get(at + 1..at + 1 + length)?;
                    if !name.is_empty() {
                        name.push('.');
                    }
                    // A dot inside a label is not the end of one.
                    name.push_str(&String::from_utf8_lossy(label).replace('.', "\u{fffd}"));
                    at += 1 + length;
                }
                3 => {
                    let low = usize::from(*self.bytes.get(at + 1)?);
                    end.get_or_insert(at + 2);
                    at = (length & 0x3f) << 8 | low;
                    if at >= limit {
                        return None;
                    }
                    limit = at;
                }
                _ => return None,
            }
            if name.len() > 3 * NAME_MAX {
                return None;
            }
            name.make_ascii_lowercase();
        }
    }
}

impl Packet {
    /// Prints the packet. Records replace older ones if `flushes`.
    pub fn print(&self, flushes: bool) -> Vec<u8> {
        let mut out = Vec::new();
        let flags = if self.is_response { RESPONSE | AUTHORITATIVE } else { 0 };
        let counts = [
            self.questions.len(),
            self.answers.len(),
            self.authorities.len(),
            self.additionals.len(),
        ];
        for number in [self.id, flags].into_iter().chain(counts.map(|count| count as u16)) {
            out.extend(number.to_be_bytes());
        }
        for question in &self.questions {
            write_name(&mut out, &question.name);
            let class = INTERNET | if question.wants_unicast { TOP_BIT } else { 0 };
            out.extend(question.kind.to_be_bytes());
            out.extend(class.to_be_bytes());
        }
        for record in self.answers.iter().chain(&self.authorities).chain(&self.additionals) {
            write_name(&mut out, &record.name);
            out.extend(record.kind.to_be_bytes());
            out.extend((INTERNET | if flushes { TOP_BIT } else { 0 }).to_be_bytes());
            out.extend(record.ttl.to_be_bytes());
            out.extend((record.data.len() as u16).to_be_bytes());
            out.extend(&record.data);
        }
        out
    }
}

/// Writes a name whose labels have at most 63 bytes, as ours do; longer ones are cut.
fn write_name(out: &mut Vec<u8>, name: &str) {
    for label in name.split('.').filter(|label| !label.is_empty()) {
        let label = &label.as_bytes()[..label.len().min(63)];
        out.push(label.len() as u8);
        out.extend(label);
    }
    out.push(0);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn packet() -> Packet {
        Packet {
            id: 7,
            is_response: false,
            questions: vec![Question {
                name: "bandsync.local".into(),
                kind: ANY,
                wants_unicast: true,
            }],
            answers: vec![Record::types("bandsync.local", &[A, AAAA], 120)],
            authorities: vec![Record::address("bandsync.local", [192, 0, 2, 1].into(), 120)],
            additionals: vec![Record::address("other.local", [1; 16].into(), 0)],
        }
    }

    #[test]
    fn a_packet_is_read_as_it_was_printed() {
        assert_eq!(read(&packet().print(false)), Some(packet()));
        let response = Packet { is_response: true, questions: Vec::new(), ..packet() };
        assert_eq!(read(&response.print(true)), Some(response));
    }

    #[test]
    fn a_query_of_another_program_is_read() {
        // dig bandsync.local @224.0.0.251 -p 5353, with EDNS.
        let bytes = b"\x12\x34\x01\x20\0\x01\0\0\0\0\0\x01\x08BandSync\x05local\0\0\x01\0\x01\0\0\x29\x04\xd0\0\0\0\0\0\0";
        let packet = read(bytes).unwrap();
        assert_eq!((packet.id, packet.is_response), (0x1234, false));
        let question = Question { name: "bandsync.local".into(), kind: A, wants_unicast: false };
        assert_eq!(packet.questions, [question]);
        assert_eq!(packet.additionals, []);
    }

    #[test]
    fn a_name_may_end_with_the_place_of_an_earlier_one() {
        let mut bytes = b"\0\0\x84\0\0\0\0\x02\0\0\0\0\x01a\x05local\0\0\x01\x80\x01\0\0\0\x78\0\x04\xc0\0\x02\x01".to_vec();
        bytes.extend(b"\x01b\xc0\x0e\0\x01\x80\x01\0\0\0\x78\0\x04\xc0\0\x02\x02");
        let names: Vec<String> =
            read(&bytes).unwrap().answers.into_iter().map(|record| record.name).collect();
        assert_eq!(names, ["a.local", "b.local"]);
    }

    #[test]
    fn a_name_that_leads_to_itself_is_rejected() {
        for end in [b"\xc0\x0c".as_slice(), b"\x01a\xc0\x0c", b"\xc0\x0d", b"\xff\xff", b"\x40a\0"]
        {
            let mut bytes = b"\0\0\0\0\0\x01\0\0\0\0\0\0".to_vec();
            bytes.extend(end);
            bytes.extend(b"\0\x01\0\x01");
            assert_eq!(read(&bytes), None, "{end:?}");
        }
    }

    #[test]
    fn a_packet_that_was_cut_is_rejected() {
        let bytes = packet().print(true);
        for length in 0..bytes.len() {
            assert_eq!(read(&bytes[..length]), None, "{length}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_stop_the_reader(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = read(&bytes);
        }

        #[test]
        fn no_damage_stops_the_reader(
            damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)
        ) {
            let mut bytes = packet().print(true);
            for (at, byte) in damage {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            if let Some(packet) = read(&bytes) {
                // Whatever was read can be printed.
                let _ = packet.print(true);
            }
        }
    }
}
