//! The storage report as the admin API answers it: with prices, within the bytes that a reader takes.

use aof2_admin_api::storage::{
    ClassPrice, ClassStorage, Compression, MAX_REPORT_BYTES, RetentionForecast, RetentionTakes,
    RuleForecast, ShortenedForecast, StorageGrowth, StorageReport, StorageUsage, StreamStorage,
    TierStorage,
};
use aof2_core::config::{GIB, RetentionRule};
use aof2_core::storage_report::{
    Compressed, Forecast, Growth, Held, RuleShare, ShortenedShare, StorageReport as Counted,
    StreamShare, Taken, Usage,
};

use crate::config::{Price, told};

/// What the report cannot know of the store.
pub struct Priced<'a> {
    pub node: &'a str,
    /// Of all objects; `Err` says why it is not known, `Ok(None)`: there are none.
    pub class: Result<Option<String>, String>,
    pub prices: &'a [Price],
    /// Objects that nobody knows; `None`: not counted yet, or not asked for.
    pub orphans: Option<TierStorage>,
}

/// At most [`MAX_REPORT_BYTES`] long as JSON.
pub fn answer(counted: Counted, priced: &Priced<'_>) -> StorageReport {
    answer_within(counted, priced, MAX_REPORT_BYTES)
}

fn answer_within(counted: Counted, priced: &Priced<'_>, max_bytes: usize) -> StorageReport {
    let warnings = warnings(&counted, priced);
    let Counted {
        at_unix_nanos,
        suspended,
        total,
        largest,
        mut rest,
        rules,
        proposed,
        shortened,
    } = counted;
    let rules_of =
        |shares: Vec<RuleShare>| -> Vec<RuleForecast> { shares.into_iter().map(rule).collect() };
    let mut report = StorageReport {
        node: priced.node.to_owned(),
        at: time(at_unix_nanos),
        total: priced.usage(&total),
        orphans: priced.orphans,
        streams: Vec::new(),
        // The longest that it can become.
        rest: Some(priced.usage(&total)),
        rules: rules_of(rules),
        proposed_rules: proposed.map(rules_of),
        shortened: shortened.map(|shares| shares.iter().map(shortened_by).collect()),
        suspended,
        prices: priced.prices.iter().map(price).collect(),
        warnings,
    };
    let mut room = max_bytes.saturating_sub(json_bytes(&report));
    let mut streams = largest.into_iter();
    for share in streams.by_ref() {
        let stream = priced.stream(&share);
        // With a comma.
        let bytes = json_bytes(&stream) + 1;
        if bytes > room {
            rest.add(&share.usage);
            break;
        }
        room -= bytes;
        report.streams.push(stream);
    }
    streams.for_each(|share| rest.add(&share.usage));
    report.rest = (rest.streams > 0).then(|| priced.usage(&rest));
    report
}

fn json_bytes(value: &impl serde::Serialize) -> usize {
    serde_json::to_vec(value).map_or(usize::MAX, |json| json.len())
}

impl Priced<'_> {
    fn stream(&self, share: &StreamShare) -> StreamStorage {
        StreamStorage {
            name: share.name.to_string(),
            start_sequence: share.start_sequence,
            usage: self.usage(&share.usage),
        }
    }

    fn usage(&self, usage: &Usage) -> StorageUsage {
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
            oldest_object: _,
            newest_object: _,
            retention,
            proposed,
        } = usage;
        let monthly_cost = self.monthly_cost(usage);
        let classes = (cold.objects > 0).then(|| ClassStorage {
            class: self.class.clone().ok().flatten(),
            objects: cold.objects,
            bytes: cold.bytes,
            monthly_cost,
        });
        StorageUsage {
            streams: *streams,
            records: *records,
            readable_bytes: *readable_bytes,
            hot: tier(*hot),
            warm: tier(*warm),
            cold: tier(*cold),
            classes: classes.into_iter().collect(),
            objects_of_unknown_size: *unsized_objects,
            compression: compression(*compressed),
            growth: growth.map(growth_of),
            oldest_record_at: oldest_unix_nanos.map(time),
            retention: forecast(*retention),
            proposed_retention: proposed.map(forecast),
            monthly_cost,
        }
    }

    /// `None` where something of it is not known.
    fn monthly_cost(&self, usage: &Usage) -> Option<f64> {
        if self.prices.is_empty() || usage.unsized_objects > 0 {
            return None;
        }
        if usage.cold.objects == 0 {
            return Some(0.0);
        }
        let price = self.price()?;
        Some(usage.cold.bytes as f64 / GIB as f64 * price.per_gib_month())
    }

    fn price(&self) -> Option<&Price> {
        let class = self.class.as_ref().ok()?.as_ref()?;
        self.prices.iter().find(|price| price.class == *class)
    }
}

