//! Tables addressed by a small index, with a generation that distinguishes values that share an
//! index one after the other.
//!
//! The caller of [`Slots`] allocates the keys (the driver's connection ids), while [`Arena`]
//! allocates its own (sessions). Both find a value with one bounds check and one comparison, and
//! iterate in order of the index.

use std::marker::PhantomData;
use std::ops::{Index, IndexMut};

use crate::words::ids::{ConnId, RoomKey};

/// A key in a table: an index, and a generation that tells the values of one index apart.
pub trait SlotKey: Copy {
    /// Creates the key of an index and a generation.
    fn from_parts(index: u32, generation: u32) -> Self;
    /// Returns the index, counted from 0 without large gaps: the table is as long as the largest
    /// index.
    fn index(self) -> u32;
    /// Returns the generation, which differs between two values of one index.
    fn generation(self) -> u32;
}

impl SlotKey for ConnId {
    fn from_parts(index: u32, generation: u32) -> ConnId {
        ConnId { index, generation }
    }

    fn index(self) -> u32 {
        self.index
    }

    fn generation(self) -> u32 {
        self.generation
    }
}

/// A list that grows by chunks of one size and never moves its values. A `Vec` that doubles would
/// leave half of its memory empty, and as much again to the allocator.
#[derive(Clone, Debug)]
pub struct ChunkedVec<T> {
    pieces: Vec<Vec<T>>,
}

/// Number of values in a chunk. A power of two, so that finding a value takes a shift.
const PIECE: usize = 256;

impl<T> Default for ChunkedVec<T> {
    fn default() -> Self {
        Self { pieces: Vec::new() }
    }
}

impl<T> ChunkedVec<T> {
    /// Appends a value.
    pub fn push(&mut self, value: T) {
        match self.pieces.last_mut().filter(|last| last.len() < PIECE) {
            Some(last) => last.push(value),
            None => {
                let mut piece = Vec::with_capacity(PIECE);
                piece.push(value);
                self.pieces.push(piece);
            }
        }
    }

    /// Returns the value at an index.
    #[inline]
    pub fn get(&self, index: usize) -> Option<&T> {
        self.pieces.get(index / PIECE)?.get(index % PIECE)
    }

    /// Returns the value at an index, to change it.
    #[inline]
    pub fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        self.pieces.get_mut(index / PIECE)?.get_mut(index % PIECE)
    }

    /// Iterates over all values in order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.pieces.iter().flatten()
    }

    /// Iterates over all values in order, to change them.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.pieces.iter_mut().flatten()
    }

    /// Returns the number of values.
    pub fn len(&self) -> usize {
        self.pieces.last().map_or(0, |last| (self.pieces.len() - 1) * PIECE + last.len())
    }

    /// Whether the list is empty.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }
}

impl<T> Index<usize> for ChunkedVec<T> {
    type Output = T;

    #[inline]
    fn index(&self, index: usize) -> &T {
        &self.pieces[index / PIECE][index % PIECE]
    }
}

impl<T> IndexMut<usize> for ChunkedVec<T> {
    #[inline]
    fn index_mut(&mut self, index: usize) -> &mut T {
        &mut self.pieces[index / PIECE][index % PIECE]
    }
}

/// A table of at most `limit` values, whose caller allocates the keys.
#[derive(Clone, Debug)]
pub struct Slots<K, T> {
    /// The generation and value at each index.
    slots: ChunkedVec<Option<(u32, T)>>,
    len: usize,
    limit: u32,
    keys: PhantomData<fn(K) -> K>,
}

impl<K: SlotKey, T> Slots<K, T> {
    /// Creates an empty table for keys with an index below `limit`.
    pub fn new(limit: u32) -> Slots<K, T> {
        Slots { slots: ChunkedVec::default(), len: 0, limit, keys: PhantomData }
    }

    /// Inserts `value` under `key`.
    ///
    /// # Panics
    /// If the index is in use by any generation, or is not below the limit.
    pub fn insert(&mut self, key: K, value: T) {
        assert!(key.index() < self.limit, "slot {} of at most {}", key.index(), self.limit);
        let index = key.index() as usize;
        while self.slots.len() <= index {
            self.slots.push(None);
        }
        assert!(self.slots[index].is_none(), "slot {index} is taken");
        self.slots[index] = Some((key.generation(), value));
        self.len += 1;
    }

    /// Returns the value of exactly this key, `None` if it was removed.
    pub fn get(&self, key: K) -> Option<&T> {
        match self.slots.get(key.index() as usize)? {
            Some((generation, value)) if *generation == key.generation() => Some(value),
            _ => None,
        }
    }

