//! The protocol for machines: an AsyncAPI 3 document, made from the engine's tables of events.
//!
//! A test with real traffic shows that the server sends exactly what the document describes.

use bandsync_engine::io::{HttpRequest, Settings};
use bandsync_engine::speech::Code;
use bandsync_engine::wire::events::{EVENTS, EventInfo};
use bandsync_engine::wire::notices::notices;
use bandsync_engine::wire::schema::{FieldInfo, Form, Schema};
use bandsync_engine::wire::shapes::{REJECTED, REPEATED, SUPERSEDED, TRUE, UNIX};
use bandsync_engine::words::limits::{Limits, RateLimits};
use serde_json::{Map, Value, json};

/// The codes that can reject every event.
const ALWAYS: [Code; 3] = [Code::InvalidPayload, Code::RateLimited, Code::Draining];

/// The address in the document, which each request replaces by its own.
const ADDRESS: &str = "localhost:3001";

/// The document.
pub struct Document {
    text: String,
    /// Whether the server speaks TLS itself.
    has_tls: bool,
}

impl Document {
    /// Creates the document for a server with these settings.
    pub fn new(settings: &Settings, has_tls: bool) -> Self {
        let text = document(&settings.policy.rates, &settings.limits).to_string();
        Self { text, has_tls }
    }

    /// Returns the document with the address under which a client has reached the server. The
    /// shipped proxies end TLS, so a forwarded client uses `wss`.
    pub fn for_request(&self, request: &HttpRequest) -> String {
        let is_address = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
        let host = request.host.as_str();
        let host = if !host.is_empty() && host.bytes().all(is_address) { host } else { ADDRESS };
        let protocol = if request.forwarded || self.has_tls { "wss" } else { "ws" };
        let with = |host, protocol| json!({ "host": host, "protocol": protocol, "pathname": PATH });
        let server = |host, protocol| with(host, protocol).to_string();
        self.text.replacen(&server(ADDRESS, "ws"), &server(host, protocol), 1)
    }
}

/// The path of Engine.IO.
const PATH: &str = "/socket.io/";

/// Returns the document, with the rates and the message size of this server.
fn document(rates: &RateLimits, limits: &Limits) -> Value {
    let mut parts = Parts::default();
    for event in EVENTS {
        parts.receive(event, rates);
    }
    for notice in notices() {
        let payload = parts.object(notice.fields, false);
        parts.send(notice.name, notice.summary, &payload, example_of(notice.fields));
    }
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "BandSync",
            "version": env!("CARGO_PKG_VERSION"),
            "description": DESCRIPTION,
        },
        "defaultContentType": "application/json",
        "servers": { "here": { "host": ADDRESS, "protocol": "ws", "pathname": PATH } },
        "x-limits": {
            "messageBytes": limits.message_bytes_max,
            "eventsPerSecond": rates.total,
            "refusalsPerMinute": rates.refusals_max,
        },
        "channels": parts.channels,
        "operations": parts.operations,
        "components": { "messages": parts.messages, "schemas": parts.schemas },
    })
}

/// Rules that hold for all events.
const DESCRIPTION: &str = "Socket.IO v5 over Engine.IO v4, namespace /. Every event carries one \
    JSON object. Unknown fields are ignored. If a client asks for an acknowledgement, its event is \
    answered {ok: true, …} or {ok: false, error}; otherwise a rejection arrives as the event \
    error. Times named …ServerMs, t1 and t2 are milliseconds on the server's monotonic clock; \
    others are Unix milliseconds. Positions are milliseconds into the song. Control characters, \
    also those that change the direction of writing, are removed from texts that other members \
    receive; characters are Unicode scalar values. A command that changes nothing is acknowledged \
    with the present version, and its sender alone receives the notice. If set_tempo, \
    tempo_change, tempo_changed, position_sync or seek without a time comes too fast, the newest \
    one waits until the rate allows it, and is applied before any later command of the same \
    connection; the one that it replaces is acknowledged with superseded. A command with \
    notAfterServerMs that the server cannot apply by then is rejected as too_late, and nothing \
    changes; one that was applied before is repeated, whatever the time is.";

