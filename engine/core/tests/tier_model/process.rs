//! Processes that end, and the next one on what they left.

use crate::disk::Lack;
use crate::fates;
use crate::image::{Image, Node as Entry, ROOT_INODE};
use crate::node::Node;
use crate::volume::{Fate, Volume};
use crate::world::World;

impl World {
    pub fn restart(&mut self) -> Result<(), String> {
        self.reader = None;
        let stopped = self.node.stop();
        if let (Err(error), false, true) = (&stopped, self.is_powerless(), self.lack.is_none()) {
            return Err(error.clone());
        }
        if !self.is_powerless() && stopped.is_ok() {
            for known in &mut self.streams {
                known.durable = known.next();
            }
        }
        if !self.is_powerless() {
            self.node.power.go(self.node.disk.volume());
        }
        self.power_on(Some(Fate::Kept))
    }

    /// The next process, on what is left. Without a fate it is drawn what of the rest is.
    pub fn power_on(&mut self, fate: Option<Fate>) -> Result<(), String> {
        self.reader = None;
        let checked = self.checks.deletions(&self.node);
        // It is over, and does nothing any more that counts.
        let _ = self.node.stop();
        checked?;
        let Some(cut) = self.node.power.take_cut() else {
            return Err("the power did not go".to_owned());
        };
        let image = self.left_of(&cut.volume, fate);
        self.memory = cut.bucket;
        self.late.extend(self.node.bucket.take_late());
        if self.dice.one_in(2) {
            self.late_arrive();
        }
        self.memory.set_unreachable(self.is_out);
        self.checks.process_ended();
        if self.lack == Some(Lack::Descriptors) {
            self.lack = None;
        }
        let has_reading = image_has_reading(&image);
        if self.stepped.is_some() && !has_reading {
            // Nothing would tell that it is wrong.
            self.step_clock(0);
        }
        let (others_bytes, config) = (self.node.disk.others_bytes(), self.config.clone());
        let Self {
            memory,
            clock,
            dice,
            ..
        } = self;
        self.node = Node::start(image, others_bytes, memory, clock, config, dice)?;
        for stream in 0..self.streams.len() {
            let end = self.info(stream).map_or(0, |info| info.next_sequence);
            self.streams[stream].recovered(end)?;
            let start = self.start(stream)?;
            self.read(stream, start, 0)?;
        }
        Ok(())
    }

    pub fn left_of(&mut self, volume: &Volume, fate: Option<Fate>) -> Image {
        let items = volume.items();
        let fates = match fate {
            Some(fate) => vec![fate; items.len()],
            None => fates::draw(&items, &mut self.dice),
        };
        volume.cut(&items, &fates)
    }
}

fn image_has_reading(image: &Image) -> bool {
    match &image.nodes[ROOT_INODE] {
        Entry::Directory(entries) => entries.contains_key("clock.json"),
        Entry::File(_) => false,
    }
}
