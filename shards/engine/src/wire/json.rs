//! Payloads: one JSON object, read field by field, so that a rejection can name the field.
//!
//! There are two readers. [`Reader`] reads a whole event in one pass of simd-json, onto a tape in
//! buffers that it keeps. Input that simd-json rejects goes to serde_json, which leaves each value
//! as it was written. It accepts more (`1e400`, lone surrogates, integers beyond 64 bits), so that
//! the field at fault can be named. A [`Value`] hides which reader has read it. Wherever both
//! accept, both read the same, because an event must not depend on the processor instructions that
//! simd-json uses. Neither recurses into nested input: values that are not asked for are skipped by
//! a loop.

use std::borrow::Cow;
use std::fmt;

use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use serde_json::value::RawValue;
use simd_json::prelude::Writable;
use simd_json::{BorrowedValue, Buffers, Node, StaticNode, Tape, fill_tape_padded};

use super::scan;
use crate::speech::{Code, Reject};

/// Maximum depth of nested objects and arrays in a payload.
pub const DEPTH_MAX: usize = 32;

/// Maximum bytes of an event that is read onto a tape. Every set list that is accepted fits.
const TAPE_BYTES_MAX: usize = 1024 * 1024;

/// Maximum bytes of an event whose buffers are kept for the next one. Specified: only set lists are
/// longer.
const KEPT_BYTES_MAX: usize = 64 * 1024;

/// A value that a client sent. No answer depends on the reader that has read it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Value<'a>(Form<'a>);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Form<'a> {
    /// Well-formed JSON without white space around it, empty if there is no value.
    Written(&'a str),
    /// The nodes of a value. The first node of an array or object holds the number of nodes that
    /// follow.
    Read(&'a [Node<'a>]),
}

impl<'a> From<&'a str> for Value<'a> {
    /// Wraps a value as it was written. It must be well-formed, as the packet reader guarantees.
    fn from(written: &'a str) -> Self {
        Self(Form::Written(written))
    }
}

impl<'a> Value<'a> {
    /// No value.
    pub const NONE: Self = Self(Form::Written(""));

    /// Returns the value as it was written, unless it was read onto a tape.
    pub fn written(self) -> Option<&'a str> {
        match self.0 {
            Form::Written(text) => Some(text),
            Form::Read(_) => None,
        }
    }

    /// Whether the value is missing or `null`.
    pub fn is_absent(self) -> bool {
        match self.0 {
            Form::Written(text) => matches!(text, "" | "null"),
            Form::Read(nodes) => matches!(nodes, [] | [Node::Static(StaticNode::Null), ..]),
        }
    }

    /// Whether it is an object.
    pub fn is_object(self) -> bool {
        match self.0 {
            Form::Written(text) => text.starts_with('{'),
            Form::Read(nodes) => matches!(nodes, [Node::Object { .. }, ..]),
        }
    }

    /// Whether it is an array.
    pub fn is_array(self) -> bool {
        match self.0 {
            Form::Written(text) => text.starts_with('['),
            Form::Read(nodes) => matches!(nodes, [Node::Array { .. }, ..]),
        }
    }

    /// Rejects a value that is nested deeper than [`DEPTH_MAX`].
    pub fn check_depth(self) -> Result<(), Reject> {
        // A tape is not deeper, because its reader rejects deeper events.
        self.written().map_or(Ok(()), check_depth)
    }

    /// Returns the items of an array. `None` if it is no array or has more than `items_max`.
    pub fn items(self, items_max: usize) -> Option<Vec<Self>> {
        match self.0 {
            Form::Written(text) => {
                Some(items(text, items_max)?.into_iter().map(Self::from).collect())
            }
            Form::Read([Node::Array { len, .. }, rest @ ..]) if *len <= items_max => {
                let mut rest = rest;
                let item = |_| {
                    let (item, others) = split(rest);
                    rest = others;
                    Self(Form::Read(item))
                };
                Some((0..*len).map(item).collect())
            }
            Form::Read(_) => None,
        }
    }

    /// Whether an object may have a field of this name. A cheap test, because few clients send the
    /// rarer fields.
    pub fn may_have(self, name: &str) -> bool {
        self.written().is_none_or(|text| text.contains(name))
    }
}

