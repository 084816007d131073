//! Asks what a plan has to know and nobody can read: a dry run at the API server, and an engine's word on a configuration.

use std::time::Duration;

use jiff::Timestamp;

use crate::{
    cluster::{
        facts::Answers,
        memory::Memory,
        plan::{self, ConfigQuestion, CountQuestion, Questions, TemplateQuestion},
    },
    config_rollout::{Verdict, takes::Counts},
    context::Context,
    engines::{NotCounted, Whose},
    kube::{CallError, Door, Remedy},
    runtime::jitter,
};

/// An answer is kept for so long: neither a refused template nor rules of retention are asked about at every look.
const ANSWER_HOLDS: Duration = Duration::from_secs(300);

pub async fn ask(
    context: &Context,
    memory: &Memory,
    whose: Option<&Whose>,
    questions: Questions,
) -> Answers {
    let Questions {
        template,
        config,
        eviction,
        count,
    } = questions;
    let mut answers = Answers::default();
    if let Some(question) = template {
        let cluster = (question.uid.clone(), String::new());
        let check = question.digest.clone();
        let now = Timestamp::now();
        if let Some(failure) = memory.checks.pending(&cluster, &check, now) {
            answers.template_unknown = Some(failure.message);
        } else {
            match refusal(&context.door, memory, question).await {
                Ok(refused) => {
                    memory.checks.succeeded(&cluster, &check);
                    answers.template_refused = refused;
                }
                Err(error) => {
                    let error = error.into();
                    let failure = memory
                        .checks
                        .failed(&cluster, &check, &error, now, jitter());
                    memory.checks.keep_only(&cluster, &[check]);
                    answers.template_unknown = Some(failure.message);
                }
            }
        }
    }
    if let Some(target) = eviction {
        // Unanswered it holds nothing up: the eviction itself is asked again.
        match context.door.eviction_refusal(&target).await {
            Ok(refused) => answers.eviction_refused = refused,
            Err(error) => {
                tracing::warn!(
                    pod = target.name,
                    error = error.describe(),
                    "dry-run eviction"
                );
            }
        }
    }
    if let (Some(question), Some(whose)) = (config, whose) {
        answers.verdict = verdict(context, whose, question).await;
    }
    if let (Some(question), Some(whose)) = (count, whose)
        && question.is_asked(answers.verdict.as_ref())
    {
        let key = (question.uid.clone(), question.rules.clone());
        // Where status does not keep an answer, under an older CRD, it is due again at each look.
        let kept = memory.counts.get(&key, ANSWER_HOLDS);
        let kept = kept.filter(|_| !question.is_of_verdict());
        answers.counts = Some(match kept {
            Some(kept) => kept,
            None => {
                let counts = counts(context, whose, question).await;
                memory.counts.put(key, counts.clone());
                counts
            }
        });
    }
    answers
}

/// `None`: the API server takes it.
async fn refusal(
    door: &Door,
    memory: &Memory,
    question: TemplateQuestion,
) -> Result<Option<String>, CallError> {
    let TemplateQuestion {
        uid,
        digest,
        stateful_set,
    } = question;
    let key = (uid, digest);
    if let Some(answer) = memory.dry_runs.get(&key, ANSWER_HOLDS) {
        return Ok(answer);
    }
    let answer = match door.dry_run(&*stateful_set).await {
        Ok(()) => None,
        // 500 is the answer to a template that has no type, such as two variables of one name.
        Err(CallError::Refused { refusal, .. }) if matches!(refusal.code, 400 | 422 | 500) => {
            Some(cause(&refusal.message).to_owned())
        }
        Err(error) if error.remedy() == Remedy::Fix => Some(error.describe()),
        Err(error) => return Err(error),
    };
    memory.dry_runs.put(key, answer.clone());
    Ok(answer)
}

