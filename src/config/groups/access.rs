//! Access: pages, names and addresses that may connect, and how much each client may do.

use bandsync_engine::words::limits::RateLimits;
use bandsync_engine::words::origins::Origins;
use bandsync_engine::words::policy::{AccessPolicy, Hosts, Network, PeerLimits};

use crate::config::error::ConfigError;
use crate::config::table;
use crate::config::values::{Values, whole};
use crate::http::Token;

/// Minimum length of a new passcode or PIN where strangers may guess. At the rate that `GuessLimit`
/// allows to many addresses together, eight digits last for years.
const SECRET_CHARS_ON_THE_INTERNET: u32 = 8;

/// Pages and addresses that may connect, and the limits of addresses and clients.
pub struct Access {
    /// Whether the security profile is `internet`.
    pub is_internet: bool,
    /// Opens the operators' pages to requests that carry it.
    pub admin_token: Option<Token>,
    /// Web pages that may connect, besides the server's own.
    pub origins: Origins,
    /// Rates, limits of addresses, proxies and host names.
    pub policy: AccessPolicy,
    /// HTTP requests per second that one address may make; 0 is any number.
    pub http_requests: u32,
    /// Connections that one shard holds.
    pub connections_max: u32,
    /// Size of the largest message that a client may send.
    pub message_bytes_max: u32,
}

/// Reads the group.
pub fn read(values: &mut Values<'_>, has_tls: bool) -> Result<Access, ConfigError> {
    let is_lan = values.one_of(&table::SECURITY_PROFILE)? == "lan";
    let admin_token = values.unless_none(&table::ADMIN_TOKEN, Token::parse)?;
    let origins = values.parsed(&table::CORS_ORIGIN, origins)?;
    let proxies = values.parsed(&table::TRUSTED_PROXIES, networks)?;
    let hosts = match values.parsed(&table::ALLOWED_HOSTS, names)? {
        Names::Auto if is_lan => Hosts::Local(hosts_of(&origins)),
        Names::Auto => Hosts::Public(hosts_of(&origins)),
        Names::Any => Hosts::Any,
        Names::Listed(names) => Hosts::Local([names, hosts_of(&origins)].concat()),
    };
    let peers = peers(values, is_lan)?;
    let http_requests = values.count(&table::HTTP_REQUESTS_PER_IP)?;
    let rates = values.parsed(&table::EVENT_RATES, event_rates)?;
    let connections_max = values.count(&table::MAX_CONNECTIONS)?;
    let message_bytes_max = values.count(&table::MAX_MESSAGE_BYTES)?;
    if !is_lan && proxies.is_empty() && !has_tls {
        let what = "list the proxy that ends TLS, such as 127.0.0.1, or set TLS_CERT and TLS_KEY";
        return Err(ConfigError::Unsafe(table::TRUSTED_PROXIES.variable, what));
    }
    if !is_lan && !matches!(origins, Origins::Listed(_)) {
        let what = "list the pages that may connect, such as https://band.example";
        return Err(ConfigError::Unsafe(table::CORS_ORIGIN.variable, what));
    }
    let secret_chars_min = if is_lan { 0 } else { SECRET_CHARS_ON_THE_INTERNET };
    Ok(Access {
        is_internet: !is_lan,
        admin_token,
        origins,
        policy: AccessPolicy { rates, peers, proxies, hosts, secret_chars_min },
        http_requests,
        connections_max,
        message_bytes_max,
    })
}

/// Reads the limits of one address. An operator who gives a number expects it to hold, so loopback
/// is spared only while both are `auto`.
fn peers(values: &mut Values<'_>, is_lan: bool) -> Result<PeerLimits, ConfigError> {
    let limits = [&table::CONNECTIONS_PER_IP, &table::HANDSHAKES_PER_IP];
    let spares_loopback =
        is_lan && limits.iter().all(|setting| values.find(setting).text == "auto");
    Ok(PeerLimits {
        connections_max: values.whole_or(limits[0], if is_lan { 256 } else { 32 })? as u32,
        connections_per_second: values.whole_or(limits[1], if is_lan { 100 } else { 10 })? as u32,
        spares_loopback,
    })
}

