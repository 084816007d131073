//! `cargo xtask release`: what is published. The same sources give the same bytes: images, chart and lists of parts depend on no clock,
//! no path and no order of a directory.

mod chart;
mod parts;
#[cfg(test)]
mod tests;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use sha2::{Digest, Sha256};

use crate::cargo;
use crate::command::succeeds;
use crate::console::{say, section};
use crate::image::oci::Image;
use crate::image::{self, registry};
use crate::places;
use crate::prerequisites::{self, Need};

#[derive(clap::Args)]
pub struct Options {
    /// Registry and path that the images and the chart are pushed to, such as registry.example.com/aof2; the chart names the images there
    #[arg(long, value_name = "REGISTRY")]
    push: Option<String>,
    /// Folder for the files; what is in it is replaced
    #[arg(long, value_name = "FOLDER", default_value = "dist")]
    output: PathBuf,
    /// Only for this platform; may be repeated
    #[arg(long = "platform", value_enum, value_name = "PLATFORM")]
    platforms: Vec<Platform>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Platform {
    #[value(name = "linux/amd64")]
    Amd64,
    #[value(name = "linux/arm64")]
    Arm64,
}

impl Platform {
    const ALL: [Self; 2] = [Self::Amd64, Self::Arm64];

    /// Go's word, which images use.
    fn architecture(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    fn triple(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64-unknown-linux-gnu",
            Self::Arm64 => "aarch64-unknown-linux-gnu",
        }
    }

    /// Prefix of the other architecture's tools on Debian.
    fn tools(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64-linux-gnu",
            Self::Arm64 => "aarch64-linux-gnu",
        }
    }

    fn is_here(self) -> bool {
        match self {
            Self::Amd64 => cfg!(target_arch = "x86_64"),
            Self::Arm64 => cfg!(target_arch = "aarch64"),
        }
    }
}

/// The images of one platform.
pub struct Part {
    pub architecture: &'static str,
    pub engine: Image,
    pub operator: Image,
}

pub fn run(options: &Options) -> Result<()> {
    let platforms = match options.platforms.as_slice() {
        [] => &Platform::ALL[..],
        some => some,
    };
    let prefix = match &options.push {
        None => image::LOCAL_PREFIX,
        Some(registry) => checked(registry)?,
    };
    prerequisites::ensure(Need::Clients)?;
    let work = cargo::target_folder().join("release-images");
    let mut parts = Vec::new();
    for platform in platforms {
        section(format!("linux/{}", platform.architecture()));
        parts.push(build(*platform, prefix, &work)?);
    }
    section("files");
    let release = Release::write(&parts, prefix, &places::root().join(&options.output), &work)?;
    release.show();
    if options.push.is_some() {
        section("push");
        release.push()?;
        say(format_args!(
            "install it: helm install aof2 oci://{prefix}/charts/{} --version {} --namespace aof2-system --create-namespace --set watch.namespace=aof2",
            chart::NAME,
            image::VERSION
        ));
    }
    Ok(())
}

/// A registry is a host with a path, without scheme, tag or slash at the end.
fn checked(registry: &str) -> Result<&str> {
    let is_word =
        |character: char| character.is_ascii_alphanumeric() || "._-:/".contains(character);
    if registry.is_empty()
        || registry.contains("//")
        || registry.ends_with('/')
        || !registry.chars().all(is_word)
        || registry
            .chars()
            .any(|character| character.is_ascii_uppercase())
    {
        bail!(
            "--push {registry:?} is no registry; name host and path in lower case, such as registry.example.com/aof2"
        );
    }
    Ok(registry)
}

fn build(platform: Platform, prefix: &str, work: &Path) -> Result<Part> {
    let triple = platform.triple();
    let (linker, strip) = match platform.is_here() {
        true => (None, "strip".to_owned()),
        false => {
            prerequisites::ensure_cross(platform.architecture())?;
            ensure_library(triple)?;
            let tools = platform.tools();
            (Some(format!("{tools}-gcc")), format!("{tools}-strip"))
        }
    };
    let built = cargo::build_release(triple, linker.as_deref())?;
    let folder = work.join(platform.architecture());
    let [engine, operator] =
        image::of_release(&built, &strip, prefix, platform.architecture(), &folder)?;
    Ok(Part {
        architecture: platform.architecture(),
        engine,
        operator,
    })
}

