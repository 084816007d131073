//! Configurations: the first, changes, and revisions that nobody needs.

use aof2_crds::status::{HistoryEntry, RolloutOutcome};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::*;

#[test]
fn old_revisions_go_and_what_is_in_use_or_was_rejected_stays() {
    let mut rolling = at_rest();
    let in_use = in_status(&mut rolling).config.last_good.clone();
    in_status(&mut rolling).config.rejected = vec![
        serde_json::from_value(json!({
            "revision": "0000000b", "reason": "GateFailed", "gate": "Ready", "observed": "", "limit": "", "at": testing::NOW,
        }))
        .unwrap(),
    ];
    let stored = |kind, revision: &str, age: i64| StoredConfig {
        name: match kind {
            StoredKind::Revision => names::config_revision("orders", revision),
            StoredKind::Evidence => names::evidence("orders", revision),
        },
        kind,
        revision: revision.to_owned(),
        created_at: rolling.now - SignedDuration::from_hours(age),
    };
    // The one in use and the rejected one are the oldest.
    let all: Vec<StoredConfig> = (1..=10)
        .chain([12])
        .map(|age| stored(StoredKind::Revision, &format!("{age:08x}"), age))
        .chain([stored(StoredKind::Revision, &in_use, 99)])
        .chain([stored(StoredKind::Revision, "0000000b", 98)])
        .chain((1..=10).map(|age| stored(StoredKind::Evidence, &format!("{age:08x}"), age)))
        .collect();
    rolling.stored_configs = all;
    let removed: Vec<String> = actions(&plan(&rolling))
        .into_iter()
        .filter(|action| action.starts_with("remove ConfigMap"))
        .collect();
    assert_eq!(removed, ["remove ConfigMap orders-config-0000000c"]);
}

#[test]
fn a_name_is_read_as_it_was_made() {
    let read = |name: &str| names::stored_config("orders", name);
    assert_eq!(
        read("orders-config-9f31c2aa"),
        Some((StoredKind::Revision, "9f31c2aa".to_owned()))
    );
    assert_eq!(
        read("orders-evidence-9f31c2aa"),
        Some((StoredKind::Evidence, "9f31c2aa".to_owned()))
    );
    // Of a pipeline, of another cluster, of the pods.
    for other in [
        "orders-config-h5tg4k2b9f",
        "orders-eu-config-9f31c2aa",
        "orders-active-config",
    ] {
        assert_eq!(read(other), None, "{other}");
    }
}

#[test]
fn a_missing_or_bad_first_configuration_creates_nothing() {
    let name = "orders-aof2".to_owned();
    for (source, reason, word) in [
        (
            ConfigSource::MissingMap { name: name.clone() },
            WaitReason::ConfigMapMissing,
            "Create it",
        ),
        (
            ConfigSource::MissingKey {
                name: name.clone(),
                key: "aof2.toml".into(),
            },
            WaitReason::ConfigMapMissing,
            "has no key",
        ),
        (
            ConfigSource::Found {
                name,
                resource_version: "7".into(),
                text: "[listen]\nadmin_address = '0.0.0.0:1'".into(),
            },
            WaitReason::ConfigInvalid,
            "key listen.admin_address belongs to the operator",
        ),
    ] {
        let mut new = observed();
        new.config_source = source;
        let held = plan(&carried_over(new.clone(), plan(&new)));
        assert_eq!(waits(&held), [(Gate::Config, reason, "")]);
        assert!(
            held.status.waits[0].message.contains(word),
            "{}",
            held.status.waits[0].message
        );
        assert_eq!(actions(&held), Vec::<String>::new());
        assert_eq!(
            condition(&held, ConditionType::ConfigApplied).1,
            reason.as_str()
        );
        assert_eq!(condition(&held, ConditionType::Stalled).1, reason.as_str());
    }
}

#[test]
fn the_first_configuration_is_read_and_remembered() {
    let mut new = observed();
    let text = "[tier0]\ncluster_max_bytes = 9000\n".to_owned();
    new.config_source = ConfigSource::Found {
        name: "orders-aof2".into(),
        resource_version: "7".into(),
        text,
    };
    let plan = plan(&carried_over(new.clone(), plan(&new)));
    let source = plan.status.config.source.clone().unwrap();
    assert_eq!(
        (source.name.as_str(), source.resource_version.as_str()),
        ("orders-aof2", "7")
    );
    let text = file(&plan, "orders-2").unwrap();
    for line in [
        "instance_quota_bytes = 3000",
        "cluster_max_bytes = 9000",
        "bucket = \"acme-aof2\"",
        "name = \"orders-2\"",
    ] {
        assert!(text.contains(line), "{text}");
    }
}

