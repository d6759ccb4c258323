//! The web pages that may connect.

use serde::{Deserialize, Serialize};

/// The web pages that may connect. A request without `Origin` is not from a web page and may always
/// connect.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum Origins {
    /// Pages of this server: the host of `Origin` equals that of `Host`.
    Own,
    /// All pages.
    Any,
    /// Pages of this server and of these origins, as `scheme://host[:port]`.
    Listed(Vec<String>),
}