/// Rust's own library for another architecture.
fn ensure_library(triple: &str) -> Result<()> {
    let folder = crate::command::output(Command::new("rustc").args([
        "--print",
        "target-libdir",
        "--target",
        triple,
    ]))?;
    if Path::new(folder.trim()).is_dir()
        || succeeds(Command::new("rustup").args(["target", "add", triple]))
    {
        return Ok(());
    }
    bail!(
        "Rust has no library for {triple} here; run `rustup target add {triple}`, or pass --platform for this machine's own"
    )
}

/// What lies in the output folder.
pub struct Release {
    pub engine: Image,
    pub operator: Image,
    pub chart: Image,
    pub folder: PathBuf,
}

impl Release {
    /// Writes every file of the release. `work` is for layouts that are taken apart again.
    pub fn write(parts: &[Part], prefix: &str, folder: &Path, work: &Path) -> Result<Self> {
        if folder.exists() {
            fs::remove_dir_all(folder)
                .with_context(|| format!("cannot empty {}", folder.display()))?;
        }
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let several = |name: &str, of: fn(&Part) -> &Image| {
            let parts: Vec<(&str, Image)> = parts
                .iter()
                .map(|part| (part.architecture, of(part).clone()))
                .collect();
            let reference = format!("{prefix}/{name}:{}", image::VERSION);
            let index = Image::index(&reference, &parts, &work.join(format!("{name}.oci")))?;
            let file = folder.join(format!("{name}-{}.oci.tar", image::VERSION));
            index.archive(fs::File::create(&file)?)?;
            anyhow::Ok(index)
        };
        let engine = several("aof2-engine", |part| &part.engine)?;
        let operator = several("aof2-operator", |part| &part.operator)?;
        let packaged = chart::package(&places::root().join("charts").join(chart::NAME), prefix)?;
        fs::write(folder.join(packaged.file_name()), &packaged.archive)?;
        let quickstart = fs::read_to_string(places::root().join("config/samples/quickstart.yaml"))?;
        fs::write(
            folder.join("quickstart.yaml"),
            chart::with_images_of(&quickstart, prefix, 1)?,
        )?;
        let chart = packaged.image(prefix, &work.join("chart.oci"))?;
        for (name, packages) in [
            ("aof2-engine", &["aof2-node", "aof2-ctl"][..]),
            ("aof2-operator", &["aof2-operator"]),
        ] {
            let file = folder.join(format!("{name}-{}.cdx.json", image::VERSION));
            fs::write(file, parts::list(name, packages)?)?;
        }
        let release = Self {
            engine,
            operator,
            chart,
            folder: folder.to_owned(),
        };
        fs::write(folder.join("images.txt"), release.references())?;
        fs::write(folder.join("SHA256SUMS"), sums(folder)?)?;
        Ok(release)
    }

    fn references(&self) -> String {
        [&self.engine, &self.operator, &self.chart]
            .map(|image| format!("{}@{}\n", image.reference, image.digest))
            .concat()
    }

    fn show(&self) {
        for line in self.references().lines() {
            say(format_args!("{line}"));
        }
        say(format_args!(
            "files and SHA256SUMS are in {}",
            self.folder.display()
        ));
    }

    pub fn push(&self) -> Result<()> {
        for image in [&self.engine, &self.operator, &self.chart] {
            registry::push(image)?;
        }
        Ok(())
    }
}

/// As `sha256sum -c` reads them, ordered by name.
fn sums(folder: &Path) -> Result<String> {
    let mut names: Vec<String> = fs::read_dir(folder)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<_>>()?;
    names.sort();
    let mut text = String::new();
    for name in names {
        let hash = hex::encode(Sha256::digest(fs::read(folder.join(&name))?));
        text.push_str(&format!("{hash}  {name}\n"));
    }
    Ok(text)
}
