//! Compiles `proto/aof2.proto` without protoc: protox parses it, tonic's generator writes client and server.

use std::error::Error;
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto/aof2.proto");
    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_imports(true).open_file("aof2.proto")?;
    // For server reflection.
    let descriptors = PathBuf::from(std::env::var("OUT_DIR")?).join("aof2.descriptors.bin");
    std::fs::write(descriptors, compiler.encode_file_descriptor_set())?;
    tonic_prost_build::configure()
        .build_client(true)
        .build_server(true)
        .bytes(".")
        .compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}
