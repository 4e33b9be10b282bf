//! A fixed set of slots whose handles carry a generation.
//!
//! An event for a child or a client may come after its slot was given to another (epoll returns a batch, and an
//! earlier event of the batch may close what a later one is about). Its handle then has an old generation and finds
//! nothing: late events are recognised, not believed.

use heapless::Vec;

/// Names a slot and who had it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Handle {
    pub index: u16,
    pub generation: u16,
}

struct Slot<T> {
    generation: u16,
    content: Content<T>,
}

enum Content<T> {
    Used(T),
    /// The next free slot, if there is one.
    Free(Option<u16>),
}

/// At most `N` values (`N` below 65536). Slots freed last are used first, so that what is in use stays together and
/// memory that was never needed is never touched.
pub struct Slots<T, const N: usize> {
    slots: Vec<Slot<T>, N>,
    free: Option<u16>,
    used: u16,
}

impl<T, const N: usize> Slots<T, N> {
    /// What one more slot costs.
    pub const BYTES_EACH: usize = size_of::<Slot<T>>();

    pub const fn new() -> Self {
        Slots { slots: Vec::new(), free: None, used: 0 }
    }

    pub const fn len(&self) -> usize {
        self.used as usize
    }

    pub const fn is_empty(&self) -> bool {
        self.used == 0
    }

    pub const fn is_full(&self) -> bool {
        self.used as usize >= N
    }

    /// Gives `value` a slot, or gives it back when all are in use.
    pub fn insert(&mut self, value: T) -> Result<Handle, T> {
        match self.free {
            Some(index) => {
                let Some(slot) = self.slots.get_mut(usize::from(index)) else { return Err(value) };
                let Content::Free(next) = slot.content else { return Err(value) };
                self.free = next;
                slot.content = Content::Used(value);
                self.used += 1;
                Ok(Handle { index, generation: slot.generation })
            }
            None => {
                let index = self.slots.len() as u16;
                match self.slots.push(Slot { generation: 0, content: Content::Used(value) }) {
                    Ok(()) => {
                        self.used += 1;
                        Ok(Handle { index, generation: 0 })
                    }
                    Err(Slot { content: Content::Used(value), .. }) => Err(value),
                    Err(Slot { content: Content::Free(_), .. }) => unreachable!(),
                }
            }
        }
    }

    pub fn get(&self, handle: Handle) -> Option<&T> {
        match self.slots.get(usize::from(handle.index)) {
            Some(Slot { generation, content: Content::Used(value) }) if *generation == handle.generation => {
                Some(value)
            }
            _ => None,
        }
    }

    pub fn get_mut(&mut self, handle: Handle) -> Option<&mut T> {
        match self.slots.get_mut(usize::from(handle.index)) {
            Some(Slot { generation, content: Content::Used(value) }) if *generation == handle.generation => {
                Some(value)
            }
            _ => None,
        }
    }

    pub fn remove(&mut self, handle: Handle) -> Option<T> {
        self.get(handle)?;
        let slot = self.slots.get_mut(usize::from(handle.index))?;
        slot.generation = slot.generation.wrapping_add(1);
        let content = core::mem::replace(&mut slot.content, Content::Free(self.free));
        self.free = Some(handle.index);
        self.used -= 1;
        match content {
            Content::Used(value) => Some(value),
            Content::Free(_) => None,
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = (Handle, &T)> {
        self.slots.iter().enumerate().filter_map(|(index, slot)| match &slot.content {
            Content::Used(value) => {
                Some((Handle { index: index as u16, generation: slot.generation }, value))
            }
            Content::Free(_) => None,
        })
    }

    /// The first of those for which `is` is true.
    pub fn find(&self, mut is: impl FnMut(&T) -> bool) -> Option<Handle> {
        self.iter().find(|(_, value)| is(value)).map(|(handle, _)| handle)
    }

    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.slots.iter_mut().filter_map(|slot| match &mut slot.content {
            Content::Used(value) => Some(value),
            Content::Free(_) => None,
        })
    }
}

impl<T, const N: usize> Default for Slots<T, N> {
    fn default() -> Self {
        Slots::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_handle_finds_nothing() {
        let mut slots: Slots<u8, 2> = Slots::new();
        let a = slots.insert(1).unwrap();
        let b = slots.insert(2).unwrap();
        assert_eq!(slots.insert(3), Err(3));
        assert_eq!(slots.remove(a), Some(1));
        assert_eq!(slots.remove(a), None);
        let c = slots.insert(4).unwrap();
        assert_eq!(c.index, a.index);
        assert_eq!(slots.get(a), None);
        assert_eq!(slots.get(c), Some(&4));
        assert_eq!(slots.get(b), Some(&2));
        assert_eq!(slots.len(), 2);
        assert_eq!(slots.iter().count(), 2);
    }
}
