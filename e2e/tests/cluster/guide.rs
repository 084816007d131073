//! The pages of the guide that tell how to prove that nothing is lost, how to change a configuration, how to take snapshots and where the
//! bytes are: their commands, as they stand there.

use std::time::Duration;

use aof2_e2e::guide::{self, Page};
use aof2_e2e::scenario::{self, Failure};
use serde_json::json;

use crate::setup;

#[test]
fn the_commands_of_the_guide_do_what_the_pages_say() -> Result<(), Failure> {
    scenario::run("guide", Duration::from_secs(420), async |scenario| {
        let spec = json!({"configRollout": {"observationWindow": "75s", "progressDeadline": "6m"}});
        let (running, pipeline) = setup::orders_by_pipeline(scenario, 1, 20, spec).await?;
        let pages = [
            "prove-nothing-is-lost.md",
            "change-configuration.md",
            "snapshots.md",
            "tiers-and-budgets.md",
            "storage-report.md",
        ];
        for page in pages {
            for block in Page::read(page)?.blocks {
                let output = guide::run(
                    &scenario.environment,
                    pipeline.folder(),
                    &scenario.namespace.name,
                    &block,
                )
                .await?;
                scenario.say(format!("{page}:\n{block}\n{}", output.stdout));
            }
        }
        running.ensure_nothing_lost(scenario).await?;
        Ok(())
    })
}