/// Splits the nodes into the first value and the rest.
fn split<'a>(nodes: &'a [Node<'a>]) -> (&'a [Node<'a>], &'a [Node<'a>]) {
    let inside = match nodes.first() {
        Some(Node::Object { count, .. } | Node::Array { count, .. }) => *count,
        _ => 0,
    };
    nodes.split_at((1 + inside).min(nodes.len()))
}

/// One field of an object: its name, and its value if it is there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Field<'a> {
    /// The name, as in the protocol.
    pub name: &'static str,
    /// The value, which may be `null`.
    pub value: Option<Value<'a>>,
}

/// Finds these fields in an object. Other fields are ignored. If a name is repeated, the last field
/// counts.
pub fn fields<'a, const N: usize>(
    object: impl Into<Value<'a>>,
    names: [&'static str; N],
) -> Result<[Field<'a>; N], Reject> {
    let mut fields = names.map(|name| Field { name, value: None });
    let found = match object.into().0 {
        Form::Written(text) => read(text, FieldsVisitor(&mut fields)),
        Form::Read(nodes) => find(nodes, &mut fields),
    };
    match found {
        Some(()) => Ok(fields),
        None => Err(Reject::new(Code::InvalidPayload, "the payload must be a JSON object")),
    }
}

/// Finds these fields in an object on the tape.
fn find<'a>(nodes: &'a [Node<'a>], fields: &mut [Field<'a>]) -> Option<()> {
    let [Node::Object { len, .. }, rest @ ..] = nodes else { return None };
    let mut rest = rest;
    for _ in 0..*len {
        let [Node::String(key), after @ ..] = rest else { return None };
        let (value, others) = split(after);
        if let Some(field) = fields.iter_mut().find(|field| field.name == *key) {
            field.value = Some(Value(Form::Read(value)));
        }
        rest = others;
    }
    Some(())
}

/// Returns the items of an array, each as it was written. `None` if it is no array or has more than
/// `items_max`.
pub fn items(array: &str, items_max: usize) -> Option<Vec<&str>> {
    read(array, ItemsVisitor { items_max })
}

/// Reads events onto a tape, and keeps its buffers between events.
pub struct Reader {
    /// The text, which simd-json unescapes in place, and its padding.
    input: Vec<u8>,
    buffers: Buffers,
    /// An empty tape that holds the memory for the next event.
    tape: Tape<'static>,
}

impl Default for Reader {
    fn default() -> Self {
        // The array of the event itself is one more level.
        let buffers = Buffers::with_max_depth(0, DEPTH_MAX + 1);
        Self { input: Vec::new(), buffers, tape: Tape(Vec::new()) }
    }
}

impl Reader {
    /// Begins to read one event.
    pub fn begin(&mut self) -> Reading<'_> {
        let tape = std::mem::replace(&mut self.tape, Tape(Vec::new())).reset();
        Reading {
            input: Some(&mut self.input),
            buffers: &mut self.buffers,
            tape,
            home: &mut self.tape,
        }
    }

    /// Whether the buffers are small enough to be kept.
    pub fn is_small(&self) -> bool {
        self.kept_bytes() <= 8 * KEPT_BYTES_MAX
    }

    /// Returns the number of bytes kept for the next event, without simd-json's own buffers, which
    /// are in proportion to them.
    pub fn kept_bytes(&self) -> usize {
        self.input.capacity() + self.tape.0.capacity() * size_of::<Node<'_>>()
    }
}

/// A [`Reader`] for one event, which borrows from it.
pub struct Reading<'r> {
    /// The text buffer, `None` once it was used.
    input: Option<&'r mut Vec<u8>>,
    buffers: &'r mut Buffers,
    tape: Tape<'r>,
    home: &'r mut Tape<'static>,
}

impl Reading<'_> {
    /// Reads `["name", argument, …]`. `None` if it is malformed or does not begin with a name.
    pub fn event<'a>(&'a mut self, array: &'a str) -> Option<Event<'a>> {
        if self.fill(array)
            && let [Node::Array { len, .. }, Node::String(name), rest @ ..] = &*self.tape.0
        {
            let argument = (*len > 1).then(|| Value(Form::Read(split(rest).0)));
            return Some(Event { name: Cow::Borrowed(name), argument, array });
        }
        event(array)
    }

    /// Reads a text onto the tape, if simd-json accepts it.
    fn fill(&mut self, text: &str) -> bool {
        let Some(input) = self.input.take_if(|_| text.len() <= TAPE_BYTES_MAX) else {
            return false;
        };
        input.clear();
        input.reserve(text.len() + simd_json::INPUT_PADDING);
        input.extend_from_slice(text.as_bytes());
        input.extend_from_slice(&[b' '; simd_json::INPUT_PADDING]);
        fill_tape_padded(input, text.len(), self.buffers, &mut self.tape).is_ok()
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        *self.home = std::mem::replace(&mut self.tape, Tape(Vec::new())).reset();
    }
}