/// The parts of the document, by name.
#[derive(Default)]
struct Parts {
    channels: Map<String, Value>,
    operations: Map<String, Value>,
    messages: Map<String, Value>,
    schemas: Map<String, Value>,
}

impl Parts {
    /// Describes an event that clients send, with its acknowledgement.
    fn receive(&mut self, event: &EventInfo, rates: &RateLimits) {
        let name = event.event.name();
        let once = event.event.is_applied_once();
        let fields: Vec<FieldInfo> =
            event.fields.iter().copied().chain(event.shared_fields()).collect();
        let codes: Vec<&str> =
            ALWAYS.into_iter().chain(event.refusals()).map(Code::as_str).collect();
        let rate = rates.of(event.event.rate_class());
        let payload = self.object(&fields, true);
        self.messages.insert(
            format!("{name}.sent"),
            json!({
                "name": name, "title": name, "summary": event.summary, "payload": payload,
                "examples": [{ "payload": example_of(&fields) }],
                "x-rate": { "perSecond": rate, "burst": 2 * rate },
                "x-refusals": codes,
            }),
        );
        let ack: Vec<FieldInfo> =
            std::iter::once(TRUE.info("ok")).chain(event.ack.iter().copied()).collect();
        let mut answers = vec![self.object(&ack, false)];
        answers.extend(event.event.may_wait().then(|| self.reference(&SUPERSEDED)));
        answers.extend(once.then(|| self.reference(&REPEATED)));
        answers.push(self.reference(&REJECTED));
        self.messages.insert(
            format!("{name}.ack"),
            json!({
                "name": name, "title": format!("acknowledgement of {name}"),
                "summary": "If the client asks for one.",
                "payload": { "anyOf": answers },
                "examples": [{ "payload": example_of(&ack) }],
            }),
        );
        self.channel(name, "sent");
        self.channel(name, "ack");
        let at = json!({ "$ref": format!("#/channels/{name}") });
        let of = |kind| json!([{ "$ref": format!("#/channels/{name}/messages/{kind}") }]);
        let reply = json!({ "channel": at, "messages": of("ack") });
        let receive =
            json!({ "action": "receive", "channel": at, "messages": of("sent"), "reply": reply });
        self.operations.insert(format!("receive_{name}"), receive);
    }

    /// Describes an event that the server sends.
    fn send(&mut self, name: &str, summary: &str, payload: &Value, example: Value) {
        let message = json!({
            "name": name, "title": name, "summary": summary, "payload": payload,
            "examples": [{ "payload": example }],
        });
        self.messages.insert(format!("{name}.received"), message);
        self.channel(name, "received");
        let at = json!({ "$ref": format!("#/channels/{name}") });
        let to = json!([{ "$ref": format!("#/channels/{name}/messages/received") }]);
        let send = json!({ "action": "send", "channel": at, "messages": to });
        self.operations.insert(format!("send_{name}"), send);
    }

    /// Adds a message to its channel. All events of one name share a channel.
    fn channel(&mut self, name: &str, kind: &str) {
        let channel =
            self.channels.entry(name).or_insert_with(|| json!({ "address": name, "messages": {} }));
        let message = json!({ "$ref": format!("#/components/messages/{name}.{kind}") });
        channel["messages"][kind] = message;
    }

    /// Describes an object. Clients may send more fields, and null for those that they may leave
    /// out.
    fn object(&mut self, fields: &[FieldInfo], of_client: bool) -> Value {
        let mut properties = Map::new();
        let mut required = Vec::new();
        for field in fields {
            let schema = self.reference(&field.schema);
            let is_optional = field.presence.is_optional();
            let is_nullable = field.presence.is_nullable() || is_optional && of_client;
            let schema = match is_nullable {
                true => json!({ "anyOf": [schema, { "type": "null" }] }),
                false => schema,
            };
            properties.insert(field.name.to_owned(), schema);
            if !is_optional {
                required.push(field.name);
            }
        }
        json!({
            "type": "object",
            "properties": properties,
            "required": required,
            "additionalProperties": of_client,
        })
    }

