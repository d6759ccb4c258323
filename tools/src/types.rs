//! The protocol as TypeScript types: the generated part of `src/web/protocol.d.ts`.
//!
//! A form with fields or words becomes a type of its own, under the name of its schema. All other
//! forms are written where they are used, with their bounds in a comment.

use std::collections::BTreeSet;

use bandsync_engine::wire::events::EVENTS;
use bandsync_engine::wire::notices::notices;
use bandsync_engine::wire::schema::{FieldInfo, Form, Schema};
use bandsync_engine::wire::shapes::{REJECTED, REPEATED, SUPERSEDED, TRUE};

use crate::forms::values;

/// Maximum width of a generated line, in characters.
const WIDTH: usize = 120;

/// The greatest integer that is exact in JavaScript: a bound that says nothing.
const EXACT_MAX: i64 = (1 << 53) - 1;

/// Returns the types of all payloads, acknowledgements and objects.
pub fn text() -> String {
    let mut types = Types::default();
    let (mut sent, mut answers, mut received) = (String::new(), String::new(), String::new());
    for info in EVENTS {
        let (event, name) = (info.event, info.event.name());
        let fields: Vec<FieldInfo> =
            info.fields.iter().copied().chain(info.shared_fields()).collect();
        let payload = types.object(&fields, Sender::Client, 2);
        sent += &format!("{}  {name}: {payload};\n", comment(info.summary, 2));

        let fields: Vec<FieldInfo> =
            std::iter::once(TRUE.info("ok")).chain(info.ack.iter().copied()).collect();
        let mut answer = types.object(&fields, Sender::Server, 2);
        let others =
            [event.is_applied_once().then_some(REPEATED), event.may_wait().then_some(SUPERSEDED)];
        for other in others.into_iter().flatten() {
            answer += &format!(" | {}", types.of(&other));
        }
        answers += &format!("  {name}: {answer};\n");
    }
    for info in notices() {
        let payload = types.object(info.fields, Sender::Server, 2);
        received += &format!("{}  {}: {payload};\n", comment(info.summary, 2), info.name);
    }
    types.of(&REJECTED);
    let group = |about: &str, name: &str, members: &str| {
        format!("{}export interface {name} {{\n{members}}}\n\n", comment(about, 0))
    };
    let mut text = String::from("\n");
    text += &group("Payloads of the events that clients send.", "ClientEvents", &sent);
    text += &group("Acknowledgements of events that were accepted.", "Acknowledgements", &answers);
    text += &group("Payloads of the events that the server sends.", "ServerEvents", &received);
    text + &types.named
}

/// The sender of an object. A client may send `null` instead of leaving a field out.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Sender {
    Client,
    Server,
}

/// The types that have a name.
#[derive(Default)]
struct Types {
    /// Their declarations.
    named: String,
    /// Their names.
    names: BTreeSet<&'static str>,
}

impl Types {
    /// Returns the type of a value, and declares it if it has a name.
    fn of(&mut self, schema: &Schema) -> String {
        match schema.form {
            Form::Boolean => "boolean".to_owned(),
            Form::Constant(value) => value.to_string(),
            Form::Number
            | Form::NotNegative
            | Form::Within(..)
            | Form::Whole
            | Form::WholeWithin(..) => "number".to_owned(),
            Form::WholeOf(numbers) => union(numbers.iter().map(i64::to_string)),
            Form::Text { .. } | Form::Cut { .. } => "string".to_owned(),
            Form::List(of) => format!("{}[]", self.of(of)),
            Form::Words(words) => {
                let words = words.iter().map(|word| format!("\"{word}\""));
                self.declare(schema, |_| words_type(schema.name, words))
            }
            Form::Sent(fields) => self.interface(schema, fields, Sender::Client),
            Form::Received(fields) => self.interface(schema, fields, Sender::Server),
        }
    }

    fn interface(&mut self, schema: &Schema, fields: &[FieldInfo], sender: Sender) -> String {
        self.declare(schema, |types| {
            format!("export interface {} {}", schema.name, types.object(fields, sender, 0))
        })
    }

