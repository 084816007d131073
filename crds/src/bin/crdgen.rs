//! Writes `crds/generated/*.yaml` and the copies in the chart.

use std::error::Error;
use std::fs;
use std::path::Path;

fn main() -> Result<(), Box<dyn Error>> {
    let crate_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    for folder in [
        crate_dir.join("generated"),
        crate_dir.join("../charts/aof2-operator/crds"),
    ] {
        fs::create_dir_all(&folder)?;
        for file in aof2_crds::crd::files()? {
            fs::write(folder.join(file.name), file.yaml)?;
        }
    }
    Ok(())
}
