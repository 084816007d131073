//! Configurations that cannot be followed: in whose words, and what the engines do meanwhile.

use aof2_crds::status::{HistoryEntry, RolloutOutcome};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::config::{changed, roll_to};
use super::*;

#[test]
fn what_an_old_version_rejected_is_asked_again_by_the_new_one() {
    let mut refused = changed();
    refused.cluster.status = Some(plan(&refused).status);
    refused.answers.verdict = Some(Verdict {
        pod: "orders-2".into(),
        version: "0.1.0".into(),
        errors: vec!["log.level: `loud` is not a level".into()],
        changes: Vec::new(),
        shortened: Vec::new(),
    });
    refused.cluster.status = Some(plan(&refused).status);
    refused.answers.verdict = None;
    assert!(plan(&refused).status.rollout.is_none(), "rejected");
    refused.cluster.spec.version = "0.1.1".into();
    let digest =
        crate::cluster::build::template::digest(&refused.cluster.spec, &refused.image_repository);
    let set = refused.stateful_set.as_mut().unwrap();
    (set.template, set.version) = (digest.clone(), "0.1.1".into());
    for pod in &mut refused.pods {
        (pod.template, pod.version) = (digest.clone(), "0.1.1".into());
    }
    let begun = |observed: &Observed| {
        let rollout = plan(observed).status.rollout;
        rollout.is_some_and(|rollout| rollout.step == RolloutStep::Validating)
    };
    assert!(
        !begun(&refused),
        "orders-0 runs the version that rejected it"
    );
    answer(&mut refused, "orders-0").dump.version = "0.1.1".into();
    assert!(begun(&refused));
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
        shortened: Vec::new(),
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
        shortened: Vec::new(),
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
        shortened: Vec::new(),
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
