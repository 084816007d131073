//! Waiting with a deadline: an error says what was waited for and what was last seen instead.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

const POLL: Duration = Duration::from_millis(250);

/// What one look at the world found.
pub enum Look<T> {
    Done(T),
    /// Not yet; the text says what is there instead.
    Waiting(String),
    /// It cannot come any more; the text says why. Ends the wait at once.
    Never(String),
}

/// Looks until it is done. An error of a look counts as "not yet", since the API server and the pods may be away for a moment.
pub async fn until<T>(
    what: &str,
    limit: Duration,
    mut look: impl AsyncFnMut() -> Result<Look<T>>,
) -> Result<T> {
    let start = Instant::now();
    let mut last = String::from("nothing");
    loop {
        let left = limit.saturating_sub(start.elapsed());
        match tokio::time::timeout(left.max(POLL), look()).await {
            Ok(Ok(Look::Done(value))) => return Ok(value),
            Ok(Ok(Look::Waiting(state))) => last = state,
            Ok(Ok(Look::Never(why))) => bail!(
                "{what} cannot come any more after {:.1} s: {why}",
                start.elapsed().as_secs_f64()
            ),
            Ok(Err(error)) => last = format!("{error:#}"),
            Err(_) => last = format!("no answer in time; before that: {last}"),
        }
        if start.elapsed() >= limit {
            bail!(
                "waited {:.0} s for {what}; last seen: {last}",
                limit.as_secs_f64()
            );
        }
        tokio::time::sleep(POLL).await;
    }
}

/// The same for a plain condition: `None` is done, a text says what is there instead.
pub async fn until_none(
    what: &str,
    limit: Duration,
    mut missing: impl AsyncFnMut() -> Result<Option<String>>,
) -> Result<()> {
    until(what, limit, async || {
        Ok(match missing().await? {
            None => Look::Done(()),
            Some(state) => Look::Waiting(state),
        })
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_wait_that_runs_out_says_what_was_there_instead() {
        let error = until::<()>("the moon", Duration::from_millis(10), async || {
            Ok(Look::Waiting("only clouds".into()))
        })
        .await
        .unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("the moon") && text.contains("only clouds"),
            "{text}"
        );
    }

    #[tokio::test]
    async fn a_look_that_fails_is_looked_at_again() {
        let mut looks = 0;
        let found = until("a second look", Duration::from_secs(5), async || {
            looks += 1;
            if looks == 1 {
                bail!("away")
            }
            Ok(Look::Done(looks))
        })
        .await
        .unwrap();
        assert_eq!(found, 2);
    }

    #[tokio::test]
    async fn a_lost_cause_ends_the_wait_at_once() {
        let start = Instant::now();
        let error = until::<()>("rain", Duration::from_secs(60), async || {
            Ok(Look::Never("a desert".into()))
        })
        .await
        .unwrap_err();
        assert!(error.to_string().contains("a desert"));
        assert!(start.elapsed() < Duration::from_secs(5));
    }
}
