//! A list with two ends, in one block of memory.
#![allow(unsafe_code)]

use std::{alloc::handle_alloc_error, fmt, iter::Chain, ptr, ptr::NonNull, slice};

use super::{block, pool};

/// The first block holds as many items, and as many more as fit.
const FIRST: usize = 4;

/// A list of `T`, as `VecDeque` is one, for lists that are mostly empty and come and go.
///
/// Its memory is a block as those of the data, which the thread keeps for the next list; and an empty list, which is what
/// most buffers have, costs one comparison when it goes.
///
/// Rules:
///
/// 1. `slots` is a block of `memory::<T>(capacity)` bytes, or there is none and `capacity` is 0.
/// 2. `len <= capacity`, and `head < capacity` unless both are 0.
/// 3. The `len` slots from `head` on, which go on at the first slot behind the last one, hold items; the others hold none.
pub(crate) struct Ring<T> {
    slots: NonNull<T>,
    capacity: usize,
    head: usize,
    len: usize,
}

// SAFETY: it owns its items, and nothing else is in it.
unsafe impl<T: Send> Send for Ring<T> {}
// SAFETY: as for `Send`; `&Ring` only gives out `&T`.
unsafe impl<T: Sync> Sync for Ring<T> {}

/// The bytes of memory that a list of `n` items takes: a power of two.
fn memory<T>(n: usize) -> usize {
    const { assert!(size_of::<T>() > 0 && align_of::<T>() <= block::ALIGN) }
    (n.max(FIRST) * size_of::<T>()).next_power_of_two()
}

