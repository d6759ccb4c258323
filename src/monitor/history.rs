//! The history: readings at the end of each interval, in a bounded ring in memory and, if there is
//! one, in a store that outlives the process.

use std::collections::VecDeque;
use std::sync::Arc;

/// The columns of a row, in order. Rates are per second, times in milliseconds, memory in bytes.
pub const FIELDS: [&str; 18] = [
    "timestamp",
    "connections",
    "sessions",
    "members",
    "messagesInPerSecond",
    "messagesOutPerSecond",
    "bytesInPerSecond",
    "bytesOutPerSecond",
    "roundTripP50",
    "roundTripP99",
    "tickLatenessP50",
    "tickLatenessP99",
    "tickLatenessMax",
    "handlerP99",
    "turnP99",
    "cpuPercent",
    "memoryBytes",
    "refusalsPerSecond",
];

/// One row. The first number is Unix time in milliseconds.
pub type Row = [f64; FIELDS.len()];

/// Maximum rows in memory: eight hours at the default interval.
const ROWS_MAX: usize = 2_880;

/// Keeps rows beyond the end of the process. It is called on the monitor's thread, once per
/// interval. Errors are ignored: a history with gaps is better than no server.
pub trait HistoryStore: Send {
    /// Returns the newest rows, at most `max`, in order of time.
    fn load(&mut self, max: usize) -> Vec<Row>;

    /// Appends a row.
    fn append(&mut self, row: &Row);
}

/// The ring.
pub struct History {
    /// Rows as JSON. A row is printed once and read many times, by threads that must not block.
    rows: VecDeque<(u64, Arc<str>)>,
    store: Option<Box<dyn HistoryStore>>,
}

impl History {
    /// Creates a history with the rows of `store`, to which it appends.
    pub fn new(mut store: Option<Box<dyn HistoryStore>>) -> Self {
        let loaded = store.as_mut().map(|store| store.load(ROWS_MAX)).unwrap_or_default();
        let mut history = Self { rows: VecDeque::new(), store };
        loaded.iter().for_each(|row| history.push(row));
        history
    }

    /// Appends a row, and drops the oldest if the ring is full.
    pub fn append(&mut self, row: &Row) {
        self.push(row);
        if let Some(store) = &mut self.store {
            store.append(row);
        }
    }

    fn push(&mut self, row: &Row) {
        if self.rows.len() == ROWS_MAX {
            self.rows.pop_front();
        }
        let cells: Vec<String> = row.iter().map(|cell| cell_text(*cell)).collect();
        self.rows.push_back((row[0] as u64, format!("[{}]", cells.join(",")).into()));
    }

    /// Prints `{"fields":[…],"rows":[[…],…]}` with the newest rows after `since` (Unix time in
    /// milliseconds), at most `max`, in order of time.
    pub fn json(&self, since: u64, max: usize) -> Vec<u8> {
        let newer = self.rows.iter().rev().take_while(|(at, _)| *at > since).take(max).count();
        let mut out = br#"{"fields":["#.to_vec();
        for (index, field) in FIELDS.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            out.extend_from_slice(format!("{comma}\"{field}\"").as_bytes());
        }
        out.extend_from_slice(br#"],"rows":["#);
        for (index, (_, row)) in self.rows.iter().skip(self.rows.len() - newer).enumerate() {
            if index > 0 {
                out.push(b',');
            }
            out.extend_from_slice(row.as_bytes());
        }
        out.extend_from_slice(b"]}");
        out
    }
}

/// Prints a number with at most three decimals. JSON has no NaN, so it becomes `null`.
fn cell_text(cell: f64) -> String {
    if cell.is_finite() {
        format!("{}", (cell * 1_000.0).round() / 1_000.0)
    } else {
        "null".to_owned()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use parking_lot::Mutex;

    use super::*;

    fn row(at: u64) -> Row {
        let mut row = [0.5; FIELDS.len()];
        row[0] = at as f64;
        row
    }

    fn times(history: &History, since: u64, max: usize) -> Vec<u64> {
        let json: serde_json::Value = serde_json::from_slice(&history.json(since, max)).unwrap();
        assert_eq!(json["fields"].as_array().unwrap().len(), FIELDS.len());
        let rows = json["rows"].as_array().unwrap();
        rows.iter().map(|row| row[0].as_f64().unwrap() as u64).collect()
    }

    #[test]
    fn the_newest_rows_are_kept_in_order() {
        let mut history = History::new(None);
        assert_eq!(times(&history, 0, 10), [0; 0]);
        for at in 1..=ROWS_MAX as u64 + 5 {
            history.append(&row(at * 10_000));
        }
        assert_eq!(times(&history, 0, usize::MAX).len(), ROWS_MAX);
        assert_eq!(times(&history, 0, 2), [28_840_000, 28_850_000]);
        assert_eq!(times(&history, 28_840_000, 10), [28_850_000]);
    }

    #[test]
    fn nan_and_infinity_still_give_valid_json() {
        let mut history = History::new(None);
        history.append(&[f64::NAN; FIELDS.len()]);
        history.append(&[f64::INFINITY; FIELDS.len()]);
        assert!(serde_json::from_slice::<serde_json::Value>(&history.json(0, 10)).is_ok());
    }

    struct Shelf(Arc<Mutex<Vec<Row>>>);

    impl HistoryStore for Shelf {
        fn load(&mut self, max: usize) -> Vec<Row> {
            let rows = self.0.lock();
            rows[rows.len().saturating_sub(max)..].to_vec()
        }

        fn append(&mut self, row: &Row) {
            self.0.lock().push(*row);
        }
    }

    #[test]
    fn a_store_restores_the_history() {
        let shelf = Arc::new(Mutex::new(Vec::new()));
        let mut history = History::new(Some(Box::new(Shelf(Arc::clone(&shelf)))));
        history.append(&row(1_000));
        history.append(&row(2_000));
        let again = History::new(Some(Box::new(Shelf(shelf))));
        assert_eq!(times(&again, 0, 10), [1_000, 2_000]);
    }
}
