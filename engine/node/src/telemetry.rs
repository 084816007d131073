//! Logs on standard error: JSON in a container, text on a terminal. The level reloads.

use std::io::IsTerminal;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt, reload};

/// Changes the level of a running process.
#[derive(Clone)]
pub struct Level(reload::Handle<Targets, Registry>);

/// Of events that say who changed what: no level of the configuration hides them.
pub const AUDIT: &str = "audit";

pub fn init(level: &str) -> Level {
    let (filter, handle) = reload::Layer::new(parse(level));
    let layer = fmt::layer().with_writer(std::io::stderr);
    let layer = if std::io::stderr().is_terminal() {
        layer.boxed()
    } else {
        layer
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .boxed()
    };
    // A second call, as in a test that embeds the server, keeps the first subscriber.
    let _ = tracing_subscriber::registry()
        .with(filter)
        .with(layer)
        .try_init();
    Level(handle)
}

impl Level {
    pub fn set(&self, level: &str) {
        // Fails only when the subscriber is gone.
        let _ = self.0.modify(|filter| *filter = parse(level));
    }
}

/// The configuration admits these five only.
fn parse(level: &str) -> Targets {
    let level = level.parse().unwrap_or(LevelFilter::INFO);
    Targets::new()
        .with_default(level)
        .with_target(AUDIT, level.max(LevelFilter::INFO))
}
