//! The screens of a model, which are no members.

/// Maximum number of screens of a session.
const SCREENS_MAX: usize = 16;

/// The screens of a session.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Screens(Vec<Screen>);

#[derive(Clone, Debug, PartialEq)]
struct Screen {
    /// The socket id.
    id: String,
    wants_ticks: bool,
}

impl Screens {
    /// Adds a screen, or updates its wish.
    pub fn add(&mut self, id: &str, wants_ticks: bool) {
        self.remove(id);
        self.0.push(Screen { id: id.to_owned(), wants_ticks });
    }

    /// Removes a screen. Returns false if it is none.
    pub fn remove(&mut self, id: &str) -> bool {
        let before = self.0.len();
        self.0.retain(|screen| screen.id != id);
        self.0.len() < before
    }

    pub fn contains(&self, id: &str) -> bool {
        self.0.iter().any(|screen| screen.id == id)
    }

    /// Whether there is no room for a screen.
    pub fn is_full_for(&self, id: &str) -> bool {
        self.0.iter().filter(|screen| screen.id != id).count() >= SCREENS_MAX
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a screen wants every tick.
    pub fn any_wants_ticks(&self) -> bool {
        self.0.iter().any(|screen| screen.wants_ticks)
    }
}
