//! Descriptions of the values that fields have, as plain data.
//!
//! The tables of events and notices are made of them. Documents such as `/asyncapi.json` are
//! generated from the tables, so this module knows no format of a document.

/// The values that a field may have, under one name.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schema {
    /// The name, unique among all schemas.
    pub name: &'static str,
    /// The values.
    pub form: Form,
    /// A sentence for people, if the form does not say everything.
    pub about: Option<&'static str>,
}

/// The form of a value in JSON. Bounds are included.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Form {
    /// `true` or `false`.
    Boolean,
    /// This boolean.
    Constant(bool),
    /// Any finite number.
    Number,
    /// A number that is not negative.
    NotNegative,
    /// A number within bounds.
    Within(f64, f64),
    /// Any whole number.
    Whole,
    /// A whole number within bounds.
    WholeWithin(i64, i64),
    /// One of these whole numbers.
    WholeOf(&'static [i64]),
    /// One of these texts.
    Words(&'static [&'static str]),
    /// A text of at least `min` and at most `max` characters, like a regular expression.
    Text {
        /// Minimum number of characters.
        min: Option<u32>,
        /// Maximum number of characters.
        max: Option<u32>,
        /// A regular expression.
        pattern: Option<&'static str>,
    },
    /// A text of at least `min` characters that is cut to `chars`.
    Cut {
        /// Minimum number of characters.
        min: Option<u32>,
        /// Number of characters that are kept.
        chars: u32,
    },
    /// An object that a client sends. It may have fields that the server does not know.
    Sent(&'static [FieldInfo]),
    /// An object that the server sends, with these fields and no others.
    Received(&'static [FieldInfo]),
    /// An array.
    List(&'static Schema),
}

/// A field of an event or an object.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FieldInfo {
    /// The name in the protocol.
    pub name: &'static str,
    /// The values.
    pub schema: Schema,
    /// Whether the field must be there.
    pub presence: Presence,
}

impl Presence {
    /// Whether the field may be absent.
    pub const fn is_optional(self) -> bool {
        matches!(self, Self::Optional | Self::OptionalNullable)
    }

    /// Whether the server may send `null`.
    pub const fn is_nullable(self) -> bool {
        matches!(self, Self::Nullable | Self::OptionalNullable)
    }
}

/// The presence of a field.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Presence {
    /// The field must be there.
    Required,
    /// The field may be absent. A client may send `null` instead.
    Optional,
    /// The field must be there, and may be `null`.
    Nullable,
    /// The field may be absent, and may be `null`, which means something else.
    OptionalNullable,
}

impl Schema {
    /// Creates a schema whose form says everything.
    pub const fn new(name: &'static str, form: Form) -> Self {
        Self { name, form, about: None }
    }

    /// Creates a text of `min` to `max` characters.
    pub const fn text(name: &'static str, min: u32, max: u32) -> Self {
        Self::new(name, Form::Text { min: Some(min), max: Some(max), pattern: None })
    }

    /// Creates a text that a regular expression describes.
    pub const fn like(name: &'static str, pattern: &'static str) -> Self {
        Self::new(name, Form::Text { min: None, max: None, pattern: Some(pattern) })
    }

    /// Adds a sentence for people.
    pub const fn about(self, about: &'static str) -> Self {
        Self { about: Some(about), ..self }
    }

    /// Creates a field of this name that must be there.
    pub const fn info(self, name: &'static str) -> FieldInfo {
        FieldInfo { name, schema: self, presence: Presence::Required }
    }
}

/// Marks a field that may be absent.
#[derive(Clone, Copy, Debug)]
pub struct Optional<K>(pub(super) K);

/// Marks a field that must be there and may be `null`.
#[derive(Clone, Copy, Debug)]
pub struct Nullable<K>(pub(super) K);

/// Creates a field that may be absent.
pub const fn optional<K: Copy>(kind: K) -> Optional<K> {
    Optional(kind)
}

/// Creates a field that must be there and may be `null`.
pub const fn nullable<K: Copy>(kind: K) -> Nullable<K> {
    Nullable(kind)
}

impl Optional<Schema> {
    /// Creates a field of this name.
    pub const fn info(self, name: &'static str) -> FieldInfo {
        FieldInfo { name, schema: self.0, presence: Presence::Optional }
    }
}

impl Optional<Nullable<Schema>> {
    /// Creates a field of this name.
    pub const fn info(self, name: &'static str) -> FieldInfo {
        FieldInfo { name, schema: self.0.0, presence: Presence::OptionalNullable }
    }
}

impl Nullable<Schema> {
    /// Creates a field of this name.
    pub const fn info(self, name: &'static str) -> FieldInfo {
        FieldInfo { name, schema: self.0, presence: Presence::Nullable }
    }
}
