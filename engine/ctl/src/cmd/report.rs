//! `report`: the storage report.

use std::path::Path;

use aof2_admin_api::storage::{
    RetentionForecast, RetentionTakes, RuleForecast, StorageReport, StorageUsage, StreamStorage,
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
        streams,
        rest,
        rules,
        proposed_rules,
        suspended,
        prices: _,
        warnings,
    } = report;
    let mut parts = vec![render::pairs(summary(node, at, total, now))];
    if !streams.is_empty() {
        parts.push(stream_table(streams, rest.as_ref(), now));
    }
    parts.extend(retention_part(
        "retention takes, of what is stored now:",
        total.retention,
        rules,
    ));
    if let Some(proposed) = proposed_rules {
        parts.extend(retention_part(
            "the rules of the file would take, of what is stored now:",
            total.proposed_retention.unwrap_or_default(),
            proposed,
        ));
    }
    let mut notes: Vec<String> = suspended
        .iter()
        .map(|why| format!("SUSPENDED: {why}"))
        .collect();
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
        let cost = of_class.monthly_cost.map(cost);
        let cost = cost.map_or_else(String::new, |cost| format!(", {cost} a month"));
        ("", format!("{class}{cost}"))
    }));
    // Without objects there is no class to say it.
    if let (true, Some(none)) = (classes.is_empty(), monthly_cost) {
        rows.push(("", format!("{} a month", cost(*none))));
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
        Column::Number("GOES NOW"),
        Column::Number("7 DAYS"),
        Column::Number("30 DAYS"),
    ]);
    if has_proposed {
        columns.extend([
            Column::Number("WOULD NOW"),
            Column::Number("7 DAYS"),
            Column::Number("30 DAYS"),
        ]);
    }
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
        row.extend(goes(usage.retention));
        if has_proposed {
            row.extend(goes(usage.proposed_retention.unwrap_or_default()));
        }
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

/// Two places, and as many significant ones where it is less than a unit.
fn cost(amount: f64) -> String {
    match amount {
        0.0 => "0".to_owned(),
        ..0.0001 => "less than 0.0001".to_owned(),
        ..1.0 => format!("{amount:.4}"),
        _ => format!("{amount:.2}"),
    }
}