/// Rejects text that is nested deeper than [`DEPTH_MAX`].
pub fn check_depth(text: &str) -> Result<(), Reject> {
    let mut depth = 0_usize;
    let mut rest = text.as_bytes();
    while let [byte, tail @ ..] = rest {
        rest = tail;
        match byte {
            b'"' => rest = behind_string(rest),
            b'[' | b'{' if depth == DEPTH_MAX => {
                return Err(Reject::new(
                    Code::InvalidPayload,
                    "the payload is nested deeper than 32 levels",
                ));
            }
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    Ok(())
}

/// Returns the bytes behind the string that `bytes` begins in.
fn behind_string(mut bytes: &[u8]) -> &[u8] {
    while let Some(index) = memchr::memchr2(b'"', b'\\', bytes) {
        let escapes = bytes[index] == b'\\';
        bytes = bytes.get(index + 1 + usize::from(escapes)..).unwrap_or_default();
        if !escapes {
            return bytes;
        }
    }
    &[]
}

/// Appends a string with its quotes and escapes.
///
/// Long strings are left to simd-json. Measured: a song of 7 kB with an escape in every 20 bytes
/// takes half the time, a short string three times as long.
pub fn print_string(out: &mut Vec<u8>, text: &str) {
    const LONG: usize = 64;
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let is_escaped =
        |word| scan::below(word, b' ') | scan::equal(word, b'"') | scan::equal(word, b'\\');
    out.reserve(text.len() + 2);
    if text.len() >= LONG {
        let written = BorrowedValue::from(text).write(out);
        return assert!(written.is_ok(), "a vector takes all bytes: {written:?}");
    }
    out.push(b'"');
    let mut rest = text.as_bytes();
    while let Some(index) = scan::first(rest, is_escaped) {
        out.extend_from_slice(&rest[..index]);
        match rest[index] {
            byte @ (b'"' | b'\\') => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\t' => out.extend_from_slice(b"\\t"),
            b'\r' => out.extend_from_slice(b"\\r"),
            0x08 => out.extend_from_slice(b"\\b"),
            0x0c => out.extend_from_slice(b"\\f"),
            byte => {
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
            }
        }
        rest = &rest[index + 1..];
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

impl<'a> Field<'a> {
    /// Returns the field, or rejects it if it is missing or `null`.
    pub fn required(self) -> Result<Self, Reject> {
        if self.is_absent() { Err(self.wrong("is required")) } else { Ok(self) }
    }

    /// Reads the field, unless it is missing or `null`.
    pub fn optional<T>(
        self,
        read: impl FnOnce(Self) -> Result<T, Reject>,
    ) -> Result<Option<T>, Reject> {
        if self.is_absent() { Ok(None) } else { read(self).map(Some) }
    }

    /// Whether the field is missing or `null`.
    pub fn is_absent(self) -> bool {
        self.value.is_none_or(Value::is_absent)
    }

    /// Returns a string, unescaped, and borrowed if it has no escapes.
    pub fn text(self) -> Result<Cow<'a, str>, Reject> {
        let text = match self.value.map(|value| value.0) {
            Some(Form::Read([Node::String(text), ..])) => Some(Cow::Borrowed(*text)),
            Some(Form::Written(json)) => {
                match json.strip_prefix('"').and_then(|json| json.strip_suffix('"')) {
                    Some(plain) if !plain.contains('\\') => Some(Cow::Borrowed(plain)),
                    // A lone surrogate is well-formed JSON, but no text.
                    Some(_) => serde_json::from_str(json).ok().map(Cow::Owned),
                    None => None,
                }
            }
            _ => None,
        };
        text.ok_or_else(|| self.wrong("must be a string"))
    }

    /// Returns a boolean.
    pub fn boolean(self) -> Result<bool, Reject> {
        match self.value.map(|value| value.0) {
            Some(Form::Read([Node::Static(StaticNode::Bool(boolean)), ..])) => Ok(*boolean),
            Some(Form::Written("true")) => Ok(true),
            Some(Form::Written("false")) => Ok(false),
            _ => Err(self.wrong("must be true or false")),
        }
    }

    /// Returns a finite number. `-0` becomes 0.
    pub fn number(self) -> Result<f64, Reject> {
        let is_number = |json: &str| json.starts_with(|c: char| c == '-' || c.is_ascii_digit());
        let number = match self.value.map(|value| value.0) {
            Some(Form::Read([Node::Static(StaticNode::U64(number)), ..])) => Some(*number as f64),
            Some(Form::Read([Node::Static(StaticNode::I64(number)), ..])) => Some(*number as f64),
            Some(Form::Read([Node::Static(StaticNode::F64(number)), ..])) => Some(*number),
            Some(Form::Written(json)) if is_number(json) => json.parse::<f64>().ok(),
            _ => None,
        };
        let number = number.filter(|number| number.is_finite());
        number.map(|number| number + 0.0).ok_or_else(|| self.wrong("must be a finite number"))
    }

    /// Returns a whole number of `0..=max`, which may be written `4`, `4.0` or `4e0`.
    pub fn whole(self, max: u32) -> Result<u32, Reject> {
        let number =
            self.number().ok().filter(|n| n.fract() == 0.0 && (0.0..=f64::from(max)).contains(n));
        number
            .map(|n| n as u32)
            .ok_or_else(|| self.wrong(format!("must be a whole number from 0 to {max}")))
    }

    /// Creates an `invalid_payload` for this field. `what` follows the field's name.
    pub fn wrong(self, what: impl fmt::Display) -> Reject {
        Reject::field(self.name, format!("{} {what}", self.name))
    }
}

/// The arguments of a Socket.IO event.
#[derive(Clone, Debug, PartialEq)]
pub struct Event<'a> {
    /// The event's name. A number counts as its digits, because clients may emit numbers.
    pub name: Cow<'a, str>,
    /// The first argument after the name. Others are ignored.
    pub argument: Option<Value<'a>>,
    /// The whole array, as it was written.
    pub array: &'a str,
}

/// Reads an event as [`Reading::event`] does, but leaves its values as they were written.
pub fn event(array: &str) -> Option<Event<'_>> {
    let (name, argument) = read(array, EventVisitor)?;
    Some(Event { name, argument: argument.map(Value::from), array })
}

/// Returns the first argument of an event, as it was written.
pub fn argument(array: &str) -> Option<&str> {
    read(array, EventVisitor)?.1
}

/// Whether the text is one well-formed object and nothing else.
pub fn is_object(text: &str) -> bool {
    text.starts_with('{') && read(text, IgnoredAny).is_some()
}

/// Whether the text is one well-formed array and nothing else.
pub fn is_array(text: &str) -> bool {
    text.starts_with('[') && read(text, IgnoredAny).is_some()
}

/// Whether every `{"_placeholder":true,"num":n}` names one of `count` attachments.
///
/// Input that is nested deeper than serde_json follows is not checked here, but is rejected when it
/// is read.
pub fn placeholders_fit(array: &str, count: u8) -> bool {
    let Ok(root) = serde_json::from_str::<serde_json::Value>(array) else {
        return check_depth(array).is_err();
    };
    let mut open = vec![&root];
    while let Some(value) = open.pop() {
        if value["_placeholder"] == true
            && value["num"].as_u64().is_none_or(|num| num >= u64::from(count))
        {
            return false;
        }
        match value {
            serde_json::Value::Array(items) => open.extend(items),
            serde_json::Value::Object(fields) => open.extend(fields.values()),
            _ => {}
        }
    }
    true
}

/// Reads all of `text` with a visitor that accepts any value.
fn read<'a, V: Visitor<'a>>(text: &'a str, visitor: V) -> Option<V::Value> {
    let mut reader = serde_json::Deserializer::from_str(text);
    let value = reader.deserialize_any(visitor).ok()?;
    reader.end().ok()?;
    Some(value)
}

struct FieldsVisitor<'f, 'a>(&'f mut [Field<'a>]);