fn warnings(counted: &Counted, priced: &Priced<'_>) -> Vec<String> {
    let mut warnings = unused(&counted.rules, "retention rule");
    if let Some(proposed) = &counted.proposed {
        warnings.extend(unused(proposed, "proposed retention rule"));
        if proposed.is_empty() {
            warnings.push(
                "the request has no retention rule: everything would be kept; add [[retention]] tables"
                    .to_owned(),
            );
        }
    }
    let Usage {
        cold,
        unsized_objects,
        ..
    } = counted.total;
    match &priced.class {
        Err(why) if cold.objects > 0 => {
            warnings.push(format!("storage class of the objects is unknown: {why}"));
        }
        Ok(Some(class)) if !priced.prices.is_empty() && priced.price().is_none() => {
            warnings.push(format!(
                "storage class {class} has no price; add a [[report.price]] table with class = \"{class}\""
            ));
        }
        Ok(_) | Err(_) => {}
    }
    if unsized_objects > 0 {
        warnings.push(format!(
            "{unsized_objects} objects have no size in the manifest and count for no bytes and no cost"
        ));
    }
    warnings
}

fn unused(rules: &[RuleShare], what: &str) -> Vec<String> {
    let unused = rules.iter().filter(|rule| rule.fitting_streams == 0);
    let warning = |share: &RuleShare| {
        let pattern = &share.rule.streams;
        format!(
            "{what} \"{pattern}\" fits no stream of this node, or each fits an earlier rule; check the pattern"
        )
    };
    unused.map(warning).collect()
}

fn tier(held: Held) -> TierStorage {
    let Held { objects, bytes } = held;
    TierStorage { objects, bytes }
}

fn compression(compressed: Compressed) -> Option<Compression> {
    let Compressed {
        uncompressed_bytes,
        compressed_bytes,
    } = compressed;
    (compressed_bytes > 0).then(|| Compression {
        uncompressed_bytes,
        compressed_bytes,
        ratio: uncompressed_bytes as f64 / compressed_bytes as f64,
    })
}

fn growth_of(growth: Growth) -> StorageGrowth {
    let Growth {
        bytes_per_day,
        window_seconds,
        streams,
    } = growth;
    StorageGrowth {
        bytes_per_day,
        window_seconds,
        streams,
    }
}

fn forecast(forecast: Forecast) -> RetentionForecast {
    let Forecast {
        now,
        in_7_days,
        in_30_days,
    } = forecast;
    RetentionForecast {
        now: takes(now),
        in_7_days: takes(in_7_days),
        in_30_days: takes(in_30_days),
    }
}

fn takes(taken: Taken) -> RetentionTakes {
    let Taken {
        segments,
        records,
        bytes,
        cold_bytes,
    } = taken;
    RetentionTakes {
        segments,
        records,
        bytes,
        cold_bytes,
    }
}

fn rule(share: RuleShare) -> RuleForecast {
    let RuleShare {
        rule:
            RetentionRule {
                streams,
                max_age,
                max_bytes,
            },
        fitting_streams,
        forecast: taken,
    } = share;
    RuleForecast {
        streams,
        max_age_seconds: max_age.map(|age| age.as_secs()),
        max_bytes,
        fitting_streams,
        takes: forecast(taken),
    }
}

