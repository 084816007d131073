//! Volumes at the points of a recording, and what tells images apart.

use crate::recording::{Image, Node, Recording};
use crate::volume::Volume;

/// Volumes at the points of a recording.
pub struct Timeline<'a> {
    recording: &'a Recording,
    /// Every so many changes, so that no point is far from one.
    stops: Vec<Volume>,
}

const STRIDE: usize = 32;

impl<'a> Timeline<'a> {
    pub fn new(recording: &'a Recording) -> Timeline<'a> {
        let mut volume = Volume::new(&recording.base);
        let mut stops = vec![volume.clone()];
        for (index, op) in recording.ops.iter().enumerate() {
            volume.step(op);
            if (index + 1).is_multiple_of(STRIDE) {
                stops.push(volume.clone());
            }
        }
        Timeline { recording, stops }
    }

    /// After so many changes.
    pub fn at(&self, changes: usize) -> Volume {
        let stop = changes / STRIDE;
        let mut volume = self.stops[stop].clone();
        for op in &self.recording.ops[stop * STRIDE..changes] {
            volume.step(op);
        }
        volume
    }
}

impl Image {
    pub fn digest(&self) -> u64 {
        let mut digest = 0;
        let mut mix = |word: u64| {
            digest = (digest ^ word)
                .wrapping_mul(0x9E37_79B9_7F4A_7C15)
                .rotate_left(29);
        };
        for node in &self.nodes {
            match node {
                Node::File(content) => mix(content.digest(1)),
                Node::Directory(entries) => {
                    mix(2);
                    for (name, inode) in entries {
                        name.bytes().for_each(|byte| mix(byte.into()));
                        mix(*inode as u64);
                    }
                }
            }
        }
        digest
    }
}
