//! What is taken of an engine's answer. Whoever holds an engine's key, or owns its container, may answer anything: nothing behind this
//! door has to expect that.
//!
//! - An answer of another node or cluster than was asked counts as none: addresses are used again.
//! - An identifier that is none makes the answer invalid. A text is cut, a number bounded: status holds no more of either.

use std::collections::BTreeMap;

use aof2_admin_api::storage::{ShortenedForecast, StorageReport};
use aof2_admin_api::{Dump, PostRestart, SnapshotReport, StreamReport};
use aof2_crds::MAX_INTEGER;

use super::{Answer, NotCounted, Whose};
use crate::machine::bounded;
use crate::rollout::EngineVersion;

/// Longest text for people that is kept of an answer, in characters.
const TEXT_LENGTH: usize = 512;
/// Most entries kept of a list that only messages show.
const LIST_LENGTH: usize = 64;
const VERSION_LENGTH: usize = 64;
const REVISION_LENGTH: usize = 63;
const STREAM_LENGTH: usize = 63;
const KEY_LENGTH: usize = 1024;

/// `pod` was asked. The error says what is wrong with the answer.
pub fn report(
    whose: &Whose,
    pod: &str,
    dump: Dump,
    post_restart: Option<PostRestart>,
) -> Result<Answer, String> {
    let dump = self::dump(whose, pod, dump)?;
    // Two requests: a restart between them makes them evidence of different processes.
    let post_restart = post_restart
        .filter(|report| report.process_start == dump.process_start)
        .map(|report| self::post_restart(pod, &dump, report))
        .transpose()?;
    Ok(Answer { dump, post_restart })
}

/// Is this the engine that was asked?
pub fn identity(whose: &Whose, pod: &str, dump: &Dump) -> Result<(), String> {
    same("node", &dump.node, pod)?;
    same("cluster_id", &dump.cluster_id, &whose.cluster_id)
}

fn same(field: &str, found: &str, wanted: &str) -> Result<(), String> {
    if found == wanted {
        return Ok(());
    }
    Err(format!(
        "the engine reports {field} {:?} instead of {wanted}; its address may belong to another pod by now",
        bounded(found, 64)
    ))
}

fn dump(whose: &Whose, pod: &str, mut dump: Dump) -> Result<Dump, String> {
    identity(whose, pod, &dump)?;
    for (field, id) in [("node_id", &dump.node_id), ("volume_id", &dump.volume_id)] {
        if !id.is_empty() && !is_uuid(id) {
            return Err(invalid(field, id, "a UUID"));
        }
    }
    version("version", &dump.version)?;
    word("process_start", &dump.process_start, VERSION_LENGTH)?;
    let config = &mut dump.config;
    word("config.revision", &config.revision, REVISION_LENGTH)?;
    if let Some(revision) = &config.error_revision {
        word("config.error_revision", revision, REVISION_LENGTH)?;
    }
    cut(&mut config.error);
    if let Some(refusal) = &mut dump.refusal {
        refusal.message = text(&refusal.message);
        list(&mut refusal.streams);
        if let Some(id) = refusal.cluster_id.as_ref().filter(|id| !is_uuid(id)) {
            return Err(invalid("refusal.cluster_id", id, "a UUID"));
        }
    }
    let tier0 = &mut dump.tier0;
    for bytes in [
        &mut tier0.total_bytes,
        &mut tier0.cluster_max_bytes,
        &mut tier0.instance_quota_bytes,
        &mut tier0.storage_bytes,
        &mut dump.flush_failures,
        &mut dump.disk_full_refusals,
        &mut dump.streams,
        &mut dump.operator_epoch,
    ]
    .into_iter()
    .chain(tier0.activation_queue_depth.as_mut())
    {
        *bytes = (*bytes).min(MAX_INTEGER.unsigned_abs());
    }
    if let Some(tier2) = &mut dump.tier2 {
        cut(&mut tier2.message);
        let counts = [&mut tier2.objects, &mut tier2.object_bytes];
        for count in counts.into_iter().filter_map(Option::as_mut) {
            *count = (*count).min(MAX_INTEGER.unsigned_abs());
        }
    }
    for count in dump.would_block.values_mut() {
        *count = (*count).min(MAX_INTEGER.unsigned_abs());
    }
    let drain = &mut dump.drain;
    for (field, value) in [("token", &drain.token), ("expires_at", &drain.expires_at)] {
        word(field, value.as_deref().unwrap_or_default(), 128)?;
    }
    cut(&mut drain.message);
    drain.lagging.truncate(LIST_LENGTH);
    for lagging in &mut drain.lagging {
        lagging.stream = bounded(&lagging.stream, STREAM_LENGTH);
    }
    dump.damage = std::mem::take(&mut dump.damage)
        .into_iter()
        .take(LIST_LENGTH)
        .map(|(stream, what)| (bounded(&stream, STREAM_LENGTH), text(&what)))
        .collect::<BTreeMap<_, _>>();
    Ok(dump)
}

