//! What a person lets pass for a while, by annotations of the cluster: `<what>=<until, RFC 3339>`. One that says something else lets
//! nothing pass, and is named.

use aof2_crds::{Aof2Cluster, Gate, labels};
use jiff::Timestamp;
use kube::ResourceExt;

use crate::machine::gate::OVERRIDABLE;
use crate::machine::{Override, bounded};

/// Longest value that a message repeats.
const SHOWN: usize = 64;

/// The gate that is let pass.
pub fn gate_override(cluster: &Aof2Cluster) -> Option<Override> {
    of(cluster, labels::OVERRIDE_GATE, gate)?.ok()
}

/// Damaged streams that drains do not wait for.
pub fn drain_without(cluster: &Aof2Cluster, now: Timestamp) -> Vec<String> {
    match of(cluster, labels::DRAIN_WITHOUT, streams) {
        Some(Ok((streams, until))) if now < until => streams,
        _ => Vec::new(),
    }
}

/// Which of them cannot be followed, and how it is written.
pub fn error(cluster: &Aof2Cluster) -> Option<String> {
    let gate = of(cluster, labels::OVERRIDE_GATE, gate).and_then(Result::err);
    gate.or_else(|| of(cluster, labels::DRAIN_WITHOUT, streams).and_then(Result::err))
}

fn of<T>(
    cluster: &Aof2Cluster,
    annotation: &str,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Option<Result<T, String>> {
    let value = cluster.annotations().get(annotation)?;
    Some(parse(value).map_err(|remedy| {
        let value = bounded(value, SHOWN);
        format!("Annotation {annotation}={value} is ignored. {remedy}")
    }))
}

fn gate(value: &str) -> Result<Override, String> {
    let gates: Vec<&str> = OVERRIDABLE.iter().map(|gate| gate.as_str()).collect();
    let gates = gates.join(", ");
    let (name, until) = value
        .split_once('=')
        .ok_or_else(|| format!("Set <gate>=<time>; a gate is one of {gates}"))?;
    let gate = Gate::from_name(name.trim())
        .filter(|gate| OVERRIDABLE.contains(gate))
        .ok_or_else(|| format!("Set a gate that can be bypassed, one of {gates}"))?;
    Ok(Override {
        gate,
        until: time(until)?,
    })
}

fn streams(value: &str) -> Result<(Vec<String>, Timestamp), String> {
    let (names, until) = value
        .rsplit_once('=')
        .ok_or("Set <stream>[,<stream>]=<time>")?;
    let names: Vec<String> = names
        .split(',')
        .map(|name| name.trim().to_owned())
        .collect();
    if names.iter().any(String::is_empty) {
        return Err("Set the names of damaged streams, separated by commas".to_owned());
    }
    Ok((names, time(until)?))
}

fn time(until: &str) -> Result<Timestamp, String> {
    until
        .trim()
        .parse()
        .map_err(|_| "Set a time as in 2026-09-21T10:00:00Z".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::testing;

    const TEN: &str = "2026-09-21T10:00:00Z";

    fn with(annotation: &str, value: &str) -> Aof2Cluster {
        let mut cluster = testing::cluster();
        cluster
            .annotations_mut()
            .insert(annotation.to_owned(), value.to_owned());
        cluster
    }

    #[test]
    fn an_override_names_a_gate_that_may_pass_and_an_end() {
        let cluster = with(labels::OVERRIDE_GATE, &format!("Soaked={TEN}"));
        let expected = Override {
            gate: Gate::Soaked,
            until: TEN.parse().unwrap(),
        };
        assert_eq!(gate_override(&cluster), Some(expected));
        assert_eq!(error(&cluster), None);
    }

    #[test]
    fn what_cannot_be_followed_is_named_with_what_can_be() {
        for (value, part) in [
            ("SoakedX=tomorrow", "OnePodDown, EngineReachable"),
            ("Soaked=tomorrow", "2026-09-21T10:00:00Z"),
            ("Soaked", "<gate>=<time>"),
            ("Drained=2026-09-21T10:00:00Z", "Soaked"),
            ("", "<gate>=<time>"),
        ] {
            let cluster = with(labels::OVERRIDE_GATE, value);
            assert_eq!(gate_override(&cluster), None, "{value}");
            let message = error(&cluster).unwrap();
            let begin = format!("Annotation aof2.dev/override-gate={value} is ignored. ");
            assert!(message.starts_with(&begin), "{message}");
            assert!(message.contains(part), "{message}");
        }
        for value in [
            "orders",
            "orders=soon",
            "=2026-09-21T10:00:00Z",
            "a,,b=2026-09-21T10:00:00Z",
        ] {
            let cluster = with(labels::DRAIN_WITHOUT, value);
            assert!(error(&cluster).unwrap().contains(value), "{value}");
            assert!(drain_without(&cluster, Timestamp::UNIX_EPOCH).is_empty());
        }
    }

    #[test]
    fn damaged_streams_are_left_out_until_the_time_is_over() {
        let cluster = with(labels::DRAIN_WITHOUT, &format!("orders, clicks={TEN}"));
        let until: Timestamp = TEN.parse().unwrap();
        let before = until - jiff::SignedDuration::from_secs(1);
        assert_eq!(drain_without(&cluster, before), ["orders", "clicks"]);
        assert!(drain_without(&cluster, until).is_empty());
        assert_eq!(error(&cluster), None);
    }
}