impl<'a> Visitor<'a> for FieldsVisitor<'_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(index) = map.next_key_seed(PlaceOf(self.0))? {
            match self.0.get_mut(index) {
                Some(field) => field.value = Some(map.next_value::<&RawValue>()?.get().into()),
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

/// Maps a key to its index among the fields, or to the index behind them.
struct PlaceOf<'f, 'a>(&'f [Field<'a>]);

impl<'a> DeserializeSeed<'a> for PlaceOf<'_, '_> {
    type Value = usize;

    fn deserialize<D: Deserializer<'a>>(self, key: D) -> Result<usize, D::Error> {
        key.deserialize_str(self)
    }
}

impl Visitor<'_> for PlaceOf<'_, '_> {
    type Value = usize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<usize, E> {
        Ok(self.0.iter().position(|field| field.name == key).unwrap_or(self.0.len()))
    }
}

struct ItemsVisitor {
    items_max: usize,
}

impl<'a> Visitor<'a> for ItemsVisitor {
    type Value = Vec<&'a str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an array of at most {} items", self.items_max)
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element::<&RawValue>()? {
            if items.len() == self.items_max {
                return Err(A::Error::invalid_length(items.len() + 1, &self));
            }
            items.push(item.get());
        }
        Ok(items)
    }
}