    /// Refers to a schema, and describes it if that was not done before.
    fn reference(&mut self, schema: &Schema) -> Value {
        if !self.schemas.contains_key(schema.name) {
            let mut described = self.form(&schema.form);
            if let Some(about) = schema.about {
                described["description"] = about.into();
            }
            self.schemas.insert(schema.name.to_owned(), described);
        }
        json!({ "$ref": format!("#/components/schemas/{}", schema.name) })
    }

    fn form(&mut self, form: &Form) -> Value {
        match *form {
            Form::Boolean => json!({ "type": "boolean" }),
            Form::Constant(value) => json!({ "const": value }),
            Form::Number => json!({ "type": "number" }),
            Form::NotNegative => json!({ "type": "number", "minimum": 0 }),
            Form::Within(min, max) => json!({ "type": "number", "minimum": min, "maximum": max }),
            Form::Whole => json!({ "type": "integer" }),
            Form::WholeWithin(min, max) => {
                json!({ "type": "integer", "minimum": min, "maximum": max })
            }
            Form::WholeOf(numbers) => json!({ "type": "integer", "enum": numbers }),
            Form::Words(words) => json!({ "type": "string", "enum": words }),
            Form::Text { min, max, pattern } => {
                let mut text = json!({ "type": "string" });
                set(&mut text, "minLength", min);
                set(&mut text, "maxLength", max);
                set(&mut text, "pattern", pattern);
                text
            }
            Form::Cut { min, chars } => {
                let mut text = json!({ "type": "string" });
                set(&mut text, "minLength", min);
                text["description"] = format!("cut to {chars} characters").into();
                text
            }
            Form::Sent(fields) => self.object(fields, true),
            Form::Received(fields) => self.object(fields, false),
            Form::List(of) => json!({ "type": "array", "items": self.reference(of) }),
        }
    }
}

/// Returns an object with a value for each field.
fn example_of(fields: &[FieldInfo]) -> Value {
    let example = |field: &FieldInfo| (field.name.to_owned(), example(field.name, &field.schema));
    Value::Object(fields.iter().map(example).collect())
}

/// Returns a value of a field.
fn example(field: &str, schema: &Schema) -> Value {
    match schema.form {
        Form::Boolean => json!(true),
        Form::Constant(value) => json!(value),
        Form::Number | Form::NotNegative => json!(2500.5),
        Form::Within(min, max) => json!(120.0_f64.clamp(min, max)),
        Form::Whole if schema == &UNIX => json!(1_795_000_000_000_i64),
        Form::Whole => json!(4),
        Form::WholeWithin(min, max) => json!(4.clamp(min, max)),
        Form::WholeOf(numbers) => json!(numbers.last()),
        Form::Words(words) => json!(words.first()),
        Form::Text { pattern: Some(pattern), .. } => json!(text_like(pattern)),
        Form::Text { .. } | Form::Cut { .. } => json!(text_for(field)),
        Form::Sent(fields) | Form::Received(fields) => example_of(fields),
        Form::List(of) => json!([example(field, of)]),
    }
}

/// Returns a text that one of the protocol's regular expressions describes.
fn text_like(pattern: &str) -> &'static str {
    match pattern {
        "^[0-9a-f]{8}$" => "1c291ca3",
        "^[A-Za-z0-9_-]{20}$" => "VRlVE8UxSu3WACGBTH-A",
        "^[A-Za-z0-9_-]{22,64}$" => "kq3nVd0Yw8mXr2Lz5tBhGA",
        _ => "pedal-17",
    }
}

/// Returns a text for a field without a regular expression.
fn text_for(field: &str) -> &'static str {
    match field {
        "sessionId" => "rehearsal",
        "displayName" | "username" | "from" => "Ann",
        "instrument" | "target" => "bass",
        "passcode" => "open sesame",
        "leaderPin" => "81726354",
        "songId" | "id" | "before" => "harbour",
        "title" => "Harbour Lights",
        "artist" => "The Pilots",
        "key" => "Am",
        _ => "from the chorus",
    }
}

