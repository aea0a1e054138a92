//! A fuzzer's bytes, taken from the front. What is not there reads as zero, so that every input means something.

/// What is left of an input.
pub(super) struct Input<'a>(pub(super) &'a [u8]);

impl<'a> Input<'a> {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn byte(&mut self) -> u8 {
        let Some((byte, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        *byte
    }

    /// As many bytes as the next one says.
    pub(super) fn bytes(&mut self) -> &'a [u8] {
        let len = usize::from(self.byte());
        self.take(len)
    }

    pub(super) fn take(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// One of these.
    pub(super) fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[usize::from(self.byte()) % choices.len()]
    }

    /// A chosen text, or what the input says.
    pub(super) fn text(&mut self, choices: &'static [&'static [u8]]) -> &'a [u8] {
        let choice = usize::from(self.byte());
        match choices.get(choice) {
            Some(text) => text,
            None => self.bytes(),
        }
    }

    /// The input in two: as many bytes as the next two say, and the rest.
    pub(super) fn halves(&mut self) -> (Input<'a>, Input<'a>) {
        let len = usize::from(u16::from_le_bytes([self.byte(), self.byte()]));
        let first = self.take(len);
        (Input(first), Input(std::mem::take(&mut self.0)))
    }
}
