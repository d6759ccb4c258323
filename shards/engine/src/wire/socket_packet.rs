//! Socket.IO protocol version 5: connects, events and acknowledgements inside Engine.IO messages.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::{engine_packet, json};

/// Maximum number of binary attachments that one packet may announce.
pub const ATTACHMENTS_MAX: u8 = 10;

/// The end of acknowledgement ids: JavaScript's integers end there.
const ACK_ID_END: u64 = 1 << 53;

/// Names that the protocol keeps for itself; no client may emit them.
const RESERVED: [&str; 6] =
    ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"];

/// A packet from a client.
#[derive(Clone, Debug, PartialEq)]
pub struct Packet<'a> {
    /// The namespace: `/`, or another one as it was sent, with its query if it has one.
    pub namespace: &'a str,
    /// The contents.
    pub body: Body<'a>,
}

/// The contents of a packet.
#[derive(Clone, Debug, PartialEq)]
pub enum Body<'a> {
    /// `0`: join the namespace.
    Connect {
        /// The `auth` object as it was written. A missing one counts as `{}`.
        auth: Option<&'a str>,
    },
    /// `1`: leave the namespace.
    Disconnect,
    /// `2` and `5`.
    Event {
        /// The id under which the client wants an acknowledgement.
        ack: Option<u64>,
        /// Name and argument. `None` for a packet without a name, which is ignored.
        event: Option<json::Event<'a>>,
    },
    /// `3` and `6`: the client acknowledges an event of the server.
    Ack {
        /// The id of that event.
        id: u64,
        /// The array of the answer, as it was written.
        array: &'a str,
    },
}

/// The fault of a malformed packet. It closes the connection, with an empty close frame and the
/// reason `forced close`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PacketError {
    /// An unknown type, or `connect_error`, which only a server sends.
    Kind,
    /// A number of attachments that is malformed or not within 1 to [`ATTACHMENTS_MAX`].
    Attachments,
    /// An acknowledgement id beyond 2^53, or an acknowledgement without one.
    AckId,
    /// Malformed JSON, or JSON that the type does not allow.
    Payload,
    /// An event with a name that the protocol keeps for itself.
    ReservedName,
    /// A text message where an attachment was due, or an attachment that was not due.
    Order,
    /// A packet and its attachments are larger than a message may be.
    TooLarge,
}

/// Assembles packets and their attachments.
///
/// A plain value that can be recorded and moved. It owns heap memory only while attachments are
/// due.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Assembler {
    waiting: Option<Box<Binary>>,
}

/// A packet with its attachments.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Binary {
    text: String,
    due: u8,
    attachments: Vec<Vec<u8>>,
}

impl Assembler {
    /// Takes a text message of Engine.IO. The frame reader has bounded its length.
    ///
    /// Returns `None` if the packet waits for attachments.
    pub fn text<'a>(
        &mut self,
        text: &'a str,
        reading: &'a mut json::Reading<'_>,
    ) -> Result<Option<Packet<'a>>, PacketError> {
        if self.waiting.is_some() {
            return Err(PacketError::Order);
        }
        let (packet, due) = parse(text, reading)?;
        if due == 0 {
            return Ok(Some(packet));
        }
        self.waiting =
            Some(Box::new(Binary { text: text.to_owned(), due, attachments: Vec::new() }));
        Ok(None)
    }

    /// Takes a binary message. Returns the packet if this was its last attachment.
    pub fn binary(
        &mut self,
        bytes: &[u8],
        bytes_max: u32,
    ) -> Result<Option<Box<Binary>>, PacketError> {
        let mut waiting = self.waiting.take().ok_or(PacketError::Order)?;
        let held = waiting.text.len() + waiting.attachments.iter().map(Vec::len).sum::<usize>();
        if held + bytes.len() > bytes_max as usize {
            return Err(PacketError::TooLarge);
        }
        waiting.attachments.push(bytes.to_vec());
        if waiting.attachments.len() == usize::from(waiting.due) {
            return Ok(Some(waiting));
        }
        self.waiting = Some(waiting);
        Ok(None)
    }

    /// Whether attachments are due. The caller limits the time.
    pub fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }
}

