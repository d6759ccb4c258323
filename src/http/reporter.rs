//! A thread for answers that take longer than a turn of a shard may: metrics, history, the
//! dashboard's data, and the description of the protocol.
//!
//! A shard checks the access of a request and puts it into a bounded queue. The reporter prints the
//! answer, compresses it if the client accepts that, and posts it to the shard, which sends it.

use std::borrow::Cow;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use bandsync_driver::Asker;
use bandsync_engine::io::{HttpRequest, HttpResponse};
use crossbeam_channel::{Receiver, Sender, bounded};
use flate2::Compression;

use super::Reports;
use super::assets::gzip;

/// Maximum requests that wait. Guessed: far more than a few dashboards and scrapers send at once.
const REQUESTS_MAX: usize = 64;

/// Pause before an answer is posted again to a shard whose mailbox is full.
const AGAIN: Duration = Duration::from_millis(5);

/// Minimum size of a compressed answer: shorter ones save little.
const GZIP_MIN: usize = 1_024;

/// The queue from the shards.
pub type Requests = Sender<(Asker, HttpRequest)>;

/// The reporter before its thread starts.
pub struct Reporter {
    requests: Receiver<(Asker, HttpRequest)>,
    pub(super) reports: Arc<Reports>,
}

impl Reporter {
    pub(super) fn new(reports: Arc<Reports>) -> (Requests, Self) {
        let (sender, receiver) = bounded(REQUESTS_MAX);
        (sender, Self { requests: receiver, reports })
    }

    /// Starts the thread, which ends when the last [`Requests`] is dropped. `post` sends an
    /// answer, or returns it if the shard's mailbox is full.
    pub fn start<Post>(self, post: Post) -> io::Result<JoinHandle<()>>
    where
        Post: Fn(Asker, HttpResponse) -> Result<(), HttpResponse> + Send + 'static,
    {
        let run = move || {
            for (asker, request) in &self.requests {
                let mut answer = self.reports.answer(&request);
                while let Err(back) = post(asker, answer) {
                    answer = back;
                    std::thread::sleep(AGAIN);
                }
            }
        };
        std::thread::Builder::new().name("reporter".into()).spawn(run)
    }
}

/// Compresses an answer if the client accepts that and it saves bytes.
pub fn packed(mut answer: HttpResponse, takes_gzip: bool) -> HttpResponse {
    answer.headers.push((Cow::Borrowed("Vary"), Cow::Borrowed("Accept, Accept-Encoding")));
    if takes_gzip
        && answer.body.len() >= GZIP_MIN
        && let Some(packed) = gzip(&answer.body, Compression::fast())
    {
        answer.body = packed.into();
        answer.headers.push((Cow::Borrowed("Content-Encoding"), Cow::Borrowed("gzip")));
    }
    answer
}
