//! A medium that keeps what is written in memory and leaves the one below untouched.

use std::collections::HashMap;

use crate::chipset::{Medium, MediumFault};

/// Bytes that are kept together: a filesystem's usual block.
const BLOCK: u64 = 4096;
const BLOCK_LEN: usize = 4096;

/// The medium.
#[derive(Debug)]
pub(super) struct Overlay {
    below: Box<dyn Medium>,
    blocks: HashMap<u64, Box<[u8; BLOCK_LEN]>>,
}

/// The part of an access that lies in one block.
struct Part {
    block: u64,
    /// Where in the block it starts.
    start: usize,
    len: usize,
}

impl Part {
    fn of(at: u64, left: usize) -> Self {
        let start = usize::try_from(at % BLOCK).unwrap_or(0);
        Self {
            block: at / BLOCK,
            start,
            len: left.min(BLOCK_LEN - start),
        }
    }
}

impl Overlay {
    /// An overlay without writes.
    pub(super) fn new(below: Box<dyn Medium>) -> Self {
        Self {
            below,
            blocks: HashMap::new(),
        }
    }

    /// The block, with what is below where nothing was written yet. The last one may be cut short.
    fn block(&mut self, block: u64) -> Result<&mut [u8; BLOCK_LEN], MediumFault> {
        let Self { below, blocks } = self;
        if let std::collections::hash_map::Entry::Vacant(free) = blocks.entry(block) {
            let mut bytes = Box::new([0; BLOCK_LEN]);
            let at = block * BLOCK;
            let len = below.len().saturating_sub(at).min(BLOCK);
            let part = &mut bytes[..usize::try_from(len).unwrap_or(BLOCK_LEN)];
            below.read(at, part).map_err(|_| MediumFault::Unwritable)?;
            free.insert(bytes);
        }
        let bytes = blocks.get_mut(&block).ok_or(MediumFault::Unwritable)?;
        Ok(bytes)
    }
}

impl Medium for Overlay {
    fn len(&self) -> u64 {
        self.below.len()
    }

    fn read(&mut self, at: u64, bytes: &mut [u8]) -> Result<(), MediumFault> {
        if self.blocks.is_empty() {
            return self.below.read(at, bytes);
        }
        let (mut at, mut rest) = (at, bytes);
        while !rest.is_empty() {
            let part = Part::of(at, rest.len());
            let (head, tail) = rest.split_at_mut(part.len);
            match self.blocks.get(&part.block) {
                Some(block) => head.copy_from_slice(&block[part.start..part.start + part.len]),
                None => self.below.read(at, head)?,
            }
            at += part.len as u64;
            rest = tail;
        }
        Ok(())
    }

    fn write(&mut self, at: u64, bytes: &[u8]) -> Result<(), MediumFault> {
        if at.saturating_add(bytes.len() as u64) > self.len() {
            return Err(MediumFault::Unwritable);
        }
        let (mut at, mut rest) = (at, bytes);
        while !rest.is_empty() {
            let part = Part::of(at, rest.len());
            let (head, tail) = rest.split_at(part.len);
            self.block(part.block)?[part.start..part.start + part.len].copy_from_slice(head);
            at += part.len as u64;
            rest = tail;
        }
        Ok(())
    }

    /// What is in memory is to be lost anyway.
    fn flush(&mut self) -> Result<(), MediumFault> {
        Ok(())
    }
}
