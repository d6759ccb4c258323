//! Access to the operators' pages: metrics, history and the dashboard.

use bandsync_engine::io::{HttpRequest, HttpResponse};
use bandsync_engine::words::policy::Named;
use subtle::ConstantTimeEq;

/// The token that opens the operators' pages to other machines.
#[derive(Clone)]
pub struct Token(String);

impl Token {
    /// Parses 16 to 256 visible characters: fewer can be guessed.
    pub fn parse(text: &str) -> Option<Self> {
        let fits =
            (16..=256).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        fits.then(|| Self(text.to_owned()))
    }

    /// Returns the token itself, to be sent to another server and nowhere else.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Compares in a time that depends only on the length of the token.
    fn is(&self, guess: &str) -> bool {
        self.0.as_bytes().ct_eq(guess.as_bytes()).into()
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

/// The reason why a request may not see an operators' page.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Denied {
    /// The `Host` is not a name of this server. A stranger's page may have been pointed at its
    /// address to read the answer (DNS rebinding).
    Host,
    /// The token is missing or wrong.
    Token,
    /// The request comes from another machine, and no token is set.
    Machine,
}

/// Decides whether a request may see an operators' page.
///
/// If a token is set, the request must carry it as `Authorization: Bearer`, wherever it comes from.
/// Without a token, only programs on this machine may see the page; a request through a proxy
/// counts as one from elsewhere. In both cases the `Host` must be one that `ALLOWED_HOSTS` allows.
/// A request without a token must also use a name of this machine or a listed one.
///
/// # Errors
/// The reason why it may not.
pub fn judge(token: Option<&Token>, request: &HttpRequest) -> Result<(), Denied> {
    if request.named == Named::Foreign {
        return Err(Denied::Host);
    }
    if let Some(token) = token {
        let (scheme, guess) = request.authorization.split_once(' ').unwrap_or_default();
        let vouched = scheme.eq_ignore_ascii_case("bearer") && token.is(guess.trim());
        return if vouched { Ok(()) } else { Err(Denied::Token) };
    }
    if request.forwarded || !request.peer.to_canonical().is_loopback() {
        return Err(Denied::Machine);
    }
    if request.named == Named::Known { Ok(()) } else { Err(Denied::Host) }
}

impl Denied {
    /// Returns status 421 for the name, 401 if a token would help, 403 if none is set.
    pub fn answer(self) -> HttpResponse {
        let (status, body) = match self {
            Self::Host => (421, MISDIRECTED),
            Self::Token => (401, UNAUTHORIZED),
            Self::Machine => (403, FORBIDDEN),
        };
        let mut answer = super::answer(status, super::JSON, body.as_bytes());
        if self == Self::Token {
            answer.headers.push(("WWW-Authenticate".into(), "Bearer".into()));
        }
        answer
    }
}

const MISDIRECTED: &str = r#"{"error":"Misdirected Request","hint":"The server is not known by this name here: use localhost or an address, or add the name to ALLOWED_HOSTS."}"#;
const UNAUTHORIZED: &str =
    r#"{"error":"Unauthorized","hint":"Send the token in ADMIN_TOKEN as Authorization: Bearer."}"#;
const FORBIDDEN: &str = r#"{"error":"Forbidden","hint":"From other machines this takes a token: start the server with ADMIN_TOKEN and send it as Authorization: Bearer."}"#;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::net::IpAddr;

    use super::*;

    const SECRET: &str = "correct-horse-battery";

    fn request(peer: &str) -> HttpRequest {
        let peer: IpAddr = peer.parse().unwrap();
        HttpRequest {
            forwarded: false,
            host: "localhost".into(),
            named: Named::Known,
            head: false,
            path: "/dashboard/data".into(),
            query: String::new(),
            accept: String::new(),
            if_none_match: String::new(),
            authorization: String::new(),
            takes_gzip: false,
            peer,
        }
    }

    fn judged(request: &HttpRequest, token: Option<&str>) -> u16 {
        let token = token.map(|text| Token::parse(text).unwrap());
        judge(token.as_ref(), request).map_or_else(|denied| denied.answer().status, |()| 200)
    }

    fn status(peer: &str, forwarded: bool, token: Option<&str>, authorization: &str) -> u16 {
        judged(
            &HttpRequest { forwarded, authorization: authorization.into(), ..request(peer) },
            token,
        )
    }

    #[test]
    fn without_a_token_only_this_machine_has_access() {
        for peer in ["127.0.0.1", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(status(peer, false, None, ""), 200, "{peer}");
            assert_eq!(status(peer, true, None, ""), 403, "a proxy forwards for others: {peer}");
        }
        for peer in ["192.0.2.7", "::ffff:192.0.2.7", "2001:db8::1", "::"] {
            assert_eq!(status(peer, false, None, ""), 403, "{peer}");
        }
    }

    #[test]
    fn a_configured_token_is_required_from_every_address() {
        for peer in ["127.0.0.1", "::1", "192.0.2.7", "::ffff:192.0.2.7", "2001:db8::1"] {
            for forwarded in [false, true] {
                assert_eq!(status(peer, forwarded, Some(SECRET), ""), 401, "{peer}");
                assert_eq!(
                    status(peer, forwarded, Some(SECRET), &format!("Bearer {SECRET}")),
                    200,
                    "{peer}"
                );
                assert_eq!(
                    status(peer, forwarded, Some(SECRET), &format!("bearer {SECRET} ")),
                    200,
                    "{peer}"
                );
            }
        }
    }

    #[test]
    fn a_foreign_host_name_is_rejected_and_a_public_one_needs_the_token() {
        let named = |named| HttpRequest { named, ..request("127.0.0.1") };
        let with_token = |named| HttpRequest {
            authorization: format!("Bearer {SECRET}"),
            ..HttpRequest { named, ..request("192.0.2.7") }
        };
        assert_eq!(judged(&named(Named::Foreign), None), 421);
        assert_eq!(judged(&named(Named::Public), None), 421, "it needs a token");
        assert_eq!(judged(&with_token(Named::Foreign), Some(SECRET)), 421);
        assert_eq!(judged(&with_token(Named::Public), Some(SECRET)), 200);
    }

    #[test]
    fn a_nearly_correct_token_is_rejected() {
        let near = [
            &SECRET[1..],
            &SECRET[..SECRET.len() - 1],
            "correct-horse-batterx",
            "",
            "correct-horse-battery1",
        ];
        for guess in near {
            assert_eq!(
                status("192.0.2.7", false, Some(SECRET), &format!("Bearer {guess}")),
                401,
                "{guess}"
            );
        }
        assert_eq!(status("192.0.2.7", false, Some(SECRET), &format!("Basic {SECRET}")), 401);
        assert_eq!(status("192.0.2.7", false, Some(SECRET), SECRET), 401);
    }

    #[test]
    fn a_short_token_is_rejected_and_no_token_is_printed() {
        assert!(
            Token::parse("short").is_none() && Token::parse("with spaces in between").is_none()
        );
        assert_eq!(format!("{:?}", Token::parse(SECRET)), "Some(Token)");
    }
}