/// Another configuration than the one at rest.
pub(super) fn changed() -> Observed {
    let mut changed = at_rest();
    changed.config_source = ConfigSource::Found {
        name: "orders-aof2".into(),
        resource_version: "8".into(),
        text: "[log]\nlevel = \"debug\"".to_owned(),
    };
    changed
}

/// One look after the other, as if every action were done and an engine took the configuration, until the step is reached.
pub(super) fn roll_to(mut observed: Observed, step: RolloutStep) -> Observed {
    let rates: Rates = Rates::default();
    for pod in 0..3 {
        observed
            .rates
            .insert(format!("orders-{pod}"), rates.clone());
    }
    observed.answers.verdict = Some(Verdict {
        pod: "orders-2".into(),
        version: "0.1.0".into(),
        errors: Vec::new(),
        changes: Vec::new(),
    });
    for _ in 0..10 {
        let planned = plan(&observed);
        observed.cluster.status = Some(planned.status.clone());
        if planned
            .status
            .rollout
            .as_ref()
            .is_some_and(|rollout| rollout.step == step)
        {
            return observed;
        }
    }
    panic!("never in {step}: {:?}", observed.cluster.status);
}

#[test]
fn a_change_of_the_configuration_is_first_in_the_file_of_the_last_pod_alone() {
    let before = file(&plan(&at_rest()), "orders-0").unwrap();
    let validating = plan(&changed());
    assert_eq!(
        file(&validating, "orders-2")
            .unwrap()
            .matches("debug")
            .count(),
        0
    );
    assert_eq!(validating.next, NextLook::AT_ONCE);

    let canary = roll_to(changed(), RolloutStep::Canary);
    let planned = plan(&canary);
    assert_eq!(file(&planned, "orders-0").unwrap(), before);
    assert!(file(&planned, "orders-2").unwrap().contains("debug"));
    assert!(has(&planned, "nudge orders-2"));
    assert_eq!(condition(&planned, ConditionType::Ready).0, "True");
    assert_eq!(
        condition(&planned, ConditionType::Reconciling).0,
        "True",
        "and something is under way"
    );
    let config = &planned.status.config;
    assert_ne!(config.target, config.last_good);
    assert_eq!(config.validated_by.as_ref().unwrap().pod, "orders-2");
    assert!(
        planned.status.summary.contains("on canary orders-2"),
        "{}",
        planned.status.summary
    );
}

#[test]
fn a_source_that_is_gone_is_told_and_the_revision_stays() {
    let before = file(&plan(&at_rest()), "orders-0").unwrap();
    let mut gone = changed();
    gone.config_source = ConfigSource::MissingMap {
        name: "orders-aof2".into(),
    };
    let held = plan(&gone);
    assert_eq!(
        waits(&held),
        [(Gate::Config, WaitReason::ConfigMapMissing, "")]
    );
    assert_eq!(file(&held, "orders-0").unwrap(), before);
}

#[test]
fn a_revision_that_somebody_deleted_is_named_with_the_way_back() {
    let mut lost = changed();
    lost.revision_texts.clear();
    let held = plan(&lost);
    assert_eq!(
        waits(&held),
        [(Gate::Config, WaitReason::ConfigMapMissing, "")]
    );
    let message = &held.status.waits[0].message;
    assert!(
        message.contains("orders-config-") && message.contains("spec.configFrom"),
        "{message}"
    );
}

#[test]
fn a_refused_configuration_is_told_with_the_key_and_asked_about_once() {
    let mut refused = changed();
    let validating = plan(&refused);
    refused.cluster.status = Some(validating.status);
    refused.answers.verdict = Some(Verdict {
        pod: "orders-2".into(),
        version: "0.1.0".into(),
        errors: vec!["log.level: `loud` is not a level".into()],
        changes: Vec::new(),
    });
    let told = plan(&refused);
    assert_eq!(
        waits(&told),
        [(Gate::Config, WaitReason::ConfigRefused, "")]
    );
    let (is_applied, reason, message) = condition(&told, ConditionType::ConfigApplied);
    assert_eq!(
        (is_applied.as_str(), reason.as_str()),
        ("False", "ConfigRefused")
    );
    assert!(message.contains("log.level: `loud`"), "{message}");
    refused.cluster.status = Some(told.status);
    refused.answers.verdict = None;
    assert!(super::super::questions(&refused).config.is_none());
    let again = plan(&refused);
    assert_eq!(
        waits(&again),
        [(Gate::Config, WaitReason::ConfigRefused, "")]
    );
    assert_eq!(again.next, NextLook::AT_POLL);

    // A person may ask again, once.
    let hash = again.status.config.rejected[0].revision.clone();
    refused.cluster.status = Some(again.status);
    refused
        .cluster
        .metadata
        .annotations
        .get_or_insert_default()
        .insert("aof2.dev/retry-config".into(), hash);
    let tried = plan(&refused);
    assert_eq!(
        tried.status.rollout.as_ref().map(|rollout| rollout.step),
        Some(RolloutStep::Validating)
    );
    refused.cluster.status = Some(tried.status);
    refused.answers.verdict = Some(Verdict {
        pod: "orders-2".into(),
        version: "0.1.0".into(),
        errors: vec!["still not".into()],
        changes: Vec::new(),
    });
    let told = plan(&refused);
    assert!(told.status.config.rejected[0].retried);
    refused.cluster.status = Some(told.status);
    assert_eq!(plan(&refused).status.rollout, None);
}