impl Binary {
    /// Returns the packet, with placeholders for its attachments.
    pub fn packet<'a>(
        &'a self,
        reading: &'a mut json::Reading<'_>,
    ) -> Result<Packet<'a>, PacketError> {
        parse(&self.text, reading).map(|(packet, _)| packet)
    }

    /// Returns the attachments, in the order of the placeholders' `num`.
    pub fn attachments(&self) -> &[Vec<u8>] {
        &self.attachments
    }
}

/// Returns the acknowledgement id and the name of an event to `/`, without reading what follows the
/// name. `None` if the text does not begin like an event.
pub fn event_name(text: &str) -> Option<(Option<u64>, &str)> {
    let (ack, rest) = ack_id(text.strip_prefix('2')?).ok()?;
    let (name, _) = rest.strip_prefix("[\"")?.split_once('"')?;
    (!name.contains('\\')).then_some((ack, name))
}

/// Reads a packet, and the number of attachments that follow.
fn parse<'a>(
    text: &'a str,
    reading: &'a mut json::Reading<'_>,
) -> Result<(Packet<'a>, u8), PacketError> {
    let kind = *text.as_bytes().first().ok_or(PacketError::Kind)?;
    let rest = text.get(1..).ok_or(PacketError::Kind)?;
    let (due, rest) = match kind {
        b'5' | b'6' => attachments(rest)?,
        b'0'..=b'3' => (0, rest),
        _ => return Err(PacketError::Kind),
    };
    let (namespace, rest) = namespace(rest);
    let (ack, json) = ack_id(rest)?;
    let body = match kind {
        b'0' if json.is_empty() => Body::Connect { auth: None },
        b'0' if json::is_object(json) => Body::Connect { auth: Some(json) },
        b'1' if json.is_empty() => Body::Disconnect,
        b'2' if json.is_empty() => Body::Event { ack, event: None },
        b'2' | b'5' => Body::Event { ack, event: Some(event(json, reading)?) },
        b'3' | b'6' if json::is_array(json) => {
            Body::Ack { id: ack.ok_or(PacketError::AckId)?, array: json }
        }
        _ => return Err(PacketError::Payload),
    };
    if due > 0 && !json::placeholders_fit(json, due) {
        return Err(PacketError::Attachments);
    }
    Ok((Packet { namespace, body }, due))
}

fn attachments(text: &str) -> Result<(u8, &str), PacketError> {
    let (count, rest) = text.split_once('-').ok_or(PacketError::Attachments)?;
    let (count, none) = digits(count);
    let count =
        count.filter(|count| none.is_empty() && (1..=u64::from(ATTACHMENTS_MAX)).contains(count));
    Ok((count.ok_or(PacketError::Attachments)? as u8, rest))
}

fn namespace(text: &str) -> (&str, &str) {
    if text.starts_with('/') { text.split_once(',').unwrap_or((text, "")) } else { ("/", text) }
}

fn ack_id(text: &str) -> Result<(Option<u64>, &str), PacketError> {
    let (id, rest) = digits(text);
    if rest.len() < text.len() && id.is_none_or(|id| id >= ACK_ID_END) {
        return Err(PacketError::AckId);
    }
    Ok((id, rest))
}

/// Splits the number off the start of a text. `None` if there is no number or it is too large.
fn digits(text: &str) -> (Option<u64>, &str) {
    let end = text.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    let (number, rest) = text.split_at(end);
    (number.parse().ok(), rest)
}

fn event<'a>(
    json: &'a str,
    reading: &'a mut json::Reading<'_>,
) -> Result<json::Event<'a>, PacketError> {
    // JSON allows white space in front, but other decoders take it for an acknowledgement id.
    if !json.starts_with('[') {
        return Err(PacketError::Payload);
    }
    let event = reading.event(json).ok_or(PacketError::Payload)?;
    if RESERVED.contains(&&*event.name) { Err(PacketError::ReservedName) } else { Ok(event) }
}

