//! The protocol for machines: an AsyncAPI 3 document, made from the engine's tables of events.
//!
//! A test with real traffic shows that the server sends exactly what the document describes.

use bandsync_engine::speech::Code;
use bandsync_engine::wire::events::{EVENTS, EventInfo};
use bandsync_engine::wire::notices::notices;
use bandsync_engine::wire::schema::{FieldInfo, Form, Schema};
use bandsync_engine::wire::shapes::{REJECTED, REPEATED, SUPERSEDED, TRUE};
use bandsync_engine::words::limits::{Limits, RateLimits};
use serde_json::{Map, Value, json};

/// The codes that can reject every event.
const ALWAYS: [Code; 3] = [Code::InvalidPayload, Code::RateLimited, Code::Draining];

/// Returns the document, with the rates and the message size of this server.
pub fn document(rates: &RateLimits, limits: &Limits) -> Value {
    let mut parts = Parts::default();
    for event in EVENTS {
        parts.receive(event, rates);
    }
    for notice in notices() {
        let payload = parts.object(notice.fields, false);
        parts.send(notice.name, notice.summary, &payload);
    }
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "BandSync",
            "version": env!("CARGO_PKG_VERSION"),
            "description": DESCRIPTION,
        },
        "defaultContentType": "application/json",
        "servers": { "here": { "host": "localhost:3001", "protocol": "ws", "pathname": "/socket.io/" } },
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
    fn send(&mut self, name: &str, summary: &str, payload: &Value) {
        let message =
            json!({ "name": name, "title": name, "summary": summary, "payload": payload });
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
