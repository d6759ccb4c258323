//! Which web pages may connect.

use serde::{Deserialize, Serialize};

/// Which web pages may connect. A request without `Origin` is no web page's and may.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum Origins {
    /// Those that this server served itself: the host of `Origin` is the one of `Host`.
    Own,
    /// All.
    Any,
    /// The server's own and these, as `scheme://host[:port]`.
    Listed(Vec<String>),
}