/// Parses the list of pages that may connect.
fn origins(text: &str) -> Option<Origins> {
    match text {
        "own" => Some(Origins::Own),
        "*" => Some(Origins::Any),
        list => list
            .split(',')
            .map(|part| origin(part.trim()))
            .collect::<Option<_>>()
            .map(Origins::Listed),
    }
}

/// Parses an origin as browsers write it: scheme and host in lower case, nothing after the port.
fn origin(text: &str) -> Option<String> {
    let (scheme, authority) = text.split_once("://")?;
    let authority = authority.strip_suffix('/').unwrap_or(authority);
    let of_scheme = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
    let of_authority = |c: char| c.is_ascii_alphanumeric() || "-._:[]".contains(c);
    let fits = !scheme.is_empty() && scheme.chars().all(of_scheme);
    let fits = fits && !authority.is_empty() && authority.chars().all(of_authority);
    fits.then(|| format!("{scheme}://{authority}").to_ascii_lowercase())
}

fn networks(text: &str) -> Option<Vec<Network>> {
    if text == "none" {
        return Some(Vec::new());
    }
    text.split(',').map(|part| Network::parse(part.trim())).collect()
}

/// Names under which pages may reach the server, as given.
enum Names {
    Auto,
    Any,
    Listed(Vec<String>),
}

fn names(text: &str) -> Option<Names> {
    let name = |text: &str| {
        // The dot at the end of a full name is not part of the name.
        let text = text.strip_suffix('.').unwrap_or(text);
        let fits = !text.is_empty()
            && text.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c));
        fits.then(|| text.to_ascii_lowercase())
    };
    match text {
        "auto" => Some(Names::Auto),
        "*" => Some(Names::Any),
        list => {
            list.split(',').map(|part| name(part.trim())).collect::<Option<_>>().map(Names::Listed)
        }
    }
}

/// Returns the host names in a list of origins.
fn hosts_of(origins: &Origins) -> Vec<String> {
    let Origins::Listed(list) = origins else { return Vec::new() };
    let authorities = list.iter().filter_map(|origin| origin.split_once("://"));
    authorities
        .map(|(_, authority)| authority.split(':').next().unwrap_or_default().to_owned())
        .collect()
}

fn event_rates(text: &str) -> Option<RateLimits> {
    let mut rates = RateLimits::default();
    if text == "default" {
        return Some(rates);
    }
    for pair in text.split(',') {
        let (event, rate) = pair.trim().split_once('=')?;
        let place = match event.trim() {
            "position_sync" => &mut rates.position_sync,
            "metronome_tick" => &mut rates.metronome_tick,
            "sync_request" => &mut rates.sync_request,
            "chat_message" => &mut rates.chat_message,
            "latency_probe" => &mut rates.latency_probe,
            "clock_sync" => &mut rates.clock_sync,
            "tempo_change" => &mut rates.tempo_change,
            "join_session" => &mut rates.join_session,
            "other" => &mut rates.other,
            "total" => &mut rates.total,
            "refusals" => &mut rates.refusals_max,
            _ => return None,
        };
        *place = u32::try_from(whole(rate.trim(), 0, 100_000)?).ok()?;
    }
    Some(rates)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_a_word_or_a_list() {
        assert_eq!(origins("own"), Some(Origins::Own));
        assert_eq!(origins("*"), Some(Origins::Any));
        let listed = ["https://Band.example/", "http://[::1]:5173"].join(" , ");
        let expected = vec!["https://band.example".to_owned(), "http://[::1]:5173".to_owned()];
        assert_eq!(origins(&listed), Some(Origins::Listed(expected)));
    }
}
