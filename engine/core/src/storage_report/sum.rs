//! Sums over streams, and the largest of them. No I/O, no clock.

use std::cmp::Reverse;
use std::sync::Arc;

use super::forecast::Forecast;
use super::growth::Growth;
use super::{Compressed, DatedObject, Held, StreamShare};

/// Of one stream, or of several.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub streams: u64,
    /// That can be read, staged ones included.
    pub records: u64,
    /// What these take uncompressed, as rules of retention count them.
    pub readable_bytes: u64,
    /// Files in Tier 0, open ones included.
    pub hot: Held,
    pub warm: Held,
    /// Without the bytes of objects whose size the manifest does not say.
    pub cold: Held,
    pub unsized_objects: u64,
    pub compressed: Compressed,
    /// `None`: measured of no stream.
    pub growth: Option<Growth>,
    /// When the oldest record was appended, or an older one of its segment.
    pub oldest_unix_nanos: Option<i64>,
    pub oldest_object: Option<DatedObject>,
    pub newest_object: Option<DatedObject>,
    /// By the rules in force.
    pub retention: Forecast,
    pub proposed: Option<Forecast>,
}

impl Usage {
    pub fn add(&mut self, other: &Usage) {
        let Usage {
            streams,
            records,
            readable_bytes,
            hot,
            warm,
            cold,
            unsized_objects,
            compressed,
            growth,
            oldest_unix_nanos,
            oldest_object,
            newest_object,
            retention,
            proposed,
        } = other;
        self.streams += streams;
        self.records += records;
        self.readable_bytes += readable_bytes;
        self.hot.add(*hot);
        self.warm.add(*warm);
        self.cold.add(*cold);
        self.unsized_objects += unsized_objects;
        self.compressed.uncompressed_bytes += compressed.uncompressed_bytes;
        self.compressed.compressed_bytes += compressed.compressed_bytes;
        if let Some(growth) = growth {
            self.growth.get_or_insert_default().add(*growth);
        }
        let oldest = [self.oldest_unix_nanos, *oldest_unix_nanos];
        self.oldest_unix_nanos = oldest.into_iter().flatten().min();
        let at = |object: &&DatedObject| object.sealed_unix_nanos;
        let oldest = self
            .oldest_object
            .iter()
            .chain(oldest_object)
            .min_by_key(at);
        self.oldest_object = oldest.cloned();
        let newest = self
            .newest_object
            .iter()
            .chain(newest_object)
            .max_by_key(at);
        self.newest_object = newest.cloned();
        self.retention.add(*retention);
        if let Some(proposed) = proposed {
            self.proposed.get_or_insert_default().add(*proposed);
        }
    }

    /// In all tiers.
    fn stored_bytes(&self) -> u64 {
        self.hot.bytes + self.warm.bytes + self.cold.bytes
    }
}

/// The largest of the streams that were taken so far, with the sum of all others.
pub(super) struct Largest {
    most: usize,
    kept: Vec<StreamShare>,
    rest: Usage,
}

impl Largest {
    pub fn new(most: usize) -> Largest {
        Largest {
            most,
            kept: Vec::new(),
            rest: Usage::default(),
        }
    }

    pub fn take(&mut self, stream: StreamShare) {
        self.kept.push(stream);
        // Twice as many, so that sorting is rare.
        if self.kept.len() > 2 * self.most {
            self.cut();
        }
    }

    fn cut(&mut self) {
        self.kept.sort_by_key(order);
        let most = self.most.min(self.kept.len());
        for stream in self.kept.drain(most..) {
            self.rest.add(&stream.usage);
        }
    }

    /// The sum of all, the largest, and the sum of the rest.
    pub fn end(mut self) -> (Usage, Vec<StreamShare>, Usage) {
        self.cut();
        let mut total = self.rest.clone();
        for stream in &self.kept {
            total.add(&stream.usage);
        }
        (total, self.kept, self.rest)
    }
}

