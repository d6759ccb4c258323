//! Who may see how the server is doing, and who plays on it.

use bandsync_engine::io::{Answer, Question};
use subtle::ConstantTimeEq;

/// What an operator sends to be let in from another machine.
#[derive(Clone)]
pub struct Token(String);

impl Token {
    /// From 16 to 256 visible characters: fewer can be guessed.
    pub fn parse(text: &str) -> Option<Self> {
        let fits = (16..=256).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        fits.then(|| Self(text.to_owned()))
    }

    /// The token itself, to be sent to another server and nowhere else.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Compares in a time that tells nothing of the token but its length.
    fn is(&self, guess: &str) -> bool {
        self.0.as_bytes().ct_eq(guess.as_bytes()).into()
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

/// Lets in who is on this machine, and who sends the token as `Authorization: Bearer`. A proxy on this machine speaks
/// for others, so what it passes on needs the token.
///
/// # Errors
/// The answer for who is not let in: 401 if a token would help, 403 if none is set.
pub fn check(token: Option<&Token>, question: &Question) -> Result<(), Answer> {
    if question.peer.to_canonical().is_loopback() && !question.forwarded {
        return Ok(());
    }
    let Some(token) = token else {
        return Err(super::answer(403, super::JSON, FORBIDDEN.as_bytes()));
    };
    let (scheme, guess) = question.authorization.split_once(' ').unwrap_or_default();
    if scheme.eq_ignore_ascii_case("bearer") && token.is(guess.trim()) {
        return Ok(());
    }
    let mut answer = super::answer(401, super::JSON, br#"{"error":"Unauthorized"}"#.as_slice());
    answer.headers.push(("WWW-Authenticate".into(), "Bearer".into()));
    Err(answer)
}

const FORBIDDEN: &str = r#"{"error":"Forbidden","hint":"From other machines this takes a token: start the server with ADMIN_TOKEN and send it as Authorization: Bearer."}"#;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::net::IpAddr;

    use super::*;

    const SECRET: &str = "correct-horse-battery";

    fn status(peer: &str, forwarded: bool, token: Option<&str>, authorization: &str) -> u16 {
        let peer: IpAddr = peer.parse().unwrap();
        let question = Question {
            forwarded,
            head: false,
            path: "/dashboard/data".into(),
            query: String::new(),
            accept: String::new(),
            if_none_match: String::new(),
            authorization: authorization.into(),
            takes_gzip: false,
            peer,
        };
        let token = token.map(|text| Token::parse(text).unwrap());
        check(token.as_ref(), &question).map_or_else(|answer| answer.status, |()| 200)
    }

    #[test]
    fn this_machine_is_let_in_and_others_with_the_token() {
        for peer in ["127.0.0.1", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(status(peer, false, None, ""), 200, "{peer}");
        }
        for peer in ["192.0.2.7", "::ffff:192.0.2.7", "2001:db8::1"] {
            assert_eq!(status(peer, false, None, ""), 403, "{peer}");
            assert_eq!(status(peer, false, Some(SECRET), ""), 401, "{peer}");
            assert_eq!(status(peer, false, Some(SECRET), &format!("Bearer {SECRET}")), 200, "{peer}");
            assert_eq!(status(peer, false, Some(SECRET), &format!("bearer {SECRET} ")), 200, "{peer}");
        }
    }

    #[test]
    fn a_proxy_on_this_machine_speaks_for_others() {
        assert_eq!(status("127.0.0.1", true, None, ""), 403);
        assert_eq!(status("127.0.0.1", true, Some(SECRET), "Bearer wrong-horse-battery"), 401);
        assert_eq!(status("127.0.0.1", true, Some(SECRET), &format!("Bearer {SECRET}")), 200);
    }

    #[test]
    fn a_guess_that_is_nearly_right_is_wrong() {
        let near = [
            &SECRET[1..],
            &SECRET[..SECRET.len() - 1],
            "correct-horse-batterx",
            "",
            "correct-horse-battery1",
        ];
        for guess in near {
            assert_eq!(status("192.0.2.7", false, Some(SECRET), &format!("Bearer {guess}")), 401, "{guess}");
        }
        assert_eq!(status("192.0.2.7", false, Some(SECRET), &format!("Basic {SECRET}")), 401);
        assert_eq!(status("192.0.2.7", false, Some(SECRET), SECRET), 401);
    }

    #[test]
    fn a_token_is_long_and_is_never_shown() {
        assert!(Token::parse("short").is_none() && Token::parse("with spaces in between").is_none());
        assert_eq!(format!("{:?}", Token::parse(SECRET)), "Some(Token)");
    }
}
