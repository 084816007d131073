//! `report`: the storage report.

use std::path::Path;

use aof2_admin_api::storage::{
    RetentionForecast, RetentionTakes, RuleForecast, StorageReport, StorageUsage, StreamStorage,
    TierStorage,
};

use crate::cli::{Connection, ReportArguments};
use crate::exit::{Failure, Outcome};
use crate::render::{self, Column};

pub async fn run(connection: &Connection, arguments: ReportArguments) -> Result<Outcome, Failure> {
    let ReportArguments {
        stream,
        limit,
        retention,
    } = arguments;
    let rules = retention.as_deref().map(read).transpose()?;
    let admin = super::admin(connection)?;
    let report = admin
        .storage_report(stream.as_deref(), Some(limit), rules.as_deref())
        .await?;
    if connection.json {
        render::json(&report)?;
    } else {
        render::line(&page(&report, jiff::Timestamp::now()))?;
    }
    Ok(Outcome::Clean)
}

fn read(file: &Path) -> Result<String, Failure> {
    let text = match file.to_str() {
        Some("-") => std::io::read_to_string(std::io::stdin()),
        _ => std::fs::read_to_string(file),
    };
    text.map_err(|error| Failure::Usage(format!("cannot read {}: {error}", file.display())))
}

fn page(report: &StorageReport, now: jiff::Timestamp) -> String {
    let StorageReport {
        node,
        at,
        total,
        orphans,
        streams,
        rest,
        rules,
        proposed_rules,
        // For programs, in --json.
        shortened: _,
        suspended,
        prices: _,
        warnings,
    } = report;
    let mut parts = vec![render::pairs(summary(node, at, total, now))];
    if !streams.is_empty() {
        parts.push(stream_table(streams, rest.as_ref(), now));
    }
    parts.extend(retention_part(
        "retention takes, of what is stored and sealed now:",
        total.retention,
        rules,
    ));
    if let Some(proposed) = proposed_rules {
        parts.extend(retention_part(
            "the rules of the file would take, of what is stored and sealed now:",
            total.proposed_retention.unwrap_or_default(),
            proposed,
        ));
    }
    let mut notes: Vec<String> = suspended
        .iter()
        .map(|why| format!("SUSPENDED: {why}"))
        .collect();
    if let Some(TierStorage {
        objects: objects @ 1..,
        bytes,
    }) = orphans
    {
        let bytes = render::bytes(*bytes);
        notes.push(format!(
            "ORPHANS: {objects} objects, {bytes}, that no manifest and no catalogue names are in no figure above; tier2.orphans = \"Delete\" deletes them"
        ));
    }
    notes.extend(warnings.iter().map(|warning| format!("WARNING: {warning}")));
    if !notes.is_empty() {
        parts.push(notes.join("\n"));
    }
    parts.join("\n\n")
}

fn summary(
    node: &str,
    at: &str,
    total: &StorageUsage,
    now: jiff::Timestamp,
) -> Vec<(&'static str, String)> {
    let StorageUsage {
        streams,
        records,
        readable_bytes,
        hot,
        warm,
        cold,
        classes,
        objects_of_unknown_size: _,
        compression,
        growth,
        oldest_record_at,
        retention: _,
        proposed_retention: _,
        monthly_cost,
    } = total;
    let mut rows = vec![
        ("node", format!("{node}, {}", render::moment(at, now))),
        (
            "streams",
            format!(
                "{streams} with {records} records, {} uncompressed",
                render::bytes(*readable_bytes)
            ),
        ),
        (
            "tier 0",
            format!("{} in {} files", render::bytes(hot.bytes), hot.objects),
        ),
        (
            "tier 1",
            format!("{} in {} files", render::bytes(warm.bytes), warm.objects),
        ),
        (
            "tier 2",
            format!("{} in {} objects", render::bytes(cold.bytes), cold.objects),
        ),
    ];
    rows.extend(classes.iter().map(|of_class| {
        let class = match &of_class.class {
            Some(class) => format!("class {class}"),
            None => "class unknown".to_owned(),
        };
        let costs = of_class.monthly_cost.map(costs);
        let costs = costs.map_or_else(String::new, |costs| format!(", {costs}"));
        ("", format!("{class}{costs}"))
    }));
    // Without objects there is no class to say it.
    if let (true, Some(none)) = (classes.is_empty(), monthly_cost) {
        rows.push(("", costs(*none)));
    }
    rows.push((
        "compression",
        match compression {
            Some(it) => format!(
                "{:.2}, {} to {}",
                it.ratio,
                render::bytes(it.uncompressed_bytes),
                render::bytes(it.compressed_bytes)
            ),
            None => "no segment is compressed".to_owned(),
        },
    ));
    rows.push((
        "growth",
        match growth {
            Some(growth) => format!(
                "{} a day uncompressed, measured over {}{}",
                render::bytes(growth.bytes_per_day),
                render::length(i64::try_from(growth.window_seconds).unwrap_or(i64::MAX)),
                match growth.streams == *streams {
                    true => String::new(),
                    false => format!(" in {} of the streams", growth.streams),
                }
            ),
            None => "not measured, that takes an hour of records".to_owned(),
        },
    ));
    let oldest = oldest_record_at.as_ref();
    rows.extend(oldest.map(|oldest| ("oldest", render::moment(oldest, now))));
    rows
}

