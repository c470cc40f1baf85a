//! The source of a program's choices: a random generator, or the bytes of a fuzzer or a shrinker.

/// Makes choices.
pub trait Choose {
    /// Returns a number below `bound`, which must not be zero.
    fn below(&mut self, bound: usize) -> usize;

    /// Returns one of `all`, which must not be empty. Simple values come first, so that shrinking leads to them.
    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }
}

/// Choices from given bytes. After the last byte each choice is the first one.
#[derive(Debug)]
pub struct Written<'a>(pub &'a [u8]);

impl Written<'_> {
    /// Returns whether choices are left.
    pub fn any_left(&self) -> bool {
        !self.0.is_empty()
    }

    fn byte(&mut self) -> usize {
        match self.0.split_first() {
            Some((&first, rest)) => {
                self.0 = rest;
                first.into()
            }
            None => 0,
        }
    }
}

impl Choose for Written<'_> {
    fn below(&mut self, bound: usize) -> usize {
        let mut number = self.byte();
        if bound > 256 {
            number = number << 8 | self.byte();
        }
        number % bound
    }
}

/// Random choices, the same for the same seed (splitmix64).
#[derive(Debug)]
pub struct Random(pub u64);

impl Choose for Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ (mixed >> 31)) % bound as u64) as usize
    }
}