#[test]
fn a_configuration_that_was_rolled_back_says_why_and_how_to_retry_it() {
    let mut back = changed();
    let hash = plan(&back).status.rollout.unwrap().to;
    in_status(&mut back).config.rejected = vec![
        serde_json::from_value(json!({
            "revision": hash, "reason": "GateFailed", "gate": "WouldBlock",
            "observed": "canary refused 1234.5 appends/s, Admission", "limit": "0.5/s", "at": testing::NOW,
        }))
        .unwrap(),
    ];
    let held = plan(&back);
    assert_eq!(
        waits(&held),
        [(Gate::Config, WaitReason::ConfigRejected, "")]
    );
    let known = back.cluster.status.unwrap().config.last_good;
    assert_eq!(
        held.status.waits[0].message,
        format!(
            "Config {hash} rolled back: canary refused 1234.5 appends/s, Admission. Gate WouldBlock allows 0.5/s. The engines run config {known}. Change the config, or set annotation aof2.dev/retry-config={hash} to retry it"
        )
    );
    assert_eq!(
        held.status.summary,
        format!("Config {hash} rolled back: canary refused 1234.5 appends/s, Admission")
    );
}

#[test]
fn a_first_configuration_that_no_engine_could_start_with_may_be_corrected() {
    let source = |text: &str, version: &str| ConfigSource::Found {
        name: "orders-aof2".into(),
        resource_version: version.into(),
        text: text.into(),
    };
    let mut sick = observed();
    sick.config_source = source("[log]\nlevl = 'info'\n", "7");
    let mut sick = carried_over(sick.clone(), plan(&sick));
    let first = plan(&sick).status.config.target;
    sick.config_source = source("[log]\nlevel = 'debug'\n", "8");
    let corrected = plan(&sick);
    assert_eq!(waits(&corrected), []);
    assert_ne!(corrected.status.config.target, first);
    assert!(file(&corrected, "orders-0").unwrap().contains("debug"));
}

#[test]
fn a_moved_bucket_endpoint_is_a_change_of_the_configuration() {
    let mut changed = at_rest();
    changed.cluster.spec.tier2.as_mut().unwrap().endpoint = "https://elsewhere.test".into();
    let planned = plan(&changed);
    assert_eq!(
        planned.status.rollout.map(|rollout| rollout.kind),
        Some(RolloutKind::Config)
    );
}

#[test]
fn an_engine_that_ends_over_its_configuration_is_quoted() {
    let mut sick = at_rest();
    sick.reports.remove("orders-1");
    sick.pods[1].is_ready = false;
    sick.pods[1].engine.is_running = false;
    sick.pods[1].engine.last_exit = Some(Exit {
        code: 2,
        reason: String::new(),
        message: "{\"reason\":\"UnknownKey\",\"key\":\"tier0.max\",\"message\":\"/etc/aof2/config/orders-1.toml:9:1: unknown key `tier0.max`\"}".into(),
    });
    let (is_applied, reason, message) = condition(&plan(&sick), ConditionType::ConfigApplied);
    assert_eq!(
        (is_applied.as_str(), reason.as_str()),
        ("False", "ConfigInvalid")
    );
    assert!(
        message.contains("orders-1") && message.contains("tier0.max"),
        "{message}"
    );
}

