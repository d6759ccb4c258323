//! Small Socket.IO applications as data: their namespaces, and the answers there.

/// A namespace.
pub struct Namespace {
    pub name: &'static str,
    /// The clients that may not connect.
    pub rejects: Rejects,
    /// Events for a client that has connected.
    pub greeting: &'static [Say],
    pub rules: &'static [Rule],
}

/// The clients that may not connect to a namespace, and the reason that they receive.
#[derive(Clone, Copy)]
pub enum Rejects {
    Nobody,
    Everybody(&'static str),
    /// Clients whose query has this parameter.
    With(&'static str, &'static str),
}

/// A rule for answers. Of a namespace's rules the first that matches is used.
pub struct Rule {
    /// The packet that it answers.
    pub packet: ClientPacket<'static>,
    /// The required arguments, as JSON.
    pub with: Option<&'static str>,
    /// The event that the client must have emitted before.
    pub after: Option<&'static str>,
    pub says: &'static [Say],
}

/// A packet of a client.
#[derive(Clone, Copy, Eq, PartialEq)]
pub enum ClientPacket<'a> {
    /// An event of this name.
    Event(&'a str),
    /// The acknowledgement of the server's event of this name.
    Answer(&'a str),
}

/// A packet to a client.
pub enum Say {
    /// An event.
    Emit(&'static str, &'static [Value]),
    /// An event that is to be acknowledged.
    Ask(&'static str),
    /// The acknowledgement of the client's event, if it asks for one.
    Acknowledge(&'static [Value]),
}

/// An argument.
pub enum Value {
    /// All arguments of the client's packet, bytes included. No value with bytes may precede them.
    Arguments,
    /// This JSON.
    Json(&'static str),
    Bytes(&'static [u8]),
    /// The client's id in the namespace.
    SocketId,
    /// The payload of the client's connect to the namespace.
    Auth,
    /// That payload, and the query of the client's first request.
    Handshake,
}

const fn on(event: &'static str, says: &'static [Say]) -> Rule {
    Rule { packet: ClientPacket::Event(event), with: None, after: None, says }
}

/// Returns a rule that asks for these arguments besides.
const fn on_with(event: &'static str, with: &'static str, says: &'static [Say]) -> Rule {
    Rule { with: Some(with), ..on(event, says) }
}

const fn open(name: &'static str, greeting: &'static [Say], rules: &'static [Rule]) -> Namespace {
    Namespace { name, rejects: Rejects::Nobody, greeting, rules }
}

/// Echoes in two namespaces.
pub const SOCKET_ECHO: &[Namespace] =
    &[open("/", GREETING, ECHOES), open("/custom", GREETING, ECHOES)];

const GREETING: &[Say] = &[Say::Emit("auth", &[Value::Auth])];

const ECHOES: &[Rule] = &[
    on("message", &[Say::Emit("message-back", &[Value::Arguments])]),
    on("message-with-ack", &[Say::Acknowledge(&[Value::Arguments])]),
];

/// The server of socket.io-client's own tests.
pub const CLIENT_TESTS: &[Namespace] = &[
    Namespace {
        rejects: Rejects::With("fail", "Auth failed (main namespace)"),
        ..open("/", &[], CLIENT_TESTS_MAIN)
    },
    open("/foo", &[], &[on("getId", &[Say::Acknowledge(&[Value::SocketId])])]),
    open("/abc", &[Say::Emit("handshake", &[Value::Handshake])], &[]),
    Namespace {
        rejects: Rejects::Everybody("Auth failed (custom namespace)"),
        ..open("/no", &[], &[])
    },
    open("/valid", &[], &[]),
    open("/asd", &[], &[]),
    open("/timeout_socket", &[], &[]),
];

const CLIENT_TESTS_MAIN: &[Rule] = &[
    on("hi", &[Say::Emit("hi", &[])]),
    on("echo", &[Say::Acknowledge(&[Value::Arguments])]),
    on("ack", &[Say::Ask("ack")]),
    Rule {
        packet: ClientPacket::Answer("ack"),
        ..on_with("", r#"[5,{"test":true}]"#, &[Say::Emit("got it", &[])])
    },
    on("getId", &[Say::Acknowledge(&[Value::SocketId])]),
    on("getHandshake", &[Say::Acknowledge(&[Value::Handshake])]),
    on("getAckDate", &[Say::Acknowledge(&[A_DATE])]),
    on("getDate", &[Say::Emit("takeDate", &[A_DATE])]),
    on(
        "getDateObj",
        &[Say::Emit("takeDateObj", &[Value::Json(r#"{"date":"2026-01-31T20:45:00.123Z"}"#)])],
    ),
    on("false", &[Say::Emit("false", &[Value::Json("false")])]),
    on(
        "getUtf8",
        &[
            Say::Emit("takeUtf8", &[Value::Json(r#""てすと""#)]),
            Say::Emit("takeUtf8", &[Value::Json(r#""Я Б Г Д Ж Й""#)]),
            Say::Emit("takeUtf8", &[Value::Json(r#""Ä ä Ü ü ß""#)]),
            Say::Emit("takeUtf8", &[Value::Json(r#""utf8 — string""#)]),
            Say::Emit("takeUtf8", &[Value::Json(r#""utf8 — string""#)]),
        ],
    ),
    on("doge", &[Say::Emit("doge", &[Value::Bytes(b"asdfasdf")])]),
    on("getbin", &[Say::Emit("takebin", &[Value::Bytes(b"asdfasdf")])]),
    on_with("buffa", BYTES, &[Say::Emit("buffack", &[])]),
    on_with("jsonbuff", BYTES_IN_JSON, &[Say::Emit("jsonbuff-ack", &[])]),
    on_with("abuff1", BYTES, &[]),
    Rule { after: Some("abuff1"), ..on("abuff2", &[Say::Emit("abuff2-ack", &[])]) },
    on_with("blob", BYTES, &[Say::Emit("back", &[])]),
    on_with("jsonblob", BYTES_IN_JSON, &[Say::Emit("jsonblob-ack", &[])]),
    on_with("blob1", BYTES, &[]),
    Rule { after: Some("blob1"), ..on_with("blob2", r#"["second"]"#, &[]) },
    Rule { after: Some("blob2"), ..on_with("blob3", BYTES, &[Say::Emit("blob3-ack", &[])]) },
];

const A_DATE: Value = Value::Json(r#""2026-01-31T20:45:00.123Z""#);
const BYTES: &str = r#"[{"_placeholder":true,"num":0}]"#;
const BYTES_IN_JSON: &str =
    r#"[{"hello":"lol","message":{"_placeholder":true,"num":0},"goodbye":"gotcha"}]"#;

impl Rejects {
    /// Why a client may not enter; `asked` tells whether its query has a parameter.
    pub fn why(self, asked: impl FnOnce(&str) -> bool) -> Option<&'static str> {
        match self {
            Self::Nobody => None,
            Self::Everybody(why) => Some(why),
            Self::With(parameter, why) => asked(parameter).then_some(why),
        }
    }
}

impl Rule {
    /// Whether the rule matches a packet. `before` returns whether the client sent an event
    /// earlier.
    pub fn fits(
        &self,
        packet: ClientPacket<'_>,
        arguments: &[&str],
        before: impl FnOnce(&str) -> bool,
    ) -> bool {
        self.packet == packet
            && self.with.is_none_or(|with| are(arguments, with))
            && self.after.is_none_or(before)
    }
}

/// Whether the arguments equal the items of a JSON array, in any spelling.
fn are(arguments: &[&str], array: &str) -> bool {
    let read = |json: &str| serde_json::from_str::<serde_json::Value>(json).ok();
    read(&format!("[{}]", arguments.join(","))) == read(array)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns every JSON text in the tables.
    fn texts() -> Vec<&'static str> {
        let namespaces = SOCKET_ECHO.iter().chain(CLIENT_TESTS);
        let mut texts = Vec::new();
        for namespace in namespaces {
            texts.extend(namespace.rules.iter().filter_map(|rule| rule.with));
            let says = namespace.rules.iter().flat_map(|rule| rule.says).chain(namespace.greeting);
            for say in says {
                let (Say::Emit(_, values) | Say::Acknowledge(values)) = say else { continue };
                texts.extend(values.iter().filter_map(|value| match value {
                    Value::Json(json) => Some(*json),
                    _ => None,
                }));
            }
        }
        texts
    }

    #[test]
    fn the_values_in_the_tables_are_valid_json() {
        let texts = texts();
        assert!(texts.len() > 10, "{texts:?}");
        for json in texts {
            assert!(serde_json::from_str::<serde_json::Value>(json).is_ok(), "{json}");
        }
    }

    #[test]
    fn a_rule_matches_the_name_the_arguments_and_an_earlier_event() {
        let rule = Rule { after: Some("b"), ..on_with("a", r#"[5,{"x":true,"y":1}]"#, &[]) };
        let fits = |packet, arguments: &[&str], before: &str| {
            rule.fits(packet, arguments, |it| it == before)
        };
        assert!(fits(ClientPacket::Event("a"), &["5", r#"{ "y":1, "x":true }"#], "b"));
        assert!(!fits(ClientPacket::Answer("a"), &["5", r#"{"x":true,"y":1}"#], "b"));
        assert!(!fits(ClientPacket::Event("c"), &["5", r#"{"x":true,"y":1}"#], "b"));
        assert!(!fits(ClientPacket::Event("a"), &["5"], "b"));
        assert!(!fits(ClientPacket::Event("a"), &["5", r#"{"x":true,"y":1}"#], "c"));
    }
}