/// Ascending: what stands in front is described.
fn order(stream: &StreamShare) -> (Reverse<(u64, u64)>, Arc<str>) {
    let usage = &stream.usage;
    let proposed = usage.proposed.map_or(0, |taken| taken.in_30_days.bytes);
    (
        Reverse((proposed, usage.stored_bytes())),
        stream.name.clone(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage_report::Taken;

    fn stream(number: u64, bytes: u64, proposed: Option<u64>) -> StreamShare {
        let object = |sealed_unix_nanos| {
            Some(DatedObject {
                sealed_unix_nanos,
                key: format!("k{sealed_unix_nanos}"),
            })
        };
        StreamShare {
            name: format!("s{number}").into(),
            start_sequence: 0,
            usage: Usage {
                streams: 1,
                records: number,
                cold: Held { objects: 1, bytes },
                oldest_unix_nanos: Some(-(number as i64)),
                oldest_object: object(number as i64),
                newest_object: object(number as i64),
                growth: number.is_multiple_of(2).then_some(Growth {
                    bytes_per_day: 1,
                    window_seconds: number,
                    streams: 1,
                }),
                proposed: proposed.map(|bytes| Forecast {
                    in_30_days: Taken {
                        bytes,
                        ..Taken::default()
                    },
                    ..Forecast::default()
                }),
                ..Usage::default()
            },
        }
    }

    fn names(streams: &[StreamShare]) -> Vec<&str> {
        streams.iter().map(|stream| &*stream.name).collect()
    }

    #[test]
    fn the_largest_stay_and_the_rest_is_summed_whatever_their_order() {
        let sizes = [5, 9, 1, 9, 7, 3, 2, 8];
        let mut streams: Vec<StreamShare> = (0..)
            .zip(sizes)
            .map(|(number, bytes)| stream(number, bytes, None))
            .collect();
        for turn in 0..sizes.len() {
            streams.rotate_left(turn);
            let mut largest = Largest::new(3);
            streams.iter().cloned().for_each(|it| largest.take(it));
            let (total, kept, rest) = largest.end();
            assert_eq!(names(&kept), ["s1", "s3", "s7"]);
            assert_eq!((total.streams, rest.streams), (8, 5));
            assert_eq!((total.cold.bytes, rest.cold.bytes), (44, 18));
            assert_eq!((total.records, rest.records), (28, 17));
            assert_eq!(
                total.growth.map(|it| (it.bytes_per_day, it.streams)),
                Some((4, 4))
            );
            assert_eq!(total.oldest_unix_nanos, Some(-7));
            let key = |object: Option<DatedObject>| object.map(|object| object.key);
            assert_eq!(key(total.oldest_object).as_deref(), Some("k0"));
            assert_eq!(key(total.newest_object).as_deref(), Some("k7"));
        }
    }

    #[test]
    fn no_stream_is_described_where_only_the_sum_is_asked_for() {
        let mut largest = Largest::new(0);
        largest.take(stream(1, 5, None));
        largest.take(stream(2, 6, None));
        let (total, kept, rest) = largest.end();
        assert!(kept.is_empty());
        assert_eq!(total, rest);
        assert_eq!(total.cold.bytes, 11);
    }

    #[test]
    fn with_proposed_rules_those_are_first_of_which_they_take_most() {
        let mut largest = Largest::new(2);
        for it in [
            stream(1, 50, Some(0)),
            stream(2, 5, Some(7)),
            stream(3, 6, Some(7)),
            stream(4, 1, Some(9)),
        ] {
            largest.take(it);
        }
        let (total, kept, rest) = largest.end();
        assert_eq!(names(&kept), ["s4", "s3"]);
        let taken = |usage: Usage| usage.proposed.map(|taken| taken.in_30_days.bytes);
        assert_eq!((taken(total), taken(rest)), (Some(23), Some(7)));
    }
}