impl<T> Ring<T> {
    pub(crate) const fn new() -> Self {
        Self {
            slots: NonNull::dangling(),
            capacity: 0,
            head: 0,
            len: 0,
        }
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of memory held.
    #[inline]
    pub(crate) fn held(&self) -> usize {
        self.capacity * size_of::<T>()
    }

    /// The items in order: those up to the end of the memory, and those that go on at its start.
    #[inline]
    pub(crate) fn as_slices(&self) -> (&[T], &[T]) {
        let front = self.len.min(self.capacity - self.head);
        // SAFETY: rule 3: these slots hold items, and nobody changes them while they are borrowed.
        unsafe {
            let at_head = self.slots.add(self.head).as_ptr();
            (
                slice::from_raw_parts(at_head, front),
                slice::from_raw_parts(self.slots.as_ptr(), self.len - front),
            )
        }
    }

    #[inline]
    fn as_mut_slices(&mut self) -> (&mut [T], &mut [T]) {
        let front = self.len.min(self.capacity - self.head);
        // SAFETY: rule 3, and the two parts of the memory are apart: the second ends before `head`.
        unsafe {
            let at_head = self.slots.add(self.head).as_ptr();
            (
                slice::from_raw_parts_mut(at_head, front),
                slice::from_raw_parts_mut(self.slots.as_ptr(), self.len - front),
            )
        }
    }

    #[inline]
    pub(crate) fn iter(&self) -> Chain<slice::Iter<'_, T>, slice::Iter<'_, T>> {
        let (front, back) = self.as_slices();
        front.iter().chain(back)
    }

    #[inline]
    pub(crate) fn iter_mut(&mut self) -> Chain<slice::IterMut<'_, T>, slice::IterMut<'_, T>> {
        let (front, back) = self.as_mut_slices();
        front.iter_mut().chain(back)
    }

    #[inline]
    pub(crate) fn front(&self) -> Option<&T> {
        // SAFETY: rule 3: where there is an item, the first is at `head`.
        (self.len > 0).then(|| unsafe { self.slots.add(self.head).as_ref() })
    }

    #[inline]
    pub(crate) fn front_mut(&mut self) -> Option<&mut T> {
        // SAFETY: as in `front`.
        (self.len > 0).then(|| unsafe { self.slots.add(self.head).as_mut() })
    }

    #[inline]
    pub(crate) fn push_back(&mut self, item: T) {
        if self.len == self.capacity {
            self.grow();
        }
        // SAFETY: there is a slot behind the last item, which holds none (rule 3).
        unsafe { self.slots.add(self.slot(self.len)).write(item) };
        self.len += 1;
    }

    #[inline]
    pub(crate) fn push_front(&mut self, item: T) {
        if self.len == self.capacity {
            self.grow();
        }
        self.head = self.head.checked_sub(1).unwrap_or(self.capacity - 1);
        // SAFETY: not all slots hold items, so the one before the first item holds none (rule 3).
        unsafe { self.slots.add(self.head).write(item) };
        self.len += 1;
    }

    #[inline]
    pub(crate) fn pop_front(&mut self) -> Option<T> {
        if self.len == 0 {
            return None;
        }
        // SAFETY: the first item is at `head`, which then counts as a slot without one (rule 3).
        let item = unsafe { self.slots.add(self.head).read() };
        self.head = self.slot(1);
        self.len -= 1;
        Some(item)
    }

    /// Drops the first item, of which there is one, where it is.
    #[inline]
    pub(crate) fn drop_front(&mut self) {
        assert!(self.len > 0);
        // SAFETY: rule 3: the first item is at `head`.
        let first = unsafe { self.slots.add(self.head) };
        self.head = self.slot(1);
        self.len -= 1;
        // SAFETY: its slot counts as one without an item now, so that it is dropped only here, even if that panics.
        unsafe { first.drop_in_place() };
    }

    #[inline]
    pub(crate) fn pop_back(&mut self) -> Option<T> {
        if self.len == 0 {
            return None;
        }
        self.len -= 1;
        // SAFETY: the last item was there, in a slot that now counts as one without (rule 3).
        Some(unsafe { self.slots.add(self.slot(self.len)).read() })
    }

    /// Moves all items of `other` behind the last one.
    pub(crate) fn append(&mut self, other: &mut Self) {
        while let Some(item) = other.pop_front() {
            self.push_back(item);
        }
    }

    /// Lets go of memory that fewer items than now need not have.
    pub(crate) fn shrink_to_fit(&mut self) {
        if self.len == 0 {
            *self = Self::new();
        } else if memory::<T>(self.len) < memory::<T>(self.capacity) {
            self.reallocate(self.len);
        }
    }

    /// Where the item at position `at` is, or would be.
    #[inline]
    fn slot(&self, at: usize) -> usize {
        let slot = self.head + at;
        if slot < self.capacity {
            slot
        } else {
            slot - self.capacity
        }
    }

    #[cold]
    #[inline(never)]
    fn grow(&mut self) {
        self.reallocate(self.capacity + 1);
    }

    /// Moves the items, of which there are at most `capacity`, into a block for that many, or for a few more.
    fn reallocate(&mut self, capacity: usize) {
        let bytes = memory::<T>(capacity);
        let Ok(block) = pool::allocate(bytes) else {
            handle_alloc_error(block::layout(bytes))
        };
        let slots = block.cast::<T>();
        let (front, back) = self.as_slices();
        // SAFETY: the new block is for all items, which change their place without a trace: the old slots are only freed.
        unsafe {
            ptr::copy_nonoverlapping(front.as_ptr(), slots.as_ptr(), front.len());
            ptr::copy_nonoverlapping(back.as_ptr(), slots.add(front.len()).as_ptr(), back.len());
        }
        self.free();
        self.slots = slots;
        self.capacity = bytes / size_of::<T>();
        self.head = 0;
    }

    /// Gives the memory back, whatever is in it.
    fn free(&mut self) {
        if self.capacity > 0 {
            // SAFETY: rule 1. The caller puts another block in its place, or uses the list no more.
            unsafe { pool::free(self.slots.cast(), memory::<T>(self.capacity)) };
        }
    }

    #[cold]
    #[inline(never)]
    fn drop_all(&mut self) {
        let rest = Rest(self);
        while let Some(item) = rest.0.pop_front() {
            drop(item);
        }
    }
}

/// The end of a list, also where the drop of one of its items has panicked.
struct Rest<'a, T>(&'a mut Ring<T>);

