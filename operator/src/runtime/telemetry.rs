//! The log.

use std::io::IsTerminal;

use tracing_subscriber::{EnvFilter, fmt, prelude::*};

/// kube's client logs an answer that it cannot parse, and so every object of a list, with what is in it; its error, which has no body, is
/// logged by who called.
fn quiet(filter: EnvFilter) -> Result<EnvFilter, tracing_subscriber::filter::ParseError> {
    Ok(filter.add_directive("kube_client::client=off".parse()?))
}

/// Installs the log of the process; a filter that does not parse is an error of the command line.
pub fn install(filter: &str, json: bool) -> Result<(), tracing_subscriber::filter::ParseError> {
    let filter = quiet(EnvFilter::try_new(filter)?)?;
    let registry = tracing_subscriber::registry().with(filter);
    if json {
        registry
            .with(fmt::layer().json().with_writer(std::io::stderr))
            .init();
    } else {
        registry
            .with(
                fmt::layer()
                    .with_ansi(std::io::stderr().is_terminal())
                    .with_writer(std::io::stderr),
            )
            .init();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("one writer").extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn no_body_of_an_answer_is_logged_whatever_the_filter() {
        for filter in [
            "info",
            "trace",
            "kube_client=debug",
            "kube_client::client=warn",
        ] {
            let lines = Lines::default();
            let writer = lines.clone();
            let subscriber = tracing_subscriber::registry()
                .with(quiet(EnvFilter::new(filter)).expect("a directive"))
                .with(fmt::layer().with_writer(move || writer.clone()));
            tracing::subscriber::with_default(subscriber, || {
                tracing::warn!(target: "kube_client::client", "{}", "a whole list");
                tracing::error!(target: "kube_client::client", "{}", "a whole list");
                tracing::error!("ours");
            });
            let text = String::from_utf8(lines.0.lock().expect("written").clone()).expect("text");
            assert!(!text.contains("a whole list"), "{filter}: {text}");
        }
    }
}