fn shortened_by(share: &ShortenedShare) -> ShortenedForecast {
    let ShortenedShare { change, beyond } = share;
    ShortenedForecast {
        change: told(change),
        takes: forecast(*beyond),
    }
}

fn price(price: &Price) -> ClassPrice {
    ClassPrice {
        class: price.class.clone(),
        per_gib_month: price.per_gib_month(),
    }
}

/// RFC 3339 with milliseconds, UTC.
pub fn time(unix_nanos: i64) -> String {
    match jiff::Timestamp::from_nanosecond(unix_nanos.into()) {
        Ok(timestamp) => format!("{timestamp:.3}"),
        Err(_) => format!("{unix_nanos} ns"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use aof2_core::retention::shortened::Shortened;

    use super::*;

    fn prices() -> Vec<Price> {
        [("STANDARD", 23_000_000), ("GLACIER", 4_000_000)]
            .into_iter()
            .map(|(class, nanos_per_gib_month)| Price {
                class: class.to_owned(),
                nanos_per_gib_month,
            })
            .collect()
    }

    fn priced<'a>(class: Result<Option<&str>, &str>, prices: &'a [Price]) -> Priced<'a> {
        Priced {
            node: "orders-0",
            class: class
                .map(|class| class.map(str::to_owned))
                .map_err(str::to_owned),
            prices,
            orphans: None,
        }
    }

    /// Every figure at its longest.
    fn usage(streams: u64, cold_bytes: u64) -> Usage {
        let taken = Taken {
            segments: 100_000,
            records: u64::MAX / 10_000,
            bytes: u64::MAX / 10_000,
            cold_bytes: u64::MAX / 10_000,
        };
        let forecast = Forecast {
            now: taken,
            in_7_days: taken,
            in_30_days: taken,
        };
        let held = Held {
            objects: 100_000,
            bytes: cold_bytes,
        };
        Usage {
            streams,
            records: u64::MAX / 10_000,
            readable_bytes: u64::MAX / 10_000,
            hot: held,
            warm: held,
            cold: held,
            compressed: Compressed {
                uncompressed_bytes: u64::MAX / 10_000,
                compressed_bytes: u64::MAX / 30_000,
            },
            growth: Some(Growth {
                bytes_per_day: u64::MAX / 10_000,
                window_seconds: 604_800,
                streams,
            }),
            oldest_unix_nanos: Some(1),
            retention: forecast,
            proposed: Some(forecast),
            ..Usage::default()
        }
    }

    fn counted(streams: u64, rules: u64) -> Counted {
        let name = |number: u64| format!("{number:063}");
        let largest: Vec<StreamShare> = (0..streams)
            .map(|number| StreamShare {
                name: name(number).into(),
                start_sequence: u64::MAX,
                usage: usage(1, GIB),
            })
            .collect();
        let mut total = Usage::default();
        largest.iter().for_each(|share| total.add(&share.usage));
        let rules: Vec<RuleShare> = (0..rules)
            .map(|number| RuleShare {
                rule: RetentionRule {
                    streams: format!("{}*", name(number)),
                    max_age: Some(Duration::from_secs(3_153_600_000)),
                    max_bytes: Some(u64::MAX),
                },
                fitting_streams: 0,
                forecast: usage(1, 1).retention,
            })
            .collect();
        let shortened = rules.iter().map(|share| ShortenedShare {
            change: Shortened {
                streams: share.rule.streams.clone(),
                from: Some(share.rule.clone()),
                to: share.rule.clone(),
            },
            beyond: share.forecast,
        });
        Counted {
            at_unix_nanos: 1_796_000_000_000_000_000,
            suspended: None,
            total,
            largest,
            rest: Usage::default(),
            proposed: Some(rules.clone()),
            shortened: Some(shortened.collect()),
            rules,
        }
    }

    #[test]
    fn an_answer_about_thousands_of_streams_and_rules_has_its_bound_and_leaves_nothing_out() {
        let prices = prices();
        for rules in [0, 64] {
            let priced = priced(Ok(Some("STANDARD")), &prices);
            let report = answer(counted(5000, rules), &priced);
            let bytes = json_bytes(&report);
            assert!(bytes <= MAX_REPORT_BYTES, "{bytes} bytes");
            assert!(
                report.streams.len() > 40,
                "{} streams",
                report.streams.len()
            );
            let rest = report.rest.expect("a rest");
            assert_eq!(rest.streams + report.streams.len() as u64, 5000);
            let described: u64 = report.streams.iter().map(|it| it.usage.cold.bytes).sum();
            assert_eq!(described + rest.cold.bytes, report.total.cold.bytes);
            assert_eq!(report.total.cold.bytes, 5000 * GIB);
            assert_eq!(
                report.warnings.len() as u64,
                2 * rules + u64::from(rules == 0)
            );
        }
        // What fits is all described.
        let report = answer(counted(40, 0), &priced(Ok(None), &[]));
        assert_eq!((report.streams.len(), report.rest), (40, None));
        let none = answer_within(counted(3, 0), &priced(Ok(None), &[]), 0);
        assert!(none.streams.is_empty());
        assert_eq!(none.rest, Some(none.total));
    }

    #[test]
    fn a_cost_is_what_the_class_of_the_objects_costs_and_absent_where_a_part_is_not_known() {
        let prices = prices();
        let cost = |class, prices: &[Price], usage: &Usage| {
            let told = priced(class, prices).usage(usage);
            let of_class = told.classes.first().and_then(|class| class.monthly_cost);
            assert_eq!(
                told.monthly_cost,
                of_class.or(told.monthly_cost.filter(|it| *it == 0.0))
            );
            told.monthly_cost
        };
        let ten = usage(1, 10 * GIB);
        let near = |cost: Option<f64>, expected: f64| {
            assert!(
                cost.is_some_and(|cost| (cost - expected).abs() < 1e-9),
                "{cost:?}"
            );
        };
        near(cost(Ok(Some("STANDARD")), &prices, &ten), 0.23);
        near(cost(Ok(Some("GLACIER")), &prices, &ten), 0.04);
        assert_eq!(cost(Ok(Some("SNOW")), &prices, &ten), None);
        assert_eq!(cost(Err("it does not answer"), &prices, &ten), None);
        assert_eq!(cost(Ok(Some("STANDARD")), &[], &ten), None);
        let unsized_object = Usage {
            unsized_objects: 1,
            ..ten
        };
        assert_eq!(cost(Ok(Some("STANDARD")), &prices, &unsized_object), None);
        assert_eq!(cost(Ok(None), &prices, &Usage::default()), Some(0.0));
    }

    #[test]
    fn what_is_missing_is_told_with_a_remedy() {
        let prices = prices();
        let told =
            |class, prices: &[Price], counted| answer(counted, &priced(class, prices)).warnings;
        let mut one = counted(1, 1);
        one.total.unsized_objects = 3;
        assert_eq!(
            told(Ok(Some("SNOW")), &prices, one),
            [
                format!("retention rule \"{:063}*\" fits no stream of this node, or each fits an earlier rule; check the pattern", 0),
                format!("proposed retention rule \"{:063}*\" fits no stream of this node, or each fits an earlier rule; check the pattern", 0),
                "storage class SNOW has no price; add a [[report.price]] table with class = \"SNOW\"".to_owned(),
                "3 objects have no size in the manifest and count for no bytes and no cost".to_owned(),
            ]
        );
        let none =
            "the request has no retention rule: everything would be kept; add [[retention]] tables";
        assert_eq!(
            told(Err("Tier 2 is slow"), &[], counted(1, 0)),
            [
                none,
                "storage class of the objects is unknown: Tier 2 is slow"
            ]
        );
        assert_eq!(told(Ok(Some("SNOW")), &[], counted(1, 0)), [none]);
    }
}