fn stream_table(
    streams: &[StreamStorage],
    rest: Option<&StorageUsage>,
    now: jiff::Timestamp,
) -> String {
    let all = || streams.iter().map(|stream| &stream.usage).chain(rest);
    let has_cost = all().any(|usage| usage.monthly_cost.is_some());
    let has_proposed = all().any(|usage| usage.proposed_retention.is_some());
    let mut columns = vec![
        Column::Text("STREAM"),
        Column::Number("START"),
        Column::Number("OLDEST"),
        Column::Number("SIZE"),
        Column::Number("HOT"),
        Column::Number("WARM"),
        Column::Number("COLD"),
        Column::Number("RATIO"),
        Column::Number("A DAY"),
    ];
    columns.extend([
        Column::Number(match has_proposed {
            true => "WOULD GO",
            false => "GOES NOW",
        }),
        Column::Number("7 DAYS"),
        Column::Number("30 DAYS"),
    ]);
    if has_cost {
        columns.push(Column::Number("A MONTH"));
    }
    let row = |name: String, start: String, usage: &StorageUsage| {
        let unknown = || "-".to_owned();
        let oldest = usage.oldest_record_at.as_ref();
        let mut row = vec![
            name,
            start,
            oldest.map_or_else(unknown, |oldest| render::age(oldest, now)),
            render::bytes(usage.readable_bytes),
            render::bytes(usage.hot.bytes),
            render::bytes(usage.warm.bytes),
            render::bytes(usage.cold.bytes),
            usage
                .compression
                .map_or_else(unknown, |it| format!("{:.2}", it.ratio)),
            usage
                .growth
                .map_or_else(unknown, |growth| render::bytes(growth.bytes_per_day)),
        ];
        row.extend(goes(usage.proposed_retention.unwrap_or(usage.retention)));
        if has_cost {
            row.push(usage.monthly_cost.map_or_else(unknown, cost));
        }
        row
    };
    let rows = streams.iter().map(|stream| {
        row(
            stream.name.clone(),
            stream.start_sequence.to_string(),
            &stream.usage,
        )
    });
    let others = rest.map(|rest| {
        let name = format!("{} others", rest.streams);
        row(name, "-".to_owned(), rest)
    });
    render::table(&columns, rows.chain(others))
}

fn goes(forecast: RetentionForecast) -> [String; 3] {
    let RetentionForecast {
        now,
        in_7_days,
        in_30_days,
    } = forecast;
    [now, in_7_days, in_30_days].map(|takes| match takes.bytes {
        0 => "-".to_owned(),
        bytes => render::bytes(bytes),
    })
}

fn retention_part(title: &str, total: RetentionForecast, rules: &[RuleForecast]) -> Option<String> {
    if rules.is_empty() {
        return None;
    }
    let columns = [
        Column::Text("RULE"),
        Column::Number("MAX AGE"),
        Column::Number("MAX BYTES"),
        Column::Number("STREAMS"),
        Column::Text("NOW"),
        Column::Text("WITHIN 7 DAYS"),
        Column::Text("WITHIN 30 DAYS"),
    ];
    let unlimited = || "-".to_owned();
    let mut rows: Vec<Vec<String>> = rules
        .iter()
        .map(|rule| {
            let RuleForecast {
                streams,
                max_age_seconds,
                max_bytes,
                fitting_streams,
                takes,
            } = rule;
            let age = max_age_seconds.map(std::time::Duration::from_secs);
            let mut row = vec![
                streams.clone(),
                age.map_or_else(unlimited, aof2_node::config::format_duration),
                max_bytes.map_or_else(unlimited, render::bytes),
                fitting_streams.to_string(),
            ];
            row.extend(taken(*takes));
            row
        })
        .collect();
    if rules.len() > 1 {
        let none = String::new;
        let mut row = vec!["in all".to_owned(), none(), none(), none()];
        row.extend(taken(total));
        rows.push(row);
    }
    Some(format!("{title}\n{}", render::table(&columns, rows)))
}