struct EventVisitor;

impl<'a> Visitor<'a> for EventVisitor {
    type Value = (Cow<'a, str>, Option<&'a str>);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an event")
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let name =
            seq.next_element_seed(NameVisitor)?.ok_or_else(|| A::Error::custom("no name"))?;
        let argument = seq.next_element::<&RawValue>()?.map(RawValue::get);
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok((name, argument))
    }
}

struct NameVisitor;

impl<'a> DeserializeSeed<'a> for NameVisitor {
    type Value = Cow<'a, str>;

    fn deserialize<D: Deserializer<'a>>(self, name: D) -> Result<Self::Value, D::Error> {
        name.deserialize_any(self)
    }
}

impl<'a> Visitor<'a> for NameVisitor {
    type Value = Cow<'a, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string or a number")
    }

    fn visit_borrowed_str<E>(self, name: &'a str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(name))
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(name.to_owned()))
    }

    fn visit_i64<E>(self, name: i64) -> Result<Self::Value, E> {
        Ok(Cow::Owned(name.to_string()))
    }

    fn visit_u64<E>(self, name: u64) -> Result<Self::Value, E> {
        Ok(Cow::Owned(name.to_string()))
    }

    fn visit_f64<E>(self, name: f64) -> Result<Self::Value, E> {
        Ok(Cow::Owned(name.to_string()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use proptest::prelude::*;

    /// Converts a value of either reader to one form.
    fn plain(value: Value<'_>) -> serde_json::Value {
        let field = |value| Field { name: "x", value: Some(value) };
        match value.0 {
            _ if value.is_absent() => serde_json::Value::Null,
            _ if value.is_array() => {
                value.items(usize::MAX).unwrap().into_iter().map(plain).collect()
            }
            Form::Written(text) if value.is_object() => {
                let names: std::collections::BTreeMap<String, &RawValue> =
                    serde_json::from_str(text).unwrap();
                names.into_iter().map(|(name, value)| (name, plain(value.get().into()))).collect()
            }
            Form::Read([Node::Object { len, .. }, rest @ ..]) => {
                let mut rest = rest;
                let pair = |_| {
                    let (value, others) = split(&rest[1..]);
                    let Node::String(name) = rest[0] else { panic!("{:?} is no name", rest[0]) };
                    rest = others;
                    (name.to_owned(), plain(Value(Form::Read(value))))
                };
                (0..*len).map(pair).collect()
            }
            _ => {
                let (text, boolean) = (field(value).text(), field(value).boolean());
                // Numbers are compared bit by bit.
                let number = field(value).number().map(|number| format!("{:x}", number.to_bits()));
                format!("{text:?} {boolean:?} {number:?}").into()
            }
        }
    }

    /// Returns the value that simd-json reads, after a check that serde_json reads the same. `None`
    /// if simd-json rejects.
    fn both(text: &str) -> Option<serde_json::Value> {
        let mut reader = Reader::default();
        let mut reading = reader.begin();
        let filled = reading.fill(text);
        let read = filled.then(|| plain(Value(Form::Read(&reading.tape.0))));
        if let Some(read) = &read {
            let well_formed = serde_json::from_str::<&RawValue>(text);
            assert!(well_formed.is_ok(), "only simd-json accepts {text:?}");
            assert_eq!(*read, plain(well_formed.unwrap().get().into()), "{text}");
        }
        read
    }

    fn any_text() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            "[ -~]{0,80}",
            "\\\\u[0-9a-fA-F]{4}",
            "\\\\u[dD][89a-fA-F][0-9a-f]{2}\\\\u[dD][c-f][0-9a-f]{2}",
            "\\\\[\"\\\\/bfnrtux0]",
            "\\PC{0,12}",
            Just("\u{0}".to_owned()),
            Just("x".repeat(130)),
        ];
        prop::collection::vec(piece, 0..5).prop_map(|pieces| format!("\"{}\"", pieces.concat()))
    }

    fn any_number() -> impl Strategy<Value = String> {
        prop_oneof![
            any::<i64>().prop_map(|number| number.to_string()),
            any::<u64>().prop_map(|number| number.to_string()),
            any::<f64>().prop_map(|number| format!("{number:e}")),
            any::<f64>().prop_map(|number| number.to_string()),
            any::<u64>().prop_map(|bits| serde_json::Number::from_f64(f64::from_bits(bits))
                .map_or("0".into(), |n| n.to_string())),
            "-?[0-9]{1,25}(\\.[0-9]{1,30})?([eE][+-]?[0-9]{1,5})?",
            "-?(0|[1-9][0-9]{0,3})(\\.[0-9]{0,3})?([eE][+-]?[0-9]{0,3})?",
            prop::sample::select(vec![
                "NaN", "-", "1e400", "-1e400", "+1", ".5", "01", "-0", "-0.0", "0x1"
            ])
            .prop_map(str::to_owned),
        ]
    }

    /// Generates text that is nearly always JSON.
    fn any_json() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![
            any_number(),
            any_text(),
            prop::sample::select(vec!["null", "true", "false", "nul", "truee", ""])
                .prop_map(str::to_owned),
        ];
        let nested = leaf.prop_recursive(4, 40, 6, |inner| {
            let space = || prop::sample::select(vec!["", "", " ", "\n\t"]);
            let pair = (any_text(), space(), inner.clone())
                .prop_map(|(name, space, value)| format!("{name}{space}:{value}"));
            prop_oneof![
                (prop::collection::vec(inner, 0..6), space())
                    .prop_map(|(items, space)| format!("[{}]", items.join(&format!(",{space}")))),
                (prop::collection::vec(pair, 0..6), space())
                    .prop_map(|(pairs, space)| format!("{{{}}}", pairs.join(&format!("{space},")))),
            ]
        });
        let damage = (
            any::<prop::sample::Index>(),
            prop::sample::select(vec!["", "\"", "\\", ",", "[", "}", "0", " ", "\u{7f}", "é"]),
        );
        (nested, prop::option::weighted(0.3, damage)).prop_map(|(text, damage)| match damage {
            None => text,
            Some((place, put)) => {
                let mut chars: Vec<String> = text.chars().map(String::from).collect();
                if !chars.is_empty() {
                    let place = place.index(chars.len());
                    chars[place] = put.to_owned();
                }
                chars.concat()
            }
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_096))]

        #[test]
        fn strings_are_printed_as_serde_json_prints_them(text in "[\\x00-\\x7fé🎸\u{85}]{0,300}") {
            let mut out = b"before".to_vec();
            print_string(&mut out, &text);
            prop_assert_eq!(String::from_utf8(out).unwrap(), format!("before{}", serde_json::to_string(&text).unwrap()));
        }

        #[test]
        fn both_readers_agree_wherever_both_accept(text in any_json()) {
            both(&text);
        }

        #[test]
        fn both_readers_agree_on_every_number(number in any_number()) {
            both(&format!("[{number}]"));
        }
    }

    #[test]
    fn a_payload_that_simd_json_rejects_is_kept_as_text() {
        for text in [
            r#"["play",{"x":1e400}]"#,
            r#"["play",{"x":"\ud800"}]"#,
            r#"["play",{"x":18446744073709551616}]"#,
            r#"["play",{"x":-9223372036854775809}]"#,
        ] {
            assert_eq!(both(text), None, "{text}");
            let mut reader = Reader::default();
            let mut reading = reader.begin();
            let event = reading.event(text).unwrap();
            assert!(
                event.argument.unwrap().written().is_some(),
                "{text} is read as it was written"
            );
            assert_eq!(
                fields(event.argument.unwrap(), ["x"]).unwrap()[0].value.unwrap().written(),
                Some(&text[13..text.len() - 2])
            );
        }
        for text in [
            "1",
            "\"a\"",
            "[]",
            "{}",
            "true",
            " [1 , 2] ",
            "[-0]",
            "[0e99999999999]",
            "[1e-400]",
            "[\"\\/\"]",
            "\"é🎸\"",
        ] {
            assert!(both(text).is_some(), "{text}");
        }
    }

    #[test]
    fn both_readers_have_the_same_depth_limit() {
        for depth in [31, 32, 33, 34, 1_023, 1_025, 100_000] {
            let text = format!("[\"a\",{}1{}]", "[".repeat(depth), "]".repeat(depth));
            let mut reader = Reader::default();
            let mut reading = reader.begin();
            let event = reading.event(&text).unwrap();
            assert_eq!(event.argument.unwrap().written().is_none(), depth <= DEPTH_MAX, "{depth}");
            assert_eq!(
                event.argument.unwrap().check_depth().is_ok(),
                depth <= DEPTH_MAX,
                "{depth}"
            );
        }
    }

    #[test]
    fn a_reader_keeps_its_buffers_but_not_large_ones() {
        let mut reader = Reader::default();
        let long = format!("[\"a\",\"{}\"]", "x".repeat(KEPT_BYTES_MAX - 16));
        for text in [&long, "[\"b\",{\"x\":1}]", "[1", "[\"c\"]"] {
            let expected =
                event(text).map(|event| (event.name.into_owned(), event.argument.is_some()));
            let mut reading = reader.begin();
            let found = reading
                .event(text)
                .map(|event| (event.name.into_owned(), event.argument.is_some()));
            assert_eq!(found, expected);
        }
        assert!(
            reader.is_small()
                && reader.input.capacity() >= long.len()
                && reader.tape.0.capacity() > 0
        );
        let set_list = format!("[\"a\",\"{}\"]", "x".repeat(900_000));
        assert!(reader.begin().event(&set_list).is_some());
        assert!(!reader.is_small());
        let mut reader = Reader::default();
        let _ = reader.begin().event(&format!("[\"a\"{}]", ",1".repeat(30_000)));
        assert!(!reader.is_small(), "a short text of many values takes as much");
    }

    fn field<'a>(object: &'a str) -> Field<'a> {
        fields(object, ["x"]).unwrap()[0]
    }

    #[test]
    fn finds_fields_and_ignores_the_rest() {
        let object = r#"{ "a" : 1 , "other":{"b":[2]}, "b" :[ 3, {} ] ,"a":"last","\u0063":null}"#;
        let [a, b, c, d] = fields(object, ["a", "b", "c", "d"]).unwrap();
        let written = |field: Field<'_>| field.value.and_then(Value::written).map(str::to_owned);
        assert_eq!(written(a).as_deref(), Some(r#""last""#), "the last of two counts");
        assert_eq!(written(b).as_deref(), Some("[ 3, {} ]"));
        assert_eq!(written(c).as_deref(), Some("null"), "an escaped name is the same name");
        assert_eq!(d.value, None);
    }

    #[test]
    fn rejects_a_text_that_is_not_an_object() {
        for text in ["[]", "null", "1", "\"x\"", "{", "{}x", "{\"a\":}", "{\"\\ud800\":1}", ""] {
            assert_eq!(fields(text, ["a"]).unwrap_err().code, Code::InvalidPayload, "{text}");
        }
    }

    #[test]
    fn reads_text() {
        assert!(matches!(field(r#"{"x":"Gröndal"}"#).text().unwrap(), Cow::Borrowed("Gröndal")));
        assert_eq!(field(r#"{"x":""}"#).text().unwrap(), "");
        assert_eq!(field(r#"{"x":"a\"\u00e9\ud83c\udfb8\n"}"#).text().unwrap(), "a\"é🎸\n");
        for bad in
            [r#"{"x":"\ud800"}"#, r#"{"x":"\udfb8\ud83c"}"#, r#"{"x":1}"#, r#"{"x":["a"]}"#, "{}"]
        {
            let reject = field(bad).text().unwrap_err();
            assert_eq!(
                (reject.field, &*reject.message),
                (Some("x"), "x must be a string"),
                "{bad}"
            );
        }
    }

    #[test]
    fn reads_numbers() {
        for (text, number) in [
            ("0", 0.0),
            ("-0", 0.0),
            ("120.5", 120.5),
            ("1e3", 1000.0),
            ("-7", -7.0),
            ("1795374685368", 1_795_374_685_368.0),
        ] {
            assert_eq!(field(&format!(r#"{{"x":{text}}}"#)).number().unwrap(), number, "{text}");
        }
        for bad in ["1e400", "-1e400", "\"120\"", "null", "true", "[1]", "{}"] {
            let reject = field(&format!(r#"{{"x":{bad}}}"#)).number().unwrap_err();
            assert_eq!(
                (reject.field, &*reject.message),
                (Some("x"), "x must be a finite number"),
                "{bad}"
            );
        }
        for not_json in ["NaN", "Infinity", "01", "+1", ".5", "1.", "0x10"] {
            assert!(fields(&*format!(r#"{{"x":{not_json}}}"#), ["x"]).is_err(), "{not_json}");
        }
    }

    #[test]
    fn reads_whole_numbers() {
        for (text, number) in [("0", 0), ("8", 8), ("8.0", 8), ("1e0", 1), ("-0", 0)] {
            assert_eq!(field(&format!(r#"{{"x":{text}}}"#)).whole(8).unwrap(), number, "{text}");
        }
        for bad in ["9", "-1", "0.5", "\"1\"", "1e400", "4294967296"] {
            let reject = field(&format!(r#"{{"x":{bad}}}"#)).whole(8).unwrap_err();
            assert_eq!(reject.message, "x must be a whole number from 0 to 8", "{bad}");
        }
    }

    #[test]
    fn null_counts_as_absent() {
        for absent in ["{}", r#"{"x":null}"#] {
            assert_eq!(field(absent).optional(Field::text), Ok(None));
            assert_eq!(field(absent).required().unwrap_err().message, "x is required");
        }
        assert_eq!(field(r#"{"x":true}"#).optional(Field::boolean), Ok(Some(true)));
        assert!(field(r#"{"x":"null"}"#).required().is_ok());
    }

    #[test]
    fn depth_is_bounded_and_costs_no_stack() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(check_depth(&nested(32)).is_ok());
        assert!(check_depth(&nested(33)).is_err());
        assert!(
            check_depth(&nested(31).replace("[]", "[[],[],{}]")).is_ok(),
            "siblings are not deeper"
        );
        assert!(
            check_depth(&format!(r#"["{}\"","\\",[]]"#, "[".repeat(100))).is_ok(),
            "text is not nested"
        );

        let deep = format!(r#"["name",{{"a":{}}}]"#, nested(100_000));
        let event = event(&deep).unwrap();
        assert_eq!(event.name, "name");
        assert!(event.argument.unwrap().check_depth().is_err());
        assert!(fields(event.argument.unwrap(), ["b"]).is_ok());
        assert!(is_array(&nested(100_000)));
        assert!(placeholders_fit(&deep, 1));
    }

    #[test]
    fn reads_events() {
        for (text, name, argument) in [
            (r#"["play"]"#, "play", None),
            (r#"["play",{"a":1}]"#, "play", Some(r#"{"a":1}"#)),
            (r#"[ "play" , null , 2 ]"#, "play", Some("null")),
            (r#"["pl\u0061y",[]]"#, "play", Some("[]")),
            (r#"[17,"x"]"#, "17", Some("\"x\"")),
        ] {
            let argument = argument.map(Value::from);
            assert_eq!(
                event(text).unwrap(),
                Event { name: name.into(), argument, array: text },
                "{text}"
            );
        }
        for bad in [
            "[]",
            "{}",
            "[null]",
            "[[]]",
            "[\"a\"",
            "[\"a\"]]",
            "[\"a\",]",
            "[\"a\",{]",
            "\"a\"",
            "",
        ] {
            assert_eq!(event(bad), None, "{bad}");
        }
    }

    #[test]
    fn checks_placeholders() {
        let fit = |text: &str| placeholders_fit(text, 2);
        assert!(fit(
            r#"["a",{"_placeholder":true,"num":1},[{"b":{"_placeholder":true,"num":0}}]]"#
        ));
        assert!(fit(r#"["a",{"_placeholder":"yes","num":7}]"#), "only true makes a placeholder");
        for bad in ["2", "-1", "1.5", "\"0\"", "null", "4294967296"] {
            assert!(!fit(&format!(r#"["a",[{{"_placeholder":true,"num":{bad}}}]]"#)), "{bad}");
        }
        assert!(!fit(r#"["a",{"_placeholder":true}]"#));
    }

    #[test]
    fn bounds_the_items_of_an_array() {
        assert_eq!(items("[1, {\"a\":[]} ,\"x\"]", 3), Some(vec!["1", "{\"a\":[]}", "\"x\""]));
        assert_eq!(items("[1,2,3,4]", 3), None);
        assert_eq!(items("{}", 3), None);
    }
}