    /// Returns the value of exactly this key, to change it.
    pub fn get_mut(&mut self, key: K) -> Option<&mut T> {
        match self.slots.get_mut(key.index() as usize)? {
            Some((generation, value)) if *generation == key.generation() => Some(value),
            _ => None,
        }
    }

    /// Removes the value of exactly this key, `None` if it was removed before.
    pub fn remove(&mut self, key: K) -> Option<T> {
        let slot = self.slots.get_mut(key.index() as usize)?;
        let (_, value) = slot.take_if(|(generation, _)| *generation == key.generation())?;
        self.len -= 1;
        Some(value)
    }

    /// Iterates over all values in order of the index.
    pub fn iter(&self) -> impl Iterator<Item = (K, &T)> {
        self.slots.iter().enumerate().filter_map(|(index, slot)| {
            slot.as_ref()
                .map(|(generation, value)| (K::from_parts(index as u32, *generation), value))
        })
    }

    /// Iterates over all values in order of the index, to change them.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (K, &mut T)> {
        self.slots.iter_mut().enumerate().filter_map(|(index, slot)| {
            slot.as_mut()
                .map(|(generation, value)| (K::from_parts(index as u32, *generation), value))
        })
    }

    /// Returns the number of values.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the table is empty.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// A table of at most `limit` values that allocates the keys. It reuses the index that was freed
/// last, so the table stays as short as possible, and the same calls give the same keys.
#[derive(Clone, Debug)]
pub struct Arena<K, T> {
    slots: Slots<K, T>,
    /// The generation of the value at each index, or of its next value.
    generations: Vec<u32>,
    /// Free indices. The last one is used next.
    vacant: Vec<u32>,
}

impl<K: SlotKey, T> Arena<K, T> {
    /// Creates an empty table for `limit` values.
    pub fn new(limit: u32) -> Arena<K, T> {
        Arena { slots: Slots::new(limit), generations: Vec::new(), vacant: Vec::new() }
    }

    /// Inserts `value` and returns its key.
    ///
    /// # Panics
    /// If the table [is full](Arena::is_full). Ask first where others decide the number of values.
    pub fn insert(&mut self, value: T) -> K {
        let index = match self.vacant.pop() {
            Some(index) => index,
            None => {
                assert!(!self.is_full(), "arena of {} is full", self.slots.limit);
                self.generations.push(0);
                (self.generations.len() - 1) as u32
            }
        };
        let key = K::from_parts(index, self.generations[index as usize]);
        self.slots.insert(key, value);
        key
    }

    /// Returns the value of exactly this key, `None` if it was removed.
    pub fn get(&self, key: K) -> Option<&T> {
        self.slots.get(key)
    }

    /// Returns the value of exactly this key, to change it.
    pub fn get_mut(&mut self, key: K) -> Option<&mut T> {
        self.slots.get_mut(key)
    }

    /// Removes the value of exactly this key, `None` if it was removed before.
    pub fn remove(&mut self, key: K) -> Option<T> {
        let value = self.slots.remove(key)?;
        let generation = &mut self.generations[key.index() as usize];
        *generation = generation.wrapping_add(1);
        self.vacant.push(key.index());
        Some(value)
    }

    /// Iterates over all values in order of the index.
    pub fn iter(&self) -> impl Iterator<Item = (K, &T)> {
        self.slots.iter()
    }

    /// Iterates over all values in order of the index, to change them.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (K, &mut T)> {
        self.slots.iter_mut()
    }

    /// Returns the number of values.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether the table is empty.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Whether `insert` would panic.
    pub fn is_full(&self) -> bool {
        self.len() >= self.slots.limit as usize
    }
}

impl SlotKey for RoomKey {
    fn from_parts(index: u32, generation: u32) -> Self {
        Self { index, generation }
    }

    fn index(self) -> u32 {
        self.index
    }