impl<T> Drop for Rest<'_, T> {
    fn drop(&mut self) {
        while let Some(item) = self.0.pop_front() {
            drop(item);
        }
        self.0.free();
    }
}

impl<T> Drop for Ring<T> {
    #[inline]
    fn drop(&mut self) {
        if self.capacity > 0 {
            self.drop_all();
        }
    }
}

impl<T> Default for Ring<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Extend<T> for Ring<T> {
    fn extend<I: IntoIterator<Item = T>>(&mut self, items: I) {
        items.into_iter().for_each(|item| self.push_back(item));
    }
}

impl<'a, T> IntoIterator for &'a Ring<T> {
    type Item = &'a T;
    type IntoIter = Chain<slice::Iter<'a, T>, slice::Iter<'a, T>>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<T: fmt::Debug> fmt::Debug for Ring<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, rc::Rc};

    use proptest::prelude::*;

    use super::Ring;

    #[derive(Clone, Debug)]
    enum Op {
        PushBack,
        PushFront,
        PopBack,
        PopFront,
        DropFront,
        Append(usize),
        Shrink,
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            6 => Just(Op::PushBack),
            4 => Just(Op::PushFront),
            3 => Just(Op::PopBack),
            2 => Just(Op::PopFront),
            2 => Just(Op::DropFront),
            1 => (0..20_usize).prop_map(Op::Append),
            1 => Just(Op::Shrink),
        ]
    }

    proptest! {
        /// Holds the same items as the list of the standard library, in this order, and each as long.
        #[test]
        fn it_does_what_a_vec_deque_does(ops in prop::collection::vec(op(), 0..200)) {
            let item = Rc::new(());
            let numbered = |n: usize| (n, item.clone());
            let mut ring = Ring::new();
            let mut model = VecDeque::new();
            for (n, op) in ops.into_iter().enumerate() {
                match op {
                    Op::PushBack => {
                        ring.push_back(numbered(n));
                        model.push_back(n);
                    }
                    Op::PushFront => {
                        ring.push_front(numbered(n));
                        model.push_front(n);
                    }
                    Op::PopBack => {
                        prop_assert_eq!(ring.pop_back().map(|(n, _)| n), model.pop_back());
                    }
                    Op::PopFront => {
                        prop_assert_eq!(ring.pop_front().map(|(n, _)| n), model.pop_front());
                    }
                    Op::DropFront => {
                        if model.pop_front().is_some() {
                            ring.drop_front();
                        }
                    }
                    Op::Append(more) => {
                        let mut other = Ring::new();
                        other.extend((0..more).map(numbered));
                        ring.append(&mut other);
                        prop_assert!(other.is_empty());
                        model.extend(0..more);
                    }
                    Op::Shrink => ring.shrink_to_fit(),
                }
                prop_assert_eq!(ring.len(), model.len());
                prop_assert!(ring.iter().map(|(n, _)| n).eq(&model));
                prop_assert!(ring.iter_mut().map(|(n, _)| n).eq(&mut model));
                prop_assert_eq!(ring.front().map(|(n, _)| n), model.front());
                prop_assert_eq!(Rc::strong_count(&item), 1 + model.len());
            }
            drop(ring);
            prop_assert_eq!(Rc::strong_count(&item), 1);
        }
    }

    #[test]
    fn an_emptied_one_shrinks_to_nothing() {
        let mut ring = Ring::new();
        ring.extend(0..100_u64);
        while ring.pop_back().is_some() {}
        assert!(ring.held() > 0);
        ring.shrink_to_fit();
        assert_eq!(ring.held(), 0);
    }
}