fn post_restart(pod: &str, dump: &Dump, mut report: PostRestart) -> Result<PostRestart, String> {
    same("node", &report.node, pod)?;
    version("version", &report.version)?;
    report.replay_progress = report.replay_progress.clamp(0.0, 1.0);
    if !report.min_reader_version.is_empty() {
        version("min_reader_version", &report.min_reader_version)?;
    }
    // An engine reads what it writes: a higher version than its own is not the truth, and would veto every upgrade.
    if EngineVersion::parse(&report.min_reader_version) > EngineVersion::parse(&dump.version) {
        report.min_reader_version.clone_from(&dump.version);
    }
    report.flush_failures = report.flush_failures.min(MAX_INTEGER.unsigned_abs());
    for stream in &mut report.damaged_streams {
        *stream = bounded(stream, STREAM_LENGTH);
    }
    Ok(report)
}

/// Of the streams of a node, as a snapshot needs them.
pub fn streams(streams: Vec<StreamReport>) -> Result<Vec<StreamReport>, String> {
    for stream in &streams {
        word("name of a stream", &stream.name, STREAM_LENGTH)?;
    }
    Ok(streams)
}

/// What rules of retention take on a node beyond those in use.
pub fn shortened(pod: &str, report: StorageReport) -> Result<Vec<ShortenedForecast>, NotCounted> {
    same("node", &report.node, pod).map_err(NotCounted::Failed)?;
    // By its clock nothing goes now, which is not what happens once it is right.
    if let Some(why) = report.suspended {
        return Err(NotCounted::ClockNotTrusted(why));
    }
    let mut shortened = report.shortened.ok_or(NotCounted::OlderEngine)?;
    shortened.truncate(LIST_LENGTH);
    Ok(shortened)
}

/// Of the snapshot of a stream.
pub fn snapshot(mut report: SnapshotReport) -> Result<SnapshotReport, String> {
    word("stream", &report.stream, STREAM_LENGTH)?;
    word("snapshot_id", &report.snapshot_id, 20)?;
    word("digest", &report.digest, 80)?;
    word("key", &report.key, KEY_LENGTH)?;
    for number in [
        &mut report.chunk_index,
        &mut report.chunk_offset,
        &mut report.durable_sequence,
        &mut report.uploaded_sequence,
        &mut report.bytes,
    ] {
        *number = (*number).min(MAX_INTEGER.unsigned_abs());
    }
    cut(&mut report.message);
    Ok(report)
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36 && uuid::Uuid::try_parse(text).is_ok()
}

fn version(field: &str, text: &str) -> Result<(), String> {
    word(field, text, VERSION_LENGTH)?;
    match EngineVersion::parse(text) {
        Some(_) => Ok(()),
        None => Err(invalid(field, text, "a semantic version")),
    }
}

/// Printable ASCII without blanks.
fn word(field: &str, text: &str, limit: usize) -> Result<(), String> {
    if text.len() <= limit && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(());
    }
    let wanted = format!("one word of at most {limit} characters");
    Err(invalid(field, text, &wanted))
}

fn invalid(field: &str, text: &str, wanted: &str) -> String {
    format!(
        "the engine reports {field} {:?}, which is not {wanted}; run the released engine image",
        bounded(text, 64)
    )
}

fn cut(message: &mut Option<String>) {
    if let Some(message) = message {
        *message = text(message);
    }
}

/// For people: one line.
pub(super) fn text(text: &str) -> String {
    let printable = text
        .chars()
        .map(|letter| if letter.is_control() { ' ' } else { letter });
    printable.take(TEXT_LENGTH).collect()
}