/// Appends an event in `/` as a message of Engine.IO; `print` appends its argument. The name is one
/// of ours, which need no escapes.
#[inline]
pub fn event_to(out: &mut Vec<u8>, name: &'static str, print: impl FnOnce(&mut Vec<u8>)) {
    debug_assert!(!RESERVED.contains(&name), "{name} is reserved");
    out.extend_from_slice(&[engine_packet::MESSAGE, b'2', b'[', b'"']);
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\",");
    print(out);
    out.push(b']');
}

/// Appends an acknowledgement in `/` under `id`; `print` appends its argument.
pub fn ack(out: &mut Vec<u8>, id: u64, print: impl FnOnce(&mut Vec<u8>)) {
    out.extend_from_slice(format!("43{id}[").as_bytes());
    print(out);
    out.push(b']');
}

/// Appends an event in any namespace, with its arguments as they are written and the number of
/// attachments that follow.
pub fn event_with(
    out: &mut Vec<u8>,
    namespace: &str,
    attachments: usize,
    name: &str,
    arguments: &[impl AsRef<str>],
) {
    begin(out, [b'2', b'5'], namespace, attachments);
    out.push(b'[');
    json::print_string(out, name);
    for argument in arguments {
        out.push(b',');
        out.extend_from_slice(argument.as_ref().as_bytes());
    }
    out.push(b']');
}

/// Appends an event without arguments that the client is to acknowledge under `id`.
pub fn ask(out: &mut Vec<u8>, namespace: &str, id: u64, name: &str) {
    begin(out, [b'2', b'5'], namespace, 0);
    out.extend_from_slice(id.to_string().as_bytes());
    out.push(b'[');
    json::print_string(out, name);
    out.push(b']');
}

/// Appends an acknowledgement in any namespace, with its arguments separated by commas.
pub fn ack_with(out: &mut Vec<u8>, namespace: &str, attachments: usize, id: u64, arguments: &str) {
    begin(out, [b'3', b'6'], namespace, attachments);
    out.extend_from_slice(id.to_string().as_bytes());
    out.push(b'[');
    out.extend_from_slice(arguments.as_bytes());
    out.push(b']');
}

/// Appends type, number of attachments and namespace. `kinds` are the types without and with
/// attachments.
fn begin(out: &mut Vec<u8>, kinds: [u8; 2], namespace: &str, attachments: usize) {
    out.extend_from_slice(&[engine_packet::MESSAGE, kinds[usize::from(attachments > 0)]]);
    if attachments > 0 {
        out.extend_from_slice(format!("{attachments}-").as_bytes());
    }
    if namespace != "/" {
        out.extend_from_slice(namespace.as_bytes());
        out.push(b',');
    }
}

/// Inserts a namespace into a packet without attachments that was printed for `/` from `start` on.
pub fn name_namespace(out: &mut Vec<u8>, start: usize, namespace: &str) {
    if namespace != "/" {
        let at = start + 2;
        out.splice(at..at, namespace.bytes().chain([b',']));
    }
}

/// Appends the answer to a connect. With `pid` the client may recover its seat.
pub fn connected(out: &mut Vec<u8>, sid: &str, pid: Option<&str>) {
    out.extend_from_slice(b"40{\"sid\":");
    json::print_string(out, sid);
    if let Some(pid) = pid {
        out.extend_from_slice(b",\"pid\":");
        json::print_string(out, pid);
    }
    out.push(b'}');
}

/// Returns the `pid` and the last offset from the `auth` object of a client that was here before.
/// `None` if one of them is missing or is no text.
pub fn recovery(auth: &str) -> Option<(Cow<'_, str>, Cow<'_, str>)> {
    let [pid, offset] = json::fields(auth, ["pid", "offset"]).ok()?;
    Some((pid.text().ok()?, offset.text().ok()?))
}

