//! Clippy reads the nearest configuration only: what holds for all crates has to stand in the store's own as well.

use std::path::Path;

#[test]
fn the_store_s_lints_include_those_of_the_workspace() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let read = |path: &str| std::fs::read_to_string(root.join(path)).expect("it is there");
    let (workspace, store) = (read("clippy.toml"), read("engine/core/clippy.toml"));
    let entries = |text: &str| -> Vec<String> {
        let lines = text.lines().map(str::trim);
        lines
            .filter(|line| line.starts_with("{ path"))
            .map(str::to_owned)
            .collect()
    };
    let theirs = entries(&store);
    let missing: Vec<String> = entries(&workspace)
        .into_iter()
        .filter(|entry| !theirs.contains(entry))
        .collect();
    assert!(!entries(&workspace).is_empty());
    assert_eq!(
        missing,
        Vec::<String>::new(),
        "not in engine/core/clippy.toml"
    );
}
