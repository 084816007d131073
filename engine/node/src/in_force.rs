//! The configuration in force.
//!
//! - Hot keys take effect at once, all of them or none. A key that needs a restart sets `restart_pending` and changes nothing.
//! - A file that is not valid leaves everything as it was and is reported with its revision.

use std::sync::Arc;

use aof2_admin_api::report::{ConfigReport, Reload};
use arc_swap::ArcSwap;
use parking_lot::Mutex;

use crate::config::{self, ConfigErrors, Settings};

/// What this process runs with.
pub struct InForce {
    current: ArcSwap<Current>,
    /// One change at a time, and none while an engine begins to serve: it would get the settings of before, and no news.
    changing: Mutex<()>,
}

struct Current {
    settings: Settings,
    report: ConfigReport,
}

impl InForce {
    pub fn new(settings: Settings) -> Self {
        let report = ConfigReport {
            revision: settings.revision.clone(),
            ..ConfigReport::default()
        };
        InForce {
            current: ArcSwap::from_pointee(Current { settings, report }),
            changing: Mutex::new(()),
        }
    }

    /// Begins something that has to obey the settings from here on: `begin` applies them, and makes it known to those that apply later ones.
    pub fn obeyed_by(&self, begin: impl FnOnce(&Settings)) {
        let _changing = self.changing.lock();
        begin(&self.current.load().settings);
    }

    pub fn settings(&self) -> Settings {
        self.current.load().settings.clone()
    }

    pub fn report(&self) -> ConfigReport {
        self.current.load().report.clone()
    }

    /// Takes over a new file. `apply` gets the settings when hot keys changed, before they are reported as in use.
    pub fn offer(
        &self,
        offered: Result<Settings, ConfigErrors>,
        revision: Option<String>,
        apply: impl FnOnce(&Settings),
    ) {
        let _changing = self.changing.lock();
        let current = self.current.load_full();
        let mut report = current.report.clone();
        let offered = match offered {
            Ok(offered) => offered,
            Err(errors) => {
                tracing::error!(revision = revision.as_deref().unwrap_or(""), error = %errors, "new configuration rejected; the previous one stays in use");
                report.error = Some(errors.to_string());
                report.error_revision = revision;
                self.current.store(Arc::new(Current {
                    settings: current.settings.clone(),
                    report,
                }));
                return;
            }
        };
        let changes = config::changes(&current.settings, &offered);
        report.restart_pending = changes
            .iter()
            .any(|change| change.reload == Reload::Restart);
        report.revision = offered.revision.clone();
        report.error = None;
        report.error_revision = None;
        // Where the new hot values contradict old ones that only a restart changes, all of them wait for the restart.
        let merged = current.settings.with_hot_keys_of(&offered).ok();
        let is_changed = changes.iter().any(|change| change.reload == Reload::Hot);
        if is_changed && merged.is_some() {
            report.reloads += 1;
        }
        for change in &changes {
            tracing::info!(key = %change.key, from = %change.from, to = %change.to, reload = ?change.reload, "configuration changed");
        }
        if let Some(merged) = merged.as_ref().filter(|_| is_changed) {
            apply(merged);
        }
        let settings = merged.unwrap_or_else(|| current.settings.clone());
        self.current.store(Arc::new(Current { settings, report }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Mode;

    fn settings(text: &str) -> Result<Settings, ConfigErrors> {
        config::parse("aof2.toml", text, Mode::StandAlone)
    }

    /// Answers what was applied.
    fn offered(
        config: &InForce,
        file: Result<Settings, ConfigErrors>,
        revision: Option<String>,
    ) -> Option<Settings> {
        let before = config.report().revision;
        let mut applied = None;
        config.offer(file, revision, |settings| {
            assert_eq!(
                config.report().revision,
                before,
                "applied first, told after"
            );
            applied = Some(settings.clone());
        });
        applied
    }

    fn in_force(text: &str) -> InForce {
        InForce::new(settings(text).expect("valid"))
    }

    #[test]
    fn a_hot_key_takes_effect_and_counts_as_a_reload() {
        let config = in_force("[operator]\nrevision = \"a\"\n");
        let applied = offered(
            &config,
            settings("[operator]\nrevision = \"b\"\n[tier0]\ninstance_quota_bytes = 5\n"),
            None,
        );
        assert_eq!(applied.expect("hot").tier0.instance_quota_bytes, 5);
        let report = config.report();
        assert_eq!(
            (
                report.revision.as_str(),
                report.restart_pending,
                report.reloads
            ),
            ("b", false, 1)
        );
        assert_eq!(config.settings().tier0.instance_quota_bytes, 5);
    }

    #[test]
    fn a_restart_key_changes_nothing_and_sets_restart_pending_until_it_is_taken_back() {
        let config = in_force("[journal]\nfiles = 8\n");
        assert_eq!(
            offered(
                &config,
                settings("[operator]\nrevision = \"b\"\n[journal]\nfiles = 9\n"),
                None
            ),
            None
        );
        assert_eq!(config.settings().journal.files, 8);
        assert!(config.report().restart_pending);
        assert_eq!(config.report().revision, "b");
        offered(&config, settings("[journal]\nfiles = 8\n"), None);
        assert!(!config.report().restart_pending);
    }

    #[test]
    fn a_file_that_is_not_valid_leaves_everything_and_is_reported_until_a_valid_one_comes() {
        let config = in_force("[operator]\nrevision = \"a\"\n[log]\nlevel = \"warn\"\n");
        assert_eq!(
            offered(
                &config,
                settings("[log]\nlevel = \"loud\"\n"),
                Some("bad".to_string())
            ),
            None
        );
        let report = config.report();
        assert_eq!(report.revision, "a");
        assert_eq!(report.error_revision.as_deref(), Some("bad"));
        assert!(report.error.expect("an error").contains("log.level"));
        assert_eq!(config.settings().log.level, "warn");
        offered(
            &config,
            settings("[operator]\nrevision = \"a\"\n[log]\nlevel = \"warn\"\n"),
            None,
        );
        assert_eq!(config.report().error, None);
    }

    #[test]
    fn hot_values_that_contradict_old_restart_values_wait_for_the_restart() {
        let config = in_force("");
        let text = "[journal]\nfiles = 64\n[checkpoint]\njournal_bytes = 2147483648\n";
        assert_eq!(offered(&config, settings(text), None), None);
        assert_eq!(config.settings().checkpoint.journal_bytes, 256 << 20);
        assert!(config.report().restart_pending);
        assert_eq!(config.report().reloads, 0);
    }

    #[test]
    fn an_engine_that_begins_to_serve_while_a_file_is_taken_over_gets_what_the_file_says() {
        let config = in_force("");
        let plane = Mutex::new(None);
        let offered = settings("[tier0]\ninstance_quota_bytes = 5\n");
        std::thread::scope(|scope| {
            config.offer(offered, None, |_| {
                // There is no engine yet to notify.
                assert_eq!(*plane.lock(), None);
                scope.spawn(|| {
                    config.obeyed_by(|settings| {
                        *plane.lock() = Some(settings.tier0.instance_quota_bytes);
                    });
                });
                // Time to begin, were it not kept waiting.
                std::thread::sleep(std::time::Duration::from_millis(100));
            });
        });
        assert_eq!(*plane.lock(), Some(5));
    }
}
