//! Compression of HTTP answers, for clients that accept it.

use std::io::Write;

use flate2::write::{GzEncoder, ZlibEncoder};

use super::http::Request;

/// Minimum bytes of a body that is compressed. Guessed: shorter bodies save little.
const THRESHOLD: usize = 1_024;

const LEVEL: u32 = 3;

/// The compression that a client accepts.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Packing {
    /// None: bodies are sent as they are.
    #[default]
    None,
    /// `gzip`.
    Gzip,
    /// `deflate`, which in HTTP means the zlib format.
    Deflate,
}

impl Packing {
    /// Returns the compression that the `Accept-Encoding` of a request names. Of both it chooses
    /// gzip, because clients differ in how they read deflate.
    pub fn of(request: &Request<'_>) -> Self {
        let mut packing = Self::None;
        for item in request.list("accept-encoding") {
            let mut parts = item.split(';').map(str::trim);
            let name = parts.next().unwrap_or_default();
            let rejected = parts.any(|part| {
                part.strip_prefix("q=").is_some_and(|q| q.parse::<f32>().is_ok_and(|q| q == 0.0))
            });
            if rejected {
                continue;
            }
            if name.eq_ignore_ascii_case("gzip") {
                return Self::Gzip;
            }
            if name.eq_ignore_ascii_case("deflate") {
                packing = Self::Deflate;
            }
        }
        packing
    }

    /// Returns the compressed body and the name of its encoding, `None` if the body stays as it is.
    pub fn pack(self, body: &[u8]) -> Option<(&'static str, Vec<u8>)> {
        if body.len() < THRESHOLD {
            return None;
        }
        let level = flate2::Compression::new(LEVEL);
        let (name, packed) = match self {
            Self::None => return None,
            Self::Gzip => {
                let mut encoder = GzEncoder::new(Vec::new(), level);
                ("gzip", encoder.write_all(body).and_then(|()| encoder.finish()))
            }
            Self::Deflate => {
                let mut encoder = ZlibEncoder::new(Vec::new(), level);
                ("deflate", encoder.write_all(body).and_then(|()| encoder.finish()))
            }
        };
        // Writing to memory does not fail.
        packed.ok().filter(|packed| packed.len() < body.len()).map(|packed| (name, packed))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::Read;

    use flate2::read::{GzDecoder, ZlibDecoder};

    use super::*;
    use crate::wire::http::HeadReader;

    fn of(accept: &str) -> Packing {
        let head = format!("GET / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: {accept}\r\n\r\n");
        Packing::of(&HeadReader::default().parse(head.as_bytes()).unwrap().unwrap().0)
    }

    #[test]
    fn a_client_receives_an_encoding_that_it_accepts() {
        for (accept, packing) in [
            ("gzip, deflate, br", Packing::Gzip),
            ("deflate, GZIP;q=0.5", Packing::Gzip),
            ("deflate", Packing::Deflate),
            ("gzip;q=0, deflate;q=0.1", Packing::Deflate),
            ("gzip; q=0.000", Packing::None),
            ("br, identity", Packing::None),
            ("", Packing::None),
        ] {
            assert_eq!(of(accept), packing, "{accept}");
        }
    }

    #[test]
    fn a_packed_body_is_unpacked_unchanged() {
        let body = b"4 this text repeats often ".repeat(100);
        let (mut gzip, mut zlib) = (Vec::new(), Vec::new());
        let (name, packed) = Packing::Gzip.pack(&body).unwrap();
        GzDecoder::new(&*packed).read_to_end(&mut gzip).unwrap();
        assert_eq!((name, &gzip), ("gzip", &body));
        let (name, packed) = Packing::Deflate.pack(&body).unwrap();
        ZlibDecoder::new(&*packed).read_to_end(&mut zlib).unwrap();
        assert_eq!((name, &zlib), ("deflate", &body));
        assert_eq!(Packing::Gzip.pack(&body[..1_000]), None);
        assert_eq!(Packing::None.pack(&body), None);
    }
}