/// Somebody edited the ConfigMap or the file: the user's own is not to blame, and the revision is not rejected for it.
#[test]
fn a_file_that_the_operator_did_not_write_is_told_with_its_remedy() {
    let text = "/etc/aof2/config/orders-2.toml: differs from the sum in its first line; restore the file that the operator wrote";
    let mut running = at_rest();
    let report = testing::answer(&mut running, "orders-2");
    report.dump.config.error = Some(text.into());
    report.dump.config.error_revision = Some(aof2_admin_api::revision::ALTERED.into());
    let mut ended = at_rest();
    ended.reports.remove("orders-2");
    ended.pods[2].is_ready = false;
    ended.pods[2].engine.is_running = false;
    ended.pods[2].engine.last_exit = Some(Exit {
        code: 2,
        reason: String::new(),
        message: json!({"reason": "ConfigAltered", "key": "", "message": text}).to_string(),
    });
    for sick in [running, ended] {
        let (is_applied, reason, message) = condition(&plan(&sick), ConditionType::ConfigApplied);
        assert_eq!(
            (is_applied.as_str(), reason.as_str()),
            ("False", "ConfigAltered")
        );
        for part in [
            "orders-2 got a config file that the operator did not write",
            "The operator restores ConfigMap orders-active-config",
            "Check who changes it",
        ] {
            assert!(message.contains(part), "{message}");
        }
        assert!(!message.contains("spec.configFrom"), "{message}");
    }
}

#[test]
fn a_canary_that_ends_over_a_file_that_somebody_changed_rejects_no_revision() {
    let canary = |reason: &str| {
        let mut canary = roll_to(changed(), RolloutStep::Canary);
        canary.reports.remove("orders-2");
        let pod = &mut canary.pods[2];
        pod.is_ready = false;
        pod.engine.is_running = false;
        pod.engine.last_exit = Some(Exit {
            code: 2,
            reason: String::new(),
            message: json!({"reason": reason, "key": "log.level", "message": "as quoted"})
                .to_string(),
        });
        pod.trouble = Some(Trouble {
            kind: TroubleKind::CrashLoop,
            container: "aof2-engine".into(),
            message: "aof2-engine of orders-2 crashes with exit code 2".into(),
        });
        plan(&canary).status
    };
    let altered = canary("ConfigAltered");
    assert_eq!(altered.rollout.unwrap().step, RolloutStep::Canary);
    assert!(altered.config.rejected.is_empty());
    assert_eq!(canary("OutOfRange").config.rejected.len(), 1);
}

#[test]
fn a_change_before_the_first_was_loaded_everywhere_is_proved_too() {
    let mut early = changed();
    // One pod never came up, so that nothing is known to be good yet.
    early.pods[0].is_ready = false;
    early.reports.remove("orders-0");
    in_status(&mut early).config.last_good.clear();
    in_status(&mut early).nodes.clear();
    let before = file(&plan(&at_rest()), "orders-1").unwrap();
    let first = in_status(&mut early).config.target.clone();
    for _ in 0..2 {
        let planned = plan(&early);
        let rollout = planned.status.rollout.as_ref().unwrap();
        assert_eq!(rollout.step, RolloutStep::Validating);
        assert_eq!(rollout.from, first);
        assert!(has(&planned, &format!("orders-config-{first}")));
        for pod in ["orders-0", "orders-1", "orders-2"] {
            assert!(!file(&planned, pod).unwrap().contains("debug"), "{pod}");
        }
        assert_eq!(file(&planned, "orders-1").unwrap(), before);
        early = carried_over(early, planned);
    }
}

#[test]
fn a_volume_that_its_journal_fills_is_refused_with_the_sum_before_anything_is_made() {
    let begun = |size: &str, config: ConfigSource| {
        let mut new = observed();
        new.cluster.spec.storage.tier0.size = serde_json::from_value(json!(size)).unwrap();
        new.config_source = config;
        plan(&carried_over(new.clone(), plan(&new)))
    };
    let user = |text: &str| ConfigSource::Found {
        name: "orders-aof2".into(),
        resource_version: "1".into(),
        text: text.into(),
    };
    for size in ["64Mi", "512Mi", "540Mi"] {
        let held = begun(size, ConfigSource::Unset);
        assert_eq!(
            waits(&held),
            [(Gate::Config, WaitReason::ConfigInvalid, "")],
            "{size}"
        );
        let message = &held.status.waits[0].message;
        assert!(
            message.contains(size) && message.contains("512Mi of journal"),
            "{message}"
        );
        assert!(!has(&held, "StatefulSet of 3"));
    }
    assert!(has(&begun("1Gi", ConfigSource::Unset), "StatefulSet of 3"));
    // The API server refuses the same sizes, where no file changes the journal.
    let crd = include_str!("../../../../../crds/generated/aof2clusters.yaml");
    assert!(crd.contains("compareTo(quantity('546Mi')) >= 0"));
    assert!(has(
        &begun("546Mi", ConfigSource::Unset),
        "StatefulSet of 3"
    ));
    assert!(!has(
        &begun("545Mi", ConfigSource::Unset),
        "StatefulSet of 3"
    ));
    let small = "[journal]\nfiles = 2\nfile_bytes = 16777216\n";
    assert!(has(&begun("64Mi", user(small)), "StatefulSet of 3"));
    let large = "[journal]\nfiles = 64\n";
    assert!(!has(&begun("1Gi", user(large)), "StatefulSet of 3"));
    assert!(!has(
        &begun("1Gi", user("[journal]\nfile_bytes = 9223372036854775807\n")),
        "StatefulSet of 3"
    ));
}

