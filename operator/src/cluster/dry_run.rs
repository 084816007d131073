//! Answers of the API server to dry runs, kept for a while. Losing them costs one question each.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

/// The cluster's uid and the digest of its template.
type Question = (String, String);

/// `None`: accepted; else what was said.
type Answer = Option<String>;

#[derive(Default)]
pub struct DryRuns(Mutex<HashMap<Question, (Instant, Answer)>>);

impl DryRuns {
    pub fn get(&self, question: &Question, holds: Duration) -> Option<Answer> {
        let answers = self.0.lock();
        let (asked, answer) = answers.get(question)?;
        (asked.elapsed() < holds).then(|| answer.clone())
    }

    /// One answer per cluster is enough.
    pub fn put(&self, question: Question, answer: Answer) {
        let mut answers = self.0.lock();
        answers.retain(|(uid, _), _| *uid != question.0);
        answers.insert(question, (Instant::now(), answer));
    }
}
