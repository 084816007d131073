//! The images of the product, made from the programs of the workspace: binaries and the few files they need, nothing else.

pub mod elf;
pub mod oci;
pub mod registry;
pub mod tar;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::cargo::{self, Built, Targets};
use crate::command::output;
use crate::console::say;
use crate::places;
use oci::{Entry, Files, Image};

/// The version of the workspace, and the one that the upgrade goes to: the same sources, relinked.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
const NEXT_VERSION: &str = "0.1.1";
const VERSITYGW_VERSION: &str = "1.8.0";
/// Where images of a cluster without a registry live.
pub const LOCAL_PREFIX: &str = "aof2.local";

/// Of images for this machine's clusters, in Go's words.
pub const HERE: &str = if cfg!(target_arch = "aarch64") {
    "arm64"
} else {
    "amd64"
};

/// Name and group of nobody in particular; images say it in numbers, because Kubernetes checks `runAsNonRoot` by number.
const USER: &str = "65532:65532";

const ENGINE_PROGRAMS: &[&str] = &[
    "aof2-engine",
    "aof2-admin",
    "manifest-inspect",
    "tier1-cache-util",
];
const OPERATOR_PROGRAMS: &[&str] = &["aof2-operator"];

/// Builds the workspace's programs and makes all images of them.
pub fn build(prefix: &str) -> Result<Vec<Image>> {
    build_from(
        &cargo::build(Targets::Programs, None)?,
        Targets::Programs,
        prefix,
    )
}

/// The same from programs that are built already; `targets` is what built them, so that nothing is compiled twice.
pub fn build_from(built: &Built, targets: Targets, prefix: &str) -> Result<Vec<Image>> {
    let folder = images_folder(built)?;
    let current = stripped(
        built,
        ENGINE_PROGRAMS,
        &folder.join(format!("engine-{VERSION}")),
    )?;
    let next_folder = folder.join(format!("engine-{NEXT_VERSION}"));
    relink_engine(&current, targets, &next_folder)?;
    let next: Vec<PathBuf> = ENGINE_PROGRAMS
        .iter()
        .map(|name| next_folder.join(name))
        .collect();
    let operator = stripped(built, OPERATOR_PROGRAMS, &folder.join("operator"))?;

    let images = vec![
        of_engine(prefix, VERSION, HERE, &current, &folder)?,
        of_engine(prefix, NEXT_VERSION, HERE, &next, &folder)?,
        of_operator(prefix, HERE, &operator, &folder)?,
        image(
            &format!("{prefix}/versitygw:{VERSITYGW_VERSION}"),
            "versitygw",
            HERE,
            &[places::bin()?.join("versitygw")],
            &folder,
        )?,
    ];
    for image in &images {
        say(format_args!(
            "image {} {}",
            image.reference,
            &image.digest[..19]
        ));
    }
    Ok(images)
}

fn of_engine(
    prefix: &str,
    version: &str,
    architecture: &str,
    programs: &[PathBuf],
    folder: &Path,
) -> Result<Image> {
    let reference = format!("{prefix}/aof2-engine:{version}");
    image(&reference, "aof2-engine", architecture, programs, folder)
}

fn of_operator(
    prefix: &str,
    architecture: &str,
    programs: &[PathBuf],
    folder: &Path,
) -> Result<Image> {
    let reference = format!("{prefix}/aof2-operator:{VERSION}");
    image(&reference, "aof2-operator", architecture, programs, folder)
}

/// Engine and operator of a release for one platform; `strip` is the platform's.
pub fn of_release(
    built: &Built,
    strip: &str,
    prefix: &str,
    architecture: &str,
    folder: &Path,
) -> Result<[Image; 2]> {
    let programs = folder.join("programs");
    let engine = stripped_by(strip, built, ENGINE_PROGRAMS, &programs)?;
    let operator = stripped_by(strip, built, OPERATOR_PROGRAMS, &programs)?;
    Ok([
        of_engine(prefix, VERSION, architecture, &engine, folder)?,
        of_operator(prefix, architecture, &operator, folder)?,
    ])
}

