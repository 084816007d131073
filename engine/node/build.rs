//! Compiles `proto/aof2.proto` without protoc: protox parses it, tonic's generator writes client and server.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto/aof2.proto");
    let descriptors = protox::compile(["proto/aof2.proto"], ["proto"])?;
    tonic_prost_build::configure()
        .build_client(true)
        .build_server(true)
        .bytes(".")
        .compile_fds(descriptors)?;
    Ok(())
}
