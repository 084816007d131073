//! Packages of Debian (or a relative) that a local cluster is made of, and that tests of power cuts need. Only what is missing is
//! installed.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command::{find_program, output};
use crate::console::{say, timed};

/// A package, and the file or program whose absence says that it is missing.
struct Package {
    name: &'static str,
    proof: Proof,
}

enum Proof {
    Program(&'static str),
    File(&'static str),
    /// A program that an image without libraries can hold.
    StaticProgram(&'static str),
}

const PACKAGES: &[Package] = &[
    Package {
        name: "containerd",
        proof: Proof::Program("containerd"),
    },
    Package {
        name: "runc",
        proof: Proof::Program("runc"),
    },
    Package {
        name: "containernetworking-plugins",
        proof: Proof::File("/usr/lib/cni/bridge"),
    },
    Package {
        name: "iptables",
        proof: Proof::Program("iptables"),
    },
    Package {
        name: "nftables",
        proof: Proof::Program("nft"),
    },
    // A second S3 client, by which tests read what the engines wrote.
    Package {
        name: "curl",
        proof: Proof::Program("curl"),
    },
    // Kills engines at chosen system calls.
    Package {
        name: "strace",
        proof: Proof::Program("strace"),
    },
    Package {
        name: "conntrack",
        proof: Proof::Program("conntrack"),
    },
    Package {
        name: "busybox-static",
        proof: Proof::StaticProgram("busybox"),
    },
    Package {
        name: "iproute2",
        proof: Proof::Program("ip"),
    },
    Package {
        name: "procps",
        proof: Proof::Program("sysctl"),
    },
    Package {
        name: "util-linux",
        proof: Proof::Program("nsenter"),
    },
    Package {
        name: "openssl",
        proof: Proof::Program("openssl"),
    },
    Package {
        name: "binutils",
        proof: Proof::Program("strip"),
    },
    Package {
        name: "kmod",
        proof: Proof::Program("modprobe"),
    },
];

/// File systems of their own, whose power is cut. The tests say that they are skipped where there can be none.
const FILE_SYSTEMS: &[Package] = &[
    Package {
        name: "e2fsprogs",
        proof: Proof::Program("mkfs.ext4"),
    },
    Package {
        name: "xfsprogs",
        proof: Proof::Program("mkfs.xfs"),
    },
];

/// Compiler, C library and linker for programs of the other architecture.
const CROSS_ARM64: &[Package] = &[
    Package {
        name: "gcc-aarch64-linux-gnu",
        proof: Proof::Program("aarch64-linux-gnu-gcc"),
    },
    Package {
        name: "libc6-dev-arm64-cross",
        proof: Proof::File("/usr/aarch64-linux-gnu/lib/libc.a"),
    },
];
const CROSS_AMD64: &[Package] = &[
    Package {
        name: "gcc-x86-64-linux-gnu",
        proof: Proof::Program("x86_64-linux-gnu-gcc"),
    },
    Package {
        name: "libc6-dev-amd64-cross",
        proof: Proof::File("/usr/x86_64-linux-gnu/lib/libc.a"),
    },
];

/// What a program for the other architecture is built with.
pub fn ensure_cross(architecture: &str) -> Result<()> {
    install(match architecture {
        "arm64" => CROSS_ARM64,
        _ => CROSS_AMD64,
    })
}

/// Where packages can be installed; nothing is missing elsewhere but two tests.
pub fn ensure_file_systems() -> Result<()> {
    if find_program("apt-get").is_some() && rustix::process::geteuid().is_root() {
        install(FILE_SYSTEMS)
    } else {
        Ok(())
    }
}

pub fn ensure() -> Result<()> {
    install(PACKAGES)?;
    ensure_file_systems()
}

/// Everything is there, or may be installed.
pub fn check() -> Result<()> {
    may_install(&missing_of(PACKAGES))
}

fn missing_of(packages: &'static [Package]) -> Vec<&'static str> {
    let missing = packages.iter().filter(|package| !is_there(&package.proof));
    missing.map(|package| package.name).collect()
}

fn may_install(missing: &[&str]) -> Result<()> {
    if missing.is_empty() {
        return Ok(());
    }
    let names = missing.join(" ");
    if find_program("apt-get").is_none() {
        bail!(
            "this machine lacks {names} (Debian's names) and has no apt-get; install them, or use Docker and kind"
        );
    }
    if !rustix::process::geteuid().is_root() {
        bail!(
            "packages are missing; run `apt-get install {names}` as root, or run this command as root"
        );
    }
    Ok(())
}

fn install(packages: &'static [Package]) -> Result<()> {
    let missing = missing_of(packages);
    if missing.is_empty() {
        return Ok(());
    }
    may_install(&missing)?;
    let names = missing.join(" ");
    timed(format_args!("apt-get update and install {names}"), || {
        apt(&["update", "-q"])
            .context("apt-get update failed: is there a network and a package mirror?")?;
        let mut install = vec!["install", "-q", "-y", "--no-install-recommends"];
        install.extend(&missing);
        apt(&install)
    })?;
    let still: Vec<&str> = packages
        .iter()
        .filter(|package| !is_there(&package.proof))
        .map(|package| package.name)
        .collect();
    if !still.is_empty() {
        bail!(
            "{} installed without error and yet not found",
            still.join(" ")
        );
    }
    say(format_args!("installed packages: {names}"));
    Ok(())
}

fn is_there(proof: &Proof) -> bool {
    match proof {
        Proof::Program(program) => find_program(program).is_some(),
        Proof::File(file) => Path::new(file).exists(),
        Proof::StaticProgram(program) => find_program(program)
            .is_some_and(|path| crate::image::elf::is_static(&path).unwrap_or(false)),
    }
}

fn apt(arguments: &[&str]) -> Result<()> {
    output(
        Command::new("apt-get")
            .args(arguments)
            .env("DEBIAN_FRONTEND", "noninteractive"),
    )
    .map(|_| ())
}