fn list(names: &mut Vec<String>) {
    names.truncate(LIST_LENGTH);
    for name in names {
        *name = bounded(name, STREAM_LENGTH);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::testing;

    const POD: &str = "orders-0";

    fn answered() -> (Whose, Dump, PostRestart) {
        let mut observed = testing::at_rest();
        let whose = Whose::of(&observed.cluster).expect("an identity");
        let Answer {
            mut dump,
            post_restart,
        } = testing::answer(&mut observed, POD).clone();
        dump.volume_id = testing::FRESH_ID.to_owned();
        (whose, dump, post_restart.expect("both were answered"))
    }

    fn refused(spoil: impl FnOnce(&mut Dump, &mut PostRestart)) -> String {
        let (whose, mut dump, mut post_restart) = answered();
        spoil(&mut dump, &mut post_restart);
        report(&whose, POD, dump, Some(post_restart)).expect_err("it is refused")
    }

    fn taken(spoil: impl FnOnce(&mut Dump, &mut PostRestart)) -> Answer {
        let (whose, mut dump, mut post_restart) = answered();
        spoil(&mut dump, &mut post_restart);
        report(&whose, POD, dump, Some(post_restart)).expect("it is taken")
    }

    #[test]
    fn an_answer_of_another_node_or_cluster_counts_as_none() {
        for error in [
            refused(|dump, _| dump.node = "orders-1".into()),
            refused(|_, post_restart| post_restart.node = "orders-1".into()),
            refused(|dump, _| dump.cluster_id = testing::FRESH_ID.into()),
            refused(|dump, _| dump.cluster_id = String::new()),
        ] {
            assert!(error.contains("another pod by now"), "{error}");
        }
    }

    #[test]
    fn what_rules_take_is_taken_of_the_engine_that_was_asked_and_only_where_it_counts() {
        let report = |spoil: &dyn Fn(&mut StorageReport)| {
            let mut report = StorageReport {
                node: POD.to_owned(),
                shortened: Some(vec![ShortenedForecast::default(); 4096]),
                ..StorageReport::default()
            };
            spoil(&mut report);
            shortened(POD, report)
        };
        assert_eq!(report(&|_| {}).map(|it| it.len()), Ok(LIST_LENGTH));
        let other = report(&|report| report.node = "orders-1".to_owned());
        assert!(matches!(other, Err(NotCounted::Failed(_))), "{other:?}");
        let older = report(&|report| report.shortened = None);
        assert_eq!(older, Err(NotCounted::OlderEngine));
        let clock = report(&|report| report.suspended = Some("it was set back".to_owned()));
        let why = "it was set back".to_owned();
        assert_eq!(clock, Err(NotCounted::ClockNotTrusted(why)));
    }

    #[test]
    fn an_identifier_that_is_none_makes_the_answer_invalid() {
        let long = "0192f0aa-0000-7000-8000-0000000000aab";
        for (field, error) in [
            ("node_id", refused(|dump, _| dump.node_id = long.into())),
            (
                "volume_id",
                refused(|dump, _| dump.volume_id = "../x".into()),
            ),
            ("version", refused(|dump, _| dump.version = "1".repeat(65))),
            ("version", refused(|dump, _| dump.version = "latest".into())),
            (
                "process_start",
                refused(|dump, post_restart| {
                    dump.process_start = "a\nb".into();
                    post_restart.process_start = "a\nb".into();
                }),
            ),
            (
                "config.revision",
                refused(|dump, _| dump.config.revision = "a".repeat(64)),
            ),
            (
                "token",
                refused(|dump, _| dump.drain.token = Some("a b".into())),
            ),
            (
                "min_reader_version",
                refused(|_, post_restart| post_restart.min_reader_version = "999".into()),
            ),
        ] {
            assert!(error.contains(field), "{error} lacks {field}");
        }
    }

    #[test]
    fn no_engine_asks_for_a_newer_reader_than_itself() {
        let answer = taken(|_, post_restart| post_restart.min_reader_version = "999.0.0".into());
        let report = answer.post_restart.expect("both were answered");
        assert_eq!(report.min_reader_version, "0.1.0");
    }

    #[test]
    fn evidence_of_another_process_is_left_out() {
        let answer = taken(|_, post_restart| post_restart.process_start = "later".into());
        assert!(answer.post_restart.is_none());
    }

    #[test]
    fn texts_are_cut_to_one_line_and_numbers_bounded() {
        let answer = taken(|dump, post_restart| {
            dump.streams = u64::MAX;
            dump.tier0.total_bytes = u64::MAX;
            dump.config.error = Some("a\u{1b}[31m\n".repeat(4096));
            dump.damage = (0..4096)
                .map(|number| (number.to_string(), "x".repeat(4096)))
                .collect();
            post_restart.replay_progress = 1e300;
        });
        let dump = answer.dump;
        assert_eq!(dump.streams, MAX_INTEGER.unsigned_abs());
        assert_eq!(dump.tier0.total_bytes, MAX_INTEGER.unsigned_abs());
        let error = dump.config.error.expect("kept");
        assert!(error.chars().count() <= TEXT_LENGTH && !error.contains(['\n', '\u{1b}']));
        assert_eq!(dump.damage.len(), LIST_LENGTH);
        assert!(dump.damage.values().all(|what| what.len() <= TEXT_LENGTH));
        let report = answer.post_restart.expect("both were answered");
        assert!((0.0..=1.0).contains(&report.replay_progress));
    }
}
