//! Bytes of a file in memory: pages that hold something are shared between copies, pages of zeroes are not kept at all.

use std::collections::BTreeMap;
use std::sync::Arc;

pub const SECTOR_BYTES: u64 = 512;
const PAGE_BYTES: usize = 4096;

type Page = [u8; PAGE_BYTES];

const ZEROES: Page = [0; PAGE_BYTES];

pub fn is_zero(bytes: &[u8]) -> bool {
    bytes
        .chunks(PAGE_BYTES)
        .all(|part| part == &ZEROES[..part.len()])
}

#[derive(Clone, Debug, Default)]
pub struct Content {
    pages: BTreeMap<u64, Arc<Page>>,
    length: u64,
}

/// Page number, first and last offset within the page, for every page that a range touches.
fn pages_of(offset: u64, length: u64) -> impl Iterator<Item = (u64, usize, usize)> {
    let page = PAGE_BYTES as u64;
    let end = offset + length;
    (offset / page..end.div_ceil(page)).map(move |number| {
        let start = number * page;
        let from = offset.saturating_sub(start) as usize;
        let to = (end - start).min(page) as usize;
        (number, from, to)
    })
}

impl Content {
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Up to where there is anything but zeroes, at most.
    #[allow(dead_code)] // not in every test program
    pub fn bytes(&self) -> Vec<u8> {
        let last = self.pages.last_key_value().map_or(0, |(last, _)| last + 1);
        let mut bytes = vec![0; (last * PAGE_BYTES as u64).min(self.length) as usize];
        self.read(&mut bytes, 0);
        bytes
    }

    /// Reads up to the end of the file.
    pub fn read(&self, buffer: &mut [u8], offset: u64) -> usize {
        let available = self.length.saturating_sub(offset).min(buffer.len() as u64);
        let buffer = &mut buffer[..available as usize];
        buffer.fill(0);
        if available == 0 {
            return 0;
        }
        let page = PAGE_BYTES as u64;
        let last = (offset + available - 1) / page;
        for (number, bytes) in self.pages.range(offset / page..=last) {
            let start = number * page;
            let from = offset.saturating_sub(start) as usize;
            let to = (offset + available - start).min(page) as usize;
            let at = (start + from as u64 - offset) as usize;
            buffer[at..at + to - from].copy_from_slice(&bytes[from..to]);
        }
        available as usize
    }

    pub fn write(&mut self, bytes: &[u8], offset: u64) {
        for (number, from, to) in pages_of(offset, bytes.len() as u64) {
            let at = (number * PAGE_BYTES as u64 + from as u64 - offset) as usize;
            let part = &bytes[at..at + to - from];
            match self.pages.get_mut(&number) {
                Some(page) => Arc::make_mut(page)[from..to].copy_from_slice(part),
                None if is_zero(part) => {}
                None => {
                    let mut page = Arc::new(ZEROES);
                    Arc::make_mut(&mut page)[from..to].copy_from_slice(part);
                    self.pages.insert(number, page);
                }
            }
        }
        self.length = self.length.max(offset + bytes.len() as u64);
    }

    /// Like a write of zeroes.
    pub fn zero(&mut self, offset: u64, length: u64) {
        let touched: Vec<u64> = self
            .pages
            .range(offset / PAGE_BYTES as u64..(offset + length).div_ceil(PAGE_BYTES as u64))
            .map(|(number, _)| *number)
            .collect();
        for (number, from, to) in
            pages_of(offset, length).filter(|(number, _, _)| touched.binary_search(number).is_ok())
        {
            if (from, to) == (0, PAGE_BYTES) {
                self.pages.remove(&number);
            } else if let Some(page) = self.pages.get_mut(&number) {
                Arc::make_mut(page)[from..to].fill(0);
            }
        }
        self.length = self.length.max(offset + length);
    }

    pub fn grow(&mut self, length: u64) {
        self.length = self.length.max(length);
    }

    /// Longer: zeroes. Shorter: what lay behind is gone, and reads as zeroes if the file grows again.
    pub fn set_length(&mut self, length: u64) {
        if length < self.length {
            let behind = self.length - length;
            self.zero(length, behind);
        }
        self.length = length;
    }

    /// Takes over the bytes of one sector.
    pub fn take_sector(&mut self, other: &Content, sector: u64) {
        let offset = sector * SECTOR_BYTES;
        let (number, from) = (
            offset / PAGE_BYTES as u64,
            (offset % PAGE_BYTES as u64) as usize,
        );
        let to = from + SECTOR_BYTES as usize;
        match other.pages.get(&number) {
            None => {
                if let Some(page) = self.pages.get_mut(&number) {
                    Arc::make_mut(page)[from..to].fill(0);
                }
            }
            Some(theirs) => {
                let page = self.pages.entry(number).or_insert_with(|| Arc::new(ZEROES));
                if !Arc::ptr_eq(page, theirs) {
                    Arc::make_mut(page)[from..to].copy_from_slice(&theirs[from..to]);
                }
            }
        }
    }

    /// Tells contents apart. Not cryptographic.
    pub fn digest(&self, mut digest: u64) -> u64 {
        const ODD: u64 = 0x9E37_79B9_7F4A_7C15;
        let mut mix = |word: u64| digest = (digest ^ word).wrapping_mul(ODD).rotate_left(29);
        mix(self.length);
        for (number, page) in &self.pages {
            if is_zero(&page[..]) {
                continue;
            }
            let (words, _) = page.as_chunks::<8>();
            mix(*number);
            for word in words {
                mix(u64::from_le_bytes(*word));
            }
        }
        digest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(content: &Content) -> Vec<u8> {
        let mut bytes = vec![9; content.length() as usize];
        assert_eq!(content.read(&mut bytes, 0), bytes.len());
        bytes
    }

    #[test]
    fn content_does_what_a_vector_does() {
        let mut dice = crate::dice::Dice::new(7);
        for _ in 0..200 {
            let (mut content, mut expected) = (Content::default(), Vec::new());
            for _ in 0..12 {
                let (offset, length) = (dice.below(20_000), dice.below(9_000));
                let end = (offset + length) as usize;
                match dice.below(4) {
                    0 | 1 => {
                        let fill = dice.below(3) as u8;
                        content.write(&vec![fill; length as usize], offset);
                        expected.resize(expected.len().max(end), 0);
                        expected[offset as usize..end].fill(fill);
                    }
                    2 => {
                        content.zero(offset, length);
                        expected.resize(expected.len().max(end), 0);
                        expected[offset as usize..end].fill(0);
                    }
                    _ => {
                        content.set_length(offset);
                        expected.resize(offset as usize, 0);
                    }
                }
                assert_eq!(bytes(&content), expected);
            }
            let mut copy = Content::default();
            copy.set_length(content.length());
            for sector in 0..content.length().div_ceil(SECTOR_BYTES) {
                copy.take_sector(&content, sector);
            }
            assert_eq!(bytes(&copy), expected);
            assert_eq!(copy.digest(0), content.digest(0));
        }
    }
}