/// Appends one more argument to a printed event: its offset in the replay log.
pub fn append_offset(event: &mut Vec<u8>, offset: &str) {
    let end = event.pop();
    assert_eq!(end, Some(b']'), "an event is an array");
    event.push(b',');
    json::print_string(event, offset);
    event.push(b']');
}

/// Appends the rejection of a connect. The namespace is returned as it was sent.
pub fn connect_error(out: &mut Vec<u8>, namespace: &str, message: &str) {
    out.extend_from_slice(b"44");
    if namespace != "/" {
        out.extend_from_slice(namespace.as_bytes());
        out.push(b',');
    }
    out.extend_from_slice(b"{\"message\":");
    json::print_string(out, message);
    out.push(b'}');
}

/// The packet that connects a client of Socket.IO 2 to `/`. The client has not asked, and knows its
/// id already.
pub const CONNECTED_V3: &[u8] = b"40";

/// The packet that disconnects a client from `/`.
pub const DISCONNECT: &[u8] = b"41";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use proptest::prelude::*;

    /// Reads a text with both readers of JSON.
    fn parse(text: &str) -> Result<Packet<'_>, PacketError> {
        let mut reader = json::Reader::default();
        let read = super::parse(text, &mut reader.begin()).map(|(packet, _)| bare(text, packet));
        let mut used = reader.begin();
        let _ = used.event("[]");
        let written = super::parse(text, &mut used).map(|(packet, _)| bare(text, packet));
        assert_eq!(read, written, "{text}");
        read
    }

    /// Returns the packet without the text of its array and with a written argument, so that it can
    /// be compared with an expected one.
    fn bare<'a>(text: &'a str, packet: Packet<'_>) -> Packet<'a> {
        let within = |part: &str| text.find(part).map_or("", |at| &text[at..at + part.len()]);
        let namespace = if packet.namespace == "/" { "/" } else { within(packet.namespace) };
        let body = match packet.body {
            Body::Connect { auth } => Body::Connect { auth: auth.map(within) },
            Body::Disconnect => Body::Disconnect,
            Body::Ack { id, array } => Body::Ack { id, array: within(array) },
            Body::Event { ack, event: None } => Body::Event { ack, event: None },
            Body::Event { ack, event: Some(event) } => {
                let argument =
                    event.argument.and_then(|_| Some(within(json::argument(event.array)?).into()));
                let name = Cow::Owned(event.name.into_owned());
                Body::Event { ack, event: Some(json::Event { name, argument, array: "" }) }
            }
        };
        Packet { namespace, body }
    }

    fn event<'a>(ack: Option<u64>, name: &'a str, argument: Option<&'a str>) -> Body<'a> {
        let argument = argument.map(json::Value::from);
        Body::Event {
            ack,
            event: Some(json::Event { name: Cow::Borrowed(name), argument, array: "" }),
        }
    }

    #[test]
    fn reads_packets() {
        for (text, namespace, body) in [
            ("0", "/", Body::Connect { auth: None }),
            (r#"0{"token":"x"}"#, "/", Body::Connect { auth: Some(r#"{"token":"x"}"#) }),
            ("0/custom", "/custom", Body::Connect { auth: None }),
            ("0/custom,", "/custom", Body::Connect { auth: None }),
            ("0/custom?k=v,{}", "/custom?k=v", Body::Connect { auth: Some("{}") }),
            ("1", "/", Body::Disconnect),
            ("1/admin,", "/admin", Body::Disconnect),
            (r#"2["hi",1]"#, "/", event(None, "hi", Some("1"))),
            (r#"2/admin,["x"]"#, "/admin", event(None, "x", None)),
            (r#"2456["q",{"a":[1]}]"#, "/", event(Some(456), "q", Some(r#"{"a":[1]}"#))),
            (r#"2/a,0["q"]"#, "/a", event(Some(0), "q", None)),
            (r#"29007199254740991["q"]"#, "/", event(Some(9_007_199_254_740_991), "q", None)),
            ("2[7]", "/", event(None, "7", None)),
            ("2", "/", Body::Event { ack: None, event: None }),
            ("25", "/", Body::Event { ack: Some(5), event: None }),
            ("3456[1]", "/", Body::Ack { id: 456, array: "[1]" }),
            ("3/a,1[]", "/a", Body::Ack { id: 1, array: "[]" }),
        ] {
            assert_eq!(parse(text), Ok(Packet { namespace, body }), "{text}");
        }
    }

    #[test]
    fn rejects_packets_that_the_protocol_forbids() {
        use PacketError::*;
        for (text, error) in [
            ("", Kind),
            ("7[]", Kind),
            ("é", Kind),
            (r#"4{"message":"x"}"#, Kind),
            ("0null", Payload),
            ("0[1]", Payload),
            ("0\"x\"", Payload),
            ("0{", Payload),
            ("0{}x", Payload),
            ("1{}", Payload),
            ("2[]", Payload),
            ("2{}", Payload),
            ("2null", Payload),
            ("2[\"a\"", Payload),
            ("2[null]", Payload),
            ("2 [\"a\"]", Payload),
            ("21 [\"a\"]", Payload),
            ("2[\"a\"] 1", Payload),
            ("2[\"connect\"]", ReservedName),
            ("2[\"connect_error\",1]", ReservedName),
            ("2[\"disconnect\"]", ReservedName),
            ("2[\"disconnecting\"]", ReservedName),
            ("2[\"newListener\"]", ReservedName),
            ("2[\"remove\\u004cistener\"]", ReservedName),
            ("29007199254740992[\"q\"]", AckId),
            ("299999999999999999999[\"q\"]", AckId),
            ("3[1]", AckId),
            ("31{}", Payload),
            ("31", Payload),
            ("5", Attachments),
            ("5[\"a\"]", Attachments),
            ("5-[\"a\"]", Attachments),
            ("50-[\"a\"]", Attachments),
            ("511-[\"a\"]", Attachments),
            ("52147483648-[\"a\"]", Attachments),
            ("51.0-[\"a\"]", Attachments),
            ("51x-[\"a\"]", Attachments),
            ("51-", Payload),
            (r#"51-["a",{"_placeholder":true,"num":1}]"#, Attachments),
            (r#"51-["a",{"_placeholder":true,"num":-1}]"#, Attachments),
            (r#"61-1["a",{"_placeholder":true}]"#, Attachments),
        ] {
            assert_eq!(parse(text), Err(error), "{text}");
        }
    }

    #[test]
    fn an_event_name_is_read_before_the_rest_of_its_packet() {
        for (text, name) in [
            (r#"2["hi",{"#, Some((None, "hi"))),
            (r#"2456["hi"]"#, Some((Some(456), "hi"))),
            (r#"2/a,["hi"]"#, None),
            (r#"51-["hi"]"#, None),
            (r#"2["h\u0069"]"#, None),
            (r#"2["hi"#, None),
            ("2[1]", None),
            ("0{}", None),
            ("", None),
        ] {
            assert_eq!(event_name(text), name, "{text}");
        }
    }

    #[test]
    fn waits_for_every_attachment() {
        let (mut assembler, mut reader) = (Assembler::default(), json::Reader::default());
        let text = r#"52-/a,7["b",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]"#;
        assert_eq!(assembler.text(text, &mut reader.begin()), Ok(None));
        assert_eq!(assembler.binary(b"one", 1000), Ok(None));
        assert!(assembler.is_waiting());
        let binary = assembler.binary(b"", 1000).unwrap().unwrap();
        assert_eq!(binary.attachments(), [b"one".to_vec(), vec![]]);
        let body = event(Some(7), "b", Some(r#"{"_placeholder":true,"num":0}"#));
        assert_eq!(
            binary.packet(&mut reader.begin()).map(|packet| bare(text, packet)),
            Ok(Packet { namespace: "/a", body })
        );
        assert_eq!(assembler, Assembler::default());
        assert!(assembler.text("2[\"next\"]", &mut reader.begin()).unwrap().is_some());
    }

    #[test]
    fn keeps_text_and_attachments_in_order_and_bounded() {
        let (mut assembler, mut reader) = (Assembler::default(), json::Reader::default());
        assert_eq!(assembler.binary(b"x", 1000), Err(PacketError::Order), "no attachment is due");

        assembler.text("51-[\"a\"]", &mut reader.begin()).unwrap();
        assert_eq!(assembler.text("2[\"b\"]", &mut reader.begin()), Err(PacketError::Order));

        let (mut assembler, mut reader) = (Assembler::default(), json::Reader::default());
        assembler.text("53-[\"a\"]", &mut reader.begin()).unwrap();
        assert_eq!(assembler.binary(&[0; 40], 100), Ok(None));
        assert_eq!(assembler.binary(&[0; 52], 100), Ok(None));
        assert_eq!(assembler.binary(&[0; 1], 100), Err(PacketError::TooLarge));
    }

    #[test]
    fn recovery_needs_a_pid_and_an_offset() {
        let both = recovery(r#"{"offset":"1","token":7,"pid":"a\u0062"}"#).unwrap();
        assert_eq!((&*both.0, &*both.1), ("ab", "1"));
        for auth in
            ["{}", r#"{"pid":"a"}"#, r#"{"pid":"a","offset":1}"#, r#"{"pid":null,"offset":"1"}"#]
        {
            assert_eq!(recovery(auth), None, "{auth}");
        }
    }

    #[test]
    fn prints_packets() {
        let mut out = Vec::new();
        let mut printed = |print: &dyn Fn(&mut Vec<u8>)| {
            out.clear();
            print(&mut out);
            String::from_utf8(out.clone()).unwrap()
        };
        let one = |out: &mut Vec<u8>| out.push(b'1');
        assert_eq!(printed(&|out| event_to(out, "hi", one)), r#"42["hi",1]"#);
        assert_eq!(printed(&|out| ack(out, 456, one)), "43456[1]");
        assert_eq!(printed(&|out| ask(out, "/a", 7, "hi")), r#"42/a,7["hi"]"#);
        assert_eq!(printed(&|out| connected(out, "a-B_9", None)), r#"40{"sid":"a-B_9"}"#);
        assert_eq!(printed(&|out| connected(out, "a", Some("b"))), r#"40{"sid":"a","pid":"b"}"#);
        assert_eq!(
            printed(&|out| {
                event_to(out, "hi", one);
                append_offset(out, "0.1");
            }),
            r#"42["hi",1,"0.1"]"#
        );
        assert_eq!(
            printed(&|out| connect_error(out, "/no?k=v", "Invalid namespace")),
            r#"44/no?k=v,{"message":"Invalid namespace"}"#
        );
        assert_eq!(
            printed(&|out| connect_error(out, "/", "a \"b\"")),
            r#"44{"message":"a \"b\""}"#
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn reads_back_client_packets(
            name in "[a-z_\\\\\"é]{1,12}", namespace in "(/[a-z?=]{0,8})?", ack in prop::option::of(0..ACK_ID_END),
        ) {
            prop_assume!(!RESERVED.contains(&&*name));
            let comma = if namespace.is_empty() { "" } else { "," };
            let id = ack.map(|id| id.to_string()).unwrap_or_default();
            let text = format!("2{namespace}{comma}{id}[{},{{}}]", serde_json::to_string(&name).unwrap());
            let expected = Packet {
                namespace: if namespace.is_empty() { "/" } else { &namespace },
                body: event(ack, &name, Some("{}")),
            };
            prop_assert_eq!(parse(&text), Ok(expected));
        }

        #[test]
        fn random_text_never_panics(text in "[0-6/,\\-\\[\\]{}\"a:é ]{0,24}") {
            let _ = parse(&text);
            let _ = super::engine_packet::parse(&text);
        }
    }
}
