//! A release of programs that are none: what is written is the same twice, and standard tools read it.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::json;

use super::*;
use crate::command::{find_program, output};
use crate::image::oci::{Entry, Files};

fn part(architecture: &'static str, folder: &Path) -> Part {
    let image = |name: &str| {
        let mut files = Files::default();
        let content = format!("{name} for {architecture}").into_bytes();
        files.add(
            "usr/bin/program",
            Entry::File {
                mode: 0o755,
                content,
            },
        );
        let config = json!({"Entrypoint": ["/usr/bin/program"]});
        let reference = format!("registry.test/{name}:{}", image::VERSION);
        Image::write(
            &reference,
            architecture,
            &config,
            &files,
            &folder.join(name),
        )
        .unwrap()
    };
    Part {
        architecture,
        engine: image("aof2-engine"),
        operator: image("aof2-operator"),
    }
}

fn release(folder: &Path) -> Release {
    let work = folder.join("work");
    let parts = ["amd64", "arm64"].map(|name| part(name, &work.join(name)));
    Release::write(&parts, "registry.test/aof2", &folder.join("dist"), &work).unwrap()
}

#[test]
fn two_releases_of_the_same_sources_are_the_same_files() {
    let folders = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let [first, second] = folders.each_ref().map(|folder| release(folder.path()));
    assert_eq!(first.references(), second.references());
    let sums = |release: &Release| fs::read_to_string(release.folder.join("SHA256SUMS")).unwrap();
    assert_eq!(sums(&first), sums(&second));
    output(
        Command::new("sha256sum")
            .args(["-c", "SHA256SUMS"])
            .current_dir(&first.folder),
    )
    .unwrap();
    assert_eq!(sums(&first).lines().count(), 7, "{}", sums(&first));
}

#[test]
fn the_packaged_chart_names_the_images_of_its_registry() {
    let folder = tempfile::tempdir().unwrap();
    let release = release(folder.path());
    let package = release
        .folder
        .join(format!("{}-{}.tgz", chart::NAME, image::VERSION));
    let listed = Command::new("tar")
        .args(["-xzOf"])
        .arg(&package)
        .arg(format!("{}/values.yaml", chart::NAME))
        .output()
        .unwrap();
    let values = String::from_utf8(listed.stdout).unwrap();
    for name in ["aof2-engine", "aof2-operator"] {
        assert!(
            values.contains(&format!("repository: registry.test/aof2/{name}\n")),
            "{values}"
        );
    }
    assert!(!values.contains(image::LOCAL_PREFIX), "{values}");
    // Not as a directory lists them, which is another order on another machine.
    let listed = Command::new("tar")
        .arg("-tzf")
        .arg(package)
        .output()
        .unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let names: Vec<&str> = listed.lines().collect();
    assert!(names.len() > 8 && names.is_sorted(), "{listed}");
}

/// Through a registry, by the clients of users. `cargo xtask test` brings them.
#[test]
fn a_registry_takes_the_release_and_helm_installs_from_it() {
    let Some(folder) = std::env::var_os("AOF2_E2E_BIN").map(PathBuf::from) else {
        assert!(
            find_program("crane").is_none() || find_program("helm").is_none(),
            "set AOF2_E2E_BIN to their folder"
        );
        eprintln!("skipped: `cargo xtask test` runs this test with crane and helm");
        return;
    };
    registry::serve(&folder, |address| {
        let prefix = format!("{address}/aof2");
        let own = tempfile::tempdir()?;
        let work = own.path().join("work");
        let parts = ["amd64", "arm64"].map(|name| part(name, &work.join(name)));
        let release = Release::write(&parts, &prefix, &own.path().join("dist"), &work)?;
        for image in [&release.engine, &release.operator, &release.chart] {
            registry::push_with(&folder, image)?;
        }
        for architecture in ["amd64", "arm64"] {
            let config = output(
                Command::new(folder.join("crane"))
                    .args(["config", "--platform", &format!("linux/{architecture}")])
                    .arg(&release.engine.reference),
            )?;
            assert!(
                config.contains(&format!("\"architecture\":\"{architecture}\"")),
                "{config}"
            );
        }
        let rendered = output(
            Command::new(folder.join("helm"))
                .args([
                    "template",
                    "aof2",
                    "--plain-http",
                    "--kube-version",
                    "1.36.3",
                    "--version",
                    image::VERSION,
                ])
                .arg(format!("oci://{prefix}/charts/{}", chart::NAME))
                .current_dir(own.path()),
        )?;
        assert!(
            rendered.contains(&format!(
                "image: \"{prefix}/aof2-operator:{}\"",
                image::VERSION
            )),
            "{rendered}"
        );
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_registry_with_a_scheme_or_a_tag_is_refused_in_words() {
    for wrong in [
        "",
        "https://registry.test",
        "Registry.test/a",
        "registry.test/",
        "a b",
    ] {
        let error = checked(wrong).unwrap_err().to_string();
        assert!(error.contains("registry.example.com/aof2"), "{error}");
    }
    assert_eq!(
        checked("127.0.0.1:5000/aof2").unwrap(),
        "127.0.0.1:5000/aof2"
    );
}