    fn generation(self) -> u32 {
        self.generation
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
    struct Key(u32, u32);

    impl SlotKey for Key {
        fn from_parts(index: u32, generation: u32) -> Key {
            Key(index, generation)
        }
        fn index(self) -> u32 {
            self.0
        }
        fn generation(self) -> u32 {
            self.1
        }
    }

    #[test]
    fn a_chunked_vec_behaves_like_a_vec() {
        let (mut pieces, mut list) = (ChunkedVec::default(), Vec::new());
        for value in 0..3 * PIECE {
            assert!(pieces.len() == list.len() && pieces.is_empty() == list.is_empty());
            assert_eq!(pieces.get(value), None);
            assert_eq!(pieces.get_mut(value + PIECE), None);
            pieces.push(value);
            list.push(value);
        }
        let first: *const usize = &pieces[0];
        pieces.iter_mut().for_each(|value| *value *= 2);
        pieces[PIECE] += 1;
        assert!(
            pieces
                .iter()
                .enumerate()
                .all(|(index, value)| *value == 2 * index + usize::from(index == PIECE))
        );
        assert!(pieces.len() == list.len() && std::ptr::eq(first, &pieces[0]), "nothing has moved");
    }

    #[test]
    fn a_value_is_found_by_its_own_generation_only() {
        let mut slots = Slots::new(8);
        slots.insert(Key(3, 7), "drums");
        assert_eq!(slots.get(Key(3, 7)), Some(&"drums"));
        for stranger in [Key(3, 6), Key(3, 8), Key(2, 7), Key(4, 7), Key(u32::MAX, 7)] {
            assert_eq!(slots.get(stranger), None);
            assert_eq!(slots.get_mut(stranger), None);
            assert_eq!(slots.remove(stranger), None);
        }
        assert_eq!(slots.len(), 1);
        assert_eq!(slots.remove(Key(3, 7)), Some("drums"));
        assert_eq!(slots.remove(Key(3, 7)), None);
        assert!(slots.is_empty());
    }

    #[test]
    #[should_panic(expected = "slot 3 is taken")]
    fn inserting_into_a_taken_slot_panics() {
        let mut slots = Slots::new(8);
        slots.insert(Key(3, 7), ());
        slots.insert(Key(3, 8), ());
    }

    #[test]
    fn the_limit_is_the_first_rejected_index() {
        let mut slots = Slots::new(2);
        slots.insert(Key(1, 0), ());
        let beyond = std::panic::catch_unwind(move || slots.insert(Key(2, 0), ()));
        assert!(beyond.is_err());
    }

    #[test]
    fn an_arena_reuses_the_slot_freed_last_with_a_new_generation() {
        let mut arena: Arena<Key, char> = Arena::new(3);
        let [a, b, c] = ['a', 'b', 'c'].map(|value| arena.insert(value));
        assert_eq!([a, b, c], [Key(0, 0), Key(1, 0), Key(2, 0)]);
        assert!(arena.is_full());
        arena.remove(a);
        arena.remove(b);
        assert_eq!(arena.insert('d'), Key(1, 1));
        assert_eq!(arena.insert('e'), Key(0, 1));
        assert_eq!(arena.get(a), None);
        assert_eq!(arena.remove(b), None);
        assert!(arena.iter().eq([(Key(0, 1), &'e'), (Key(1, 1), &'d'), (c, &'c')]));
    }

    #[test]
    #[should_panic(expected = "arena of 1 is full")]
    fn inserting_into_a_full_arena_panics() {
        let mut arena: Arena<Key, ()> = Arena::new(1);
        arena.insert(());
        arena.insert(());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        /// An arena is a map from its keys, which all differ, and never confuses two of them.
        #[test]
        fn an_arena_agrees_with_a_map(steps in prop::collection::vec((0..3u8, any::<prop::sample::Index>()), 0..200)) {
            let mut arena: Arena<Key, u32> = Arena::new(16);
            let mut model: BTreeMap<Key, u32> = BTreeMap::new();
            let mut allotted: Vec<Key> = Vec::new();
            for (value, (step, which)) in (0..).zip(steps) {
                match step {
                    0 if !arena.is_full() => {
                        let key = arena.insert(value);
                        prop_assert!(!allotted.contains(&key));
                        allotted.push(key);
                        model.insert(key, value);
                    }
                    1 if !allotted.is_empty() => {
                        let key = *which.get(&allotted);
                        prop_assert_eq!(arena.remove(key), model.remove(&key));
                    }
                    2 if !allotted.is_empty() => {
                        let key = *which.get(&allotted);
                        if let Some(kept) = arena.get_mut(key) {
                            *kept += 1000;
                        }
                        if let Some(kept) = model.get_mut(&key) {
                            *kept += 1000;
                        }
                    }
                    _ => {}
                }
                prop_assert_eq!(arena.len(), model.len());
                prop_assert_eq!(arena.is_full(), model.len() == 16);
                for key in &allotted {
                    prop_assert_eq!(arena.get(*key), model.get(key));
                }
                prop_assert!(arena.iter().map(|(k, v)| (k, *v)).eq(model.iter().map(|(k, v)| (*k, *v))));
                prop_assert!(arena.iter_mut().map(|(k, v)| (k, *v)).eq(model.iter().map(|(k, v)| (*k, *v))));
            }
        }
    }
}
