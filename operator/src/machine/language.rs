//! How a message for a person reads. Every wait and every condition that a test makes is held to it (`Wait::new` and the stamps of
//! conditions call it), so that a new message cannot differ. With `AOF2_MESSAGES=file` the tests list all messages there.

use std::io::Write;

use aof2_crds::WaitReason;

use super::condition::{FALSE, UNKNOWN};
use super::text::{STATUS_LENGTH, headline};
use super::{Wait, is_progress};

/// How a sentence begins that says what to do.
const REMEDIES: &[&str] = &[
    "Add ", "Bring ", "Change ", "Check ", "Correct ", "Create ", "Delete ", "Push ", "Rename ",
    "Restore ", "Run ", "Save ", "Set ", "Upgrade ", "Choose ", "choose ", "Use ", "use ",
    "Remove ", "remove ", "Raise ",
];
/// What says that nobody has to do anything, and what is awaited.
const AWAITED: &[&str] = &[
    " waits",
    "Waiting ",
    "waiting ",
    " yet",
    " until ",
    " in progress",
    "retries",
    "follows",
    "Measuring ",
    "Watching ",
    "watching ",
    "Next try ",
    "issues a new ",
    "renews ",
    "Verifying ",
    " done",
    " writing ",
];

thread_local! {
    /// Facts of an attacker make texts that nobody wrote.
    static IS_HOSTILE: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// Texts of this thread are not judged while it makes them from hostile facts.
pub fn hostile<T>(make: impl FnOnce() -> T) -> T {
    IS_HOSTILE.set(true);
    let made = make();
    IS_HOSTILE.set(false);
    made
}

pub fn check_wait(wait: &Wait) {
    if IS_HOSTILE.get() {
        return;
    }
    let Wait {
        gate,
        reason,
        pod,
        message,
    } = wait;
    list(&format!("{gate}/{reason}"), message);
    check(message);
    // What a server said stands in parentheses or after the colon, and may be long.
    let first = message.split(". ").next().unwrap_or_default();
    let ours = without_quotes(first);
    let ours = ours.split(": ").next().unwrap_or_default();
    // One digit more in the pod's ordinal.
    let room = STATUS_LENGTH - usize::from(!pod.is_empty());
    assert!(
        ours.chars().count() <= room,
        "STATUS is too long: {first:?}"
    );
    assert!(headline(message).chars().count() <= STATUS_LENGTH);
    if !pod.is_empty() {
        let named = without_quotes(message).matches(pod.as_str()).count();
        assert!(named == 1, "{pod} is named {named} times: {message:?}");
        assert!(
            headline(message).contains(pod.as_str()),
            "STATUS does not name {pod}: {message:?}"
        );
    }
    assert!(
        is_progress(*reason) || says_what_next(message),
        "{message:?} neither names a remedy nor what is awaited"
    );
}

pub fn check_condition(kind: &str, status: &str, reason: &str, message: &str) {
    if IS_HOSTILE.get() {
        return;
    }
    list(&format!("{kind}={status}/{reason}"), message);
    check(message);
    let is_bad = status == FALSE || status == UNKNOWN || kind == "Stalled";
    assert!(
        !is_bad || says_what_next(message),
        "{kind}={status}: {message:?} neither names a remedy nor what is awaited"
    );
}

fn check(message: &str) {
    assert!(
        !message.ends_with('.'),
        "a full stop at the end: {message:?}"
    );
    assert!(!message.contains(".."), "two full stops: {message:?}");
    let colons = without_quotes(message).matches(": ").count();
    // A path of a field has none, and what a server says after ours is its own.
    let is_quoting = [" rejected: ", " rejected "]
        .iter()
        .any(|ours| message.contains(ours));
    assert!(colons <= 1 || is_quoting, "{colons} colons: {message:?}");
}

fn says_what_next(message: &str) -> bool {
    let tells = |words: &[&str]| words.iter().any(|word| message.contains(word));
    tells(REMEDIES) || tells(AWAITED)
}

/// Without commands and what stands in parentheses.
fn without_quotes(message: &str) -> String {
    let mut kept = String::new();
    let (mut depth, mut is_command) = (0_u32, false);
    for letter in message.chars() {
        match letter {
            '`' => is_command = !is_command,
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ if depth == 0 && !is_command => kept.push(letter),
            _ => {}
        }
    }
    kept
}

fn list(place: &str, message: &str) {
    if let Some(path) = std::env::var_os("AOF2_MESSAGES") {
        let mut file = std::fs::File::options()
            .append(true)
            .create(true)
            .open(path)
            .expect("a file for the messages");
        // In one write, since tests run at the same time.
        file.write_all(format!("{place}\t{message}\n").as_bytes())
            .expect("the message is written");
    }
}

/// The tables of the machines run once more in a process of their own, which lists what they say.
#[test]
fn every_reason_has_a_message_that_was_checked() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("messages");
    let output = std::process::Command::new(std::env::current_exe().expect("this program"))
        .args(["tests::table", "tests::figures", "plan::tests"])
        .env("AOF2_MESSAGES", &path)
        .output()
        .expect("the tests run");
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(output.status.success(), "{output:?}");
    let has_message = |reason: &WaitReason| {
        let end = format!("/{reason}");
        text.lines()
            .filter_map(|line| line.split_once('\t'))
            .any(|(place, message)| place.ends_with(&end) && !message.is_empty())
    };
    let silent: Vec<&WaitReason> = WaitReason::ALL
        .iter()
        // A failed call is in the conditions Reconciling and Stalled; nothing waits with it.
        .filter(|reason| **reason != WaitReason::ApplyFailed)
        .filter(|reason| !has_message(reason))
        .collect();
    assert!(silent.is_empty(), "no test reads a message of {silent:?}");
}
