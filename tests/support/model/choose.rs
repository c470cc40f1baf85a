//! Where the choices of a program come from: a generator of random numbers, or bytes that a fuzzer or a shrinker made.

/// Makes choices.
pub trait Choose {
    /// A number below `bound`, which is not zero.
    fn below(&mut self, bound: usize) -> usize;

    /// One of `all`, of which there is at least one. Simple ones come first, so that shrinking leads to them.
    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }
}

/// Choices that are written down. When the bytes are used up each choice is the first one.
#[derive(Debug)]
pub struct Written<'a>(pub &'a [u8]);

impl Written<'_> {
    /// Whether choices are left.
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
