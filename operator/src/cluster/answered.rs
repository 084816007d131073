//! Answers to questions of plans, kept for a while. Losing them costs one question each.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

/// The cluster's uid, and what tells the question from others of the cluster.
type Question = (String, String);

pub struct Answered<T>(Mutex<HashMap<Question, (Instant, T)>>);

impl<T> Default for Answered<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Clone> Answered<T> {
    pub fn get(&self, question: &Question, holds: Duration) -> Option<T> {
        let answers = self.0.lock();
        let (asked, answer) = answers.get(question)?;
        (asked.elapsed() < holds).then(|| answer.clone())
    }

    /// One answer per cluster is enough.
    pub fn put(&self, question: Question, answer: T) {
        let mut answers = self.0.lock();
        answers.retain(|(uid, _), _| *uid != question.0);
        answers.insert(question, (Instant::now(), answer));
    }
}