    /// Declares a type unless it is declared already, and returns its name.
    fn declare(&mut self, schema: &Schema, text: impl FnOnce(&mut Self) -> String) -> String {
        if self.names.insert(schema.name) {
            let text = text(self);
            let about = schema.about.map_or(String::new(), |about| comment(about, 0));
            self.named += &format!("{about}{text}\n\n");
        }
        schema.name.to_owned()
    }

    /// Returns the type of an object whose closing brace is indented by `indent` spaces.
    fn object(&mut self, fields: &[FieldInfo], sender: Sender, indent: usize) -> String {
        if fields.is_empty() {
            return "Record<string, never>".to_owned();
        }
        let mut text = String::from("{\n");
        for field in fields {
            let is_optional = field.presence.is_optional();
            let is_nullable =
                field.presence.is_nullable() || is_optional && sender == Sender::Client;
            let mark = if is_optional { "?" } else { "" };
            let null = if is_nullable { " | null" } else { "" };
            let kind = self.of(&field.schema);
            let about =
                bounds(&field.schema).map_or(String::new(), |text| comment(&text, indent + 2));
            text += &format!("{about}{:indent$}  {}{mark}: {kind}{null};\n", "", field.name);
        }
        text + &format!("{:indent$}}}", "")
    }
}

/// Describes the values of a scalar, if its type does not.
fn bounds(schema: &Schema) -> Option<String> {
    let values = match schema.form {
        Form::Text { min: None, max: None, pattern: None } => None,
        Form::WholeWithin(0, EXACT_MAX..) | Form::Whole => Some("whole number".to_owned()),
        Form::NotNegative
        | Form::Within(..)
        | Form::WholeWithin(..)
        | Form::Text { .. }
        | Form::Cut { .. } => Some(values(&schema.form)),
        _ => return None,
    };
    let parts: Vec<String> = values.into_iter().chain(schema.about.map(str::to_owned)).collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// Declares a type of words, on one line if they fit.
fn words_type(name: &str, words: impl Iterator<Item = String> + Clone) -> String {
    let line = format!("export type {name} = {};", union(words.clone()));
    if line.len() <= WIDTH {
        return line;
    }
    let lines: String = words.map(|word| format!("\n  | {word}")).collect();
    format!("export type {name} ={lines};")
}

fn union(values: impl Iterator<Item = String>) -> String {
    values.collect::<Vec<_>>().join(" | ")
}

/// Returns a comment, wrapped, and indented by `indent` spaces.
fn comment(text: &str, indent: usize) -> String {
    let margin = " ".repeat(indent);
    if indent + text.chars().count() + "/**  */".len() <= WIDTH {
        return format!("{margin}/** {text} */\n");
    }
    let mut lines = format!("{margin}/**\n{margin} *");
    let mut width = indent + 2;
    for word in text.split(' ') {
        let length = word.chars().count() + 1;
        if width + length > WIDTH {
            lines += &format!("\n{margin} *");
            width = indent + 2;
        }
        lines += &format!(" {word}");
        width += length;
    }
    format!("{lines}\n{margin} */\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_type_is_declared_once() {
        let text = text();
        let declared: Vec<&str> = (text.lines())
            .filter_map(|line| line.strip_prefix("export "))
            .filter_map(|line| line.split(' ').nth(1))
            .collect();
        let once: BTreeSet<&str> = declared.iter().copied().collect();
        assert_eq!(declared.len(), once.len(), "{declared:?}");
        assert!(declared.contains(&"Timeline") && declared.contains(&"ErrorCode"), "{declared:?}");
    }

    #[test]
    fn a_client_may_send_null_for_an_optional_field_and_the_server_never_does() {
        let text = text();
        assert!(text.contains("    atServerMs?: number | null;\n"), "{text}");
        assert!(text.contains("  instrument?: string;\n"), "{text}");
        assert!(text.contains("    leaderSocketId: string | null;\n"), "{text}");
    }

    #[test]
    fn a_long_comment_is_wrapped() {
        let long = comment("word ".repeat(60).trim_end(), 2);
        assert!(long.starts_with("  /**\n   * word word") && long.ends_with("word\n   */\n"));
        assert!(long.lines().all(|line| line.len() <= WIDTH), "{long}");
        assert_eq!(comment("short", 2), "  /** short */\n");
    }
}