fn taken(forecast: RetentionForecast) -> [String; 3] {
    let RetentionForecast {
        now,
        in_7_days,
        in_30_days,
    } = forecast;
    [now, in_7_days, in_30_days].map(|takes| {
        let RetentionTakes {
            segments,
            records,
            bytes,
            cold_bytes: _,
        } = takes;
        match segments {
            0 => "nothing".to_owned(),
            _ => format!(
                "{} ({records} records in {segments} segments)",
                render::bytes(bytes)
            ),
        }
    })
}

fn costs(amount: f64) -> String {
    format!("costs {} a month", cost(amount))
}

/// Two places, and as many significant ones where it is less than a unit.
fn cost(amount: f64) -> String {
    match amount {
        0.0 => "0".to_owned(),
        ..0.0001 => "less than 0.0001".to_owned(),
        ..1.0 => format!("{amount:.4}"),
        _ => format!("{amount:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use aof2_admin_api::storage::{ClassStorage, Compression, StorageGrowth, TierStorage};

    use super::*;

    const NOW: &str = "2026-12-08T09:00:00Z";

    fn takes(segments: u64) -> RetentionTakes {
        RetentionTakes {
            segments,
            records: segments * 1000,
            bytes: segments << 20,
            cold_bytes: segments << 19,
        }
    }

    fn forecast(segments: [u64; 3]) -> RetentionForecast {
        let [now, in_7_days, in_30_days] = segments.map(takes);
        RetentionForecast {
            now,
            in_7_days,
            in_30_days,
        }
    }

    fn usage(streams: u64, mebibytes: u64, retention: [u64; 3]) -> StorageUsage {
        let tier = |objects, bytes| TierStorage { objects, bytes };
        let cold_bytes = mebibytes << 19;
        StorageUsage {
            streams,
            records: mebibytes * 1000,
            readable_bytes: mebibytes << 20,
            hot: tier(3, 3 << 20),
            warm: tier(2, 1 << 20),
            cold: tier(mebibytes, cold_bytes),
            classes: vec![ClassStorage {
                class: Some("STANDARD".to_owned()),
                objects: mebibytes,
                bytes: cold_bytes,
                monthly_cost: Some(mebibytes as f64 / 100.0),
            }],
            compression: Some(Compression {
                uncompressed_bytes: mebibytes << 20,
                compressed_bytes: cold_bytes,
                ratio: 2.0,
            }),
            growth: Some(StorageGrowth {
                bytes_per_day: 5 << 20,
                window_seconds: 604_800,
                streams,
            }),
            oldest_record_at: Some("2026-11-28T09:00:00Z".to_owned()),
            retention: forecast(retention),
            monthly_cost: Some(mebibytes as f64 / 100.0),
            ..StorageUsage::default()
        }
    }

    fn rule(streams: &str, days: Option<u64>, takes: [u64; 3]) -> RuleForecast {
        RuleForecast {
            streams: streams.to_owned(),
            max_age_seconds: days.map(|days| days * 86_400),
            max_bytes: days.is_none().then_some(1 << 30),
            fitting_streams: 1,
            takes: forecast(takes),
        }
    }

    fn report() -> StorageReport {
        StorageReport {
            node: "orders-0".to_owned(),
            at: NOW.to_owned(),
            total: usage(3, 400, [0, 10, 40]),
            streams: vec![StreamStorage {
                name: "orders-0-a".to_owned(),
                start_sequence: 7,
                usage: usage(1, 300, [0, 10, 30]),
            }],
            rest: Some(usage(2, 100, [0, 0, 10])),
            rules: vec![
                rule("orders-0-a", Some(14), [0, 10, 30]),
                rule("*", None, [0, 0, 10]),
            ],
            ..StorageReport::default()
        }
    }

    fn shown(report: &StorageReport) -> String {
        page(report, NOW.parse().expect("a time"))
    }

    #[test]
    fn a_report_is_a_page() {
        assert_eq!(
            shown(&report()),
            "\
node         orders-0, 2026-12-08T09:00:00Z (0 s ago)
streams      3 with 400000 records, 400.0 MiB uncompressed
tier 0       3.0 MiB in 3 files
tier 1       1.0 MiB in 2 files
tier 2       200.0 MiB in 400 objects
             class STANDARD, costs 4.00 a month
compression  2.00, 400.0 MiB to 200.0 MiB
growth       5.0 MiB a day uncompressed, measured over 7 d
oldest       2026-11-28T09:00:00Z (10 d ago)

STREAM      START  OLDEST       SIZE      HOT     WARM       COLD  RATIO    A DAY  GOES NOW    7 DAYS   30 DAYS  A MONTH
orders-0-a      7    10 d  300.0 MiB  3.0 MiB  1.0 MiB  150.0 MiB   2.00  5.0 MiB         -  10.0 MiB  30.0 MiB     3.00
2 others        -    10 d  100.0 MiB  3.0 MiB  1.0 MiB   50.0 MiB   2.00  5.0 MiB         -         -  10.0 MiB     1.00

retention takes, of what is stored and sealed now:
RULE        MAX AGE  MAX BYTES  STREAMS  NOW      WITHIN 7 DAYS                            WITHIN 30 DAYS
orders-0-a     336h          -        1  nothing  10.0 MiB (10000 records in 10 segments)  30.0 MiB (30000 records in 30 segments)
*                 -    1.0 GiB        1  nothing  nothing                                  10.0 MiB (10000 records in 10 segments)
in all                                   nothing  10.0 MiB (10000 records in 10 segments)  40.0 MiB (40000 records in 40 segments)"
        );
    }

    #[test]
    fn what_is_not_known_is_not_shown_and_what_a_person_has_to_do_stands_last() {
        let unknown = StorageUsage {
            streams: 1,
            classes: vec![ClassStorage::default()],
            ..StorageUsage::default()
        };
        let told = shown(&StorageReport {
            total: unknown.clone(),
            streams: vec![StreamStorage {
                name: "a".to_owned(),
                start_sequence: 0,
                usage: unknown,
            }],
            rest: None,
            rules: Vec::new(),
            orphans: Some(TierStorage {
                objects: 2,
                bytes: 4096,
            }),
            suspended: Some("check the time".to_owned()),
            warnings: vec!["no class".to_owned()],
            ..report()
        });
        assert_eq!(
            told,
            "\
node         orders-0, 2026-12-08T09:00:00Z (0 s ago)
streams      1 with 0 records, 0 B uncompressed
tier 0       0 B in 0 files
tier 1       0 B in 0 files
tier 2       0 B in 0 objects
             class unknown
compression  no segment is compressed
growth       not measured, that takes an hour of records

STREAM  START  OLDEST  SIZE  HOT  WARM  COLD  RATIO  A DAY  GOES NOW  7 DAYS  30 DAYS
a           0       -   0 B  0 B   0 B   0 B      -      -         -       -        -

SUSPENDED: check the time
ORPHANS: 2 objects, 4.0 KiB, that no manifest and no catalogue names are in no figure above; tier2.orphans = \"Delete\" deletes them
WARNING: no class"
        );
    }

    #[test]
    fn other_rules_take_the_place_of_those_in_use_in_the_table_of_streams() {
        let mut report = report();
        report.proposed_rules = Some(vec![rule("*", Some(7), [60, 70, 100])]);
        let proposed = Some(forecast([60, 70, 100]));
        report.total.proposed_retention = proposed;
        report.streams[0].usage.proposed_retention = proposed;
        report.total.growth = Some(StorageGrowth {
            bytes_per_day: 1,
            window_seconds: 7200,
            streams: 2,
        });
        let told = shown(&report);
        for line in [
            "growth       1 B a day uncompressed, measured over 2 h in 2 of the streams\n",
            "  WOULD GO    7 DAYS    30 DAYS  A MONTH\n",
            "  60.0 MiB  70.0 MiB  100.0 MiB     3.00\n",
            "\nthe rules of the file would take, of what is stored and sealed now:\n",
            "*        168h          -        1  60.0 MiB (60000 records in 60 segments)  70.0",
        ] {
            assert!(told.contains(line), "{line}: {told}");
        }
    }

    #[test]
    fn a_cost_has_two_digits_that_say_something() {
        let shown = [0.0, 0.000_04, 0.0713, 0.5, 1.0, 12.345].map(cost);
        assert_eq!(
            shown,
            ["0", "less than 0.0001", "0.0713", "0.5000", "1.00", "12.35"]
        );
    }
}
