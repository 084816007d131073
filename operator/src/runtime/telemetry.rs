//! The log.

use std::io::IsTerminal;

use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::Layered;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt, prelude::*};

/// kube's client logs an answer that it cannot parse, and so every object of a list, with what is in it; its error, which has no body, is
/// logged by who called.
fn quiet(filter: EnvFilter) -> Result<EnvFilter, tracing_subscriber::filter::ParseError> {
    Ok(filter.add_directive("kube_client::client=off".parse()?))
}

/// Lines in JSON, or for people. Spans are the queue's and repeat what the line says: they are left out.
fn lines<W>(json: bool, with_color: bool, writer: W) -> Box<dyn Layer<Filtered> + Send + Sync>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let is_line = filter_fn(|metadata| !metadata.is_span());
    if json {
        let layer = fmt::layer().json().with_span_list(false);
        let layer = layer.with_current_span(false).with_writer(writer);
        layer.with_filter(is_line).boxed()
    } else {
        let layer = fmt::layer().with_ansi(with_color).with_writer(writer);
        layer.with_filter(is_line).boxed()
    }
}

type Filtered = Layered<EnvFilter, Registry>;

/// Installs the log of the process; a filter that does not parse is an error of the command line.
pub fn install(filter: &str, json: bool) -> Result<(), tracing_subscriber::filter::ParseError> {
    let filter = quiet(EnvFilter::try_new(filter)?)?;
    let with_color = std::io::stderr().is_terminal();
    tracing_subscriber::registry()
        .with(filter)
        .with(lines(json, with_color, std::io::stderr))
        .init();
    Ok(())
}

/// What a test logs.
#[cfg(test)]
pub mod testing {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    pub struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("one writer").extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// Of the process that runs one test by itself.
    const ALONE: &str = "AOF2_TEST_ALONE";

    /// Runs `body` in a process of its own: which lines a thread logs also depends on what other threads listen to. `test` is the full
    /// name of the test that calls this.
    pub fn alone(test: &str, body: impl FnOnce()) {
        if std::env::var_os(ALONE).is_some() {
            return body();
        }
        let mut command = std::process::Command::new(std::env::current_exe().expect("itself"));
        let output = command.args(["--exact", test]).env(ALONE, "").output();
        let output = output.expect("it runs");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains("test result: ok. 1 passed"), "{text}");
    }

    impl Lines {
        /// The log of this thread, until the guard goes.
        pub fn capture(&self, filter: &str, json: bool) -> tracing::subscriber::DefaultGuard {
            let writer = self.clone();
            let filter = quiet(EnvFilter::new(filter)).expect("a directive");
            let subscriber =
                tracing_subscriber::registry()
                    .with(filter)
                    .with(lines(json, false, move || writer.clone()));
            tracing::subscriber::set_default(subscriber)
        }

        /// What was logged since it was last asked.
        pub fn take(&self) -> String {
            let bytes = std::mem::take(&mut *self.0.lock().expect("one reader"));
            String::from_utf8(bytes).expect("text")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{Lines, alone};

    #[test]
    fn no_body_of_an_answer_is_logged_whatever_the_filter() {
        for filter in [
            "info",
            "trace",
            "kube_client=debug",
            "kube_client::client=warn",
        ] {
            let lines = Lines::default();
            let log = lines.capture(filter, false);
            tracing::warn!(target: "kube_client::client", "{}", "a whole list");
            tracing::error!(target: "kube_client::client", "{}", "a whole list");
            tracing::error!("ours");
            drop(log);
            let text = lines.take();
            assert!(!text.contains("a whole list"), "{filter}: {text}");
        }
    }

    #[test]
    fn a_line_has_each_field_once_whatever_spans_are_around_it() {
        let test = "a_line_has_each_field_once_whatever_spans_are_around_it";
        alone(&format!("runtime::telemetry::tests::{test}"), || {
            for json in [false, true] {
                let lines = Lines::default();
                let log = lines.capture("info", json);
                let span = tracing::info_span!("reconciling object", namespace = "shop").entered();
                tracing::info!(namespace = "shop", "ours");
                drop((span, log));
                let text = lines.take();
                assert_eq!(text.matches("shop").count(), 1, "{text}");
            }
        });
    }
}