/// Field and fault, without the name of the StatefulSet that nobody wrote: STATUS is short.
fn cause(message: &str) -> &str {
    let after = |mark| message.split_once(mark).map(|(_, cause)| cause);
    let cause = after("Kind=StatefulSet): ").or_else(|| after("\" is invalid: "));
    let cause = cause.unwrap_or(message).trim_start_matches('.');
    cause.strip_prefix("spec.template.").unwrap_or(cause)
}

/// `None`: the engine did not answer, and the next look asks again.
async fn verdict(context: &Context, whose: &Whose, question: ConfigQuestion) -> Option<Verdict> {
    let ConfigQuestion {
        pod,
        version,
        ip,
        user_text,
        pod_text,
    } = question;
    let asked = context
        .engines
        .validate(whose, ip, user_text.as_deref(), &pod_text)
        .await;
    match asked {
        Ok(verdict) => Some(plan::verdict(pod, version, verdict)),
        Err(failure) => {
            tracing::warn!(pod, failure.message, "config:validate");
            None
        }
    }
}

/// All pods at the same time. One that does not answer has a reason, and no figures.
async fn counts(context: &Context, whose: &Whose, question: CountQuestion) -> Counts {
    let CountQuestion { rules, pods, .. } = question;
    let rules = &rules;
    let asked = pods.into_iter().map(async |(pod, ip)| {
        let answer = match ip {
            Some(ip) => context.engines.shortened(whose, &pod, ip, rules).await,
            None => Err(NotCounted::Failed(
                "it gives no report; `kubectl get pod` and its log show why".to_owned(),
            )),
        };
        let answer = answer.map(plan::counts).map_err(|why| {
            tracing::warn!(pod, "what shorter retention takes is not counted: {why:?}");
            why.of(&pod)
        });
        (pod, answer)
    });
    Counts(futures::future::join_all(asked).await.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::extract::{Request, State};
    use axum::http::StatusCode;
    use axum::{Json, Router};
    use serde_json::{Value, json};

    use super::*;
    use crate::cluster::testing::observed;
    use crate::runtime::metrics::Metrics;

    /// An API server that refuses every dry run, and counts them.
    async fn refuse(
        State(asked): State<Arc<AtomicUsize>>,
        request: Request,
    ) -> (StatusCode, Json<Value>) {
        let query = request.uri().query().unwrap_or_default();
        assert!(query.contains("dryRun=All"), "{query}");
        asked.fetch_add(1, Ordering::SeqCst);
        let status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "code": 422, "reason": "Invalid", "message": "spec.template.spec.containers[0].image: Required value",
        });
        (StatusCode::UNPROCESSABLE_ENTITY, Json(status))
    }

    #[test]
    fn a_refusal_names_the_field_first() {
        for (said, cause) in [
            (
                "failed to create typed patch object (aof2/orders; apps/v1, Kind=StatefulSet): .spec.template.spec.containers[name=\"app\"].env: duplicate entries",
                "spec.containers[name=\"app\"].env: duplicate entries",
            ),
            (
                "StatefulSet.apps \"orders\" is invalid: spec.template.spec.containers[0].image: Required value",
                "spec.containers[0].image: Required value",
            ),
            ("denied by a webhook", "denied by a webhook"),
        ] {
            assert_eq!(super::cause(said), cause);
        }
    }

    #[tokio::test]
    async fn a_refused_template_is_asked_about_once_and_another_one_again() {
        let asked = Arc::new(AtomicUsize::default());
        let router = Router::new().fallback(refuse).with_state(asked.clone());
        let client = kube::Client::new(router, "shop");
        let door = Door::new(client, "test", Arc::new(Metrics::default()));
        let memory = Memory::default();
        let mut observed = observed();
        for (version, count) in [("0.1.0", 1), ("0.1.0", 1), ("0.1.1", 2)] {
            observed.cluster.spec.version = version.into();
            let question = plan::questions(&observed).template.expect("a question");
            let refused = refusal(&door, &memory, question).await.expect("an answer");
            let message = refused.expect("a refusal");
            assert!(message.contains("Required value"), "{message}");
            assert_eq!(asked.load(Ordering::SeqCst), count, "{version}");
        }
    }
}
