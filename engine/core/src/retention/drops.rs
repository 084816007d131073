//! Whose copies below the start are dropped next. Pure over names and time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use crate::dropped::LeftFile;
use crate::failures::Failures;

#[derive(Debug, Default)]
pub(super) struct Drops {
    /// Had the last turn.
    last: Option<Arc<str>>,
    pub failures: Failures,
    /// Files of dropped copies that could not be removed.
    left: BTreeMap<Arc<str>, Vec<Left>>,
}

#[derive(Clone, Debug)]
pub(super) struct Left {
    pub segment_id: u64,
    pub tier: u8,
    pub file: LeftFile,
}

impl Drops {
    /// Those of `streams`, in the order of their names, whose turn it is, and when one that failed is tried again. They begin behind the
    /// one that had the last turn.
    pub fn due(
        &mut self,
        mut streams: Vec<Arc<str>>,
        now: Instant,
    ) -> (Vec<Arc<str>>, Option<Instant>) {
        streams.extend(self.left.keys().cloned());
        streams.sort();
        streams.dedup();
        self.failures.keep(|stream| streams.contains(stream));
        if let Some(last) = &self.last {
            let behind = streams.partition_point(|stream| stream <= last);
            streams.rotate_left(behind);
        }
        let later = |stream: &Arc<str>| {
            let at = self.failures.retry_at(stream);
            at.filter(|at| *at > now)
        };
        let next = streams.iter().filter_map(later).min();
        streams.retain(|stream| later(stream).is_none());
        (streams, next)
    }

    pub fn note_turn(&mut self, stream: &Arc<str>) {
        self.last = Some(stream.clone());
    }

    pub fn leave(&mut self, stream: &Arc<str>, left: Left) {
        self.left.entry(stream.clone()).or_default().push(left);
    }

    /// To be tried again.
    pub fn take_left(&mut self, stream: &str) -> Vec<Left> {
        self.left.remove(stream).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn due(drops: &mut Drops, now: Instant) -> (String, Option<Duration>) {
        let streams = ["a", "b", "c"].map(Arc::from).to_vec();
        let (streams, next) = drops.due(streams, now);
        (streams.concat(), next.map(|at| at - now))
    }

    #[test]
    fn a_stream_that_fails_rests_and_keeps_no_other_from_its_turn() {
        let now = Instant::now();
        let mut drops = Drops::default();
        assert_eq!(due(&mut drops, now), ("abc".to_owned(), None));
        drops.note_turn(&"a".into());
        assert_eq!(due(&mut drops, now), ("bca".to_owned(), None));
        let why = "no room".to_owned();
        assert!(drops.failures.note(&"b".into(), why, now));
        let pause = Duration::from_secs(1);
        assert_eq!(due(&mut drops, now), ("ca".to_owned(), Some(pause)));
        assert_eq!(due(&mut drops, now + pause), ("bca".to_owned(), None));
    }

    #[test]
    fn a_file_that_was_left_gives_its_stream_a_turn() {
        let mut drops = Drops::default();
        let stream: Arc<str> = "a".into();
        let left = Left {
            segment_id: 1,
            tier: 0,
            file: LeftFile {
                path: "there".into(),
                bytes: 1,
                map: None,
            },
        };
        drops.leave(&stream, left);
        assert_eq!(drops.due(Vec::new(), Instant::now()).0, ["a".into()]);
        assert_eq!(drops.take_left("a").len(), 1);
        assert!(drops.due(Vec::new(), Instant::now()).0.is_empty());
    }
}