/// `images/` beside the folder the programs were built into.
fn images_folder(built: &Built) -> Result<PathBuf> {
    // <target>/<triple>/debug/aof2-engine
    let program = built.program(ENGINE_PROGRAMS[0])?;
    let target = program
        .ancestors()
        .nth(3)
        .with_context(|| format!("{} is not where cargo puts programs", program.display()))?;
    Ok(target.join("images"))
}

fn stripped(built: &Built, names: &[&str], folder: &Path) -> Result<Vec<PathBuf>> {
    stripped_by("strip", built, names, folder)
}

fn stripped_by(strip: &str, built: &Built, names: &[&str], folder: &Path) -> Result<Vec<PathBuf>> {
    fs::create_dir_all(folder)?;
    let mut programs = Vec::new();
    for name in names {
        let source = built.program(name)?;
        if !elf::is_static(source)? {
            bail!(
                "{} needs shared libraries, which an image does not have; build it with the flags of .cargo/config.toml",
                source.display()
            );
        }
        let program = folder.join(name);
        output(Command::new(strip).arg("-o").arg(&program).arg(source))
            .context("cannot strip a program; `strip` is in the package binutils")?;
        programs.push(program);
    }
    Ok(programs)
}

/// Makes the engine of the next version: the same code with another version constant, which only the last step of the build
/// reads. Left alone while it stems from the same programs.
fn relink_engine(current: &[PathBuf], targets: Targets, folder: &Path) -> Result<()> {
    let mut hash = Sha256::new();
    for program in current {
        hash.update(fs::read(program)?);
    }
    let origin = hex::encode(hash.finalize());
    let stamp = folder.join(".made-from");
    if fs::read_to_string(&stamp).is_ok_and(|made_from| made_from == origin) {
        return Ok(());
    }
    say(format_args!("relinking the engine as {NEXT_VERSION}"));
    let next = cargo::build(targets, Some(NEXT_VERSION))?;
    stripped(&next, ENGINE_PROGRAMS, folder)?;
    // Back to what everybody else expects in the target folder.
    cargo::build(targets, None)?;
    fs::write(stamp, origin)?;
    Ok(())
}

fn image(
    reference: &str,
    entrypoint: &str,
    architecture: &str,
    programs: &[PathBuf],
    folder: &Path,
) -> Result<Image> {
    let mut files = base_files()?;
    for program in programs {
        let name = program
            .file_name()
            .and_then(|name| name.to_str())
            .context("a program without a name")?;
        files.program(&format!("usr/bin/{name}"), program)?;
    }
    let (_, version) = reference
        .rsplit_once(':')
        .context("a reference without a tag")?;
    let config = json!({
        "Entrypoint": [format!("/usr/bin/{entrypoint}")],
        "Env": ["PATH=/usr/bin"],
        "User": USER,
        "WorkingDir": "/",
        "Labels": {"org.opencontainers.image.title": entrypoint, "org.opencontainers.image.version": version},
    });
    Image::write(
        reference,
        architecture,
        &config,
        &files,
        &folder.join(format!("{entrypoint}-{version}.oci")),
    )
}

/// What a program expects of any system: a user database, a temporary folder, the authorities it may trust.
fn base_files() -> Result<Files> {
    let mut files = Files::default();
    let text = |content: &str| Entry::File {
        mode: 0o644,
        content: content.as_bytes().to_vec(),
    };
    files.add(
        "etc/passwd",
        text("root:x:0:0:root:/:/sbin/nologin\naof2:x:65532:65532:aof2:/:/sbin/nologin\n"),
    );
    files.add("etc/group", text("root:x:0:\naof2:x:65532:\n"));
    files.add("tmp", Entry::Folder { mode: 0o1777 });
    let authorities = Path::new("/etc/ssl/certs/ca-certificates.crt");
    if authorities.is_file() {
        let content = fs::read(authorities)?;
        files.add(
            "etc/ssl/certs/ca-certificates.crt",
            Entry::File {
                mode: 0o644,
                content,
            },
        );
    }
    Ok(files)
}