fn set(schema: &mut Value, name: &str, value: Option<impl Into<Value>>) {
    if let Some(value) = value {
        schema[name] = value.into();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn whole() -> Value {
        document(&RateLimits::default(), &Limits::PRODUCTION)
    }

    /// Calls `see` with every reference in a value.
    fn references<'a>(value: &'a Value, see: &mut impl FnMut(&'a str)) {
        let mut rest = vec![value];
        while let Some(value) = rest.pop() {
            match value {
                Value::Object(fields) => {
                    if let Some(Value::String(to)) = fields.get("$ref") {
                        see(to);
                    }
                    rest.extend(fields.values());
                }
                Value::Array(items) => rest.extend(items),
                _ => {}
            }
        }
    }

    #[test]
    fn every_reference_resolves_and_every_schema_is_used() {
        let document = whole();
        let mut seen = Vec::new();
        references(&document, &mut |to| seen.push(to));
        for to in &seen {
            assert!(document.pointer(to.strip_prefix('#').unwrap()).is_some(), "{to}");
        }
        for name in document["components"]["schemas"].as_object().unwrap().keys() {
            assert!(
                seen.contains(&format!("#/components/schemas/{name}").as_str()),
                "{name} is not used"
            );
        }
    }

    #[test]
    fn the_address_is_that_of_the_request() {
        let [document, secure] = [false, true].map(|tls| Document::new(&Settings::default(), tls));
        let at = |document: &Document, host: &str, forwarded| {
            let request = HttpRequest { host: host.into(), forwarded, ..request() };
            let value: Value = serde_json::from_str(&document.for_request(&request)).unwrap();
            let here = &value["servers"]["here"];
            format!("{}://{}", here["protocol"].as_str().unwrap(), here["host"].as_str().unwrap())
        };
        let here = |host: &str, forwarded| at(&document, host, forwarded);
        assert_eq!(at(&secure, "10.0.0.7:3001", false), "wss://10.0.0.7:3001");
        assert_eq!(here("10.0.0.7:3001", false), "ws://10.0.0.7:3001");
        assert_eq!(here("[::1]:3001", false), "ws://[::1]:3001");
        assert_eq!(here("band.example.org", true), "wss://band.example.org");
        for odd in ["", "a\"b", "a b", "é"] {
            assert_eq!(here(odd, false), "ws://localhost:3001", "{odd}");
        }
    }

    fn request() -> HttpRequest {
        HttpRequest {
            forwarded: false,
            host: String::new(),
            named: bandsync_engine::words::policy::Named::Known,
            head: false,
            path: "/asyncapi.json".into(),
            query: String::new(),
            accept: String::new(),
            if_none_match: String::new(),
            authorization: String::new(),
            takes_gzip: false,
            peer: [127, 0, 0, 1].into(),
        }
    }

    #[test]
    fn every_event_of_the_engine_is_listed_with_its_rate() {
        let document = whole();
        for EventInfo { event, .. } in EVENTS {
            let message = &document["components"]["messages"][format!("{}.sent", event.name())];
            assert!(
                message["x-rate"]["perSecond"].as_u64().is_some_and(|rate| rate > 0),
                "{event:?}"
            );
            assert!(document["operations"][format!("receive_{}", event.name())].is_object());
        }
    }

    #[test]
    fn events_are_described_once() {
        let names: Vec<&str> = notices().map(|notice| notice.name).collect();
        for (place, name) in names.iter().enumerate() {
            assert!(!names[..place].contains(name), "{name}");
        }
    }

    #[test]
    fn schema_names_are_unique() {
        let fields = EVENTS.iter().flat_map(|event| event.fields.iter().chain(event.ack));
        let fields = fields.chain(notices().flat_map(|notice| notice.fields));
        let mut rest: Vec<Schema> = fields.map(|field| field.schema).collect();
        let mut known: Vec<Schema> = Vec::new();
        while let Some(schema) = rest.pop() {
            if let Some(other) = known.iter().find(|known| known.name == schema.name) {
                assert_eq!(*other, schema, "two schemas have one name");
                continue;
            }
            match schema.form {
                Form::Sent(fields) | Form::Received(fields) => {
                    rest.extend(fields.iter().map(|field| field.schema));
                }
                Form::List(of) => rest.push(*of),
                _ => {}
            }
            known.push(schema);
        }
    }
}
