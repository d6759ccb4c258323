//! Prints values as JSON, byte for byte as serde_json does.
//!
//! Measured: a third of a server's computation is printing. serde_json checks every byte of texts
//! and of field names for escapes. Here names are copied, because ours need no escapes, and texts
//! are scanned eight bytes at a time (`json::print_string`).

use std::fmt;

use serde::ser::{Impossible, Serialize, SerializeMap, SerializeSeq, SerializeStruct, Serializer};

use crate::wire::json;

/// Appends one value to these bytes.
pub struct Printer<'o>(pub &'o mut Vec<u8>);

/// An unfinished array or object.
pub struct Open<'o> {
    out: &'o mut Vec<u8>,
    /// The bytes before the next item.
    before: &'static [u8],
    /// The bytes at its end.
    end: &'static [u8],
}

impl<'o> Printer<'o> {
    fn open(self, begin: u8, end: &'static [u8]) -> Open<'o> {
        self.0.push(begin);
        Open { out: self.0, before: b"", end }
    }

    /// Prints a number with serde_json itself.
    fn number(self, number: &impl Serialize) -> Result<(), fmt::Error> {
        serde_json::to_writer(self.0, number).map_err(|_| fmt::Error)
    }
}

impl Open<'_> {
    fn separate(&mut self) {
        self.out.extend_from_slice(self.before);
        self.before = b",";
    }

    fn field(
        &mut self,
        name: &'static str,
        value: &(impl Serialize + ?Sized),
    ) -> Result<(), fmt::Error> {
        self.separate();
        self.out.push(b'"');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
        value.serialize(Printer(self.out))
    }

    fn close(self) {
        self.out.extend_from_slice(self.end);
    }
}

/// Prints numbers of every width in the same way.
macro_rules! numbers {
    ($($name:ident: $number:ty),* $(,)?) => {$(
        fn $name(self, number: $number) -> Result<(), fmt::Error> {
            self.number(&number)
        }
    )*};
}

/// An object that is printed field by field.
pub struct Object<'o>(Open<'o>);

impl<'o> Object<'o> {
    /// Begins an object at the end of these bytes.
    pub fn begin(out: &'o mut Vec<u8>) -> Self {
        Self(Printer(out).open(b'{', b"}"))
    }

    /// Appends a field. A `Vec` accepts all bytes and every view can be serialized, so this
    /// cannot fail.
    pub fn field(&mut self, name: &'static str, value: &(impl Serialize + ?Sized)) {
        let written = self.0.field(name, value);
        assert!(written.is_ok(), "a view that cannot be printed: {written:?}");
    }

    /// Ends the object.
    pub fn end(self) {
        self.0.close();
    }
}

/// A kind of value that no view contains.
type Unused = Impossible<(), fmt::Error>;

impl<'o> Serializer for Printer<'o> {
    type Ok = ();
    type Error = fmt::Error;
    type SerializeSeq = Open<'o>;
    type SerializeTuple = Unused;
    type SerializeTupleStruct = Unused;
    type SerializeTupleVariant = Unused;
    type SerializeMap = Open<'o>;
    type SerializeStruct = Open<'o>;
    type SerializeStructVariant = Unused;

    fn serialize_bool(self, value: bool) -> Result<(), fmt::Error> {
        self.0.extend_from_slice(if value { b"true" } else { b"false" });
        Ok(())
    }

    numbers! {
        serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64,
        serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64,
        serialize_f32: f32, serialize_f64: f64,
    }

    fn serialize_char(self, value: char) -> Result<(), fmt::Error> {
        self.serialize_str(value.encode_utf8(&mut [0; 4]))
    }

    fn serialize_str(self, text: &str) -> Result<(), fmt::Error> {
        json::print_string(self.0, text);
        Ok(())
    }

    fn serialize_bytes(self, _: &[u8]) -> Result<(), fmt::Error> {
        Err(fmt::Error)
    }

    fn serialize_none(self) -> Result<(), fmt::Error> {
        self.serialize_unit()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), fmt::Error> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), fmt::Error> {
        self.0.extend_from_slice(b"null");
        Ok(())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), fmt::Error> {
        self.serialize_unit()
    }

    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        name: &'static str,
    ) -> Result<(), fmt::Error> {
        self.serialize_str(name)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), fmt::Error> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<(), fmt::Error> {
        Err(fmt::Error)
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Open<'o>, fmt::Error> {
        Ok(self.open(b'[', b"]"))
    }

    fn serialize_tuple(self, _: usize) -> Result<Unused, fmt::Error> {
        Err(fmt::Error)
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Unused, fmt::Error> {
        Err(fmt::Error)
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Unused, fmt::Error> {
        Err(fmt::Error)
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Open<'o>, fmt::Error> {
        Ok(self.open(b'{', b"}"))
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Open<'o>, fmt::Error> {
        Ok(self.open(b'{', b"}"))
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Unused, fmt::Error> {
        Err(fmt::Error)
    }
}

impl SerializeSeq for Open<'_> {
    type Ok = ();
    type Error = fmt::Error;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, item: &T) -> Result<(), fmt::Error> {
        self.separate();
        item.serialize(Printer(self.out))
    }

    fn end(self) -> Result<(), fmt::Error> {
        self.close();
        Ok(())
    }
}

/// A value that is flattened into a struct. Its names are texts here, and printed as such.
impl SerializeMap for Open<'_> {
    type Ok = ();
    type Error = fmt::Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, name: &T) -> Result<(), fmt::Error> {
        self.separate();
        name.serialize(Printer(self.out))
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), fmt::Error> {
        self.out.push(b':');
        value.serialize(Printer(self.out))
    }

    fn end(self) -> Result<(), fmt::Error> {
        self.close();
        Ok(())
    }
}

impl SerializeStruct for Open<'_> {
    type Ok = ();
    type Error = fmt::Error;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        name: &'static str,
        value: &T,
    ) -> Result<(), fmt::Error> {
        self.field(name, value)
    }

    fn end(self) -> Result<(), fmt::Error> {
        self.close();
        Ok(())
    }
}