#[test]
fn going_back_to_what_the_engine_rejects_now_is_rejected_once_and_shown() {
    let mut back = changed();
    let hash = plan(&back).status.rollout.unwrap().to;
    let in_force = in_status(&mut back).config.last_good.clone();
    let at = Time(back.now - SignedDuration::from_hours(1));
    // Every pod ran it before the one that is in force now; an engine of a newer version does not take it any more.
    in_status(&mut back).history.push(HistoryEntry {
        at,
        kind: RolloutKind::Config,
        from: hash,
        to: in_force,
        outcome: RolloutOutcome::Completed,
        message: String::new(),
    });
    let validating = plan(&back);
    back = carried_over(back, validating);
    back.answers.verdict = Some(Verdict {
        pod: "orders-2".into(),
        version: "0.1.0".into(),
        errors: vec!["log.level: `debug` is not a level".into()],
        changes: Vec::new(),
    });
    let rejected = plan(&back);
    let shown = [(Gate::Config, WaitReason::ConfigRefused, "")];
    assert_eq!(waits(&rejected), shown);
    back = carried_over(back, rejected);
    back.answers.verdict = None;
    let again = plan(&back);
    assert_eq!(again.status.rollout, None, "it is not tried over and over");
    assert_eq!(waits(&again), shown);
}

#[test]
fn what_was_never_loaded_everywhere_is_no_way_back_without_a_canary() {
    let mut early = changed();
    // One pod never came up, so that nothing is known to be good yet.
    early.pods[0].is_ready = false;
    let answer_of_the_broken = early.reports.remove("orders-0").unwrap();
    in_status(&mut early).config.last_good.clear();
    in_status(&mut early).nodes.clear();
    let first_source = at_rest().config_source;
    let first = in_status(&mut early).config.target.clone();
    let mut early = roll_to(early, RolloutStep::Preflight);
    // The corrected one is loaded by every pod.
    let mut memo = in_status(&mut early).rollout.clone().unwrap();
    assert_eq!(memo.from, first);
    memo.step = RolloutStep::Rolling;
    memo.pod = None;
    memo.done = vec!["orders-0".into(), "orders-1".into(), "orders-2".into()];
    early.pods[0].is_ready = true;
    early
        .reports
        .insert("orders-0".into(), answer_of_the_broken);
    for pod in ["orders-0", "orders-1", "orders-2"] {
        answer(&mut early, pod).dump.config.revision = memo.to.clone();
    }
    let corrected = super::super::config::read_source(&early).ok().unwrap();
    early
        .revision_texts
        .insert(corrected.hash.clone(), corrected.text());
    in_status(&mut early).rollout = Some(memo);
    early.answers.verdict = None;
    let done = plan(&early);
    assert_eq!(done.status.history[0].outcome, RolloutOutcome::Completed);
    assert_eq!(done.status.rollout, None, "{:?}", done.status.rollout);
    early = carried_over(early, done);
    early.config_source = first_source;
    roll_to(early, RolloutStep::Preflight);
}

#[test]
fn a_file_that_is_no_utf_8_is_named_as_such() {
    for (is_utf16, what) in [(true, "UTF-16"), (false, "binary (not UTF-8)")] {
        let mut observed = at_rest();
        observed.config_source = ConfigSource::Binary {
            name: "win".into(),
            key: "aof2.toml".into(),
            is_utf16,
        };
        let planned = plan(&observed);
        assert_eq!(
            waits(&planned),
            [(Gate::Config, WaitReason::ConfigInvalid, "")]
        );
        let (status, reason, message) = condition(&planned, ConditionType::ConfigApplied);
        assert_eq!(
            (status.as_str(), reason.as_str()),
            ("False", "ConfigInvalid")
        );
        assert!(
            message.contains(&format!("Key aof2.toml of ConfigMap win is {what}")),
            "{message}"
        );
    }
}
